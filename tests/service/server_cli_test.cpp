// `loracle serve` as its users meet it: a process, curl, signals.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <future>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "loracle/engine/device.hpp"
#include "loracle/engine/make_adapters.hpp"
#include "raw_client.hpp"
#include "support/temp_dir.hpp"

extern char** environ;

namespace loracle::testing {
namespace {

using nlohmann::json;

std::string read_file(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

/// A child process whose output goes to files.
class Process {
 public:
  Process(std::vector<std::string> arguments, const std::string& output) : output_(output) {
    std::vector<char*> argv;
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_addopen(&actions, 1, (output + ".out").c_str(), O_WRONLY | O_CREAT | O_TRUNC,
                                       0600);
    ::posix_spawn_file_actions_addopen(&actions, 2, (output + ".err").c_str(), O_WRONLY | O_CREAT | O_TRUNC,
                                       0600);
    if (::posix_spawnp(&pid_, argv[0], &actions, nullptr, argv.data(), environ) != 0) pid_ = -1;
    ::posix_spawn_file_actions_destroy(&actions);
  }
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;
  ~Process() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    static_cast<void>(wait());
  }
  void signal(int number) const { ::kill(pid_, number); }
  /// Its exit code; -1 if a signal ended it.
  int wait() {
    if (pid_ <= 0) return -1;
    int status = 0;
    ::waitpid(pid_, &status, 0);
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }
  [[nodiscard]] std::string out() const { return read_file(output_ + ".out"); }
  [[nodiscard]] std::string err() const { return read_file(output_ + ".err"); }

 private:
  pid_t pid_ = -1;
  std::string output_;
};

class ServeCommand : public ::testing::Test {
 protected:
  void SetUp() override {
    MakeAdaptersOptions options;
    options.directory = (folder_ / "adapters").string();
    options.names = {"alpha", "beta"};
    options.model = *load_model_geometry("tiny");
    ASSERT_TRUE(make_adapters(options));
  }
  void serve(const std::vector<std::string>& more = {}) {
    std::vector<std::string> arguments = {LORACLE_APP_PATH,
                                          "serve",
                                          "--port",
                                          "0",
                                          "--lora-dir-prefix",
                                          (folder_ / "adapters").string(),
                                          "--device",
                                          "host",
                                          "--log-format",
                                          "json"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    server_ = std::make_unique<Process>(arguments, (folder_ / "serve").string());
    for (int i = 0; i < 1000 && port_ == 0; ++i) {
      const std::string line = server_->out();
      const std::string begin = "loracle: serving on http://127.0.0.1:";
      if (line.starts_with(begin) && line.ends_with("\n"))
        port_ = static_cast<std::uint16_t>(std::stoi(line.substr(begin.size())));
      else
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    ASSERT_NE(port_, 0) << server_->err();
  }
  /// What curl prints: the body, a line break, the status.
  std::string curl(const std::vector<std::string>& more, const std::string& target) {
    std::vector<std::string> arguments = {"curl", "--silent",    "--max-time",
                                          "20",   "--write-out", "\n%{http_code}"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    arguments.push_back("http://127.0.0.1:" + std::to_string(port_) + target);
    Process process(arguments, (folder_ / ("curl" + std::to_string(++curls_))).string());
    EXPECT_EQ(process.wait(), 0) << target;
    return process.out();
  }

  TempDir folder_;
  std::unique_ptr<Process> server_;
  std::uint16_t port_ = 0;
  std::atomic<int> curls_ = 0;
};

TEST_F(ServeCommand, CurlLoadsAcquiresAndUnloads) {
  // If this failed, the examples of the documentation would not work.
  serve({"--max-loras", "2", "--base-model", "tiny"});
  EXPECT_EQ(curl({}, "/healthz"), "{\"status\":\"ok\"}\n200");
  const std::string lease = curl({"-X", "POST"}, "/v1/adapters/alpha/acquire");
  ASSERT_TRUE(lease.ends_with("\n200")) << lease;
  const json answer = json::parse(lease.substr(0, lease.rfind('\n')));
  const std::string release = json({{"lease", answer["lease"]}}).dump();
  EXPECT_EQ(curl({"--json", release}, "/v1/adapters/alpha/release"), "{\"released\":true}\n200");
  EXPECT_EQ(curl({"--json", R"({"lora_name":"alpha"})"}, "/v1/unload_lora_adapter"),
            "Success: LoRA adapter 'alpha' removed successfully.\n200");
  const std::string path = (folder_ / "adapters/alpha").string();
  EXPECT_EQ(
      curl({"--json", json({{"lora_name", "new"}, {"lora_path", path}}).dump()}, "/v1/load_lora_adapter"),
      "Success: LoRA adapter 'new' added successfully.\n200");
  const std::string outside = json({{"lora_name", "x"}, {"lora_path", "/etc"}}).dump();
  EXPECT_FALSE(curl({"--json", outside}, "/v1/load_lora_adapter").ends_with("\n200"));
  server_->signal(SIGTERM);
  EXPECT_EQ(server_->wait(), 0) << server_->err();
  // Each line of the log is JSON, and the requests are in it with their ids.
  std::istringstream lines(server_->err());
  int requests = 0;
  for (std::string line; std::getline(lines, line);) {
    const json entry = json::parse(line, nullptr, false);
    ASSERT_TRUE(entry.is_object()) << line;
    if (entry["event"] != "http") continue;
    ++requests;
    EXPECT_FALSE(entry["id"].get<std::string>().empty());
    EXPECT_TRUE(entry.contains("status") && entry.contains("seconds") && entry.contains("target"));
  }
  EXPECT_EQ(requests, 5) << "probes are not logged";
}

TEST_F(ServeCommand, CalibrateReadsItsMetrics) {
  // If this failed, a server would have measured its loads in vain.
  serve({"--max-loras", "1", "--base-model", "tiny"});
  for (int i = 0; i < 6; ++i) {  // in turn, so that each has lost its slot when it is asked for
    const std::string name = i % 2 == 0 ? "alpha" : "beta";
    const std::string lease = curl({"-X", "POST"}, "/v1/adapters/" + name + "/acquire");
    ASSERT_TRUE(lease.ends_with("\n200")) << lease;
    const json answer = json::parse(lease.substr(0, lease.rfind('\n')));
    const std::string release = json({{"lease", answer["lease"]}}).dump();
    ASSERT_TRUE(curl({"--json", release}, "/v1/adapters/" + name + "/release").ends_with("\n200"));
  }
  const std::string page = "http://127.0.0.1:" + std::to_string(port_) + "/metrics";
  Process calibrate({LORACLE_APP_PATH, "calibrate", "--metrics", page, "--format", "json"},
                    (folder_ / "calibrate").string());
  ASSERT_EQ(calibrate.wait(), 0) << calibrate.err();
  const json made = json::parse(calibrate.out(), nullptr, false);
  ASSERT_TRUE(made.is_object()) << calibrate.out();
  for (const char* const way : {"slot", "disk"}) {
    EXPECT_EQ(made[way]["quality"]["count"], 6) << way;
    EXPECT_GT(made[way]["latency_s"], 0.0) << way;
    EXPECT_LT(made[way]["latency_s"], 10.0) << way;
    EXPECT_GT(made[way]["bytes_median"], 1000.0) << way;
    EXPECT_TRUE(made[way]["bytes_per_s"].is_null()) << "one mean tells no rate";
  }
  // A page that was saved says the same, but for what was loaded since: nothing.
  std::ofstream(folder_ / "page.txt") << curl({}, "/metrics");
  Process again(
      {LORACLE_APP_PATH, "calibrate", "--metrics", (folder_ / "page.txt").string(), "--format", "json"},
      (folder_ / "again").string());
  ASSERT_EQ(again.wait(), 0) << again.err();
  EXPECT_EQ(json::parse(again.out(), nullptr, false)["slot"], made["slot"]);
}

TEST_F(ServeCommand, SaysWhatItServes) {
  // If this failed, somebody would wonder why his server holds one adapter at a time.
  serve({"--max-cpu-loras", "7"});
  const std::string said =
      "2 adapters are known so far; max_loras 1 (slots of rank 8 in host memory), max_cpu_loras 7";
  for (int i = 0; i < 400 && server_->err().find("--max-loras") == std::string::npos; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  EXPECT_NE(server_->err().find(said), std::string::npos) << server_->err();
  EXPECT_NE(server_->err().find("max_loras 1 is vLLM's default"), std::string::npos) << server_->err();
}

TEST_F(ServeCommand, SigtermDrains) {
  // If this failed, every restart would break the requests under way.
  serve({"--max-loras", "1"});
  ASSERT_TRUE(curl({"--json", R"({"ttl_s":0.8})"}, "/v1/adapters/alpha/acquire").ends_with("\n200"));
  auto waiting = std::async(std::launch::async, [&] {
    return curl({"-X", "POST"}, "/v1/adapters/beta/acquire");
  });
  for (int i = 0; i < 400; ++i) {
    if (curl({}, "/v1/stats").find("\"requests_waiting\":1") != std::string::npos) break;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  server_->signal(SIGTERM);
  const std::string granted = waiting.get();
  EXPECT_TRUE(granted.ends_with("\n200")) << granted;
  EXPECT_TRUE(curl({"-X", "POST"}, "/v1/adapters/alpha/acquire").ends_with("\n503"));
  const json lease = json::parse(granted.substr(0, granted.rfind('\n')));
  const std::string id = json{{"lease", lease["lease"]}}.dump();
  EXPECT_TRUE(curl({"--json", id}, "/v1/release").ends_with("\n200")) << "nothing else ends the wait";
  EXPECT_EQ(server_->wait(), 0) << server_->err();
}

TEST_F(ServeCommand, ASecondSigtermEndsTheWait) {
  // If this failed, somebody who presses Ctrl-C twice would wait for a lease of an hour.
  serve({"--max-loras", "1"});
  ASSERT_TRUE(curl({"--json", R"({"ttl_s":3600})"}, "/v1/adapters/alpha/acquire").ends_with("\n200"));
  server_->signal(SIGTERM);
  for (int i = 0; i < 400 && !curl({}, "/readyz").ends_with("\n503"); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  const auto begun = std::chrono::steady_clock::now();
  server_->signal(SIGTERM);
  EXPECT_EQ(server_->wait(), 0) << server_->err();
  EXPECT_LT(std::chrono::steady_clock::now() - begun, std::chrono::seconds(20)) << "drain_timeout_ms is 30 s";
  EXPECT_NE(server_->err().find("leases end before they were released: told to hurry"), std::string::npos)
      << server_->err();
}

TEST_F(ServeCommand, ASecondSigtermEndsTheWaitForAResolver) {
  // If this failed, a resolver that hangs would keep a server from ending until its deadline, 30 s.
  const std::string settings =
      folder_.write("serve.toml", "[resolver]\nplugins = [\"" FAULTY_RESOLVER_PATH "\"]\n");
  serve({"--config", settings});
  auto looked_for = std::async(std::launch::async, [&] {
    return curl({"-X", "POST"}, "/v1/adapters/hangs/acquire");
  });
  const std::string asked = "loracle_resolver_asked_total{resolver=\"faulty\"} 1";
  for (int i = 0; i < 400 && curl({}, "/metrics").find(asked) == std::string::npos; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  server_->signal(SIGTERM);
  for (int i = 0; i < 400 && !curl({}, "/readyz").ends_with("\n503"); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  EXPECT_TRUE(curl({}, "/healthz").ends_with("\n200")) << "it waits for the answer";
  const auto begun = std::chrono::steady_clock::now();
  server_->signal(SIGTERM);
  EXPECT_TRUE(looked_for.get().ends_with("\n503"));
  EXPECT_EQ(server_->wait(), 0) << server_->err();
  EXPECT_LT(std::chrono::steady_clock::now() - begun, std::chrono::seconds(15));
}

TEST_F(ServeCommand, SighupReadsTheKeysAgain) {
  // If this failed, a key that leaked could only be taken back by a restart.
  const std::string keys = folder_.write("keys", "# who may\nold-key\n");
  serve({"--api-key-file", keys});
  const auto status = [&](const std::string& key) {
    const std::string answer = curl({"-H", "Authorization: Bearer " + key}, "/v1/models");
    return answer.substr(answer.rfind('\n') + 1);
  };
  EXPECT_EQ(status("old-key"), "200");
  EXPECT_EQ(status("new-key"), "401");
  folder_.write("keys", "new-key\n");
  server_->signal(SIGHUP);
  for (int i = 0; i < 200 && status("new-key") != "200"; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  EXPECT_EQ(status("new-key"), "200");
  EXPECT_EQ(status("old-key"), "401");
  EXPECT_EQ(server_->err().find("new-key"), std::string::npos) << "no key is in the log";
  folder_.write("keys", "\n");
  server_->signal(SIGHUP);
  for (int i = 0; i < 400 && server_->err().find("stays as it was") == std::string::npos; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  EXPECT_EQ(status("new-key"), "200") << "a file without keys must not let everybody in";
  server_->signal(SIGTERM);
  EXPECT_EQ(server_->wait(), 0);
}

TEST_F(ServeCommand, MistakesAreExplained) {
  // If this failed, a user would have to guess why the service does not start.
  const auto run = [&](std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {LORACLE_APP_PATH, "serve"});
    Process process(arguments, (folder_ / "mistake").string());
    const int code = process.wait();
    return std::pair(code, process.err());
  };
  const auto [folder_code, folder_text] = run({"--lora-dir-prefix", (folder_ / "nowhere").string()});
  EXPECT_EQ(folder_code, 3);
  EXPECT_NE(folder_text.find("--lora-dir-prefix"), std::string::npos) << folder_text;
  EXPECT_NE(folder_text.find("nowhere: there is no such directory: make it"), std::string::npos)
      << folder_text;
  const std::string good = (folder_ / "adapters").string();
  EXPECT_EQ(run({}).first, 2) << "nothing to serve";
  const auto [loras_code, loras_text] =
      run({"--max-loras", "4", "--max-cpu-loras", "2", "--device", "host", "--lora-dir-prefix", good});
  EXPECT_EQ(loras_code, 2);
  EXPECT_NE(loras_text.find("max_cpu_loras"), std::string::npos);
  const auto [key_code, key_text] = run({"--api-key-file", (folder_ / "nokeys").string()});
  EXPECT_EQ(key_code, 3);
  EXPECT_NE(key_text.find("nokeys"), std::string::npos);
  const auto [host_code, host_text] =
      run({"--host", "192.0.2.1", "--device", "host", "--lora-dir-prefix", (folder_ / "adapters").string()});
  EXPECT_EQ(host_code, 3);
  EXPECT_NE(host_text.find("192.0.2.1"), std::string::npos) << host_text;
  EXPECT_EQ(run({"--log-level", "loud", "--device", "host", "--lora-dir-prefix", good}).first, 2);
  EXPECT_EQ(run({"--policy", "seive", "--device", "host", "--lora-dir-prefix", good}).first, 2);
  const auto [model_code, model_text] =
      run({"--model", "lama-3.1-8b", "--device", "host", "--lora-dir-prefix", good});
  EXPECT_EQ(model_code, 2);
  EXPECT_NE(model_text.find("did you mean 'llama-3.1-8b'?"), std::string::npos) << model_text;
  if (!make_device("cuda")) {
    const auto [cuda_code, cuda_text] = run({"--device", "cuda", "--lora-dir-prefix", good});
    EXPECT_EQ(cuda_code, 5) << "well put, and impossible here";
    EXPECT_NE(cuda_text.find("CUDA"), std::string::npos) << cuda_text;
  }
}

}  // namespace
}  // namespace loracle::testing
