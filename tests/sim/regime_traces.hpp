#pragma once
/// Seven days of requests whose popularity changes about every hour, and how often the intervals of one
/// figure hold the truth over many such weeks.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "loracle/core/rng.hpp"
#include "loracle/sim/confidence.hpp"
#include "loracle/sim/event_sim.hpp"
#include "loracle/sim/regimes.hpp"
#include "loracle/sim/tier_replay.hpp"

namespace loracle::testing {

enum class RegimeLaw : std::uint8_t { kFixedLength, kExponentialLength };

inline constexpr std::uint32_t kWeekRegimes = 168;
inline constexpr std::uint32_t kHourRequests = 800;
inline constexpr std::uint32_t kWeekAdapters = 120;

struct RegimeWeek {
  Trace trace;
  std::vector<std::uint64_t> changes;  // first request of each regime but the first
};

/// Requests arrive at a steady mean rate and hold their adapter for a minute on average, exponentially.
/// Each regime deals popularity out anew and has an exponent of its own: some are skewed and hit often,
/// some nearly uniform.
inline RegimeWeek regime_week(RegimeLaw law, std::uint64_t seed) {
  Rng rng(seed);
  const auto uniform = [&rng] { return (static_cast<double>(rng.next() >> 11U) + 0.5) * 0x1p-53; };
  RegimeWeek week;
  std::vector<Row> uses;
  std::vector<double> arrival_s;
  std::vector<float> duration_s;
  std::vector<std::uint32_t> order(kWeekAdapters);
  std::iota(order.begin(), order.end(), 0U);
  std::vector<double> cumulative(kWeekAdapters);
  while (uses.size() < std::size_t{kWeekRegimes} * kHourRequests) {
    const double hours = law == RegimeLaw::kFixedLength ? 1 : -std::log(uniform());
    const auto requests = static_cast<std::uint64_t>(std::ceil(hours * kHourRequests));
    for (std::uint32_t i = kWeekAdapters - 1; i > 0; --i) std::swap(order[i], order[rng.below(i + 1)]);
    const double alpha = 0.4 + 1.2 * uniform();
    double sum = 0;
    for (std::uint32_t i = 0; i < kWeekAdapters; ++i) cumulative[i] = sum += std::pow(i + 1, -alpha);
    for (std::uint64_t i = 0; i < requests; ++i) {
      const auto drawn = std::lower_bound(cumulative.begin(), cumulative.end(), uniform() * sum);
      uses.push_back(Row{order[static_cast<std::size_t>(
          std::min<std::ptrdiff_t>(drawn - cumulative.begin(), kWeekAdapters - 1))]});
    }
    week.changes.push_back(uses.size());
  }
  uses.resize(std::size_t{kWeekRegimes} * kHourRequests);
  week.changes.pop_back();
  for (std::size_t i = 0; i < uses.size(); ++i) {
    const double gap_s = -std::log(uniform()) * 3600 / kHourRequests;
    arrival_s.push_back(i == 0 ? 0 : arrival_s.back() + gap_s);
    duration_s.push_back(static_cast<float>(-60 * std::log(uniform())));
  }
  week.trace.arrival_s = Column<double>(std::move(arrival_s));
  week.trace.duration_s = Column<float>(std::move(duration_s));
  std::vector<std::uint64_t> name_begin = {0};
  std::vector<char> names;
  for (std::uint32_t adapter = 0; adapter < kWeekAdapters; ++adapter) {
    for (const char letter : "adapter-" + std::to_string(adapter)) names.push_back(letter);
    name_begin.push_back(names.size());
  }
  week.trace.adapters.name.begin = Column<std::uint64_t>(std::move(name_begin));
  week.trace.adapters.name.text = Column<char>(std::move(names));
  week.trace.requests = uses.size();
  week.trace.uses = Column<Row>(std::move(uses));
  return week;
}

struct Coverage {
  std::uint32_t intervals = 0;  // weeks that gave one
  std::uint32_t held = 0;       // the truth
  double truth = 0;             // the mean of all weeks
  double half_width = 0;        // mean
  double regimes = 0;           // found, mean
  double blocks = 0;            // mean
};

/// Of which share: uses that miss 16 slots under LRU, or requests that wait for one of 17.
enum class Figure : std::uint8_t { kMisses, kWaits };

inline Coverage coverage_of(RegimeLaw law, Figure figure, std::uint32_t weeks) {
  Coverage coverage;
  std::vector<Interval> intervals;
  for (std::uint32_t week = 0; week < weeks; ++week) {
    const Trace trace = regime_week(law, 1000 + week).trace;
    const auto stream = make_batch_stream(trace, NextUses::kUnknown);
    if (!stream) std::abort();
    const Regimes regimes = find_regimes(*stream);
    EventOptions options;
    options.tiers.tiers = "lru/lru";
    options.tiers.max_loras = figure == Figure::kMisses ? 16 : 17;
    options.tiers.max_cpu_loras = kWeekAdapters;
    options.tiers.stretches = regimes.stretches;
    std::vector<StretchCounts> stretches;
    if (figure == Figure::kMisses) {
      auto replayed = replay_tiers(*stream, options.tiers);
      if (replayed) stretches = std::move(replayed->stretches);
    } else {
      auto outcome = simulate_events(trace, *stream, options);
      if (outcome) stretches = std::move(outcome->stretches);
    }
    std::vector<std::uint64_t> part;
    std::vector<std::uint64_t> whole;
    for (const StretchCounts& stretch : stretches) {
      const bool misses = figure == Figure::kMisses;
      part.push_back(misses ? stretch.uses - stretch.gpu_hits : stretch.waited_for_slot);
      whole.push_back(misses ? stretch.uses : stretch.requests);
    }
    const auto sum = [](const std::vector<std::uint64_t>& counts) {
      return static_cast<double>(std::accumulate(counts.begin(), counts.end(), std::uint64_t{0}));
    };
    coverage.truth += sum(part) / sum(whole) / weeks;
    coverage.regimes += static_cast<double>(regimes.begin.size()) / weeks;
    intervals.push_back(block_interval(part, whole, kBlockRegimes * regimes.length_mean()));
  }
  for (const Interval& interval : intervals) {
    if (interval.confidence == 0) continue;
    ++coverage.intervals;
    coverage.held += interval.low <= coverage.truth && coverage.truth <= interval.high ? 1 : 0;
    coverage.half_width += (interval.high - interval.low) / 2;
    coverage.blocks += interval.blocks;
  }
  if (coverage.intervals > 0) {
    coverage.half_width /= coverage.intervals;
    coverage.blocks /= coverage.intervals;
  }
  return coverage;
}

}  // namespace loracle::testing
