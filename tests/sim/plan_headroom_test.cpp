// How far what a plan stands on may grow: a breakpoint that is off promises what the server cannot keep.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "loracle/sim/executor.hpp"
#include "loracle/sim/plan.hpp"
#include "loracle/traces/transform.hpp"
#include "plan_traces.hpp"

namespace loracle {
namespace {

using testing::cyclic_trace;
using testing::unwrapped;

Result<Plan> planned(const Trace& trace, const PlanOptions& options) {
  InlineExecutor executor;
  return make_plan(trace, options, executor);
}

/// No slot beyond the floor is worth it, no policies are compared.
PlanOptions floor_only() {
  PlanOptions options;
  options.slot_worth_time = 1;
  options.policies = {"lru"};
  return options;
}

TEST(PlanHeadroom, IsWhatAScanOfPlansFinds) {
  // The naive way: a plan at each traffic, and one with each number of adapters.
  PlanOptions options = floor_only();
  options.target_disk_loads = 1;  // the slots alone decide
  for (const std::uint64_t seed : {4U, 5U, 6U}) {
    const Trace trace = testing::skewed_trace(seed, 40, 1500, 2.0F + static_cast<float>(seed));
    const auto plan = planned(trace, options);
    ASSERT_TRUE(plan.has_value()) << plan.error().message;
    const auto holds_on = [&](const Trace& changed) {
      const auto other = planned(changed, options);
      return other.has_value() && other->slots_floor <= plan->chosen.max_loras;
    };
    double traffic = 1;
    while (traffic < 4 && holds_on(with_traffic(trace, traffic * 1.02))) traffic *= 1.02;
    // Where the simulation set the floor, what it would ask for elsewhere is reckoned with a margin.
    const double margin = plan->floor_from == SlotsBound::kSimulation ? 0.2 : 0.07;
    double adapters = 1;
    while (adapters < 4 && holds_on(with_more_adapters(trace, adapters * 1.02 - 1, 1))) adapters *= 1.02;
    for (const auto& [found, scanned] :
         {std::pair(plan->traffic_limit.limit, traffic), std::pair(plan->adapters_limit.limit, adapters)}) {
      EXPECT_LT(found / scanned, 1.12) << seed;
      EXPECT_GT(found / scanned, 1 - margin) << seed;
    }
    EXPECT_GE(plan->traffic_limit.limit, 1) << seed << ": it holds today";
    EXPECT_GT(plan->traffic_limit.slots_at_twice, plan->chosen.max_loras) << seed;
    EXPECT_GT(plan->adapters_limit.slots_at_twice, plan->chosen.max_loras) << seed;
  }
}

TEST(PlanHeadroom, SaysWithHowManyAdaptersThePairHolds) {
  // One request a second, each of the next of 12 adapters, holds its slot 2.5 s. Twice the adapters with
  // traffic of their own put five in use where three are, and no more than 12 fit host memory.
  PlanOptions options = floor_only();
  const auto plan = planned(cyclic_trace(12, 600, 2.5F), options);
  ASSERT_TRUE(plan.has_value()) << plan.error().message;
  ASSERT_EQ(plan->chosen.max_loras, 3U);
  const Breakpoint& limit = plan->adapters_limit;
  EXPECT_GE(limit.limit, 1);
  EXPECT_LT(limit.limit, 1.3);
  EXPECT_EQ(limit.most, 4);
  EXPECT_TRUE(limit.too_many_wait);
  EXPECT_TRUE(limit.off_target);
  EXPECT_EQ(limit.slots_at_twice, 5U) << "doubles come half a second after";
  const nlohmann::json json = nlohmann::json::parse(plan_json(*plan));
  EXPECT_EQ(json.at("recommendation").at("adapters_limit"), limit.limit);
  EXPECT_EQ(json.at("recommendation").at("slots_at_twice_the_adapters"), 5);
  EXPECT_EQ(json.at("recommendation").at("traffic_limit_by"), "waits");
}

TEST(PlanHeadroom, IsOpenWhereNothingBreaks) {
  // Twelve adapters of which two ever run at once, and slots for all.
  PlanOptions options;
  options.policies = {"lru"};
  options.slot_load_s = 10;  // slots for all are worth it
  options.target_disk_loads = 1;
  const auto plan = planned(cyclic_trace(12, 600, 0.001F), options);
  ASSERT_TRUE(plan.has_value()) << plan.error().message;
  EXPECT_EQ(plan->adapters_limit.limit, plan->adapters_limit.most);
  EXPECT_NE(unwrapped(plan_text(*plan)).find("times the adapters, the most looked at"), std::string::npos);
  EXPECT_TRUE(nlohmann::json::parse(plan_json(*plan)).at("recommendation").at("adapters_limit_by").is_null());
}

TEST(PlanHeadroom, IsNoneWhereThePairDoesNotHoldToday) {
  PlanOptions options = floor_only();
  options.model = "llama-3.1-8b";
  options.gpu_memory = Bytes{200'000'000};  // two slots; three are in use
  const auto plan = planned(cyclic_trace(12, 600, 2.5F), options);
  ASSERT_TRUE(plan.has_value()) << plan.error().message;
  EXPECT_EQ(plan->verdict, PlanVerdict::kInfeasible);
  EXPECT_EQ(plan->adapters_limit.limit, 0);
  EXPECT_TRUE(plan->adapters_limit.too_many_wait);
  EXPECT_LT(plan->traffic_limit.limit, 1);
}

TEST(PlanHeadroom, PromisesNoMoreThanASimulationThatSetTheFloor) {
  // Every request loads for 0.6 s before it holds its slot 2.5 s: durations alone ask for three slots, the
  // simulation for more. At the limit that is promised, few may wait; the durations alone would promise more.
  PlanOptions options = floor_only();
  options.slot_load_s = 0.6;
  const Trace trace = cyclic_trace(12, 100, 2.5F);
  const auto plan = planned(trace, options);
  ASSERT_TRUE(plan.has_value()) << plan.error().message;
  ASSERT_EQ(plan->floor_from, SlotsBound::kSimulation);
  ASSERT_GT(plan->chosen.max_loras, 3U);
  const auto there = planned(with_traffic(trace, plan->traffic_limit.limit), options);
  ASSERT_TRUE(there.has_value());
  EXPECT_LE(there->slots_floor, plan->chosen.max_loras) << plan->traffic_limit.limit;
}

TEST(PlanHeadroom, WhatDoesNotFitHasNoSlotForEveryAdapter) {
  PlanOptions options = floor_only();
  options.model = "llama-3.1-8b";
  options.gpu_memory = Bytes{200'000'000};  // two slots, and three adapters that are always in use
  const auto plan = planned(cyclic_trace(3, 600, 2.9F), options);
  ASSERT_TRUE(plan.has_value()) << plan.error().message;
  EXPECT_EQ(plan->verdict, PlanVerdict::kInfeasible);
  EXPECT_EQ(plan_text(*plan).find("every one has a slot"), std::string::npos);
}

}  // namespace
}  // namespace loracle
