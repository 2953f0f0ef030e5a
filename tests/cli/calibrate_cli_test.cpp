// `loracle calibrate`, and what plan and what-if make of its file.

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>

#include "support/run_command.hpp"
#include "support/temp_dir.hpp"

namespace loracle {
namespace {

using nlohmann::json;
using testing::Outcome;
using testing::TempDir;

std::string read_all(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

class CalibrateCli : public ::testing::Test {
 protected:
  Outcome run(const std::string& arguments) {
    return testing::run_command(std::string(LORACLE_APP_PATH) + " " + arguments, (dir_ / "stderr").string());
  }
  void expect_error(const std::string& arguments, int exit_code, const std::string& words) {
    const Outcome outcome = run(arguments);
    EXPECT_EQ(outcome.exit_code, exit_code) << arguments << "\n" << outcome.err;
    EXPECT_NE(outcome.err.find(words), std::string::npos) << arguments << "\n" << outcome.err;
  }
  /// Loads of both ways without noise: 1 ms and 10 GB/s into slots, 5 ms and 1 GB/s from disk.
  std::string loads() {
    std::string text = "tier,bytes,seconds\n";
    for (int i = 0; i < 4; ++i)
      for (const double megabytes : {10.0, 20.0, 40.0, 80.0, 160.0}) {
        const std::string bytes = std::to_string(static_cast<int>(megabytes * 1e6));
        text += "slot," + bytes + "," + std::to_string(0.001 + megabytes * 1e-4) + "\n";
        text += "disk," + bytes + "," + std::to_string(0.005 + megabytes * 1e-3) + "\n";
      }
    return dir_.write("loads.csv", text);
  }
  std::string calibrated() {
    const std::string path = (dir_ / "c.json").string();
    const Outcome made =
        run("calibrate --loads " + loads() + " --machine 'NVIDIA H200' --date 2026-11-22 --out " + path);
    EXPECT_EQ(made.exit_code, 0) << made.err;
    EXPECT_NE(made.out.find("predicted"), std::string::npos) << made.out;
    EXPECT_NE(made.out.find("step: 0 steps, 20 are needed"), std::string::npos) << made.out;
    EXPECT_TRUE(made.err.empty()) << made.err;
    return path;
  }

  TempDir dir_;
};

// If this failed, what was measured would not reach the plan, or a guess would pass for it.
TEST_F(CalibrateCli, PlanAndWhatIfUseTheFileAndSaySo) {
  const std::string file = calibrated();
  const json written = json::parse(read_all(file), nullptr, false);
  EXPECT_EQ(written.at("schema"), "loracle.calibration/1");
  EXPECT_NEAR(written.at("slot").at("latency_s"), 0.001, 1e-6);
  EXPECT_NEAR(written.at("slot").at("bytes_per_s"), 10e9, 1e7);
  EXPECT_NEAR(written.at("disk").at("bytes_per_s"), 1e9, 1e6);
  EXPECT_TRUE(written.at("step").is_null());

  const std::string trace = (dir_ / "t.jsonl").string();
  ASSERT_EQ(run("trace gen zipf --adapters 20 --requests 500 --rate 4 --duration-mean 2 --seed 1 -o " + trace)
                .exit_code,
            0);
  const std::string plan = "plan " + trace + " --model llama-3.1-8b ";
  const Outcome plain = run(plan);
  EXPECT_NE(plain.out.substr(0, 300).find("UNCALIBRATED)"), std::string::npos) << plain.out;
  const Outcome measured = run(plan + "--calibration " + file);
  ASSERT_EQ(measured.exit_code, 0) << measured.err;
  EXPECT_NE(measured.out.substr(0, 300).find("calibrated 2026-11-22 on NVIDIA"), std::string::npos)
      << measured.out;
  EXPECT_EQ(measured.out.find("UNCALIBRATED"), std::string::npos) << measured.out;
  const json planned = json::parse(run(plan + "--format json --calibration " + file).out, nullptr, false);
  EXPECT_EQ(planned.at("recommendation").at("calibration"), "calibrated");
  EXPECT_NE(planned.at("reproduce").get<std::string>().find("--calibration " + file), std::string::npos);
  const Outcome by_hand = run(plan + "--slot-load-time 3ms --disk-load-time 50ms --calibration " + file);
  EXPECT_NE(by_hand.out.find("UNCALIBRATED: load times as given)"), std::string::npos) << by_hand.out;

  const std::string what_if = "what-if --adapters 200 --rate 4 --held 6s ";
  EXPECT_NE(run(what_if).out.find("UNCALIBRATED, load times are guesses: 8 ms into a slot, 100 ms"),
            std::string::npos);
  const json model = json::parse(
      run(what_if + "--adapter-size 100MB --format json --calibration " + file).out, nullptr, false);
  EXPECT_EQ(model.at("calibration"), "calibrated");
  EXPECT_NEAR(model.at("slot_load_s"), 0.011, 1e-5);
  EXPECT_NEAR(model.at("disk_load_s"), 0.105, 1e-4);
}

// If this failed, a simulation would run with guesses where times were measured, or hide which it used.
TEST_F(CalibrateCli, SimulateUsesTheFileAndFlagsStand) {
  const std::string file = calibrated();
  const std::string trace =
      dir_.write("tokens.jsonl", R"({"type":"adapter","adapter":"a","bytes":1000000})"
                                 "\n"
                                 R"({"type":"adapter","adapter":"b","bytes":1000000})"
                                 "\n"
                                 R"({"arrival_s":0,"adapter":"a","input_tokens":10,"output_tokens":2})"
                                 "\n"
                                 R"({"arrival_s":1,"adapter":"b","input_tokens":10,"output_tokens":2})"
                                 "\n");
  const std::string simulate = "simulate " + trace + " --max-loras 2 --format json ";
  const json guessed = json::parse(run(simulate).out, nullptr, false);
  EXPECT_EQ(guessed.at("service").at("source"), "UNCALIBRATED: built-in times");
  const json measured = json::parse(run(simulate + "--calibration " + file).out, nullptr, false);
  EXPECT_EQ(measured.at("service").at("source"), "calibrated 2026-11-22 on NVIDIA H200");
  EXPECT_NEAR(measured.at("service").at("slot").at("bytes_per_s"), 10e9, 1e7);
  EXPECT_EQ(measured.at("service").at("base_s"), guessed.at("service").at("base_s"))
      << "no step was measured";
  const json by_hand =
      json::parse(run(simulate + "--step-base 20ms --calibration " + file).out, nullptr, false);
  EXPECT_EQ(by_hand.at("service").at("base_s"), 0.02);
  EXPECT_EQ(by_hand.at("service").at("source"), "calibrated 2026-11-22 on NVIDIA H200, and flags");
  expect_error(simulate + "--calibration " + (dir_ / "none").string(), 3, "none");
}

// If this failed, --measure would leave files behind, count the page cache, or call memory a GPU.
TEST_F(CalibrateCli, MeasuresThisMachine) {
  std::filesystem::create_directory(dir_ / "disk");
  const std::string folder = (dir_ / "disk").string();
  const Outcome made =
      run("calibrate --measure " + folder + " --largest 1MiB --rounds 5 --model tiny --format json");
  ASSERT_EQ(made.exit_code, 0) << made.err;
  EXPECT_TRUE(std::filesystem::is_empty(folder));
  const json calibration = json::parse(made.out, nullptr, false);
  ASSERT_TRUE(calibration.is_object()) << made.out;
  EXPECT_EQ(calibration.at("disk").at("quality").at("count"), 25) << "five sizes, five times";
  EXPECT_EQ(calibration.at("disk").at("bytes_max"), 1 << 20);
  EXPECT_EQ(calibration.at("date").get<std::string>().size(), 10U);
  EXPECT_NE(calibration.at("machine").get<std::string>().find("threads"), std::string::npos);
  if (calibration.at("slot").is_null()) {
    EXPECT_NE(made.err.find("there is no GPU here"), std::string::npos) << made.err;
  }
  expect_error("calibrate --measure " + (dir_ / "none").string(), 3, "none");
  expect_error("calibrate --measure " + folder + " --largest 1KiB", 2, "--largest");
  expect_error("calibrate --measure " + folder + " --largest 1MiB --model lama", 2, "lama");
}

// If this failed, mistakes would be met with silence or a misleading exit code.
TEST_F(CalibrateCli, SaysWhatItLacks) {
  expect_error("calibrate", 2, "nothing to calibrate from");
  expect_error("calibrate --loads " + loads() + " --date yesterday", 2, "--date 'yesterday'");
  expect_error("calibrate --loads " + (dir_ / "none.csv").string(), 3, "none.csv");
  expect_error("calibrate --loads " + dir_.write("few.csv", "tier,bytes,seconds\nslot,1,1\n"), 5,
               "slot: 1 load, 5 are needed");
  expect_error("calibrate --loads " + dir_.write("bad.csv", "tier,bytes,seconds\nslot,1,-1\n"), 4,
               "bad.csv:2");
  const std::string log = dir_.write("v.log", "INFO Engine 000: Running: 3 reqs\n");
  expect_error("calibrate --vllm-log " + log, 4, "--enable-logging-iteration-details");
  expect_error("calibrate --vllm-log " + log + " --steps " + log, 2, "give one");
  expect_error("calibrate --metrics http://127.0.0.1:1/metrics", 3, "127.0.0.1");
  const std::string wrong = dir_.write("wrong.json", "{\"schema\":\"loracle.calibration/9\"}");
  expect_error("what-if --adapters 9 --rate 1 --held 1s --calibration " + wrong, 4, "loracle.calibration/9");
  const Outcome help = run("calibrate --help");
  EXPECT_EQ(help.exit_code, 0);
  EXPECT_NE(help.out.find("Examples:"), std::string::npos);
  const Outcome to_stdout = run("calibrate --loads " + loads() + " --date 2026-11-22 --out -");
  EXPECT_TRUE(json::parse(to_stdout.out, nullptr, false).is_object()) << to_stdout.out;
  EXPECT_EQ(run("calibrate --loads " + loads() + " --date 2026-11-22 --out -").out, to_stdout.out);
}

}  // namespace
}  // namespace loracle
