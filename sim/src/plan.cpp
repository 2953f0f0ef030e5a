#include "loracle/sim/plan.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <iterator>
#include <limits>
#include <optional>
#include <utility>

#include "chart_data.hpp"
#include "loracle/core/parse_bytes.hpp"
#include "loracle/policy/policy_spec.hpp"
#include "loracle/sim/advice.hpp"
#include "loracle/sim/curves.hpp"
#include "loracle/sim/tier_replay.hpp"
#include "plan_bounds.hpp"
#include "plan_certainty.hpp"
#include "plan_evidence.hpp"
#include "plan_format.hpp"
#include "plan_load_times.hpp"
#include "plan_money.hpp"
#include "plan_waits.hpp"
#include "plan_what_if.hpp"
#include "running.hpp"

namespace loracle {
namespace {

using detail::counted;
using detail::share_text;

constexpr std::uint32_t kDefaultRank = 16;    // vLLM's
constexpr std::uint32_t kDenseAxis = 64;      // every size up to here
constexpr std::uint32_t kSlotsAxisMax = 256;  // beyond, only if the floor asks for it
// Of more requests than this the durations must be known: each that is not counts as holding no slot, and a
// share of them as large as what may wait would hide as many.
constexpr double kUnknownDurationsMax = 0.01;

Result<Unit> check_options(const PlanOptions& options) {
  if (!(options.target_disk_loads >= 0 && options.target_disk_loads <= 1))
    return fail(Errc::kInvalid, "the target for disk loads must be a share from 0 to 1 of the uses");
  if (!(options.max_wait_probability >= 0 && options.max_wait_probability < 1))
    return fail(Errc::kInvalid, "the share of requests that may wait must be from 0 to below 1");
  if (!(options.slot_worth >= 0 && options.slot_worth_time >= 0 && options.slot_load_s >= 0 &&
        options.disk_load_s >= 0))
    return fail(Errc::kInvalid, "what a slot must save, and what a load takes, must be 0 or more");
  if (options.current_max_loras == 0 && options.current_max_cpu_loras > 0)
    return fail(Errc::kInvalid,
                "today's host memory alone says nothing: give today's slots too, vLLM's default is 1");
  if (options.current_max_cpu_loras > 0 && options.current_max_cpu_loras < options.current_max_loras)
    return fail(Errc::kInvalid,
                fmt::format("today's {} adapters in host memory are fewer than the {} slots, which vLLM "
                            "refuses: what is in a slot is there too",
                            options.current_max_cpu_loras, options.current_max_loras));
  if (options.model.empty() && options.gpu_memory != Bytes::max())
    return fail(
        Errc::kInvalid,
        "a limit on GPU memory needs the model: give its name or config.json, so that a slot can be sized");
  return check_cost_options(options.costs, !options.model.empty());
}

std::string adapter_name(const Trace& trace, std::size_t row) {
  return row < trace.adapters.name.size() ? std::string(trace.adapters.name[row]) : fmt::format("#{}", row);
}

std::uint16_t rank_of(const Trace& trace, std::size_t row) {
  return row < trace.adapters.rank.size() ? trace.adapters.rank[row] : std::uint16_t{0};
}

/// max_lora_rank, and whether trace or option said so.
Result<Unit> fill_rank(Plan& plan, const Trace& trace, const PlanOptions& options) {
  std::size_t largest = 0;
  for (std::size_t row = 0; row < trace.adapters.rank.size(); ++row)
    if (rank_of(trace, row) > rank_of(trace, largest)) largest = row;
  const std::uint32_t known = rank_of(trace, largest);
  plan.rank_known = known > 0;

  const auto ranks = vllm_lora_ranks();
  if (known > ranks.back()) {
    return fail(Errc::kInvalid, fmt::format("adapter '{}' has rank {}; vLLM accepts at most {}",
                                            adapter_name(trace, largest), known, ranks.back()));
  }
  if (options.max_lora_rank == 0) {
    plan.max_lora_rank = plan.rank_known ? vllm_lora_rank_for(known) : kDefaultRank;
    return Unit{};
  }
  if (std::find(ranks.begin(), ranks.end(), options.max_lora_rank) == ranks.end()) {
    return fail(Errc::kInvalid,
                fmt::format("vLLM does not accept max_lora_rank {}: use {}", options.max_lora_rank,
                            fmt::join(ranks.begin(), ranks.end(), ", ")));
  }
  if (options.max_lora_rank < known) {
    return fail(
        Errc::kInvalid,
        fmt::format("max_lora_rank {} is below rank {} of adapter '{}': use {} or more",
                    options.max_lora_rank, known, adapter_name(trace, largest), vllm_lora_rank_for(known)));
  }
  plan.max_lora_rank = options.max_lora_rank;
  plan.rank_given = true;
  return Unit{};
}

/// [rows] as they are served; 0: not used, or unknown.
std::vector<Bytes> adapter_sizes(const Plan& plan, const Trace& trace, const UseStream& stream) {
  std::vector<bool> used(stream.rows, false);
  for (const Row row : stream.uses.view()) used[index_of(row)] = true;
  std::vector<Bytes> sizes(stream.rows, Bytes{0});
  for (std::size_t row = 0; row < used.size(); ++row) {
    if (!used[row]) continue;
    const std::uint16_t rank = rank_of(trace, row);
    const std::uint64_t stored = row < trace.adapters.bytes.size() ? trace.adapters.bytes[row] : 0;
    if (plan.has_model && rank > 0)
      sizes[row] = lora_bytes(plan.modules, rank, plan.element_bytes);
    else if (stored > 0)
      sizes[row] = Bytes{stored};
    else if (plan.has_model)
      sizes[row] = plan.slot_bytes;
  }
  return sizes;
}

/// Slot bytes, and the host bytes of the i largest adapters that are used.
Result<Unit> fill_memory(Plan& plan, const Trace& trace, const UseStream& stream,
                         const PlanOptions& options) {
  const auto element = dtype_bytes(options.dtype);
  if (!element) return fail(element.error());
  plan.element_bytes = *element;
  if (!options.model.empty()) {
    auto model = load_model_geometry(options.model);
    if (!model) return fail(model.error());
    auto modules = target_modules(*model, options.targets);
    if (!modules) return fail(modules.error());
    plan.has_model = true;
    plan.model = std::move(*model);
    plan.modules = std::move(*modules);
    plan.slot_bytes = lora_bytes(plan.modules, plan.max_lora_rank, plan.element_bytes);
  }

  std::vector<Bytes> sizes = adapter_sizes(plan, trace, stream);
  std::erase(sizes, Bytes{0});
  plan.host_bytes_known = sizes.size() == plan.adapters;
  if (!plan.host_bytes_known) {
    if (options.host_memory == Bytes::max()) return Unit{};
    return fail(Errc::kInvalid,
                "a limit on host memory needs the size of the adapters: the trace does not have it, so give "
                "the model");
  }
  std::sort(sizes.begin(), sizes.end(), std::greater<>());
  plan.host_bytes.push_back(Bytes{0});
  for (const Bytes size : sizes) plan.host_bytes.push_back(plan.host_bytes.back() + size);
  return Unit{};
}

struct Floor {
  std::uint32_t slots = 1;
  SlotsBound from = SlotsBound::kLargestRequest;
};

/// Slots for the largest request, for most requests' adapters in use, and for more than those in use on
/// average. Of equal ones the first named is what binds.
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

/// How many slots and how many adapters in host memory fit the limits; not more than there are adapters.
Result<Unit> fill_limits(Plan& plan) {
  const auto adapters = static_cast<std::uint32_t>(plan.adapters);
  std::uint64_t slots = adapters;
  if (plan.slot_bytes.value > 0) slots = std::min(slots, plan.gpu_memory_limit.value / plan.slot_bytes.value);
  if (slots == 0) {
    return fail(Errc::kTooLarge, fmt::format("one slot of rank {} takes {}, more than the {} given for LoRA",
                                             plan.max_lora_rank, human_bytes(plan.slot_bytes),
                                             human_bytes(plan.gpu_memory_limit)));
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

/// Grids of clairvoyant tiers read the stream's next uses; an unknown policy is the grid's to refuse.
bool knows_the_future(const std::string& tiers) {
  const Result<TierPolicies> policies = parse_tier_policies(tiers);
  return policies && (is_clairvoyant(policies->device) || is_clairvoyant(policies->host));
}

bool meets_disk_target(const Plan& plan, const GridCell& cell) noexcept {
  return excess_disk_loads(plan, cell) <= plan.target_disk_loads;
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

/// Rules 1-4, with the floor as it stands.
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

/// Rule 5: raises the floor until few enough wait at the chosen pair, or says that no slots that fit do.
Result<Unit> raise_floor(Plan& plan, detail::WaitSimulator& waits, Executor& executor) {
  const auto waited_at = [&](const GridCell& pair) -> Result<double> {
    if (auto done = waits.simulate({&pair, 1}, executor); !done) return fail(std::move(done.error()));
    return waits.waited(pair);
  };
  for (;;) {
    const Result<double> waited = waited_at(plan.chosen);
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
    std::size_t first = 0;  // that is not known to be too few
    std::size_t enough = larger.size();
    for (std::size_t at = 0; at < larger.size();) {  // 1, 2, 4, ... steps up, then halves
      const Result<double> here = waited_at(*larger[at]);
      if (!here) return fail(here.error());
      if (*here <= plan.max_wait_probability)
        enough = at;
      else
        first = at + 1;
      if (first == enough) break;
      at = enough == larger.size() ? std::min(2 * at + 1, larger.size() - 1) : first + (enough - first) / 2;
    }
    plan.floor_from = SlotsBound::kSimulation;
    plan.slots_floor = enough < larger.size() ? larger[enough]->max_loras : plan.slots_limit + 1;
    choose(plan);
  }
}

std::string slots_reason(const Plan& plan) {
  const std::uint32_t slots = plan.chosen.max_loras;
  const std::string may_wait = share_text(plan.max_wait_probability);
  switch (plan.chosen_from) {
    case SlotsBound::kEveryAdapter:
      return "every adapter has a slot";
    case SlotsBound::kGpuMemory:
      return fmt::format("{} are all that fit {}", counted(slots, "slot"),
                         human_bytes(plan.gpu_memory_limit));
    case SlotsBound::kHostMemory:
      return fmt::format("no more than {} fit host memory of {}, where those in slots are too",
                         counted(slots, "adapter"), human_bytes(plan.host_memory_limit));
    case SlotsBound::kAxisEnd:
      return fmt::format("{} are the most that were looked at", counted(slots, "slot"));
    case SlotsBound::kLargestRequest:
      return fmt::format("the largest request needs {} adapters at once", slots);
    case SlotsBound::kQuantile:
      return fmt::format(
          "with fewer than {} slots, more than {} of requests find more adapters in use than there are "
          "slots, "
          "and wait",
          slots, may_wait);
    case SlotsBound::kMean:
      return fmt::format(
          "with fewer than {} slots there are no more than the {:.3g} adapters in use on average, "
          "and requests pile up",
          slots, plan.active.mean);
    case SlotsBound::kSimulation:
      return fmt::format("simulated, with the next fewer slots more than {} of requests wait for one",
                         may_wait);
    case SlotsBound::kCost:  // has sentences of its own
    case SlotsBound::kWorth:
      break;
  }
  if (plan.span_s > 0)
    return fmt::format("past {} one more saves less than {} of the server's time", counted(slots, "slot"),
                       share_text(plan.slot_worth_time));
  return fmt::format("past {} one more saves fewer than {:.3g} loads per 100 uses", counted(slots, "slot"),
                     plan.slot_worth * 100);
}

/// Why no slots within the limits will do.
std::string infeasible_reason(const Plan& plan) {
  const std::string fit =
      plan.limit_from == SlotsBound::kHostMemory
          ? fmt::format("{} fit host memory of {}", counted(plan.host_limit, "adapter"),
                        human_bytes(plan.host_memory_limit))
          : fmt::format("{} fit {}", counted(plan.slots_limit, "slot"), human_bytes(plan.gpu_memory_limit));
  if (plan.floor_from == SlotsBound::kSimulation)
    return fmt::format("Simulated, even {} leave {} of requests waiting for one (at most {} may).",
                       counted(plan.slots_limit, "slot"), share_text(plan.waited),
                       share_text(plan.max_wait_probability));
  if (plan.floor_from == SlotsBound::kLargestRequest)
    return fmt::format("The largest request needs {} adapters at once, but only {}: it will be refused.",
                       plan.slots_floor, fit);
  if (plan.floor_from == SlotsBound::kMean)
    return fmt::format(
        "{:.3g} adapters are in use on average, but only {}: requests will pile up, whatever "
        "the hit ratio says.",
        plan.active.mean, fit);
  return fmt::format(
      "More than {} of requests find {} adapters or more in use, their own included ({:.3g} on average), but "
      "only {}: requests will wait for a slot, whatever the hit ratio says.",
      share_text(plan.max_wait_probability), plan.slots_floor, plan.active.mean, fit);
}

std::string reason_of(const Plan& plan) {
  if (plan.costs.choice.asked) return detail::cost_reason(plan);
  const std::string excess = share_text(excess_disk_loads(plan, plan.chosen));
  const std::string target = share_text(plan.target_disk_loads);
  const std::string kept = counted(plan.chosen.max_cpu_loras, "adapter");
  switch (plan.verdict) {
    case PlanVerdict::kInfeasible:
      if (meets_disk_target(plan, plan.chosen)) return infeasible_reason(plan);
      return fmt::format(
          "{} And if requests held nothing, disk loads beyond first uses would still be {} of uses (target "
          "{}), with {} in host memory.",
          infeasible_reason(plan), excess, target, kept);
    case PlanVerdict::kMissesTarget:
      return fmt::format(
          "No size within the limits keeps disk loads beyond first uses within {} of uses; {} in host memory "
          "come "
          "nearest with {}, and {}.",
          target, kept, excess, slots_reason(plan));
    case PlanVerdict::kMeetsTarget:
      break;
  }
  return fmt::format("{} in host memory keep disk loads beyond first uses at {} of uses (target {}), and {}.",
                     kept, excess, target, slots_reason(plan));
}

AdvisoryRow advisory_row(const Plan& plan, const GridCell& cell) {
  AdvisoryRow row;
  row.cell = cell;
  row.served = cell;
  row.slot_memory = Bytes{plan.slot_bytes.value * cell.max_loras};
  if (plan.host_bytes_known)
    row.host_memory = plan.host_bytes[std::min<std::size_t>(cell.max_cpu_loras, plan.host_bytes.size() - 1)];
  if (plan.active.known)
    row.wait_probability = static_cast<double>(plan.activity.waits(cell.max_loras)) /
                           static_cast<double>(plan.activity.requests);
  row.chosen = cell == plan.chosen;
  row.below_floor = cell.max_loras < plan.slots_floor;
  row.over_limit = row.slot_memory > plan.gpu_memory_limit || row.host_memory > plan.host_memory_limit;
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
void set_waits(const Plan& plan, const detail::WaitSimulator& waits, AdvisoryRow& row) {
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

/// What requests wait for at each slot count of the table.
Result<Unit> fill_waits(Plan& plan, detail::WaitSimulator& waits, Executor& executor) {
  std::vector<GridCell> pairs;
  for (const AdvisoryRow& row : plan.by_slots) pairs.push_back(row.cell);
  if (auto done = waits.simulate(pairs, executor); !done) return fail(std::move(done.error()));
  for (AdvisoryRow& row : plan.by_slots) set_waits(plan, waits, row);
  return Unit{};
}

/// Today's setting, as a row like those of the tables. `waits` is null where durations are not known.
Result<Unit> fill_current(Plan& plan, const PlanOptions& options, const BatchStream& stream,
                          detail::WaitSimulator* waits, Executor& executor) {
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
  current.row.over_limit =
      current.row.slot_memory > plan.gpu_memory_limit || current.row.host_memory > plan.host_memory_limit;
  for (auto* rows : {&plan.by_slots, &plan.by_host})
    for (AdvisoryRow& row : *rows) row.current = row.cell == current.row.cell;
  if (waits == nullptr) return Unit{};
  if (auto done = waits->simulate({&current.row.cell, 1}, executor); !done)
    return fail(std::move(done.error()));
  set_waits(plan, *waits, current.row);
  return Unit{};
}

/// Up to which traffic the chosen slots meet the floor, and the floor at twice the traffic.
Result<Unit> fill_headroom(Plan& plan, const Trace& trace, const BatchStream& stream, Executor& executor) {
  if (!plan.active.known) return Unit{};
  constexpr int kOctaves = 4;  // to either side
  constexpr int kSteps = 2;    // an octave
  constexpr int kFiner = 8;    // a step
  const auto floors_at = [&](const std::vector<double>& traffic) -> Result<std::vector<std::uint32_t>> {
    std::vector<Result<std::uint32_t>> floors(traffic.size(), fail(Errc::kInvalid, "not computed"));
    executor.run(traffic.size(), [&](std::size_t i) {
      const Result<ActiveAtArrival> activity = active_at_arrival(trace, stream, traffic[i]);
      // What the simulation found at this traffic holds at more of it.
      const std::uint32_t known =
          plan.floor_from == SlotsBound::kSimulation && traffic[i] >= 1 ? plan.slots_floor : 1;
      floors[i] = activity ? Result<std::uint32_t>(std::max(floor_of(plan, *activity).slots, known))
                           : fail(activity.error());
    });
    std::vector<std::uint32_t> all;
    for (const Result<std::uint32_t>& floor : floors) {
      if (!floor) return fail(floor.error());
      all.push_back(*floor);
    }
    return all;
  };
  const auto last_met = [&](const std::vector<std::uint32_t>& floors) {
    return std::find_if(floors.begin(), floors.end(),
                        [&](std::uint32_t floor) { return floor > plan.chosen.max_loras; }) -
           floors.begin() - 1;
  };
  std::vector<double> traffic;
  for (int step = -kOctaves * kSteps; step <= kOctaves * kSteps; ++step)
    traffic.push_back(std::exp2(static_cast<double>(step) / kSteps));
  Result<std::vector<std::uint32_t>> floors = floors_at(traffic);
  if (!floors) return fail(std::move(floors.error()));
  plan.slots_at_twice = (*floors)[static_cast<std::size_t>(kOctaves + 1) * kSteps];
  const std::ptrdiff_t met = last_met(*floors);
  plan.traffic_limit = met < 0 ? 0 : traffic[static_cast<std::size_t>(met)];
  if (met < 0 || met + 1 == std::ssize(traffic)) return Unit{};
  std::vector<double> finer;
  for (int step = 1; step < kFiner; ++step)
    finer.push_back(plan.traffic_limit * std::exp2(static_cast<double>(step) / (kSteps * kFiner)));
  floors = floors_at(finer);
  if (!floors) return fail(std::move(floors.error()));
  if (const std::ptrdiff_t more = last_met(*floors); more >= 0)
    plan.traffic_limit = finer[static_cast<std::size_t>(more)];
  return Unit{};
}

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

/// Of the requests with an adapter that have a duration; < 0 if there is none.
double median_duration_s(const Trace& trace, const BatchStream& stream) {
  std::vector<float> known;
  if (trace.duration_s.empty()) return -1;
  for (std::uint64_t i = 0; i < stream.requests(); ++i)
    if (const float lasts = trace.duration_s[stream.origin[i]]; detail::holds(lasts)) known.push_back(lasts);
  if (known.empty()) return -1;
  const auto middle = known.begin() + std::ssize(known) / 2;
  std::nth_element(known.begin(), middle, known.end());
  return static_cast<double>(*middle);
}

Result<Unit> fill_trace(Plan& plan, const Trace& trace, const BatchStream& stream) {
  plan.source = trace.source;
  plan.format = trace.format;
  plan.mapping = trace.mapping;
  plan.requests = trace.requests;
  plan.skipped_lines = trace.skipped_lines;
  plan.requests_with_adapter = stream.requests();
  for (std::uint64_t i = 0; i < stream.requests(); ++i)
    if (stream.batch(i).size() > 1) ++plan.requests_with_several;
  plan.largest_request = stream.batch_max;
  plan.uses = stream.uses.uses.size();
  if (!trace.arrival_s.empty()) {
    const double first = trace.arrival_s[0];
    plan.span_s = trace.arrival_s[trace.arrival_s.size() - 1] - first;
    plan.has_whole_arrivals = true;
    for (std::size_t i = 0; i < trace.arrival_s.size() && plan.has_whole_arrivals; ++i)
      plan.has_whole_arrivals = std::floor(trace.arrival_s[i] - first) == trace.arrival_s[i] - first;
  }
  plan.duration_median_s = median_duration_s(trace, stream);
  if (!has_activity(trace)) return Unit{};
  Result<ActivityCurve> activity = activity_curve(trace, stream);
  if (!activity) return fail(std::move(activity.error()));
  plan.unknown_durations = activity->unknown_durations;
  if (static_cast<double>(plan.unknown_durations) >
      kUnknownDurationsMax * static_cast<double>(plan.requests_with_adapter))
    return Unit{};
  plan.active = {true,
                 activity->active_mean(),
                 activity->active_quantile(0.5),
                 activity->active_quantile(0.99),
                 activity->active_quantile(0.999),
                 static_cast<std::uint32_t>(activity->arrivals_at.size() - 1)};
  plan.activity = std::move(*activity);
  return Unit{};
}

}  // namespace

const char* name_of(PlanVerdict verdict) noexcept {
  switch (verdict) {
    case PlanVerdict::kMeetsTarget:
      return "meets_target";
    case PlanVerdict::kMissesTarget:
      return "misses_target";
    case PlanVerdict::kInfeasible:
      break;
  }
  return "infeasible";
}

const char* name_of(SlotsBound bound) noexcept {
  switch (bound) {
    case SlotsBound::kLargestRequest:
      return "largest_request";
    case SlotsBound::kQuantile:
      return "quantile";
    case SlotsBound::kMean:
      return "mean";
    case SlotsBound::kSimulation:
      return "simulation";
    case SlotsBound::kWorth:
      return "worth";
    case SlotsBound::kGpuMemory:
      return "gpu_memory";
    case SlotsBound::kHostMemory:
      return "host_memory";
    case SlotsBound::kAxisEnd:
      return "axis_end";
    case SlotsBound::kCost:
      return "cost";
    case SlotsBound::kEveryAdapter:
      break;
  }
  return "every_adapter";
}

double excess_disk_loads(const Plan& plan, const GridCell& cell) noexcept {
  const std::uint64_t excess = cell.disk_loads > plan.adapters ? cell.disk_loads - plan.adapters : 0;
  return plan.uses == 0 ? 0.0 : static_cast<double>(excess) / static_cast<double>(plan.uses);
}

bool meets_target(const Plan& plan, const GridCell& cell) noexcept {
  return cell.refused == 0 && meets_disk_target(plan, cell);
}

Result<Plan> make_plan(const Trace& trace, const PlanOptions& options, Executor& executor) {
  const auto checked = check_options(options);
  if (!checked) return fail(checked.error());
  auto stream = make_batch_stream(trace, NextUses::kUnknown);
  if (!stream) return fail(stream.error());
  if (stream->requests() == 0)
    return fail(Errc::kInvalid,
                fmt::format("{}: no request names an adapter; choose a mapping", trace.source));

  Plan plan;
  plan.trace_note = options.trace_note;
  plan.reproduce = options.reproduce;
  plan.targets = options.targets;
  plan.dtype = options.dtype;
  plan.tiers = options.tiers;
  plan.gpu_memory_limit = options.gpu_memory;
  plan.host_memory_limit = options.host_memory;
  plan.target_disk_loads = options.target_disk_loads;
  plan.max_wait_probability = options.max_wait_probability;
  plan.slot_worth_time = options.slot_worth_time;
  plan.slot_worth = options.slot_worth;
  plan.cost_options = options.costs;
  if (const auto filled = fill_trace(plan, trace, *stream); !filled) return fail(filled.error());
  const LruCurve lru = lru_curve(stream->uses);
  plan.adapters = lru.compulsory_misses;

  if (knows_the_future(plan.tiers)) compute_next_uses(stream->uses);

  using Step = std::function<Result<Unit>()>;
  const std::array<Step, 5> steps = {
      [&] { return fill_rank(plan, trace, options); },
      [&] { return fill_memory(plan, trace, stream->uses, options); },
      [&] { return detail::fill_plan_memory(plan, trace, stream->uses); },
      [&] { return fill_limits(plan); },
      [&] { return fill_grid(plan, *stream, executor); },
  };
  for (const Step& step : steps)
    if (const auto done = step(); !done) return fail(done.error());
  detail::fill_load_times(plan, trace, adapter_sizes(plan, trace, stream->uses), options);

  choose(plan);
  std::optional<detail::WaitSimulator> waits;
  if (plan.active.known) {
    waits.emplace(plan, trace, *stream);
    const auto chosen = options.costs.objective == Objective::kCost
                            ? detail::choose_by_cost(plan, *stream, *waits, executor)
                            : raise_floor(plan, *waits, executor);
    if (!chosen) return fail(chosen.error());
  } else if (options.costs.objective == Objective::kCost) {
    return fail(
        Errc::kInvalid,
        fmt::format("{}: --objective cost must know how long requests wait, and the trace has no arrival "
                    "times and durations (arrival_s, duration_s) for all but 1 % of them",
                    trace.source));
  }
  plan.flags = fmt::format("--enable-lora --max-loras {} --max-cpu-loras {} --max-lora-rank {}",
                           plan.chosen.max_loras, plan.chosen.max_cpu_loras, plan.max_lora_rank);
  plan.reason = reason_of(plan);
  if (const auto known = fill_headroom(plan, trace, *stream, executor); !known) return fail(known.error());
  fill_advisory(plan);
  if (waits) {
    if (const auto filled = fill_waits(plan, *waits, executor); !filled) return fail(filled.error());
    if (const auto asked = detail::fill_what_ifs(plan, trace, *stream, waits->at(plan.chosen), executor);
        !asked)
      return fail(asked.error());
  }

  if (const auto judged = fill_current(plan, options, *stream, waits ? &*waits : nullptr, executor); !judged)
    return fail(judged.error());
  detail::fill_costs(plan);

  const EventOutcome* const simulated = waits ? &waits->at(plan.chosen) : nullptr;
  if (const auto filled =
          detail::fill_certainty(plan, trace, *stream, simulated, waits && waits->of_plan_tiers());
      !filled)
    return fail(filled.error());

  const std::array<std::uint32_t, 1> slots = {plan.chosen.max_loras};
  const std::array<std::uint32_t, 1> host = {plan.chosen.max_cpu_loras};
  const auto vllm = sweep_grid(*stream, "vllm", slots, host, executor);
  if (!vllm) return fail(vllm.error());
  plan.vllm = vllm->at(0, 0);

  const auto compared = detail::fill_policies(plan, stream->uses, lru, options.policies, executor);
  if (!compared) return fail(compared.error());
  const auto bounded =
      detail::fill_bounds(plan, stream->uses, adapter_sizes(plan, trace, stream->uses), executor);
  if (!bounded) return fail(bounded.error());
  plan.popularity = detail::popularity_ranks(stream->uses);
  plan.distances = detail::distance_bins(lru);
  const auto windows = detail::fill_working_set(plan, trace, stream->uses);
  if (!windows) return fail(windows.error());
  if (const auto filled =
          detail::fill_chart_data(plan, trace, *stream, adapter_sizes(plan, trace, stream->uses), executor);
      !filled)
    return fail(filled.error());
  detail::fill_caveats(plan);
  return plan;
}

}  // namespace loracle
