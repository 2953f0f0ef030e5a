#include "loracle/sim/grid.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "loracle/sim/tier_replay.hpp"
#include "stack_distance.hpp"

namespace loracle {
namespace {

Result<std::vector<std::uint32_t>> checked_axis(std::span<const std::uint32_t> sizes, const char* flag) {
  std::vector<std::uint32_t> axis(sizes.begin(), sizes.end());
  std::sort(axis.begin(), axis.end());
  axis.erase(std::unique(axis.begin(), axis.end()), axis.end());
  if (axis.empty()) return fail(Errc::kInvalid, fmt::format("{}: no sizes given", flag));
  if (axis.front() == 0) return fail(Errc::kInvalid, fmt::format("{} 0 holds nothing: start at 1", flag));
  return axis;
}

/// Hits by stack distance, of the requests that `slots` GPU slots can serve at all.
struct DistanceCounts {
  std::vector<std::uint64_t> hits_within;  // [d] uses whose distance is at most d
  std::uint64_t served = 0;
  std::uint64_t refused = 0;

  [[nodiscard]] std::uint64_t hits(std::uint64_t entries) const noexcept {
    return hits_within[std::min<std::uint64_t>(entries, hits_within.size() - 1)];
  }
};

/// One pass. Members of a batch do not evict one another, so all are looked up before any of them moves.
DistanceCounts count_distances(const BatchStream& stream, std::uint32_t slots) {
  DistanceCounts counts;
  StackDistance stack(stream.uses.rows);
  std::vector<std::uint64_t> at(std::size_t{stream.uses.rows} + 1, 0);
  for (std::uint64_t i = 0; i < stream.requests(); ++i) {
    const std::span<const Row> batch = stream.batch(i);
    if (batch.size() > slots) {
      counts.refused += batch.size();
      continue;
    }
    counts.served += batch.size();
    for (const Row row : batch) ++at[stack.distance(row)];
    for (const Row row : batch) stack.touch(row);
  }
  at[StackDistance::kAbsent] = 0;
  for (std::size_t d = 1; d < at.size(); ++d) at[d] += at[d - 1];
  counts.hits_within = std::move(at);
  return counts;
}

void fill_lru_grid(const BatchStream& stream, Grid& grid, Executor& executor) {
  // A size below the largest batch refuses some requests, so it sees a stack of its own; all others share
  // one.
  std::vector<std::uint32_t> passes;
  for (const std::uint32_t slots : grid.max_loras)
    passes.push_back(std::min(slots, std::max(stream.batch_max, 1U)));
  passes.erase(std::unique(passes.begin(), passes.end()), passes.end());
  std::vector<DistanceCounts> counts(passes.size());
  executor.run(passes.size(), [&](std::size_t i) { counts[i] = count_distances(stream, passes[i]); });
  for (GridCell& cell : grid.cells) {
    if (!cell.feasible) continue;
    const std::uint32_t pass = std::min(cell.max_loras, std::max(stream.batch_max, 1U));
    const DistanceCounts& seen = counts[static_cast<std::size_t>(
        std::lower_bound(passes.begin(), passes.end(), pass) - passes.begin())];
    cell.gpu_hits = seen.hits(cell.max_loras);
    cell.host_to_device_loads = seen.served - cell.gpu_hits;
    cell.disk_loads = seen.served - seen.hits(cell.max_cpu_loras);
    cell.refused = seen.refused;
  }
}

Result<Unit> fill_by_replay(const BatchStream& stream, Grid& grid, Executor& executor) {
  std::vector<Result<Unit>> outcomes(grid.cells.size(), Unit{});
  executor.run(grid.cells.size(), [&](std::size_t i) {
    GridCell& cell = grid.cells[i];
    if (!cell.feasible) return;
    TierOptions options;
    options.tiers = grid.tiers;
    options.max_loras = cell.max_loras;
    options.max_cpu_loras = cell.max_cpu_loras;
    Result<TierReplay> replayed = replay_tiers(stream, options);
    if (!replayed) {
      outcomes[i] = fail(std::move(replayed.error()));
      return;
    }
    cell.gpu_hits = replayed->counts.gpu_hits;
    cell.host_to_device_loads = replayed->counts.host_to_device_loads;
    cell.disk_loads = replayed->counts.disk_loads;
    cell.refused = replayed->counts.refused_uses;
  });
  for (Result<Unit>& outcome : outcomes)
    if (!outcome) return fail(std::move(outcome.error()));
  return Unit{};
}

}  // namespace

Result<Grid> sweep_grid(const BatchStream& stream, const std::string& tiers,
                        std::span<const std::uint32_t> max_loras,
                        std::span<const std::uint32_t> max_cpu_loras, Executor& executor) {
  Grid grid;
  grid.tiers = tiers;
  grid.uses = stream.uses.uses.size();
  Result<std::vector<std::uint32_t>> gpu_axis = checked_axis(max_loras, "--max-loras");
  if (!gpu_axis) return fail(std::move(gpu_axis.error()));
  Result<std::vector<std::uint32_t>> cpu_axis = checked_axis(max_cpu_loras, "--max-cpu-loras");
  if (!cpu_axis) return fail(std::move(cpu_axis.error()));
  grid.max_loras = std::move(*gpu_axis);
  grid.max_cpu_loras = std::move(*cpu_axis);
  for (const std::uint32_t cpu : grid.max_cpu_loras) {
    for (const std::uint32_t gpu : grid.max_loras) {
      GridCell cell;
      cell.max_loras = gpu;
      cell.max_cpu_loras = cpu;
      cell.feasible = cpu >= gpu;
      grid.cells.push_back(cell);
    }
  }
  if (tiers == "lru" || tiers == "lru/lru") {
    fill_lru_grid(stream, grid, executor);
    return grid;
  }
  if (Result<Unit> ok = fill_by_replay(stream, grid, executor); !ok) return fail(std::move(ok.error()));
  return grid;
}

Result<Grid> sweep_grid(const Trace& trace, const std::string& tiers,
                        std::span<const std::uint32_t> max_loras,
                        std::span<const std::uint32_t> max_cpu_loras, Executor& executor) {
  Result<BatchStream> stream = make_batch_stream(trace);
  if (!stream) return fail(std::move(stream.error()));
  return sweep_grid(*stream, tiers, max_loras, max_cpu_loras, executor);
}

}  // namespace loracle
