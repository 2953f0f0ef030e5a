#pragma once
/// What the report draws beside the tables of a plan: delays by their cause and by who has them, reuse
/// distances over the trace, LRU by bytes, and the law that popularity follows. In the JSON too.
///
/// Delays are those of one more simulation of the chosen pair, which is told of every request. Everything is
/// counted, nothing sampled. Deterministic.

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "loracle/sim/curves.hpp"
#include "loracle/sim/event_sim.hpp"
#include "loracle/sim/fit_laws.hpp"

namespace loracle {

/// Times: how many of them are above 0, and quantiles of those, each the one at share x (positive - 1) of the
/// sorted, rounded down.
struct Spread {
  std::uint64_t count = 0;
  std::uint64_t positive = 0;
  std::vector<float> at_s;  // [spread_levels()] ascending; empty where none is above 0

  friend bool operator==(const Spread&, const Spread&) = default;
};
/// The shares that a spread's quantiles stand for: 0 to 1, closer to one another at the end.
[[nodiscard]] std::span<const double> spread_levels() noexcept;

/// What requests wait for, and how long uses take to load, by where their adapter was.
struct DelayCauses {
  bool known = false;
  WaitTimes slot_times;  // as the simulation has them
  WaitTimes load_times;
  WaitTimes delay_times;  // both together
  Spread slot_wait;       // of requests that were served
  Spread load_wait;
  Spread delay;
  std::array<Spread, 3> load;  // of uses: found in a slot, in host memory, on disk
};

/// An adapter or a tenant, and the requests of it that were served.
struct ServedGroup {
  std::string name;
  std::uint64_t requests = 0;
  std::uint64_t uses = 0;
  std::uint64_t gpu_hits = 0;    // uses found in a slot
  std::uint64_t disk_loads = 0;  // uses found on disk
  std::uint64_t evictions = 0;   // of adapters out of slots, to make room for these
  std::uint64_t waited = 0;      // requests, for a slot
  double delay_p99_s = 0;

  friend bool operator==(const ServedGroup&, const ServedGroup&) = default;
};

/// Those with the longest p99 delay. A p99 of few requests says nothing, so only groups with `requests_min`
/// or more are ranked: 20, or as many as the kWorstServed-th busiest has.
struct WorstServed {
  std::uint64_t groups = 0;  // with any request; below 2 nobody is ranked
  std::uint64_t requests_min = 0;
  std::uint64_t evictions = 0;     // by all groups
  std::vector<ServedGroup> worst;  // the longest delay first; at most kWorstServed
};
inline constexpr std::size_t kWorstServed = 5;

/// Uses by stack distance, in equal stretches of the requests. Its columns add up to the plan's `distances`,
/// its first uses to `adapters`.
struct DistanceMap {
  std::vector<double> begin;              // [stretches] s from the first arrival, or index of the request
  double end = 0;                         // of the last
  std::vector<std::uint64_t> first_uses;  // [stretches]
  std::vector<std::uint64_t> uses;        // [stretches x distances]

  [[nodiscard]] std::size_t stretches() const noexcept { return begin.size(); }
};
/// At most so many stretches, of so many requests or more.
inline constexpr std::uint64_t kDistanceStretchesMax = 60;
inline constexpr std::uint64_t kDistanceRequestsMin = 20;

struct PlanCharts {
  DelayCauses delays;                 // known where durations are
  WorstServed adapters;               // likewise
  WorstServed tenants;                // likewise; nobody where the trace has none
  DistanceMap distances;              // empty: too few requests
  std::vector<ByteCurvePoint> bytes;  // LRU in host memory, ascending; empty: sizes are unknown or equal
  std::optional<ZipfFit> zipf;        // of the uses by rank; nothing of a single adapter
  std::uint32_t knee = 0;  // slots at which loads and the worth of slots cost least together, floor or not
};

}  // namespace loracle
