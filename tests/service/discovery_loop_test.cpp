// The discovery loop on directories and storage: what comes, goes and changes, what is in the way, and what
// is not its business.

#include "loracle/service/discovery_loop.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "loracle/engine/make_adapters.hpp"
#include "service/resolver_world.hpp"
#include "support/temp_dir.hpp"

namespace loracle {
namespace {

namespace fs = std::filesystem;
using testing::MemoryStorage;
using testing::TempDir;
using Strings = std::vector<std::string>;

/// Keeps what it is told, and refuses what a test wants it to.
class FakeTarget final : public DiscoveryTarget {
 public:
  [[nodiscard]] Result<Unit> add(const std::string& name, const std::string& location) override {
    log.push_back("add " + name);
    if (on_add) on_add();
    if (const auto refused = refusals.find(location); refused != refusals.end()) return fail(refused->second);
    known[name] = location;
    return Unit{};
  }
  [[nodiscard]] Result<Unit> remove(const std::string& name) override {
    log.push_back("remove " + name);
    if (known.erase(name) == 0) return fail(Errc::kNotFound, name);
    return Unit{};
  }
  [[nodiscard]] std::optional<std::string> location(const std::string& name) override {
    const auto found = known.find(name);
    return found == known.end() ? std::nullopt : std::optional(found->second);
  }
  [[nodiscard]] bool knows(const std::string& name) const { return known.contains(name); }

  /// What it was told since the last call.
  Strings told() { return std::exchange(log, {}); }

  Strings log;
  std::map<std::string, std::string> known;
  std::map<std::string, Error> refusals;  // by location
  std::function<void()> on_add;
};

class DiscoveryLoopTest : public ::testing::Test {
 protected:
  DiscoveryLoopTest() {
    options_.discovery.watch = false;
    options_.discovery.prefixes = {dir_.path().string()};
  }
  DiscoveryLoop& loop() {
    if (!loop_)
      loop_ = std::make_unique<DiscoveryLoop>(
          options_, DiscoveryWorld{&target_, &posix_files(), &posix_clock(), {&s3_}});
    return *loop_;
  }
  DiscoveryRound round() { return loop().run_round(); }

  static void make(const TempDir& dir, const std::string& name, const std::string& required = "") {
    fs::create_directories(dir / name);
    dir.write(name + "/adapter_config.json", "{}");
    dir.write(name + "/adapter_model.safetensors", "weights");
    if (!required.empty()) dir.write(name + "/loracle.json", required);
  }
  void put(const std::string& folder, const std::string& bytes = "1") {
    s3_.objects["s3://b/p/" + folder + "/adapter_config.json"] = bytes;
    s3_.objects["s3://b/p/" + folder + "/adapter_model.safetensors"] = bytes;
  }

