#include "loracle/traces/transform.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

namespace loracle {
namespace {

struct Folded {  // sorted together
  double arrival_s;
  std::uint64_t request;
};

[[nodiscard]] std::vector<Folded> folded_order(std::span<const double> arrival_s, double period_s) {
  std::vector<Folded> order(arrival_s.size());
  for (std::size_t i = 0; i < order.size(); ++i) {
    double within = std::fmod(arrival_s[i], period_s);  // exact
    if (within < 0) within += period_s;
    if (within >= period_s) within = 0;  // the sum of a tiny negative and the period rounds up to the period
    order[i] = {within, i};
  }
  std::stable_sort(order.begin(), order.end(),
                   [](const Folded& a, const Folded& b) { return a.arrival_s < b.arrival_s; });
  return order;
}

template <class T>
[[nodiscard]] Column<T> reordered(const Column<T>& column, std::span<const Folded> order) {
  if (column.empty()) return {};
  std::vector<T> values(order.size());
  for (std::size_t i = 0; i < order.size(); ++i) values[i] = column[order[i].request];
  return Column<T>(std::move(values));
}

/// `column` with element order[i] as the i-th.
template <class T>
[[nodiscard]] Column<T> gathered(const Column<T>& column, std::span<const Row> order) {
  if (column.empty()) return {};
  std::vector<T> values(order.size());
  for (std::size_t i = 0; i < order.size(); ++i) values[i] = column[index_of(order[i])];
  return Column<T>(std::move(values));
}

[[nodiscard]] NameColumn gathered(const NameColumn& names, std::span<const Row> order) {
  if (names.begin.empty()) return {};
  std::vector<std::uint64_t> begin(1, 0);
  std::vector<char> text;
  begin.reserve(order.size() + 1);
  text.reserve(names.text.size());
  for (const Row row : order) {
    const std::string_view name = names[index_of(row)];
    text.insert(text.end(), name.begin(), name.end());
    begin.push_back(text.size());
  }
  return {Column<std::uint64_t>(std::move(begin)), Column<char>(std::move(text))};
}

/// Replaces the uses of `out` by those of `trace` in the new order, with rows numbered by first appearance;
/// returns the old row of each new one.
[[nodiscard]] std::vector<Row> reorder_uses(const Trace& trace, std::span<const Folded> order, Trace& out) {
  std::vector<Row> renumbered(trace.rows(), kNoRow);  // old row -> new row
  std::vector<Row> old_rows;
  old_rows.reserve(trace.rows());
  std::vector<Row> uses;
  uses.reserve(trace.uses.size());
  std::vector<std::uint64_t> begin;
  if (!trace.use_begin.empty()) begin.reserve(order.size() + 1);
  const auto appear = [&](Row row) {
    if (renumbered[index_of(row)] != kNoRow) return;
    renumbered[index_of(row)] = Row{static_cast<std::uint32_t>(old_rows.size())};
    old_rows.push_back(row);
  };
  for (const Folded& at : order) {
    if (!trace.use_begin.empty()) begin.push_back(uses.size());
    for (const Row row : trace.batch(at.request)) {
      appear(row);
      uses.push_back(renumbered[index_of(row)]);
    }
  }
  if (!trace.use_begin.empty()) begin.push_back(uses.size());
  for (std::uint32_t row = 0; row < trace.rows(); ++row) appear(Row{row});  // described, never used
  out.uses = Column<Row>(std::move(uses));
  out.use_begin = Column<std::uint64_t>(std::move(begin));
  return old_rows;
}

}  // namespace

Result<Trace> fold(const Trace& trace, double period_s) {
  if (!(period_s > 0) || !std::isfinite(period_s)) {
    return fail(Errc::kInvalid,
                fmt::format("cannot fold onto {} s: give a period above 0, such as 3600", period_s));
  }
  if (trace.arrival_s.empty() && trace.requests > 0) {
    return fail(Errc::kInvalid,
                fmt::format("{}: cannot fold: its requests have no arrival times", trace.source));
  }
  const std::vector<Folded> order = folded_order(trace.arrival_s.view(), period_s);
  Trace out = trace;
  out.mapping += fmt::format("{}folded onto {} s", out.mapping.empty() ? "" : ", ", period_s);
  std::vector<double> arrival_s(order.size());
  for (std::size_t i = 0; i < order.size(); ++i) arrival_s[i] = order[i].arrival_s;
  out.arrival_s = Column<double>(std::move(arrival_s));
  out.input_tokens = reordered(trace.input_tokens, order);
  out.output_tokens = reordered(trace.output_tokens, order);
  out.tenant = reordered(trace.tenant, order);
  out.duration_s = reordered(trace.duration_s, order);
  const std::vector<Row> old_rows = reorder_uses(trace, order, out);
  out.adapters.name = gathered(trace.adapters.name, old_rows);
  out.adapters.bytes = gathered(trace.adapters.bytes, old_rows);
  out.adapters.rank = gathered(trace.adapters.rank, old_rows);
  return out;
}

Trace head(const Trace& trace, std::uint64_t requests) {
  if (requests >= trace.requests) return trace;
  Trace out = trace;
  const auto first = [requests](auto& column) {
    if (!column.empty()) column = column.first(requests);
  };
  out.requests = requests;
  if (!trace.use_begin.empty()) {
    out.use_begin = trace.use_begin.first(requests + 1);
    out.uses = trace.uses.first(trace.use_begin[requests]);
  } else {
    first(out.uses);
  }
  first(out.arrival_s);
  first(out.input_tokens);
  first(out.output_tokens);
  first(out.tenant);
  first(out.duration_s);
  return out;
}

Trace with_assumed_durations(const Trace& trace) {
  std::vector<float> duration_s(trace.duration_s.view().begin(), trace.duration_s.view().end());
  std::vector<std::uint32_t> own_begin;  // [rows + 2] of each row's durations; names may be unknown
  const auto row_of = [&trace](std::uint64_t request) { return index_of(trace.batch(request).front()); };
  const auto names_none = [&trace](std::uint64_t request) { return trace.batch(request).empty(); };
  std::vector<float> known_s;
  for (std::uint64_t i = 0; i < duration_s.size(); ++i) {
    if (names_none(i)) continue;
    if (own_begin.size() < row_of(i) + 3) own_begin.resize(row_of(i) + 3, 0);
    if (!(duration_s[i] > 0)) continue;
    known_s.push_back(duration_s[i]);
    ++own_begin[row_of(i) + 2];
  }
  if (known_s.empty()) return trace;
  std::partial_sum(own_begin.begin(), own_begin.end(), own_begin.begin());
  std::vector<float> own_s(known_s.size());
  for (std::uint64_t i = 0; i < duration_s.size(); ++i)
    if (!names_none(i) && duration_s[i] > 0) own_s[own_begin[row_of(i) + 1]++] = duration_s[i];
  // Now own_begin[row] .. own_begin[row + 1] are a row's.
  std::vector<std::uint32_t> own_next(own_begin.size(), 0);
  std::size_t next = 0;
  for (std::uint64_t i = 0; i < duration_s.size(); ++i) {
    if (names_none(i) || duration_s[i] > 0) continue;
    const std::size_t row = row_of(i);
    const std::uint32_t own = own_begin[row + 1] - own_begin[row];
    duration_s[i] = own >= kOwnDurationsMin ? own_s[own_begin[row] + own_next[row]++ % own]
                                            : known_s[next++ % known_s.size()];
  }
  Trace out = trace;
  out.duration_s = Column<float>(std::move(duration_s));
  return out;
}

}  // namespace loracle
