#pragma once
/// Memory and money of a plan, step by step as make_plan goes. What they mean: plan_costs.hpp.

#include "loracle/core/result.hpp"
#include "loracle/sim/executor.hpp"
#include "loracle/sim/plan.hpp"
#include "loracle/sim/tier_replay.hpp"
#include "loracle/traces/trace.hpp"
#include "plan_waits.hpp"

namespace loracle::detail {

/// plan.memory, and the limit that GPU memory sets to the slots. Reads the model, slots and host memory.
/// Errors: kTooLarge (the model does not fit the GPU), kInvalid (dtype).
[[nodiscard]] Result<Unit> fill_plan_memory(Plan& plan, const Trace& trace, const UseStream& stream);

/// The GPU memory of a server that leaves so much beside the weights: the way back from plan.memory.kv_pool.
[[nodiscard]] Bytes server_memory(const Plan& plan, Bytes pool) noexcept;

/// What a pair takes in a month, by its counts in the grid.
[[nodiscard]] MonthlyUse use_of(const Plan& plan, const GridCell& cell);
/// What vLLM pins in host memory for the chosen adapters; 0: unknown.
[[nodiscard]] Bytes pinned_memory(const Plan& plan) noexcept;

/// Makes the objective kCost's choice. REQUIRES: the grid, the limits and prices are there.
[[nodiscard]] Result<Unit> choose_by_cost(Plan& plan, const BatchStream& stream, WaitSimulator& waits,
                                          Executor& executor);
/// Why it is that one; in one or two sentences.
[[nodiscard]] std::string cost_reason(const Plan& plan);

/// Costs of the tables' rows, of the chosen pair and of today's.
void fill_costs(Plan& plan);

}  // namespace loracle::detail
