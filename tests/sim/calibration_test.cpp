#include "loracle/sim/calibration.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "loracle/core/rng.hpp"
#include "support/sanitized.hpp"

namespace loracle {
namespace {

/// Standard normal to 6 deviations: twelve uniforms.
double normal(Rng& rng) {
  double sum = -6;
  for (int i = 0; i < 12; ++i) sum += rng.uniform();
  return sum;
}

constexpr double kLatency = 0.002;
constexpr double kRate = 12e9;
constexpr double kNoise = 0.03;

/// Loads into slots of five sizes; of `stalled` in 100 the time is twentyfold, of `cached` a tenth.
std::vector<TimedLoad> made_loads(std::uint64_t seed, std::size_t count, std::uint32_t stalled = 0,
                                  std::uint32_t cached = 0) {
  constexpr double kSizes[] = {5e6, 10e6, 42e6, 84e6, 168e6};
  Rng rng(seed);
  std::vector<TimedLoad> loads;
  for (std::size_t i = 0; i < count; ++i) {
    const double bytes = kSizes[rng.below(5)];
    double seconds = (kLatency + bytes / kRate) * (1 + kNoise * normal(rng));
    const std::uint32_t luck = rng.below(100);
    if (luck < stalled)
      seconds *= 20;
    else if (luck < stalled + cached)
      seconds /= 10;
    loads.push_back({LoadWay::kSlot, bytes, seconds});
  }
  return loads;
}

constexpr StepTimes kStep{0.012, 6e-5, 2e-4, 4e-4, 8e-6};

std::vector<TimedStep> made_steps(std::uint64_t seed, std::size_t count) {
  Rng rng(seed);
  std::vector<TimedStep> steps;
  for (std::size_t i = 0; i < count; ++i) {
    TimedStep step;
    step.prefill_tokens = rng.below(2) == 0 ? 0 : 16 + rng.below(2000);
    step.sequences = 1 + rng.below(64);
    step.adapters = rng.below(std::min(16U, static_cast<std::uint32_t>(step.sequences) + 1));
    for (std::uint32_t k = 0; k < static_cast<std::uint32_t>(step.adapters); ++k)
      step.rank_sum += 8U << rng.below(4);
    step.seconds =
        (kStep.base_s + kStep.prefill_token_s * step.prefill_tokens + kStep.sequence_s * step.sequences +
         kStep.adapter_s * step.adapters + kStep.adapter_rank_s * step.rank_sum) *
        (1 + kNoise * normal(rng));
    steps.push_back(step);
  }
  return steps;
}

/// How often an estimate lies within so many of its standard errors.
struct Coverage {
  int within_1 = 0;
  int within_3 = 0;
  void count(double found, double error, double truth) {
    within_1 += std::abs(found - truth) <= error ? 1 : 0;
    within_3 += std::abs(found - truth) <= 3 * error ? 1 : 0;
  }
};

constexpr int kSeeds = 100;

// A fit that is off, or standard errors that are, would be believed by every plan made with them.
void expect_normal(const Coverage& coverage, const std::string& what) {
  EXPECT_GE(coverage.within_3, kSeeds - 3) << what;
  EXPECT_GE(coverage.within_1, 52) << what;  // 68 of 100, less 3.5 standard deviations
  EXPECT_LE(coverage.within_1, 84) << what;
}

TEST(Calibration, FindsLatencyAndRateAndTheirErrors) {
  for (const auto& [stalled, cached] : {std::pair{0U, 0U}, {10U, 5U}}) {
    Coverage latency;
    Coverage rate;
    for (std::uint64_t seed = 1; seed <= kSeeds; ++seed) {
      const auto fit = fit_loads(made_loads(seed, 200, stalled, cached), LoadWay::kSlot);
      ASSERT_TRUE(fit.has_value()) << fit.error().message;
      ASSERT_TRUE(fit->is_rate_known);
      latency.count(fit->channel.latency_s, fit->latency_error_s, kLatency);
      rate.count(1 / fit->channel.bytes_per_s, fit->s_per_byte_error, 1 / kRate);
      EXPECT_LT(fit->latency_error_s, kLatency / 20);
      EXPECT_LT(fit->s_per_byte_error, 1 / kRate / 20);
    }
    expect_normal(latency, "latency");
    expect_normal(rate, "rate");
  }
}

TEST(Calibration, SetsOutliersAsideAndSaysSo) {
  // One load in ten that took twentyfold would treble every load time, or be kept quiet.
  const auto loads = made_loads(7, 400, 10, 5);
  const auto fit = fit_loads(loads, LoadWay::kSlot);
  ASSERT_TRUE(fit.has_value()) << fit.error().message;
  const auto outliers = std::count_if(loads.begin(), loads.end(), [](const TimedLoad& load) {
    const double expected = kLatency + load.bytes / kRate;
    return load.seconds > 2 * expected || load.seconds < expected / 2;
  });
  EXPECT_EQ(fit->quality.count, 400U);
  EXPECT_GE(fit->quality.set_aside, static_cast<std::uint64_t>(outliers));
  EXPECT_LE(fit->quality.set_aside, static_cast<std::uint64_t>(outliers) + 4);
  EXPECT_GT(fit->quality.r2, 0.98);
  EXPECT_TRUE(fit->quality.is_held_out);
  EXPECT_NEAR(fit->quality.error_median, 0.6745 * kNoise, 0.01);
  EXPECT_NEAR(fit->quality.within_20, 1 - static_cast<double>(outliers) / 400, 0.01);
  EXPECT_GT(fit->quality.mean_ratio, 2);
  ASSERT_FALSE(fit->notes.empty());
  EXPECT_NE(fit->notes[0].find("the mean load takes"), std::string::npos) << fit->notes[0];
}

TEST(Calibration, FindsTheTermsOfAStepAndTheirErrors) {
  LORACLE_SKIP_IF_SANITIZED();
  std::vector<Coverage> coverage(5);
  const std::vector<double StepTimes::*> members = {&StepTimes::base_s, &StepTimes::prefill_token_s,
                                                    &StepTimes::sequence_s, &StepTimes::adapter_s,
                                                    &StepTimes::adapter_rank_s};
  for (std::uint64_t seed = 1; seed <= kSeeds; ++seed) {
    const auto fit = fit_steps(made_steps(seed, 500));
    ASSERT_TRUE(fit.has_value()) << fit.error().message;
    for (std::size_t i = 0; i < members.size(); ++i)
      coverage[i].count(fit->times.*members[i], fit->errors.*members[i], kStep.*members[i]);
    EXPECT_TRUE(fit->notes.empty()) << fit->notes[0];
  }
  for (std::size_t i = 0; i < members.size(); ++i) expect_normal(coverage[i], std::to_string(i));
}

TEST(Calibration, IsExactWithoutNoise) {
  // Closed form: 1 ms and 1 GB/s. Also of few loads, where nothing is set aside.
  std::vector<TimedLoad> loads;
  for (const double megabytes : {1.0, 2.0, 4.0, 8.0, 16.0})
    loads.push_back({LoadWay::kDisk, megabytes * 1e6, 0.001 + megabytes * 1e-3});
  const auto few = fit_loads(loads, LoadWay::kDisk);
  ASSERT_TRUE(few.has_value()) << few.error().message;
  EXPECT_NEAR(few->channel.latency_s, 0.001, 1e-9);
  EXPECT_NEAR(few->channel.bytes_per_s, 1e9, 1e3);
  EXPECT_FALSE(few->quality.is_held_out);
  EXPECT_EQ(few->quality.set_aside, 0U);
  EXPECT_EQ(load_time_s(*few, 32e6), few->channel.latency_s + 32e6 / few->channel.bytes_per_s);
  EXPECT_EQ(load_time_s(*few, 0), load_time_s(*few, 4e6)) << "unknown: the median of those measured";
  const std::vector<TimedLoad> five = loads;
  for (int i = 0; i < 5; ++i) loads.insert(loads.end(), five.begin(), five.end());
  const auto many = fit_loads(loads, LoadWay::kDisk);
  ASSERT_TRUE(many.has_value()) << many.error().message;
  EXPECT_NEAR(many->channel.latency_s, 0.001, 1e-9);
  EXPECT_NEAR(many->channel.bytes_per_s, 1e9, 1e3);
  EXPECT_EQ(many->quality.within_10, 1);
  EXPECT_EQ(many->quality.groups.size(), 5U);
}

TEST(Calibration, NoTermIsNegative) {
  // Least squares would make these latencies and rates negative; a simulation would go back in time.
  std::vector<TimedLoad> falling;
  std::vector<TimedLoad> steep;
  Rng rng(3);
  for (int i = 0; i < 60; ++i) {
    const double bytes = 1e6 * (1 + rng.below(100));
    falling.push_back({LoadWay::kSlot, bytes, (0.2 - bytes * 1e-9) * (1 + 0.05 * normal(rng))});
    steep.push_back({LoadWay::kSlot, bytes, bytes * bytes * 1e-15 * (1 + 0.05 * normal(rng))});
  }
  const auto flat = fit_loads(falling, LoadWay::kSlot);
  ASSERT_TRUE(flat.has_value()) << flat.error().message;
  EXPECT_FALSE(flat->is_rate_known);
  EXPECT_TRUE(std::isinf(flat->channel.bytes_per_s));
  EXPECT_LT(flat->s_per_byte_error, 0);
  EXPECT_GT(flat->channel.latency_s, 0.1);
  EXPECT_NE(flat->notes[0].find("no load takes longer"), std::string::npos) << flat->notes[0];
  const auto bare = fit_loads(steep, LoadWay::kSlot);
  ASSERT_TRUE(bare.has_value()) << bare.error().message;
  EXPECT_EQ(bare->channel.latency_s, 0);
  EXPECT_LT(bare->latency_error_s, 0);
}

TEST(Calibration, OneSizeTellsNoRate) {
  // A rate made of one size would be latency in disguise, and wrong for every other size.
  std::vector<TimedLoad> loads;
  Rng rng(5);
  for (int i = 0; i < 50; ++i)
    loads.push_back({LoadWay::kDisk, 84e6 + rng.below(1000), 0.1 * (1 + kNoise * normal(rng))});
  const auto fit = fit_loads(loads, LoadWay::kDisk);
  ASSERT_TRUE(fit.has_value()) << fit.error().message;
  EXPECT_FALSE(fit->is_rate_known);
  EXPECT_NEAR(fit->channel.latency_s, 0.1, 3 * fit->latency_error_s);
  EXPECT_NEAR(fit->latency_error_s, 0.1 * kNoise / std::sqrt(50), 0.0003);
  ASSERT_EQ(fit->notes.size(), 1U);
  EXPECT_NE(fit->notes[0].find("rate not told apart from latency"), std::string::npos) << fit->notes[0];
  EXPECT_NE(fit->notes[0].find("80.1 MiB"), std::string::npos) << fit->notes[0];
  EXPECT_EQ(load_time_s(*fit, 1e9), fit->channel.latency_s);
}

TEST(Calibration, TermsThatDoNotVaryAreNamed) {
  // All of rank 16: what is for the rank and what for the adapter cannot be known, their sum can.
  std::vector<TimedStep> steps = made_steps(11, 300);
  for (TimedStep& step : steps) {
    step.rank_sum = 16 * step.adapters;
    step.seconds = 0.01 + 1e-5 * step.prefill_tokens + 1e-4 * step.sequences + 5e-4 * step.adapters;
  }
  const auto fit = fit_steps(steps);
  ASSERT_TRUE(fit.has_value()) << fit.error().message;
  EXPECT_NEAR(fit->times.adapter_s, 5e-4, 1e-8);
  EXPECT_EQ(fit->times.adapter_rank_s, 0);
  ASSERT_EQ(fit->notes.size(), 1U);
  EXPECT_NE(fit->notes[0].find("each adapter rank is not told apart"), std::string::npos) << fit->notes[0];
  for (TimedStep& step : steps) step.adapters = step.rank_sum = 0;
  const auto without = fit_steps(steps);
  ASSERT_TRUE(without.has_value()) << without.error().message;
  EXPECT_EQ(without->times.adapter_s, 0);
  EXPECT_EQ(without->notes.size(), 2U);
}

TEST(Calibration, SaysWhatIsMissing) {
  Measurements measured;
  measured.loads = {{LoadWay::kSlot, 1e6, 0.1}, {LoadWay::kSlot, 2e6, 0.2}};
  const auto nothing = calibrate(measured, "2026-11-22", "");
  ASSERT_FALSE(nothing.has_value());
  EXPECT_EQ(nothing.error().code, Errc::kInvalid);
  for (const char* words : {"slot: 2 loads, 5 are needed", "disk: 0 loads", "step: 0 steps, 20 are needed"})
    EXPECT_NE(nothing.error().message.find(words), std::string::npos) << nothing.error().message;
  measured.loads = made_loads(1, 50);
  const auto some = calibrate(measured, "2026-11-22", "");
  ASSERT_TRUE(some.has_value()) << some.error().message;
  EXPECT_TRUE(some->slot.has_value());
  EXPECT_FALSE(some->disk.has_value());
  EXPECT_EQ(some->missing.size(), 2U);
  // Where nothing was measured, what was there stays.
  ServiceModel otherwise;
  otherwise.disk.latency_s = 0.25;
  otherwise.step.base_s = 0.03;
  const ServiceModel model = service_model(*some, otherwise);
  EXPECT_EQ(model.slot, some->slot->channel);
  EXPECT_EQ(model.disk, otherwise.disk);
  EXPECT_EQ(model.step, otherwise.step);
  EXPECT_EQ(model.source, "calibrated 2026-11-22");
  EXPECT_FALSE(fit_loads(std::vector<TimedLoad>(9, {LoadWay::kSlot, 1e6, -1}), LoadWay::kSlot).has_value());
  std::vector<TimedStep> large = made_steps(2, 60);
  for (TimedStep& step : large) {
    step.sequences += 20;
    step.seconds = 1e-4 * (step.sequences - 15);  // a straight line that would begin below 0
  }
  const auto baseless = fit_steps(large);
  ASSERT_FALSE(baseless.has_value());
  EXPECT_NE(baseless.error().message.find("small batches"), std::string::npos) << baseless.error().message;
}

TEST(Calibration, CountersGiveAMeanAndSaySo) {
  LoadSummary summary{LoadWay::kSlot, 100, 100 * 84e6, 0.7, 0.003};
  const auto fit = fit_loads(summary);
  ASSERT_TRUE(fit.has_value()) << fit.error().message;
  EXPECT_DOUBLE_EQ(fit->channel.latency_s, 0.007);
  EXPECT_DOUBLE_EQ(fit->latency_error_s, 0.0003);
  EXPECT_DOUBLE_EQ(fit->bytes_median, 84e6);
  EXPECT_FALSE(fit->is_rate_known);
  EXPECT_NE(fit->notes[1].find("a factor of two"), std::string::npos) << fit->notes[1];
  // Beside single loads they are one more check, not part of the fit.
  Measurements both;
  both.loads = made_loads(1, 100);
  both.sums = {summary};
  const auto made = calibrate(both, "2026-11-22", "here");
  ASSERT_TRUE(made.has_value()) << made.error().message;
  EXPECT_EQ(made->slot->channel, fit_loads(both.loads, LoadWay::kSlot)->channel);
  const std::string& note = made->slot->notes.back();
  EXPECT_NE(note.find("counters' mean load of 80.1 MiB took 7 ms"), std::string::npos) << note;
  summary.loads = 4;
  EXPECT_FALSE(fit_loads(summary).has_value());
}

Calibration whole() {
  Measurements measured;
  measured.loads = made_loads(1, 100, 5, 0);
  for (TimedLoad load : made_loads(2, 30)) {
    load.way = LoadWay::kDisk;
    load.bytes = 84e6;
    measured.loads.push_back(load);
  }
  measured.steps = made_steps(3, 200);
  measured.sources = {"--loads \"a\".csv", "--steps b.csv"};
  return *calibrate(measured, "2026-11-22", "NVIDIA H200");
}

TEST(Calibration, TheFileGivesBackTheSameNumbers) {
  const Calibration made = whole();
  ASSERT_TRUE(made.disk && made.slot && made.step);
  const std::string json = calibration_json(made);
  const auto read = read_calibration(json, "c.json");
  ASSERT_TRUE(read.has_value()) << read.error().message;
  EXPECT_EQ(*read, made);
  EXPECT_EQ(calibration_json(*read), json);
  Calibration part = made;
  part.disk.reset();
  part.step.reset();
  EXPECT_EQ(*read_calibration(calibration_json(part), "c.json"), part);
}

TEST(Calibration, DamagedFilesAreRefusedByWhatIsWrong) {
  // A number that is not what it claims to be would be a plan's load time.
  const auto good = nlohmann::ordered_json::parse(calibration_json(whole()), nullptr, false);
  const auto expect_refused = [&](const char* pointer, const nlohmann::ordered_json& value, Errc code,
                                  const std::string& words) {
    auto bad = good;
    bad[nlohmann::ordered_json::json_pointer(pointer)] = value;
    const auto read = read_calibration(bad.dump(), "c.json");
    ASSERT_FALSE(read.has_value()) << pointer;
    EXPECT_EQ(read.error().code, code) << pointer;
    EXPECT_TRUE(read.error().message.starts_with("c.json: ")) << read.error().message;
    EXPECT_NE(read.error().message.find(words), std::string::npos) << read.error().message;
    EXPECT_NE(read.error().message.find("loracle calibrate --out"), std::string::npos)
        << read.error().message;
  };
  expect_refused("/schema", "loracle.calibration/2", Errc::kUnsupported, "'loracle.calibration/2'");
  expect_refused("/schema", "loracle.plan/1", Errc::kCorrupt, "'loracle.plan/1'");
  expect_refused("/slot/latency_s", -1, Errc::kCorrupt, "slot.latency_s is -1");
  expect_refused("/slot/latency_s", "fast", Errc::kCorrupt, "slot.latency_s is no number");
  expect_refused("/slot/bytes_per_s", 0, Errc::kCorrupt, "slot.bytes_per_s is 0");
  expect_refused("/disk/quality", 3, Errc::kCorrupt, "disk.quality.count is missing");
  expect_refused("/step/times/base_s", 0, Errc::kCorrupt, "step.times.base_s is 0");
  expect_refused("/step/times", nullptr, Errc::kCorrupt, "step.times.base_s is missing");
  expect_refused("/slot/quality/groups/0", {1, 2}, Errc::kCorrupt, "slot.quality.groups");
}

TEST(Calibration, ItsTextShowsPredictedAgainstMeasured) {
  Calibration made = whole();
  made.slot->quality.groups = {{10, 1e6, 0.100, 0.105}, {10, 2e6, 0.100, 0.115}, {10, 3e6, 0.100, 0.125}};
  const std::string text = calibration_text(made);
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) EXPECT_LE(line.size(), 100U) << line;
  for (const char* words : {"2026-11-22, on NVIDIA H200", "100 loads", "set aside", "R2 0.", "within 10 %",
                            "+5.0 %\n", "+15.0 %  beyond 10 %\n", "+25.0 %  BEYOND 20 %\n", "200 steps"})
    EXPECT_NE(text.find(words), std::string::npos) << words << "\n" << text;
}

}  // namespace
}  // namespace loracle
