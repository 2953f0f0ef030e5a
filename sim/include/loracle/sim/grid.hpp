#pragma once
/// The whole grid max_loras x max_cpu_loras: what each pair of sizes would have cost on this trace.
///
/// `lru/lru` comes from one pass: a use touches both tiers and the device is a subset of the host, so both
/// are prefixes of one recency stack. Other pairs of policies, and the vLLM model, are replayed cell by cell.
/// Cells with max_cpu_loras < max_loras do not exist in vLLM and are left out (`feasible` = false).

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "loracle/core/result.hpp"
#include "loracle/sim/executor.hpp"
#include "loracle/sim/replay.hpp"
#include "loracle/sim/tier_replay.hpp"
#include "loracle/traces/trace.hpp"

namespace loracle {

struct GridCell {
  std::uint32_t max_loras = 0;
  std::uint32_t max_cpu_loras = 0;
  bool feasible = true;
  std::uint64_t gpu_hits = 0;              // uses that found their adapter in a slot
  std::uint64_t host_to_device_loads = 0;  // uses that had to be copied into a slot
  std::uint64_t disk_loads = 0;            // of those, how many were not in host memory either
  std::uint64_t refused = 0;               // uses of requests that need more adapters than max_loras

  friend bool operator==(const GridCell&, const GridCell&) = default;
};

struct Grid {
  std::string tiers;  // "lru/lru", "sieve/gdsf", "vllm"
  std::uint64_t uses = 0;
  std::vector<std::uint32_t> max_loras;      // the axis, ascending
  std::vector<std::uint32_t> max_cpu_loras;  // the axis, ascending
  std::vector<GridCell> cells;               // [max_cpu_loras][max_loras], row-major over max_cpu_loras

  [[nodiscard]] const GridCell& at(std::size_t cpu_index, std::size_t gpu_index) const noexcept {
    return cells[cpu_index * max_loras.size() + gpu_index];
  }
};

/// `tiers`: `vllm`, one policy for both tiers, or device/host. Flattens nothing: a request is a batch.
/// Errors: as `replay_tiers`; kInvalid for an empty axis or a size of 0.
[[nodiscard]] Result<Grid> sweep_grid(const BatchStream& stream, const std::string& tiers,
                                      std::span<const std::uint32_t> max_loras,
                                      std::span<const std::uint32_t> max_cpu_loras, Executor& executor);
[[nodiscard]] Result<Grid> sweep_grid(const Trace& trace, const std::string& tiers,
                                      std::span<const std::uint32_t> max_loras,
                                      std::span<const std::uint32_t> max_cpu_loras, Executor& executor);

}  // namespace loracle
