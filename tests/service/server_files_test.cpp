// Adapters from elsewhere: what a lease says of their files on this machine, and for how long it is true.

#include <gtest/gtest.h>

#include <filesystem>
#include <future>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "loracle/storage/disk_cache.hpp"
#include "loracle/storage/remote_origin.hpp"
#include "service_scene.hpp"
#include "storage/cache_fakes.hpp"
#include "support/eventually.hpp"

namespace loracle::testing {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

/// Two adapters in a bucket, and a cache with room for one of them.
class LeasedFiles : public ServiceScene {
 protected:
  void SetUp() override {
    make({"local"});
    make(path("bucket"), {"a", "b"});
    std::uint64_t bytes = 0;
    for (const std::string name : {"a", "b"})
      for (const auto& [file, text] : files_in(path("bucket/" + name))) {
        provider_.put("fake://bucket/" + name + "/" + file, text);
        bytes += text.size();
      }
    DiskCacheOptions options;
    options.cache_dir = path("cache");
    options.max_size_bytes = Bytes{bytes * 3 / 4};
    Result<std::unique_ptr<CacheBackend>> cache = make_disk_cache(options);
    ASSERT_TRUE(cache) << cache.error().message;
    cache_ = std::move(*cache);
    origin_ = make_remote_origin(provider_, *cache_);
    origins_ = {origin_.get()};
    start();
    for (const std::string name : {"a", "b"}) ASSERT_TRUE(engine_->add(name, "fake://bucket/" + name));
  }
  void TearDown() override {
    service_.reset();
    engine_.reset();  // before its origin
  }
  [[nodiscard]] json acquire(const std::string& name, const std::string& body = "{}") const {
    const httplib::Response answer = post("/v1/adapters/" + name + "/acquire", body);
    EXPECT_EQ(answer.status, 200) << answer.body;
    return json::parse(answer.body, nullptr, false);
  }
  void release(const json& lease) const {
    EXPECT_EQ(post("/v1/release", json({{"lease", lease["lease"]}}).dump()).status, 200);
  }
  [[nodiscard]] bool are_here(const json& lease, const std::string& name) const {
    return lease["directory"].is_string() &&
           files_in(lease["directory"].get<std::string>()) == files_in(path("bucket/" + name));
  }

  FakeProvider provider_;
  std::unique_ptr<CacheBackend> cache_;
  std::unique_ptr<RemoteOrigin> origin_;
};

TEST_F(LeasedFiles, StayUntilTheLeaseEnds) {
  // If this failed, the files that a client was told to read would be evicted while it reads them.
  for (const bool batch : {false, true}) {
    const json first = batch ? json::parse(post("/v1/acquire", R"({"adapters":["a"]})").body) : acquire("a");
    const json leased = batch ? first["adapters"][0] : first;
    ASSERT_TRUE(are_here(leased, "a")) << first;
    auto second = std::async(std::launch::async, [&] { return acquire("b"); });
    ASSERT_TRUE(eventually([&] { return engine_->stats().loads_in_flight == 1; }));
    EXPECT_EQ(second.wait_for(std::chrono::milliseconds(100)), std::future_status::timeout)
        << "there is room for one";
    EXPECT_TRUE(are_here(leased, "a"));
    release(first);
    const json other = second.get();
    EXPECT_TRUE(are_here(other, "b")) << other;
    EXPECT_FALSE(fs::exists(leased["directory"].get<std::string>())) << "it made room";
    EXPECT_TRUE(engine_->deactivate("a"));
    release(other);
    ASSERT_TRUE(engine_->remove("a") && engine_->add("a", "fake://bucket/a")) << "to be loaded anew";
    ASSERT_TRUE(engine_->remove("b") && engine_->add("b", "fake://bucket/b"));
  }
  EXPECT_TRUE(eventually([&] { return cache_->stats().leased == 0; })) << "no lease, no hold";
}

TEST_F(LeasedFiles, AreFreeAgainWhenALeaseExpires) {
  // If this failed, a client that died would keep the cache full for ever.
  EXPECT_TRUE(are_here(acquire("a", R"({"ttl_s":3})"), "a"));
  EXPECT_EQ(cache_->stats().leased, 1U);
  EXPECT_TRUE(eventually([&] { return cache_->stats().leased == 0; }));
  EXPECT_TRUE(are_here(acquire("b"), "b"));
}

TEST_F(LeasedFiles, ThatAreGoneAreFetchedForWhoWantsThem) {
  // If this failed, a path would be named at which there is nothing, or a slot would be refused because of
  // files that it does not need.
  release(acquire("a"));
  ASSERT_TRUE(cache_->clear());
  provider_.on_call = [](std::string_view, const std::string&) {
    return Error{Errc::kIo, "the bucket is out of reach", 0};
  };
  const json lease = acquire("a");
  EXPECT_TRUE(lease["directory"].is_null()) << lease;
  release(lease);
  const httplib::Response refused = post("/v1/adapters/a/acquire", R"({"files":true})");
  EXPECT_EQ(refused.status, 500) << refused.body;
  EXPECT_EQ(engine_->stats().leases, 0U) << "who was refused has no lease";
  provider_.on_call = nullptr;
  const json whole = acquire("a", R"({"files":true})");
  EXPECT_TRUE(are_here(whole, "a")) << whole;
  EXPECT_EQ(post("/v1/adapters/a/acquire", R"({"files":1})").status, 400);
  const json listed = json::parse(get("/v1/adapters/a").body);
  EXPECT_TRUE(listed["directory"].is_null()) << "nobody holds what a list names";
  EXPECT_EQ(listed["uri"], "fake://bucket/a");
  EXPECT_EQ(json::parse(get("/v1/resolve?name=a").body)["uri"], "fake://bucket/a");
}

}  // namespace
}  // namespace loracle::testing
