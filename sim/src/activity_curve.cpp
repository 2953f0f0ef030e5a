#include "loracle/sim/activity_curve.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <utility>

#include "stack_distance.hpp"

namespace loracle {
namespace {

/// A request that holds its adapters. The one that ends first comes first; of several, the earlier.
struct Running {
  double end_s = 0;
  std::uint64_t request = 0;

  friend bool operator>(const Running& a, const Running& b) noexcept {
    return a.end_s != b.end_s ? a.end_s > b.end_s : a.request > b.request;
  }
};

class Pass {
 public:
  Pass(const Trace& trace, double traffic)
      : trace_(trace),
        traffic_(traffic),
        idle_(trace.rows()),
        holders_(trace.rows(), 0),
        was_used_(trace.rows(), false),
        hits_at_(std::size_t{trace.rows()} + 1, 0) {}

  void arrive(std::uint64_t request) {
    const double now_s = trace_.arrival_s[request];
    while (!running_.empty() && running_.front().end_s <= now_s) end_first();
    const std::span<const Row> batch = trace_.batch(request);
    bool needs_idle = false;
    const std::uint32_t active_before = active_;
    for (const Row row : batch) needs_idle |= look_up(row, active_before);
    for (const Row row : batch) hold(row);
    count(arrivals_at_, active_);
    if (needs_idle) count(needed_, active_);
    const float held_s = trace_.duration_s[request];
    // In units of arrivals' time: that they come sooner or that all is held longer is the same.
    running_.push_back({now_s + (held_s > 0 ? static_cast<double>(held_s) * traffic_ : 0.0), request});
    std::push_heap(running_.begin(), running_.end(), std::greater<>());
    uses_ += batch.size();
    ++requests_;
  }

  [[nodiscard]] ActivityCurve curve() && {
    ActivityCurve curve;
    curve.requests = requests_;
    curve.uses = uses_;
    curve.compulsory_misses = distinct_;
    std::uint64_t misses = uses_;
    for (std::size_t slots = 0; slots <= distinct_; ++slots)
      curve.misses_at.push_back(misses -= slots == 0 ? 0 : hits_at_[slots]);
    std::uint64_t waits = 0;
    for (const std::uint64_t requests : needed_) waits += requests;
    needed_.resize(arrivals_at_.size(), 0);
    for (const std::uint64_t requests : needed_) curve.waits_at.push_back(waits -= requests);
    curve.arrivals_at = std::move(arrivals_at_);
    return curve;
  }

 private:
  static void count(std::vector<std::uint64_t>& histogram, std::uint32_t value) {
    if (histogram.size() <= value) histogram.resize(std::size_t{value} + 1, 0);
    ++histogram[value];
  }

  /// Counts a hit at its distance; true if the adapter is not in use.
  bool look_up(Row row, std::uint32_t active) {
    if (holders_[index_of(row)] > 0) {
      ++hits_at_[1];
      return false;
    }
    const std::uint32_t distance = idle_.distance(row);
    if (distance != StackDistance::kAbsent) ++hits_at_[std::min(active + distance, trace_.rows())];
    return true;
  }

  void hold(Row row) {
    const std::size_t index = index_of(row);
    if (holders_[index]++ > 0) return;
    ++active_;
    idle_.lift(row);
    if (!was_used_[index]) ++distinct_;
    was_used_[index] = true;
  }

  void end_first() {
    for (const Row row : trace_.batch(running_.front().request)) {
      if (--holders_[index_of(row)] > 0) continue;
      --active_;
      idle_.touch(row);
    }
    std::pop_heap(running_.begin(), running_.end(), std::greater<>());
    running_.pop_back();
  }

  const Trace& trace_;
  double traffic_;
  StackDistance idle_;
  std::vector<std::uint32_t> holders_;  // [rows] running requests that hold it
  std::vector<bool> was_used_;          // [rows]
  std::vector<Running> running_;        // a heap
  std::uint32_t active_ = 0;            // rows with holders
  std::uint32_t distinct_ = 0;
  std::uint64_t requests_ = 0;
  std::uint64_t uses_ = 0;
  std::vector<std::uint64_t> hits_at_;      // [rows + 1] by distance
  std::vector<std::uint64_t> arrivals_at_;  // by adapters in use
  std::vector<std::uint64_t> needed_;       // requests that need an idle one, by adapters in use with them
};

std::uint64_t at_or_last(const std::vector<std::uint64_t>& column, std::uint64_t place) noexcept {
  return column.empty() ? 0 : column[std::min<std::uint64_t>(place, column.size() - 1)];
}

}  // namespace

std::uint64_t ActivityCurve::misses(std::uint64_t slots) const noexcept {
  return at_or_last(misses_at, slots);
}

std::uint64_t ActivityCurve::waits(std::uint64_t slots) const noexcept { return at_or_last(waits_at, slots); }

std::uint32_t ActivityCurve::slots_for(double wait_probability) const noexcept {
  const double allowed = wait_probability * static_cast<double>(requests);
  const auto enough = [allowed](std::uint64_t waiting) { return static_cast<double>(waiting) <= allowed; };
  const auto found = std::find_if(waits_at.begin(), waits_at.end(), enough);
  return static_cast<std::uint32_t>(found - waits_at.begin());
}

std::uint32_t ActivityCurve::active_quantile(double share) const noexcept {
  const auto wanted = static_cast<std::uint64_t>(std::ceil(share * static_cast<double>(requests)));
  std::uint64_t seen = 0;
  for (std::size_t active = 0; active < arrivals_at.size(); ++active) {
    seen += arrivals_at[active];
    if (seen >= std::max<std::uint64_t>(wanted, 1)) return static_cast<std::uint32_t>(active);
  }
  return arrivals_at.empty() ? 0 : static_cast<std::uint32_t>(arrivals_at.size() - 1);
}

double ActivityCurve::active_mean() const noexcept {
  double sum = 0;
  for (std::size_t active = 0; active < arrivals_at.size(); ++active)
    sum += static_cast<double>(active) * static_cast<double>(arrivals_at[active]);
  return requests == 0 ? 0 : sum / static_cast<double>(requests);
}

bool has_activity(const Trace& trace) noexcept {
  const auto held_s = trace.duration_s.view();
  return !trace.arrival_s.empty() &&
         std::any_of(held_s.begin(), held_s.end(), [](float held) { return held > 0; });
}

Result<ActivityCurve> activity_curve(const Trace& trace, double traffic) {
  if (!(traffic > 0))
    return fail(Errc::kInvalid, fmt::format("traffic of {:g} times the trace's: must be above 0", traffic));
  if (trace.arrival_s.empty() || trace.duration_s.empty())
    return fail(Errc::kInvalid, fmt::format("{}: says not when requests arrive and how long they hold their "
                                            "adapters: give arrival_s and duration_s",
                                            trace.source));
  Pass pass(trace, traffic);
  bool is_empty = true;
  for (std::uint64_t request = 0; request < trace.requests; ++request) {
    if (trace.batch(request).empty()) continue;
    is_empty = false;
    pass.arrive(request);
  }
  if (is_empty)
    return fail(Errc::kInvalid,
                fmt::format("{}: no request names an adapter: choose a mapping", trace.source));
  return std::move(pass).curve();
}

}  // namespace loracle
