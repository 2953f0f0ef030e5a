// Many clients at once on few slots.

#include <gtest/gtest.h>

#include <atomic>
#include <fstream>
#include <iterator>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "loracle/core/rng.hpp"
#include "raw_client.hpp"
#include "service_scene.hpp"

namespace loracle::testing {
namespace {

using nlohmann::json;

class ServiceConcurrency : public ServiceScene {};

TEST_F(ServiceConcurrency, ManyClientsOnFewSlotsAllGetTheirTurn) {
  // If this failed, a busy service would stop for ever, or give one slot to two.
  std::vector<std::string> names;
  for (int i = 0; i < 6; ++i) names.push_back("a" + std::to_string(i));
  make(names);
  config_.http.threads = 2;
  start();
  constexpr int kClients = 8;
  constexpr int kRequests = 40;
  struct Slot {
    std::mutex mutex;
    int users = 0;
    int adapter = -1;
  };
  Slot slots[2];
  std::atomic<int> served = 0;
  std::vector<std::thread> threads;
  for (int c = 0; c < kClients; ++c) {
    threads.emplace_back([&, c] {
      Rng rng(static_cast<std::uint64_t>(c));
      const auto http = client();
      for (int i = 0; i < kRequests; ++i) {
        const int adapter = static_cast<int>(rng.next() % 6);
        const std::string target = "/v1/adapters/a" + std::to_string(adapter);
        const httplib::Response lease = answer_of(http->Post(target + "/acquire", "{}", "application/json"));
        ASSERT_EQ(lease.status, 200) << lease.body;
        const json answer = json::parse(lease.body);
        const std::size_t slot = answer["slot"];
        ASSERT_LT(slot, 2U);
        {
          const std::lock_guard lock(slots[slot].mutex);
          if (slots[slot].users++ == 0) slots[slot].adapter = adapter;
          EXPECT_EQ(slots[slot].adapter, adapter) << "two adapters in one slot";
        }
        std::this_thread::sleep_for(std::chrono::microseconds(rng.next() % 500));
        {
          const std::lock_guard lock(slots[slot].mutex);
          --slots[slot].users;
        }
        const json body = {{"lease", answer["lease"]}};
        ASSERT_EQ(answer_of(http->Post(target + "/release", body.dump(), "application/json")).status, 200);
        ++served;
        if (i % 10 == 0) {
          EXPECT_EQ(get("/metrics").status, 200);
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(served, kClients * kRequests);
  EXPECT_EQ(engine_->stats().leases, 0U);
  EXPECT_EQ(engine_->stats().counts.uses, static_cast<std::uint64_t>(kClients * kRequests));
}

TEST_F(ServiceConcurrency, WaitingAcquiresHoldNoThreads) {
  // If this failed, a release would wait behind the acquires that wait for it: nothing would ever move again.
  make({"a0", "a1", "a2"});
  config_.engine.max_loras = 1;
  config_.http.threads = 1;
  config_.http.queue_max = 8;
  start();
  const httplib::Response first = post("/v1/adapters/a0/acquire");
  ASSERT_EQ(first.status, 200);
  std::vector<std::unique_ptr<RawClient>> waiting;
  for (int i = 0; i < 200; ++i) {
    waiting.push_back(std::make_unique<RawClient>(service_->port()));
    waiting.back()->send("POST /v1/adapters/a1/acquire HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
    ASSERT_TRUE(
        eventually([&] { return engine_->stats().requests_waiting == static_cast<unsigned>(i) + 1; }));
  }
  EXPECT_EQ(get("/healthz").status, 200);
  const json body = {{"lease", json::parse(first.body)["lease"]}};
  EXPECT_EQ(post("/v1/release", body.dump()).status, 200);
  for (const auto& client : waiting) EXPECT_TRUE(client->receive("}").starts_with("HTTP/1.1 200 "));
}

TEST_F(ServiceConcurrency, TheCaptureHasWhoGaveUp) {
  // If this failed, a plan of captured traffic would ask for the fewer slots the more clients lose patience.
  make({"a0", "a1"});
  config_.engine.max_loras = 1;
  config_.capture.path = path("trace.jsonl");
  start();
  const httplib::Response first = post("/v1/adapters/a0/acquire");
  ASSERT_EQ(first.status, 200);
  auto impatient = std::make_unique<RawClient>(service_->port());
  impatient->send("POST /v1/adapters/a1/acquire HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
  ASSERT_TRUE(eventually([&] { return engine_->stats().requests_waiting == 1; }));
  impatient.reset();
  std::this_thread::sleep_for(std::chrono::milliseconds(200));  // until the front has seen it
  const json body = {{"lease", json::parse(first.body)["lease"]}};
  EXPECT_EQ(post("/v1/release", body.dump()).status, 200);
  EXPECT_TRUE(eventually([&] { return engine_->stats().requests_waiting == 0; }));
  EXPECT_TRUE(service_->drain());
  std::ifstream in(config_.capture.path);
  const std::string captured{std::istreambuf_iterator<char>(in), {}};
  EXPECT_NE(captured.find("\"adapter\":\"a1\"}"), std::string::npos) << captured;
}

TEST_F(ServiceConcurrency, EverythingAtOnceEndsWell) {
  // If this failed, a reload during traffic, or a shutdown during a reload, could crash the service.
  make({"a0", "a1", "a2", "a3"});
  config_.capture.path = path("trace.jsonl");
  start();
  std::atomic<bool> stop = false;
  std::vector<std::thread> threads;
  const auto work = [&](auto&& body) {
    threads.emplace_back([&, body] {
      const auto http = client();
      http->set_connection_timeout(1);
      while (!stop) body(*http);
    });
  };
  for (int i = 0; i < 3; ++i) {
    work([i](httplib::Client& http) {
      static_cast<void>(http.Post("/v1/adapters/a" + std::to_string(i) + "/acquire",
                                  R"({"ttl_s":0.1,"timeout_s":0.2})", "application/json"));
    });
  }
  work([](httplib::Client& http) {
    static_cast<void>(http.Post("/v1/unload_lora_adapter", R"({"lora_name":"a3"})", "application/json"));
    static_cast<void>(http.Post("/v1/refresh_lora_discovery", "{}", "application/json"));
  });
  work([this](httplib::Client& http) {
    const json body = {{"lora_name", "a3"}, {"lora_path", root() + "/a3"}, {"load_inplace", true}};
    static_cast<void>(http.Post("/v1/load_lora_adapter", body.dump(), "application/json"));
  });
  work([](httplib::Client& http) {
    static_cast<void>(http.Get("/metrics"));
    static_cast<void>(http.Put("/v1/policy", R"({"host":"gdsf"})", "application/json"));
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(500));
  ASSERT_TRUE(service_->apply(config_));
  EXPECT_TRUE(service_->drain());
  stop = true;
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(engine_->stats().leases, 0U);
}

}  // namespace
}  // namespace loracle::testing