  TempDir dir_;
  MemoryStorage s3_{"s3"};
  FakeTarget target_;
  DiscoveryOptions options_;
  std::unique_ptr<DiscoveryLoop> loop_;  // goes first
};

TEST_F(DiscoveryLoopTest, AddsRemovesAndReplacesAsTheFilesAre) {
  // If this failed, a server would serve adapters that are gone, or miss those that came.
  make(dir_, "a");
  make(dir_, "b");
  make(dir_, ".hidden");
  fs::create_directories(dir_ / "empty");
  dir_.write("file", "no folder");
  DiscoveryRound first = round();
  EXPECT_EQ(first.added, (Strings{"a", "b"}));
  EXPECT_EQ(first.found_total, 2U);
  EXPECT_EQ(target_.told(), (Strings{"add a", "add b"}));
  EXPECT_EQ(round().unchanged, 2U);
  EXPECT_TRUE(target_.told().empty()) << "what is as it was is left alone";

  fs::remove_all(dir_ / "a");
  dir_.write("b/adapter_model.safetensors", "other weights");
  make(dir_, "c");
  const DiscoveryRound second = round();
  EXPECT_EQ(second.removed, Strings{"a"});
  EXPECT_EQ(second.changed, Strings{"b"});
  EXPECT_EQ(second.added, Strings{"c"});
  EXPECT_EQ(target_.told(), (Strings{"remove a", "add b", "add c"}));
  EXPECT_EQ(target_.known["c"], (dir_ / "c").string());
}

TEST_F(DiscoveryLoopTest, RefreshAnswersAsTheRouteDoes) {
  // If this failed, POST /v1/refresh_lora_discovery would tell wrong numbers.
  make(dir_, "a");
  make(dir_, "b");
  Result<DiscoveryReport> report = loop().refresh();
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_EQ(report->found_total, 2U);
  EXPECT_EQ(report->added, (Strings{"a", "b"}));
  make(dir_, "c");
  report = loop().refresh();
  EXPECT_EQ(report->found_total, 3U);
  EXPECT_EQ(report->added, Strings{"c"});
}

TEST_F(DiscoveryLoopTest, RefreshWithoutAPrefixOrWithNoneThatWorksSaysSo) {
  // If this failed, a client would be told that all is well while nothing was looked at.
  options_.discovery.prefixes = {"/nowhere/1", "/nowhere/2"};
  const Result<DiscoveryReport> none = loop().refresh();
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().code, Errc::kIo);
  EXPECT_NE(none.error().message.find("/nowhere/1"), std::string::npos);
  EXPECT_NE(none.error().message.find("--lora-dir-prefix"), std::string::npos) << "it says what to do";
  options_.discovery.prefixes.clear();
  loop_.reset();
  const Result<DiscoveryReport> unset = loop().refresh();
  ASSERT_FALSE(unset);
  EXPECT_EQ(unset.error().code, Errc::kInvalid);
  EXPECT_NE(unset.error().message.find("--lora-dir-prefix"), std::string::npos);
}

TEST_F(DiscoveryLoopTest, APrefixThatFailsStopsNobodyAndLosesNothing) {
  // If this failed, a mount that is away for a minute would take all adapters from the server.
  const TempDir other;
  make(dir_, "a");
  make(other, "b");
  put("c");
  options_.discovery.prefixes = {(dir_ / "gone").string(), dir_.path().string(), other.path().string(),
                                 "s3://b/p"};
  EXPECT_EQ(round().added, (Strings{"a", "b", "c"}));
  fs::rename(other.path(), other.path().string() + ".away");
  s3_.list_error = Error{Errc::kIo, "no route to host", 0};
  make(dir_, "d");
  const DiscoveryRound without = round();
  EXPECT_EQ(without.added, Strings{"d"});
  EXPECT_TRUE(without.removed.empty()) << "nobody has asked for that";
  EXPECT_EQ(without.prefixes_failed, 3U);
  ASSERT_EQ(without.failures.size(), 3U);
  EXPECT_NE(without.failures[2].find("s3://b/p: no route to host"), std::string::npos);
  EXPECT_EQ(without.found_total, 4U);
  fs::rename(other.path().string() + ".away", other.path());
  s3_.list_error.reset();
  s3_.objects.clear();
  EXPECT_EQ(round().removed, Strings{"c"}) << "storage that answers that nothing is there is believed";
}

TEST_F(DiscoveryLoopTest, ABadAdapterIsReportedOnceAndTriedWhenItChanges) {
  // If this failed, one half-copied adapter would stop discovery, or be read again every few seconds.
  make(dir_, "bad");
  make(dir_, "good");
  target_.refusals[(dir_ / "bad").string()] = Error{Errc::kCorrupt, "header is cut off", 0};
  DiscoveryRound now = round();
  EXPECT_EQ(now.added, Strings{"good"});
  EXPECT_EQ(now.rejected, Strings{"bad: header is cut off"});
  target_.told();
  EXPECT_EQ(round().rejected, Strings{"bad: header is cut off"});
  EXPECT_TRUE(target_.told().empty()) << "its files are as they were";
  target_.refusals.clear();
  dir_.write("bad/adapter_model.safetensors", "whole now");
  now = round();
  EXPECT_EQ(now.added, Strings{"bad"});
  EXPECT_TRUE(now.rejected.empty());
  dir_.write("bad/adapter_model.safetensors", "bad once more");
  target_.refusals[(dir_ / "bad").string()] = Error{Errc::kInvalid, "rank is too large", 0};
  now = round();
  EXPECT_EQ(now.removed, Strings{"bad"});
  EXPECT_FALSE(target_.knows("bad"));
}

TEST_F(DiscoveryLoopTest, WhatCouldNotBeExaminedIsTriedEveryRoundAndKept) {
  // If this failed, one failed read would cost an adapter until its files change.
  make(dir_, "a");
  round();
  dir_.write("a/adapter_model.safetensors", "newer weights");
  target_.refusals[(dir_ / "a").string()] = Error{Errc::kIo, "stale handle", 0};
  target_.told();
  EXPECT_EQ(round().rejected, Strings{"a: stale handle"});
  EXPECT_EQ(round().removed, Strings{});
  EXPECT_EQ(target_.told(), (Strings{"add a", "add a"}));
  target_.refusals.clear();
  EXPECT_EQ(round().changed, Strings{"a"});
}

TEST_F(DiscoveryLoopTest, ExplicitModulesWinAndAreRetried) {
  // If this failed, a folder in a shared directory would be served under a name its operator has given away.
  make(dir_, "a");
  make(dir_, "b");
  options_.modules = {{"b", "/named/b", ""}, {"m", "/named/m", ""}};
  target_.refusals["/named/m"] = Error{Errc::kNotFound, "/named/m: no such directory", 0};
  DiscoveryRound now = round();
  EXPECT_EQ(target_.known["b"], "/named/b");
  EXPECT_EQ(now.clashes,
            Strings{"b: --lora-modules has that name; " + (dir_ / "b").string() + " is left out"});
  EXPECT_EQ(now.rejected, Strings{"m: --lora-modules: /named/m: no such directory"});
  EXPECT_EQ(now.found_total, 2U);
  target_.refusals.clear();
  now = round();
  EXPECT_EQ(now.added, Strings{"m"});
  EXPECT_EQ(target_.known["m"], "/named/m");
  EXPECT_EQ(now.found_total, 3U);
  ASSERT_TRUE(target_.remove("m"));
  now = round();
  EXPECT_EQ(now.unloaded, Strings{"m: a client has unloaded it: load it again"});
  EXPECT_EQ(now.found_total, 2U);
  EXPECT_FALSE(target_.knows("m"));
}

TEST_F(DiscoveryLoopTest, WhatClientsDoIsLeftAlone) {
  // If this failed, discovery would replace or remove what a client has loaded, and bring back what it
  // unloaded.
  make(dir_, "a");
  make(dir_, "theirs");
  target_.known["theirs"] = "/loaded/by/a/client";
  target_.known["also"] = "/loaded/too";
  DiscoveryRound now = round();
  EXPECT_EQ(now.added, Strings{"a"});
  ASSERT_EQ(now.clashes.size(), 1U);
  EXPECT_NE(now.clashes[0].find("theirs: an adapter that a client has loaded"), std::string::npos);
  ASSERT_TRUE(target_.remove("a"));
  for (int look = 0; look < 2; ++look) {
    now = round();
    ASSERT_EQ(now.unloaded.size(), 1U);
    EXPECT_EQ(now.unloaded[0],
              "a: a client has unloaded it: load it again, or change its files for discovery to do so");
    EXPECT_EQ(now.found_total, 0U);
    EXPECT_FALSE(target_.knows("a"));
  }
  EXPECT_TRUE(target_.knows("also"));
  dir_.write("a/adapter_model.safetensors", "newer weights");
  now = round();
  EXPECT_TRUE(target_.knows("a")) << "new files are a new adapter";
  EXPECT_EQ(now.found_total, 1U);
  EXPECT_TRUE(now.unloaded.empty());
}

TEST_F(DiscoveryLoopTest, WhatAClientUnloadedIsNotThereForOthers) {
  // If this failed, an adapter would be served without the one that it requires, or counted while its new
  // files cannot be read.
  make(dir_, "a");
  make(dir_, "b", R"({"requires": ["a"]})");
  EXPECT_EQ(round().found_total, 2U);
  ASSERT_TRUE(target_.remove("a"));
  DiscoveryRound now = round();
  EXPECT_EQ(now.rejected, Strings{"b: requires 'a', which is not served"});
  EXPECT_EQ(now.removed, Strings{"b"});
  EXPECT_EQ(now.found_total, 0U);
  dir_.write("a/adapter_model.safetensors", "newer weights");
  target_.refusals[(dir_ / "a").string()] = Error{Errc::kIo, "stale handle"};
  now = round();
  EXPECT_EQ(now.found_total, 0U);
  EXPECT_EQ(now.unloaded.size(), 1U);
  target_.refusals.clear();
  now = round();
  EXPECT_EQ(now.found_total, 2U);
  EXPECT_TRUE(now.unloaded.empty());
}

TEST_F(DiscoveryLoopTest, WhatAClientUnloadedStaysAwayWhileItsRequirementComesAndGoes) {
  // If this failed, an adapter that an operator has taken out of service would serve again by itself.
  make(dir_, "a");
  make(dir_, "b", R"({"requires": ["a"]})");
  EXPECT_EQ(round().found_total, 2U);
  ASSERT_TRUE(target_.remove("b"));
  EXPECT_EQ(round().unloaded.size(), 1U);
  ASSERT_TRUE(target_.remove("a"));
  DiscoveryRound now = round();
  EXPECT_EQ(now.unloaded.size(), 2U);
  EXPECT_TRUE(now.removed.empty()) << "a client did that";
  ASSERT_TRUE(target_.add("a", (dir_ / "a").string()));
  target_.told();
  now = round();
  EXPECT_EQ(now.unloaded.size(), 1U);
  EXPECT_EQ(now.found_total, 1U);
  EXPECT_TRUE(target_.told().empty());
  fs::remove_all(dir_ / "b");
  now = round();
  EXPECT_TRUE(now.unloaded.empty());
  EXPECT_TRUE(now.removed.empty()) << "it was not there";
  make(dir_, "b", R"({"requires": ["a"]})");
  EXPECT_EQ(round().added, Strings{"b"});
}

TEST_F(DiscoveryLoopTest, WhatAClientLoadsInPlaceIsTheClients) {
  // If this failed, an adapter that a client has put under a discovered name would be overwritten when the
  // old files change, and removed when they go.
  make(dir_, "a");
  make(dir_, "b@1");
  EXPECT_EQ(round().added, (Strings{"a", "b", "b@1"}));
  target_.known["a"] = "/loaded/in/place";
  target_.known["b"] = "/loaded/in/place/too";
  dir_.write("a/adapter_model.safetensors", "newer weights");
  make(dir_, "b@2");
  target_.told();
  DiscoveryRound now = round();
  EXPECT_EQ(target_.told(), Strings{"add b@2"});
  ASSERT_EQ(now.clashes.size(), 2U);
  EXPECT_EQ(now.clashes[0], "a: an adapter that a client has loaded has that name; " + (dir_ / "a").string() +
                                " is left out");
  EXPECT_TRUE(now.clashes[1].starts_with("b: an adapter that a client has loaded has that name"));
  fs::remove_all(dir_ / "a");
  fs::remove_all(dir_ / "b@1");
  fs::remove_all(dir_ / "b@2");
  now = round();
  EXPECT_EQ(now.removed, (Strings{"b@1", "b@2"}));
  EXPECT_EQ(target_.known["a"], "/loaded/in/place");
  EXPECT_EQ(target_.known["b"], "/loaded/in/place/too");
}

TEST_F(DiscoveryLoopTest, AClientMayTakeTheOneThatWasLeftOut) {
  // If this failed, a client could not choose the other of two adapters of one name.
  const TempDir other;
  options_.discovery.prefixes.push_back(other.path().string());
  make(dir_, "a");
  make(other, "a");
  EXPECT_EQ(round().added, Strings{"a"});
  target_.known["a"] = (other / "a").string();
  target_.told();
  EXPECT_EQ(round().clashes.size(), 2U);
  EXPECT_EQ(round().clashes.size(), 2U) << "and it stays so";
  EXPECT_TRUE(target_.told().empty());
}

TEST_F(DiscoveryLoopTest, WhatIsLoadedInTheMiddleOfARoundIsTheClients) {
  // If this failed, a client that is quicker than a long round would lose its adapter to it.
  make(dir_, "a");
  make(dir_, "b");
  target_.on_add = [this] { target_.known.try_emplace("b", "/loaded/meanwhile"); };
  const DiscoveryRound now = round();
  EXPECT_EQ(now.added, Strings{"a"});
  EXPECT_EQ(now.clashes,
            Strings{"b: an adapter that a client has loaded has that name now; it is left alone"});
  EXPECT_EQ(target_.known["b"], "/loaded/meanwhile");
}

TEST_F(DiscoveryLoopTest, WhatACatalogKeptFromThePrefixIsTheLoops) {
  // If this failed, adapters that were discovered before a restart would be taken for a client's: neither
  // replaced nor removed any more.
  make(dir_, "a");
  make(dir_, "s@1");
  target_.known["a"] = (dir_ / "a").string();
  target_.known["s"] = (dir_ / "s@1").string();
  DiscoveryRound now = round();
  EXPECT_TRUE(now.clashes.empty()) << now.clashes[0];
  EXPECT_EQ(now.found_total, 3U);
  fs::remove_all(dir_ / "a");
  EXPECT_EQ(round().removed, Strings{"a"});
}

TEST_F(DiscoveryLoopTest, WhatAResolverHasAddedFromThePrefixIsTheLoops) {
  // If this failed, an adapter that a resolver found where the loop could not for a moment would be refused
  // for ever once its files change.
  make(dir_, "a");
  const std::string location = (dir_ / "a").string();
  target_.refusals[location] = Error{Errc::kIo, "the network is away"};
  EXPECT_EQ(round().rejected.size(), 1U);
  target_.refusals.clear();
  target_.known["a"] = location;  // by a resolver, for somebody who asked
  DiscoveryRound now = round();
  EXPECT_TRUE(now.clashes.empty()) << now.clashes[0];
  EXPECT_EQ(now.found_total, 1U);
  dir_.write("a/adapter_model.safetensors", "newer weights");
  EXPECT_EQ(round().changed, Strings{"a"});
  fs::remove_all(dir_ / "a");
  EXPECT_EQ(round().removed, Strings{"a"});
}

TEST_F(DiscoveryLoopTest, EndsAfterTheAdapterItIsAt) {
  // If this failed, a signal would wait until ten thousand adapters have been examined.
  make(dir_, "a");
  make(dir_, "b");
  bool told = false;
  options_.on_round = [&told](const DiscoveryRound&) { told = true; };
  target_.on_add = [this] { loop().cancel(); };
  const Result<DiscoveryReport> report = loop().refresh();
  ASSERT_FALSE(report);
  EXPECT_EQ(report.error().code, Errc::kCancelled);
  EXPECT_EQ(target_.told(), Strings{"add a"});
  EXPECT_FALSE(told) << "it has not seen all";
}

TEST_F(DiscoveryLoopTest, ServesTheLatestVersionThatIsSound) {
  // If this failed, publishing a broken version would take the adapter from everybody.
  make(dir_, "s@1.9");
  EXPECT_EQ(round().added, (Strings{"s", "s@1.9"}));
  make(dir_, "s@1.10");
  target_.refusals[(dir_ / "s@1.10").string()] = Error{Errc::kCorrupt, "still being copied", 0};
  DiscoveryRound now = round();
  EXPECT_EQ(now.rejected, (Strings{"s: s@1.10: still being copied", "s@1.10: still being copied"}));
  EXPECT_TRUE(now.removed.empty());
  EXPECT_EQ(target_.known["s"], (dir_ / "s@1.9").string());
  target_.refusals.clear();
  dir_.write("s@1.10/adapter_model.safetensors", "whole now");
  now = round();
  EXPECT_EQ(now.changed, Strings{"s"});
  EXPECT_EQ(now.added, Strings{"s@1.10"});
  EXPECT_EQ(target_.known["s"], (dir_ / "s@1.10").string());
  fs::remove_all(dir_ / "s@1.10");
  now = round();
  EXPECT_EQ(target_.known["s"], (dir_ / "s@1.9").string()) << "and back again";
  EXPECT_EQ(now.removed, Strings{"s@1.10"});
}

TEST_F(DiscoveryLoopTest, RequirementsAreLoadedFirstAndMissed) {
  // If this failed, an adapter would be there before, or after, what it needs.
  make(dir_, "a", R"({"requires": ["b"]})");
  make(dir_, "b", R"({"requires": ["m"], "note": "other keys are others' business"})");
  make(dir_, "c", R"({"requires": ["nowhere"]})");
  make(dir_, "x", R"({"requires": ["y"]})");
  make(dir_, "y", R"({"requires": ["x"]})");
  make(dir_, "bad1", "[]");
  make(dir_, "bad2", R"({"requires": "b"})");
  make(dir_, "bad3", R"({"requires": [1]})");
  make(dir_, "bad4", R"({"requires": ["../b"]})");
  options_.modules = {{"m", "/m", ""}};
  DiscoveryRound now = round();
  EXPECT_EQ(target_.told(), (Strings{"add m", "add b", "add a"}));
  ASSERT_EQ(now.rejected.size(), 7U);
  EXPECT_NE(now.rejected[0].find("bad1: loracle.json is not a JSON object: write"), std::string::npos);
  EXPECT_NE(now.rejected[1].find("bad2: loracle.json: 'requires' is not a list"), std::string::npos);
  EXPECT_NE(now.rejected[2].find("bad3: loracle.json"), std::string::npos);
  EXPECT_NE(now.rejected[3].find("bad4: loracle.json"), std::string::npos);
  EXPECT_NE(now.rejected[4].find("c: requires 'nowhere'"), std::string::npos);
  EXPECT_NE(now.rejected[5].find("x -> y -> x"), std::string::npos);
  // What is required fails or goes: so does what requires it.
  dir_.write("b/adapter_model.safetensors", "broken");
  target_.refusals[(dir_ / "b").string()] = Error{Errc::kCorrupt, "broken", 0};
  now = round();
  EXPECT_EQ(now.removed, (Strings{"a", "b"}));
  EXPECT_NE(std::find(now.rejected.begin(), now.rejected.end(), "a: requires 'b', which is not served"),
            now.rejected.end());
  target_.refusals.clear();
  dir_.write("b/adapter_model.safetensors", "mended!");
  dir_.write("y/loracle.json", "{}");
  now = round();
  EXPECT_EQ(now.added, (Strings{"a", "b", "x", "y"}));
}

TEST_F(DiscoveryLoopTest, FindsAdaptersInStorage) {
  // If this failed, adapters of a bucket would have to be named one by one.
  options_.discovery.prefixes = {"s3://b/p/"};
  options_.discovery.exclude = {"*-draft"};
  put("a");
  put("b@2");
  put("c-draft");
  s3_.objects["s3://b/p/readme.txt"] = "no adapter";
  s3_.objects["s3://b/p/docs/index.html"] = "no adapter either";
  s3_.objects["s3://b/p/a/loracle.json"] = R"({"requires": ["b"]})";
  DiscoveryRound now = round();
  EXPECT_EQ(now.added, (Strings{"a", "b", "b@2"}));
  EXPECT_EQ(target_.known["a"], "s3://b/p/a");
  EXPECT_EQ(target_.known["b"], "s3://b/p/b@2");
  put("a", "other bytes");
  EXPECT_EQ(round().changed, Strings{"a"});
  s3_.objects["s3://b/p/a/loracle.json"] = std::string(100'000, ' ');
  now = round();
  ASSERT_EQ(now.rejected.size(), 1U);
  EXPECT_NE(now.rejected[0].find("s3://b/p/a/loracle.json: 100000 bytes"), std::string::npos)
      << now.rejected[0];
}

TEST_F(DiscoveryLoopTest, NamesThatCouldDoHarmAreRejected) {
  // If this failed, a folder's name could break a log or an answer.
  make(dir_, "line\nbreak");
  make(dir_, "good");
  const DiscoveryRound now = round();
  EXPECT_EQ(now.added, Strings{"good"});
  EXPECT_EQ(now.rejected.size(), 1U);
}

/// The real engine, on adapters that were made for it.
class DiscoveryOnEngineTest : public ::testing::Test {
 protected:
  static void make(const std::string& directory, const Strings& names, std::uint32_t rank = 8) {
    MakeAdaptersOptions options;
    options.directory = directory;
    options.names = names;
    options.ranks = {rank};
    options.model = *load_model_geometry("tiny");
    options.force = true;
    const Result<MadeAdapters> made = make_adapters(options);
    ASSERT_TRUE(made) << made.error().message;
  }
  void open(const std::string& directory) {
    EngineConfig config;
    config.directory = directory;
    config.max_loras = 2;
    config.max_cpu_loras = 4;
    config.max_lora_rank = 16;
    Result<std::unique_ptr<Engine>> opened =
        Engine::open(config, Env{&posix_clock(), &posix_files(), workers_.get(), device_.get()});
    ASSERT_TRUE(opened) << opened.error().message;
    engine_ = std::move(*opened);
    target_ = make_discovery_target(*engine_);
  }

  TempDir dir_;
  std::unique_ptr<Workers> workers_ = make_thread_workers(2);
  std::unique_ptr<DeviceMemory> device_ = make_host_memory_device();
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<DiscoveryTarget> target_;
};

TEST_F(DiscoveryOnEngineTest, ServesWhatItFindsInSeveralPrefixes) {
  // If this failed, discovery would say that it serves what the engine does not.
  const std::string first = (dir_ / "first").string();
  const std::string second = (dir_ / "second").string();
  make(first, {"a", "b-draft"});
  make(second, {"c@1", "c@2"});
  make(second, {"too-large"}, 64);
  open(first);
  DiscoveryOptions options;
  options.discovery.prefixes = {first, "file://" + second};
  options.discovery.exclude = {"*-draft"};
  options.discovery.watch = false;
  options.engine_directory = first + "/";
  DiscoveryLoop loop(options, {target_.get(), &posix_files(), &posix_clock(), {}});
  const DiscoveryRound now = loop.run_round();
  EXPECT_EQ(now.added, (Strings{"a", "c", "c@1", "c@2"}));
  ASSERT_EQ(now.rejected.size(), 1U);
  EXPECT_NE(now.rejected[0].find("too-large: "), std::string::npos) << now.rejected[0];
  EXPECT_TRUE(now.clashes.empty()) << now.clashes[0];
  Strings names;
  for (const AdapterStatus& status : engine_->list()) names.push_back(status.name);
  EXPECT_EQ(names, (Strings{"a", "c", "c@1", "c@2"})) << "the engine found the draft by itself, and lost it";
  EXPECT_TRUE(engine_->acquire("c"));
  fs::remove_all(dir_ / "first" / "a");
  EXPECT_EQ(loop.run_round().removed, Strings{"a"});
  EXPECT_EQ(engine_->acquire("a").error().code, Errc::kNotFound);
}

TEST_F(DiscoveryOnEngineTest, TakesOverWhatTheEngineHasFound) {
  // If this failed, a directory of ten thousand adapters would be entered into the catalog twice at each
  // start.
  const std::string root = (dir_ / "root").string();
  make(root, {"a", "b"});
  open(root);
  struct Counting final : DiscoveryTarget {
    explicit Counting(DiscoveryTarget& to) : target(to) {}
    [[nodiscard]] Result<Unit> add(const std::string& name, const std::string& location) override {
      ++adds;
      return target.add(name, location);
    }
    [[nodiscard]] Result<Unit> remove(const std::string& name) override { return target.remove(name); }
    [[nodiscard]] std::optional<std::string> location(const std::string& name) override {
      return target.location(name);
    }
    DiscoveryTarget& target;
    int adds = 0;
  } counting(*target_);
  /// Far enough from the files' times for them to be believed.
  struct Later final : TimeSource {
    [[nodiscard]] std::uint64_t now_ns() noexcept override { return posix_clock().now_ns(); }
    [[nodiscard]] std::int64_t unix_s() noexcept override { return posix_clock().unix_s() + 3600; }
  } later;
  DiscoveryOptions options;
  options.discovery.prefixes = {root};
  options.discovery.watch = false;
  options.engine_directory = root;
  DiscoveryLoop loop(options, {&counting, &posix_files(), &later, {}});
  EXPECT_EQ(loop.run_round().added, (Strings{"a", "b"}));
  EXPECT_EQ(counting.adds, 0);
  make(root, {"c"});
  EXPECT_EQ(loop.run_round().added, Strings{"c"});
  EXPECT_EQ(counting.adds, 1);
  EXPECT_TRUE(local_adapter_directories(options, posix_files()).empty()) << "the engine reads them itself";
  options.engine_directory.clear();
  EXPECT_EQ(local_adapter_directories(options, posix_files()),
            (Strings{root + "/a", root + "/b", root + "/c"}));
}

}  // namespace
}  // namespace loracle
