#pragma once
/// How far the plan's figures can be trusted: regimes of popularity, and intervals by blocks of them.
/// Deterministic. Threads: none.

#include "loracle/core/result.hpp"
#include "loracle/sim/event_sim.hpp"
#include "loracle/sim/plan.hpp"
#include "loracle/sim/tier_replay.hpp"
#include "loracle/traces/trace.hpp"

namespace loracle::detail {

/// Fills plan.certainty. `simulated`: the chosen pair, counted by stretches_for the stream; nullptr where
/// time cannot be simulated. `of_plan_tiers`: its tiers are the plan's; else those are replayed for misses
/// and loads. Errors: those of replay_tiers. REQUIRES: next uses are known if the plan's tiers need them.
[[nodiscard]] Result<Unit> fill_certainty(Plan& plan, const Trace& trace, const BatchStream& stream,
                                          const EventOutcome* simulated, bool of_plan_tiers);

}  // namespace loracle::detail
