#pragma once
/// How far what a plan stands on may grow until the chosen pair no longer holds.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "loracle/core/result.hpp"
#include "loracle/sim/executor.hpp"
#include "loracle/sim/plan.hpp"
#include "loracle/sim/tier_replay.hpp"
#include "loracle/traces/trace.hpp"

namespace loracle::detail {

/// Where a change from true to false lies between `low` and `high`: the last place, of those looked at, that
/// holds, and the first after it that does not. Neither is looked at if it is an end.
struct Bracket {
  double holds = 0;
  double breaks = 0;
};
/// Bisection by factors with two places at once (each round cuts the bracket's octaves to a third), until
/// breaks / holds <= `precision`. `holds_at(places)`: whether each of them holds; ascending.
/// REQUIRES: 0 < low < high, precision > 1; it holds at low, and not at high.
[[nodiscard]] Result<Bracket> bisect(
    double low, double high, double precision,
    const std::function<Result<std::vector<bool>>(const std::vector<double>&)>& holds_at);

/// Fills plan.traffic_limit and plan.adapters_limit where durations are known; that of adapters, for up to 5
/// million requests. Who waits makes others wait: where the simulation asks for more slots than rule 1 does,
/// so many times more are asked for everywhere. Beyond twice the adapters it looks where that makes no more
/// than 2 million requests.
/// REQUIRES: the stream was made from the trace.
[[nodiscard]] Result<Unit> fill_breakpoints(Plan& plan, const Trace& trace, const BatchStream& stream,
                                            Executor& executor);

}  // namespace loracle::detail
