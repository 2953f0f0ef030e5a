#pragma once
/// Fills what the report draws beside the tables: plan_charts.hpp.

#include <string>
#include <vector>

#include "loracle/core/result.hpp"
#include "loracle/sim/executor.hpp"
#include "loracle/sim/plan.hpp"
#include "loracle/sim/tier_replay.hpp"
#include "loracle/traces/trace.hpp"

namespace loracle::detail {

/// Fills plan.charts from everything else in the plan. `sizes`: [rows] as the plan takes them, 0: unknown.
/// Cost: one simulation of the chosen pair, and two light passes over the uses. Errors: those of
/// simulate_events and lru_byte_curve.
[[nodiscard]] Result<Unit> fill_chart_data(Plan& plan, const Trace& trace, const BatchStream& stream,
                                           std::vector<Bytes> sizes, Executor& executor);

/// The members that it adds to the JSON, as one object.
[[nodiscard]] std::string chart_data_json(const Plan& plan);

/// The fitted law's uses of an adapter of this rank, from 1.
[[nodiscard]] double zipf_uses(const ZipfFit& fit, double rank);

}  // namespace loracle::detail
