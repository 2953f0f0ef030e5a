// What the nearest C++ peer's LoRA cache (TensorRT-LLM's LoraCache and PeftCacheManager, as of September
// 2026) does wrong, or cannot do, as promises of ours: one test a weakness. None needs a GPU. Each comment
// says what the peer does.

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "engine/core_scene.hpp"
#include "loracle/core/rng.hpp"
#include "loracle/engine/make_adapters.hpp"
#include "support/temp_dir.hpp"

namespace loracle::testing {
namespace {

EngineConfig sizes(std::uint32_t max_loras, std::uint32_t max_cpu_loras, const std::string& policy = "lru") {
  EngineConfig config;
  config.max_loras = max_loras;
  config.max_cpu_loras = max_cpu_loras;
  config.policy = policy;
  return config;
}

/// Bytes of the image of an adapter of a CoreScene.
constexpr Bytes image_of_rank(std::uint32_t rank) {
  return Bytes{std::uint64_t{2} * rank * kWidth * sizeof(float)};
}

bool on_device(CoreScene& scene, const char* name) { return scene.core->status(name)->on_device; }
bool on_host(CoreScene& scene, const char* name) { return scene.core->status(name)->on_host; }

/// Where every adapter is, in words.
std::string resident(CoreScene& scene) {
  std::string where;
  for (const AdapterStatus& adapter : scene.core->list()) {
    where += adapter.name;
    where += adapter.on_device ? " device, " : adapter.on_host ? " host, " : " away, ";
  }
  return where;
}

// 1. Theirs evicts whoever was used longest ago, and nothing else can be chosen: an adapter of every second
// request goes when three others come by once.
TEST(PeerWeakness, WhoLeavesIsTheChosenPolicysDecision) {
  for (const bool by_frequency : {false, true}) {
    CoreScene scene(sizes(2, 2, by_frequency ? "lfu" : "lru"));
    for (const char* name : {"often", "once", "new"}) scene.know(name, 1);
    for (int i = 0; i < 3; ++i) ASSERT_TRUE(scene.acquire({"often"}));
    ASSERT_TRUE(scene.acquire({"once"}));
    ASSERT_TRUE(scene.acquire({"new"}));
    EXPECT_EQ(on_device(scene, "often"), by_frequency);
    EXPECT_EQ(on_device(scene, "once"), !by_frequency);
  }
}

// 2. Theirs evicts every idle adapter first and finds out afterwards that it was not enough: the cache is
// empty and the request fails all the same.
TEST(PeerWeakness, ARequestThatCannotBeServedEvictsNobody) {
  CoreScene scene(sizes(3, 6));
  for (const char* name : {"pinned", "idle0", "idle1", "x", "y", "z"}) scene.know(name, 1);
  const std::string_view in_memory[] = {"x", "y", "z"};
  ASSERT_TRUE(scene.core->bring(in_memory, 1, {}));
  ASSERT_TRUE(scene.core->pin("pinned", 0, {}));
  ASSERT_TRUE(scene.acquire({"idle0", "idle1"}));
  const std::string before = resident(scene);
  const Result<Lease> refused = scene.acquire({"x", "y", "z"});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::kAllPinned);
  EXPECT_EQ(resident(scene), before);
  EXPECT_EQ(scene.acquire({"x", "y", "z", "idle0"}).error().code, Errc::kTooLarge);
  EXPECT_EQ(resident(scene), before);
  const Result<Lease> held = scene.acquire({"idle0"});
  ASSERT_TRUE(held);
  EXPECT_EQ(scene.acquire({"x", "y"}, 1'000'000).error().code, Errc::kDeadline);
  EXPECT_EQ(resident(scene), before) << "not even while the request waits";
  EXPECT_EQ(scene.core->stats().counts.gpu_evictions, 0U);
}

// 3. Theirs throws a derived exception away as its base, so its own handler for "full" never runs, and
// callers tell failures apart by matching the text.
TEST(PeerWeakness, EveryKindOfFailureHasACodeOfItsOwn) {
  EngineConfig config = sizes(1, 2);
  config.requests_waiting_max = 1;
  CoreScene scene(config);
  for (const char* name : {"a0", "a1", "bad"}) scene.know(name, 1);
  scene.broken = {"bad"};
  EXPECT_EQ(scene.acquire({"nobody"}).error().code, Errc::kNotFound);
  EXPECT_EQ(scene.acquire({"a0", "a1"}).error().code, Errc::kTooLarge);
  EXPECT_EQ(scene.acquire({"bad"}).error().code, Errc::kCorrupt);
  scene.device.fails = [] { return true; };
  const Result<Lease> lost = scene.acquire({"a0"});
  ASSERT_FALSE(lost);
  EXPECT_EQ(lost.error().code, Errc::kIo);
  EXPECT_EQ(lost.error().detail, 700) << "the device's own code comes through";
  scene.device.fails = nullptr;
  Result<Lease> held = scene.acquire({"a0"});
  ASSERT_TRUE(held);
  EXPECT_EQ(scene.acquire({"a1"}, 1000).error().code, Errc::kDeadline);
  const std::string_view waits[] = {"a1"};
  scene.core->acquire_async(waits, {}, [](const Result<Lease>&) {});
  EXPECT_EQ(scene.acquire({"a1"}).error().code, Errc::kBusy);
  held->let_go();
  scene.workers.run_all();
  ASSERT_TRUE(scene.core->pin("a0", 0, {}));
  EXPECT_EQ(scene.acquire({"a1"}).error().code, Errc::kAllPinned);
}

/// Remembers what it gave out and what it was told to copy from.
class WatchedDevice final : public testing::ForwardingDevice {
 public:
  [[nodiscard]] Result<std::span<std::byte>> allocate_host(std::uint64_t bytes) override {
    Result<std::span<std::byte>> memory = ForwardingDevice::allocate_host(bytes);
    if (memory) host = *memory;
    return memory;
  }
  [[nodiscard]] Result<Unit> write_slot(std::uint32_t slot, const ImageManifest& manifest,
                                        std::span<const std::byte> image) override {
    ++copies;
    if (!owns(image)) ++foreign;
    return ForwardingDevice::write_slot(slot, manifest, image);
  }
  [[nodiscard]] bool owns(std::span<const std::byte> bytes) const noexcept {
    return bytes.data() >= host.data() && bytes.data() + bytes.size() <= host.data() + host.size();
  }

