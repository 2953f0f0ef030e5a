#include "loracle/sim/compare_plans.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

namespace loracle {
namespace {

using nlohmann::json;

/// The least that is a plan.
json plan_of(std::uint32_t max_loras, double waited, double slot_load_s) {
  return {{"schema", "loracle.plan/1"},
          {"recommendation",
           {{"verdict", "meets_target"},
            {"max_loras", max_loras},
            {"max_cpu_loras", 200},
            {"max_lora_rank", 64},
            {"flags", "--max-loras " + std::to_string(max_loras)},
            {"waited", waited},
            {"gpu_hits", 45},
            {"traffic_limit", nullptr}}},
          {"options", {{"slot_load_s", slot_load_s}, {"tiers", "lru/lru"}}},
          {"trace", {{"requests", 100}, {"uses", 100}, {"span_s", 25.0}}},
          {"model", {{"name", "m"}, {"slot_bytes", 1U << 20U}}}};
}

PlanComparison compared(const json& before, const json& after) {
  Result<PlanComparison> comparison = compare_plans(before.dump(), "a.json", after.dump(), "b.json");
  EXPECT_TRUE(comparison) << comparison.error().message;
  return comparison ? std::move(*comparison) : PlanComparison();
}

// If this failed, a nightly check would cry wolf.
TEST(ComparePlans, APlanIsLikeItself) {
  const json plan = plan_of(28, 0.004, 0.008);
  const PlanComparison same = compared(plan, plan);
  EXPECT_TRUE(same.advice.empty() && same.effect.empty() && same.traffic.empty() && same.asked.empty());
  EXPECT_EQ(comparison_text(same, "a.json", "b.json"), "SAME ADVICE   a.json -> b.json\n  --max-loras 28\n");
}

// If this failed, an operator would not see that the price has changed, and not the traffic.
TEST(ComparePlans, SeesPricesAndObjective) {
  json before = plan_of(28, 0.004, 0.008);
  before["costs"] = {{"objective", "hits"},
                     {"currency", "USD"},
                     {"prices", {{"gpu_hour", {{"price_millionths", 4'000'000}, {"source", "a list"}}}}},
                     {"chosen", {{"total_millionths", 2'995'545'208}}}};
  json after = before;
  after["costs"]["objective"] = "cost";
  after["costs"]["prices"]["gpu_hour"]["price_millionths"] = 9'000'000;
  after["costs"]["chosen"]["total_millionths"] = 7'000'000'000;
  const PlanComparison found = compared(before, after);
  EXPECT_TRUE(found.advice.empty());
  ASSERT_EQ(found.effect.size(), 1U);
  EXPECT_EQ(found.effect[0].what, "cost a month");
  EXPECT_EQ(found.effect[0].after, "7,000");
  ASSERT_EQ(found.asked.size(), 2U);
  EXPECT_EQ(found.asked[0].what, "objective");
  EXPECT_EQ(found.asked[1].what, "price gpu_hour");
  EXPECT_EQ(found.asked[1].before, "4");
  EXPECT_EQ(found.asked[1].after, "9");
}

// If this failed, an operator would not see what to change, or why.
TEST(ComparePlans, SaysWhatDiffersAndByHowMuch) {
  json after = plan_of(32, 0.002, 0.016);
  after["trace"]["requests"] = 150;
  const PlanComparison found = compared(plan_of(28, 0.004, 0.008), after);
  ASSERT_EQ(found.advice.size(), 1U);
  EXPECT_EQ(found.advice[0].what, "--max-loras");
  EXPECT_EQ(found.advice[0].before, "28");
  EXPECT_EQ(found.advice[0].after, "32");
  EXPECT_EQ(found.advice[0].change, "+14.3 %");
  ASSERT_EQ(found.effect.size(), 2U);
  EXPECT_EQ(found.effect[0].what, "requests that wait");
  EXPECT_EQ(found.effect[0].after, "0.20 %");
  EXPECT_EQ(found.effect[0].change, "-0.2 points");
  EXPECT_EQ(found.effect[1].what, "GPU memory of the slots");
  EXPECT_EQ(found.effect[1].after, "32.0 MiB");
  ASSERT_EQ(found.traffic.size(), 2U);
  EXPECT_EQ(found.traffic[1].what, "requests a second");
  EXPECT_EQ(found.traffic[1].before, "4");
  EXPECT_EQ(found.traffic[1].after, "6");
  ASSERT_EQ(found.asked.size(), 1U);
  EXPECT_EQ(found.asked[0].what, "slot_load_s");
  EXPECT_EQ(found.flags, "--max-loras 32");
  const json written = json::parse(comparison_json(found, "a.json", "b.json"));
  EXPECT_EQ(written["schema"], "loracle.compare/1");
  EXPECT_EQ(written["same_advice"], false);
  EXPECT_EQ(written["advice"][0]["after"], "32");
}

// If this failed, plans of an older or newer loracle could not be compared with today's.
TEST(ComparePlans, WhatOnlyOneOfThemSaysIsShownAsMissing) {
  json after = plan_of(28, 0.004, 0.008);
  after["options"]["objective"] = "cost";
  after["recommendation"].erase("waited");
  after["recommendation"].erase("max_lora_rank");
  after["model"] = nullptr;
  const PlanComparison found = compared(plan_of(28, 0.004, 0.008), after);
  EXPECT_TRUE(found.advice.empty());
  ASSERT_GE(found.effect.size(), 1U);
  EXPECT_EQ(found.effect[0].after, "-");
  const auto objective = std::find_if(found.asked.begin(), found.asked.end(),
                                      [](const PlanDifference& row) { return row.what == "objective"; });
  ASSERT_NE(objective, found.asked.end());
  EXPECT_EQ(objective->before, "-");
  EXPECT_EQ(objective->after, "cost");
}

// If this failed, a wrong file would be compared as if it were a plan, or would end the process.
TEST(ComparePlans, RefusesWhatIsNoPlan) {
  const std::string plan = plan_of(1, 0, 0).dump();
  for (const char* const wrong : {"", "[]", "{", "{}", R"({"schema":7})", R"({"schema":"loracle.plan/1"})",
                                  R"({"schema":"loracle.plan/1","recommendation":[]})", "\xff\xfe"}) {
    const Result<PlanComparison> found = compare_plans(plan, "a.json", wrong, "b.json");
    ASSERT_FALSE(found) << wrong;
    EXPECT_EQ(found.error().code, Errc::kCorrupt) << wrong;
    EXPECT_EQ(found.error().message.find("b.json: "), 0U) << found.error().message;
  }
  const Result<PlanComparison> later =
      compare_plans(R"({"schema":"loracle.plan/2"})", "a.json", plan, "b.json");
  ASSERT_FALSE(later);
  EXPECT_EQ(later.error().code, Errc::kUnsupported);
  // Values of other types than a plan's are shown as they are.
  json odd = plan_of(1, 0, 0);
  odd["recommendation"]["max_loras"] = -1e300;
  odd["recommendation"]["waited"] = "often";
  odd["trace"] = 3;
  odd["options"] = "none";
  EXPECT_EQ(compared(json::parse(plan), odd).advice[0].after, "-1e+300");
}

}  // namespace
}  // namespace loracle
