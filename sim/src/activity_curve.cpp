#include "loracle/sim/activity_curve.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <span>
#include <utility>

#include "running.hpp"
#include "stack_distance.hpp"

namespace loracle {
namespace {

void count(std::vector<std::uint64_t>& histogram, std::uint32_t value) {
  if (histogram.size() <= value) histogram.resize(std::size_t{value} + 1, 0);
  ++histogram[value];
}

/// Which adapters are in use. Calls are to be inlined: one pass is made of nothing else.
class Holders {
 public:
  explicit Holders(std::uint32_t rows) : holders_(rows, 0) {}

  [[nodiscard]] std::uint32_t active() const noexcept { return active_; }
  [[nodiscard]] bool holds(Row row) const noexcept { return holders_[index_of(row)] > 0; }
  /// True if it was idle.
  bool take(Row row) noexcept {
    const bool was_idle = holders_[index_of(row)]++ == 0;
    active_ += was_idle ? 1U : 0U;
    return was_idle;
  }
  /// True if it is idle now.
  bool give_back(Row row) noexcept {
    const bool is_idle = --holders_[index_of(row)] == 0;
    active_ -= is_idle ? 1U : 0U;
    return is_idle;
  }

 private:
  std::vector<std::uint32_t> holders_;  // [rows] running requests that hold it
  std::uint32_t active_ = 0;            // rows with holders
};

/// Goes through the requests in time. `ended(rows)` when one ends, `arrives(rows)` when one comes, in order.
template <class Ended, class Arrives>
ActiveAtArrival go_through(const Trace& trace, const BatchStream& stream, double traffic, Ended ended,
                           Arrives arrives) {
  ActiveAtArrival seen;
  seen.requests = stream.requests();
  detail::RunningRequests running;
  for (std::uint64_t batch = 0; batch < stream.requests(); ++batch) {
    const std::uint64_t request = stream.origin[batch];
    const double now_s = trace.arrival_s[request];
    while (!running.empty() && running.first().end_s <= now_s)
      ended(stream.batch(running.end_first().request));
    count(seen.arrivals_at, arrives(stream.batch(batch)));
    const float duration_s = trace.duration_s[request];
    if (!detail::holds(duration_s)) ++seen.unknown_durations;
    // In units of arrivals' time: that they come sooner or that all is held longer is the same.
    running.begin({now_s + detail::held_s(duration_s) * traffic, batch});
  }
  return seen;
}

class Pass {
 public:
  Pass(const Trace& trace, const BatchStream& stream, double traffic)
      : trace_(trace),
        stream_(stream),
        traffic_(traffic),
        idle_(stream.uses.rows),
        holders_(stream.uses.rows),
        hits_at_(std::size_t{stream.uses.rows} + 1, 0) {}

  [[nodiscard]] ActivityCurve curve() {
    ActivityCurve curve;
    static_cast<ActiveAtArrival&>(curve) = go_through(
        trace_, stream_, traffic_, [this](std::span<const Row> rows) { end(rows); },
        [this](std::span<const Row> rows) { return arrive(rows); });
    curve.uses = stream_.uses.uses.size();
    curve.compulsory_misses = stream_.uses.distinct;
    std::uint64_t misses = curve.uses;
    for (std::size_t slots = 0; slots <= stream_.uses.distinct; ++slots)
      curve.misses_at.push_back(misses -= slots == 0 ? 0 : hits_at_[slots]);
    std::uint64_t waits = 0;
    for (const std::uint64_t requests : needed_) waits += requests;
    needed_.resize(curve.arrivals_at.size(), 0);
    for (const std::uint64_t requests : needed_) curve.waits_at.push_back(waits -= requests);
    return curve;
  }

 private:
  std::uint32_t arrive(std::span<const Row> rows) {
    bool needs_idle = false;
    const std::uint32_t active_before = holders_.active();
    for (const Row row : rows) needs_idle |= look_up(row, active_before);
    for (const Row row : rows)
      if (holders_.take(row)) idle_.lift(row);
    if (needs_idle) count(needed_, holders_.active());
    return holders_.active();
  }

