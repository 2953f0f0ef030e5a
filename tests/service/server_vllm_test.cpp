// vLLM's routes over a real socket: bodies, codes and messages as vLLM gives them.

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "service_scene.hpp"

namespace loracle::testing {
namespace {

using nlohmann::json;

class VllmRoutes : public ServiceScene {
 protected:
  void SetUp() override {
    make({"alpha", "beta"});
    make(path("elsewhere"), {"gamma", "wide"}, 8, 7);
    start();
  }
  [[nodiscard]] std::string load_body(const std::string& name, const std::string& adapter_path) const {
    return json({{"lora_name", name}, {"lora_path", adapter_path}}).dump();
  }
};

TEST_F(VllmRoutes, ModelsListsTheBaseModelAndEveryAdapter) {
  // If this failed, clients that choose a model from the list would not find their adapter.
  const httplib::Response answer = get("/v1/models");
  EXPECT_EQ(answer.status, 200);
  EXPECT_EQ(answer.get_header_value("Content-Type"), "application/json");
  const json list = json::parse(answer.body);
  EXPECT_EQ(list["object"], "list");
  ASSERT_EQ(list["data"].size(), 3U);
  const json& base = list["data"][0];
  EXPECT_EQ(base["id"], "tiny-base");
  EXPECT_EQ(base["root"], "tiny-base");
  EXPECT_TRUE(base["parent"].is_null());
  const json& alpha = list["data"][1];
  EXPECT_EQ(alpha["id"], "alpha");
  EXPECT_EQ(alpha["object"], "model");
  EXPECT_EQ(alpha["owned_by"], "vllm");
  EXPECT_EQ(alpha["root"], root() + "/alpha");
  EXPECT_EQ(alpha["parent"], "tiny-base");
  EXPECT_TRUE(alpha["max_model_len"].is_null());
  EXPECT_GT(alpha["created"], 1'700'000'000);
  ASSERT_EQ(alpha["permission"].size(), 1U);
  EXPECT_EQ(alpha["permission"][0]["object"], "model_permission");
  EXPECT_EQ(alpha["permission"][0]["organization"], "*");
  EXPECT_EQ(alpha["permission"][0]["is_blocking"], false);
}

TEST_F(VllmRoutes, TheListIsThatOfNow) {
  // If this failed, a list that was kept would go on naming what is gone, or where it was.
  const auto roots = [&] {
    std::map<std::string, std::string> found;
    const json list = json::parse(get("/v1/models").body);
    for (const json& card : list["data"]) found[card["id"]] = card["root"];
    return found;
  };
  EXPECT_EQ(roots().count("gamma"), 0U);
  ASSERT_EQ(post("/v1/load_lora_adapter", load_body("gamma", path("elsewhere/gamma"))).status, 200);
  EXPECT_EQ(roots()["gamma"], path("elsewhere/gamma"));
  std::filesystem::rename(path("elsewhere/gamma"), path("elsewhere/moved"));
  const json again = {{"lora_name", "gamma"}, {"lora_path", path("elsewhere/moved")}, {"load_inplace", true}};
  ASSERT_EQ(post("/v1/load_lora_adapter", again.dump()).status, 200);
  EXPECT_EQ(roots()["gamma"], path("elsewhere/moved"));
  ASSERT_EQ(post("/v1/unload_lora_adapter", R"({"lora_name":"gamma"})").status, 200);
  EXPECT_EQ(roots().count("gamma"), 0U);
  make({"delta"});
  ASSERT_TRUE(engine_->refresh());
  EXPECT_EQ(roots().count("delta"), 1U);
  EXPECT_EQ(get("/v1/models").body, get("/v1/models").body) << "nothing has changed";
}

TEST_F(VllmRoutes, LoadAnswersWithVllmsText) {
  // If this failed, scripts that compare vLLM's answer would take a success for a failure.
  const httplib::Response answer = post("/v1/load_lora_adapter", load_body("gamma", path("elsewhere/gamma")));
  EXPECT_EQ(answer.status, 200);
  EXPECT_EQ(answer.body, "Success: LoRA adapter 'gamma' added successfully.");
  EXPECT_TRUE(answer.get_header_value("Content-Type").starts_with("text/plain"));
  const Result<AdapterStatus> status = engine_->status("gamma");
  ASSERT_TRUE(status);
  EXPECT_TRUE(status->on_host) << "it is to be in memory when the answer comes";
}

TEST_F(VllmRoutes, LoadRefusesAsVllmDoes) {
  // If this failed, clients would meet codes and messages that no vLLM gives.
  const httplib::Response taken = post("/v1/load_lora_adapter", load_body("alpha", path("elsewhere/gamma")));
  EXPECT_EQ(taken.status, 400);
  EXPECT_EQ(taken.body,
            error_json(400, "InvalidUserInput",
                       "The lora adapter 'alpha' has already been loaded. If you want to load the adapter in "
                       "place, set 'load_inplace' to True."));
  for (const char* body : {R"({"lora_name":"","lora_path":"x"})", R"({"lora_name":"x"})", "{}"}) {
    const httplib::Response missing = post("/v1/load_lora_adapter", body);
    EXPECT_EQ(missing.status, 400);
    EXPECT_EQ(missing.body,
              error_json(400, "InvalidUserInput", "Both 'lora_name' and 'lora_path' must be provided."));
  }
  const std::string nowhere = path("nowhere");
  const httplib::Response absent = post("/v1/load_lora_adapter", load_body("delta", nowhere));
  EXPECT_EQ(absent.status, 404);
  EXPECT_EQ(absent.body,
            error_json(404, "NotFoundError", "Loading lora delta failed: No adapter found for " + nowhere));
}

TEST_F(VllmRoutes, LoadOfABrokenAdapterIsVllms500) {
  // If this failed, a broken adapter would be reported as loaded, and every request for it would fail.
  std::ofstream(path("elsewhere/wide/adapter_config.json")) << "{ not json";
  const httplib::Response broken = post("/v1/load_lora_adapter", load_body("wide", path("elsewhere/wide")));
  EXPECT_EQ(broken.status, 500);
  const json error = json::parse(broken.body)["error"];
  EXPECT_EQ(error["type"], "InternalServerError");
  EXPECT_EQ(error["code"], 500);
  EXPECT_TRUE(error["message"].get<std::string>().starts_with("Call to add_lora method failed: "));
  EXPECT_FALSE(engine_->status("wide"));
}

TEST_F(VllmRoutes, LoadInPlaceReplacesAndKeepsTheId) {
  // If this failed, a retrained adapter would need a restart.
  const std::uint32_t id = *engine_->adapter_id("alpha");
  const json body = {{"lora_name", "alpha"}, {"lora_path", path("elsewhere/gamma")}, {"load_inplace", true}};
  EXPECT_EQ(post("/v1/load_lora_adapter", body.dump()).status, 200);
  EXPECT_EQ(*engine_->adapter_id("alpha"), id);
  EXPECT_EQ(engine_->status("alpha")->directory, path("elsewhere/gamma"));
}

TEST_F(VllmRoutes, ALoadInPlaceThatFailsLeavesWhatWasThere) {
  // If this failed, one bad upload would take a working adapter away from everybody.
  const std::uint32_t id = *engine_->adapter_id("alpha");
  make(path("elsewhere"), {"hollow"});
  files_.hollow = "hollow";
  const json body = {{"lora_name", "alpha"}, {"lora_path", path("elsewhere/hollow")}, {"load_inplace", true}};
  const httplib::Response answer = post("/v1/load_lora_adapter", body.dump());
  EXPECT_EQ(answer.status, 500) << answer.body;
  EXPECT_EQ(engine_->status("alpha")->directory, root() + "/alpha");
  EXPECT_EQ(*engine_->adapter_id("alpha"), id);
  EXPECT_EQ(post("/v1/adapters/alpha/acquire").status, 200);
}

TEST_F(VllmRoutes, UnknownKeysOfVllmsBodiesAreLetThrough) {
  // If this failed, clients with vLLM's newer fields would be refused.
  const json body = {{"lora_name", "gamma"},
                     {"lora_path", path("elsewhere/gamma")},
                     {"is_3d_lora_weight", false},
                     {"something_later", 1}};
  EXPECT_EQ(post("/v1/load_lora_adapter", body.dump()).status, 200);
}

TEST_F(VllmRoutes, UnloadReallyFrees) {
  // If this failed, an unloaded adapter would keep its slot and its memory, as it does in vLLM.
  ASSERT_TRUE(engine_->activate("alpha"));
  ASSERT_EQ(engine_->stats().device.entries, 1U);
  const httplib::Response answer = post("/v1/unload_lora_adapter", R"({"lora_name":"alpha"})");
  EXPECT_EQ(answer.status, 200);
  EXPECT_EQ(answer.body, "Success: LoRA adapter 'alpha' removed successfully.");
  EXPECT_EQ(engine_->stats().device.entries, 0U);
  EXPECT_EQ(engine_->stats().host.entries, 0U);
  const httplib::Response again = post("/v1/unload_lora_adapter", R"({"lora_name":"alpha","lora_int_id":1})");
  EXPECT_EQ(again.status, 404);
  EXPECT_EQ(again.body, error_json(404, "NotFoundError", "The lora adapter 'alpha' cannot be found."));
  const httplib::Response nameless = post("/v1/unload_lora_adapter", "{}");
  EXPECT_EQ(nameless.status, 400);
  EXPECT_EQ(nameless.body, error_json(400, "InvalidUserInput",
                                      "'lora_name' needs to be provided to unload a LoRA adapter."));
}

TEST_F(VllmRoutes, BodiesThatAreNoJsonAreBadRequests) {
  // If this failed, a form posted by a web page could load adapters.
  const httplib::Response form =
      post("/v1/load_lora_adapter", "lora_name=x", "application/x-www-form-urlencoded");
  EXPECT_EQ(form.status, 400);
  EXPECT_EQ(form.body,
            error_json(400, "Bad Request", "Unsupported Media Type: Only 'application/json' is allowed"));
  EXPECT_EQ(post("/v1/load_lora_adapter", "{").status, 400);
  EXPECT_EQ(post("/v1/load_lora_adapter", R"({"lora_name":7,"lora_path":"x"})").status, 400);
  EXPECT_EQ(post("/v1/load_lora_adapter", "[]").status, 400);
}

TEST_F(VllmRoutes, RefreshFindsWhatWasAdded) {
  // If this failed, new adapters would need a restart.
  const httplib::Response before = post("/v1/refresh_lora_discovery", "{}");
  EXPECT_EQ(before.status, 200);
  EXPECT_EQ(before.body,
            R"({"message":"Successfully refreshed LoRA discovery. Found 2 total adapters, 0 newly )"
            R"(discovered.","discovered_adapters":[],"total_adapters":2})");
  make({"delta", "epsilon"});
  EXPECT_EQ(post("/v1/refresh_lora_discovery", "{}").body,
            R"({"message":"Successfully refreshed LoRA discovery. Found 4 total adapters, 2 newly )"
            R"(discovered.","discovered_adapters":["delta","epsilon"],"total_adapters":4})");
}

TEST_F(VllmRoutes, WithoutRuntimeUpdatingTheRoutesAreNotThere) {
  // If this failed, an operator who forbade changes would have them made by any client.
  config_.runtime_updating = false;
  start();
  for (const char* route : {"/v1/load_lora_adapter", "/v1/unload_lora_adapter", "/v1/refresh_lora_discovery"})
    EXPECT_EQ(post(route, R"({"lora_name":"alpha","lora_path":"x"})").status, 404) << route;
  EXPECT_TRUE(engine_->status("alpha"));
  EXPECT_EQ(get("/v1/models").status, 200);
}

}  // namespace
}  // namespace loracle::testing
