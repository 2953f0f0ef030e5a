#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "loracle/sim/plan.hpp"
#include "loracle/sim/report.hpp"
#include "plan_traces.hpp"
#include "regime_traces.hpp"

namespace loracle {
namespace {

using testing::regime_week;
using testing::RegimeLaw;
using testing::skewed_trace;

Plan planned(const Trace& trace, const std::string& tiers = "lru/lru") {
  PlanOptions options;
  options.tiers = tiers;
  options.policies = {"lru", "belady"};
  options.what_ifs = false;
  InlineExecutor executor;
  auto plan = make_plan(trace, options, executor);
  EXPECT_TRUE(plan.has_value()) << plan.error().message;
  return plan ? std::move(*plan) : Plan{};
}

/// The first `requests` of a week.
Trace beginning_of(Trace week, std::uint64_t requests) {
  week.requests = requests;
  week.uses = week.uses.first(requests);
  week.arrival_s = week.arrival_s.first(requests);
  week.duration_s = week.duration_s.first(requests);
  return week;
}

void expect_around(const nlohmann::json& figure) {
  EXPECT_LT(figure["interval"]["low"], figure["share"]);
  EXPECT_GT(figure["interval"]["high"], figure["share"]);
  EXPECT_GE(figure["interval"]["blocks"], 8);
}

// If this fails, the plan's figures stand without their uncertainty, or with that of other figures.
TEST(PlanCertainty, AWeekOfRegimesHasIntervalsInEveryOutput) {
  const Plan plan = planned(regime_week(RegimeLaw::kFixedLength, 3).trace);
  EXPECT_NEAR(static_cast<double>(plan.certainty.regimes), 168, 10);
  EXPECT_NEAR(plan.certainty.regime_s, 3600, 700);
  EXPECT_EQ(plan.certainty.changes.size() + 1, plan.certainty.regimes);
  const auto json = nlohmann::json::parse(plan_json(plan))["certainty"];
  for (const char* figure : {"misses", "waited"}) {
    expect_around(json[figure]);
    EXPECT_EQ(json[figure]["interval"]["confidence"], 0.95) << figure;
  }
  const std::string text = plan_text(plan);
  EXPECT_NE(text.find("TRUST     [low, high]: 95 % confidence"), std::string::npos) << text;
  EXPECT_NE(text.find(" % ["), std::string::npos);
  EXPECT_NE(plan_html(plan).find("95 % confidence"), std::string::npos);
}

// If this fails, a plan on tiers that are not simulated shows the intervals of those that are.
TEST(PlanCertainty, TiersThatAreNotSimulatedAreReplayed) {
  Trace week = beginning_of(regime_week(RegimeLaw::kFixedLength, 4).trace, 20'000);
  for (const bool has_times : {true, false}) {
    if (!has_times) {
      week.arrival_s = {};
      week.duration_s = {};
    }
    const Plan plan = planned(week, "vllm");
    const auto json = nlohmann::json::parse(plan_json(plan))["certainty"];
    EXPECT_EQ(json["misses"]["share"],
              static_cast<double>(plan.chosen.host_to_device_loads) / static_cast<double>(plan.uses));
    expect_around(json["misses"]);
    EXPECT_EQ(json["waited"].is_null(), !has_times);
    EXPECT_EQ(json["regime_s"].is_null(), !has_times);
  }
}

// If this fails, an interval is printed where there is no evidence for one.
TEST(PlanCertainty, TooLittleEvidenceIsSaidToBe) {
  const Plan few = planned(beginning_of(regime_week(RegimeLaw::kFixedLength, 5).trace, 20'000));
  EXPECT_EQ(few.certainty.misses.confidence, 0);
  EXPECT_EQ(few.certainty.misses.blocks, kBlocksMin);
  EXPECT_NE(plan_text(few).find("TRUST     Not enough data: "), std::string::npos) << plan_text(few);
  EXPECT_NE(plan_text(few).find("regimes of popularity"), std::string::npos);
  const auto json = nlohmann::json::parse(plan_json(few))["certainty"]["misses"]["interval"];
  EXPECT_TRUE(json["confidence"].is_null());
  EXPECT_LT(json["low"], json["high"]);

  const Plan constant = planned(skewed_trace(6, 60, 5000));
  EXPECT_EQ(constant.certainty.regimes, 1U);
  EXPECT_NE(plan_text(constant).find("popularity does not change"), std::string::npos);

  const Plan tiny = planned(skewed_trace(7, 60, 300));
  EXPECT_EQ(tiny.certainty.regimes, 0U);
  EXPECT_NE(plan_text(tiny).find("too few requests"), std::string::npos);
  EXPECT_TRUE(nlohmann::json::parse(plan_json(tiny))["certainty"]["misses"]["interval"].is_null());
}

}  // namespace
}  // namespace loracle
