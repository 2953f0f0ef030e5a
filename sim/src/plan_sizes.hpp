#pragma once
/// What adapters and slots weigh in a plan.

#include <vector>

#include "loracle/core/result.hpp"
#include "loracle/core/units.hpp"
#include "loracle/sim/plan.hpp"
#include "loracle/sim/tier_replay.hpp"
#include "loracle/traces/trace.hpp"

namespace loracle::detail {

/// max_lora_rank, and whether trace or option said so. Errors: kInvalid (a rank that vLLM does not accept).
[[nodiscard]] Result<Unit> fill_rank(Plan& plan, const Trace& trace, const PlanOptions& options);

/// Slot bytes, and the host bytes of the i largest adapters that are used. REQUIRES: fill_rank.
/// Errors: kNotFound (model, module), kInvalid (dtype; a limit on host memory, and sizes are not known).
[[nodiscard]] Result<Unit> fill_sizes(Plan& plan, const Trace& trace, const UseStream& stream,
                                      const PlanOptions& options);

/// Of the so many largest together, or of all there are; 0: unknown. `sums`: Plan::host_bytes or
/// PlanMemory::pinned.
[[nodiscard]] Bytes largest_together(const std::vector<Bytes>& sums, std::size_t count) noexcept;

/// [rows] as they are served; 0: not used, or unknown. REQUIRES: fill_sizes.
[[nodiscard]] std::vector<Bytes> adapter_sizes(const Plan& plan, const Trace& trace, const UseStream& stream);

}  // namespace loracle::detail
