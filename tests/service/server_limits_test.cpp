// What a hostile or broken client meets.

#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "raw_client.hpp"
#include "service_scene.hpp"

namespace loracle::testing {
namespace {

using nlohmann::json;

class ServiceLimits : public ServiceScene {
 protected:
  void SetUp() override {
    make({"alpha", "beta"});
    config_.http.read_timeout_ms = 400;
    config_.http.header_bytes_max = 4096;
    config_.http.body_bytes_max = 10'000;
    start();
  }
  /// The status line's number of the first answer; 0 if there is none.
  [[nodiscard]] int status_of(const std::string& request) const {
    RawClient raw(service_->port());
    raw.send(request);
    const std::string answer = raw.receive("\r\n\r\n");
    return answer.starts_with("HTTP/1.1 ") ? std::stoi(answer.substr(9, 3)) : 0;
  }
};

TEST_F(ServiceLimits, SlowClientsAreCutOffAndHoldNobodyUp) {
  // If this failed, a few clients that send a byte now and then would block all others.
  std::vector<std::unique_ptr<RawClient>> slow;
  for (int i = 0; i < 100; ++i) {
    slow.push_back(std::make_unique<RawClient>(service_->port()));
    ASSERT_TRUE(slow.back()->send("GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: "));
  }
  const auto begun = std::chrono::steady_clock::now();
  EXPECT_EQ(get("/healthz").status, 200);
  EXPECT_LT(std::chrono::steady_clock::now() - begun, std::chrono::milliseconds(300));
  for (int i = 0; i < 4; ++i) {  // each byte comes in time; the request does not
    std::this_thread::sleep_for(std::chrono::milliseconds(150));
    for (const auto& client : slow) client->send("a");
  }
  for (const auto& client : slow) {
    const std::string answer = client->receive();
    EXPECT_TRUE(answer.empty() || answer.starts_with("HTTP/1.1 408 ")) << answer;
    EXPECT_TRUE(client->closed());
  }
}

TEST_F(ServiceLimits, SlowBodiesAreCutOffToo) {
  // If this failed, a body that never ends would keep its memory and its connection.
  RawClient raw(service_->port());
  raw.send(
      "POST /v1/acquire HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: "
      "99\r\n\r\n{");
  EXPECT_TRUE(raw.receive().starts_with("HTTP/1.1 408 "));
  EXPECT_TRUE(raw.closed());
}

TEST_F(ServiceLimits, HeadersHaveALimit) {
  // If this failed, headers without end would fill the memory.
  std::string flood = "GET /healthz HTTP/1.1\r\nHost: x\r\n";
  for (int i = 0; i < 1000; ++i) flood += "X-" + std::to_string(i) + ": y\r\n";
  EXPECT_EQ(status_of(flood + "\r\n"), 431);
  EXPECT_EQ(status_of("GET /healthz HTTP/1.1\r\nHost: x\r\nX-Long: " + std::string(100'000, 'a')), 431);
  std::string many = "GET /healthz HTTP/1.1\r\nHost: x\r\n";
  for (int i = 0; i < 101; ++i) many += "a: b\r\n";
  EXPECT_EQ(status_of(many + "\r\n"), 431) << "few bytes, too many headers";
  EXPECT_EQ(status_of("GET /" + std::string(3000, 'a') + " HTTP/1.1\r\nHost: x\r\n\r\n"), 414);
}

TEST_F(ServiceLimits, BodiesHaveALimit) {
  // If this failed, one request could take all memory.
  const httplib::Response large = post("/v1/acquire", std::string(10'001, ' '));
  EXPECT_EQ(large.status, 413);
  EXPECT_EQ(json::parse(large.body)["error"]["code"], 413);
  EXPECT_EQ(
      status_of("POST /v1/acquire HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\n"),
      413);
  EXPECT_EQ(post("/v1/acquire", R"({"adapters":["alpha"]})" + std::string(9'000, ' ')).status, 200);
}

TEST_F(ServiceLimits, MalformedRequestsAreRefused) {
  // If this failed, a proxy and the service could disagree on where a request ends.
  const std::string host = "Host: x\r\n";
  EXPECT_EQ(status_of("GET /healthz HTTP/1.1\r\n\r\n"), 400) << "no host";
  EXPECT_EQ(status_of("GET /healthz HTTP/1.1\n" + host + "\r\n\r\n"), 400) << "a bare LF";
  EXPECT_EQ(status_of("GET  HTTP/1.1\r\n" + host + "\r\n"), 400) << "no target";
  EXPECT_EQ(status_of("GET /a b HTTP/1.1\r\n" + host + "\r\n"), 400) << "a blank in the target";
  EXPECT_EQ(status_of("GET http://x/ HTTP/1.1\r\n" + host + "\r\n"), 400) << "we are no proxy";
  EXPECT_EQ(status_of("BREW /healthz HTTP/1.1\r\n" + host + "\r\n"), 405);
  EXPECT_EQ(status_of("GET /healthz HTTP/2.0\r\n" + host + "\r\n"), 505);
  EXPECT_EQ(status_of("GET /healthz HTTP/1.1\r\n" + host + " folded: x\r\n\r\n"), 400);
  EXPECT_EQ(status_of("GET /healthz HTTP/1.1\r\n" + host + "Bad Name: x\r\n\r\n"), 400);
  const std::string post_line = "POST /v1/acquire HTTP/1.1\r\n" + host;
  EXPECT_EQ(status_of(post_line + "Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}"), 400);
  EXPECT_EQ(status_of(post_line + "Content-Length: -1\r\n\r\n"), 400);
  EXPECT_EQ(status_of(post_line + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), 411);
  EXPECT_EQ(status_of(post_line + "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}"), 411);
  EXPECT_EQ(status_of(post_line + "Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}"), 415);
  EXPECT_EQ(status_of("GET /healthz HTTP/1.1\r\n" + host + "Range: bytes=0-0,0-0,0-0\r\n\r\n"), 200)
      << "ranges are passed over";
}

TEST_F(ServiceLimits, PipelinedRequestsAreAnsweredInOrder) {
  // If this failed, a client that sends ahead would get another request's answer.
  RawClient raw(service_->port());
  raw.send(
      "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /readyz HTTP/1.1\r\nHost: x\r\n\r\n"
      "GET /nowhere HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  const std::string answers = raw.receive();
  const std::size_t health = answers.find(R"({"status":"ok"})");
  const std::size_t ready = answers.find(R"({"status":"ready"})");
  const std::size_t nowhere = answers.find("HTTP/1.1 404 ");
  ASSERT_NE(nowhere, std::string::npos) << answers;
  EXPECT_LT(health, ready);
  EXPECT_LT(ready, nowhere);
  EXPECT_TRUE(raw.closed());
}

TEST_F(ServiceLimits, ThousandsOfPipelinedRequestsAreAnsweredAtOnce) {
  // If this failed, each of them would wait for the front's next tick: minutes for these, and the test's end.
  constexpr int kRequests = 3000;
  RawClient raw(service_->port());
  std::string requests;
  for (int i = 0; i < kRequests; ++i) requests += "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
  std::thread sending(
      [&] { raw.send(requests + "GET /nowhere HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); });
  const std::string answers = raw.receive();
  sending.join();
  int healthy = 0;
  for (std::size_t at = answers.find(R"({"status":"ok"})"); at != std::string::npos;
       at = answers.find(R"({"status":"ok"})", at + 1))
    ++healthy;
  EXPECT_EQ(healthy, kRequests);
  EXPECT_NE(answers.find("HTTP/1.1 404 "), std::string::npos);
}

TEST_F(ServiceLimits, ExpectContinueIsAnswered) {
  // If this failed, curl would wait a second before it sends a body.
  RawClient raw(service_->port());
  raw.send(
      "POST /v1/acquire HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 22\r\n"
      "Expect: 100-continue\r\n\r\n");
  EXPECT_TRUE(raw.receive("\r\n\r\n").starts_with("HTTP/1.1 100 Continue\r\n"));
  raw.send(R"({"adapters":["alpha"]})");
  EXPECT_TRUE(raw.receive("\r\n\r\n").starts_with("HTTP/1.1 200 "));
}

TEST_F(ServiceLimits, UnknownRoutesAndMethodsSaySo) {
  // If this failed, a misspelt path would look like a missing adapter.
  EXPECT_EQ(get("/v2/models").status, 404);
  EXPECT_EQ(get("/v2/models").body, error_json(404, "Not Found", "Not Found"));
  const httplib::Response wrong = post("/v1/models", "{}");
  EXPECT_EQ(wrong.status, 405);
  EXPECT_EQ(wrong.get_header_value("Allow"), "GET");
  EXPECT_EQ(get("/v1/adapters/" + std::string(1900, 'a')).status, 404);
  EXPECT_EQ(get("/v1/adapters/%00%0a").status, 404);
}

TEST_F(ServiceLimits, PagesOfOthersMayNotChangeAnything) {
  // If this failed, any page in an operator's browser could fill every slot.
  const std::string body = "Host: here:1\r\nContent-Length: 0\r\n";
  EXPECT_EQ(status_of("POST /v1/adapters/alpha/acquire HTTP/1.1\r\nOrigin: https://evil\r\n" + body + "\r\n"),
            403);
  EXPECT_EQ(status_of("POST /v1/adapters/alpha/acquire HTTP/1.1\r\nOrigin: null\r\n" + body + "\r\n"), 403);
  EXPECT_EQ(
      status_of("POST /v1/adapters/alpha/acquire HTTP/1.1\r\nOrigin: http://here:1\r\n" + body + "\r\n"),
      200);
  EXPECT_EQ(status_of("GET /v1/models HTTP/1.1\r\nOrigin: https://evil\r\nHost: here:1\r\n\r\n"), 200);
}

TEST_F(ServiceLimits, AnswersAreWhatTheySay) {
  // If this failed, a client would wait for bytes that do not come, or take an answer's rest for the next.
  RawClient raw(service_->port());
  raw.send(
      "HEAD /v1/models HTTP/1.1\r\nHost: x\r\nAccept-Encoding: br, gzip\r\n\r\n"
      "GET /healthz HTTP/1.0\r\nHost: x\r\n\r\n");
  const std::string text = raw.receive();
  const std::size_t second = text.find("HTTP/1.1 ", 1);
  ASSERT_NE(second, std::string::npos) << text;
  const std::string head = text.substr(0, second);
  EXPECT_TRUE(head.ends_with("\r\n\r\n")) << "no body: " << head;
  EXPECT_EQ(head.find("Content-Encoding"), std::string::npos) << head;
  EXPECT_EQ(head.find("Content-Length: 0\r"), std::string::npos) << head;
  EXPECT_NE(head.find("Connection: keep-alive\r\n"), std::string::npos) << head;
  EXPECT_NE(text.find("Connection: close\r\n", second), std::string::npos) << text;
  EXPECT_EQ(get("/v1/resolve?name=al%70ha&other=a+b%zz").status, 200);
  EXPECT_EQ(get("/v1/adapters/al%70ha").status, 200);
  EXPECT_EQ(get("/v1/adapters/alpha%2fbeta").status, 404) << "a name of its own, and no longer path";
}

TEST_F(ServiceLimits, KeysAreAskedForAndNotTold) {
  // If this failed, anybody who reaches the port could load adapters.
  config_.http.api_keys = {"first-secret", "second-secret"};
  start();
  const auto with = [&](const std::string& path, const char* value) {
    httplib::Headers headers;
    if (value != nullptr) headers.emplace("Authorization", value);
    return answer_of(client()->Get(path, headers));
  };
  for (const char* wrong :
       {static_cast<const char*>(nullptr), "", "Bearer", "Bearer ", "Bearer first", "first-secret",
        "Bearer first-secret ", "Bearer first-secretx", "Basic first-secret"}) {
    const httplib::Response refused = with("/v1/models", wrong);
    const bool is_trimmed = wrong != nullptr && std::string(wrong) == "Bearer first-secret ";
    EXPECT_EQ(refused.status, is_trimmed ? 200 : 401) << (wrong == nullptr ? "none" : wrong);
    if (!is_trimmed) {
      EXPECT_EQ(refused.body, R"({"error":"Unauthorized"})");
    }
  }
  EXPECT_EQ(with("/v1/models", "Bearer first-secret").status, 200);
  EXPECT_EQ(with("/v1/models", "bearer second-secret").status, 200);
  EXPECT_EQ(with("/v1/no-such-route", nullptr).status, 401) << "which routes there are is not told either";
  for (const char* open : {"/healthz", "/readyz", "/metrics", "/openapi.json"})
    EXPECT_EQ(with(open, nullptr).status, 200) << open;
  ServiceConfig changed = config_;
  changed.http.api_keys = {"third-secret"};
  ASSERT_TRUE(service_->apply(changed));
  EXPECT_EQ(with("/v1/models", "Bearer first-secret").status, 401);
  EXPECT_EQ(with("/v1/models", "Bearer third-secret").status, 200);
}

TEST_F(ServiceLimits, AFullQueueIsToldAtOnce) {
  // If this failed, a service with too much to do would take on more, and answer none in time.
  config_.http.threads = 1;
  config_.http.queue_max = 1;
  config_.http.request_timeout_ms = 3000;
  start();
  ASSERT_TRUE(engine_->pin("beta"));
  Result<Lease> held = engine_->acquire("alpha");  // both slots are taken: a pin has to wait
  ASSERT_TRUE(held);
  make({"gamma"});
  ASSERT_TRUE(engine_->refresh());
  std::vector<std::thread> threads;
  std::atomic<int> busy = 0;
  for (int i = 0; i < 6; ++i) {
    threads.emplace_back([&] {
      const httplib::Response answer = post("/v1/adapters/gamma/pin", R"({"timeout_s":1})");
      if (answer.status != 503) return;
      EXPECT_EQ(answer.get_header_value("Retry-After"), "1");
      ++busy;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_GE(busy, 4) << "one works, one waits";
  EXPECT_EQ(get("/healthz").status, 200);
}

TEST_F(ServiceLimits, RequestIdsComeBack) {
  // If this failed, a log line could not be found for a client's complaint.
  const auto with = [&](const std::string& id) {
    return answer_of(client()->Get("/healthz", {{"X-Request-Id", id}})).get_header_value("X-Request-Id");
  };
  EXPECT_EQ(with("abc-123"), "abc-123");
  EXPECT_EQ(with("not good\"").size(), 16U) << "it gets one of ours";
  EXPECT_NE(with(std::string(200, 'a')), std::string(200, 'a'));
}

}  // namespace
}  // namespace loracle::testing