  /// Counts a hit at its distance; true if the adapter is not in use.
  bool look_up(Row row, std::uint32_t active) {
    if (holders_.holds(row)) {
      ++hits_at_[1];
      return false;
    }
    const std::uint32_t distance = idle_.distance(row);
    if (distance != StackDistance::kAbsent) ++hits_at_[active + distance];
    return true;
  }

  void end(std::span<const Row> rows) {
    for (const Row row : rows)
      if (holders_.give_back(row)) idle_.touch(row);
  }

  const Trace& trace_;
  const BatchStream& stream_;
  double traffic_;
  StackDistance idle_;
  Holders holders_;
  std::vector<std::uint64_t> hits_at_;  // [rows + 1] by distance
  std::vector<std::uint64_t> needed_;   // requests that need an idle one, by adapters in use with them
};

Result<Unit> check(const Trace& trace, double traffic) {
  if (!(traffic > 0))
    return fail(Errc::kInvalid, fmt::format("traffic of {:g} times the trace's: must be above 0", traffic));
  return detail::check_times(trace);
}

Result<Unit> check(const Trace& trace, const BatchStream& stream, double traffic) {
  if (Result<Unit> ok = check(trace, traffic); !ok) return ok;
  if (stream.requests() > 0) return Unit{};
  return fail(Errc::kInvalid, fmt::format("{}: no request names an adapter: choose a mapping", trace.source));
}

std::uint64_t at_or_last(const std::vector<std::uint64_t>& column, std::uint64_t place) noexcept {
  return column.empty() ? 0 : column[std::min<std::uint64_t>(place, column.size() - 1)];
}

}  // namespace

std::uint64_t ActivityCurve::misses(std::uint64_t slots) const noexcept {
  return at_or_last(misses_at, slots);
}

std::uint64_t ActivityCurve::waits(std::uint64_t slots) const noexcept { return at_or_last(waits_at, slots); }

std::uint32_t ActiveAtArrival::active_quantile(double share) const noexcept {
  const auto wanted = static_cast<std::uint64_t>(std::ceil(share * static_cast<double>(requests)));
  std::uint64_t seen = 0;
  for (std::size_t active = 0; active < arrivals_at.size(); ++active) {
    seen += arrivals_at[active];
    if (seen >= std::max<std::uint64_t>(wanted, 1)) return static_cast<std::uint32_t>(active);
  }
  return arrivals_at.empty() ? 0 : static_cast<std::uint32_t>(arrivals_at.size() - 1);
}

double ActiveAtArrival::active_mean() const noexcept {
  double sum = 0;
  for (std::size_t active = 0; active < arrivals_at.size(); ++active)
    sum += static_cast<double>(active) * static_cast<double>(arrivals_at[active]);
  return requests == 0 ? 0 : sum / static_cast<double>(requests);
}

bool has_activity(const Trace& trace) noexcept {
  const auto durations_s = trace.duration_s.view();
  return !trace.arrival_s.empty() && std::any_of(durations_s.begin(), durations_s.end(), detail::holds);
}

Result<ActivityCurve> activity_curve(const Trace& trace, double traffic) {
  if (Result<Unit> ok = check(trace, traffic); !ok) return fail(std::move(ok.error()));
  const Result<BatchStream> stream = make_batch_stream(trace, NextUses::kUnknown);
  if (!stream) return fail(stream.error());
  return activity_curve(trace, *stream, traffic);
}

Result<ActivityCurve> activity_curve(const Trace& trace, const BatchStream& stream, double traffic) {
  if (Result<Unit> ok = check(trace, stream, traffic); !ok) return fail(std::move(ok.error()));
  return Pass(trace, stream, traffic).curve();
}

Result<ActiveAtArrival> active_at_arrival(const Trace& trace, const BatchStream& stream, double traffic) {
  if (Result<Unit> ok = check(trace, stream, traffic); !ok) return fail(std::move(ok.error()));
  Holders holders(stream.uses.rows);
  return go_through(
      trace, stream, traffic,
      [&holders](std::span<const Row> rows) {
        for (const Row row : rows) holders.give_back(row);
      },
      [&holders](std::span<const Row> rows) {
        for (const Row row : rows) holders.take(row);
        return holders.active();
      });
}

}  // namespace loracle
