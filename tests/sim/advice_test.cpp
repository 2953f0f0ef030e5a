#include "loracle/sim/advice.hpp"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "loracle/sim/report.hpp"
#include "loracle/sim/tier_replay.hpp"
#include "plan_traces.hpp"
#include "regime_traces.hpp"

namespace loracle {
namespace {

using testing::cyclic_trace;
using testing::regime_week;
using testing::RegimeLaw;
using testing::skewed_trace;

Plan planned(const Trace& trace, std::uint32_t slots = 0, std::uint32_t host = 0, PlanOptions options = {}) {
  options.current_max_loras = slots;
  options.current_max_cpu_loras = host;
  options.policies = {"lru", "belady"};
  options.what_ifs = false;
  InlineExecutor executor;
  auto plan = make_plan(trace, options, executor);
  EXPECT_TRUE(plan.has_value()) << plan.error().message;
  return plan ? std::move(*plan) : Plan{};
}

/// 54 regimes of an hour each: intervals need 48.
Trace two_days() {
  constexpr std::uint64_t kRequests = 54ULL * testing::kHourRequests;
  Trace trace = regime_week(RegimeLaw::kFixedLength, 3).trace;
  trace.requests = kRequests;
  trace.uses = trace.uses.first(kRequests);
  trace.arrival_s = trace.arrival_s.first(kRequests);
  trace.duration_s = trace.duration_s.first(kRequests);
  return trace;
}

// If this fails, a nightly check stays green on a server that makes requests wait, or pages somebody for
// nothing.
TEST(Advice, JudgesTodaysSettingByTheRule) {
  const Trace week = two_days();
  const Plan asked_nothing = planned(week);
  ASSERT_EQ(asked_nothing.verdict, PlanVerdict::kMeetsTarget);
  const std::uint32_t slots = asked_nothing.chosen.max_loras;
  const std::uint32_t host = asked_nothing.chosen.max_cpu_loras;
  ASSERT_GT(host, slots);
  EXPECT_EQ(advice_of(asked_nothing), Advice::kNotAsked);
  EXPECT_TRUE(advice_reason(asked_nothing).empty());

  struct Case {
    const char* what;
    const Trace* trace;
    std::uint32_t slots;
    std::uint32_t host;
    Advice advice;
    const char* word;  // of the reason
  };
  const Trace one_regime = skewed_trace(21, 100, 8000, 6);
  const Trace no_durations = skewed_trace(21, 100, 8000);
  const Trace few = cyclic_trace(6, 50, 2.5F);
  Trace assumed = week;
  std::vector<float> held_s(week.duration_s.view().begin(), week.duration_s.view().end());
  for (std::size_t i = 0; i < held_s.size(); i += 3) held_s[i] = 0;
  assumed.duration_s = Column<float>(std::move(held_s));
  const std::vector<Case> cases = {
      {"the choice itself", &week, slots, host, Advice::kKeep, "keeps every rule,"},
      {"more host memory than is needed", &week, slots, testing::kWeekAdapters, Advice::kKeep, "keeps every"},
      {"one slot", &week, 1, host, Advice::kChange, "wait for one"},
      {"too little host memory", &week, slots, slots, Advice::kChange, "disk loads"},
      {"slots for all, and more", &week, 500, 500, Advice::kChange, "less of what loads and slots cost"},
      {"one regime, nothing broken", &one_regime, 40, 100, Advice::kNotEnoughData, "longer trace"},
      {"one regime, one slot", &one_regime, 1, 100, Advice::kChange, "refused"},
      {"no durations, nothing broken", &no_durations, 40, 100, Advice::kNotEnoughData, "durations"},
      {"no durations, host memory for one", &no_durations, 1, 1, Advice::kChange, ""},
      {"a third of durations assumed, nothing broken", &assumed, slots + 2, testing::kWeekAdapters,
       Advice::kNotEnoughData, "assumed"},
      {"a third of durations assumed, one slot", &assumed, 1, host, Advice::kChange,
       "if the 33.3 % of requests"},
      {"too few requests", &few, 6, 6, Advice::kNotEnoughData, "too short"}};
  for (const Case& one : cases) {
    const Plan plan = planned(*one.trace, one.slots, one.host);
    EXPECT_STREQ(name_of(advice_of(plan)), name_of(one.advice)) << one.what << ": " << advice_reason(plan);
    EXPECT_NE(advice_reason(plan).find(one.word), std::string::npos)
        << one.what << ": " << advice_reason(plan);
    const auto json = nlohmann::json::parse(plan_json(plan));
    EXPECT_EQ(json["recommendation"]["advice"], name_of(one.advice));
    EXPECT_EQ(json["current"]["max_loras"], one.slots) << "as it was given";
  }
}

// If this fails, what does not fit at all is called a change, and somebody changes it in vain.
TEST(Advice, NoSettingWithinTheLimitsIsInfeasible) {
  PlanOptions options;
  options.model = "llama-3.1-8b";
  options.gpu_memory = Bytes{200ULL << 20U};
  const Plan plan = planned(skewed_trace(21, 200, 8000, 6), 2, 2, options);
  ASSERT_EQ(plan.verdict, PlanVerdict::kInfeasible);
  EXPECT_EQ(advice_of(plan), Advice::kInfeasible);
}

// If this fails, a nightly check stays green on a server that loads half of its uses from disk, because no
// host memory that is allowed meets the target to the last bit.
TEST(Advice, ATargetThatNothingMeetsIsNoExcuse) {
  const Trace week = two_days();
  PlanOptions options;
  options.model = "llama-3.1-8b";
  const Plan roomy = planned(week, 0, 0, options);
  const std::uint32_t slots = roomy.chosen.max_loras;
  options.host_memory = roomy.host_bytes[roomy.chosen.max_cpu_loras * 3 / 4];
  const Plan few = planned(week, slots, slots, options);
  ASSERT_EQ(few.verdict, PlanVerdict::kMissesTarget);
  EXPECT_EQ(advice_of(few), Advice::kChange) << advice_reason(few);
  EXPECT_NE(advice_reason(few).find("disk loads beyond first uses are "), std::string::npos);
  const Plan same = planned(week, slots, few.chosen.max_cpu_loras, options);
  EXPECT_EQ(advice_of(same), Advice::kKeep) << advice_reason(same);
  EXPECT_NE(advice_reason(same).find("but the target of disk loads ("), std::string::npos)
      << advice_reason(same);
  const Plan more = planned(week, slots, testing::kWeekAdapters, options);
  EXPECT_EQ(advice_of(more), Advice::kChange);
  EXPECT_NE(advice_reason(more).find("in host memory may take "), std::string::npos) << advice_reason(more);
}

// If this fails, today's row compares the choice with a cache that nobody runs.
TEST(Advice, TodaysRowIsWhatAReplayOfTodaysSizesCounts) {
  const Trace trace = skewed_trace(5, 150, 6000);
  const auto stream = make_batch_stream(trace);
  ASSERT_TRUE(stream.has_value());
  const Plan plain = planned(trace);
  for (const auto& [slots, host] : {std::pair(3U, 3U), {7U, 29U}, {64U, 150U}}) {
    const Plan plan = planned(trace, slots, host);
    TierOptions options;
    options.tiers = "lru/lru";
    options.max_loras = slots;
    options.max_cpu_loras = host;
    const auto replayed = replay_tiers(*stream, options);
    ASSERT_TRUE(replayed.has_value());
    EXPECT_EQ(plan.current.row.cell.gpu_hits, replayed->counts.gpu_hits);
    EXPECT_EQ(plan.current.row.cell.disk_loads, replayed->counts.disk_loads);
    EXPECT_EQ(plan.chosen, plain.chosen) << "the choice does not depend on today's setting";
    const std::string text = plan_text(plan);
    EXPECT_NE(text.find(" today"), std::string::npos) << text;
    EXPECT_NE(text.find("CHANGE    "), std::string::npos) << text;
  }
  const Plan same = planned(trace, plain.chosen.max_loras, plain.chosen.max_cpu_loras);
  EXPECT_NE(plan_text(same).find("chosen, today"), std::string::npos) << plan_text(same);
}

// If this fails, a setting that vLLM refuses is judged as if it ran.
TEST(Advice, ASettingThatVllmRefusesIsAnError) {
  const Trace trace = cyclic_trace(6, 20);
  InlineExecutor executor;
  for (const auto& [slots, host] : {std::pair(0U, 8U), {8U, 4U}}) {
    PlanOptions options;
    options.current_max_loras = slots;
    options.current_max_cpu_loras = host;
    const auto plan = make_plan(trace, options, executor);
    ASSERT_FALSE(plan.has_value());
    EXPECT_EQ(plan.error().code, Errc::kInvalid);
  }
}

// If this fails, who pastes the flags has read past the risk, or scrolled away before it.
TEST(Advice, TheFirstScreenHoldsVerdictFlagsRiskAndTable) {
  const std::string text = plan_text(planned(skewed_trace(21, 100, 8000, 6), 4, 16));
  std::size_t before = 0;
  for (const char* word : {"VERDICT   change advised", "--max-loras ", "TODAY ", "WHY ", "CHANGE ", "EFFECT ",
                           "RISK ", "WRONG IF ", "max_loras  ", "<- chosen", "TRUST "}) {
    const std::size_t at = text.find(word, before);
    ASSERT_NE(at, std::string::npos) << word << "\n" << text;
    before = at;
  }
}

}  // namespace
}  // namespace loracle
