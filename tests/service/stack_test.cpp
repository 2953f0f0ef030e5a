// The whole service, put together as `loracle serve` does it: discovery, resolvers, HTTP.

#include "loracle/service/service_stack.hpp"

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

#include "loracle/engine/make_adapters.hpp"
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
  [[nodiscard]] static httplib::Response answer_of(const httplib::Result& result) {
    EXPECT_TRUE(result) << "no answer: " << httplib::to_string(result.error());
    return result ? *result : httplib::Response{};
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
  template <class Done>
  [[nodiscard]] static bool eventually(Done done) {
    for (int i = 0; i < 2000; ++i) {
      if (done()) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    return false;
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
    EXPECT_EQ(post("/v1/refresh_lora_discovery").status, 200);
    EXPECT_EQ(acquire("alpha"), 404) << "its files are as they were";
    EXPECT_EQ(acquire("beta"), 200);
    stack_.reset();
  }
}

}  // namespace
}  // namespace loracle::testing
