/// What if there were other requests, or other adapters? Traces made from a trace.

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <string_view>
#include <utility>
#include <vector>

#include "loracle/core/check.hpp"
#include "loracle/core/rng.hpp"
#include "loracle/traces/transform.hpp"

namespace loracle {
namespace {

struct Arrival {
  double at_s;
  std::uint64_t request;  // of the old trace
  bool is_double;
};

std::vector<Arrival> arrivals_of(const Trace& trace) {
  std::vector<Arrival> arrivals;
  arrivals.reserve(trace.requests);
  for (std::uint64_t i = 0; i < trace.requests; ++i)
    arrivals.push_back({trace.arrival_s.empty() ? 0 : trace.arrival_s[i], i, false});
  return arrivals;
}

template <class T>
Column<T> gathered(const Column<T>& column, const std::vector<Arrival>& arrivals) {
  if (column.empty()) return {};
  std::vector<T> values;
  values.reserve(arrivals.size());
  for (const Arrival& arrival : arrivals) values.push_back(column[arrival.request]);
  return Column<T>(std::move(values));
}

/// Adapters by the old row and which of its doubles they are, numbered by their first use.
class Adapters {
 public:
  Adapters(const AdapterFacts& old, std::uint32_t parts)
      : old_(old), parts_(parts), row_of_(old.name.size() * parts, kNoRow) {}

  Row row(Row old_row, std::uint32_t part) {
    Row& row = row_of_[std::size_t{index_of(old_row)} * parts_ + part];
    if (row != kNoRow) return row;
    row = Row{static_cast<std::uint32_t>(begin_.size() - 1)};
    const std::size_t at = index_of(old_row);
    text_ += old_.name[at];
    if (part > 0) text_ += fmt::format("#{}", part);
    begin_.push_back(text_.size());
    if (!old_.bytes.empty()) bytes_.push_back(old_.bytes[at]);
    if (!old_.rank.empty()) rank_.push_back(old_.rank[at]);
    return row;
  }

  [[nodiscard]] AdapterFacts take() && {
    AdapterFacts facts;
    facts.name.begin = Column<std::uint64_t>(std::move(begin_));
    facts.name.text = Column<char>(std::vector<char>(text_.begin(), text_.end()));
    facts.bytes = Column<std::uint64_t>(std::move(bytes_));
    facts.rank = Column<std::uint16_t>(std::move(rank_));
    return facts;
  }

 private:
  const AdapterFacts& old_;
  std::uint32_t parts_;
  std::vector<Row> row_of_;
  std::vector<std::uint64_t> begin_ = {0};
  std::string text_;
  std::vector<std::uint64_t> bytes_;
  std::vector<std::uint16_t> rank_;
};

/// The trace of these arrivals; `part_of` says which double of an adapter a use is of.
template <class PartOf>
Trace rebuilt(const Trace& trace, const std::vector<Arrival>& arrivals, std::uint32_t parts, PartOf part_of) {
  Adapters adapters(trace.adapters, parts);
  std::vector<Row> uses;
  std::vector<std::uint64_t> begin = {0};
  for (const Arrival& arrival : arrivals) {
    for (const Row row : trace.batch(arrival.request)) uses.push_back(adapters.row(row, part_of(arrival)));
    begin.push_back(uses.size());
  }
  Trace out = trace;
  out.requests = arrivals.size();
  out.uses = Column<Row>(std::move(uses));
  out.use_begin = Column<std::uint64_t>(std::move(begin));
  if (!trace.arrival_s.empty()) {
    std::vector<double> arrival_s;
    arrival_s.reserve(arrivals.size());
    for (const Arrival& arrival : arrivals) arrival_s.push_back(arrival.at_s);
    out.arrival_s = Column<double>(std::move(arrival_s));
  }
  out.input_tokens = gathered(trace.input_tokens, arrivals);
  out.output_tokens = gathered(trace.output_tokens, arrivals);
  out.tenant = gathered(trace.tenant, arrivals);
  out.duration_s = gathered(trace.duration_s, arrivals);
  out.adapters = std::move(adapters).take();
  return out;
}

}  // namespace

Trace with_traffic(const Trace& trace, double factor) {
  LORACLE_CHECK(factor > 0);
  std::vector<double> arrival_s;
  arrival_s.reserve(trace.arrival_s.size());
  for (const double at : trace.arrival_s.view()) arrival_s.push_back(at / factor);
  Trace out = trace;
  out.arrival_s = Column<double>(std::move(arrival_s));
  return out;
}

Trace with_split_adapters(const Trace& trace, std::uint32_t parts, std::uint64_t seed) {
  LORACLE_CHECK(parts > 0);
  Rng rng(seed);
  return rebuilt(trace, arrivals_of(trace), parts, [&](const Arrival&) { return rng.below(parts); });
}

Trace with_more_adapters(const Trace& trace, double share, std::uint64_t seed) {
  LORACLE_CHECK(trace.requests == 0 || !trace.arrival_s.empty());
  Rng rng(seed);
  std::vector<bool> is_doubled;
  for (std::uint32_t row = 0; row < trace.rows(); ++row) is_doubled.push_back(rng.uniform() < share);
  std::vector<Arrival> arrivals = arrivals_of(trace);
  const double begin_s = trace.requests == 0 ? 0 : trace.arrival_s[0];
  const double span_s = trace.requests == 0 ? 0 : trace.arrival_s[trace.requests - 1] - begin_s;
  for (std::uint64_t i = 0; i < trace.requests; ++i) {
    const std::span<const Row> batch = trace.batch(i);
    const bool all = !batch.empty() && std::all_of(batch.begin(), batch.end(),
                                                   [&](Row row) { return is_doubled[index_of(row)]; });
    const double since_s = trace.arrival_s[i] - begin_s + span_s / 2;
    if (all) arrivals.push_back({begin_s + (since_s > span_s ? since_s - span_s : since_s), i, true});
  }
  std::stable_sort(arrivals.begin(), arrivals.end(),
                   [](const Arrival& a, const Arrival& b) { return a.at_s < b.at_s; });
  return rebuilt(trace, arrivals, 2, [](const Arrival& arrival) { return arrival.is_double ? 1U : 0U; });
}

}  // namespace loracle
