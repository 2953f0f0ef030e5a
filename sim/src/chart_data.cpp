#include "chart_data.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <utility>

#include "loracle/sim/advice.hpp"
#include "loracle/sim/summary.hpp"
#include "plan_waits.hpp"
#include "stack_distance.hpp"
#include "start_record.hpp"

namespace loracle::detail {
namespace {

Result<Unit> fill_delays(Plan& plan, const Trace& trace, const BatchStream& stream) {
  if (!plan.active.known) return Unit{};
  StartRecord record(stream);
  EventOptions options = wait_options(plan);
  options.tiers.max_loras = plan.chosen.max_loras;
  options.tiers.max_cpu_loras = plan.chosen.max_cpu_loras;
  options.starts = &record;
  const Result<EventOutcome> outcome = simulate_events(trace, stream, options, &record);
  if (!outcome) return fail(outcome.error());
  plan.charts.delays = record.delays(*outcome);
  plan.charts.adapters = record.worst_adapters(trace);
  plan.charts.tenants = record.worst_tenants(trace);
  return Unit{};
}

/// [adapters + 1] the bin of each distance.
std::vector<std::uint32_t> bins_of(const Plan& plan) {
  std::vector<std::uint32_t> bin_of(plan.adapters + 1, 0);
  for (std::size_t bin = 0; bin < plan.distances.size(); ++bin)
    for (std::uint64_t d = plan.distances[bin].low; d <= std::min(plan.distances[bin].high, plan.adapters);
         ++d)
      bin_of[d] = static_cast<std::uint32_t>(bin);
  return bin_of;
}

void fill_distance_map(Plan& plan, const Trace& trace, const BatchStream& stream) {
  const auto stretches =
      static_cast<std::uint32_t>(std::min(kDistanceStretchesMax, stream.requests() / kDistanceRequestsMin));
  if (stretches < 2 || plan.distances.empty()) return;
  const std::vector<std::uint32_t> bin_of = bins_of(plan);
  const bool is_timed = plan.span_s > 0;
  DistanceMap& map = plan.charts.distances;
  map.first_uses.assign(stretches, 0);
  map.uses.assign(stretches * plan.distances.size(), 0);
  map.end = is_timed ? plan.span_s : static_cast<double>(stream.requests());
  StackDistance stack(stream.uses.rows);
  const std::span<const Row> uses = stream.uses.uses.view();
  for (std::uint32_t stretch = 0; stretch < stretches; ++stretch) {
    const std::uint64_t first = stretch_begin(stretch, stream.requests(), stretches);
    const std::uint64_t last = stretch_begin(stretch + 1, stream.requests(), stretches);
    map.begin.push_back(is_timed ? trace.arrival_s[stream.origin[first]] - trace.arrival_s[0]
                                 : static_cast<double>(first));
    std::uint64_t* const counts = map.uses.data() + stretch * plan.distances.size();
    for (std::uint64_t use = stream.begin[first]; use < stream.begin[last]; ++use) {
      const std::uint32_t distance = stack.distance(uses[use]);
      ++(distance == StackDistance::kAbsent ? map.first_uses[stretch] : counts[bin_of[distance]]);
      stack.touch(uses[use]);
    }
  }
}

/// LRU from the largest adapter alone to all of them, and at what the chosen adapters take.
Result<Unit> fill_byte_curve(Plan& plan, const BatchStream& stream, std::vector<Bytes> sizes) {
  constexpr int kSteps = 48;
  if (!plan.device_byte_gap.known) return Unit{};  // sizes are unknown, or all the same
  UseStream sized = stream.uses;
  sized.size = std::move(sizes);
  const auto least = static_cast<double>(plan.host_bytes[1].value);
  const Bytes all = plan.host_bytes.back();
  std::vector<Bytes> capacities = {plan.host_bytes[1], all};
  for (int step = 1; step < kSteps; ++step)
    capacities.push_back(Bytes{static_cast<std::uint64_t>(
        std::ceil(least * std::pow(static_cast<double>(all.value) / least, step / double{kSteps})))});
  if (plan.host_byte_gap.known) capacities.push_back(plan.host_byte_gap.capacity);
  std::sort(capacities.begin(), capacities.end());
  capacities.erase(std::unique(capacities.begin(), capacities.end()), capacities.end());
  Result<std::vector<ByteCurvePoint>> points = lru_byte_curve(sized, capacities);
  if (!points) return fail(std::move(points.error()));
  plan.charts.bytes = std::move(*points);
  return Unit{};
}

void fill_zipf(Plan& plan, const BatchStream& stream) {
  const std::vector<std::uint64_t> counts = popularity(stream.uses);
  if (const Result<ZipfFit> fit = fit_zipf(counts)) plan.charts.zipf = *fit;
}

/// Of the grid's slots, with every adapter in host memory. Of equal ones the fewest.
std::uint32_t knee_of(const Plan& plan) {
  std::uint32_t knee = 0;
  double least = std::numeric_limits<double>::infinity();
  for (std::size_t g = 0; g < plan.grid.max_loras.size(); ++g) {
    const GridCell& cell = plan.grid.at(plan.grid.max_cpu_loras.size() - 1, g);
    if (!cell.feasible || cell.refused > 0) continue;
    const double cost = running_cost(plan, static_cast<double>(cell.host_to_device_loads), cell.max_loras);
    if (cost < least) knee = cell.max_loras;
    least = std::min(least, cost);
  }
  return knee;
}

}  // namespace

Result<Unit> fill_chart_data(Plan& plan, const Trace& trace, const BatchStream& stream,
                             std::vector<Bytes> sizes, Executor& executor) {
  plan.charts.knee = knee_of(plan);
  // Each fills members of its own.
  std::array<Result<Unit>, 3> done = {Unit{}, Unit{}, Unit{}};
  executor.run(done.size(), [&](std::size_t i) {
    if (i == 0) {
      done[i] = fill_delays(plan, trace, stream);
    } else if (i == 1) {
      done[i] = fill_byte_curve(plan, stream, std::move(sizes));
    } else {
      fill_distance_map(plan, trace, stream);
      fill_zipf(plan, stream);
    }
  });
  for (Result<Unit>& one : done)
    if (!one) return std::move(one);
  return Unit{};
}

double zipf_uses(const ZipfFit& fit, double rank) {
  double sum = 0;
  for (std::uint64_t k = fit.ranks; k > 0; --k) sum += std::pow(static_cast<double>(k), -fit.alpha);
  return static_cast<double>(fit.draws) * std::pow(rank, -fit.alpha) / sum;
}

}  // namespace loracle::detail
