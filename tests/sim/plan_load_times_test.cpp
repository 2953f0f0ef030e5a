#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "loracle/sim/plan.hpp"
#include "loracle/sim/report.hpp"
#include "plan_traces.hpp"

namespace loracle {
namespace {

using testing::cyclic_trace;
using testing::skewed_trace;

constexpr double kSlotBytes = 83'886'080;  // llama-3.1-8b at rank 16

LoadFit fit_of(double latency_s, double bytes_per_s) {
  LoadFit fit;
  fit.channel = {latency_s, bytes_per_s};
  fit.is_rate_known = true;
  fit.bytes_min = 10e6;
  fit.bytes_median = 42e6;
  fit.bytes_max = 168e6;
  return fit;
}

Calibration calibration() {
  Calibration made;
  made.date = "2026-11-22";
  made.machine = "NVIDIA H200";
  made.slot = fit_of(0.001, 25e9);
  made.disk = fit_of(0.01, 2e9);
  return made;
}

PlanOptions with_model() {
  PlanOptions options;
  options.model = "llama-3.1-8b";
  return options;
}

Plan planned(const Trace& trace, const PlanOptions& options) {
  InlineExecutor executor;
  Result<Plan> plan = make_plan(trace, options, executor);
  EXPECT_TRUE(plan.has_value()) << plan.error().message;
  return plan ? std::move(*plan) : Plan{};
}

void expect_verdict(const Plan& plan, const std::string& words, const std::string& state) {
  const std::string text = plan_text(plan);
  // The verdict may be wrapped: blanks of one line are those of the other.
  std::string head = text.substr(0, text.find("--enable-lora"));
  for (std::size_t at = 0; (at = head.find("\n          ")) != std::string::npos;) head.replace(at, 11, " ");
  EXPECT_NE(head.find(words), std::string::npos) << head;
  const auto json = nlohmann::json::parse(plan_json(plan), nullptr, false);
  EXPECT_EQ(json["recommendation"]["calibration"], state);
  const std::string page = plan_html(plan);
  const std::size_t first_screen = page.find("<section class=\"tiles\"");
  ASSERT_NE(first_screen, std::string::npos);
  const std::size_t found = page.find(words.substr(0, words.size() - 1));  // no brackets there
  EXPECT_LT(found, first_screen) << words;
}

TEST(PlanLoadTimes, EveryVerdictSaysWhetherItIsCalibrated) {
  // A guess of ours would be taken for a measurement.
  const Trace trace = cyclic_trace(6, 50, 2.5F);
  expect_verdict(planned(trace, with_model()), "UNCALIBRATED)", "uncalibrated");
  expect_verdict(planned(cyclic_trace(6, 50), with_model()), "UNCALIBRATED)", "uncalibrated");
  PlanOptions tight = with_model();
  tight.gpu_memory = Bytes{100'000'000};
  const Plan infeasible = planned(trace, tight);
  EXPECT_EQ(infeasible.verdict, PlanVerdict::kInfeasible);
  expect_verdict(infeasible, "UNCALIBRATED)", "uncalibrated");

  PlanOptions by_hand = with_model();
  by_hand.slot_load_given = by_hand.disk_load_given = true;
  expect_verdict(planned(trace, by_hand), "UNCALIBRATED: load times as given)", "given");

  PlanOptions measured = with_model();
  measured.calibration = calibration();
  expect_verdict(planned(trace, measured), ", calibrated 2026-11-22 on NVIDIA H200)", "calibrated");
  measured.disk_load_given = true;
  measured.disk_load_s = 0.3;
  const Plan mixed = planned(trace, measured);
  EXPECT_EQ(mixed.disk_load_s, 0.3) << "what was given by hand stands";
  expect_verdict(mixed, "from disk as given", "given");
  measured.disk_load_given = false;
  measured.calibration->disk.reset();
  expect_verdict(planned(trace, measured), "from disk a guess", "uncalibrated");
}

TEST(PlanLoadTimes, ACalibratedLoadTakesWhatTheAdapterWeighs) {
  // Closed form: latency and bytes at the rate.
  PlanOptions options = with_model();
  options.calibration = calibration();
  const Trace trace = cyclic_trace(6, 50, 2.5F);
  const Plan plan = planned(trace, options);
  EXPECT_DOUBLE_EQ(plan.slot_load_s, 0.001 + kSlotBytes / 25e9);
  EXPECT_DOUBLE_EQ(plan.disk_load_s, 0.01 + kSlotBytes / 2e9);
  EXPECT_EQ(plan.slot_load, (LoadChannel{plan.slot_load_s})) << "the trace has no sizes: all alike";
  const auto json = nlohmann::json::parse(plan_json(plan), nullptr, false);
  EXPECT_EQ(json["calibration"]["schema"], "loracle.calibration/1");
  EXPECT_EQ(json["options"]["slot_load_from"], "calibrated");
  EXPECT_NE(plan_text(plan).find("As calibrated 2026-11-22 on NVIDIA H200: a load"), std::string::npos);
  // Without a model nothing has a size: as large as those measured.
  options.model.clear();
  const Plan sizeless = planned(trace, options);
  EXPECT_DOUBLE_EQ(sizeless.slot_load_s, 0.001 + 42e6 / 25e9);
}

TEST(PlanLoadTimes, SizesOfTheTraceAreEachLoadsOwn) {
  PlanOptions options;
  options.calibration = calibration();
  Trace trace = cyclic_trace(6, 200, 2.5F);
  std::vector<std::uint64_t> bytes = {20'000'000, 20'000'000, 20'000'000,
                                      20'000'000, 20'000'000, 2'000'000'000};
  trace.adapters.bytes = Column<std::uint64_t>(bytes);
  const Plan plan = planned(trace, options);
  EXPECT_EQ(plan.slot_load, options.calibration->slot->channel);
  EXPECT_EQ(plan.disk_load, options.calibration->disk->channel);
  EXPECT_DOUBLE_EQ(plan.disk_load_s, 0.01 + 2.1e9 / 6 / 2e9);
  // Loads measured of 10 to 168 MB say little about one of 2 GB.
  EXPECT_NE(plan_text(plan).find("extrapolated"), std::string::npos) << plan_text(plan);
  // The six first loads come from disk; the slowest is the large one's, whatever the others weigh.
  EXPECT_EQ(plan.what_ifs.empty(), false);
  options.calibration->disk->channel.bytes_per_s = 1e9;
  options.calibration->disk->bytes_max = 2e9;
  options.calibration->slot->bytes_max = 2e9;
  EXPECT_EQ(plan_text(planned(trace, options)).find("extrapolated"), std::string::npos);
}

TEST(PlanLoadTimes, ASlowDiskAndTwiceTheRankSlowTheRate) {
  // The what-ifs would show no change where loads are all rate.
  PlanOptions options = with_model();
  options.calibration = calibration();
  options.calibration->slot->channel = {0, 0.4e9};
  options.calibration->disk->channel = {0, 0.2e9};
  Trace trace = skewed_trace(4, 40, 3000, 3);
  trace.adapters.bytes = Column<std::uint64_t>(std::vector<std::uint64_t>(40, 83'886'080));
  options.host_memory = Bytes{40ULL * 83'886'080};
  options.slot_worth_time = 0.5;
  const Plan plan = planned(trace, options);
  ASSERT_EQ(plan.what_ifs.size(), kChanges);
  EXPECT_GT(plan.what_ifs[4].delay_p99_s, 1.5 * plan.what_ifs[0].delay_p99_s) << "twice the rank";
  EXPECT_GT(plan.what_ifs[5].delay_p99_s, plan.what_ifs[0].delay_p99_s) << "a slow disk";
}

}  // namespace
}  // namespace loracle
