// The whole service, put together as `loracle serve` does it: discovery, resolvers, HTTP.

#include <arpa/inet.h>
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <httplib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "http_answer.hpp"
#include "loracle/engine/make_adapters.hpp"
#include "loracle/service/service_stack.hpp"
#include "raw_client.hpp"
#include "support/temp_dir.hpp"

namespace loracle::testing {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

class ServiceStackTest : public ::testing::Test {
 protected:
  ServiceStackTest() {
    config_.device = "host";
    config_.log.level = "off";
    config_.engine.max_loras = 2;
    config_.engine.max_cpu_loras = 3;
    config_.http.port = 0;
    config_.cache.dir = path("cache");
    config_.discovery.prefixes = {path("adapters")};
    config_.discovery.watch = false;  // rounds are when a test asks for them
  }

  static void make(const std::string& directory, const std::vector<std::string>& names) {
    MakeAdaptersOptions options;
    options.directory = directory;
    options.names = names;
    options.model = *load_model_geometry("tiny");
    options.force = true;
    const Result<MadeAdapters> made = make_adapters(options);
    ASSERT_TRUE(made) << made.error().message;
  }
  [[nodiscard]] std::string path(const std::string& name) const { return (folder_ / name).string(); }

  void begin() {
    Result<std::unique_ptr<ServiceStack>> started = ServiceStack::start(config_);
    ASSERT_TRUE(started) << started.error().message;
    stack_ = std::move(*started);
  }
  void start() {
    ASSERT_NO_FATAL_FAILURE(begin());
    ASSERT_TRUE(eventually([this] { return get("/readyz").status == 200; })) << get("/readyz").body;
  }
  [[nodiscard]] httplib::Response get(const std::string& target) const {
    return answer_of(httplib::Client("127.0.0.1", stack_->port()).Get(target));
  }
  [[nodiscard]] httplib::Response post(const std::string& target, const json& body = json::object()) const {
    httplib::Client client("127.0.0.1", stack_->port());
    client.set_read_timeout(30);
    return answer_of(client.Post(target, body.dump(), "application/json"));
  }
  [[nodiscard]] int acquire(const std::string& name) const {
    return post("/v1/adapters/" + name + "/acquire", {{"ttl_s", 0.1}}).status;
  }

