// Money on the command line of `loracle plan`: flags in, exit code, stdout and stderr out.

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "support/run_command.hpp"
#include "support/temp_dir.hpp"

namespace loracle {
namespace {

using testing::Outcome;
using testing::TempDir;

class PlanCostsCli : public ::testing::Test {
 protected:
  void SetUp() override {
    trace_ = (dir_ / "t.jsonl").string();
    const Outcome made =
        run("trace gen zipf --adapters 20 --requests 2000 --seed 3 --duration-mean 0.5 -o " + trace_);
    ASSERT_EQ(made.exit_code, 0) << made.err;
  }
  Outcome run(const std::string& arguments) {
    return testing::run_command(std::string(LORACLE_APP_PATH) + " " + arguments, (dir_ / "stderr").string());
  }
  std::string prices(const std::string& listed) {
    return dir_.write("prices.json",
                      R"({"schema": "loracle.prices/1", "currency": "EUR", "prices": )" + listed + "}");
  }
  void expect_error(const std::string& flags, int exit_code, const std::string& words) {
    const Outcome outcome = run("plan " + trace_ + " " + flags);
    EXPECT_EQ(outcome.exit_code, exit_code) << flags << "\n" << outcome.err;
    EXPECT_NE(outcome.err.find(words), std::string::npos) << flags << "\n" << outcome.err;
    EXPECT_TRUE(outcome.out.empty()) << outcome.out;
  }

  TempDir dir_;
  std::string trace_;
};

// If this failed, a mistake about money would be met with silence, or with another exit code.
TEST_F(PlanCostsCli, MistakesAreNamedWithFileAndField) {
  expect_error("--prices " + (dir_ / "none.json").string(), 3, "none.json: no such file");
  expect_error("--prices " + prices(R"({"gpu_hour": -4})"), 4, "prices.json: 'prices.gpu_hour' is -4");
  expect_error("--prices " + prices(R"({"gpu_hour": NaN})"), 4, "not a JSON object");
  expect_error("--prices " + prices(R"({"gpu_hr": 4})"), 4, "did you mean 'gpu_hour'");
  expect_error("--objective money", 2, "write hits or cost");
  expect_error("--objective cost", 2, "--prices FILE");
  expect_error("--objective cost --prices " + prices(R"({"gpu_hour": 4, "host_gib_month": 2})"), 2,
               "--gpu-memory");
  expect_error("--slo 200ms", 2, "--objective cost");
  expect_error("--slo 200", 2, "with its unit");
  expect_error("--kv-dtype int3", 2, "fp8");
  expect_error("--gpu-memory 80GiB", 2, "--model");
  expect_error("--model llama-3.1-8b --gpu-memory 8GiB", 5, "--model-weights");
  expect_error("--engines sglnag", 2, "did you mean 'sglang'");
}

// If this failed, the cheapest sizes would not be advised, or not against today's.
TEST_F(PlanCostsCli, TheCheapestSizesAreAdvisedAndComparedWithTodays) {
  const std::string file = prices(R"({"gpu_hour": 4, "host_gib_month": 2, "disk_gib_month": 0.1,
                                      "egress_gib": 0, "gets_1000": 0})");
  const std::string flags = "plan " + trace_ + " --model llama-3.1-8b --gpu-memory 80GiB --prices " + file +
                            " --objective cost --slo 500ms --max-slo-misses 5% --current-max-loras 20";
  const Outcome text = run(flags + " --format text");
  ASSERT_EQ(text.exit_code, 30) << "too short a trace to judge today's setting\n" << text.err;
  EXPECT_NE(text.out.find("EUR a month"), std::string::npos) << text.out;
  const Outcome outcome = run(flags + " --format json");
  const auto json = nlohmann::json::parse(outcome.out, nullptr, false);
  ASSERT_TRUE(json.is_object()) << outcome.err;
  EXPECT_EQ(json["recommendation"]["max_loras_from"], "cost");
  const std::string reason = json["recommendation"]["reason"];
  EXPECT_NE(reason.find("is the cheapest that meets every constraint"), std::string::npos) << reason;
  EXPECT_LE(json["costs"]["chosen"]["total_millionths"], json["costs"]["today"]["cost"]["total_millionths"])
      << "every adapter in a slot meets everything too";
  EXPECT_EQ(json["costs"]["slo_s"], 0.5);
  EXPECT_NE(json["reproduce"].get<std::string>().find("--objective cost --slo 500ms"), std::string::npos);
}

}  // namespace
}  // namespace loracle
