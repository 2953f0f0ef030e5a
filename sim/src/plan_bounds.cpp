#include "plan_bounds.hpp"

#include <algorithm>
#include <array>
#include <span>
#include <string>
#include <utility>

#include "loracle/sim/bounds.hpp"
#include "plan_sizes.hpp"

namespace loracle::detail {
namespace {

/// Bytes asked for by all uses, and by first uses alone.
std::pair<Bytes, Bytes> bytes_of_uses(const UseStream& stream) {
  std::vector<bool> seen(stream.rows, false);
  Bytes all{};
  Bytes first{};
  for (const Row row : stream.uses.view()) {
    const Bytes size = stream.size[index_of(row)];
    all += size;
    if (!seen[index_of(row)]) first += size;
    seen[index_of(row)] = true;
  }
  return {all, first};
}

/// True if every adapter that is used has a size, and not all the same.
bool sizes_differ(const Plan& plan, const std::vector<Bytes>& sizes) {
  if (!plan.host_bytes_known) return false;
  Bytes smallest = Bytes::max();
  for (const Bytes size : sizes)
    if (size.value > 0) smallest = std::min(smallest, size);
  return smallest < plan.host_bytes[1];  // the largest
}

/// Fills the rest of `gap` from what LRU and the others loaded; `loaded` and `refused` are by plan.policies.
void compare(const Plan& plan, ByteGap& gap, const std::vector<Bytes>& loaded,
             const std::vector<bool>& refused) {
  gap.best = Bytes::max();
  for (std::size_t i = 0; i < plan.policies.size(); ++i) {
    const PolicyRow& row = plan.policies[i];
    if (row.policy == "lru") gap.lru = loaded[i];
    if (row.clairvoyant || refused[i] || loaded[i] >= gap.best) continue;
    gap.best = loaded[i];
    gap.best_policy = row.policy;
  }
  const auto closed = static_cast<double>(gap.lru.value - gap.best.value);
  const auto whole = static_cast<double>(gap.lru.value - gap.bound.value);
  gap.policy_matters =
      whole > 0 && closed >= 0.1 * whole && closed >= 0.005 * static_cast<double>(plan.bytes_used.value);
}

}  // namespace

Result<Unit> fill_bounds(Plan& plan, const UseStream& stream, const std::vector<Bytes>& sizes,
                         Executor& executor) {
  const std::array<std::uint64_t, 2> entries = {plan.chosen.max_loras, plan.chosen.max_cpu_loras};
  const bool has_bytes = sizes_differ(plan, sizes);
  UseStream sized;                  // with the sizes, if they are needed
  std::vector<std::uint64_t> cost;  // [rows] bytes of a load
  ByteGap& device = plan.device_byte_gap;
  ByteGap& host = plan.host_byte_gap;
  if (has_bytes) {
    sized = stream;
    sized.size = sizes;
    for (const Bytes size : sizes) cost.push_back(size.value);
    const auto [all, first] = bytes_of_uses(sized);
    plan.bytes_used = all;
    device.first_uses = host.first_uses = first;
    host.capacity = largest_together(plan.host_bytes, entries[1]);
    device.known = true;
    host.known = host.capacity < plan.host_bytes.back();
  }

  const std::array<std::uint64_t, 1> slots = {entries[0]};
  const std::array<std::uint64_t, 1> room = {host.capacity.value};
  executor.run(3, [&](std::size_t i) {
    if (i == 0) {
      const std::vector<std::uint64_t> bounds = miss_bounds(stream, SizeUnit::kObjects, entries);
      plan.device_gap.bound = bounds[0];
      plan.host_gap.bound = bounds[1];
    } else if (i == 1 && device.known) {
      device.bound = Bytes{cost_bounds(sized, SizeUnit::kObjects, cost, slots)[0]};
    } else if (i == 2 && host.known) {
      host.bound = Bytes{cost_bounds(sized, SizeUnit::kBytes, cost, room)[0]};
    }
  });

  for (const bool on_device : {true, false}) {
    ByteGap& gap = on_device ? device : host;
    if (!gap.known) continue;
    Capacity capacity;
    if (on_device)
      capacity.entries = entries[0];
    else
      capacity.bytes = gap.capacity;
    std::vector<ReplayJob> jobs;
    for (const PolicyRow& row : plan.policies) jobs.push_back({row.policy, capacity});
    const auto results = replay_all(sized, SizeUnit::kBytes, jobs, executor);
    if (!results) return fail(results.error());
    std::vector<Bytes> loaded;
    std::vector<bool> refused;
    for (std::size_t i = 0; i < jobs.size(); ++i) {
      const ReplayCounts& counts = (*results)[i].counts;
      loaded.push_back(counts.bytes_missed);
      refused.push_back(counts.bypasses > 0);
      PolicyRow& row = plan.policies[i];
      (on_device ? row.device_bytes : row.host_bytes) = loaded.back();
      row.refuses_by_bytes = row.refuses_by_bytes || refused.back();
    }
    compare(plan, gap, loaded, refused);
  }
  return Unit{};
}

}  // namespace loracle::detail
