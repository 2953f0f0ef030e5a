// How far what a plan stands on may grow: a breakpoint that is off promises what the server cannot keep.
#include "plan_headroom.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "loracle/core/rng.hpp"
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

TEST(Bisect, FindsWhatAScanFinds) {
  Rng rng(5);
  for (int round = 0; round < 200; ++round) {
    const double edge = std::exp2(rng.uniform() * 8 - 4);  // holds up to here
    const auto found = detail::bisect(1.0 / 16, 16, 1.01, [edge](const std::vector<double>& places) {
      std::vector<bool> holds;
      for (std::size_t i = 0; i < places.size(); ++i) {
        EXPECT_TRUE(i == 0 || places[i - 1] < places[i]);
        holds.push_back(places[i] <= edge);
      }
      return Result<std::vector<bool>>(std::move(holds));
    });
    ASSERT_TRUE(found);
    EXPECT_LE(found->breaks / found->holds, 1.01);
    double last = 1.0 / 16;
    for (double place = last; place <= 16; place *= 1.001)
      if (place <= edge) last = place;
    EXPECT_LE(found->holds, last * 1.001);
    EXPECT_GT(found->breaks, last / 1.001);
  }
}

TEST(Bisect, HandsOnWhatGoesWrong) {
  const auto found = detail::bisect(1, 2, 1.1, [](const std::vector<double>&) {
    return Result<std::vector<bool>>(fail(Errc::kInvalid, "no"));
  });
  ASSERT_FALSE(found);
  EXPECT_EQ(found.error().message, "no");
}

TEST(PlanHeadroom, IsWhatAScanOfPlansFinds) {
  // The naive way: ask at each traffic, and with each number of adapters, whether the pair still holds.
  PlanOptions options = floor_only();
  const Trace trace = testing::skewed_trace(4, 40, 4000, 2);
  const auto plan = planned(trace, options);
  ASSERT_TRUE(plan.has_value()) << plan.error().message;
  const auto asked_at = [&](const Trace& changed) {
    const auto other = planned(changed, options);
    return other.has_value() ? other->slots_floor : 0U;
  };
  double held = 0;
  for (double traffic = 0.8; traffic < 4; traffic *= 1.02) {
    if (asked_at(with_traffic(trace, traffic)) > plan->chosen.max_loras) break;
    held = traffic;
  }
  EXPECT_NEAR(plan->traffic_limit.limit / held, 1, 0.08);
  EXPECT_GT(plan->traffic_limit.slots_at_twice, plan->chosen.max_loras);
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
  EXPECT_TRUE(limit.too_many_wait || limit.off_target);
  EXPECT_EQ(limit.slots_at_twice, 6U) << "each of three has a double at the same time";
  const nlohmann::json json = nlohmann::json::parse(plan_json(*plan));
  EXPECT_EQ(json.at("recommendation").at("adapters_limit"), limit.limit);
  EXPECT_EQ(json.at("recommendation").at("slots_at_twice_the_adapters"), 6);
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
  EXPECT_NE(unwrapped(plan_text(*plan)).find("times the adapters and more"), std::string::npos);
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

}  // namespace
}  // namespace loracle