  std::span<std::byte> host;
  int copies = 0;
  int foreign = 0;  // copies from elsewhere
};

/// Fills an image with the adapter's id.
Result<std::shared_ptr<const ImageManifest>> write_id(const AdapterSource& source,
                                                      std::span<std::byte> image) {
  const std::vector<float> values(image.size() / sizeof(float), static_cast<float>(source.id));
  std::memcpy(image.data(), values.data(), image.size());
  ImageManifest manifest;
  manifest.tensors = {{0, source.rank, 0, values.size() / 2}};
  manifest.elements = values.size();
  return std::make_shared<const ImageManifest>(std::move(manifest));
}

AdapterSource adapter_of(std::uint32_t id, std::uint32_t rank) {
  AdapterSource source;
  source.id = id;
  source.rank = rank;
  source.bytes = image_of_rank(rank).value;
  return source;
}

// 4. Theirs keeps adapters in ordinary host memory, which a GPU copies from slowly and not in the background.
TEST(PeerWeakness, AdaptersAreReadIntoMemoryTheDeviceGaveAndCopiedFromThere) {
  SimTime time;
  WatchedDevice device;
  SimWorkers workers(time, 1);
  int reads = 0;
  Result<std::unique_ptr<EngineCore>> core = EngineCore::make(
      sizes(1, 3), one_slice(), 8, {&time, &posix_files(), &workers, &device},
      [&device, &reads](const std::string&, const AdapterSource& source, std::span<std::byte> image) {
        ++reads;
        EXPECT_TRUE(device.owns(image));
        return write_id(source, image);
      });
  ASSERT_TRUE(core);
  for (std::uint32_t id = 1; id <= 4; ++id) (*core)->know("a" + std::to_string(id), adapter_of(id, id));
  for (int i = 0; i < 12; ++i) {
    const std::string name = "a" + std::to_string(1 + i % 4);
    const std::string_view names[] = {name};
    ASSERT_TRUE((*core)->acquire(names, {}));
  }
  EXPECT_EQ(reads, 12);
  EXPECT_EQ(device.copies, 12);
  EXPECT_EQ(device.foreign, 0);
}

// 5. Theirs takes a number of copy streams in a constructor that forgets it: the setting changes nothing.
TEST(PeerWeakness, AsManyLoadsRunAtOnceAsAreConfigured) {
  for (const std::uint32_t loads : {1U, 2U, 5U}) {
    EngineConfig config = sizes(8, 8);
    config.loads_in_flight_max = loads;
    CoreScene scene(config);
    std::vector<std::string> names;
    for (int i = 0; i < 8; ++i) names.push_back("a" + std::to_string(i));
    for (const std::string& name : names) scene.know(name, 1);
    const std::vector<std::string_view> views(names.begin(), names.end());
    ASSERT_TRUE(scene.core->prefetch(views, 1));
    EXPECT_EQ(scene.core->stats().loads_in_flight, loads);
    scene.workers.run_all();
    EXPECT_EQ(scene.core->stats().loads, 8U);
  }
}

// 6. Theirs has its preloading switched off: every cold adapter is copied inside the step that needs it.
TEST(PeerWeakness, LoadingBeginsWhenARequestArrivesAndAPrefetchedAdapterCostsItNothing) {
  CoreScene scene(sizes(2, 4));
  scene.know("cold", 1);
  scene.know("expected", 1);
  const std::string_view cold[] = {"cold"};
  bool served = false;
  scene.core->acquire_async(cold, {}, [&served](Result<Lease> lease) { served = lease.has_value(); });
  EXPECT_EQ(scene.core->stats().loads_in_flight, 1U) << "before anybody waits";
  scene.workers.run_all();
  EXPECT_TRUE(served);
  const std::string_view expected[] = {"expected"};
  ASSERT_TRUE(scene.core->prefetch(expected, 0));
  scene.workers.run_all();
  EXPECT_TRUE(on_device(scene, "expected"));
  const EngineStats before = scene.core->stats();
  const Result<Lease> lease = scene.acquire({"expected"});
  ASSERT_TRUE(lease);
  scene.expect_whole(*lease, {scene.version_of("expected")});
  EXPECT_EQ(scene.core->stats().copies, before.copies);
  EXPECT_EQ(scene.core->stats().acquire_latency.count, before.acquire_latency.count) << "it did not wait";
}

// 7. Theirs writes one cache's flags under the other cache's lock. (A race shows under the thread sanitizer;
// wrong weights show in any build.)
TEST(PeerWeakness, CopiesEvictionsAndLeasesOfOneAdapterFromManyThreadsDoNotRace) {
  const std::unique_ptr<DeviceMemory> device = make_host_memory_device();
  const std::unique_ptr<Workers> workers = make_thread_workers(3);
  Result<std::unique_ptr<EngineCore>> core = EngineCore::make(
      sizes(2, 3), one_slice(), 16, {&posix_clock(), &posix_files(), workers.get(), device.get()},
      [](const std::string&, const AdapterSource& source, std::span<std::byte> image) {
        return write_id(source, image);
      });
  ASSERT_TRUE(core);
  for (std::uint32_t id = 1; id <= 4; ++id) (*core)->know("a" + std::to_string(id), adapter_of(id, id));
  std::atomic<int> wrong = 0;
  std::vector<std::thread> threads;
  for (std::uint64_t seed = 1; seed <= 6; ++seed) {
    threads.emplace_back([&core, &device, &wrong, seed] {
      Rng rng(seed);
      for (int round = 0; round < 150; ++round) {
        const std::string name = "a" + std::to_string(1 + rng.below(4));
        const std::string_view names[] = {name};
        switch (rng.below(6)) {
          case 0:
            static_cast<void>((*core)->deactivate(name));
            break;
          case 1:
            static_cast<void>((*core)->prefetch(names, rng.below(2)));
            break;
          default: {
            const Result<Lease> lease = (*core)->acquire(names, {});
            if (!lease) {
              ++wrong;
              break;
            }
            const LeasedAdapter& adapter = lease->adapters()[0];
            float first = 0;
            std::memcpy(
                &first,
                device->buffer(0, SlotSide::kA) + std::size_t{adapter.slot} * kWidth * kWidth * sizeof(float),
                sizeof(first));
            if (first != static_cast<float>(adapter.id)) ++wrong;
          }
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

// 8. Theirs marks the host copy as not loaded while it is being copied: whoever asks for the same adapter in
// that moment gets an exception.
TEST(PeerWeakness, TwoRequestsMayWaitForTheSameCopy) {
  CoreScene scene(sizes(1, 2));
  scene.know("a0", 2);
  const std::string_view names[] = {"a0"};
  ASSERT_TRUE(scene.core->bring(names, 1, {}));
  std::vector<Lease> leases;
  for (int i = 0; i < 2; ++i) {
    scene.core->acquire_async(names, {}, [&leases](Result<Lease> lease) {
      ASSERT_TRUE(lease) << lease.error().message;
      leases.push_back(std::move(*lease));
    });
    EXPECT_TRUE(on_host(scene, "a0")) << "it is still where it was";
  }
  EXPECT_TRUE(leases.empty()) << "the copy is under way";
  scene.workers.run_all();
  ASSERT_EQ(leases.size(), 2U);
  EXPECT_EQ(leases[0].adapters()[0].slot, leases[1].adapters()[0].slot);
  EXPECT_EQ(scene.core->stats().copies, 1U);
  EXPECT_EQ(scene.reads, 1U);
}

// 9. Theirs compares with < where <= is meant: what fits exactly is refused.
TEST(PeerWeakness, AnExactFitIsNotRefused) {
  EngineConfig config = sizes(2, 2);
  config.gpu_memory = config.cpu_memory = image_of_rank(1) + image_of_rank(3);
  CoreScene scene(config);
  scene.know("a0", 1);
  scene.know("a1", 3);
  const Result<Lease> lease = scene.acquire({"a0", "a1"});
  ASSERT_TRUE(lease) << lease.error().message;
  scene.expect_whole(*lease, {scene.version_of("a0"), scene.version_of("a1")});
  const EngineStats stats = scene.core->stats();
  EXPECT_EQ(stats.device.bytes, stats.device.bytes_max);
  EXPECT_EQ(stats.host.bytes, stats.host.bytes_max);
}

// 10. Theirs does nothing when an id that it has is given new weights: it goes on serving the old ones.
TEST(PeerWeakness, NewWeightsUnderAnOldNameAreServedFromTheNextRequestOn) {
  CoreScene scene(sizes(2, 2));
  scene.know("a0", 2);
  const Result<Lease> first = scene.acquire({"a0"});
  ASSERT_TRUE(first);
  for (int i = 0; i < 5; ++i) {
    scene.know("a0", 1 + static_cast<std::uint32_t>(i) % kWidth);
    const Result<Lease> lease = scene.acquire({"a0"});
    ASSERT_TRUE(lease) << i << ": " << lease.error().message;
    EXPECT_EQ(lease->adapters()[0].id, first->adapters()[0].id);
    scene.expect_whole(*lease, {scene.version_of("a0")});
  }
}

// 11. Theirs takes the type of the first adapter's weights for both caches; an adapter of another type is an
// error from then on.
TEST(PeerWeakness, AdaptersOfDifferentTypesAreServedTogether) {
  const TempDir folder;
  MakeAdaptersOptions options;
  options.directory = folder.path().string();
  options.targets = "q_proj";
  options.ranks = {4};
  options.model = *known_model("tiny");
  std::vector<std::string> names;
  for (const Dtype dtype : {Dtype::kF8E4M3, Dtype::kF32, Dtype::kF16, Dtype::kBf16}) {
    names.emplace_back(name_of(dtype));
    options.names = {names.back()};
    options.dtype = dtype;
    const Result<MadeAdapters> made = make_adapters(options);
    ASSERT_TRUE(made) << made.error().message;
  }
  const std::unique_ptr<DeviceMemory> device = make_host_memory_device();
  const std::unique_ptr<Workers> workers = make_thread_workers(2);
  EngineConfig config = sizes(4, 4);
  config.directory = options.directory;
  Result<std::unique_ptr<Engine>> engine =
      Engine::open(config, {&posix_clock(), &posix_files(), workers.get(), device.get()});
  ASSERT_TRUE(engine) << engine.error().message;
  const std::vector<std::string_view> views(names.begin(), names.end());
  const Result<Lease> lease = (*engine)->acquire(views);
  ASSERT_TRUE(lease) << lease.error().message;
  const SlotSlice& slice = (*engine)->layout().slices[0];
  std::vector<std::uint16_t> a(std::size_t{(*engine)->layout().max_rank} * slice.in);
  for (const LeasedAdapter& adapter : lease->adapters()) {
    ASSERT_TRUE(device->read_slot(adapter.slot, 0, SlotSide::kA, std::as_writable_bytes(std::span(a))));
    const auto weights = std::span(a).first(std::size_t{4} * slice.in);
    const auto zeros = static_cast<std::size_t>(std::count(weights.begin(), weights.end(), 0));
    EXPECT_LT(zeros, weights.size() / 4) << "adapter " << adapter.id;
  }
}

// 12. Theirs counts nothing: that an adapter was evicted can only be guessed from an error that did not come.
TEST(PeerWeakness, HitsMissesEvictionsBytesAndTimesAreCounted) {
  CoreScene scene(sizes(1, 2));
  scene.workers.delay_max = 1000;
  for (std::uint32_t i = 0; i < 3; ++i) scene.know("a" + std::to_string(i), i + 1);
  for (const char* name : {"a0", "a0", "a1", "a0", "a2", "a1"}) ASSERT_TRUE(scene.acquire({name}));
  const EngineStats stats = scene.core->stats();
  EXPECT_EQ(stats.counts.uses, 6U);
  EXPECT_EQ(stats.counts.gpu_hits, 1U);
  EXPECT_EQ(stats.counts.host_to_device_loads, 5U);
  EXPECT_EQ(stats.counts.disk_loads, 4U) << "a0 came back from host memory once";
  EXPECT_EQ(stats.counts.gpu_evictions + stats.counts.gpu_invalidations, 4U);
  EXPECT_EQ(stats.counts.host_evictions, 2U) << "a1 for a2, then a0 for a1";
  EXPECT_EQ(stats.loads, 4U);
  EXPECT_EQ(stats.loaded_bytes, (image_of_rank(1 + 2 + 3 + 2)).value);
  EXPECT_EQ(stats.copies, 5U);
  EXPECT_EQ(stats.copied_bytes, (image_of_rank(1 + 2 + 1 + 3 + 2)).value);
  EXPECT_EQ(stats.load_latency.count, 4U);
  EXPECT_EQ(stats.copy_latency.count, 5U);
  EXPECT_GT(stats.acquire_latency.sum_ns, 0U);
}

// 13. Theirs forgets an adapter that it evicts: the client has to send the weights again with its next
// request.
TEST(PeerWeakness, AnEvictedAdapterComesBackByItsName) {
  CoreScene scene(sizes(1, 1));
  scene.know("a0", 2);
  scene.know("a1", 1);
  for (int i = 0; i < 3; ++i) {
    for (const char* name : {"a0", "a1"}) {
      const Result<Lease> lease = scene.acquire({name});
      ASSERT_TRUE(lease) << lease.error().message;
      scene.expect_whole(*lease, {scene.version_of(name)});
    }
  }
  EXPECT_EQ(scene.reads, 6U);
}

// 14. Theirs can only be tested on a GPU, by one thread, with unseeded random numbers. (The other half of
// this promise, that every decision is a reference model's, is engine_core_twin_test.cpp.)
TEST(PeerWeakness, ALongRunOfManyAdaptersCanBeRepeatedDecisionByDecision) {
  const auto run = [](std::uint64_t seed) {
    CoreScene scene(sizes(4, 16, "sieve/gdsf"), seed, /*rows_max=*/256);
    scene.workers.delay_max = 10'000;
    for (std::uint32_t i = 0; i < 128; ++i) scene.know("a" + std::to_string(i), 1 + i % kWidth);
    Rng rng(seed);
    int served = 0;
    for (int i = 0; i < 500; ++i) {
      const std::string names[] = {"a" + std::to_string(rng.below(128)), "a" + std::to_string(rng.below(8))};
      const std::string_view views[] = {names[0], names[1]};
      scene.core->acquire_async(views, {}, [&served](Result<Lease> lease) { served += lease ? 1 : 0; });
      while (rng.below(2) == 0 && scene.workers.pending()) scene.workers.run_one();
    }
    scene.workers.run_all();
    EXPECT_EQ(served, 500);
    return scene.core->stats().decision_log_hash;
  };
  EXPECT_EQ(run(1), run(1));
  EXPECT_NE(run(1), run(2));
}

// 15. Theirs rounds adapters up to pages of its own choosing: one of 38 MB does not fit a cache of 40 MB that
// is said to hold one, and the message does not say what would do.
TEST(PeerWeakness, AByteBudgetHoldsWhatAddsUpToItAndARefusalNamesTheSetting) {
  EngineConfig config = sizes(1, 16);
  config.cpu_memory = image_of_rank(1 + 2 + 3 + 4);
  CoreScene scene(config);
  for (std::uint32_t i = 0; i < 4; ++i) scene.know("a" + std::to_string(i), i + 1);
  for (const char* name : {"a3", "a0", "a2", "a1"}) ASSERT_TRUE(scene.acquire({name}));
  for (const char* name : {"a0", "a1", "a2", "a3"}) EXPECT_TRUE(on_host(scene, name)) << name;

  EngineConfig small = sizes(1, 1);
  small.cpu_memory = image_of_rank(4) - Bytes{1};
  CoreScene tight(small);
  tight.know("just-right", 3);
  tight.know("one-byte-too-large", 4);
  EXPECT_TRUE(tight.acquire({"just-right"}));
  const Result<Lease> refused = tight.acquire({"one-byte-too-large"});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::kTooLarge);
  EXPECT_NE(refused.error().message.find("one-byte-too-large"), std::string::npos);
  EXPECT_NE(refused.error().message.find("cpu_memory"), std::string::npos);
  EXPECT_TRUE(on_device(tight, "just-right"));
}

}  // namespace
}  // namespace loracle::testing