  TempDir folder_;
  ServiceConfig config_;
  std::unique_ptr<ServiceStack> stack_;  // goes first
};

TEST_F(ServiceStackTest, WhatAClientUnloadsStaysAway) {
  // If this failed, unload_lora_adapter would be undone by whoever asks for the adapter next.
  make(path("adapters"), {"alpha", "beta"});
  for (const std::string database : {"", "catalog.db"}) {
    config_.engine.database = database.empty() ? "" : path(database);
    start();
    EXPECT_EQ(acquire("alpha"), 200);
    EXPECT_EQ(post("/v1/unload_lora_adapter", {{"lora_name", "alpha"}}).status, 200);
    EXPECT_EQ(acquire("alpha"), 404) << "database '" << database << "'";
    const json found = json::parse(post("/v1/refresh_lora_discovery").body);
    EXPECT_EQ(found["total_adapters"], 1) << "its files are as they were";
    const httplib::Response left_out = post("/v1/adapters/alpha/acquire", {{"ttl_s", 0.1}});
    EXPECT_EQ(left_out.status, 404);
    EXPECT_NE(left_out.body.find("a client has unloaded it"), std::string::npos) << left_out.body;
    EXPECT_EQ(acquire("beta"), 200);
    stack_.reset();
  }
}

/// A prefix in a bucket that is not there.
class StackOnAStorageThatFails : public ServiceStackTest {
 protected:
  StackOnAStorageThatFails() {
    config_.engine.model = "tiny";
    config_.discovery.prefixes = {"s3://bucket/adapters"};
    config_.s3_storage.anonymous = true;
    config_.s3_storage.path_style = true;
    config_.s3_storage.retry.attempts_max = 1;
    config_.s3_storage.retry.connect_timeout_ms = 500;
    config_.s3_storage.retry.stall_timeout_ms = 1000;
  }
};

TEST_F(StackOnAStorageThatFails, IsAliveAndNotReady) {
  // If this failed, requests would be sent to a server that has nothing, or the server would be killed for
  // what its bucket does.
  config_.s3_storage.endpoint = "http://127.0.0.1:1";
  begin();
  ASSERT_TRUE(eventually([this] {
    return get("/readyz").body.find("no prefix can be listed") != std::string::npos;
  })) << get("/readyz").body;
  EXPECT_EQ(get("/readyz").status, 503);
  EXPECT_NE(get("/readyz").body.find("s3://bucket/adapters"), std::string::npos);
  EXPECT_EQ(get("/healthz").status, 200);
  EXPECT_EQ(get("/health").status, 200) << "vLLM's name for it";
  EXPECT_NE(get("/metrics").body.find("loracle_ready 0"), std::string::npos);
}

TEST_F(StackOnAStorageThatFails, ABucketOutOfReachIsABadGateway) {
  // If this failed, an operator would look for the fault in this service, and not behind it.
  config_.s3_storage.endpoint = "http://127.0.0.1:1";
  begin();
  const httplib::Response loaded =
      post("/v1/adapters/load", {{"adapters", {{{"name", "far"}, {"uri", "s3://bucket/adapters/far"}}}}});
  EXPECT_EQ(loaded.status, 502) << loaded.body;
  EXPECT_EQ(json::parse(loaded.body)["failed"][0]["code"], 502);
}

TEST_F(StackOnAStorageThatFails, ListensWhileItLooksAndEndsWhenItIsTold) {
  // If this failed, probes would find no port while a large bucket is listed, and kill the server for it.
  const int silent = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  ASSERT_EQ(::bind(silent, reinterpret_cast<sockaddr*>(&address), size), 0);
  ASSERT_EQ(::getsockname(silent, reinterpret_cast<sockaddr*>(&address), &size), 0);
  ASSERT_EQ(::listen(silent, 8), 0);
  config_.s3_storage.endpoint = "http://127.0.0.1:" + std::to_string(ntohs(address.sin_port));
  begin();
  EXPECT_EQ(get("/readyz").status, 503);
  EXPECT_NE(get("/readyz").body.find("looking for adapters"), std::string::npos) << get("/readyz").body;
  EXPECT_EQ(get("/healthz").status, 200);
  const auto told = std::chrono::steady_clock::now();
  stack_.reset();
  EXPECT_LT(std::chrono::steady_clock::now() - told, std::chrono::seconds(8));
  ::close(silent);
}

TEST_F(ServiceStackTest, DoesNotStartWhereItCouldNeverServe) {
  // If this failed, a server on an empty volume, or with too little memory, would be ready and refuse
  // everything.
  std::filesystem::create_directory(path("adapters"));
  const Result<std::unique_ptr<ServiceStack>> shapeless = ServiceStack::start(config_);
  ASSERT_FALSE(shapeless);
  EXPECT_NE(shapeless.error().message.find("give --model"), std::string::npos) << shapeless.error().message;
  config_.engine.model = "tiny";
  EXPECT_TRUE(ServiceStack::start(config_)) << "adapters may come";
}

TEST_F(ServiceStackTest, WarnsOfAdaptersThatNeverFit) {
  // If this failed, requests for them would fail one by one, and nobody would know that a flag is too small.
  make(path("adapters"), {"a", "b"});
  config_.engine.cpu_memory = Bytes{100};
  config_.log.level = "warning";
  ::testing::internal::CaptureStderr();
  start();
  stack_.reset();
  const std::string log = ::testing::internal::GetCapturedStderr();
  EXPECT_NE(log.find("2 of 2 adapters are larger than 100 B"), std::string::npos) << log;
  EXPECT_NE(log.find("--max-cpu-memory"), std::string::npos) << log;
}

TEST_F(ServiceStackTest, AMovedDirectoryIsServedWithItsOldIds) {
  // If this failed, a volume that is mounted elsewhere would come back empty: each a clash with itself.
  make(path("adapters"), {"alpha"});
  config_.engine.database = path("catalog.db");
  start();
  make(path("adapters"), {"beta"});  // found while it serves, and so by another way
  EXPECT_EQ(post("/v1/refresh_lora_discovery").status, 200);
  EXPECT_EQ(acquire("beta"), 200);
  const auto id_of = [&](const std::string& name) {
    return json::parse(get("/v1/adapters/" + name).body)["lora_int_id"].get<int>();
  };
  const int alpha = id_of("alpha");
  const int beta = id_of("beta");
  for (const char* const now : {"adapters", "moved"}) {
    stack_.reset();
    if (now != std::string("adapters")) std::filesystem::rename(path("adapters"), path(now));
    config_.discovery.prefixes = {path(now)};
    start();
    EXPECT_EQ(acquire("alpha"), 200) << now;
    EXPECT_EQ(acquire("beta"), 200) << now;
    EXPECT_EQ(id_of("alpha"), alpha) << now;
    EXPECT_EQ(id_of("beta"), beta) << now;
  }
}

TEST_F(ServiceStackTest, AnotherServersAdaptersAreNotTakenOver) {
  // If this failed, two servers with one catalog would take each other's adapters, though both serve them.
  make(path("adapters"), {"alpha"});
  make(path("others"), {"alpha"});
  config_.engine.database = path("catalog.db");
  start();
  stack_.reset();
  config_.discovery.prefixes = {path("others")};
  start();
  EXPECT_NE(acquire("alpha"), 200) << "a clash, and the first one has the name";
}

TEST_F(ServiceStackTest, TellsWhatDiscoveryDoes) {
  // If this failed, adapters would come and go, or be refused, and nobody would learn of it.
  config_.log.level = "info";
  make(path("adapters"), {"alpha"});
  fs::create_directories(path("adapters/broken"));
  folder_.write("adapters/broken/adapter_config.json", "{");
  ::testing::internal::CaptureStderr();
  start();
  RawClient raw(stack_->port());
  raw.send("GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_TRUE(raw.receive(": hello\n\n").starts_with("HTTP/1.1 200 "));
  EXPECT_EQ(post("/v1/refresh_lora_discovery").status, 200);
  make(path("adapters"), {"beta"});
  EXPECT_EQ(post("/v1/refresh_lora_discovery").status, 200);
  fs::remove_all(path("adapters/alpha"));
  EXPECT_EQ(post("/v1/refresh_lora_discovery").status, 200);
  const std::string events = raw.receive("event: unloaded\ndata: {\"name\":\"alpha\"}");
  EXPECT_NE(events.find("event: loaded\ndata: {\"name\":\"beta\"}"), std::string::npos) << events;
  EXPECT_NE(events.find("event: discovery\ndata: {\"discovered_adapters\":[\"beta\"]"), std::string::npos)
      << events;
  EXPECT_NE(get("/metrics").body.find("loracle_discoveries_total{outcome=\"ok\"}"), std::string::npos);
  EXPECT_EQ(get("/metrics").body.find("loracle_discoveries_total{outcome=\"ok\"} 0"), std::string::npos);
  stack_.reset();
  const std::string log = ::testing::internal::GetCapturedStderr();
  EXPECT_NE(log.find("info adapters discovered added=1 changed=0 removed=0 total=1"), std::string::npos)
      << log;
  EXPECT_NE(log.find("added=1 changed=0 removed=0 total=2"), std::string::npos) << log;
  EXPECT_NE(log.find("added=0 changed=0 removed=1 total=1"), std::string::npos) << log;
  const std::size_t first = log.find("warning adapter left out reason=\"broken: ");
  ASSERT_NE(first, std::string::npos) << log;
  EXPECT_EQ(log.find("left out", first + 20), std::string::npos) << "once, not in every round: " << log;
}

TEST_F(ServiceStackTest, WhoAsksForAnAdapterThatWasLeftOutLearnsWhy) {
  // If this failed, somebody would look for a typing error in a name, where its files are broken.
  make(path("adapters"), {"alpha"});
  for (const char* const folder : {"adapters/broken", "more/broken-too"}) {
    fs::create_directories(path(folder));
    folder_.write(std::string(folder) + "/adapter_config.json", "{");
  }
  config_.discovery.prefixes = {path("adapters"), path("more")};
  start();
  for (const std::string name : {"broken", "broken-too"}) {
    const std::string why = name + "/adapter_config.json: ";
    const auto says_why = [&why](const httplib::Response& answer) {
      EXPECT_EQ(answer.status, 404) << answer.body;
      EXPECT_NE(answer.body.find("left out"), std::string::npos) << answer.body;
      EXPECT_NE(answer.body.find(why), std::string::npos) << answer.body;
    };
    says_why(post("/v1/adapters/" + name + "/acquire"));
    says_why(post("/v1/acquire", {{"adapters", {name}}}));
    says_why(post("/v1/adapters/load", {{"adapters", {{{"name", name}}}}}));
    says_why(get("/v1/adapters/" + name));
    says_why(get("/v1/resolve?name=" + name));
    // vLLM's own answer, to the letter.
    const httplib::Response vllm = post("/v1/unload_lora_adapter", {{"lora_name", name}});
    EXPECT_NE(vllm.body.find("\"The lora adapter '" + name + "' cannot be found.\""), std::string::npos);
  }
  EXPECT_NE(post("/v1/adapters/nobody/acquire").body.find("LoRA adapter nobody does not exist"),
            std::string::npos);
  fs::remove_all(path("adapters/broken"));
  make(path("adapters"), {"broken"});
  EXPECT_EQ(post("/v1/refresh_lora_discovery").status, 200);
  EXPECT_EQ(acquire("broken"), 200) << "it is whole now";
  fs::remove_all(path("adapters/broken"));
  EXPECT_EQ(post("/v1/refresh_lora_discovery").status, 200);
  EXPECT_NE(post("/v1/adapters/broken/acquire").body.find("does not exist"), std::string::npos) << "any more";
}

TEST_F(ServiceStackTest, WithoutRuntimeUpdatingNoResolverIsAsked) {
  // If this failed, clients could bring in adapters where their operator has forbidden just that.
  make(path("adapters"), {"alpha"});
  make(path("more"), {"found"});
  config_.resolver.cache_dir = path("more");
  for (const bool allowed : {false, true}) {
    config_.runtime_updating = allowed;
    start();
    EXPECT_EQ(acquire("found"), allowed ? 200 : 404);
    const std::string asked = "loracle_resolver_asked_total{resolver=\"filesystem\"} ";
    EXPECT_NE(get("/metrics").body.find(asked + (allowed ? "1" : "0")), std::string::npos);
    EXPECT_NE(get("/metrics").body.find("loracle_cache_bytes_max 1"), std::string::npos);
    stack_.reset();
  }
}

TEST_F(ServiceStackTest, ModulesHaveTheBaseModelTheyAreGiven) {
  // If this failed, base_model_name of --lora-modules would be taken and never shown.
  make(path("adapters"), {"alpha", "beta"});
  config_.discovery.prefixes.clear();
  config_.base_model = "served";
  config_.lora_modules = {{"alpha", path("adapters/alpha"), "other"}, {"beta", path("adapters/beta"), ""}};
  start();
  std::map<std::string, std::string> parents;
  const json models = json::parse(get("/v1/models").body);
  for (const json& card : models["data"])
    if (card["id"] != "served") parents[card["id"]] = card["parent"];
  EXPECT_EQ(parents, (std::map<std::string, std::string>{{"alpha", "other"}, {"beta", "served"}}));
}

TEST_F(ServiceStackTest, SaysWhichSettingsNeedARestart) {
  // If this failed, somebody would change a setting, reload, and believe that it is in force.
  make(path("adapters"), {"alpha"});
  start();
  ServiceConfig changed = config_;
  changed.log.level = "warning";
  changed.http.api_keys = {"key"};
  changed.http.request_timeout_ms = 7;
  changed.cache.max_items = 5;
  changed.discovery.exclude = {"*-draft"};
  changed.log.format = "json";
  ::testing::internal::CaptureStderr();
  EXPECT_TRUE(stack_->apply(changed));
  const std::string log = ::testing::internal::GetCapturedStderr();
  for (const char* const name : {"cache.max_items", "discovery.exclude", "log.format"})
    EXPECT_NE(log.find(std::string("needs a restart to change setting=") + name), std::string::npos) << log;
  EXPECT_EQ(std::count(log.begin(), log.end(), '\n'), 3) << log;
}

TEST_F(ServiceStackTest, OutlivesAResolverThatHangs) {
  // If this failed, a plugin that comes back after the shutdown would use what is gone.
  make(path("adapters"), {"alpha"});
  config_.resolver.plugins = {FAULTY_RESOLVER_PATH};
  config_.resolver.deadline_ms = 50;
  start();
  EXPECT_GE(acquire("hangs-and-finds"), 400);
  EXPECT_NE(get("/metrics").body.find("loracle_resolver_hung{resolver=\"faulty\"} 1"), std::string::npos);
  stack_.reset();
  void* const plugin = ::dlopen(FAULTY_RESOLVER_PATH, RTLD_NOW);
  ASSERT_NE(plugin, nullptr);
  const auto let_go = reinterpret_cast<void (*)(bool)>(::dlsym(plugin, "faulty_release"));
  const auto hanging = reinterpret_cast<unsigned (*)()>(::dlsym(plugin, "faulty_calls_hanging"));
  ASSERT_TRUE(let_go != nullptr && hanging != nullptr);
  EXPECT_EQ(hanging(), 1U);
  let_go(true);
  EXPECT_TRUE(eventually([hanging] { return hanging() == 0; }));
  std::this_thread::sleep_for(std::chrono::milliseconds(50));  // it reads files now
  ::dlclose(plugin);
}

}  // namespace
}  // namespace loracle::testing
