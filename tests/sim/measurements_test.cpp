#include "loracle/sim/measurements.hpp"

#include <gtest/gtest.h>

#include <string>

namespace loracle {
namespace {

template <class T>
void expect_corrupt(const Result<T>& read, const std::string& words) {
  ASSERT_FALSE(read.has_value()) << words;
  EXPECT_EQ(read.error().code, Errc::kCorrupt);
  EXPECT_NE(read.error().message.find(words), std::string::npos) << read.error().message;
}

TEST(Measurements, LoadsAreReadByTheNamesOfTheirColumns) {
  const auto read = read_loads_csv(
      "\xEF\xBB\xBFseconds, tier ,note,bytes\r\n# a comment\n0.5,disk,x,1000\r\n\n1e-3, slot ,,2e6", "l.csv");
  ASSERT_TRUE(read.has_value()) << read.error().message;
  const std::vector<TimedLoad> expected = {{LoadWay::kDisk, 1000, 0.5}, {LoadWay::kSlot, 2e6, 0.001}};
  EXPECT_EQ(*read, expected);
}

TEST(Measurements, BadLinesAreNamed) {
  // Whoever has ten thousand lines must be told which one.
  const std::string head = "tier,bytes,seconds\nslot,1,1\n";
  expect_corrupt(read_loads_csv(head + "slot,1\n", "l.csv"), "l.csv:3: 2 fields, the header has 3");
  expect_corrupt(read_loads_csv(head + "slot,1,-0.5\n", "l.csv"), "l.csv:3: seconds is -0.5");
  expect_corrupt(read_loads_csv(head + "slot,1,0\n", "l.csv"), "must be above 0");
  expect_corrupt(read_loads_csv(head + "slot,big,1\n", "l.csv"), "bytes is 'big'");
  expect_corrupt(read_loads_csv(head + "slot,1,inf\n", "l.csv"), "seconds is 'inf'");
  expect_corrupt(read_loads_csv(head + "device,1,1\n", "l.csv"), "l.csv:3: tier is 'device': write disk");
  expect_corrupt(read_loads_csv("tier,seconds\n", "l.csv"), "l.csv:1: the header has no column 'bytes'");
  expect_corrupt(read_loads_csv("", "l.csv"), "is empty");
  const auto steps =
      read_steps_csv("prefill_tokens,sequences,adapters,rank_sum,seconds\n0,4,2,32,0.01\n", "s");
  ASSERT_TRUE(steps.has_value()) << steps.error().message;
  EXPECT_EQ((*steps)[0], (TimedStep{0, 4, 2, 32, 0.01}));
  expect_corrupt(
      read_steps_csv("prefill_tokens,sequences,adapters,rank_sum,seconds\n0,-4,2,32,0.01\n", "s.csv"),
      "s.csv:2: sequences is -4: it must be 0 or more");
}

constexpr const char* kPage =
    "# HELP loracle_tier_load_seconds Time\n"
    "# TYPE loracle_tier_load_seconds histogram\n"
    "loracle_tier_load_seconds_bucket{tier=\"device\",le=\"0.001\"} 0\n"
    "loracle_tier_load_seconds_bucket{tier=\"device\",le=\"0.004\"} 4\n"
    "loracle_tier_load_seconds_bucket{tier=\"device\",le=\"+Inf\"} 4\n"
    "loracle_tier_load_seconds_count{tier=\"device\"} 4\n"
    "loracle_tier_load_seconds_sum{tier=\"device\"} 0.012 1700000000000\n"
    "loracle_tier_load_seconds_count{tier=\"host\"} 0\n"
    "loracle_tier_load_seconds_sum{tier=\"host\"} 0\n"
    "loracle_tier_loaded_bytes_total{tier=\"device\"} 4e6\n"
    "loracle_tier_loaded_bytes_total_created{tier=\"device\"} 9e9\n"
    "vllm:lora_adapter_load_seconds_count{level=\"gpu\"} 77\n"
    "other{name=\"a}b\\\"c,tier=\\\"host\\\"\"} 3\n";

TEST(Measurements, MetricsGiveCountsSumsAndSpread) {
  const auto read = read_load_metrics(kPage, "m.txt");
  ASSERT_TRUE(read.has_value()) << read.error().message;
  ASSERT_EQ(read->size(), 1U) << "what has loaded nothing is left out";
  const LoadSummary& slot = read->front();
  EXPECT_EQ(slot.way, LoadWay::kSlot);
  EXPECT_EQ(slot.loads, 4U);
  EXPECT_DOUBLE_EQ(slot.bytes, 4e6);
  EXPECT_DOUBLE_EQ(slot.seconds, 0.012);
  EXPECT_NEAR(slot.spread_s, 0.001, 1e-12);  // all at 2 ms, the middle of 1 and 4; the mean is 3
}

TEST(Measurements, AGatewaysMetricsKnowNoBytes) {
  const auto read = read_load_metrics(
      "vllm:lora_adapter_load_seconds_count{level=\"cpu\"} "
      "5\nvllm:lora_adapter_load_seconds_sum{level=\"cpu\"} "
      "1.5\n",
      "m.txt");
  ASSERT_TRUE(read.has_value()) << read.error().message;
  ASSERT_EQ(read->size(), 1U);
  EXPECT_EQ(read->front().way, LoadWay::kDisk);
  EXPECT_EQ(read->front().bytes, 0);
  EXPECT_LT(read->front().spread_s, 0);
  expect_corrupt(read_load_metrics("up 1\n", "m.txt"), "m.txt: has neither loracle_tier_load_seconds");
  expect_corrupt(read_load_metrics("loracle_tier_load_seconds_count{tier=\"host\"} 5\n", "m.txt"), "damaged");
}

std::string iteration(int number, const std::string& counts, const std::string& ms) {
  return "INFO 11-22 10:00:00 [core.py:300] Iteration(" + std::to_string(number) + "): " + counts +
         ", iteration elapsed time: " + ms + " ms\n";
}

TEST(Measurements, AVllmLogGivesSteps) {
  const std::string text =
      "INFO 11-22 10:00:00 [loggers.py:1] Engine 000: Avg prompt throughput: 3.0 tokens/s\n" +
      iteration(0, "2 context requests, 512 context tokens, 3 generation requests, 3 generation tokens",
                "41.50") +
      iteration(1, "0 context requests, 0 context tokens, 5 generation requests, 5 generation tokens", "12") +
      iteration(2, "0 context requests, 0 context tokens, 0 generation requests, 0 generation tokens",
                "0.01");
  const auto read = read_vllm_log(text, "v.log");
  ASSERT_TRUE(read.has_value()) << read.error().message;
  ASSERT_EQ(read->size(), 2U) << "an idle step is none";
  EXPECT_EQ((*read)[0], (TimedStep{512, 5, 0, 0, 41.5 * 1e-3}));
  EXPECT_EQ((*read)[1], (TimedStep{0, 5, 0, 0, 12 * 1e-3}));
}

TEST(Measurements, AVllmLogThatTimesNothingSaysWhatToDo) {
  expect_corrupt(read_vllm_log("INFO Engine 000: Running: 3 reqs\n", "v.log"),
                 "--enable-logging-iteration-details");
  expect_corrupt(read_vllm_log(iteration(0, "2 context requests", "41.50"), "v.log"),
                 "v.log:1: an Iteration");
  // Asynchronous scheduling: the line's time is that of handing a step over.
  std::string text;
  for (int i = 0; i < 20; ++i)
    text += iteration(i, "0 context requests, 0 context tokens, 5 generation requests, 5 generation tokens",
                      i % 4 == 0 ? "0.03" : "12");
  expect_corrupt(read_vllm_log(text, "v.log"), "--no-async-scheduling");
}

}  // namespace
}  // namespace loracle
