// Against a real S3 server, which seaweed.py starts, fills and names in the environment.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <thread>

#include "loracle/engine/digest.hpp"
#include "storage/loopback_server.hpp"
#include "storage/s3_storage.hpp"

namespace loracle {
namespace {

using testing::FaultProxy;

/// Fails the test, rather than passing it by, where seaweed.py did not start it.
std::string variable(const std::string& name) {
  const char* const value = std::getenv(("LORACLE_S3_TEST_" + name).c_str());
  EXPECT_NE(value, nullptr) << "run this by seaweed.py";
  return value == nullptr ? "" : value;
}

S3StorageOptions options_of(const std::string& endpoint) {
  S3StorageOptions options;
  options.endpoint = endpoint;
  options.retry.first_delay_ms = 20;
  options.retry.delay_ms_max = 500;
  return options;
}

std::unique_ptr<StorageProvider> make(const S3StorageOptions& options, const std::string& secret) {
  const std::map<std::string, std::string> variables = {{"AWS_ACCESS_KEY_ID", variable("ACCESS_KEY")},
                                                        {"AWS_SECRET_ACCESS_KEY", secret}};
  const auto lookup = [variables](const std::string& name) -> std::optional<std::string> {
    const auto at = variables.find(name);
    if (at == variables.end()) return std::nullopt;
    return at->second;
  };
  auto made = make_s3_storage_in(options, {lookup, [] { return std::int64_t{std::time(nullptr)}; }});
  EXPECT_TRUE(made) << (made ? "" : made.error().message);
  return made ? std::move(*made) : nullptr;
}

std::unique_ptr<StorageProvider> make() {
  return make(options_of(variable("ENDPOINT")), variable("SECRET_KEY"));
}

constexpr const char* kBig = "s3://adapters/one/adapter_model.safetensors";

/// The object in ranges of `part` bytes, `threads` at a time; empty where one failed.
std::string fetch_parts(StorageProvider& provider, const StoredObject& object, std::uint64_t part,
                        unsigned threads) {
  std::string bytes(object.size, '\0');
  std::atomic<std::uint64_t> next{0};
  std::atomic<bool> good{true};
  const auto work = [&] {
    for (std::uint64_t at = 0; good && (at = next.fetch_add(part)) < object.size;) {
      const auto done = provider.fetch(kBig, {at, std::min(part, object.size - at), object.etag},
                                       [&](std::uint64_t offset, std::span<const std::byte> piece) {
                                         std::memcpy(bytes.data() + offset, piece.data(), piece.size());
                                         return Result<Unit>(Unit{});
                                       });
      if (done) continue;
      ADD_FAILURE() << done.error().message;
      good = false;
    }
  };
  std::vector<std::thread> workers;
  for (unsigned i = 0; i < threads; ++i) workers.emplace_back(work);
  for (std::thread& worker : workers) worker.join();
  return good ? bytes : std::string();
}

std::string sha256(const std::string& bytes) { return sha256_hex(std::as_bytes(std::span(bytes))); }

// If this failed, our signatures would be good for our own tests only.
TEST(Seaweed, StatsWhatCurlPutThere) {
  const auto object = make()->stat(kBig);
  ASSERT_TRUE(object) << object.error().message;
  EXPECT_EQ(std::to_string(object->size), variable("BYTES"));
  EXPECT_FALSE(object->etag.empty());
  EXPECT_GT(object->modified_unix_s, std::int64_t{std::time(nullptr)} - 3'600);
  EXPECT_EQ(make()->stat("s3://adapters/one/absent").error().code, Errc::kNotFound);
}

// If this failed, buckets of more than a thousand adapters would be seen in part.
TEST(Seaweed, ListsMoreThanAPage) {
  const auto provider = make();
  const auto all = provider->list("s3://adapters/many", true);
  ASSERT_TRUE(all) << all.error().message;
  EXPECT_EQ(std::to_string(all->objects.size()), variable("COUNT"));
  EXPECT_EQ(all->objects.front().name, "k00000/adapter_config.json");
  EXPECT_EQ(all->objects.front().size, 12U);
  EXPECT_TRUE(std::is_sorted(all->objects.begin(), all->objects.end(),
                             [](const auto& a, const auto& b) { return a.name < b.name; }));
  const auto folders = provider->list("s3://adapters/many/", false);
  ASSERT_TRUE(folders) << folders.error().message;
  EXPECT_EQ(std::to_string(folders->folders.size()), variable("COUNT"));
  EXPECT_EQ(folders->folders.back(), "k01202");
  EXPECT_TRUE(folders->objects.empty());
  const auto root = provider->list("s3://adapters", false);
  ASSERT_TRUE(root) << root.error().message;
  EXPECT_EQ(root->folders, (std::vector<std::string>{"many", "odd", "one"}));
  EXPECT_EQ(provider->list("s3://adapters/none", true).error().code, Errc::kNotFound);
  EXPECT_EQ(provider->list("s3://empty", true).error().code, Errc::kNotFound);
}

// If this failed, the etag of a listing would not fit that of the object, and every adapter would be called
// changed.
TEST(Seaweed, TheListingsEtagIsTheObjects) {
  const auto provider = make();
  const auto listing = provider->list("s3://adapters/one", false);
  ASSERT_TRUE(listing) << listing.error().message;
  ASSERT_EQ(listing->objects.size(), 2U);
  for (const StoredObject& object : listing->objects) {
    const auto stat = provider->stat("s3://adapters/one/" + object.name);
    ASSERT_TRUE(stat);
    EXPECT_EQ(stat->etag, object.etag);
    EXPECT_EQ(stat->size, object.size);
  }
}

// If this failed, keys with blanks, signs or other scripts could be neither listed nor read.
TEST(Seaweed, ReadsOddKeys) {
  const auto provider = make();
  const auto listing = provider->list("s3://adapters/odd", true);
  ASSERT_TRUE(listing) << listing.error().message;
  ASSERT_EQ(listing->objects.size(), 1U);
  EXPECT_EQ(listing->objects[0].name, "a b+c&d=\xC3\xBC,'().bin");
  std::string bytes;
  const auto done = provider->fetch("s3://adapters/odd/" + listing->objects[0].name, {7, 5, ""},
                                    [&](std::uint64_t, std::span<const std::byte> piece) {
                                      bytes.append(reinterpret_cast<const char*>(piece.data()), piece.size());
                                      return Result<Unit>(Unit{});
                                    });
  EXPECT_TRUE(done) << done.error().message;
  EXPECT_EQ(bytes, "world");
}

// If this failed, an adapter fetched in parallel parts would not be the adapter.
TEST(Seaweed, FetchesInParallelParts) {
  const auto provider = make();
  const auto object = provider->stat(kBig);
  ASSERT_TRUE(object) << object.error().message;
  EXPECT_EQ(sha256(fetch_parts(*provider, *object, 1'000'003, 4)), variable("SHA256"));
  EXPECT_EQ(sha256(fetch_parts(*provider, *object, object->size, 1)), variable("SHA256"));
}

// If this failed, a wrong key would look like a missing adapter, or be written into logs.
TEST(Seaweed, WrongCredentialsAreNamedAsSuch) {
  const auto provider = make(options_of(variable("ENDPOINT")), "wr0ng-secret");
  for (const Error& error : {provider->stat(kBig).error(), provider->list("s3://adapters", false).error()}) {
    EXPECT_EQ(error.code, Errc::kIo);
    EXPECT_EQ(error.detail, 403);
    EXPECT_NE(error.message.find("SignatureDoesNotMatch"), std::string::npos) << error.message;
    EXPECT_EQ(error.message.find("wr0ng"), std::string::npos) << error.message;
  }
}

// If this failed, a mistyped bucket would be searched for in the credentials.
TEST(Seaweed, AMissingBucketIsNotFound) {
  const auto listing = make()->list("s3://no-such-bucket/x", true);
  ASSERT_FALSE(listing);
  EXPECT_EQ(listing.error().code, Errc::kNotFound) << listing.error().message;
}

// If this failed, a bad line to a real server would damage adapters.
TEST(Seaweed, ThroughFaultsOnlyTheRightBytesCome) {
  const std::string endpoint = variable("ENDPOINT");
  const auto port = static_cast<std::uint16_t>(std::stoul(endpoint.substr(endpoint.rfind(':') + 1)));
  for (const std::uint64_t seed : {1U, 2U, 3U}) {
    FaultProxy proxy(port, seed, 3);
    S3StorageOptions options = options_of(proxy.url());
    options.retry.attempts_max = 30;
    options.retry.delay_ms_max = 50;
    const auto provider = make(options, variable("SECRET_KEY"));
    const auto object = provider->stat(kBig);
    ASSERT_TRUE(object) << "seed " << seed << ": " << object.error().message;
    EXPECT_EQ(sha256(fetch_parts(*provider, *object, 1'000'003, 4)), variable("SHA256")) << "seed " << seed;
    EXPECT_GT(proxy.faults(), 0U);
    proxy.change_etag = true;
    const auto changed = provider->fetch(kBig, {0, 10, object->etag}, [](auto, auto) { return Unit{}; });
    EXPECT_EQ(changed.error().code, Errc::kCorrupt) << changed.error().message;
  }
}

// If this failed, a store that is restarted would fail every download that is under way.
TEST(Seaweed, GoesOnAfterTheServerWasKilledInMidDownload) {
  S3StorageOptions options = options_of(variable("ENDPOINT"));
  options.retry.attempts_max = 60;
  options.retry.delay_ms_max = 2'000;
  options.retry.stall_timeout_ms = 10'000;
  const auto provider = make(options, variable("SECRET_KEY"));
  const auto object = provider->stat(kBig);
  ASSERT_TRUE(object) << object.error().message;
  const std::filesystem::path control = variable("CONTROL");
  std::string bytes;
  bool asked = false;
  const auto done = provider->fetch(
      kBig, {0, object->size, object->etag}, [&](std::uint64_t offset, std::span<const std::byte> piece) {
        EXPECT_EQ(offset, bytes.size());
        bytes.append(reinterpret_cast<const char*>(piece.data()), piece.size());
        if (!asked && bytes.size() > 2'000'000) {
          asked = true;
          std::ofstream(control / "restart").put('\n');
          while (std::filesystem::exists(control / "restart"))
            std::this_thread::sleep_for(std::chrono::milliseconds(5));
          std::this_thread::sleep_for(std::chrono::milliseconds(100));  // for the kill
        }
        return Result<Unit>(Unit{});
      });
  EXPECT_TRUE(asked);
  EXPECT_TRUE(done) << done.error().message;
  EXPECT_EQ(sha256(bytes), variable("SHA256"));
  for (int i = 0; i < 12'000 && !std::filesystem::exists(control / "restarted"); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
}

}  // namespace
}  // namespace loracle
