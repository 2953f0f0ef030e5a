#pragma once
/// The waits of pairs of sizes, simulated in time: what the plan's verdict rests on beside the curves.
/// Each pair is simulated once, however often it is asked for. Deterministic. Threads: the executor's.

#include <cstdint>
#include <map>
#include <span>
#include <utility>

#include "loracle/core/result.hpp"
#include "loracle/sim/event_sim.hpp"
#include "loracle/sim/executor.hpp"
#include "loracle/sim/plan.hpp"
#include "loracle/traces/trace.hpp"

namespace loracle::detail {

/// How pairs are simulated: the plan's tiers, or lru/lru where those are vLLM's own or know the future; its
/// load times; requests wait for slots alone. The sizes are left open.
[[nodiscard]] EventOptions wait_options(const Plan& plan);

class WaitSimulator {
 public:
  /// As wait_options; counts by stretches_for the stream too. Trace and stream must outlive it. REQUIRES: the
  /// stream was made from the trace, which has arrival times and durations.
  WaitSimulator(const Plan& plan, const Trace& trace, const BatchStream& stream);

  [[nodiscard]] bool of_plan_tiers() const noexcept { return of_plan_tiers_; }

  /// Simulates those that were not yet. Errors: those of simulate_events.
  [[nodiscard]] Result<Unit> simulate(std::span<const GridCell> pairs, Executor& executor);
  /// REQUIRES: the pair was simulated.
  [[nodiscard]] const EventOutcome& at(const GridCell& pair) const;
  /// The share of requests that waits for a slot. REQUIRES: as `at`.
  [[nodiscard]] double waited(const GridCell& pair) const;

 private:
  using Pair = std::pair<std::uint32_t, std::uint32_t>;  // max_loras, max_cpu_loras

  const Trace* trace_;
  const BatchStream* stream_;
  EventOptions options_;
  bool of_plan_tiers_ = false;
  std::map<Pair, EventOutcome> outcomes_;
};

}  // namespace loracle::detail
