/// What if there were other requests, or other adapters? Traces made from a trace.

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
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
  std::uint32_t copy;     // 0: the old request; else for the adapters' doubles of this number
};

std::vector<Arrival> arrivals_of(const Trace& trace) {
  std::vector<Arrival> arrivals;
  arrivals.reserve(trace.requests);
  for (std::uint64_t i = 0; i < trace.requests; ++i)
    arrivals.push_back({trace.arrival_s.empty() ? 0 : trace.arrival_s[i], i, 0});
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
  uses.reserve(arrivals.size());
  begin.reserve(arrivals.size() + 1);
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

/// By time; of several at once the old requests first, then copies by what they are copies of.
bool comes_before(const Arrival& a, const Arrival& b) noexcept {
  if (a.at_s != b.at_s) return a.at_s < b.at_s;
  return std::tuple(a.copy > 0, a.request, a.copy) < std::tuple(b.copy > 0, b.request, b.copy);
}

std::vector<Arrival> merged(const std::vector<Arrival>& a, const std::vector<Arrival>& b) {
  std::vector<Arrival> all(a.size() + b.size());
  std::merge(a.begin(), a.end(), b.begin(), b.end(), all.begin(), comes_before);
  return all;
}

/// Arrivals of the old requests, and of copies of some, `copies(i)` of request i, each a further part of
/// `copies_max` + 1 of the trace's span later; past its end they go on at its beginning.
template <class Copies>
std::vector<Arrival> with_copies(const Trace& trace, std::uint32_t copies_max, Copies copies) {
  LORACLE_CHECK(trace.requests == 0 || !trace.arrival_s.empty());
  std::vector<Arrival> arrivals = arrivals_of(trace);
  if (trace.requests == 0) return arrivals;
  const double begin_s = trace.arrival_s[0];
  const double span_s = trace.arrival_s[trace.requests - 1] - begin_s;
  for (std::uint32_t copy = 1; copy <= copies_max; ++copy) {
    const double later_s = span_s * copy / (copies_max + 1);
    std::vector<Arrival> later;  // each in order, as the old requests are
    std::vector<Arrival> from_begin;
    for (std::uint64_t i = 0; i < trace.requests; ++i) {
      if (copies(i) < copy) continue;
      const double since_s = trace.arrival_s[i] - begin_s + later_s;
      if (since_s > span_s)
        from_begin.push_back({begin_s + (since_s - span_s), i, copy});
      else
        later.push_back({begin_s + since_s, i, copy});
    }
    arrivals = merged(arrivals, merged(from_begin, later));
  }
  return arrivals;
}

std::uint32_t copy_of(const Arrival& arrival) { return arrival.copy; }

Row most_used(const Trace& trace) {
  std::vector<std::uint64_t> uses(trace.rows(), 0);
  for (const Row row : trace.uses.view()) ++uses[index_of(row)];
  return Row{static_cast<std::uint32_t>(std::max_element(uses.begin(), uses.end()) - uses.begin())};
}

/// kNoTenant if no request with an adapter has one.
std::uint32_t busiest_tenant(const Trace& trace) {
  std::vector<std::uint64_t> uses(trace.tenant_name.size(), 0);
  if (trace.tenant.empty()) return kNoTenant;
  for (std::uint64_t i = 0; i < trace.requests; ++i)
    if (trace.tenant[i] < uses.size()) uses[trace.tenant[i]] += trace.batch(i).size();
  const auto most = std::max_element(uses.begin(), uses.end());
  return most == uses.end() || *most == 0 ? kNoTenant : static_cast<std::uint32_t>(most - uses.begin());
}

NameColumn with_name(const NameColumn& names, const std::string& more) {
  std::vector<std::uint64_t> begin(names.begin.view().begin(), names.begin.view().end());
  std::vector<char> text(names.text.view().begin(), names.text.view().end());
  text.insert(text.end(), more.begin(), more.end());
  begin.push_back(text.size());
  return {Column<std::uint64_t>(std::move(begin)), Column<char>(std::move(text))};
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

Trace with_bursts(const Trace& trace, double factor, double period_s) {
  LORACLE_CHECK(factor >= 1 && period_s > 0 && std::isfinite(period_s));
  std::vector<double> arrival_s;
  arrival_s.reserve(trace.arrival_s.size());
  for (const double at : trace.arrival_s.view()) {
    const double since_s = at - trace.arrival_s[0];
    const double period = std::floor(since_s / period_s) * period_s;
    const double burst_s = trace.arrival_s[0] + period + (since_s - period) / factor;
    // Rounding must not put a request before the last one.
    arrival_s.push_back(arrival_s.empty() ? burst_s : std::max(arrival_s.back(), burst_s));
  }
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
  LORACLE_CHECK(share >= 0 && share <= 1000);
  Rng rng(seed);
  const auto whole = static_cast<std::uint32_t>(share);
  const auto most = static_cast<std::uint32_t>(std::ceil(share));
  std::vector<std::uint32_t> doubles;  // [rows]
  for (std::uint32_t row = 0; row < trace.rows(); ++row)
    doubles.push_back(whole + (rng.uniform() < share - whole ? 1 : 0));
  const std::vector<Arrival> arrivals = with_copies(trace, most, [&](std::uint64_t request) {
    std::uint32_t copies = trace.batch(request).empty() ? 0 : most;
    for (const Row row : trace.batch(request)) copies = std::min(copies, doubles[index_of(row)]);
    return copies;
  });
  return rebuilt(trace, arrivals, most + 1, copy_of);
}

bool has_tenants(const Trace& trace) noexcept {
  for (std::uint64_t i = 0; i < trace.requests && !trace.tenant.empty(); ++i)
    if (trace.tenant[i] < trace.tenant_name.size() && !trace.batch(i).empty()) return true;
  return false;
}

Trace with_busiest_twice(const Trace& trace) {
  if (trace.uses.empty()) return trace;
  const std::uint32_t tenant = busiest_tenant(trace);
  const Row adapter = most_used(trace);
  const std::vector<Arrival> arrivals = with_copies(trace, 1, [&](std::uint64_t request) {
    const std::span<const Row> batch = trace.batch(request);
    const bool comes_again = tenant != kNoTenant
                                 ? trace.tenant[request] == tenant && !batch.empty()
                                 : std::find(batch.begin(), batch.end(), adapter) != batch.end();
    return comes_again ? 1U : 0U;
  });
  Trace out = rebuilt(trace, arrivals, 2, copy_of);
  if (tenant == kNoTenant) return out;
  std::vector<std::uint32_t> tenants(out.tenant.view().begin(), out.tenant.view().end());
  for (std::size_t i = 0; i < tenants.size(); ++i)
    if (arrivals[i].copy > 0) tenants[i] = static_cast<std::uint32_t>(trace.tenant_name.size());
  out.tenant = Column<std::uint32_t>(std::move(tenants));
  out.tenant_name = with_name(trace.tenant_name, fmt::format("{}#1", trace.tenant_name[tenant]));
  return out;
}

}  // namespace loracle
