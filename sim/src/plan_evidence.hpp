#pragma once
/// The parts of a plan that only look at the trace, and the policies compared at the chosen sizes.
/// Each function fills its own members of the Plan and reads only what its comment names.

#include <span>

#include "loracle/core/result.hpp"
#include "loracle/sim/curves.hpp"
#include "loracle/sim/plan.hpp"
#include "loracle/sim/tier_replay.hpp"

namespace loracle::detail {

/// Rank and uses, the most used first; every rank up to 100, then about every 3 %, the last one always.
[[nodiscard]] std::vector<RankCount> popularity_ranks(const UseStream& stream);

/// Reuse distances in bins that grow by half an octave. First uses are not in it.
[[nodiscard]] std::vector<DistanceBin> distance_bins(const LruCurve& curve);

/// Distinct adapters and uses per window; at most about 200 windows of a round length.
[[nodiscard]] Result<Unit> fill_working_set(Plan& plan, const Trace& trace, const UseStream& stream);

/// Policies, gaps and curves at plan.chosen's sizes. Computes the stream's next uses.
[[nodiscard]] Result<Unit> fill_policies(Plan& plan, UseStream& stream, const LruCurve& lru,
                                         std::span<const std::string> policies, Executor& executor);

/// Fills `assumptions` and `limits` from everything else.
void fill_caveats(Plan& plan);

}  // namespace loracle::detail
