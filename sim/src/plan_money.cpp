#include "plan_money.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <map>
#include <utility>

#include "loracle/core/nearest.hpp"
#include "loracle/core/parse_bytes.hpp"
#include "loracle/sim/engine_knobs.hpp"
#include "plan_sentences.hpp"
#include "plan_sizes.hpp"

namespace loracle {
namespace {

constexpr std::uint64_t kMicroseconds = 1'000'000;
constexpr std::uint64_t kMonthUs = kMonthHours * 3600 * kMicroseconds;

std::uint64_t microseconds(double seconds) {
  return static_cast<std::uint64_t>(std::llround(seconds * static_cast<double>(kMicroseconds)));
}

std::uint32_t rank_of(const Trace& trace, std::size_t row) {
  return row < trace.adapters.rank.size() ? trace.adapters.rank[row] : std::uint32_t{0};
}

/// What vLLM pins for each used adapter; a stored size stands where neither rank nor rounding is known.
std::vector<Bytes> pinned_sizes(const Plan& plan, const Trace& trace,
                                const std::vector<std::uint64_t>& uses) {
  std::map<std::uint32_t, Bytes> by_rank;
  std::vector<Bytes> sizes;
  for (std::size_t row = 0; row < uses.size(); ++row) {
    if (uses[row] == 0) continue;
    const std::uint32_t rank = rank_of(trace, row);
    const std::uint64_t stored = row < trace.adapters.bytes.size() ? trace.adapters.bytes[row] : 0;
    if (rank == 0 && stored > 0) {
      sizes.push_back(Bytes{stored});
      continue;
    }
    Bytes& size = by_rank[rank > 0 ? rank : plan.max_lora_rank];
    if (size.value == 0)
      size = pinned_bytes(plan.modules, rank > 0 ? rank : plan.max_lora_rank, plan.element_bytes);
    sizes.push_back(size);
  }
  std::sort(sizes.begin(), sizes.end(), std::greater<>());
  return sizes;
}

/// GPU memory that is left for KV cache and slots.
Result<Unit> fill_pool(Plan& plan) {
  const CostOptions& options = plan.cost_options;
  PlanMemory& memory = plan.memory;
  const Result<std::uint32_t> element = kv_dtype_bytes(options.kv_dtype);
  if (!element) return fail(element.error());
  if (!plan.has_model) return Unit{};
  constexpr std::uint32_t kWeightBytes = 2;
  memory.kv_token = kv_token_bytes(plan.model, *element);
  memory.weights =
      options.model_weights.value > 0 ? options.model_weights : weight_bytes(plan.model, kWeightBytes);
  if (options.gpu_memory.value == 0) return Unit{};
  const auto usable = static_cast<std::uint64_t>(
      std::floor(static_cast<double>(options.gpu_memory.value) * options.gpu_utilization));
  if (usable <= memory.weights.value)
    return fail(
        Errc::kTooLarge,
        fmt::format("--gpu-memory {} x {:g} leaves nothing beside {} of model weights: give the memory "
                    "of all GPUs of a server together, or --model-weights where they are quantised",
                    human_bytes(options.gpu_memory), options.gpu_utilization, human_bytes(memory.weights)));
  memory.kv_pool = Bytes{usable - memory.weights.value};
  plan.gpu_memory_limit = std::min(plan.gpu_memory_limit, memory.kv_pool);
  return Unit{};
}

/// With the loads that the page shows: simulated, where slots in use are not evicted. By cost the choice was
/// made among cells of the grid, and is priced as these.
GridCell priced_cell(const Plan& plan, const AdvisoryRow& row) {
  GridCell cell = row.cell;
  if (!row.simulated || plan.costs.choice.asked) return cell;
  cell.disk_loads = row.served.disk_loads;
  cell.host_to_device_loads = row.served.host_to_device_loads;
  return cell;
}

GridCell priced_choice(const Plan& plan) {
  const AdvisoryRow* const row = detail::row_of_choice(plan);
  return row != nullptr ? priced_cell(plan, *row) : plan.chosen;
}

/// The two prices with the largest parts of the total, and what it is with each of them changed.
void fill_sensitivities(Plan& plan, const Prices& prices) {
  std::vector<Sensitivity> all;
  for (std::size_t i = 0; i < kPriceInputs; ++i) {
    const auto input = static_cast<PriceInput>(i);
    if (const Money part = plan.costs.chosen.of(input); part.value > 0) all.push_back({input, part});
  }
  std::stable_sort(all.begin(), all.end(),
                   [](const Sensitivity& a, const Sensitivity& b) { return a.part > b.part; });
  if (all.size() > 2) all.resize(2);
  for (Sensitivity& one : all) {
    const Prices less = with_price(prices, one.input, 100 - kSensitivityPercent);
    const Prices more = with_price(prices, one.input, 100 + kSensitivityPercent);
    const MonthlyUse use = detail::use_of(plan, priced_choice(plan));
    one.less = monthly_cost(less, use).total;
    one.more = monthly_cost(more, use).total;
    if (!plan.costs.today) continue;
    const MonthlyUse today = detail::use_of(plan, plan.costs.today->cell);
    one.today_less = monthly_cost(less, today).total;
    one.today_more = monthly_cost(more, today).total;
  }
  plan.costs.sensitivities = std::move(all);
}

Result<Unit> check_objective(const CostOptions& options) {
  const bool has_slo = std::isfinite(options.slo_s);
  if (options.objective == Objective::kHits) {
    if (!has_slo) return Unit{};
    return fail(Errc::kInvalid, "--slo is a constraint of --objective cost: give both, and --prices");
  }
  if (!options.prices)
    return fail(Errc::kInvalid, "--objective cost needs prices: --prices FILE (sim/README.md shows one)");
  for (const PriceInput input : {PriceInput::kGpuHour, PriceInput::kHostGibMonth})
    if (!options.prices->of(input).known)
      return fail(
          Errc::kInvalid,
          fmt::format("{}: --objective cost needs the price '{}', or slots and host memory would seem "
                      "to be free: add it to 'prices'",
                      options.prices->file, name_of(input)));
  if (options.gpu_memory.value == 0)
    return fail(Errc::kInvalid,
                "--objective cost needs what a slot costs: give --model and --gpu-memory (80GiB)");
  return Unit{};
}

}  // namespace

const char* name_of(Objective objective) noexcept { return objective == Objective::kCost ? "cost" : "hits"; }

const char* name_of(Constraint constraint) noexcept {
  switch (constraint) {
    case Constraint::kGpuMemory:
      return "gpu_memory";
    case Constraint::kHostMemory:
      return "host_memory";
    case Constraint::kDiskTarget:
      return "disk_target";
    case Constraint::kNothingLeft:
      return "nothing_left";
    case Constraint::kWaits:
      return "waits";
    case Constraint::kSlo:
      return "slo";
    case Constraint::kSearch:
      return "search";
    case Constraint::kNone:
      break;
  }
  return "none";
}

Result<Unit> check_cost_options(const CostOptions& options, bool has_model) {
  if (!(options.slo_s > 0)) return fail(Errc::kInvalid, "an SLO is longer than 0 seconds");
  if (!(options.max_slo_misses >= 0 && options.max_slo_misses < 1))
    return fail(Errc::kInvalid, "the share of requests that may miss the SLO must be from 0 to below 1");
  if (!(options.gpu_utilization > 0 && options.gpu_utilization <= 1))
    return fail(Errc::kInvalid, "the share of GPU memory that vLLM uses must be above 0 and at most 1");
  if (options.gpu_memory.value > 0 && !has_model)
    return fail(Errc::kInvalid, "--gpu-memory needs --model, so that weights and slots can be sized");
  const auto engines = engine_names();
  for (const std::string& engine : options.engines)
    if (std::find(engines.begin(), engines.end(), engine) == engines.end())
      return fail(Errc::kNotFound, unknown_name_message("engine", engine, engines));
  return check_objective(options);
}

namespace detail {

Result<Unit> fill_plan_memory(Plan& plan, const Trace& trace, const UseStream& stream) {
  std::vector<std::uint64_t> uses(stream.rows, 0);
  for (const Row row : stream.uses.view()) ++uses[index_of(row)];
  std::map<std::uint32_t, RankShare> ranks;
  for (std::size_t row = 0; row < uses.size(); ++row) {
    if (uses[row] == 0) continue;
    RankShare& share = ranks[rank_of(trace, row)];
    share.rank = rank_of(trace, row);
    ++share.adapters;
    share.uses += uses[row];
  }
  for (const auto& [rank, share] : ranks) plan.memory.ranks.push_back(share);
  if (plan.host_bytes_known) {
    plan.memory.disk = plan.host_bytes.back();
    if (plan.has_model) {
      plan.memory.pinned.push_back(Bytes{0});
      for (const Bytes size : pinned_sizes(plan, trace, uses))
        plan.memory.pinned.push_back(plan.memory.pinned.back() + size);
    }
  }
  return fill_pool(plan);
}

Bytes server_memory(const Plan& plan, Bytes pool) noexcept {
  const auto usable = static_cast<double>(pool.value + plan.memory.weights.value);
  return Bytes{static_cast<std::uint64_t>(std::ceil(usable / plan.cost_options.gpu_utilization))};
}

MonthlyUse use_of(const Plan& plan, const GridCell& cell) {
  MonthlyUse use;
  use.kv_pool = plan.memory.kv_pool;
  if (plan.slot_bytes.value > 0) use.slots = Bytes{plan.slot_bytes.value * cell.max_loras};
  if (plan.host_bytes_known) {
    use.host = largest_together(plan.memory.pinned.empty() ? plan.host_bytes : plan.memory.pinned,
                                cell.max_cpu_loras);
    use.disk = plan.memory.disk;
  }
  if (!(plan.span_s > 0)) return use;
  const std::uint64_t beyond_first = cell.disk_loads > plan.adapters ? cell.disk_loads - plan.adapters : 0;
  use.span_us = std::max<std::uint64_t>(microseconds(plan.span_s), 1);
  use.loading_us = cell.host_to_device_loads * microseconds(plan.slot_load_s) +
                   beyond_first * microseconds(plan.disk_load_s);
  const std::optional<std::uint64_t> monthly = scaled(beyond_first, kMonthUs, use.span_us);
  if (!monthly) return use;
  use.loads = *monthly + plan.adapters;
  if (plan.host_bytes_known)
    if (const auto loaded = scaled(*use.loads, plan.memory.disk.value, plan.adapters))
      use.loaded = Bytes{*loaded};
  return use;
}

Bytes pinned_memory(const Plan& plan) noexcept {
  return largest_together(plan.memory.pinned, plan.chosen.max_cpu_loras);
}

void fill_costs(Plan& plan) {
  if (!plan.cost_options.prices) return;
  const Prices& prices = *plan.cost_options.prices;
  for (std::vector<AdvisoryRow>* rows : {&plan.by_slots, &plan.by_host})
    for (AdvisoryRow& row : *rows) row.cost = monthly_cost(prices, use_of(plan, priced_cell(plan, row)));
  plan.costs.chosen = monthly_cost(prices, use_of(plan, priced_choice(plan)));
  if (plan.current.known) {
    GridCell cell = priced_cell(plan, plan.current.row);
    cell.max_loras = plan.current.max_loras;  // what is not needed is paid for too
    cell.max_cpu_loras = plan.current.max_cpu_loras;
    plan.current.row.cost = monthly_cost(prices, use_of(plan, cell));
    plan.costs.today = TodayCost{cell, plan.current.row.waited, *plan.current.row.cost};
  }
  fill_sensitivities(plan, prices);
}

}  // namespace detail
}  // namespace loracle
