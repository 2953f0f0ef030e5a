// `loracle config show` as a person uses it: file, environment and flags in, every setting with its origin
// out.

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "support/run_command.hpp"
#include "support/temp_dir.hpp"

namespace loracle {
namespace {

using testing::Outcome;

class ConfigCli : public ::testing::Test {
 protected:
  Outcome run(const std::string& arguments, const std::string& environment = "") const {
    return testing::run_command("env " + environment + " " LORACLE_APP_PATH " config show " + arguments,
                                (dir_ / "stderr").string());
  }
  /// "value (origin)" of a setting.
  static std::string shown(const Outcome& outcome, const std::string& name) {
    const auto json = nlohmann::json::parse(outcome.out, nullptr, false);
    if (!json.is_array()) return outcome.out + outcome.err;
    for (const auto& setting : json)
      if (setting["name"] == name)
        return setting["value"].dump() + " (" + setting["origin"].get<std::string>() + ")";
    return "not shown";
  }

  testing::TempDir dir_;
};

TEST_F(ConfigCli, ShowsWhereEveryValueCameFrom) {
  // If this failed, nobody could find out why a server does not do what its file says.
  const std::string path =
      dir_.write("l.toml", "[engine]\nmax_loras = 2\nmax_cpu_loras = 9\n[cache]\nsize = '1GB'\n");
  const Outcome outcome = run("--format json --max-loras 4 --config " + path, "VLLM_CACHE_SIZE=10GB");
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_EQ(shown(outcome, "engine.max_loras"), "4 (--max-loras)");
  EXPECT_EQ(shown(outcome, "engine.max_cpu_loras"), "9 (" + path + ":3)");
  EXPECT_EQ(shown(outcome, "cache.size"), "\"10GB\" (VLLM_CACHE_SIZE)");
  EXPECT_EQ(shown(outcome, "log.level"), "\"info\" (default)");
  const Outcome text = run("", "LORACLE_CONFIG=" + path);
  EXPECT_NE(text.out.find("engine.max_loras"), std::string::npos);
  EXPECT_NE(text.out.find("# " + path + ":2"), std::string::npos) << text.out;
}

TEST_F(ConfigCli, TakesTheFlagsAsVllmDoes) {
  // If this failed, a command line of vLLM would have to be rewritten.
  const Outcome outcome = run(
      "--format json --lora-dir-prefix /a --lora-dir-prefix /b --lora-modules x=/x y=/y --max-lora-rank=64 "
      "--allow-runtime-lora-updating --host 0.0.0.0 --port 8000");
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_EQ(shown(outcome, "discovery.prefixes"), "[\"/a\",\"/b\"] (--lora-dir-prefix)");
  EXPECT_EQ(shown(outcome, "discovery.lora_modules"),
            R"([{"name":"x","path":"/x"},{"name":"y","path":"/y"}] (--lora-modules))");
  EXPECT_EQ(shown(outcome, "engine.max_lora_rank"), "64 (--max-lora-rank)");
  EXPECT_EQ(shown(outcome, "engine.runtime_updating"), "true (--allow-runtime-lora-updating)");
  EXPECT_EQ(shown(outcome, "http.port"), "8000 (--http-port)");
}

TEST_F(ConfigCli, TheLastOfARepeatedFlagWins) {
  // If this failed, nobody could override one flag of a command line that somebody else has put together.
  const Outcome outcome =
      run("--format json --max-loras 2 --max-loras 4 --lora-exclude a --lora-exclude b --discovery-watch");
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_EQ(shown(outcome, "engine.max_loras"), "4 (--max-loras)");
  EXPECT_EQ(shown(outcome, "discovery.exclude"), "[\"a\",\"b\"] (--lora-exclude)") << "lists are joined";
  EXPECT_EQ(shown(outcome, "discovery.watch"), "true (--discovery-watch)");
}

TEST_F(ConfigCli, TheExampleIsAFileItAccepts) {
  // If this failed, the first step of the manual would end in an error.
  const Outcome example = run("--example");
  EXPECT_EQ(example.exit_code, 0);
  const std::string path = dir_.write("example.toml", example.out);
  const Outcome outcome = run("--format json --config " + path);
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_EQ(outcome.err, "");
  EXPECT_TRUE(shown(outcome, "engine.max_loras").starts_with("1 (" + path));
}

TEST_F(ConfigCli, MistakesEndWithAMessageAndAnExitCode) {
  // If this failed, a deployment would go on with settings that were never read.
  const std::string path = dir_.write("l.toml", "[engine]\nmax_lora = 2\n");
  const Outcome file = run("--config " + path);
  EXPECT_EQ(file.exit_code, 4);
  EXPECT_NE(file.err.find(path + ":2: unknown setting 'engine.max_lora'; did you mean"), std::string::npos)
      << file.err;
  EXPECT_EQ(run("--config /nowhere.toml").exit_code, 3);
  const Outcome flag = run("--max-loras x");
  EXPECT_EQ(flag.exit_code, 2);
  EXPECT_NE(flag.err.find("--max-loras: 'x' is not a whole number"), std::string::npos) << flag.err;
  const Outcome both = run("--max-loras 4 --max-cpu-loras 2");
  EXPECT_EQ(both.exit_code, 2);
  EXPECT_NE(both.err.find("(--max-cpu-loras)"), std::string::npos) << both.err;
  EXPECT_NE(both.out.find("engine.max_loras"), std::string::npos)
      << "what was asked for is shown all the same";
  const Outcome policy = run("--policy foo");
  EXPECT_EQ(policy.exit_code, 2) << "serve refuses it too";
  EXPECT_NE(policy.err.find("engine.policy (--policy): unknown policy 'foo'"), std::string::npos)
      << policy.err;
  const Outcome warned = run("", "LORACLE_MAX_LORA=3");
  EXPECT_EQ(warned.exit_code, 0);
  EXPECT_NE(warned.err.find("did you mean 'LORACLE_MAX_LORAS'"), std::string::npos) << warned.err;
}

// If this failed, a path that is no UTF-8 would end the process before it says a word.
TEST_F(ConfigCli, PathsOfAnyBytesAreShown) {
  for (const char* format : {"text", "json"}) {
    const Outcome outcome =
        run(std::string("--format ") + format + " --lora-dir-prefix \"$(printf '/caf\\351')\"");
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    EXPECT_NE(outcome.out.find("/caf"), std::string::npos) << outcome.out;
  }
}

TEST_F(ConfigCli, SecretsStayHidden) {
  // If this failed, a key would end up in a terminal's history or a ticket.
  for (const char* format : {"text", "json"}) {
    const Outcome outcome = run(std::string("--format ") + format, "LORACLE_API_KEYS=sk-secret-1");
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    EXPECT_EQ((outcome.out + outcome.err).find("sk-secret-1"), std::string::npos);
    EXPECT_NE(outcome.out.find("***"), std::string::npos);
  }
}

}  // namespace
}  // namespace loracle
