// Faults by seed: LORACLE_FAULTS of each kind hit, none of them served, nothing left behind.

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <filesystem>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "loracle/storage/disk_cache.hpp"
#include "loracle/storage/remote_origin.hpp"
#include "storage/cache_fakes.hpp"
#include "support/temp_dir.hpp"

namespace loracle {
namespace {

namespace fs = std::filesystem;
using testing::bytes_below;
using testing::entries_in;
using testing::FakeProvider;
using testing::files_in;
using testing::open_descriptors;

constexpr std::uint64_t kBound = 40'000;

using Version = std::map<std::string, std::string>;

/// Six adapters in a bucket that all their versions are known of.
class Bucket {
 public:
  explicit Bucket(std::uint64_t seed) : rng_(seed) {
    for (std::uint32_t i = 0; i < 6; ++i) upload(i);
  }
  [[nodiscard]] static std::string uri(std::uint32_t i) { return "fake://bucket/" + std::to_string(i); }
  /// The weights first: a reader that takes both must see that they changed, whatever the order.
  void upload(std::uint32_t i) {
    Version version = {{"adapter_config.json", "version " + std::to_string(++versions_)},
                       {"adapter_model.safetensors", testing::random_text(rng_, 4000 + rng_.below(12'000))}};
    // All versions whose config or weights were there at one time: those that a manifest can name.
    if (const auto now = current_.find(i); now != current_.end())
      known_[i].insert({{"adapter_config.json", now->second.at("adapter_config.json")},
                        {"adapter_model.safetensors", version.at("adapter_model.safetensors")}});
    known_[i].insert(version);
    provider.put(uri(i) + "/adapter_model.safetensors", version.at("adapter_model.safetensors"));
    provider.put(uri(i) + "/adapter_config.json", version.at("adapter_config.json"));
    current_[i] = std::move(version);
  }
  [[nodiscard]] bool had(std::uint32_t i, const Version& version) const {
    return known_.at(i).count(version) != 0;
  }

  FakeProvider provider;

 private:
  Rng rng_;
  std::uint64_t versions_ = 0;
  std::map<std::uint32_t, Version> current_;
  std::map<std::uint32_t, std::set<Version>> known_;
};

enum class Fault { kError, kCut, kChange, kSlow };

class FaultTest : public ::testing::TestWithParam<Fault> {};

// If this failed, a flaky network would end in wrong weights, a full disk, or a server out of descriptors.
TEST_P(FaultTest, NoFaultIsServedAndNothingIsLeftBehind) {
  const Fault fault = GetParam();
  const testing::FoldersInMemory in_memory;
  const testing::TempDir folder;
  Bucket bucket(1 + static_cast<std::uint64_t>(fault));
  DiskCacheOptions cache_options;
  cache_options.cache_dir = (folder / "cache").string();
  cache_options.max_size_bytes = Bytes{kBound};
  Result<std::unique_ptr<CacheBackend>> cache = make_disk_cache(cache_options);
  ASSERT_TRUE(cache);
  RemoteOriginOptions options;
  options.fetch.part_bytes = 3000;
  options.fetch.parts_at_once = 2;
  const std::unique_ptr<RemoteOrigin> origin = make_remote_origin(bucket.provider, **cache, options);

  std::mutex mutex;  // of what follows
  Rng rng(77);
  std::uint64_t faults = 0;
  std::uint64_t most = 0;
  std::uint32_t wanted = 0;
  const auto strikes = [&] {
    const std::lock_guard lock(mutex);
    return rng.below(fault == Fault::kChange ? 8 : 12) == 0 && ++faults != 0;
  };
  bucket.provider.on_bytes = [&](const std::string&, std::uint64_t) {
    const std::uint64_t bytes = bytes_below(folder / "cache");
    const std::lock_guard lock(mutex);
    most = std::max(most, bytes);
  };
  bucket.provider.on_call = [&](std::string_view call, const std::string& uri) -> std::optional<Error> {
    if (fault == Fault::kError && strikes()) return Error{Errc::kIo, uri + ": went down", 503};
    if (fault == Fault::kSlow && strikes()) std::this_thread::sleep_for(std::chrono::milliseconds(2));
    if (fault == Fault::kChange && call == "fetch" && strikes()) {
      const std::lock_guard lock(mutex);
      bucket.upload(wanted);
    }
    return std::nullopt;
  };
  if (fault == Fault::kCut)
    bucket.provider.shorten = [&](std::uint64_t length) { return strikes() ? length / 2 : length; };

  const std::size_t descriptors = open_descriptors();
  std::uint64_t served = 0;
  std::uint64_t refused = 0;
  for (std::uint64_t i = 0; faults < LORACLE_FAULTS && i < 200ULL * LORACLE_FAULTS; ++i) {
    SCOPED_TRACE("request " + std::to_string(i));
    {
      const std::lock_guard lock(mutex);
      wanted = rng.below(6);
      if (fault == Fault::kChange && rng.below(3) == 0) bucket.upload(wanted);  // so that it is fetched
    }
    {
      const Result<LocalCopy> copy = origin->localize(Bucket::uri(wanted));
      if (copy) {
        ++served;
        ASSERT_TRUE(bucket.had(wanted, files_in(copy->directory))) << "bytes that never lay there together";
      } else {
        ++refused;
        ASSERT_TRUE(copy.error().code == Errc::kIo || copy.error().code == Errc::kCorrupt)
            << copy.error().message;
      }
    }
    ASSERT_EQ(entries_in(folder / "cache/staging"), 0U);
    ASSERT_EQ(open_descriptors(), descriptors);
    ASSERT_EQ(bytes_below(folder / "cache"), (*cache)->stats().bytes);
    ASSERT_LE(most, kBound);
  }
  EXPECT_GE(faults, std::uint64_t{LORACLE_FAULTS});
  EXPECT_GT(served, std::uint64_t{LORACLE_FAULTS} / 4);
  EXPECT_GT(most, kBound / 2);
  EXPECT_GT((*cache)->stats().evictions, 0U);
  if (fault == Fault::kSlow) {
    EXPECT_EQ(refused, 0U);
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds, FaultTest,
                         ::testing::Values(Fault::kError, Fault::kCut, Fault::kChange, Fault::kSlow));

// If this failed, callers at once would see each other's faults as wrong bytes, or wait for ever.
TEST(FaultThreads, CallersAtOnceSeeWholeAdaptersOrErrors) {
  const testing::FoldersInMemory in_memory;
  const testing::TempDir folder;
  Bucket bucket(9);
  DiskCacheOptions cache_options;
  cache_options.cache_dir = (folder / "cache").string();
  cache_options.max_size_bytes = Bytes{120'000};
  Result<std::unique_ptr<CacheBackend>> cache = make_disk_cache(cache_options);
  ASSERT_TRUE(cache);
  const std::unique_ptr<RemoteOrigin> origin = make_remote_origin(bucket.provider, **cache, {});
  std::atomic<std::uint64_t> calls = 0;
  bucket.provider.on_call = [&](std::string_view call, const std::string& uri) -> std::optional<Error> {
    if (call == "fetch" && ++calls % 5 == 0) return Error{Errc::kIo, uri + ": went down", 503};
    return std::nullopt;
  };
  const std::size_t descriptors = open_descriptors();
  std::atomic<std::uint64_t> wrong = 0;
  std::atomic<std::uint64_t> served = 0;
  std::vector<std::thread> callers;
  for (std::uint64_t seed = 0; seed < 4; ++seed) {
    callers.emplace_back([&, seed] {
      Rng rng(seed);
      for (int i = 0; i < 2 * LORACLE_FAULTS; ++i) {
        const std::uint32_t wanted = rng.below(6);
        const Result<LocalCopy> copy = origin->localize(Bucket::uri(wanted));
        if (copy && !bucket.had(wanted, files_in(copy->directory))) ++wrong;
        if (copy) ++served;
        if (!copy && copy.error().detail != 503) ++wrong;
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(wrong, 0U);
  EXPECT_GT(served, std::uint64_t{LORACLE_FAULTS});
  EXPECT_EQ(entries_in(folder / "cache/staging"), 0U);
  EXPECT_EQ(open_descriptors(), descriptors);
  EXPECT_EQ((*cache)->stats().leased, 0U);
  EXPECT_LE(bytes_below(folder / "cache"), 120'000U);
}

}  // namespace
}  // namespace loracle
