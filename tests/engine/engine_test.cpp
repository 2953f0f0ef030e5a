// The engine on directories of real adapters: the checklist of the storage catalog, item by item, and what an
// operator meets besides.

#include "loracle/engine/engine.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "loracle/core/rng.hpp"
#include "loracle/engine/adapter_weights.hpp"
#include "loracle/engine/make_adapters.hpp"
#include "loracle/sim/tier_replay.hpp"
#include "support/eventually.hpp"
#include "support/temp_dir.hpp"

namespace loracle {
namespace {

using testing::eventually;

namespace fs = std::filesystem;

class EngineTest : public ::testing::Test {
 protected:
  void make(const std::vector<std::string>& names, std::uint32_t rank = 8, std::uint64_t seed = 1,
            WeightFormat format = WeightFormat::kSafetensors) {
    MakeAdaptersOptions options;
    options.directory = root();
    options.names = names;
    options.ranks = {rank};
    options.model = *load_model_geometry("tiny");
    options.seed = seed;
    options.force = true;
    options.format = format;
    const Result<MadeAdapters> made = make_adapters(options);
    ASSERT_TRUE(made) << made.error().message;
  }
  [[nodiscard]] std::string root() const { return (folder_ / "adapters").string(); }

  [[nodiscard]] EngineConfig config(std::uint32_t max_loras, std::uint32_t max_cpu_loras) const {
    EngineConfig config;
    config.directory = root();
    config.database = (folder_ / "catalog.sqlite").string();
    config.max_loras = max_loras;
    config.max_cpu_loras = max_cpu_loras;
    config.max_lora_rank = 64;
    return config;
  }
  void open(const EngineConfig& config) {
    engine_.reset();
    device_ = make_host_memory_device();
    const Env env{&posix_clock(), &posix_files(), workers_.get(), device_.get(), origins_};
    Result<std::unique_ptr<Engine>> opened = Engine::open(config, env);
    ASSERT_TRUE(opened) << opened.error().message;
    engine_ = std::move(*opened);
  }
  /// A slot's first B, padded as it lies on the device.
  [[nodiscard]] std::vector<std::byte> first_b(std::uint32_t slot) {
    const SlotLayout& layout = engine_->layout();
    std::vector<std::byte> bytes(std::size_t{layout.slices[0].out} * layout.max_rank *
                                 bytes_of(layout.dtype));
    EXPECT_TRUE(device_->read_slot(slot, 0, SlotSide::kB, bytes));
    return bytes;
  }

