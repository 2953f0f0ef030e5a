#pragma once
/// The advisory tables: pairs of sizes around the chosen one, and today's.

#include "loracle/core/result.hpp"
#include "loracle/sim/executor.hpp"
#include "loracle/sim/plan.hpp"
#include "loracle/sim/tier_replay.hpp"
#include "plan_waits.hpp"

namespace loracle::detail {

/// Both tables, by the grid. REQUIRES: the choice is made.
void fill_advisory(Plan& plan);

/// What requests wait for at each slot count of the table.
[[nodiscard]] Result<Unit> fill_waits(Plan& plan, WaitSimulator& waits, Executor& executor);

/// Today's setting, as a row like those of the tables. `waits` is null where durations are not known.
[[nodiscard]] Result<Unit> fill_current(Plan& plan, const PlanOptions& options, const BatchStream& stream,
                                        WaitSimulator* waits, Executor& executor);

}  // namespace loracle::detail
