// Origins of remote adapters: from a provider, through a cache, into an engine.

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <filesystem>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "loracle/engine/engine.hpp"
#include "loracle/engine/make_adapters.hpp"
#include "loracle/storage/disk_cache.hpp"
#include "loracle/storage/memory_cache.hpp"
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

class RemoteOriginTest : public ::testing::Test {
 protected:
  RemoteOriginTest() {
    for (const char* name : {"a", "b", "c"}) upload(name, 1);
    open_cache(1U << 20U);
    open();
  }
  [[nodiscard]] static std::string uri(const std::string& name) { return "fake://bucket/" + name; }
  [[nodiscard]] static std::map<std::string, std::string> files_of(const std::string& name,
                                                                   std::uint64_t version) {
    Rng rng(version * 256 + static_cast<std::uint64_t>(name[0]));
    return {{"adapter_config.json", name + std::to_string(version)},
            {"adapter_model.safetensors", testing::random_text(rng, 20'000)}};
  }
  void upload(const std::string& name, std::uint64_t version) {
    for (const auto& [file, bytes] : files_of(name, version)) provider_.put(uri(name) + "/" + file, bytes);
  }
  /// Adapters that an engine can serve: in the folder "adapters", and in the bucket. Another one in the
  /// folder "local", for slots to be laid out by. Bytes that were uploaded.
  std::uint64_t upload_adapters(const std::vector<std::string>& names,
                                WeightFormat format = WeightFormat::kSafetensors) {
    MakeAdaptersOptions adapters;
    adapters.directory = (folder_ / "adapters").string();
    adapters.names = names;
    adapters.model = *load_model_geometry("tiny");
    adapters.format = format;
    EXPECT_TRUE(make_adapters(adapters));
    MakeAdaptersOptions local = adapters;
    local.directory = (folder_ / "local").string();
    local.names = {"local"};
    EXPECT_TRUE(make_adapters(local));
    std::uint64_t bytes = 0;
    for (const std::string& name : names) {
      provider_.remove(uri(name) + "/adapter_model.safetensors");
      for (const auto& [file, text] : files_in(fs::path(adapters.directory) / name)) {
        provider_.put(uri(name) + "/" + file, text);
        bytes += text.size();
      }
    }
    return bytes;
  }
  [[nodiscard]] std::uint64_t calls() const { return provider_.lists + provider_.stats + provider_.fetches; }
  void open_cache(std::uint64_t bytes) {
    origin_.reset();
    cache_.reset();
    DiskCacheOptions options;
    options.cache_dir = (folder_ / "cache").string();
    options.max_size_bytes = Bytes{bytes};
    Result<std::unique_ptr<CacheBackend>> made = make_disk_cache(options);
    ASSERT_TRUE(made) << made.error().message;
    cache_ = std::move(*made);
  }
  void open() { origin_ = make_remote_origin(provider_, *cache_, options_); }
  void go_down(Error error) {
    provider_.on_call = [error](std::string_view, const std::string&) { return error; };
  }

  const testing::FoldersInMemory in_memory_;
  testing::TempDir folder_;
  FakeProvider provider_;
  RemoteOriginOptions options_;
  std::unique_ptr<CacheBackend> cache_;
  std::unique_ptr<RemoteOrigin> origin_;
};

// If this failed, every load would fetch its adapter again, or serve another one.
TEST_F(RemoteOriginTest, FetchesOnceAndServesFromTheCache) {
  EXPECT_EQ(origin_->scheme(), "fake");
  std::string content;
  for (int i = 0; i < 3; ++i) {
    const Result<LocalCopy> copy = origin_->localize(uri("a"));
    ASSERT_TRUE(copy) << copy.error().message;
    EXPECT_EQ(files_in(copy->directory), files_of("a", 1));
    EXPECT_TRUE(content.empty() || content == copy->content);
    content = copy->content;
    EXPECT_EQ(cache_->stats().leased, 1U);
  }
  EXPECT_EQ(cache_->stats().leased, 0U);
  EXPECT_EQ(origin_->stats().downloads, 1U);
  EXPECT_EQ(origin_->stats().hits, 2U);
  EXPECT_EQ(origin_->stats().manifests, 3U);
  EXPECT_EQ(origin_->stats().downloaded_bytes, 20'002U);
  upload("a", 2);
  const Result<LocalCopy> changed = origin_->localize(uri("a"));
  ASSERT_TRUE(changed);
  EXPECT_NE(changed->content, content);
  EXPECT_EQ(files_in(changed->directory), files_of("a", 2));
  EXPECT_EQ(origin_->localize(uri("none")).error().code, Errc::kNotFound);
  EXPECT_EQ(origin_->stats().failed, 1U);

  open_cache(1U << 20U);  // a restart
  open();
  ASSERT_TRUE(origin_->localize(uri("a")));
  EXPECT_EQ(origin_->stats().downloads, 0U);
}

// If this failed, a burst of requests for a new adapter would fetch it a hundred times.
TEST_F(RemoteOriginTest, ManyCallersCostOneDownloadAndShareItsError) {
  constexpr int kCallers = 16;
  for (const bool fails : {true, false}) {
    // The download waits until all others have joined it.
    provider_.on_call = [&](std::string_view call, const std::string& at) -> std::optional<Error> {
      if (call != "fetch") return std::nullopt;
      const std::uint64_t joined = fails ? kCallers - 1 : 2 * (kCallers - 1);
      for (int i = 0; i < 5000 && origin_->stats().shared < joined; ++i)
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      if (fails) return Error{Errc::kIo, at + ": went down", 503};
      return std::nullopt;
    };
    std::atomic<int> good = 0;
    std::atomic<int> bad = 0;
    std::vector<std::thread> callers;
    for (int i = 0; i < kCallers; ++i) {
      callers.emplace_back([&] {
        const Result<LocalCopy> copy = origin_->localize(uri("a"));
        if (copy && files_in(copy->directory) == files_of("a", 1)) ++good;
        if (!copy && copy.error().detail == 503) ++bad;
      });
    }
    for (std::thread& caller : callers) caller.join();
    EXPECT_EQ(good, fails ? 0 : kCallers);
    EXPECT_EQ(bad, fails ? kCallers : 0);
  }
  EXPECT_EQ(origin_->stats().downloads, 2U);
  EXPECT_EQ(origin_->stats().shared, 2U * (kCallers - 1));
  EXPECT_EQ(cache_->stats().leased, 0U);
  EXPECT_EQ(entries_in(folder_ / "cache/staging"), 0U);
}

// If this failed, an upload during a download would be an error, or end in a mixture.
TEST_F(RemoteOriginTest, StartsOverWhenTheAdapterChangesInMidDownload) {
  for (const std::uint64_t changes : {1ULL, 3ULL, 4ULL}) {
    SCOPED_TRACE(changes);
    std::atomic<std::uint64_t> version = 10 * changes;
    upload("a", version);
    std::atomic<std::uint64_t> left = changes;
    provider_.on_bytes = [&](const std::string& at, std::uint64_t until) {
      if (!at.ends_with("safetensors") || until != 10'000 || left == 0) return;
      --left;
      upload("a", ++version);
    };
    options_.fetch.part_bytes = 10'000;
    options_.fetch.parts_at_once = 1;
    open();
    const Result<LocalCopy> copy = origin_->localize(uri("a"));
    EXPECT_EQ(origin_->stats().restarts, std::min<std::uint64_t>(changes, 3));
    if (changes <= 3) {
      ASSERT_TRUE(copy) << copy.error().message;
      EXPECT_EQ(files_in(copy->directory), files_of("a", version));
    } else {
      ASSERT_FALSE(copy);
      EXPECT_EQ(copy.error().code, Errc::kCorrupt);
    }
    EXPECT_EQ(entries_in(folder_ / "cache/staging"), 0U);
  }
}

// If this failed, an outage of the bucket would take down adapters that lie on this machine's disk.
TEST_F(RemoteOriginTest, ServesTheLastKnownContentWhileTheProviderIsOutOfReach) {
  const Result<LocalCopy> before = origin_->localize(uri("a"));
  ASSERT_TRUE(before);
  for (const bool is_restarted : {false, true}) {
    if (is_restarted) {
      open_cache(1U << 20U);
      open();
    }
    go_down({Errc::kIo, "no route", EHOSTUNREACH});
    const Result<LocalCopy> copy = origin_->localize(uri("a"));
    ASSERT_TRUE(copy) << copy.error().message;
    EXPECT_EQ(copy->content, before->content);
    EXPECT_EQ(files_in(copy->directory), files_of("a", 1));
    EXPECT_EQ(origin_->stats().served_stale, 1U);
    EXPECT_EQ(origin_->localize(uri("b")).error().code, Errc::kIo) << "never seen";
    for (const Error& answer : {Error{Errc::kIo, "forbidden", 403}, Error{Errc::kCorrupt, "odd", 0}}) {
      go_down(answer);
      EXPECT_EQ(origin_->localize(uri("a")).error().code, answer.code) << "an answer is not overruled";
    }
    EXPECT_EQ(origin_->stats().served_stale, 1U);
  }
  go_down({Errc::kNotFound, "deleted", 404});
  EXPECT_EQ(origin_->localize(uri("a")).error().code, Errc::kNotFound);
  go_down({Errc::kDeadline, "too slow", 0});
  EXPECT_EQ(origin_->localize(uri("a")).error().code, Errc::kDeadline) << "deleted before it went away";
  open_cache(1U << 20U);  // a restart
  open();
  EXPECT_EQ(origin_->localize(uri("a")).error().code, Errc::kDeadline) << "and deleted it stays";
}

// If this failed, a cache that is too small would look like a provider that is broken.
TEST_F(RemoteOriginTest, ACacheThatIsTooSmallSaysSo) {
  open_cache(10'000);
  open();
  const Result<LocalCopy> refused = origin_->localize(uri("a"));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::kTooLarge);
  EXPECT_NE(refused.error().message.find("max_size_bytes"), std::string::npos) << refused.error().message;
  EXPECT_NE(refused.error().message.find(uri("a")), std::string::npos);
  EXPECT_EQ(provider_.fetches, 0U);
}

// If this failed, a burst of loads would be refused though room comes as soon as one of them is done.
TEST_F(RemoteOriginTest, WaitsForRoomWhileAllIsLeased) {
  open_cache(25'000);  // of 20'000 that one needs
  open();
  Result<LocalCopy> held = origin_->localize(uri("a"));
  ASSERT_TRUE(held);
  std::thread user([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    held->hold.reset();
  });
  Result<LocalCopy> next = origin_->localize(uri("b"));
  user.join();
  ASSERT_TRUE(next) << next.error().message;
  EXPECT_EQ(files_in(next->directory), files_of("b", 1));

  options_.room_wait_ms = 100;
  open();
  const Result<LocalCopy> refused = origin_->localize(uri("c"));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::kBusy) << "pressure that passes, not what the caller has pinned";
  EXPECT_NE(refused.error().message.find("max_size_bytes"), std::string::npos) << refused.error().message;
}

// If this failed, a server whose cache somebody has cleaned up would say that no adapter exists, for good.
TEST_F(RemoteOriginTest, ACacheDirectoryThatWasDeletedIsMadeAnew) {
  const Result<LocalCopy> before = origin_->localize(uri("a"));
  ASSERT_TRUE(before);
  fs::remove_all(folder_ / "cache");
  for (const char* name : {"a", "b"}) {
    const Result<LocalCopy> copy = origin_->localize(uri(name));
    ASSERT_TRUE(copy) << copy.error().message;
    EXPECT_EQ(files_in(copy->directory), files_of(name, 1));
  }
  // Deleted while a download is under way: that one is lost, and says so.
  std::once_flag once;  // parts come on several threads
  provider_.on_bytes = [&](const std::string&, std::uint64_t) {
    std::call_once(once, [&] { fs::remove_all(folder_ / "cache"); });
  };
  EXPECT_EQ(origin_->localize(uri("c")).error().code, Errc::kIo) << "the adapter is there";
  provider_.on_bytes = nullptr;
  EXPECT_TRUE(origin_->localize(uri("c")));
}

// If this failed, the cache in memory could not stand where the one on disk does.
TEST_F(RemoteOriginTest, WorksOnACacheInMemory) {
  MemoryCacheOptions options;
  options.max_size_bytes = Bytes{50'000};
  const Result<std::unique_ptr<CacheBackend>> memory = make_memory_cache(options);
  ASSERT_TRUE(memory);
  const std::unique_ptr<RemoteOrigin> origin = make_remote_origin(provider_, **memory, {});
  for (int i = 0; i < 3; ++i)
    for (const char* name : {"a", "b", "c"}) {
      const Result<LocalCopy> copy = origin->localize(uri(name));
      ASSERT_TRUE(copy) << copy.error().message;
      EXPECT_EQ(files_in(copy->directory), files_of(name, 1));
    }
  EXPECT_LE((*memory)->stats().bytes, 50'000U);
  EXPECT_GT((*memory)->stats().evictions, 0U);
}

/// An engine with one slot, and what is in it.
struct Served {
  explicit Served(std::vector<Origin*> origins, const std::string& directory) {
    EngineConfig config;
    config.max_loras = 1;
    config.max_lora_rank = 8;
    config.directory = directory;
    Result<std::unique_ptr<Engine>> opened = Engine::open(
        config, {&posix_clock(), &posix_files(), workers.get(), device.get(), std::move(origins)});
    EXPECT_TRUE(opened) << opened.error().message;
    if (opened) engine = std::move(*opened);
  }
  /// All matrices of the adapter's slot, one after the other.
  [[nodiscard]] std::vector<std::byte> image_of(const std::string& name) {
    const Result<Lease> lease = engine->acquire(name);
    EXPECT_TRUE(lease) << name << ": " << lease.error().message;
    std::vector<std::byte> all;
    if (!lease) return all;
    const SlotLayout& layout = engine->layout();
    for (std::uint32_t slice = 0; slice < layout.slices.size(); ++slice) {
      for (const SlotSide side : {SlotSide::kA, SlotSide::kB}) {
        const std::uint64_t wide = side == SlotSide::kA ? layout.slices[slice].in : layout.slices[slice].out;
        std::vector<std::byte> part(wide * layout.max_rank * bytes_of(layout.dtype));
        EXPECT_TRUE(device->read_slot(lease->adapters()[0].slot, slice, side, part));
        all.insert(all.end(), part.begin(), part.end());
      }
    }
    return all;
  }

  std::unique_ptr<Workers> workers = make_thread_workers(2);
  std::unique_ptr<DeviceMemory> device = make_host_memory_device();
  std::unique_ptr<Engine> engine;  // goes first
};

// If this failed, every load would wait for the bucket, and an outage, keys that were withdrawn or an upload
// would take down adapters that lie on this machine's disk.
TEST_F(RemoteOriginTest, WhatWasCataloguedIsServedFromTheCacheWithoutAskingTheProvider) {
  upload_adapters({"a", "b"});
  open_cache(1U << 30U);
  open();
  Served remote({origin_.get()}, (folder_ / "local").string());
  std::map<std::string, std::vector<std::byte>> first;
  for (const std::string name : {"a", "b"}) {
    ASSERT_TRUE(remote.engine->add(name, uri(name)));
    first[name] = remote.image_of(name);
  }
  const std::uint64_t calls_before = calls();
  go_down({Errc::kIo, "forbidden", 403});
  EXPECT_EQ(remote.image_of("a"), first["a"]);
  EXPECT_EQ(remote.image_of("b"), first["b"]);
  provider_.on_call = nullptr;
  upload("a", 2);
  EXPECT_EQ(remote.image_of("a"), first["a"]);
  EXPECT_EQ(calls(), calls_before);
  EXPECT_EQ(origin_->stats().hits, 3U);
}

// If this failed, every try to load an adapter that was replaced would download all of the new one.
TEST_F(RemoteOriginTest, WhatIsNoLongerWhatWasCataloguedIsNotDownloaded) {
  upload_adapters({"a"});
  open_cache(1U << 30U);
  open();
  Served remote({origin_.get()}, (folder_ / "local").string());
  ASSERT_TRUE(remote.engine->add("a", uri("a")));
  upload("a", 2);
  const Result<Lease> changed = remote.engine->acquire("a");
  ASSERT_FALSE(changed);
  EXPECT_EQ(changed.error().code, Errc::kCorrupt);
  EXPECT_EQ(origin_->stats().downloads, 0U);
}

// If this failed, adding thousands of adapters would cost thousands of needless requests, or catalogue parts
// of two versions as one.
TEST_F(RemoteOriginTest, AnAdapterIsExaminedInFewRequests) {
  upload_adapters({"a", "b", "c"});
  open_cache(1U << 30U);
  open();
  Served remote({origin_.get()}, (folder_ / "local").string());
  ASSERT_TRUE(remote.engine->add("a", uri("a") + "//"));
  EXPECT_EQ(provider_.lists, 1U);
  EXPECT_EQ(provider_.stats, 0U);
  EXPECT_LE(provider_.fetches, 3U) << "the config, the header's length, the header";
  provider_.can_list = false;
  ASSERT_TRUE(remote.engine->add("b", uri("b")));
  EXPECT_EQ(provider_.stats, 3U);
  EXPECT_LE(provider_.fetches, 6U);
  EXPECT_EQ(origin_->stats().downloads, 0U);
  provider_.on_bytes = [&](const std::string& at, std::uint64_t) {
    if (at.ends_with("config.json")) provider_.put(uri("c") + "/adapter_model.safetensors", "another");
  };
  const Result<std::uint32_t> changed = remote.engine->add("c", uri("c"));
  ASSERT_FALSE(changed);
  EXPECT_EQ(changed.error().code, Errc::kCorrupt);
}

// If this failed, an adapter that is uploaded, or damaged on the way, while it is examined would be refused
// until its files change again, and be taken from those who use it.
TEST_F(RemoteOriginTest, AnAdapterThatChangesWhileItIsExaminedIsExaminedAnew) {
  upload_adapters({"a"});
  open_cache(1U << 30U);
  open();
  Served remote({origin_.get()}, (folder_ / "local").string());
  const std::string config = files_in(folder_ / "adapters/a").at("adapter_config.json");
  int changes = 2;
  provider_.on_call = [&](std::string_view call, const std::string&) -> std::optional<Error> {
    if (call == "fetch" && changes-- > 0) provider_.put(uri("a") + "/adapter_config.json", config);
    return std::nullopt;
  };
  const Result<std::uint32_t> changed = remote.engine->add("a", uri("a"));
  EXPECT_TRUE(changed) << changed.error().message;
  int damages = 2;
  provider_.on_call = [&](std::string_view call, const std::string&) -> std::optional<Error> {
    if (call == "fetch" && damages-- > 0) return Error{Errc::kCorrupt, "damaged on the way"};
    return std::nullopt;
  };
  const Result<std::uint32_t> damaged = remote.engine->add("a", uri("a"));
  EXPECT_TRUE(damaged) << damaged.error().message;
  damages = 1000;
  EXPECT_EQ(remote.engine->add("a", uri("a")).error().code, Errc::kCorrupt);
  EXPECT_GT(damages, 980) << "what is damaged in the store is not read for ever";
}

// If this failed, discovery would take what an adapter once was for what it has just seen in the bucket, and
// never look at it again.
TEST_F(RemoteOriginTest, WhatMustNotBeStaleIsNotAddedFromTheCache) {
  upload_adapters({"a"});
  open_cache(1U << 30U);
  open();
  Served remote({origin_.get()}, (folder_ / "local").string());
  ASSERT_TRUE(remote.engine->add("a", uri("a")));
  ASSERT_FALSE(remote.image_of("a").empty());
  go_down({Errc::kIo, "went down", 503});
  EXPECT_TRUE(remote.engine->add("a", uri("a"))) << "what was last seen is better than nothing";
  EXPECT_EQ(remote.engine->add("a", uri("a"), {.may_be_stale = false}).error().code, Errc::kIo);
  EXPECT_FALSE(remote.image_of("a").empty()) << "what is served is as it was";
}

// If this failed, a file of torch.save would be read in hundreds of requests, all over it.
TEST_F(RemoteOriginTest, TorchFilesAreBroughtHereToBeExamined) {
  upload_adapters({"a"}, WeightFormat::kTorchZip);
  open_cache(1U << 30U);
  open();
  Served remote({origin_.get()}, (folder_ / "local").string());
  const Result<std::uint32_t> added = remote.engine->add("a", uri("a"));
  ASSERT_TRUE(added) << added.error().message;
  EXPECT_EQ(provider_.fetches, 2U) << "the config and the weights, once each";
  EXPECT_EQ(origin_->stats().downloads, 1U);
  EXPECT_FALSE(remote.image_of("a").empty());
  EXPECT_EQ(provider_.fetches, 2U);
}

// If this failed, a server that downloads would be killed before it has written down what was resident.
TEST_F(RemoteOriginTest, AnEngineThatShutsDownWaitsForNoDownload) {
  upload_adapters({"a"});
  open_cache(1U << 30U);
  open();
  Served remote({origin_.get()}, (folder_ / "local").string());
  ASSERT_TRUE(remote.engine->add("a", uri("a")));
  const std::uint64_t before = provider_.bytes;
  provider_.chunk_bytes = 1;
  provider_.on_bytes = [](const std::string&, std::uint64_t) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  };
  Errc code{};
  std::thread user([&] {
    if (const Result<Lease> lease = remote.engine->acquire("a"); !lease) code = lease.error().code;
  });
  while (provider_.bytes == before) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_TRUE(remote.engine->shutdown());
  user.join();
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(5)) << "of minutes";
  EXPECT_EQ(code, Errc::kCancelled);
  EXPECT_EQ(origin_->localize(uri("b")).error().code, Errc::kCancelled);
  EXPECT_EQ(entries_in(folder_ / "cache/staging"), 0U);
}

// If this failed, adapters out of a bucket would not be what a GPU computes with, or fill the disk.
TEST_F(RemoteOriginTest, AnEngineServesThreeAdaptersThroughACacheThatHoldsTwo) {
  const std::vector<std::string> names = {"a", "b", "c"};
  const std::uint64_t bytes = upload_adapters(names);
  const std::uint64_t bound = bytes * 5 / 6;
  std::atomic<std::uint64_t> most = 0;
  const auto look = [&] { most = std::max<std::uint64_t>(most, bytes_below(folder_ / "cache")); };
  provider_.chunk_bytes = 1U << 20U;
  provider_.on_bytes = [&](const std::string&, std::uint64_t) { look(); };
  options_.fetch.parts_at_once = 1;
  open_cache(bound);
  open();
  Served plain({}, (folder_ / "adapters").string());
  const std::map<std::string, std::vector<std::byte>> expected = {
      {"a", plain.image_of("a")}, {"b", plain.image_of("b")}, {"c", plain.image_of("c")}};
  ASSERT_NE(expected.at("a"), expected.at("b"));
  {
    Served remote({origin_.get()}, (folder_ / "local").string());
    for (const std::string& name : names) {
      const Result<std::uint32_t> id = remote.engine->add(name, uri(name));
      ASSERT_TRUE(id) << id.error().message;
    }
    EXPECT_EQ(origin_->stats().downloads, 0U) << "an adapter is fetched when it is first used, not before";
    for (int i = 0; i < 100; ++i) {
      const std::string& name = names[static_cast<std::size_t>(i) % names.size()];
      ASSERT_EQ(remote.image_of(name), expected.at(name)) << "load " << i;
      look();
      ASSERT_LE(most, bound) << "load " << i;
    }
  }
  EXPECT_GT(most, bound / 2);
  EXPECT_GT(origin_->stats().downloads, 50U) << "the least recently used of three in turn is the next";
  EXPECT_EQ(cache_->stats().leased, 0U);
  EXPECT_EQ(entries_in(folder_ / "cache/staging"), 0U);
}

}  // namespace
}  // namespace loracle