  testing::TempDir folder_;
  std::unique_ptr<Workers> workers_ = make_thread_workers(2);
  std::unique_ptr<DeviceMemory> device_;
  std::vector<Origin*> origins_;
  std::unique_ptr<Engine> engine_;  // goes first
};

// Checklist: the storage catalog scans correctly.
TEST_F(EngineTest, ScansItsDirectoryAndNumbersAdaptersByName) {
  make({"b", "a", "c"});
  open(config(2, 4));
  const std::vector<AdapterStatus> all = engine_->list();
  ASSERT_EQ(all.size(), 3U);
  for (std::uint32_t i = 0; i < 3; ++i) {
    EXPECT_EQ(all[i].name, std::string(1, static_cast<char>('a' + i)));
    EXPECT_EQ(all[i].id, i + 1);
    EXPECT_EQ(all[i].rank, 8U);
    EXPECT_FALSE(all[i].on_host) << "nothing is loaded before it is asked for";
    EXPECT_EQ(*engine_->adapter_name(i + 1), all[i].name);
    EXPECT_EQ(*engine_->adapter_id(all[i].name), i + 1);
  }
}

// Checklist: adapters load from storage, in every format.
TEST_F(EngineTest, LoadsSafetensorsAndTorchFilesOnDemand) {
  make({"safe"});
  make({"torch"}, 8, 1, WeightFormat::kTorchZip);
  open(config(2, 2));
  for (const char* name : {"safe", "torch"}) {
    const Result<Lease> lease = engine_->acquire(name);
    ASSERT_TRUE(lease) << lease.error().message;
    const std::vector<std::byte> bytes = first_b(lease->adapters()[0].slot);
    EXPECT_TRUE(std::any_of(bytes.begin(), bytes.end(), [](std::byte b) { return b != std::byte{0}; }));
  }
  EXPECT_EQ(engine_->stats().loads, 2U);
}

// Checklist: LRU eviction works, on the device and in host memory.
TEST_F(EngineTest, EvictsTheLeastRecentlyUsedFromBothTiers) {
  make({"a", "b", "c", "d"});
  open(config(2, 3));
  for (const char* name : {"a", "b", "c", "d"}) ASSERT_TRUE(engine_->acquire(name));
  EXPECT_TRUE(engine_->status("d")->on_device);
  EXPECT_TRUE(engine_->status("c")->on_device);
  EXPECT_FALSE(engine_->status("b")->on_device);
  EXPECT_TRUE(engine_->status("b")->on_host);
  EXPECT_FALSE(engine_->status("a")->on_host);
  EXPECT_EQ(engine_->stats().host.entries, 3U);
}

// Checklist: API compatibility: what vLLM's manager offers, by name, is here.
TEST_F(EngineTest, ActivatesDeactivatesPinsAddsAndRemoves) {
  make({"a", "b"});
  open(config(1, 2));
  ASSERT_TRUE(engine_->activate("a"));
  EXPECT_TRUE(engine_->status("a")->on_device);
  ASSERT_TRUE(engine_->deactivate("a"));
  EXPECT_FALSE(engine_->status("a")->on_device);
  EXPECT_TRUE(engine_->status("a")->on_host);
  ASSERT_TRUE(engine_->pin("b"));
  EXPECT_EQ(engine_->acquire("a").error().code, Errc::kAllPinned);
  ASSERT_TRUE(engine_->unpin("b"));
  EXPECT_TRUE(engine_->acquire("a"));
  const fs::path elsewhere = folder_ / "elsewhere";
  fs::rename(fs::path(root()) / "b", elsewhere);
  const Result<std::uint32_t> id = engine_->add("extra", elsewhere.string());
  ASSERT_TRUE(id) << id.error().message;
  EXPECT_EQ(*id, 3U);
  EXPECT_TRUE(engine_->acquire("extra"));
  EXPECT_EQ(*engine_->location_of("extra"), elsewhere.string());
  EXPECT_EQ(*engine_->location_of("a"), root() + "/a");
  ASSERT_TRUE(engine_->remove("extra"));
  EXPECT_EQ(engine_->acquire("extra").error().code, Errc::kNotFound);
  EXPECT_EQ(engine_->location_of("extra").error().code, Errc::kNotFound) << "known, and removed";
  EXPECT_EQ(engine_->location_of("nobody").error().code, Errc::kNotFound);
}

// If this failed, an adapter that an operator pinned would lose its place when its files are replaced.
TEST_F(EngineTest, APinOutlivesNewContent) {
  make({"a", "b"});
  open(config(2, 2));
  ASSERT_TRUE(engine_->pin("a"));
  make({"a"}, 8, 2);
  const Result<RefreshReport> report = engine_->refresh();
  ASSERT_TRUE(report);
  ASSERT_EQ(report->changed, std::vector<std::string>{"a"});
  ASSERT_TRUE(engine_->acquire("a"));  // the pin is restored in the background: not behind this
  ASSERT_TRUE(engine_->acquire("a"));
  EXPECT_TRUE(engine_->status("a")->pinned);
  const fs::path elsewhere = folder_ / "elsewhere" / "a";
  fs::create_directories(elsewhere.parent_path());
  fs::rename(fs::path(root()) / "a", elsewhere);
  ASSERT_TRUE(engine_->add("a", elsewhere.string()));
  ASSERT_TRUE(engine_->acquire("a"));
  ASSERT_TRUE(engine_->acquire("a"));
  EXPECT_TRUE(engine_->status("a")->pinned);
}

// If this failed, a callback that asks for something, or a thread that holds a lease, would hang a shutdown.
TEST_F(EngineTest, ShutdownWaitsForThoseWhoStillCallIt) {
  make({"a", "b"});
  open(config(1, 2));
  Result<Lease> held = engine_->acquire("a");
  ASSERT_TRUE(held);
  std::thread closing([this] { EXPECT_TRUE(engine_->shutdown()); });
  while (engine_->refresh()) {  // until it is refused
  }
  const Result<Unit> refused = engine_->remove("b");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::kCancelled);
  EXPECT_EQ(engine_->add("c", root() + "/b").error().code, Errc::kCancelled);
  EXPECT_EQ(engine_->set_policy(EngineTier::kHost, "sieve").error().code, Errc::kCancelled);
  EXPECT_EQ(engine_->unpin("a").error().code, Errc::kCancelled);
  held->let_go();
  closing.join();
}

// If this failed, adapters that were added by hand would be gone after a restart, yet be in the list.
TEST_F(EngineTest, AddedAdaptersAreServedAfterARestart) {
  make({"a"});
  open(config(2, 2));
  const fs::path elsewhere = folder_ / "elsewhere" / "b";
  fs::create_directories(elsewhere.parent_path());
  fs::copy(fs::path(root()) / "a", elsewhere);
  const Result<std::uint32_t> id = engine_->add("b", elsewhere.string());
  ASSERT_TRUE(id);
  fs::copy(fs::path(root()) / "a", fs::path(root()) / "b");  // the same name in the directory: not served
  open(config(2, 2));
  ASSERT_TRUE(engine_->acquire("b"));
  EXPECT_EQ(*engine_->adapter_id("b"), *id);
  ASSERT_TRUE(engine_->refresh());
  EXPECT_TRUE(engine_->acquire("b"));
}

// If this failed, an engine that begins with nothing could never take an adapter in.
TEST_F(EngineTest, BeginsEmptyWhereItIsToldTheModel) {
  make({"a"});
  EngineConfig empty;
  empty.max_loras = 1;
  open(empty);
  const Result<std::uint32_t> lost = engine_->add("a", root() + "/a");
  ASSERT_FALSE(lost);
  EXPECT_NE(lost.error().message.find("model"), std::string::npos) << lost.error().message;
  empty.model = "tiny";
  open(empty);
  EXPECT_EQ(engine_->layout().max_rank, 16U);
  ASSERT_TRUE(engine_->add("a", root() + "/a"));
  EXPECT_TRUE(engine_->acquire("a"));
  empty.lora_targets = "k_proj";
  open(empty);
  EXPECT_FALSE(engine_->add("a", root() + "/a")) << "no slot has room for q_proj";
}

// If this failed, an operator would look for an adapter that lies in the directory and be told it does not.
TEST_F(EngineTest, ARefusedAdapterSaysWhy) {
  make({"a"}, 8);
  make({"wide"}, 64);
  EngineConfig narrow = config(1, 1);
  narrow.max_lora_rank = 8;
  open(narrow);
  ASSERT_EQ(engine_->rejected().size(), 1U);
  const Result<Lease> lease = engine_->acquire("wide");
  ASSERT_FALSE(lease);
  EXPECT_EQ(lease.error().code, Errc::kInvalid);
  EXPECT_NE(lease.error().message.find("rank"), std::string::npos) << lease.error().message;
  EXPECT_EQ(engine_->acquire("nobody").error().code, Errc::kNotFound);
}

/// Answers for fake://NAME with the directory NAME of a folder, as a cache would: while it is asked.
class FakeOrigin final : public Origin {
 public:
  explicit FakeOrigin(fs::path folder) : folder_(std::move(folder)) {}
  [[nodiscard]] std::string_view scheme() const noexcept override { return "fake"; }
  [[nodiscard]] Result<LocalCopy> localize(const std::string& uri) override {
    ++asked;
    if (gone) return fail(Errc::kIo, uri + ": the other end is down", 503);
    return LocalCopy{(folder_ / uri.substr(7)).string(), content, {}};
  }

