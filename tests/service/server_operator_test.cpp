// Policy, statistics, events, the description, draining.

#include <gtest/gtest.h>

#include <future>
#include <nlohmann/json.hpp>
#include <set>
#include <string>

#include "raw_client.hpp"
#include "service/http_server.hpp"
#include "service_scene.hpp"

namespace loracle::testing {
namespace {

using nlohmann::json;

class OperatorRoutes : public ServiceScene {
 protected:
  void SetUp() override {
    make({"alpha", "beta", "gamma"});
    start();
  }
  [[nodiscard]] httplib::Response put(const std::string& target, const std::string& body) const {
    return answer_of(client()->Put(target, body, "application/json"));
  }
};

TEST_F(OperatorRoutes, APolicyCanBeChangedWhileServing) {
  // If this failed, trying another policy would cost a restart and a cold cache.
  EXPECT_EQ(get("/v1/policy").body, R"({"device":"lru","host":"lru"})");
  const httplib::Response changed = put("/v1/policy", R"({"device":"sieve","host":"gdsf"})");
  EXPECT_EQ(changed.status, 200);
  EXPECT_EQ(changed.body, R"({"device":"sieve","host":"gdsf"})");
  EXPECT_EQ(put("/v1/policy", R"({"host":"lru"})").body, R"({"device":"sieve","host":"lru"})");
  const httplib::Response unknown = put("/v1/policy", R"({"device":"fifo","host":"seive"})");
  EXPECT_EQ(unknown.status, 400);
  EXPECT_NE(unknown.body.find("sieve"), std::string::npos) << "it says what was probably meant";
  EXPECT_EQ(get("/v1/policy").body, R"({"device":"sieve","host":"lru"})") << "both or none";
  EXPECT_EQ(put("/v1/policy", R"({"device":"belady"})").status, 400);
  EXPECT_EQ(put("/v1/policy", "{}").status, 400);
}

TEST_F(OperatorRoutes, StatisticsAreTheEngines) {
  // If this failed, an operator would size the cache by wrong numbers.
  ASSERT_EQ(post("/v1/adapters/alpha/acquire").status, 200);
  ASSERT_EQ(post("/v1/adapters/alpha/acquire").status, 200);
  const json stats = json::parse(get("/v1/stats").body);
  EXPECT_EQ(stats["adapters_known"], 3);
  EXPECT_EQ(stats["uses"], 2);
  EXPECT_EQ(stats["gpu_hits"], 1);
  EXPECT_EQ(stats["disk_loads"], 1);
  EXPECT_EQ(stats["leases"], 2);
  EXPECT_EQ(stats["device"]["adapters"], 1);
  EXPECT_EQ(stats["device"]["adapters_max"], 2);
  EXPECT_EQ(stats["load_latency"]["count"], 1);
}

TEST_F(OperatorRoutes, EventsAreStreamed) {
  // If this failed, whoever watches the service would see nothing, or block it.
  RawClient raw(service_->port());
  raw.send("GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n");
  const std::string head = raw.receive(": hello\n\n");
  EXPECT_TRUE(head.starts_with("HTTP/1.1 200 OK\r\n")) << head;
  EXPECT_NE(head.find("Content-Type: text/event-stream\r\n"), std::string::npos);
  ASSERT_EQ(post("/v1/adapters/alpha/acquire", R"({"ttl_s":0.3})").status, 200);
  std::string text = raw.receive("event: expired");
  // Residency is looked at now and then: whenever that was, and with or without the stop in host memory.
  const std::string arrived = R"("to":"device"})";
  if (text.find(arrived) == std::string::npos) text += raw.receive(arrived);
  text += raw.receive("\n\n", 100);
  EXPECT_NE(text.find("event: leased\ndata: {\"lease\":\""), std::string::npos) << text;
  EXPECT_NE(text.find("\"names\":[\"alpha\"]}\n\n"), std::string::npos);
  const std::string moved = "event: residency\ndata: {\"name\":\"alpha\",\"from\":";
  const std::size_t first = text.find(moved);
  ASSERT_NE(first, std::string::npos) << text;
  const std::string from_storage = text.substr(first + moved.size());
  EXPECT_TRUE(from_storage.starts_with(R"("storage","to":"device"})") ||
              (from_storage.starts_with(R"("storage","to":"host"})") &&
               from_storage.find(moved + R"("host","to":"device"})") != std::string::npos))
      << text;
  ASSERT_EQ(put("/v1/policy", R"({"host":"fifo"})").status, 200);
  EXPECT_NE(raw.receive("event: policy").find("event: policy"), std::string::npos);
}

TEST_F(OperatorRoutes, AClientThatComesBackGetsWhatItMissed) {
  // If this failed, a watcher would lose events whenever its connection broke.
  ASSERT_EQ(put("/v1/policy", R"({"host":"fifo"})").status, 200);
  ASSERT_EQ(put("/v1/policy", R"({"host":"gdsf"})").status, 200);
  ASSERT_EQ(put("/v1/policy", R"({"host":"lru"})").status, 200);
  const auto events_after = [&](const std::string& id) {
    RawClient raw(service_->port());
    raw.send("GET /v1/events HTTP/1.1\r\nHost: x\r\nLast-Event-ID: " + id + "\r\n\r\n");
    return raw.receive("\"host\":\"lru\"}\n\n");
  };
  const std::string all = events_after("1");  // of an earlier run: not all that came since is known
  EXPECT_NE(all.find("event: gap\n"), std::string::npos) << all;
  EXPECT_NE(all.find("\"host\":\"fifo\""), std::string::npos) << all;
  const std::size_t id = all.find("id: ") + 4;
  const std::string rest = events_after(all.substr(id, all.find('\n', id) - id));
  EXPECT_EQ(rest.find("event: gap"), std::string::npos) << rest;
  EXPECT_EQ(rest.find("\"host\":\"fifo\""), std::string::npos);
  EXPECT_NE(rest.find("\"host\":\"gdsf\""), std::string::npos);
  RawClient wrong(service_->port());
  wrong.send("GET /v1/events HTTP/1.1\r\nHost: x\r\nLast-Event-ID: x\r\n\r\n");
  EXPECT_TRUE(wrong.receive("\r\n\r\n").starts_with("HTTP/1.1 400 "));
}

TEST_F(OperatorRoutes, EventStreamsAreBounded) {
  // If this failed, watchers that are never closed would use up the service.
  std::vector<std::unique_ptr<RawClient>> streams;
  int refused = 0;
  for (int i = 0; i < 70; ++i) {
    streams.push_back(std::make_unique<RawClient>(service_->port()));
    streams.back()->send("GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n");
    const std::string head = streams.back()->receive("\r\n\r\n");
    if (head.starts_with("HTTP/1.1 503 ")) ++refused;
  }
  EXPECT_EQ(refused, 6) << "64 may listen";
  streams.clear();
  EXPECT_TRUE(eventually([&] {  // those that left make room, once something is sent to them
    static_cast<void>(put("/v1/policy", R"({"host":"lru"})"));
    RawClient raw(service_->port());
    raw.send("GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n");
    return raw.receive("\r\n\r\n").starts_with("HTTP/1.1 200 ");
  }));
}

TEST_F(OperatorRoutes, TheDescriptionIsWhatIsServed) {
  // If this failed, clients generated from the description would miss routes, or call missing ones.
  const json document = json::parse(get("/openapi.json").body);
  EXPECT_EQ(document["openapi"], "3.1.0");
  std::set<std::string> described;
  std::set<std::string> ids;
  for (const auto& [path, operations] : document["paths"].items()) {
    for (const auto& [method, operation] : operations.items()) {
      described.insert(method + " " + path);
      EXPECT_TRUE(ids.insert(operation["operationId"]).second) << operation["operationId"];
      EXPECT_FALSE(operation["responses"].empty()) << path;
      std::string target = path;
      if (const std::size_t brace = target.find("{name}"); brace != std::string::npos)
        target.replace(brace, 6, "nobody");
      if (path == "/v1/events") continue;  // it has no end
      const httplib::Response answer = method == "get"    ? get(target)
                                       : method == "post" ? post(target, "{}")
                                                          : put(target, "{}");
      const std::string message = answer.body.substr(0, 200);
      EXPECT_TRUE(answer.status != 405 && answer.status != 501) << path << message;
      EXPECT_NE(answer.body, error_json(404, "Not Found", "Not Found")) << method << " " << path;
      EXPECT_TRUE(operation["responses"].contains(std::to_string(answer.status)))
          << method << " " << path << " answers " << answer.status << ", which is not described: " << message;
    }
  }
  // And the other way round: what was asked of the service, route by route.
  const std::set<std::string> served = {"get /v1/models",
                                        "post /v1/load_lora_adapter",
                                        "post /v1/unload_lora_adapter",
                                        "post /v1/refresh_lora_discovery",
                                        "get /v1/adapters",
                                        "post /v1/adapters/load",
                                        "get /v1/adapters/{name}",
                                        "post /v1/adapters/{name}/pin",
                                        "post /v1/adapters/{name}/unpin",
                                        "post /v1/adapters/{name}/prefetch",
                                        "post /v1/adapters/{name}/acquire",
                                        "post /v1/adapters/{name}/release",
                                        "post /v1/adapters/{name}/renew",
                                        "post /v1/acquire",
                                        "post /v1/release",
                                        "post /v1/renew",
                                        "put /v1/policy",
                                        "get /v1/policy",
                                        "get /v1/resolve",
                                        "get /v1/stats",
                                        "get /v1/events",
                                        "get /health",
                                        "get /healthz",
                                        "get /readyz",
                                        "get /metrics",
                                        "get /openapi.json"};
  EXPECT_EQ(described, served);
  for (const std::string& route : served) {
    const std::string path = route.substr(route.find(' ') + 1);
    std::string target = path;
    if (const std::size_t brace = target.find("{name}"); brace != std::string::npos)
      target.replace(brace, 6, "nobody");
    const httplib::Response wrong = answer_of(client()->Delete(target));
    ASSERT_EQ(wrong.status, 405) << route;
    std::string allowed = wrong.get_header_value("Allow");
    for (char& c : allowed) c = static_cast<char>(std::tolower(c));
    for (const char* method : {"get", "post", "put"}) {
      const bool is_served = allowed.find(method) != std::string::npos;
      // /v1/adapters/load is a name's page too.
      if (target == "/v1/adapters/load") continue;
      EXPECT_EQ(document["paths"][path].contains(method), is_served) << method << " " << path;
    }
  }
}

TEST_F(OperatorRoutes, HowLoadingMayFailIsDescribed) {
  // If this failed, a client made from the description would not know the answers of a bucket that is gone.
  const json document = json::parse(get("/openapi.json").body);
  for (const char* path : {"/v1/acquire", "/v1/adapters/{name}/acquire", "/v1/adapters/{name}/pin",
                           "/v1/adapters/load", "/v1/resolve"})
    for (const Errc code : {Errc::kNotFound, Errc::kCorrupt, Errc::kIo, Errc::kBusy, Errc::kDeadline})
      for (const int detail : {0, 503}) {
        const std::string status = std::to_string(service::status_of(Error{code, "", detail}));
        const json& operations = document["paths"][path];
        EXPECT_TRUE(operations.front()["responses"].contains(status)) << path << " " << status;
      }
  EXPECT_TRUE(document["paths"]["/v1/refresh_lora_discovery"]["post"]["responses"].contains("500"));
}

TEST_F(OperatorRoutes, EveryReferenceOfTheDescriptionIsThere) {
  // If this failed, tools would refuse the description as a whole.
  const json document = json::parse(get("/openapi.json").body);
  int references = 0;
  const std::function<void(const json&)> walk = [&](const json& value) {
    if (value.is_object() && value.contains("$ref")) {
      ++references;
      const std::string name = value["$ref"];
      ASSERT_TRUE(name.starts_with("#/"));
      EXPECT_TRUE(document.contains(json::json_pointer(name.substr(1)))) << name;
    }
    if (value.is_structured())
      for (const json& part : value) walk(part);
  };
  walk(document);
  EXPECT_GT(references, 50);
}

TEST_F(OperatorRoutes, DrainingAnswersWhatIsUnderWay) {
  // If this failed, every deployment would break the requests of its last seconds.
  const std::uint16_t port = service_->port();
  RawClient events(port);
  events.send("GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n");
  ASSERT_TRUE(events.receive(": hello\n\n").starts_with("HTTP/1.1 200 "));
  ASSERT_EQ(post("/v1/adapters/alpha/acquire", R"({"ttl_s":0.5})").status, 200);
  ASSERT_EQ(post("/v1/adapters/beta/acquire", R"({"ttl_s":0.5})").status, 200);
  auto waiting = std::async(std::launch::async, [&] { return post("/v1/adapters/gamma/acquire"); });
  ASSERT_TRUE(eventually([&] { return engine_->stats().requests_waiting == 1; }));
  auto drained = std::async(std::launch::async, [&] { return service_->drain(); });
  ASSERT_TRUE(eventually([&] { return get("/readyz").status == 503; }));
  const httplib::Response refused = post("/v1/adapters/alpha/acquire");
  EXPECT_EQ(refused.status, 503) << refused.body;
  EXPECT_NE(refused.body.find("shutting down"), std::string::npos) << refused.body;
  EXPECT_TRUE(refused.has_header("Retry-After"));
  const httplib::Response answer = waiting.get();
  EXPECT_EQ(answer.status, 200) << answer.body;
  const json lease = json::parse(answer.body);
  EXPECT_EQ(drained.wait_for(std::chrono::milliseconds(100)), std::future_status::timeout)
      << "gamma is still used";
  EXPECT_EQ(post("/v1/release", json{{"lease", lease["lease"]}}.dump()).status, 200);
  EXPECT_TRUE(drained.get());
  EXPECT_FALSE(RawClient(port).connected());
  EXPECT_NE(events.receive().find("event: shutdown"), std::string::npos);
  EXPECT_TRUE(events.closed());
  EXPECT_EQ(engine_->stats().leases, 0U);
  EXPECT_FALSE(engine_->acquire("alpha")) << "the engine is shut down";
}

TEST_F(OperatorRoutes, DrainingWaitsForAResolverUnderWay) {
  // If this failed, a deployment would break the first requests for adapters that had to be looked for.
  make(path("depot"), {"zeta"});
  std::promise<void> may_answer;
  resolver_ = std::make_unique<FolderResolver>(path("depot"));
  resolver_->on_ask = [answer = may_answer.get_future().share()] { answer.wait(); };
  config_.log.level = "warning";
  ::testing::internal::CaptureStderr();
  start();
  auto looked_for = std::async(std::launch::async, [&] { return post("/v1/adapters/zeta/acquire"); });
  ASSERT_TRUE(eventually([&] { return resolver_->asked == 1; }));
  auto drained = std::async(std::launch::async, [&] { return service_->drain(); });
  ASSERT_TRUE(eventually([&] { return get("/readyz").status == 503; }));
  EXPECT_EQ(drained.wait_for(std::chrono::milliseconds(100)), std::future_status::timeout);
  may_answer.set_value();
  const httplib::Response answer = looked_for.get();
  EXPECT_EQ(answer.status, 200) << answer.body;
  const json lease = json::parse(answer.body, nullptr, false);
  EXPECT_EQ(post("/v1/release", json{{"lease", lease["lease"]}}.dump()).status, 200);
  EXPECT_TRUE(drained.get());
  const std::string log = ::testing::internal::GetCapturedStderr();
  EXPECT_EQ(log.find("before they were released"), std::string::npos) << log;
}

TEST_F(OperatorRoutes, DrainingHasAnEnd) {
  // If this failed, a request that waits for room would keep the process from ending.
  config_.http.drain_timeout_ms = 200;
  config_.log.level = "warning";
  ::testing::internal::CaptureStderr();
  start();
  ASSERT_EQ(post("/v1/adapters/alpha/acquire").status, 200);
  ASSERT_EQ(post("/v1/adapters/beta/acquire").status, 200);
  ASSERT_TRUE(engine_->status("gamma"));
  Result<Lease> none = engine_->acquire("gamma", {1'000'000});
  ASSERT_FALSE(none);
  auto waiting = std::async(std::launch::async, [&] { return post("/v1/adapters/gamma/acquire"); });
  ASSERT_TRUE(eventually([&] { return engine_->stats().requests_waiting == 1; }));
  EXPECT_TRUE(service_->drain());
  const std::string log = ::testing::internal::GetCapturedStderr();
  EXPECT_NE(log.find("leases end before they were released: http.drain_timeout_ms is over leases=2"),
            std::string::npos)
      << log;
  const int status = waiting.get().status;
  EXPECT_TRUE(status == 503 || status == 200) << status << ": a lease's end may have made room just in time";
}

TEST_F(OperatorRoutes, BadSettingsAreNamed) {
  // If this failed, a service would start with a limit that lets nothing, or everything, through.
  ServiceConfig config = config_;
  config.http.queue_max = 0;
  const Result<std::unique_ptr<Service>> refused = Service::start(config, {engine_.get(), &posix_clock()});
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message.find("http.queue_max"), std::string::npos);
  config = config_;
  config.http.api_keys = {""};
  EXPECT_FALSE(Service::start(config, {engine_.get(), &posix_clock()}));
  config = config_;
  config.log.level = "loud";
  EXPECT_FALSE(Service::start(config, {engine_.get(), &posix_clock()}));
  config = config_;
  config.http.port = service_->port();
  const Result<std::unique_ptr<Service>> taken = Service::start(config, {engine_.get(), &posix_clock()});
  ASSERT_FALSE(taken) << "two servers on one port would share its clients";
  EXPECT_EQ(taken.error().code, Errc::kIo);
}

}  // namespace
}  // namespace loracle::testing
