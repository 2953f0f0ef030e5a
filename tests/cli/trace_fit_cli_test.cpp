// Drives `loracle trace fit` and `loracle trace synth` the way a person does.

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

using testing::Outcome;
using testing::TempDir;

std::string read_all(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

class TraceFitCli : public ::testing::Test {
 protected:
  Outcome run(const std::string& arguments) {
    return testing::run_command(std::string(LORACLE_APP_PATH) + " trace " + arguments,
                                (dir_ / "stderr").string());
  }
  void expect_error(const std::string& arguments, int exit_code, const std::string& words) {
    const Outcome outcome = run(arguments);
    EXPECT_EQ(outcome.exit_code, exit_code) << arguments << "\n" << outcome.err;
    EXPECT_NE(outcome.err.find(words), std::string::npos) << arguments << "\n" << outcome.err;
  }
  std::string path(const char* name) { return (dir_ / name).string(); }
  /// A trace of 3000 requests of 30 adapters, and its fit.
  void make_fit() {
    const std::string generated = "gen zipf --adapters 30 --requests 3000 --rate 2 --duration-mean 4 -o ";
    ASSERT_EQ(run(generated + path("t.jsonl")).exit_code, 0);
    const Outcome fit = run("fit " + path("t.jsonl") + " --json " + path("fit.json"));
    ASSERT_EQ(fit.exit_code, 0) << fit.err;
    EXPECT_NE(fit.out.find("Zipf, alpha"), std::string::npos) << fit.out;
    EXPECT_NE(fit.out.find("\n  ACCEPTED"), std::string::npos) << fit.out;
  }

  TempDir dir_;
};

// If this failed, a trace could not be fitted, drawn anew and compared in three commands.
TEST_F(TraceFitCli, FitsDrawsAndAccepts) {
  make_fit();
  const std::string from = "synth --from " + path("fit.json");
  const Outcome checked = run(from + " --seed 7 --check " + path("t.jsonl") + " " + path("s.jsonl"));
  EXPECT_EQ(checked.exit_code, 0) << checked.err;
  EXPECT_EQ(checked.out.find("ACCEPTED"), 0U) << checked.out;
  ASSERT_EQ(run(from + " --seed 7 -o " + path("again.jsonl")).exit_code, 0);
  EXPECT_FALSE(read_all(path("s.jsonl")).empty());
  EXPECT_EQ(read_all(path("s.jsonl")), read_all(path("again.jsonl"))) << "same seed, same bytes";
  EXPECT_EQ(run(from + " --seed 7 -").out, read_all(path("s.jsonl")));
  ASSERT_EQ(run(from + " --duration 1h --rate-times 2 --adapters-times 3 " + path("l.ltr")).exit_code, 0);
  const Outcome info = run("info " + path("l.ltr") + " --format json");
  const nlohmann::json json = nlohmann::json::parse(info.out, nullptr, false);
  ASSERT_TRUE(json.is_object()) << info.out;
  EXPECT_EQ(json.at("trace").at("adapters"), 90);
  EXPECT_NEAR(json.at("trace").at("requests").get<double>(), 2.0 * 3600 * 2 * 3, 2000);
  EXPECT_LT(json.at("span_s").get<double>(), 3600);
}

// If this failed, a script would go on with a trace that is nothing like its source.
TEST_F(TraceFitCli, WhatIsNotLikeItsSourceIsNotWritten) {
  make_fit();
  ASSERT_EQ(run("gen zipf --adapters 200 --alpha 0.2 --requests 3000 -o " + path("o.jsonl")).exit_code, 0);
  const Outcome outcome =
      run("synth --from " + path("fit.json") + " --check " + path("o.jsonl") + " " + path("s.jsonl"));
  EXPECT_EQ(outcome.exit_code, 11) << outcome.err;
  EXPECT_EQ(outcome.out.find("NOT ACCEPTED"), 0U) << outcome.out;
  EXPECT_FALSE(std::filesystem::exists(path("s.jsonl")));
}

// If this failed, a wrong file or flag would not be told from a right one.
TEST_F(TraceFitCli, SaysWhatIsWrong) {
  make_fit();
  const std::string from = "synth --from " + path("fit.json");
  expect_error("synth --from " + path("none.json") + " x.jsonl", 3, "none.json");
  expect_error("synth --from " + path("t.jsonl") + " x.jsonl", 4, "trace fit");
  expect_error("synth --from " + dir_.write("p.json", R"({"schema": "loracle.plan/1"})") + " x.jsonl", 4,
               "loracle.plan/1");
  expect_error(from, 2, "--check");
  expect_error(from + " --duration soon x.jsonl", 2, "duration");
  expect_error(from + " --requests 5 x.jsonl", 2, "--duration");
  expect_error(from + " --rate-times 0 x.jsonl", 2, "rate");
  expect_error(from + " --check " + path("none.jsonl"), 3, "none.jsonl");
  expect_error("fit " + path("t.jsonl") + " --window soon", 2, "duration");
  expect_error("fit " + dir_.write("one.jsonl", "{\"adapter\":\"a\",\"arrival_s\":1}\n"), 2, "1 requests");
  EXPECT_FALSE(std::filesystem::exists("x.jsonl"));
}

}  // namespace
}  // namespace loracle
