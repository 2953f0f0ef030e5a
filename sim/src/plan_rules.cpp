#include "plan_rules.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <span>
#include <utility>
#include <vector>

#include "loracle/core/parse_bytes.hpp"
#include "loracle/policy/policy_spec.hpp"
#include "loracle/sim/advice.hpp"
#include "plan_sentences.hpp"

namespace loracle::detail {
namespace {

constexpr std::uint32_t kDenseAxis = 64;      // every size up to here
constexpr std::uint32_t kSlotsAxisMax = 256;  // beyond, only if the floor asks for it

/// 1, 2, 3 .. dense, then `per_octave` round steps an octave, up to `last`; `also` are put in.
std::vector<std::uint32_t> axis(std::uint32_t dense, std::uint32_t per_octave, std::uint32_t last,
                                std::span<const std::uint32_t> also) {
  std::vector<std::uint32_t> sizes;
  std::uint64_t step = 1;
  for (std::uint64_t size = 1; size <= last; size += step) {
    sizes.push_back(static_cast<std::uint32_t>(size));
    if (size >= dense)
      while (step * per_octave * 2 <= size) step *= 2;
  }
  sizes.push_back(last);
  for (const std::uint32_t size : also)
    if (size >= 1) sizes.push_back(size);
  std::sort(sizes.begin(), sizes.end());
  sizes.erase(std::unique(sizes.begin(), sizes.end()), sizes.end());
  return sizes;
}

/// What rule 4 minimises: the cost of loads into slots and of the slots themselves.
double score_of(const Plan& plan, const GridCell& cell) noexcept {
  return running_cost(plan, static_cast<double>(cell.host_to_device_loads), cell.max_loras);
}

/// A pair that meets the target comes before one that does not; then the score.
bool better(const Plan& plan, const GridCell& a, const GridCell& b) noexcept {
  const bool meets = meets_target(plan, a);
  return meets == meets_target(plan, b) ? score_of(plan, a) < score_of(plan, b) : meets;
}

/// Rule 3 at one place of the slots' axis; nothing if no host size of the grid will do.
const GridCell* candidate_at(const Plan& plan, std::size_t g) noexcept {
  const GridCell* candidate = nullptr;
  for (std::size_t c = 0; c < plan.grid.max_cpu_loras.size(); ++c) {
    const GridCell& cell = plan.grid.at(c, g);
    if (!cell.feasible || cell.max_cpu_loras < cell.max_loras || cell.max_cpu_loras > plan.host_limit)
      continue;
    // Who is refused depends on the slots alone, and they are the same here.
    if (meets_disk_target(plan, cell)) return &cell;
    if (candidate == nullptr || cell.disk_loads < candidate->disk_loads) candidate = &cell;
  }
  return candidate;
}

/// What keeps the chosen slots from being fewer or more.
SlotsBound bound_of(const Plan& plan) noexcept {
  const std::uint32_t slots = plan.chosen.max_loras;
  if (slots == plan.adapters) return SlotsBound::kEveryAdapter;
  if (slots == plan.slots_limit) return plan.limit_from;
  if (slots > plan.slots_floor) return SlotsBound::kWorth;
  // At the floor: if fewer would cost less, it is the floor that binds.
  for (std::size_t g = 0; g < plan.grid.max_loras.size() && plan.grid.max_loras[g] < slots; ++g)
    if (const GridCell* fewer = candidate_at(plan, g);
        fewer != nullptr && score_of(plan, *fewer) <= score_of(plan, plan.chosen))
      return plan.floor_from;
  return SlotsBound::kWorth;
}

Result<double> waited_at(const GridCell& pair, WaitSimulator& waits, Executor& executor) {
  if (auto done = waits.simulate({&pair, 1}, executor); !done) return fail(std::move(done.error()));
  return waits.waited(pair);
}

/// The first of the pairs, in order of their slots, at which few enough wait; their number if none is found.
Result<std::size_t> first_enough(const Plan& plan, std::span<const GridCell* const> pairs,
                                 WaitSimulator& waits, Executor& executor) {
  std::size_t first = 0;  // that is not known to be too few
  std::size_t enough = pairs.size();
  for (std::size_t at = 0; at < pairs.size();) {  // 1, 2, 4, ... steps up, then halves
    const Result<double> here = waited_at(*pairs[at], waits, executor);
    if (!here) return fail(here.error());
    if (*here <= plan.max_wait_probability)
      enough = at;
    else
      first = at + 1;
    if (first == enough) break;
    at = enough == pairs.size() ? std::min(2 * at + 1, pairs.size() - 1) : first + (enough - first) / 2;
  }
  return enough;
}

}  // namespace

Floor floor_of(const Plan& plan, const ActiveAtArrival& activity) {
  Floor floor{plan.largest_request, SlotsBound::kLargestRequest};
  if (plan.active.known) {
    const auto above_mean = static_cast<std::uint32_t>(activity.active_mean()) + 1;
    for (const Floor other :
         {Floor{activity.active_quantile(1 - plan.max_wait_probability), SlotsBound::kQuantile},
          Floor{above_mean, SlotsBound::kMean}})
      if (other.slots > floor.slots) floor = other;
  }
  floor.slots = std::clamp(floor.slots, 1U, static_cast<std::uint32_t>(plan.adapters));
  return floor;
}

Result<Unit> fill_limits(Plan& plan) {
  const auto adapters = static_cast<std::uint32_t>(plan.adapters);
  std::uint64_t slots = adapters;
  if (plan.slot_bytes.value > 0) slots = std::min(slots, plan.gpu_memory_limit.value / plan.slot_bytes.value);
  if (slots == 0) {
    return fail(Errc::kTooLarge, fmt::format("one slot of rank {} takes {}, more than {}", plan.max_lora_rank,
                                             human_bytes(plan.slot_bytes), gpu_limit_text(plan)));
  }
  std::uint32_t host = adapters;
  if (plan.host_bytes_known)
    while (host > 0 && plan.host_bytes[host] > plan.host_memory_limit) --host;
  if (host == 0) {
    return fail(Errc::kTooLarge,
                fmt::format("the largest adapter takes {}, more than the {} of host memory given",
                            human_bytes(plan.host_bytes[1]), human_bytes(plan.host_memory_limit)));
  }
  plan.host_limit = host;
  plan.slots_limit = std::min(static_cast<std::uint32_t>(slots), host);
  plan.limit_from = plan.slots_limit == adapters ? SlotsBound::kEveryAdapter
                    : host < slots               ? SlotsBound::kHostMemory
                                                 : SlotsBound::kGpuMemory;
  const Floor floor = floor_of(plan, plan.activity);
  plan.slots_floor = floor.slots;
  plan.floor_from = floor.from;
  return Unit{};
}

Result<Unit> fill_grid(Plan& plan, const BatchStream& stream, Executor& executor) {
  const auto adapters = static_cast<std::uint32_t>(plan.adapters);
  // Only the lru/lru grid comes from one pass; the others pay a replay a cell.
  const bool one_pass = plan.tiers == "lru/lru" || plan.tiers == "lru";
  // Room above the floor: the simulation may ask for more.
  const std::uint32_t slots_last =
      std::max(std::min(adapters, kSlotsAxisMax), std::min(adapters, 2 * plan.slots_floor));
  const std::array<std::uint32_t, 3> slot_marks = {plan.slots_floor, std::min(plan.slots_limit, slots_last),
                                                   std::min(2 * plan.slots_floor, slots_last)};
  const auto slots = axis(one_pass ? kDenseAxis : 4, one_pass ? 8 : 2, slots_last, slot_marks);
  const std::array<std::uint32_t, 3> host_marks = {plan.host_limit, plan.slots_floor, adapters};
  const auto host = axis(one_pass ? kDenseAxis : 4, one_pass ? 8 : 2, adapters, host_marks);
  auto grid = sweep_grid(stream, plan.tiers, slots, host, executor);
  if (!grid) return fail(grid.error());
  plan.grid = std::move(*grid);
  if (slots_last < plan.slots_limit) plan.limit_from = SlotsBound::kAxisEnd;
  plan.slots_limit = std::min(plan.slots_limit, slots_last);
  return Unit{};
}

bool knows_the_future(const std::string& tiers) {
  const Result<TierPolicies> policies = parse_tier_policies(tiers);
  return policies && (is_clairvoyant(policies->device) || is_clairvoyant(policies->host));
}

bool meets_disk_target(const Plan& plan, const GridCell& cell) noexcept {
  return excess_disk_loads(plan, cell) <= plan.target_disk_loads;
}

void choose(Plan& plan) {
  const std::uint32_t floor = std::min(plan.slots_floor, plan.slots_limit);
  const GridCell* best = nullptr;
  for (std::size_t g = 0; g < plan.grid.max_loras.size(); ++g) {
    if (plan.grid.max_loras[g] < floor || plan.grid.max_loras[g] > plan.slots_limit) continue;
    const GridCell* candidate = candidate_at(plan, g);
    if (candidate != nullptr && (best == nullptr || better(plan, *candidate, *best))) best = candidate;
  }
  // The axes hold both limits and the floor, so at least one pair is left.
  plan.chosen = best != nullptr ? *best : plan.grid.cells.empty() ? GridCell{} : plan.grid.cells.front();
  plan.chosen_from = bound_of(plan);
  plan.verdict = plan.slots_floor > plan.slots_limit            ? PlanVerdict::kInfeasible
                 : best != nullptr && meets_target(plan, *best) ? PlanVerdict::kMeetsTarget
                                                                : PlanVerdict::kMissesTarget;
}

Result<Unit> raise_floor(Plan& plan, WaitSimulator& waits, Executor& executor) {
  for (;;) {
    const Result<double> waited = waited_at(plan.chosen, waits, executor);
    if (!waited) return fail(waited.error());
    plan.waited = *waited;
    if (*waited <= plan.max_wait_probability || plan.verdict == PlanVerdict::kInfeasible) return Unit{};
    std::vector<const GridCell*> larger;
    for (std::size_t g = 0; g < plan.grid.max_loras.size(); ++g) {
      const std::uint32_t slots = plan.grid.max_loras[g];
      if (slots <= plan.chosen.max_loras || slots > plan.slots_limit) continue;
      if (const GridCell* candidate = candidate_at(plan, g); candidate != nullptr)
        larger.push_back(candidate);
    }
    const Result<std::size_t> enough = first_enough(plan, larger, waits, executor);
    if (!enough) return fail(enough.error());
    plan.floor_from = SlotsBound::kSimulation;
    plan.slots_floor = *enough < larger.size() ? larger[*enough]->max_loras : plan.slots_limit + 1;
    choose(plan);
  }
}

Result<Unit> find_enough(Plan& plan, WaitSimulator* waits, Executor& executor) {
  if (plan.verdict == PlanVerdict::kMeetsTarget) return Unit{};
  // By cost, the SLO may be what nothing meets.
  if (plan.costs.choice.asked && plan.verdict != PlanVerdict::kInfeasible) return Unit{};
  const Grid& grid = plan.grid;
  std::vector<const GridCell*> pairs;
  for (std::size_t g = 0; g < grid.max_loras.size(); ++g) {
    if (grid.max_loras[g] < plan.slots_floor) continue;
    for (std::size_t c = 0; c < grid.max_cpu_loras.size(); ++c) {
      const GridCell& cell = grid.at(c, g);
      if (cell.max_cpu_loras < cell.max_loras || !meets_target(plan, cell)) continue;
      pairs.push_back(&cell);
      break;
    }
  }
  const Result<std::size_t> enough =
      waits == nullptr ? Result<std::size_t>(0) : first_enough(plan, pairs, *waits, executor);
  if (!enough) return fail(enough.error());
  if (*enough < pairs.size()) plan.enough = *pairs[*enough];
  return Unit{};
}

}  // namespace loracle::detail
