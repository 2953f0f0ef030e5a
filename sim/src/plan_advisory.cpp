#include "plan_advisory.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <iterator>
#include <span>
#include <utility>
#include <vector>

#include "plan_sizes.hpp"

namespace loracle::detail {
namespace {

bool is_over_limit(const Plan& plan, const AdvisoryRow& row) noexcept {
  return row.slot_memory > plan.gpu_memory_limit || row.host_memory > plan.host_memory_limit;
}

AdvisoryRow advisory_row(const Plan& plan, const GridCell& cell) {
  AdvisoryRow row;
  row.cell = cell;
  row.served = cell;
  row.slot_memory = Bytes{plan.slot_bytes.value * cell.max_loras};
  row.host_memory = largest_together(plan.host_bytes, cell.max_cpu_loras);
  if (plan.active.known)
    row.wait_probability = static_cast<double>(plan.activity.waits(cell.max_loras)) /
                           static_cast<double>(plan.activity.requests);
  row.chosen = cell == plan.chosen;
  row.below_floor = cell.max_loras < plan.slots_floor;
  row.over_limit = is_over_limit(plan, row);
  row.meets_target = meets_target(plan, cell);
  return row;
}

/// The places on an axis nearest to these multiples of `size`, in order, each once; `also` too.
std::vector<std::size_t> around(std::span<const std::uint32_t> sizes, std::uint32_t size,
                                std::uint32_t also) {
  std::vector<std::size_t> places;
  for (const double factor : {0.125, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 4.0, 8.0}) {
    const double wanted = factor * size;
    const auto nearer = [wanted](std::uint32_t a, std::uint32_t b) {
      return std::abs(a - wanted) < std::abs(b - wanted);
    };
    places.push_back(
        static_cast<std::size_t>(std::min_element(sizes.begin(), sizes.end(), nearer) - sizes.begin()));
  }
  // And those next to it: a cliff is not seen from half its height.
  const auto here = std::lower_bound(sizes.begin(), sizes.end(), size) - sizes.begin();
  for (const std::ptrdiff_t step : {-2, -1, 1, 2})
    if (here + step >= 0 && here + step < std::ssize(sizes))
      places.push_back(static_cast<std::size_t>(here + step));
  const auto found = std::find(sizes.begin(), sizes.end(), also);
  if (found != sizes.end()) places.push_back(static_cast<std::size_t>(found - sizes.begin()));
  std::sort(places.begin(), places.end());
  places.erase(std::unique(places.begin(), places.end()), places.end());
  return places;
}

/// What the simulation of a row's pair says. REQUIRES: it was simulated.
void set_waits(const Plan& plan, const WaitSimulator& waits, AdvisoryRow& row) {
  row.waited = waits.waited(row.cell);
  row.too_many_wait = row.waited > plan.max_wait_probability;
  const EventOutcome& outcome = waits.at(row.cell);
  row.delay_p99_s = outcome.delay.p99;
  row.simulated = waits.of_plan_tiers();
  if (!row.simulated) return;
  row.served.gpu_hits = outcome.counts.gpu_hits;
  row.served.host_to_device_loads = outcome.counts.host_to_device_loads;
  row.served.disk_loads = outcome.counts.disk_loads;
  row.served.refused = outcome.counts.refused_uses;
}

}  // namespace

void fill_advisory(Plan& plan) {
  const Grid& grid = plan.grid;
  for (const std::size_t g : around(grid.max_loras, plan.chosen.max_loras, plan.slots_floor)) {
    const std::uint32_t wanted = std::max(plan.chosen.max_cpu_loras, grid.max_loras[g]);
    const auto c = std::lower_bound(grid.max_cpu_loras.begin(), grid.max_cpu_loras.end(), wanted);
    if (c == grid.max_cpu_loras.end()) continue;
    plan.by_slots.push_back(
        advisory_row(plan, grid.at(static_cast<std::size_t>(c - grid.max_cpu_loras.begin()), g)));
  }
  const auto g = std::lower_bound(grid.max_loras.begin(), grid.max_loras.end(), plan.chosen.max_loras);
  for (const std::size_t c : around(grid.max_cpu_loras, plan.chosen.max_cpu_loras, plan.chosen.max_loras)) {
    if (grid.max_cpu_loras[c] < plan.chosen.max_loras) continue;
    plan.by_host.push_back(
        advisory_row(plan, grid.at(c, static_cast<std::size_t>(g - grid.max_loras.begin()))));
  }
}

Result<Unit> fill_waits(Plan& plan, WaitSimulator& waits, Executor& executor) {
  std::vector<GridCell> pairs;
  for (const AdvisoryRow& row : plan.by_slots) pairs.push_back(row.cell);
  if (auto done = waits.simulate(pairs, executor); !done) return fail(std::move(done.error()));
  for (AdvisoryRow& row : plan.by_slots) set_waits(plan, waits, row);
  return Unit{};
}

Result<Unit> fill_current(Plan& plan, const PlanOptions& options, const BatchStream& stream,
                          WaitSimulator* waits, Executor& executor) {
  if (options.current_max_loras == 0) return Unit{};
  CurrentSetting& current = plan.current;
  current.known = true;
  current.max_loras = options.current_max_loras;
  current.max_cpu_loras = std::max(options.current_max_loras, options.current_max_cpu_loras);
  const auto adapters = static_cast<std::uint32_t>(plan.adapters);
  const std::array<std::uint32_t, 1> slots = {std::min(current.max_loras, adapters)};
  const std::array<std::uint32_t, 1> host = {std::min(current.max_cpu_loras, adapters)};
  const auto grid = sweep_grid(stream, plan.tiers, slots, host, executor);
  if (!grid) return fail(grid.error());
  current.row = advisory_row(plan, grid->at(0, 0));
  current.row.current = true;
  current.row.slot_memory = Bytes{plan.slot_bytes.value * current.max_loras};
  current.row.over_limit = is_over_limit(plan, current.row);
  for (auto* rows : {&plan.by_slots, &plan.by_host})
    for (AdvisoryRow& row : *rows) row.current = row.cell == current.row.cell;
  if (waits == nullptr) return Unit{};
  if (auto done = waits->simulate({&current.row.cell, 1}, executor); !done)
    return fail(std::move(done.error()));
  set_waits(plan, *waits, current.row);
  return Unit{};
}

}  // namespace loracle::detail
