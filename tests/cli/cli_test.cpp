// Drives the real binary the way a person does: flags in, exit code, stdout and stderr out.

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>

#include "support/run_command.hpp"
#include "support/sanitized.hpp"
#include "support/shared_data.hpp"
#include "support/temp_dir.hpp"

namespace loracle {
namespace {

using testing::Outcome;
using testing::TempDir;

std::string read_all(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

class Cli : public ::testing::Test {
 protected:
  Outcome run(const std::string& arguments) { return shell(std::string(LORACLE_APP_PATH) + " " + arguments); }
  /// With 600 MB of address space; sanitizers need terabytes of it, so under them there is no limit.
  Outcome run_limited(const std::string& arguments) {
    const std::string limit = testing::all_or_few("ulimit -v 600000; ", "");
    return shell(limit + LORACLE_APP_PATH + " " + arguments);
  }
  Outcome shell(const std::string& what) { return testing::run_command(what, (dir_ / "stderr").string()); }
  nlohmann::json run_json(const std::string& arguments) {
    const Outcome outcome = run(arguments + " --format json");
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    return nlohmann::json::parse(outcome.out, nullptr, false);
  }
  void expect_error(const std::string& arguments, int exit_code, const std::string& words) {
    const Outcome outcome = run(arguments);
    EXPECT_EQ(outcome.exit_code, exit_code) << arguments << "\n" << outcome.err;
    EXPECT_NE(outcome.err.find(words), std::string::npos) << arguments << "\n" << outcome.err;
    EXPECT_TRUE(outcome.out.empty()) << outcome.out;
  }
  std::string small_trace() {
    return dir_.write("small.jsonl",
                      "{\"type\":\"adapter\",\"adapter\":\"a\",\"bytes\":100,\"rank\":8}\n"
                      "{\"adapter\":\"a\",\"arrival_s\":0}\n{\"adapter\":\"b\",\"arrival_s\":1}\n"
                      "{\"adapter\":null,\"arrival_s\":2}\n{\"adapter\":[\"a\",\"c\"],\"arrival_s\":3}\n"
                      "{\"adapter\":\"b\",\"arrival_s\":4}\n");
  }

  TempDir dir_;
};

// If this failed, the engine would not decide as the replay that sized it.
TEST_F(Cli, TheEngineDecidesAsTheReplayDoesOnTheSameDirectory) {
  const std::string trace = (dir_ / "t.jsonl").string();
  const std::string adapters = (dir_ / "adapters").string();
  ASSERT_EQ(run("trace gen zipf --adapters 40 --requests 600 --seed 3 -o " + trace).exit_code, 0);
  const Outcome made =
      run("make-adapters " + adapters + " --names-from " + trace + " --ranks 8,64 --model tiny");
  ASSERT_EQ(made.exit_code, 0) << made.err;
  const std::string sizes = " --catalog " + adapters + " --max-loras 4 --max-cpu-loras 16";
  const std::string pins = " --pin adapter-0003 --pin adapter-0001";
  for (const char* policy : {"lru/lru", "gdsf/gdsf", "sieve/gdsf"}) {
    for (const std::string& more : {std::string(), pins, std::string(" --max-cpu-memory 300KiB")}) {
      const nlohmann::json replayed = run_json("replay " + trace + sizes + more + " --tiers " + policy);
      const nlohmann::json served =
          run_json("engine run " + trace + sizes + more + " --device host --policy " + policy);
      EXPECT_EQ(served.at("device"), "host");
      for (const char* key : {"decision_log_hash", "uses", "gpu_hits", "host_to_device_loads", "disk_loads",
                              "gpu_evictions", "host_evictions", "decisions"}) {
        EXPECT_EQ(replayed.at(key), served.at(key)) << policy << more << " " << key;
      }
      EXPECT_EQ(served.at("requests_failed"), 0);
      EXPECT_GT(served.at("bytes_loaded"), 0);
    }
  }
}

// If this failed, an operator would take a half-served trace for a served one.
TEST_F(Cli, TheEngineSaysWhatItCouldNotServe) {
  const std::string adapters = (dir_ / "adapters").string();
  const std::string trace = small_trace();
  ASSERT_EQ(run("make-adapters " + adapters + " --count 1 --model tiny").exit_code, 0);
  const Outcome outcome = run("engine run " + trace + " --catalog " + adapters + " --format json");
  EXPECT_EQ(outcome.exit_code, 5);
  EXPECT_NE(outcome.err.find("no adapter is called 'a'"), std::string::npos) << outcome.err;
  expect_error("engine run " + trace + " --catalog " + (dir_ / "none").string(), 3, "none");
  EXPECT_EQ(run("engine run " + trace + " --catalog " + adapters + " --format JSON").out.front(), '{')
      << "not text without a word";
  expect_error("engine run " + trace + " --catalog " + adapters + " --device gpu", 2, "auto");
  const Outcome cuda = run("engine run " + trace + " --catalog " + adapters + " --device cuda");
  EXPECT_TRUE(cuda.exit_code == 0 || (cuda.exit_code == 5 && cuda.err.find("CUDA") != std::string::npos))
      << "well put, and impossible where there is no GPU: " << cuda.exit_code << ' ' << cuda.err;
  expect_error("engine run " + trace + " --catalog " + adapters + " --policy belady", 2, "future");
  expect_error("engine run " + trace + " --catalog " + adapters + " --max-loras 4 --max-cpu-loras 2", 2,
               "max_cpu_loras");
}

// If this failed, a run would evict adapters of the trace for one that it never names, and call it a replay.
TEST_F(Cli, TheEngineRefusesWhatWouldNotBeTheReplay) {
  const std::string trace = small_trace();
  const std::string adapters = (dir_ / "adapters").string();
  ASSERT_EQ(run("make-adapters " + adapters + " --names-from " + trace + " --model tiny").exit_code, 0);
  ASSERT_EQ(run("make-adapters " + adapters + " --count 1 --model tiny").exit_code, 0);
  const std::string served =
      "engine run " + trace + " --catalog " + adapters + " --device host --max-loras 2";
  expect_error(served + " --pin adapter-0000", 2, "adapter-0000");
  expect_error(served + " --policy lur", 2, "did you mean 'lru'");
  expect_error(served + " --policy lru/lru/lru", 2, "device/host");
  expect_error(served + " --max-cpu-memory 0", 2, "--max-cpu-memory 0");
  expect_error(served + " --database " + (dir_ / "no" / "c.db").string(), 3, "make it");
  expect_error(served + " --format xml", 2, "text");
  // The second run finds in its database what was resident at the end of the first.
  const std::string database = " --database " + (dir_ / "c.db").string();
  const nlohmann::json first = run_json(served + database);
  const nlohmann::json second = run_json(served + database);
  EXPECT_EQ(first.at("decision_log_hash"), second.at("decision_log_hash"));
  const Outcome narrow = run(served + " --max-lora-rank 1 --format json");
  EXPECT_NE(narrow.err.find("left out"), std::string::npos) << narrow.err;
}

// If this failed, a flag would be taken and do nothing.
TEST_F(Cli, ReplayRefusesFlagsOfTheOtherKind) {
  const std::string trace = small_trace();
  const std::string alone = "replay " + trace + " --policy lru --capacity 2";
  for (const char* const flag :
       {" --decision-log x.csv", " --pin a", " --exclusive", " --max-cpu-memory 1GiB"})
    expect_error(alone + flag, 2, "--tiers");
  expect_error("replay " + trace + " --tiers lru --max-loras 2 --unit bytes", 2, "--unit");
  expect_error("replay " + trace + " --policy lru --capacity 2 --requests -1", 2, "--requests");
}

// If this failed, the planner would praise a slot count at which requests queue for minutes.
TEST_F(Cli, PlanSeesTheTrapOfRequestsThatHoldTheirSlots) {
  const auto planned = [this](const char* duration, const std::string& requests) {
    const std::string trace = (dir_ / (std::string(duration) + ".jsonl")).string();
    EXPECT_EQ(run("trace gen zipf --rate 4 --adapters 200 --alpha 0.9 --seed 7 --requests " + requests +
                  " --duration-mean " + duration + " -o " + trace)
                  .exit_code,
              0);
    return run_json("plan " + trace);
  };
  const nlohmann::json six = planned("6", "40000");
  const int slots = six.at("recommendation").at("max_loras");
  EXPECT_GE(slots, 28);
  EXPECT_LE(slots, 40);
  for (const nlohmann::json& row : six.at("advisory").at("max_loras")) {
    if (row.at("max_loras") > 16) continue;
    EXPECT_TRUE(row.at("below_floor")) << row;
    EXPECT_GT(row.at("wait_probability"), 0.3) << row;
  }
  EXPECT_LT(planned("2", testing::all_or_few("40000", "5000")).at("recommendation").at("max_loras"), slots);
}

// If this failed, a nightly check of today's setting would call what it found by the wrong code.
TEST_F(Cli, PlanJudgesTodaysSettingByItsExitCode) {
  const std::string trace = (dir_ / "today.jsonl").string();
  ASSERT_EQ(
      run("trace gen zipf --rate 4 --adapters 50 --alpha 0.9 --duration-mean 6 --requests 4000 --seed 7 -o " +
          trace)
          .exit_code,
      0);
  const std::string plan = "plan " + trace + " --policy lru ";
  EXPECT_EQ(run(plan).exit_code, 0) << "nothing was asked";
  EXPECT_EQ(run(plan + "--current-max-loras 1").exit_code, 10) << "requests wait";
  EXPECT_EQ(run(plan + "--current-max-loras 40 --current-max-cpu-loras 50").exit_code, 30)
      << "it serves, but popularity never changes in this trace";
  const std::string tight = plan + "--model llama-3.1-8b --gpu-memory-for-loras 700MiB ";
  EXPECT_EQ(run(tight).exit_code, 0) << "infeasible is an answer";
  EXPECT_EQ(run(tight + "--current-max-loras 2").exit_code, 20);
  const Outcome wide = run(tight + "--current-max-loras 40 --current-max-cpu-loras 50 --format json");
  EXPECT_EQ(wide.exit_code, 20);
  EXPECT_NE(wide.out.find("of GPU memory for today's 40 slots is more than the 700.0 MiB"), std::string::npos)
      << "it serves, and takes more than was given";
  expect_error(plan + "--current-max-cpu-loras 4", 2, "slots too");
  expect_error(plan + "--current-max-loras 8 --current-max-cpu-loras 4", 2, "fewer than the 8 slots");
  const Outcome markdown = run(plan + "--current-max-loras 1 --format markdown");
  EXPECT_NE(markdown.out.find("**change advised"), std::string::npos) << markdown.out;
  const Outcome help = run("plan --help");
  EXPECT_NE(help.out.find("30 not enough data"), std::string::npos) << help.out;
  const Outcome none =
      shell("CHROMIUM=/nowhere/chromium " LORACLE_APP_PATH " " + plan + "--svg " + (dir_ / "svg").string());
  EXPECT_EQ(none.exit_code, 3) << none.err;
  EXPECT_NE(none.err.find("install"), std::string::npos) << none.err;
}

// If this failed, scripts that read the documented JSON would break.
TEST_F(Cli, ReplayPrintsTheDocumentedJson) {
  const nlohmann::json json = run_json("replay " + small_trace() + " --policy lru,belady --capacity 1,2");
  EXPECT_EQ(json.at("requests"), 5);
  EXPECT_EQ(json.at("trace").at("requests"), 5);
  EXPECT_EQ(json.at("trace").at("mapping"), "lora");
  ASSERT_EQ(json.at("results").size(), 4U);
  const nlohmann::json& first = json.at("results").at(0);
  EXPECT_EQ(first.at("policy"), "lru");
  EXPECT_EQ(first.at("capacity"), 1);
  EXPECT_EQ(first.at("unit"), "objects");
  EXPECT_EQ(first.at("misses"), 5);
  EXPECT_EQ(first.at("miss_ratio"), 1.0);
  EXPECT_TRUE(first.at("bytes_missed").is_null() && first.contains("seconds")) << "adapters are counted";
}

// If this failed, the two-tier replay would no longer match its hand count, or lose a field.
TEST_F(Cli, TiersPrintTheDocumentedJsonAndLog) {
  const std::string log = (dir_ / "log.csv").string();
  const nlohmann::json json = run_json(
      "replay " + small_trace() + " --tiers lru/lru --max-loras 2 --max-cpu-loras 3 --decision-log " + log);
  EXPECT_EQ(json.at("gpu_hits"), 1);  // a is still there when {a, c} comes
  EXPECT_EQ(json.at("host_to_device_loads"), 4);
  EXPECT_EQ(json.at("disk_loads"), 3);
  EXPECT_EQ(json.at("gpu_evictions"), 2);
  EXPECT_EQ(json.at("host_evictions"), 0);
  EXPECT_EQ(json.at("decision_log_hash").get<std::string>().size(), 16U);
  const std::string text = read_all(log);
  EXPECT_EQ(text.substr(0, text.find('\n')), "sequence,action,adapter,from,to,slot");
  EXPECT_NE(text.find("load,c,origin,host,"), std::string::npos) << text;
}

// Whoever has no trace yet would get no answer, or one that the trap of a good hit ratio has spoilt.
TEST_F(Cli, WhatIfAnswersWithoutATrace) {
  const std::string traffic = "what-if --adapters 200 --rate 4 --held 6s ";
  const nlohmann::json chosen = run_json(traffic + "--max-cpu-loras 128");
  EXPECT_GE(chosen.at("max_loras"), 26);
  EXPECT_LE(chosen.at("max_loras"), 32);
  ASSERT_EQ(chosen.at("what_if").size(), 10U);
  const nlohmann::json& today = chosen.at("what_if").at(0);
  EXPECT_NEAR(today.at("in_use_mean"), 18.5, 0.1);
  EXPECT_LE(today.at("waits"), 0.01);
  EXPECT_TRUE(chosen.at("what_if").at(1).at("piles_up")) << "twice the traffic";
  EXPECT_TRUE(run_json(traffic + "--max-loras 4").at("what_if").at(0).at("piles_up"));
  EXPECT_NE(run(traffic).out.find("piles up"), std::string::npos) << "twice the traffic";
  EXPECT_EQ(run_json("what-if --adapters 1 --rate 4 --held 6s").at("max_loras"), 1);
  expect_error(traffic + "--max-loras 8 --max-cpu-loras 4", 2, "--max-cpu-loras 4 is below --max-loras 8");
  expect_error("what-if --adapters 200 --rate 4 --held soon", 2, "'soon' is not a duration");
  expect_error(traffic + "--slot-load-time 8", 2, "'8' is no time of a load");
}

// If this failed, loads would be simulated in no time, and called calibrated.
TEST_F(Cli, SimulateNeedsSizesForRates) {
  const std::string trace =
      dir_.write("bare.jsonl",
                 "{\"adapter\":\"a\",\"arrival_s\":0,\"input_tokens\":10,\"output_tokens\":10}\n"
                 "{\"adapter\":\"b\",\"arrival_s\":9,\"input_tokens\":10,\"output_tokens\":10}\n");
  const std::string asked = "simulate " + trace + " --max-loras 1 ";
  expect_error(asked + "--slot-load-rate 20GiB", 2, "does not say of every adapter how many bytes it has");
  std::string loads = "tier,bytes,seconds\n";
  for (int i = 1; i <= 60; ++i)
    for (const char* const tier : {"slot", "disk"})
      loads += std::string(tier) + "," + std::to_string(i * 1000000) + "," +
               std::to_string(0.001 + 0.01 * i) + "\n";
  const std::string model = (dir_ / "cal.json").string();
  const Outcome fitted = run("calibrate --loads " + dir_.write("loads.csv", loads) + " --out " + model);
  ASSERT_EQ(fitted.exit_code, 0) << fitted.err;
  const nlohmann::json simulated = run_json(asked + "--calibration " + model);
  EXPECT_GT(simulated.at("total").at("load_wait_s").at("mean").get<double>(), 0.5) << "two of 0.3 s";
  EXPECT_NE(simulated.at("service").at("source").get<std::string>().find("of the median size"),
            std::string::npos);
}

// If this failed, a fleet would be planned on figures that do not add up, or that change from run to run.
TEST_F(Cli, SimulatesAFleetStepByStep) {
  const std::string trace = (dir_ / "tokens.jsonl").string();
  ASSERT_EQ(run("trace gen zipf --adapters 50 --requests 2000 --rate 20 --input-tokens-mean 100 "
                "--output-tokens-mean 50 -o " +
                trace)
                .exit_code,
            0);
  const std::string asked = "simulate " + trace + " --max-loras 8 --max-cpu-loras 20 ";
  const nlohmann::json fleet = run_json(asked + "--replicas 3 --router lora-affinity --prefetch");
  const nlohmann::json& total = fleet.at("total");
  EXPECT_EQ(total.at("requests"), 2000);
  EXPECT_EQ(fleet.at("replicas").size(), 3U);
  std::uint64_t requests = 0;
  std::uint64_t loads = 0;
  for (const nlohmann::json& replica : fleet.at("replicas"))
    requests += replica.at("requests").get<std::uint64_t>();
  for (const nlohmann::json& adapter : fleet.at("adapters"))
    loads += adapter.at("slot").at("loads").get<std::uint64_t>();
  EXPECT_EQ(requests, 2000U);
  EXPECT_EQ(loads, total.at("slot").at("loads").get<std::uint64_t>());
  EXPECT_EQ(total.at("stalled_s"), 0);
  EXPECT_GT(run_json(asked + "--loads-stall").at("total").at("stalled_s"), 0);
  const Outcome text = run(asked);
  EXPECT_NE(text.out.find("time to first token"), std::string::npos) << text.out;
  EXPECT_NE(text.out.find("UNCALIBRATED"), std::string::npos) << text.out;
  EXPECT_EQ(run(asked).out, text.out);
  EXPECT_EQ(run(asked + "--format csv").out.substr(0, 11), "scope,name,");
  expect_error("simulate " + small_trace() + " --max-loras 2", 2, "give input_tokens and output_tokens");
  for (const char* rate : {"2MB/s", "2000kB"})
    EXPECT_EQ(run_json(asked + "--slot-load-rate " + rate).at("service").at("slot").at("bytes_per_s"), 2e6);
  expect_error(asked + "--router fair", 2, "fair");
  expect_error(asked + "--step-base 8", 2, "--step-base '8': write 0, or a time");
  expect_error(asked + "--priority nobody=1", 2, "names no tenants");
  expect_error(asked + "--loads-stall --prefetch", 2, "drop one of the two");
}

// If this failed, `simulate` and `plan` would say other waits of the same trace, and nobody why.
TEST_F(Cli, SimulateSaysThatItDoesNotUseDurations) {
  const std::string trace = (dir_ / "timed.jsonl").string();
  const std::string gen =
      "trace gen zipf --adapters 5 --requests 200 --rate 2 --input-tokens-mean 100 --output-tokens-mean 50 ";
  ASSERT_EQ(run(gen + "--duration-mean 6s -o " + trace).exit_code, 0);
  const std::string asked = "simulate " + trace + " --max-loras 5 ";
  const nlohmann::json timed = run_json(asked);
  const double held_s = timed.at("held_mean_s").get<double>();
  EXPECT_NEAR(timed.at("trace_duration_mean_s").get<double>(), 6, 2);
  EXPECT_NEAR(held_s, 50 * 0.008, 0.1) << "steps of 8 ms";
  const double loading_s = run_json(asked + "--disk-load-time 10s").at("held_mean_s").get<double>();
  EXPECT_GT(loading_s, held_s + 5 * 10.0 / 200) << "five loads of 10 s at least";
  EXPECT_NE(run(asked).out.find("durations, "), std::string::npos) << run(asked).out;
  EXPECT_NE(run(asked).out.find("are not used"), std::string::npos) << run(asked).out;
  ASSERT_EQ(run(gen + "-o " + trace).exit_code, 0);
  const nlohmann::json bare = run_json(asked);
  EXPECT_TRUE(bare.at("trace_duration_mean_s").is_null()) << bare;
  EXPECT_EQ(bare.at("held_mean_s").get<double>(), held_s);
  EXPECT_EQ(run(asked).out.find("are not used"), std::string::npos) << run(asked).out;
}

// If this failed, a mistake of the user's would be met with silence, a crash or a misleading exit code.
TEST_F(Cli, MistakesOnTheCommandLineAreNamedAndExitWithTwo) {
  const std::string trace = small_trace();
  expect_error("", 2, "subcommand");
  expect_error("replya " + trace, 2, "replya");
  expect_error("replay " + trace, 2, "--policy");
  expect_error("replay " + trace + " --policy seive --capacity 2", 2, "did you mean 'sieve'");
  expect_error("plan " + trace + " --gpu-memory-for-lora 8GiB", 2,
               "unknown flag '--gpu-memory-for-lora'; did you mean '--gpu-memory-for-loras'? See `loracle "
               "plan --help`");
  expect_error("trace info " + trace + " --fromat=json", 2,
               "did you mean '--format'? See `loracle trace info");
  expect_error("replay " + trace + " --policy lru --capacity 0", 2, "holds nothing");
  expect_error("replay " + trace + " --policy lru --capacity 3x", 2, "3x");
  expect_error("replay " + trace + " --policy lru --capacity 4GiB --unit objects", 2, "size in bytes");
  expect_error("replay " + trace + " --policy lru:q=1 --capacity 2", 2, "no parameters");
  expect_error("replay " + trace + " --tiers vllm --max-loras 4 --max-cpu-loras 2", 2, "below --max-loras");
  expect_error("replay " + trace + " --tiers vllm --max-loras 0", 2, "--max-loras 0");
  expect_error("replay " + trace + " --tiers lru/seive --max-loras 2", 2, "did you mean 'sieve'");
  expect_error("replay " + trace + " --tiers lru --max-loras 2 --pin nobody", 2, "nobody");
  expect_error("replay " + trace + " --policy lru --capacity 2 --format yaml", 2,
               "'yaml' is none of text|json|csv");
  expect_error("simulate " + trace + " --max-loras 2 --router sticky", 2, "'sticky' is none of round-robin|");
  const std::string bare = dir_.write("bare.jsonl", "{\"adapter\":\"a\"}\n{\"adapter\":\"b\"}\n");
  expect_error("replay " + bare + " --policy lru --capacity 4GiB", 2, "no sizes of adapters");
  expect_error("replay " + bare + " --tiers lru --max-loras 2 --max-cpu-memory 1MiB", 2, "no sizes");
  expect_error("curve " + bare + " --unit bytes", 2, "--catalog");
  expect_error("replay " + trace + " --policy lru --capacity 2 --fold sometimes", 2, "duration");
  expect_error("replay " + trace + " --policy lru --capacity 2 --map loar", 2, "lora");
  expect_error("sweep " + trace + " --max-loras 8:1", 2, "--max-loras");
  expect_error("sweep " + trace + " --max-loras 9 --max-cpu-loras 4", 2, "below --max-loras");
  expect_error("plan " + trace + " --model lama-3.1-8b", 2, "llama-3.1-8b");
  expect_error("plan " + trace + " --target-disk-loads 200%", 2, "200%");
  expect_error("plan " + trace + " --model /nonexistent/config.json", 3, "config.json");
  expect_error("plan " + trace + " --tiers lru/seive", 2, "sieve");
  expect_error("replay " + trace + " --policy , --capacity 2", 2, "--policy");
  expect_error("compare " + trace, 2, "AFTER is required");
  expect_error("simulate " + trace + " --max-loras 2 --slot-load-rate 20", 2,
               "--slot-load-rate '20': write bytes a second with their unit");
  expect_error("plan " + trace + " --seed -1", 2, "--seed: -1 is not 0 or more");
  expect_error("plan " + trace + " --threads many", 2, "--threads: 'many' is not a number");
  expect_error("what-if --adapters 10 --rate 1 --held 6s --alpha 30", 2, "--alpha: 30 is not from 0 to 20");
  expect_error("replay " + trace + " --policy lru --capacity 2 --map zipf:foo=1", 2, "foo");
  expect_error("trace gen zipf --duration-mean 6x -o " + trace, 2, "--duration-mean: '6x' is not a duration");
  EXPECT_EQ(run("trace gen zipf --requests 9 --duration-mean 0s -o " + trace).exit_code, 0);
}

// If this failed, bad input files would be taken for good ones, or the message would not say where to look.
TEST_F(Cli, BadFilesAreNamedWithLineAndExitCode) {
  const std::string flags = " --policy lru --capacity 2";
  expect_error("replay /nonexistent/trace.jsonl" + flags, 3, "/nonexistent/trace.jsonl");
  expect_error("replay " + dir_.write("empty.jsonl", "") + flags, 4, "empty");
  const std::string bad = dir_.write("bad.jsonl", "{\"adapter\":\"a\"}\n{\"adapter\":\n");
  expect_error("replay " + bad + flags, 4, bad + ":2:");
  expect_error("replay " + bad + flags, 4, "--skip-bad-lines");
  // Where no line can be passed over, nobody is told to.
  for (const std::string& other : {dir_.write("empty.jsonl", ""), dir_.write("header.csv", "a,b\n1,2\n")}) {
    const Outcome refused = run("replay " + other + flags);
    EXPECT_NE(refused.exit_code, 0);
    EXPECT_EQ(refused.err.find("--skip-bad-lines"), std::string::npos) << refused.err;
  }
  const Outcome skipped = run("replay " + bad + flags + " --skip-bad-lines --format json");
  EXPECT_EQ(skipped.exit_code, 0) << skipped.err;
  EXPECT_NE(skipped.err.find("1 bad lines skipped"), std::string::npos) << skipped.err;
  expect_error("replay " + dir_.write("cut.oracleGeneral", std::string(25, 'x')) + flags, 4, "24");
}

// If this failed, a huge or hostile file would eat the memory of the machine before it is refused.
TEST_F(Cli, ATenGigabyteFileIsHandledInBoundedMemory) {
  const std::filesystem::path huge = dir_ / "huge.jsonl";
  std::ofstream(huge) << "{\"adapter\":\"a\"}\n";
  std::filesystem::resize_file(huge,
                               10'000'000'000);  // sparse: a line of ten billion zero bytes after the first
  const Outcome refused =
      run_limited("replay " + huge.string() + " --trace-format jsonl --policy lru --capacity 2");
  EXPECT_EQ(refused.exit_code, 4) << refused.err;
  EXPECT_NE(refused.err.find(huge.string() + ":2:"), std::string::npos) << refused.err;
  const Outcome first =
      run_limited("replay " + huge.string() + " --policy lru --capacity 2 --trace-format jsonl --requests 1");
  EXPECT_EQ(first.exit_code, 0) << first.err;
}

// If this failed, a cut download would be replayed as if it were whole.
TEST_F(Cli, ATruncatedCompressedTraceIsRefused) {
  LORACLE_SHARED_FILE(whole, "traces/libcachesim/cloudPhysicsIO.oracleGeneral.zst");
  const std::string bytes = read_all(whole.string());
  const std::string cut =
      dir_.write("cut.oracleGeneral.zst", std::string_view(bytes).substr(0, bytes.size() / 2));
  expect_error("replay " + cut + " --policy lru --capacity 8", 4, "truncated");
}

// If this failed, writing a report or a log to a device would replace the device, or a full disk would crash.
TEST_F(Cli, DevicesAreWrittenToAndFullOnesReported) {
  const std::string trace = small_trace();
  EXPECT_EQ(run("plan " + trace + " --json /dev/null").exit_code, 0);
  EXPECT_TRUE(std::filesystem::is_character_file("/dev/null"));
  expect_error("replay " + trace + " --tiers lru --max-loras 2 --decision-log /dev/full", 3, "/dev/full");
  EXPECT_EQ(shell(std::string(LORACLE_APP_PATH) + " curve " + trace + " > /dev/full").exit_code, 3);
}

// If this failed, the file would be another than what is printed, or a plan would depend on where it goes.
TEST_F(Cli, PlanWritesTheSameCsvToAFile) {
  const std::string trace = small_trace();
  const std::string file = (dir_ / "plan.csv").string();
  const Outcome printed = run("plan " + trace + " --format csv");
  EXPECT_EQ(printed.exit_code, 0) << printed.err;
  EXPECT_EQ(run("plan " + trace + " --csv " + file).exit_code, 0);
  EXPECT_TRUE(printed.out.starts_with("section,row,column,value\nschema,,schema,loracle.plan/1\n"));
  EXPECT_EQ(read_all(file), printed.out);
}

// If this failed, absurd adapter sizes would wrap around and pass for small ones.
TEST_F(Cli, AdapterSizesThatOverflowAreRefusedNotWrapped) {
  const std::string trace =
      dir_.write("huge_sizes.jsonl",
                 "{\"type\":\"adapter\",\"adapter\":\"a\",\"bytes\":9223372036854775807}\n"
                 "{\"type\":\"adapter\",\"adapter\":\"b\",\"bytes\":9223372036854775807}\n"
                 "{\"type\":\"adapter\",\"adapter\":\"c\",\"bytes\":3}\n{\"adapter\":[\"a\",\"b\",\"c\"]}\n");
  const Outcome outcome = run("replay " + trace + " --tiers lru --max-loras 3 --format csv");
  EXPECT_TRUE(outcome.exit_code == 0 || outcome.exit_code == 4) << outcome.exit_code << outcome.err;
}

// If this failed, somebody who pins more than fits would be told anything but that.
TEST_F(Cli, PinsThatDoNotFitExitWithFive) {
  expect_error("replay " + small_trace() + " --tiers lru --max-loras 1 --max-cpu-loras 3 --pin a --pin b", 5,
               "pin");
}

// If this failed, help would be missing where a newcomer looks for it.
TEST_F(Cli, EverySubcommandHasHelpWithAnExample) {
  for (const char* command : {"replay", "simulate", "curve", "sweep", "plan", "trace", "trace gen",
                              "trace info", "trace convert", "trace head"}) {
    const Outcome outcome = run(std::string(command) + " --help");
    EXPECT_EQ(outcome.exit_code, 0) << command;
    EXPECT_NE(outcome.out.find("xample"), std::string::npos) << command << "\n" << outcome.out;
  }
  EXPECT_EQ(run("--version").out.substr(0, 8), "loracle ");
}

// If this failed, the same seed would give different traces or the same plan different pages.
TEST_F(Cli, GeneratedTracesAndPlansAreByteIdentical) {
  const std::string flags =
      "trace gen zipf --rate 4 --adapters 50 --alpha 0.9 --duration-mean 6 --requests 2000 --seed 7 -o ";
  std::array<std::string, 2> traces;
  std::array<std::string, 2> pages;
  for (std::size_t i = 0; i < 2; ++i) {
    const std::string path = (dir_ / "t.jsonl").string();
    const std::string page = (dir_ / "report.html").string();
    ASSERT_EQ(run(flags + path).exit_code, 0);
    traces[i] = read_all(path);
    const Outcome plan = run("plan " + path + " --model llama-3.1-8b --threads " + std::to_string(i + 1) +
                             " --html " + page + " --json " + (dir_ / "plan.json").string());
    ASSERT_EQ(plan.exit_code, 0) << plan.err;
    EXPECT_NE(plan.out.find("--max-loras "), std::string::npos) << plan.out;
    EXPECT_NE(plan.out.find("--max-cpu-loras "), std::string::npos) << plan.out;
    pages[i] = read_all(page);
  }
  EXPECT_FALSE(traces[0].empty());
  EXPECT_EQ(traces[0], traces[1]);
  EXPECT_GT(pages[0].size(), 100'000U);
  EXPECT_LT(pages[0].size(), 3'000'000U);
  EXPECT_EQ(pages[0], pages[1]);
  const Outcome seed8 = run("trace gen zipf --rate 4 --adapters 50 --requests 2000 --seed 8 -o -");
  EXPECT_EQ(seed8.exit_code, 0) << seed8.err;
  EXPECT_NE(seed8.out, traces[0]);
}

// If this failed, converting a trace would change what it says.
TEST_F(Cli, ConvertingToTheBinaryFormAndBackKeepsTheCounts) {
  const std::string source = small_trace();
  const std::string binary = (dir_ / "t.ltr").string();
  const std::string back = (dir_ / "back.jsonl").string();
  ASSERT_EQ(run("trace convert " + source + " -o " + binary).exit_code, 0);
  ASSERT_EQ(run("trace convert " + binary + " -o " + back).exit_code, 0);
  const nlohmann::json a = run_json("replay " + source + " --policy lru --capacity 2");
  const nlohmann::json b = run_json("replay " + binary + " --policy lru --capacity 2");
  const nlohmann::json c = run_json("replay " + back + " --policy lru --capacity 2");
  EXPECT_EQ(a.at("results").at(0).at("misses"), b.at("results").at(0).at("misses"));
  EXPECT_EQ(a.at("results").at(0).at("misses"), c.at("results").at(0).at("misses"));
  std::string bytes = read_all(binary);
  bytes[bytes.size() - 1] = static_cast<char>(bytes[bytes.size() - 1] ^ 1);
  expect_error("replay " + dir_.write("bad.ltr", bytes) + " --policy lru --capacity 2", 4, "bad.ltr");
}

// If this failed, the planner would give one answer whatever the concurrency of the traffic.
TEST_F(Cli, PlanAnswersDifferentlyForTheFoldedTrace) {
  LORACLE_SHARED_FILE(trace, "traces/gentd26/adapter_requests_timed_d00-11.csv.gz");
  const Outcome plain = run("plan " + trace.string() + " --format text");
  const Outcome folded = run("plan " + trace.string() + " --fold 1h --format text");
  EXPECT_EQ(plain.exit_code, 0) << plain.err;
  EXPECT_EQ(folded.exit_code, 0) << folded.err;
  const auto flags_of = [](const std::string& text) {
    const std::size_t at = text.find("--max-loras ");
    return at == std::string::npos ? std::string() : text.substr(at, text.find('\n', at) - at);
  };
  EXPECT_FALSE(flags_of(plain.out).empty()) << plain.out;
  EXPECT_NE(flags_of(plain.out), flags_of(folded.out));
}

// If this failed, a benchmark would replay a trace whose adapters do not exist, or a trace could write where
// it likes.
TEST_F(Cli, MakesAnAdapterForEveryNameOfATrace) {
  const std::string trace = dir_.write("t.jsonl", R"({"arrival_s": 0, "adapter": "sql"}
{"arrival_s": 1, "adapter": "chat"}
)");
  const std::string folder = (dir_ / "adapters").string();
  const std::string arguments = "make-adapters " + folder + " --model tiny --names-from ";
  const Outcome made = run(arguments + trace + " --ranks 4,16 --format bin");
  EXPECT_EQ(made.exit_code, 0) << made.err;
  EXPECT_NE(made.out.find("2 adapters made"), std::string::npos) << made.out;
  for (const char* name : {"sql", "chat"}) {
    EXPECT_TRUE(std::filesystem::exists(folder + "/" + name + "/adapter_model.bin")) << name;
    const nlohmann::json config =
        nlohmann::json::parse(read_all(folder + "/" + name + "/adapter_config.json"));
    EXPECT_EQ(config.at("r"), name == std::string("sql") ? 4 : 16);
  }
  EXPECT_NE(run(arguments + trace).out.find("0 adapters made (0 B), 2 were there already"),
            std::string::npos);
  const std::string bad = dir_.write("bad.jsonl", R"({"arrival_s": 0, "adapter": "../sql"}
)");
  expect_error(arguments + bad, 2, "'../sql' cannot be an adapter here");
  expect_error("make-adapters " + folder + "-large", 2, "1000 adapters of llama-3.1-8b take 39.1 GiB");
  EXPECT_FALSE(std::filesystem::exists(folder + "-large/adapter-0000")) << "said before the first is written";
  expect_error("make-adapters " + folder + " --model no-such-model", 2, "unknown model 'no-such-model'");
  expect_error("make-adapters " + folder + " --model tiny --dtype int4", 2, "int4");
}

}  // namespace
}  // namespace loracle
