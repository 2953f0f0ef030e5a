#pragma once
/// The rules by which a plan chooses: plan.hpp names them.

#include <string>

#include "loracle/core/result.hpp"
#include "loracle/sim/executor.hpp"
#include "loracle/sim/plan.hpp"
#include "loracle/sim/tier_replay.hpp"
#include "plan_waits.hpp"

namespace loracle::detail {

struct Floor {
  std::uint32_t slots = 1;
  SlotsBound from = SlotsBound::kLargestRequest;
};
/// Rule 1. Of equal bounds the first named is what binds.
[[nodiscard]] Floor floor_of(const Plan& plan, const ActiveAtArrival& activity);

/// Rule 2: how many slots and how many adapters in host memory fit; not more than there are adapters. And the
/// floor. Errors: kTooLarge.
[[nodiscard]] Result<Unit> fill_limits(Plan& plan);

/// Every pair of sizes that the rules look at. The axes hold both limits and the floor.
[[nodiscard]] Result<Unit> fill_grid(Plan& plan, const BatchStream& stream, Executor& executor);

/// Grids of such tiers read the stream's next uses; an unknown policy is the grid's to refuse.
[[nodiscard]] bool knows_the_future(const std::string& tiers);

[[nodiscard]] bool meets_disk_target(const Plan& plan, const GridCell& cell) noexcept;

/// Rules 1-4, with the floor as it stands.
void choose(Plan& plan);
/// Rule 5: raises the floor until few enough wait at the chosen pair, or says that no slots that fit do.
[[nodiscard]] Result<Unit> raise_floor(Plan& plan, WaitSimulator& waits, Executor& executor);
/// Plan::enough of a plan that is infeasible or off target. `waits`: nullptr where durations are not known.
[[nodiscard]] Result<Unit> find_enough(Plan& plan, WaitSimulator* waits, Executor& executor);

}  // namespace loracle::detail
