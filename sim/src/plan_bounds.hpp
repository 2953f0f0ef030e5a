#pragma once
/// How far from the best possible the plan's policies are: bounds of both tiers, and their gaps by bytes.
/// Deterministic. Threads: the executor's.

#include <vector>

#include "loracle/core/result.hpp"
#include "loracle/sim/executor.hpp"
#include "loracle/sim/plan.hpp"
#include "loracle/sim/replay.hpp"

namespace loracle::detail {

/// `sizes`: [rows] of the stream; 0 where unknown. REQUIRES: fill_policies has run. Errors: those of replay.
[[nodiscard]] Result<Unit> fill_bounds(Plan& plan, const UseStream& stream, const std::vector<Bytes>& sizes,
                                       Executor& executor);

}  // namespace loracle::detail
