// Our routes about adapters and leases.

#include <gtest/gtest.h>

#include <chrono>
#include <future>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>

#include "raw_client.hpp"
#include "service_scene.hpp"

namespace loracle::testing {
namespace {

using nlohmann::json;

class AdapterRoutes : public ServiceScene {
 protected:
  void SetUp() override {
    make({"alpha", "beta", "gamma", "delta"});
    start();
  }
  [[nodiscard]] json acquire(const std::string& name, const std::string& body = "{}") const {
    const httplib::Response answer = post("/v1/adapters/" + name + "/acquire", body);
    EXPECT_EQ(answer.status, 200) << answer.body;
    return json::parse(answer.body, nullptr, false);
  }
  [[nodiscard]] int release(const std::string& name, const std::string& lease) const {
    return post("/v1/adapters/" + name + "/release", json({{"lease", lease}}).dump()).status;
  }
};

TEST_F(AdapterRoutes, AcquireTellsWhatAServerNeeds) {
  // If this failed, a serving process would not know which slot or files to use.
  const json lease = acquire("beta");
  EXPECT_EQ(lease["name"], "beta");
  EXPECT_EQ(lease["lora_int_id"], *engine_->adapter_id("beta"));
  EXPECT_EQ(lease["slot"], engine_->status("beta")->slot);
  EXPECT_EQ(lease["rank"], 8);
  EXPECT_EQ(lease["directory"], root() + "/beta");
  EXPECT_EQ(lease["expires_in_s"], 60.0);
  EXPECT_EQ(lease["lease"].get<std::string>().size(), 32U);
  EXPECT_EQ(engine_->status("beta")->leases, 1U);
  EXPECT_EQ(release("alpha", lease["lease"]), 404) << "it is no lease of alpha";
  EXPECT_EQ(release("beta", lease["lease"]), 200);
  EXPECT_EQ(engine_->status("beta")->leases, 0U);
  EXPECT_EQ(release("beta", lease["lease"]), 404) << "it has ended already";
}

TEST_F(AdapterRoutes, ALeaseExpiresUnlessItIsRenewed) {
  // If this failed, a client that died would hold its slot for ever.
  const json dead = acquire("alpha", R"({"ttl_s":0.2})");
  const json alive = acquire("beta", R"({"ttl_s":0.2})");
  EXPECT_EQ(post("/v1/adapters/beta/renew", json({{"lease", alive["lease"]}, {"ttl_s", 30}}).dump()).status,
            200);
  EXPECT_TRUE(eventually([&] { return engine_->status("alpha")->leases == 0; }));
  EXPECT_EQ(engine_->status("beta")->leases, 1U);
  EXPECT_EQ(release("alpha", dead["lease"]), 404);
  EXPECT_EQ(release("beta", alive["lease"]), 200);
  EXPECT_EQ(json::parse(get("/v1/stats").body)["leases_expired"], 1);
}

TEST_F(AdapterRoutes, ABatchIsLeasedTogether) {
  // If this failed, adapters that are needed together could evict each other.
  const httplib::Response answer = post("/v1/acquire", R"({"adapters":["gamma","alpha"],"ttl_s":5})");
  ASSERT_EQ(answer.status, 200) << answer.body;
  const json lease = json::parse(answer.body);
  ASSERT_EQ(lease["adapters"].size(), 2U);
  EXPECT_EQ(lease["adapters"][0]["name"], "gamma");
  EXPECT_EQ(lease["adapters"][1]["name"], "alpha");
  EXPECT_NE(lease["adapters"][0]["slot"], lease["adapters"][1]["slot"]);
  EXPECT_EQ(engine_->stats().leases, 1U);
  EXPECT_EQ(post("/v1/renew", json({{"lease", lease["lease"]}}).dump()).status, 200);
  EXPECT_EQ(post("/v1/release", json({{"lease", lease["lease"]}}).dump()).status, 200);
  EXPECT_EQ(engine_->stats().leases, 0U);
}

TEST_F(AdapterRoutes, AnAcquireWithoutRoomWaitsForARelease) {
  // If this failed, a full device would refuse what it could serve a moment later.
  const json first = acquire("alpha");
  const json second = acquire("beta");
  auto waiting = std::async(std::launch::async, [&] { return acquire("gamma"); });
  EXPECT_TRUE(eventually([&] { return engine_->stats().requests_waiting == 1; }));
  EXPECT_EQ(release("alpha", first["lease"]), 200);
  EXPECT_EQ(waiting.get()["slot"], first["slot"]);
  EXPECT_EQ(release("beta", second["lease"]), 200);
}

TEST_F(AdapterRoutes, AClientThatHangsUpHoldsNothing) {
  // If this failed, every client that lost patience would take a slot away for a lease's whole time.
  for (const bool half : {false, true}) {
    const json first = acquire("alpha");
    const json second = acquire("beta");
    auto impatient = std::make_unique<RawClient>(service_->port());
    ASSERT_TRUE(
        impatient->send("POST /v1/adapters/gamma/acquire HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"));
    ASSERT_TRUE(eventually([&] { return engine_->stats().requests_waiting == 1; }));
    if (half)
      impatient->end_sending();
    else
      impatient.reset();
    std::this_thread::sleep_for(std::chrono::milliseconds(200));  // until the front has seen it
    EXPECT_EQ(release("alpha", first["lease"]), 200);
    EXPECT_TRUE(eventually([&] { return engine_->stats().requests_waiting == 0; }));
    EXPECT_TRUE(eventually([&] { return engine_->stats().leases == 1; })) << engine_->stats().leases;
    if (half) {
      EXPECT_TRUE(impatient->receive("none is held").starts_with("HTTP/1.1 499 ")) << "it still reads";
    }
    EXPECT_EQ(release("beta", second["lease"]), 200);
  }
}

TEST_F(AdapterRoutes, APinOfAClientThatHangsUpIsNotMade) {
  // If this failed, a client that lost patience would pin a slot for good, and never know.
  const json first = acquire("alpha");
  const json second = acquire("beta");
  auto impatient = std::make_unique<RawClient>(service_->port());
  ASSERT_TRUE(
      impatient->send("POST /v1/adapters/gamma/pin HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"));
  ASSERT_TRUE(eventually([&] { return engine_->status("gamma")->loading; }));
  impatient.reset();
  EXPECT_TRUE(eventually([&] { return engine_->stats().requests_waiting == 0; })) << "before any lease ends";
  EXPECT_EQ(release("alpha", first["lease"]), 200);
  EXPECT_EQ(release("beta", second["lease"]), 200);
  EXPECT_FALSE(engine_->status("gamma")->pinned);
}

TEST_F(AdapterRoutes, AnAcquireWithoutRoomEndsAtItsTime) {
  // If this failed, a client would wait for ever and believe that the service hangs.
  const json first = acquire("alpha");
  const json second = acquire("beta");
  const httplib::Response late = post("/v1/adapters/gamma/acquire", R"({"timeout_s":0.1})");
  EXPECT_EQ(late.status, 504);
  EXPECT_EQ(json::parse(late.body)["error"]["code"], 504);
}

TEST_F(AdapterRoutes, PinsThatLeaveNoRoomAreAConflict) {
  // If this failed, a client would wait for room that can never come.
  EXPECT_EQ(post("/v1/adapters/alpha/pin").status, 200);
  EXPECT_EQ(post("/v1/adapters/beta/pin", R"({"tier":"device"})").status, 200);
  EXPECT_EQ(post("/v1/adapters/gamma/acquire").status, 409);
  const json unpinned = json::parse(post("/v1/adapters/alpha/unpin").body);
  EXPECT_EQ(unpinned["pinned"], false);
  EXPECT_EQ(post("/v1/adapters/gamma/acquire").status, 200);
}

TEST_F(AdapterRoutes, BatchesLargerThanTheDeviceAreTooLarge) {
  // If this failed, an impossible batch would be retried for ever.
  EXPECT_EQ(post("/v1/acquire", R"({"adapters":["alpha","beta","gamma"]})").status, 413);
}

TEST_F(AdapterRoutes, AdaptersSayWhereTheyAre) {
  // If this failed, an operator could not see what is cached.
  ASSERT_TRUE(engine_->pin("alpha"));
  const json lease = acquire("alpha");
  const json alpha = json::parse(get("/v1/adapters/alpha").body);
  EXPECT_EQ(alpha["residency"], "device");
  EXPECT_EQ(alpha["pinned"], true);
  EXPECT_EQ(alpha["leases"], 1);
  EXPECT_EQ(alpha["rank"], 8);
  EXPECT_GT(alpha["bytes"], 0);
  EXPECT_EQ(alpha["hits"], 1);
  EXPECT_EQ(alpha["base_model"], "tiny-base");
  EXPECT_EQ(json::parse(get("/v1/adapters/delta").body)["residency"], "storage");
  EXPECT_EQ(get("/v1/adapters/nobody").status, 404);
  const json all = json::parse(get("/v1/adapters").body);
  ASSERT_EQ(all["adapters"].size(), 4U);
  EXPECT_EQ(all["adapters"][0]["name"], "alpha");
  EXPECT_TRUE(all["next"].is_null());
}

TEST_F(AdapterRoutes, TheListCanBeReadInPages) {
  // If this failed, a list of 100,000 adapters could only be read at once.
  const json first = json::parse(get("/v1/adapters?limit=3").body);
  EXPECT_EQ(first["adapters"].size(), 3U);
  EXPECT_EQ(first["next"], "delta");
  const json rest = json::parse(get("/v1/adapters?limit=3&after=delta").body);
  ASSERT_EQ(rest["adapters"].size(), 1U);
  EXPECT_EQ(rest["adapters"][0]["name"], "gamma");
  for (const char* wrong : {"0", "x", "-1", "10001", "99999999999"})
    EXPECT_EQ(get(std::string("/v1/adapters?limit=") + wrong).status, 400) << wrong;
}

TEST_F(AdapterRoutes, PrefetchBringsAnAdapterIntoHostMemory) {
  // If this failed, the first request of a tenant that was announced would wait all the same.
  EXPECT_EQ(post("/v1/adapters/gamma/prefetch").status, 200);
  EXPECT_TRUE(eventually([&] { return engine_->status("gamma")->on_host; }));
  EXPECT_EQ(post("/v1/adapters/nobody/prefetch").status, 404);
  EXPECT_EQ(post("/v1/adapters/gamma/prefetch", R"({"tier":"disk"})").status, 400);
}

TEST_F(AdapterRoutes, ABatchLoadSaysWhatBecameOfEach) {
  // If this failed, one missing adapter would hide what became of the others.
  make(path("elsewhere"), {"epsilon"}, 8, 9);
  const json body = {{"adapters",
                      {{{"name", "alpha"}},
                       {{"name", "nobody"}},
                       {{"name", "epsilon"}, {"uri", path("elsewhere/epsilon")}}}}};
  const httplib::Response answer = post("/v1/adapters/load", body.dump());
  ASSERT_EQ(answer.status, 200) << answer.body;
  const json outcome = json::parse(answer.body);
  EXPECT_EQ(outcome["loaded"], json({"alpha", "epsilon"}));
  ASSERT_EQ(outcome["failed"].size(), 1U);
  EXPECT_EQ(outcome["failed"][0]["name"], "nobody");
  EXPECT_EQ(outcome["failed"][0]["code"], 404);
  EXPECT_TRUE(engine_->status("epsilon")->on_host);
  EXPECT_EQ(post("/v1/adapters/load", R"({"adapters":[{"name":"nobody"}]})").status, 404);
}

TEST_F(AdapterRoutes, AnUnknownNameIsResolvedAndServed) {
  // If this failed, adapters would have to be announced before they could be used.
  make(path("depot"), {"zeta"}, 8, 5);
  resolver_ = std::make_unique<FolderResolver>(path("depot"));
  start();
  const json where = json::parse(get("/v1/resolve?name=zeta").body);
  EXPECT_EQ(where["uri"], path("depot/zeta"));
  EXPECT_EQ(where["base_model"], "resolved-base");
  EXPECT_EQ(where["known"], false);
  EXPECT_FALSE(engine_->status("zeta")) << "to ask is not to load";
  const json lease = acquire("zeta");
  EXPECT_EQ(lease["directory"], path("depot/zeta"));
  EXPECT_EQ(resolver_->asked_base_model, "tiny-base");
  const int asked = resolver_->asked;
  EXPECT_EQ(acquire("zeta")["slot"], lease["slot"]);
  EXPECT_EQ(resolver_->asked, asked) << "what is known is not looked for again";
  const httplib::Response nobody = post("/v1/adapters/nobody/acquire");
  EXPECT_EQ(nobody.status, 404);
  EXPECT_EQ(nobody.body, error_json(404, "NotFoundError", "LoRA adapter nobody does not exist"));
  EXPECT_EQ(get("/v1/resolve?name=nobody").status, 404);
  EXPECT_EQ(get("/v1/resolve").status, 400);
  const json models = json::parse(get("/v1/models").body);
  EXPECT_EQ(models["data"].back()["id"], "zeta");
  EXPECT_EQ(models["data"].back()["parent"], "resolved-base");
}

TEST_F(AdapterRoutes, WithoutAResolverUnknownNamesAreNotFound) {
  // If this failed, a misspelt name would look like a fault of the service.
  const httplib::Response nobody = post("/v1/adapters/nobody/acquire");
  EXPECT_EQ(nobody.status, 404);
  EXPECT_EQ(get("/v1/resolve?name=nobody").status, 404);
  EXPECT_EQ(json::parse(get("/v1/resolve?name=alpha").body)["known"], true);
}

TEST_F(AdapterRoutes, BodiesAreReadStrictly) {
  // If this failed, a misspelt key would silently mean its default.
  const auto message = [&](const std::string& body) {
    const httplib::Response answer = post("/v1/adapters/alpha/acquire", body);
    EXPECT_EQ(answer.status, 400) << body;
    const json error = json::parse(answer.body, nullptr, false);
    return error.is_object() ? error["error"]["message"].get<std::string>() : answer.body;
  };
  EXPECT_NE(message(R"({"tll_s":5})").find("'tll_s'"), std::string::npos);
  EXPECT_NE(message(R"({"ttl_s":5,"ttl_s":6})").find("'ttl_s'"), std::string::npos);
  EXPECT_NE(message(R"({"ttl_s":"5"})").find("ttl_s"), std::string::npos);
  EXPECT_NE(message(R"({"ttl_s":0})").find("0.1 to 3600"), std::string::npos);
  EXPECT_NE(message(R"({"ttl_s":1e9})").find("0.1 to 3600"), std::string::npos);
  EXPECT_NE(message(R"({"timeout_s":-1})").find("timeout_s"), std::string::npos);
  EXPECT_NE(message("{\"tenant\":\"\xff\"}").find("UTF-8"), std::string::npos);
  EXPECT_NE(message(std::string(100'000, '[')).find("nested"), std::string::npos);
  EXPECT_NE(message("[]").find("object"), std::string::npos);
  EXPECT_NE(message("{} x").find("JSON"), std::string::npos);
  EXPECT_EQ(post("/v1/adapters/alpha/acquire", "{}", "text/plain").status, 415);
  EXPECT_EQ(post("/v1/acquire", R"({"adapters":["alpha","alpha"]})").status, 400);
  EXPECT_EQ(post("/v1/acquire", R"({"adapters":[]})").status, 400);
  EXPECT_EQ(post("/v1/acquire", R"({})").status, 400);
  EXPECT_EQ(post("/v1/release", R"({})").status, 400);
  EXPECT_EQ(engine_->stats().leases, 0U);
}

}  // namespace
}  // namespace loracle::testing
