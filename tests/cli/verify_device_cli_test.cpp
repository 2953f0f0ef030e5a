// `loracle verify-device` as a person runs it, on a machine with a GPU or without.

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "support/run_command.hpp"
#include "support/temp_dir.hpp"

namespace loracle {
namespace {

using testing::Outcome;

Outcome run(const std::string& arguments) {
  const testing::TempDir dir;
  return testing::run_command(std::string(LORACLE_APP_PATH) + " verify-device " + arguments,
                              (dir / "stderr").string());
}

// If this failed, an operator would trust a device whose slots or products are wrong, or distrust a good one.
TEST(VerifyDevice, FindsHostMemoryRight) {
  const Outcome outcome = run("--device host --format json");
  ASSERT_EQ(outcome.exit_code, 0) << outcome.out << outcome.err;
  const nlohmann::json found = nlohmann::json::parse(outcome.out, nullptr, false);
  EXPECT_EQ(found.at("device"), "host");
  EXPECT_TRUE(found.at("wrong").empty());
  EXPECT_GT(found.at("matrices_loaded"), 0);
  EXPECT_GT(found.at("matrices_compared"), 0);
  EXPECT_GT(found.at("products_compared"), 0);
  EXPECT_GT(found.at("worst_error_share"), 0) << "nothing was rounded: nothing was multiplied";
  EXPECT_LE(found.at("worst_error_share"), 1);
}

// If this failed, a machine without a GPU would look like one whose GPU was verified.
TEST(VerifyDevice, SaysWhetherThereWasAGpu) {
  const Outcome outcome = run("");
  ASSERT_EQ(outcome.exit_code, 0) << outcome.out << outcome.err;
  const bool on_gpu = outcome.out.find("device: cuda\n") != std::string::npos;
  EXPECT_EQ(outcome.out.find("no GPU was verified") == std::string::npos, on_gpu) << outcome.out;
  const Outcome cuda = run("--device cuda");
  EXPECT_EQ(cuda.exit_code, on_gpu ? 0 : 5) << cuda.err;
  EXPECT_EQ(run("--device gpu").exit_code, 2);
}

}  // namespace
}  // namespace loracle
