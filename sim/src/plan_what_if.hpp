#pragma once
/// The chosen pair of sizes under other traffic: each change is made to the trace itself, or to what a load
/// takes, and simulated in time. Deterministic: what is drawn, is drawn with a fixed seed.

#include "loracle/core/result.hpp"
#include "loracle/sim/event_sim.hpp"
#include "loracle/sim/executor.hpp"
#include "loracle/sim/plan.hpp"
#include "loracle/sim/tier_replay.hpp"
#include "loracle/traces/trace.hpp"

namespace loracle::detail {

/// Fills plan.what_ifs. `today`: the chosen pair as it was simulated.
/// REQUIRES: the trace has arrival times and durations.
[[nodiscard]] Result<Unit> fill_what_ifs(Plan& plan, const Trace& trace, const BatchStream& stream,
                                         const EventOutcome& today, Executor& executor);

}  // namespace loracle::detail
