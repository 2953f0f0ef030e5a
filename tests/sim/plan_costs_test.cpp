#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "loracle/sim/engine_knobs.hpp"
#include "loracle/sim/event_sim.hpp"
#include "loracle/sim/plan.hpp"
#include "loracle/sim/regimes.hpp"
#include "loracle/sim/report.hpp"
#include "plan_traces.hpp"

namespace loracle {
namespace {

using testing::cyclic_trace;
using testing::skewed_trace;
using testing::trace_of;

constexpr std::uint64_t kGib = 1ULL << 30U;
constexpr std::uint64_t kSlot = 83'886'080;  // llama-3.1-8b at rank 16

Prices prices_of(const std::string& gpu_hour = "4") {
  const auto prices = parse_prices(
      R"({"schema": "loracle.prices/1", "currency": "USD", "source": "list, 2026-09",
          "prices": {"gpu_hour": )" +
          gpu_hour +
          R"(, "host_gib_month": 2.5, "disk_gib_month": 0.08, "egress_gib": 0.09, "gets_1000": 0.0004}})",
      "p.json");
  EXPECT_TRUE(prices.has_value());
  return prices.value_or(Prices{});
}

/// 32 GiB for KV cache and slots.
PlanOptions priced_options() {
  PlanOptions options;
  options.model = "llama-3.1-8b";
  options.policies = {"lru", "belady"};
  options.what_ifs = false;
  options.costs.prices = prices_of();
  options.costs.gpu_memory = Bytes{80 * kGib};
  options.costs.gpu_utilization = 0.5;
  options.costs.model_weights = Bytes{8 * kGib};
  return options;
}

Result<Plan> planned(const Trace& trace, const PlanOptions& options) {
  InlineExecutor executor;
  return make_plan(trace, options, executor);
}

std::string error_of(const Trace& trace, const PlanOptions& options) {
  const auto plan = planned(trace, options);
  return plan ? "" : plan.error().message;
}

TEST(PlanCosts, WarnsWhereSlotsLeaveTheCacheLittle) {
  // A plan would meet every target of adapters, on a server that has no room left for requests.
  const Trace trace = cyclic_trace(12, 600, 2.5F);
  PlanOptions options = priced_options();
  options.slot_worth_time = 1;
  for (const auto& [pool, slots_take_most] : {std::pair(kGib, false), {5 * kSlot, true}}) {
    options.costs.gpu_memory = Bytes{2 * (8 * kGib + pool)};
    const auto plan = planned(trace, options);
    ASSERT_TRUE(plan.has_value()) << plan.error().message;
    ASSERT_EQ(plan->chosen.max_loras, 3U);
    const bool warned =
        std::any_of(plan->cautions.begin(), plan->cautions.end(), [](const std::string& text) {
          return text.starts_with(
              "The slots take 60.0 % of the memory that the KV cache would have without them");
        });
    EXPECT_EQ(warned, slots_take_most) << pool;
  }
}

TEST(PlanCosts, WarnsWhereVllmPinsMoreThanIsGiven) {
  // Whoever pastes the flags would run the host out of memory.
  for (const std::uint64_t per_adapter : {kSlot, 90 * kSlot / 80}) {
    PlanOptions options = priced_options();
    options.host_memory = Bytes{10 * per_adapter};
    const auto plan = planned(cyclic_trace(10, 100), options);
    ASSERT_TRUE(plan.has_value()) << plan.error().message;
    ASSERT_EQ(plan->chosen.max_cpu_loras, 10U);
    const std::string text = plan_text(*plan);
    EXPECT_EQ(text.find("CAUTION   vLLM pins up to 860.0 MiB") != std::string::npos, per_adapter == kSlot)
        << text;
  }
}

TEST(PlanCosts, NamesTheWayOutByCostToo) {
  // With the cost objective an operator would read that no slots are enough, and without it how many are.
  const Trace trace = cyclic_trace(12, 600, 2.5F);
  PlanOptions options = priced_options();
  options.gpu_memory = Bytes{2 * kSlot};
  const auto by_hits = planned(trace, options);
  options.costs.objective = Objective::kCost;
  const auto by_cost = planned(trace, options);
  ASSERT_TRUE(by_hits && by_cost);
  ASSERT_EQ(by_cost->verdict, PlanVerdict::kInfeasible);
  ASSERT_TRUE(by_cost->enough.has_value());
  EXPECT_EQ(*by_cost->enough, *by_hits->enough);
  EXPECT_NE(plan_text(*by_cost).find("simulated (cost and"), std::string::npos) << plan_text(*by_cost);
}

// If this fails, the plan prices something else than what it advises.
TEST(PlanCosts, AnAdviceAsPricedByHand) {
  // Ten adapters in turn, 1,000 requests over 999 s: ten slots, ten in host memory, ten first loads.
  // gpu       4.00 x 730                                                     = 2,920.000000
  // kv_cache  slots 10 x 80 MiB = 0.78125 GiB of 32: x 0.78125 / 31.21875 = x 25 / 999 =    73.073073
  // loading   2,993.073073 x (10 x 8 ms = 0.08 s) / (999 - 0.08)             =     0.239705  (.2397047 up)
  // host      10 x 86 MiB pinned = 0.83984375 GiB x 2.50                     =     2.099609  (.375 down)
  // disk      10 x 80 MiB = 0.78125 GiB x 0.08                               =     0.062500
  // egress    each adapter once: 0.78125 GiB x 0.09                          =     0.070313  (.5 up)
  // gets      10 x 2 x 0.0004 / 1,000                                        =     0.000008
  // total                                                                    = 2,995.545208
  PlanOptions options = priced_options();
  options.current_max_loras = 5;
  options.current_max_cpu_loras = 10;
  const auto plan = planned(cyclic_trace(10, 100), options);
  ASSERT_TRUE(plan.has_value()) << plan.error().message;
  ASSERT_EQ(plan->chosen.max_loras, 10U);
  ASSERT_EQ(plan->chosen.max_cpu_loras, 10U);
  const auto json = nlohmann::json::parse(plan_json(*plan));
  const nlohmann::json& cost = json["costs"]["chosen"];
  EXPECT_EQ(cost["lines_millionths"],
            nlohmann::json::parse(R"({"gpu": 2920000000, "kv_cache": 73073073, "loading": 239705,
                                      "host": 2099609, "disk": 62500, "egress": 70313, "gets": 8})"));
  EXPECT_EQ(cost["total_millionths"], 2'995'545'208U);
  EXPECT_TRUE(cost["complete"]);
  // Five slots miss every use of a cycle of ten: 1,000 loads of 8 ms.
  // kv_cache 2,920 x 0.390625 / 31.609375 = 36.084... ; loading of 8 s in 999.
  const nlohmann::json& today = json["costs"]["today"];
  EXPECT_EQ(today["host_to_device_loads"], 1000);
  const double rent = 2920 * 32 / (32 - 0.390625) * 999 / (999 - 8);
  EXPECT_NEAR(today["cost"]["total_millionths"].get<double>() / 1e6, rent + 2.099609 + 0.0625 + 0.070321,
              2e-5);
  const std::string text = plan_text(*plan);
  EXPECT_NE(text.find("COST      2,995.55 USD a month"), std::string::npos) << text;
  EXPECT_NE(text.find("gpu_hour 4.00 USD (list, 2026-09)"), std::string::npos) << text;
  EXPECT_NE(text.find("gpu_hour 20 % lower or higher"), std::string::npos) << text;
  EXPECT_NE(plan_html(*plan).find("2,995.55 USD"), std::string::npos);
  const nlohmann::json& memory = json["memory"];
  EXPECT_EQ(memory["kv_tokens_per_slot"], 640);
  EXPECT_EQ(memory["kv_tokens_lost"], 6400);
  EXPECT_DOUBLE_EQ(memory["kv_share_lost"].get<double>(), 0.78125 / 32);
  EXPECT_EQ(memory["pinned_bytes"], 860U << 20U);
  EXPECT_EQ(memory["disk_bytes"], 10 * kSlot);
}

// If this fails, the two prices that matter are others, or their effect is.
TEST(PlanCosts, SensitivityIsOfTheTwoLargestPrices) {
  const auto plan = planned(cyclic_trace(10, 100), priced_options());
  ASSERT_TRUE(plan.has_value()) << plan.error().message;
  ASSERT_EQ(plan->costs.sensitivities.size(), 2U);
  EXPECT_EQ(plan->costs.sensitivities[0].input, PriceInput::kGpuHour);
  EXPECT_EQ(plan->costs.sensitivities[1].input, PriceInput::kHostGibMonth);
  // 4.00 -> 4.80 moves the first three lines by a fifth: 2,993.312778 x 0.2.
  EXPECT_NEAR(static_cast<double>(plan->costs.sensitivities[0].more.value), 2'995'545'208 + 598'662'556, 3);
  EXPECT_NEAR(static_cast<double>(plan->costs.sensitivities[0].less.value), 2'995'545'208 - 598'662'556, 3);
}

// If this fails, a plan without prices shows money, or one without the GPU's memory a share it cannot know.
TEST(PlanCosts, WithoutPricesThereIsNoMoney) {
  PlanOptions options = priced_options();
  options.costs.prices.reset();
  options.costs.gpu_memory = Bytes{};
  const auto plan = planned(cyclic_trace(10, 100), options);
  ASSERT_TRUE(plan.has_value()) << plan.error().message;
  const std::string text = plan_text(*plan);
  EXPECT_EQ(text.find("USD"), std::string::npos);
  EXPECT_NE(text.find("COST      unknown without prices: --prices FILE"), std::string::npos) << text;
  EXPECT_NE(text.find("--gpu-memory.\n"), std::string::npos) << text;
  const auto json = nlohmann::json::parse(plan_json(*plan));
  EXPECT_TRUE(json["costs"]["chosen"].is_null());
  EXPECT_TRUE(json["memory"]["kv_share_lost"].is_null());
  EXPECT_EQ(json["memory"]["kv_tokens_per_slot"], 640);
}

// If this fails, a row of the tables does not cost what its own figures say.
TEST(PlanCosts, EveryRowIsPricedAlike) {
  const auto plan = planned(skewed_trace(3, 40, 3000, 2.0F), priced_options());
  ASSERT_TRUE(plan.has_value()) << plan.error().message;
  std::uint64_t chosen = 0;
  for (const auto* rows : {&plan->by_slots, &plan->by_host}) {
    for (const AdvisoryRow& row : *rows) {
      ASSERT_TRUE(row.cost.has_value());
      EXPECT_EQ(row.cost->of(CostItem::kKvCache).amount.value,
                scaled(2'920'000'000, row.cell.max_loras * kSlot, 32 * kGib - row.cell.max_loras * kSlot));
      if (row.chosen) {
        EXPECT_EQ(row.cost->total, plan->costs.chosen.total);
      }
      chosen += row.chosen ? 1 : 0;
    }
  }
  EXPECT_GE(chosen, 1U);
}

/// What a pair does, found anew: its cost and whether it meets the constraints.
struct Candidate {
  Money total{};
  bool impossible = false;
  bool met = false;
};

class ByCost : public ::testing::Test {
 protected:
  Trace trace_ = skewed_trace(5, 14, 3000, 1.5F);

  PlanOptions options() {
    PlanOptions made = priced_options();
    made.costs.objective = Objective::kCost;
    made.target_disk_loads = 0.05;
    made.max_wait_probability = 0.02;
    made.costs.slo_s = 0.2;
    made.costs.max_slo_misses = 0.05;
    return made;
  }

  Candidate judged(const Plan& plan, const GridCell& cell, const PlanOptions& options) {
    MonthlyUse use;
    const std::uint64_t beyond = cell.disk_loads - plan.adapters;
    use.slots = Bytes{kSlot * cell.max_loras};
    use.kv_pool = Bytes{32 * kGib};
    use.span_us = 2'999'000'000;
    use.loading_us = cell.host_to_device_loads * 8'000 + beyond * 100'000;
    use.host = Bytes{(86ULL << 20U) * cell.max_cpu_loras};
    use.disk = Bytes{kSlot * plan.adapters};
    use.loads = *scaled(beyond, 730ULL * 3600, 2999) + plan.adapters;
    use.loaded = Bytes{kSlot * *use.loads};
    const MonthlyCost cost = monthly_cost(*options.costs.prices, use);

    const auto stream = make_batch_stream(trace_, NextUses::kUnknown);
    EventOptions event;
    event.tiers.tiers = "lru/lru";
    event.tiers.max_loras = cell.max_loras;
    event.tiers.max_cpu_loras = cell.max_cpu_loras;
    event.tiers.stretches = stretches_for(stream->requests());
    event.max_num_seqs = std::numeric_limits<std::uint32_t>::max();
    event.slot.latency_s = 0.008;
    event.disk.latency_s = 0.1;
    event.late_s = options.costs.slo_s;
    const auto outcome = simulate_events(trace_, *stream, event);
    EXPECT_TRUE(outcome.has_value());
    std::vector<std::uint64_t> requests;
    std::vector<std::uint64_t> waited;
    std::vector<std::uint64_t> late;
    for (const StretchCounts& stretch : outcome->stretches) {
      requests.push_back(stretch.requests);
      waited.push_back(stretch.waited_for_slot);
      late.push_back(stretch.late);
    }
    const double block_min = kBlockRegimes * find_regimes(*stream).length_mean();
    const auto upper = [&](const std::vector<std::uint64_t>& part, std::uint64_t total) {
      const Interval interval = block_interval(part, requests, block_min);
      return interval.confidence > 0 ? interval.high
                                     : static_cast<double>(total) / static_cast<double>(outcome->requests);
    };
    return {cost.total, cost.impossible,
            upper(waited, outcome->waited_for_slot) <= options.max_wait_probability &&
                upper(late, outcome->late) <= options.costs.max_slo_misses};
  }
};

// If this fails, there is a cheaper pair that meets everything, or the advice meets not all of it.
TEST_F(ByCost, NoPairThatMeetsEverythingIsCheaper) {
  for (const char* gpu_hour : {"0.01", "4"}) {  // where host memory, or the GPU, decides
    PlanOptions asked = options();
    asked.costs.prices = prices_of(gpu_hour);
    const auto plan = planned(trace_, asked);
    ASSERT_TRUE(plan.has_value()) << plan.error().message;
    ASSERT_EQ(plan->verdict, PlanVerdict::kMeetsTarget) << plan->reason;
    EXPECT_EQ(plan->costs.choice.binding, Constraint::kNone);
    const Candidate chosen = judged(*plan, plan->chosen, asked);
    EXPECT_TRUE(chosen.met);
    EXPECT_EQ(chosen.total, plan->costs.chosen.total);
    std::uint64_t looked_at = 0;
    std::uint64_t met = 0;
    for (const GridCell& cell : plan->grid.cells) {
      if (!cell.feasible || cell.max_cpu_loras < cell.max_loras || cell.max_loras < plan->slots_floor ||
          !meets_target(*plan, cell))
        continue;
      ++looked_at;
      const Candidate other = judged(*plan, cell, asked);
      if (other.impossible || !other.met) continue;
      ++met;
      EXPECT_GE(other.total, chosen.total)
          << cell.max_loras << '/' << cell.max_cpu_loras << " is cheaper than " << plan->flags;
    }
    EXPECT_EQ(plan->costs.choice.options, looked_at);
    EXPECT_GT(met, 1U);
  }
}

// If this fails, constraints are relaxed in silence, or nobody learns which of them bound.
TEST_F(ByCost, SaysWhatBindsWhereNothingWillDo) {
  const auto binding = [&](const PlanOptions& asked, PlanVerdict verdict, const std::string& words) {
    const auto plan = planned(trace_, asked);
    EXPECT_TRUE(plan.has_value()) << plan.error().message;
    if (!plan) return std::string();
    EXPECT_EQ(plan->verdict, verdict) << plan->reason;
    EXPECT_NE(plan->reason.find(words), std::string::npos) << plan->reason;
    EXPECT_NE(plan->reason.find("earest"), std::string::npos) << plan->reason;
    const auto json = nlohmann::json::parse(plan_json(*plan));
    EXPECT_EQ(json["recommendation"]["verdict"], name_of(verdict));
    return json["costs"]["choice"]["binding"].get<std::string>();
  };
  PlanOptions asked = options();
  asked.costs.slo_s = 0.001;  // a slot load alone takes 8 ms
  asked.costs.max_slo_misses = 0;
  EXPECT_EQ(binding(asked, PlanVerdict::kMissesTarget, "The SLO binds"), "slo");

  asked = options();
  asked.gpu_memory = Bytes{kSlot};
  EXPECT_EQ(binding(asked, PlanVerdict::kInfeasible, "GPU memory binds"), "gpu_memory");

  asked = options();
  asked.target_disk_loads = 0;
  asked.max_wait_probability = 0.5;
  asked.host_memory = Bytes{kSlot * 8};
  EXPECT_EQ(binding(asked, PlanVerdict::kMissesTarget, "target of disk loads binds"), "disk_target");

  asked = options();
  asked.slot_load_s = 60;  // of a load, in a second between requests
  asked.costs.slo_s = 1e9;
  asked.gpu_memory = Bytes{kSlot * 6};
  EXPECT_EQ(binding(asked, PlanVerdict::kMissesTarget, "nothing is left"), "nothing_left");
}

// If this fails, the objective is taken without what it stands on, and a guess is sold as the cheapest.
TEST_F(ByCost, AsksForWhatItNeeds) {
  PlanOptions asked = options();
  asked.costs.prices.reset();
  EXPECT_NE(error_of(trace_, asked).find("--prices"), std::string::npos);
  asked = options();
  asked.costs.prices->all[static_cast<std::size_t>(PriceInput::kHostGibMonth)].known = false;
  EXPECT_NE(error_of(trace_, asked).find("host_gib_month"), std::string::npos);
  asked = options();
  asked.costs.gpu_memory = Bytes{};
  EXPECT_NE(error_of(trace_, asked).find("--gpu-memory"), std::string::npos);
  asked = options();
  asked.costs.objective = Objective::kHits;
  EXPECT_NE(error_of(trace_, asked).find("--objective cost"), std::string::npos);
  EXPECT_NE(error_of(skewed_trace(5, 14, 3000), options()).find("duration_s"), std::string::npos);
  asked = options();
  asked.costs.model_weights = Bytes{60 * kGib};
  EXPECT_NE(error_of(trace_, asked).find("--model-weights"), std::string::npos);
  asked = options();
  asked.costs.engines = {"sglnag"};
  EXPECT_NE(error_of(trace_, asked).find("did you mean 'sglang'"), std::string::npos);
}

// If this fails, what is counted as late is not what was delayed for longer.
TEST(PlanCosts, LateIsWhoIsDelayedForLonger) {
  // Two adapters in turn, two slots: the first request of each waits 108 ms, nobody else waits.
  const Trace trace = cyclic_trace(2, 50, 0.5F);
  EventOptions options;
  options.tiers.max_loras = 2;
  options.tiers.max_cpu_loras = 2;
  options.tiers.tiers = "lru/lru";
  options.slot.latency_s = 0.008;
  options.disk.latency_s = 0.1;
  for (const auto& [late_s, late] : {std::pair(0.1, 2U), {0.12, 0U}, {0.0, 2U}}) {
    options.late_s = late_s;
    const auto outcome = simulate_events(trace, options);
    ASSERT_TRUE(outcome.has_value()) << outcome.error().message;
    EXPECT_EQ(outcome->late, late) << late_s;
  }
}

// If this fails, another engine is told other sizes than the advice.
TEST(EngineKnobs, EveryEngineIsToldTheAdviceInItsOwnUnits) {
  std::vector<std::vector<std::uint32_t>> requests;
  for (std::uint32_t i = 0; i < 1000; ++i) requests.push_back({i % 10});
  for (std::uint32_t i = 0; i < 10; ++i) requests.emplace_back();  // of the base model
  const auto plan = planned(trace_of(requests), priced_options());
  ASSERT_TRUE(plan.has_value()) << plan.error().message;
  ASSERT_EQ(plan->flags, "--enable-lora --max-loras 10 --max-cpu-loras 10 --max-lora-rank 16");
  const auto engines = nlohmann::json::parse(plan_json(*plan))["engines"];
  ASSERT_EQ(engines.size(), 4U);
  EXPECT_EQ(engines[0]["settings"],
            "--enable-lora --max-loras-per-batch 11 --max-loaded-loras 11 --max-lora-rank 16");
  // Rows of the cache: rank 16 x 7 modules x 32 layers, for ten adapters.
  EXPECT_EQ(engines[1]["values"]["num_device_module_layer"], "35840");
  EXPECT_EQ(engines[1]["values"]["max_cpu_loras"], "10");
  EXPECT_EQ(engines[2]["values"]["--adapter-memory-fraction"], "0.0098") << "0.78125 of 80 GiB, rounded up";
  EXPECT_NE(engines[2]["notes"].dump().find("no max_cpu_loras"), std::string::npos);
  EXPECT_EQ(engines[3]["settings"], "NIM_MAX_GPU_LORAS=10 NIM_MAX_CPU_LORAS=10 NIM_MAX_LORA_RANK=16");

  const std::string text = plan_text(*plan);
  EXPECT_EQ(text.find("--max-loras"), text.find("--max-loras 10")) << "the first that is named";
  EXPECT_NE(text.find("ENGINES   sglang:"), std::string::npos) << text;
  PlanOptions some = priced_options();
  some.costs.engines = {"nim"};
  const auto narrowed = planned(trace_of(requests), some);
  ASSERT_TRUE(narrowed.has_value());
  EXPECT_NE(plan_text(*narrowed).find("ENGINES   nim:"), std::string::npos);
  EXPECT_EQ(plan_text(*narrowed).find("sglang"), std::string::npos);
}

// If this fails, the mixture of ranks in the report is not the trace's.
TEST(PlanCosts, RanksAreTheTraces) {
  Trace trace = cyclic_trace(4, 100);
  trace.adapters.rank = Column<std::uint16_t>(std::vector<std::uint16_t>{8, 64, 8, 16});
  const auto plan = planned(trace, priced_options());
  ASSERT_TRUE(plan.has_value()) << plan.error().message;
  ASSERT_EQ(plan->memory.ranks.size(), 3U);
  EXPECT_EQ(plan->memory.ranks[0].rank, 8U);
  EXPECT_EQ(plan->memory.ranks[0].adapters, 2U);
  EXPECT_EQ(plan->memory.ranks[0].uses, 200U);
  EXPECT_EQ(plan->memory.disk.value, kSlot / 16 * (8 + 64 + 8 + 16));
  EXPECT_NE(plan_text(*plan).find("Ranks in the trace: 2 of 8 (50.0 % of uses)"), std::string::npos)
      << plan_text(*plan);
}

}  // namespace
}  // namespace loracle
