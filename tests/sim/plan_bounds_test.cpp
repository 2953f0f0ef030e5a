#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "loracle/core/rng.hpp"
#include "loracle/sim/plan.hpp"
#include "loracle/sim/report.hpp"
#include "plan_traces.hpp"

namespace loracle {
namespace {

using testing::skewed_trace;
using testing::trace_of;

constexpr std::uint64_t kSlot = 83'886'080;  // llama-3.1-8b at rank 16

Plan planned(const Trace& trace, PlanOptions options) {
  options.what_ifs = false;
  InlineExecutor executor;
  auto plan = make_plan(trace, options, executor);
  EXPECT_TRUE(plan.has_value()) << plan.error().message;
  return plan ? std::move(*plan) : Plan{};
}

/// As many slots as fit, and so many fit.
PlanOptions with_slots(std::uint64_t slots, std::uint32_t rank) {
  PlanOptions options;
  options.slot_worth_time = 0;
  options.model = "llama-3.1-8b";
  options.gpu_memory = Bytes{slots * kSlot * rank / 16};
  return options;
}

Trace ranked(Trace trace) {
  std::vector<std::uint16_t> ranks;
  for (std::uint32_t row = 0; row < trace.rows(); ++row)
    ranks.push_back(static_cast<std::uint16_t>(8U << (row % 4)));
  trace.adapters.rank = Column<std::uint16_t>(std::move(ranks));
  return trace;
}

// If this fails, a policy is said to close more than all of a gap, or what no policy can save to be saved.
TEST(PlanBounds, StandBelowEveryPolicyAndAboveTheFirstUses) {
  PlanOptions options = with_slots(12, 64);
  options.host_memory = Bytes{40 * kSlot};
  const Plan plan = planned(ranked(skewed_trace(21, 120, 6000)), options);
  for (const PolicyGap& gap : {plan.device_gap, plan.host_gap}) {
    EXPECT_GE(gap.bound, plan.adapters);
    EXPECT_LE(gap.bound, gap.belady);
    EXPECT_LE(gap.best, gap.lru);
  }
  ASSERT_TRUE(plan.device_byte_gap.known);
  ASSERT_TRUE(plan.host_byte_gap.known);
  EXPECT_EQ(plan.host_byte_gap.capacity, plan.host_bytes[plan.chosen.max_cpu_loras]);
  for (const ByteGap& gap : {plan.device_byte_gap, plan.host_byte_gap}) {
    EXPECT_GE(gap.bound, gap.first_uses);
    EXPECT_GE(gap.best, gap.bound);
    EXPECT_LE(gap.best, gap.lru);
    EXPECT_LE(gap.lru, plan.bytes_used);
  }
  for (const PolicyRow& row : plan.policies) {
    EXPECT_GE(row.device_misses, plan.device_gap.bound) << row.policy;
    EXPECT_GE(row.host_misses, plan.host_gap.bound) << row.policy;
    EXPECT_GE(row.device_bytes, plan.device_byte_gap.bound) << row.policy;
    EXPECT_GE(row.host_bytes, plan.host_byte_gap.bound) << row.policy;
  }
  const auto json = nlohmann::json::parse(plan_json(plan));
  EXPECT_EQ(json["gap"]["device_by_bytes"]["bound_bytes"], plan.device_byte_gap.bound.value);
  EXPECT_EQ(json["gap"]["compulsory_misses"], plan.adapters);
  EXPECT_NE(plan_text(plan).find("The same by bytes loaded"), std::string::npos);
  EXPECT_NE(plan_html(plan).find("The same by bytes loaded"), std::string::npos);
}

// If this fails, the same numbers are shown twice, or adapters of unknown size count one byte each.
TEST(PlanBounds, SayNothingOfBytesWhereSizesAreEqualOrUnknown) {
  for (const bool has_model : {true, false}) {
    PlanOptions options;
    if (has_model) options.model = "llama-3.1-8b";
    const Plan plan = planned(skewed_trace(22, 50, 2000), options);
    EXPECT_FALSE(plan.device_byte_gap.known);
    EXPECT_FALSE(plan.host_byte_gap.known);
    EXPECT_TRUE(nlohmann::json::parse(plan_json(plan))["gap"]["device_by_bytes"].is_null());
    EXPECT_EQ(plan_text(plan).find("bytes loaded"), std::string::npos);
  }
}

// If this fails, users change policies where only a larger size would help them.
TEST(PlanBounds, SaySizeNotPolicyWhereAllAdaptersAreAlike) {
  Rng rng(23);
  std::vector<std::vector<std::uint32_t>> requests(6000);
  for (auto& request : requests) request.push_back(rng.below(60));
  const Plan plan = planned(trace_of(requests), with_slots(10, 16));
  EXPECT_EQ(plan.chosen.max_loras, 10U);
  EXPECT_FALSE(plan.device_gap.policy_matters);
  EXPECT_NE(plan_text(plan).find("policy does not matter here, size does"), std::string::npos)
      << plan_text(plan);
  // Where some adapters are popular, it does matter.
  const Plan skewed = planned(skewed_trace(24, 120, 6000), with_slots(10, 16));
  EXPECT_TRUE(skewed.device_gap.policy_matters);
}

// If this fails, users buy host memory for loads that only shared disks or routing can save.
TEST(PlanBounds, NameTheCompulsoryMissesAndWhatFollowsFromThem) {
  std::vector<std::vector<std::uint32_t>> requests;
  for (std::uint32_t i = 0; i < 2000; ++i) requests.push_back({i / 4});
  const std::string cold = plan_text(planned(trace_of(requests), {}));
  EXPECT_NE(cold.find("COLD      500 loads (25.0 % of uses"), std::string::npos) << cold;
  EXPECT_NE(cold.find("share the disk tier"), std::string::npos) << cold;

  for (std::uint32_t i = 0; i < 2000; ++i) requests[i] = {i % 2};
  const std::string warm = plan_text(planned(trace_of(requests), {}));
  EXPECT_NE(warm.find("They are few."), std::string::npos) << warm;
  EXPECT_EQ(warm.find("share the disk tier"), std::string::npos) << warm;
}

}  // namespace
}  // namespace loracle