  std::string content = "first";
  std::atomic<int> asked = 0;
  std::atomic<bool> gone = false;

 private:
  fs::path folder_;
};

// If this failed, an adapter out of a bucket would be lost once its local copy is, or turn into another.
TEST_F(EngineTest, RemoteAdaptersAreFetchedAnewForEveryLoad) {
  make({"a", "b", "c"});
  FakeOrigin origin(root());
  origins_ = {&origin};
  EngineConfig config;
  config.max_loras = 1;
  config.max_lora_rank = 8;
  config.directory = root();
  open(config);
  ASSERT_TRUE(engine_->add("remote", "fake://a"));
  EXPECT_EQ(*engine_->location_of("remote"), "fake://a");
  EXPECT_EQ(origin.asked, 1);
  ASSERT_TRUE(engine_->acquire("remote"));
  EXPECT_EQ(origin.asked, 2);
  ASSERT_TRUE(engine_->acquire("b"));  // takes its place
  origin.gone = true;
  const Result<Lease> down = engine_->acquire("remote");
  ASSERT_FALSE(down);
  EXPECT_EQ(down.error().code, Errc::kIo);
  EXPECT_EQ(down.error().detail, 503);
  origin.gone = false;
  origin.content = "second";
  const Result<Lease> changed = engine_->acquire("remote");
  ASSERT_FALSE(changed);
  EXPECT_EQ(changed.error().code, Errc::kCorrupt);
  ASSERT_TRUE(engine_->add("remote", "fake://a"));
  EXPECT_TRUE(engine_->acquire("remote"));
  EXPECT_EQ(engine_->add("other", "ftp://x/y").error().code, Errc::kUnsupported);
  engine_.reset();  // before its origin
}

// Checklist: external changes are handled.
TEST_F(EngineTest, RefreshSeesAddedRemovedAndChangedAdapters) {
  make({"stays", "goes", "changes"});
  open(config(2, 4));
  Result<Lease> of_old = engine_->acquire("changes");
  Result<Lease> of_gone = engine_->acquire("goes");
  ASSERT_TRUE(of_old && of_gone);
  const std::vector<std::byte> old_bytes = first_b(of_old->adapters()[0].slot);
  make({"comes"});
  make({"changes"}, 16, 2);
  fs::remove_all(fs::path(root()) / "goes");
  fs::create_directories(fs::path(root()) / "broken");
  std::ofstream(fs::path(root()) / "broken" / "adapter_config.json") << "{";
  const Result<RefreshReport> report = engine_->refresh();
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_EQ(report->added, std::vector<std::string>{"comes"});
  EXPECT_EQ(report->changed, std::vector<std::string>{"changes"});
  EXPECT_EQ(report->vanished, std::vector<std::string>{"goes"});
  ASSERT_EQ(report->rejected.size(), 1U);
  EXPECT_EQ(report->rejected[0].substr(0, 7), "broken:");
  EXPECT_EQ(report->unchanged, 1U);

  EXPECT_EQ(engine_->acquire("goes").error().code, Errc::kNotFound);
  EXPECT_EQ(first_b(of_old->adapters()[0].slot), old_bytes) << "a lease keeps its version";
  of_gone->let_go();
  const Result<Lease> of_new = engine_->acquire("changes");
  ASSERT_TRUE(of_new) << of_new.error().message;
  EXPECT_EQ(of_new->adapters()[0].rank, 16U);
  EXPECT_EQ(of_new->adapters()[0].id, of_old->adapters()[0].id);
  EXPECT_NE(first_b(of_new->adapters()[0].slot), old_bytes);
}

// Checklist: error handling works.
TEST_F(EngineTest, NamesWhatIsWrongWithAConfigurationOrAnAdapter) {
  make({"a"});
  const Env env{&posix_clock(), &posix_files(), workers_.get(), nullptr};
  EXPECT_EQ(Engine::open(config(1, 1), env).error().code, Errc::kInvalid);
  EngineConfig bad = config(4, 2);
  device_ = make_host_memory_device();
  const Env whole{&posix_clock(), &posix_files(), workers_.get(), device_.get()};
  const Result<std::unique_ptr<Engine>> too_small = Engine::open(bad, whole);
  ASSERT_FALSE(too_small);
  EXPECT_NE(too_small.error().message.find("max_cpu_loras"), std::string::npos);
  bad = config(1, 1);
  bad.directory = (folder_ / "no-such").string();
  EXPECT_EQ(Engine::open(bad, whole).error().code, Errc::kNotFound);
  bad = config(1, 1);
  bad.policy = "lru/sive";
  bad.database.clear();
  const Result<std::unique_ptr<Engine>> misspelt = Engine::open(bad, whole);
  ASSERT_FALSE(misspelt);
  EXPECT_NE(misspelt.error().message.find("sieve"), std::string::npos);

  open(config(1, 1));
  fs::resize_file(fs::path(root()) / "a" / "adapter_model.safetensors", 100);
  const Result<Lease> damaged = engine_->acquire("a");
  ASSERT_FALSE(damaged);
  EXPECT_EQ(damaged.error().code, Errc::kCorrupt);
  EXPECT_NE(damaged.error().message.find("adapter_model.safetensors"), std::string::npos)
      << damaged.error().message;
}

// Checklist: memory usage is reasonable: bytes, not counts, are the budget.
TEST_F(EngineTest, KeepsWithinItsByteBudget) {
  make({"small"}, 8);
  make({"large"}, 64);
  EngineConfig limited = config(2, 8);
  open(limited);
  const std::uint64_t small = engine_->status("small")->bytes;
  const std::uint64_t large = engine_->status("large")->bytes;
  EXPECT_EQ(large, small * 8);
  limited.cpu_memory = Bytes{large};
  limited.database.clear();
  open(limited);
  ASSERT_TRUE(engine_->acquire("small"));
  ASSERT_TRUE(engine_->acquire("large")) << "an exact fit fits";
  EXPECT_EQ(engine_->stats().host.bytes, large);
  EXPECT_FALSE(engine_->status("small")->on_host);
  limited.cpu_memory = Bytes{large - 1};
  open(limited);
  EXPECT_EQ(engine_->acquire("large").error().code, Errc::kTooLarge);
}

// If this failed, a restart would begin with empty caches and every first request would wait.
TEST_F(EngineTest, ARestartBringsBackWhatWasResidentAndPinned) {
  make({"a", "b", "c", "d", "e"});
  open(config(2, 3));
  for (const char* name : {"a", "b", "c", "d"}) ASSERT_TRUE(engine_->acquire(name));
  ASSERT_TRUE(engine_->pin("b"));
  const std::uint32_t id = *engine_->adapter_id("d");
  ASSERT_TRUE(engine_->shutdown());
  EXPECT_EQ(engine_->acquire("a").error().code, Errc::kCancelled);
  open(config(2, 3));
  EXPECT_TRUE(eventually([this] { return engine_->status("b")->pinned; }));
  EXPECT_TRUE(
      eventually([this] { return engine_->status("d")->on_device && engine_->status("c")->on_host; }));
  EXPECT_FALSE(engine_->status("e")->on_host);
  EXPECT_EQ(*engine_->adapter_id("d"), id);
}

// If this failed, the engine would decide otherwise than the replay that sized it.
TEST_F(EngineTest, DecidesAsAReplayOfTheSameRequests) {
  std::vector<std::string> names;
  for (int i = 0; i < 20; ++i) names.push_back("adapter-" + std::to_string(i));
  for (int i = 0; i < 20; ++i) make({names[static_cast<std::size_t>(i)]}, i % 3 == 0 ? 64 : 8);
  Trace trace;
  std::vector<Row> uses;
  Rng rng(5);
  for (int i = 0; i < 400; ++i) uses.push_back(Row{std::min(rng.below(20), rng.below(20))});
  std::vector<Row> seen;  // rows are numbered by first appearance
  for (Row& use : uses) {
    auto found = std::find(seen.begin(), seen.end(), use);
    if (found == seen.end()) found = seen.insert(seen.end(), use);
    use = Row{static_cast<std::uint32_t>(found - seen.begin())};
  }
  std::vector<std::uint64_t> begin = {0};
  std::vector<char> text;
  for (const Row row : seen) {
    text.insert(text.end(), names[index_of(row)].begin(), names[index_of(row)].end());
    begin.push_back(text.size());
  }
  trace.requests = uses.size();
  trace.uses = Column<Row>(uses);
  trace.adapters.name = {Column<std::uint64_t>(begin), Column<char>(text)};
  const Result<AdapterWeights> weights = weigh_adapters(posix_files(), root(), Dtype::kBf16);
  ASSERT_TRUE(weights) << weights.error().message;
  ASSERT_EQ(add_weights(trace, *weights), seen.size());
  const Result<BatchStream> stream = make_batch_stream(trace);
  ASSERT_TRUE(stream);

  for (const char* policy :
       {"lru/lru", "sieve/sieve", "gdsf/gdsf", "s3fifo/s3fifo", "sieve/gdsf", "arc/lfu"}) {
    TierOptions options;
    options.tiers = policy;
    options.max_loras = 3;
    options.max_cpu_loras = 8;
    options.cpu_memory = Bytes{600'000};
    const Result<TierReplay> replayed = replay_tiers(*stream, options);
    ASSERT_TRUE(replayed) << replayed.error().message;
    EngineConfig same = config(3, 8);
    same.database.clear();
    same.policy = policy;
    same.cpu_memory = options.cpu_memory;
    same.adapters_max = trace.rows();
    open(same);
    for (const Row use : uses) ASSERT_TRUE(engine_->acquire(trace.adapters.name[index_of(use)]));
    const EngineStats stats = engine_->stats();
    EXPECT_EQ(stats.decision_log_hash, replayed->decision_log_hash) << policy;
    EXPECT_EQ(stats.counts, replayed->counts) << policy;
  }
}

}  // namespace
}  // namespace loracle
