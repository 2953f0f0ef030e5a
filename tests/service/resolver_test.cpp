// The chain of resolvers: order, names, base models, shared rounds, what is remembered, and who hangs.

#include "loracle/service/resolver.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <filesystem>
#include <future>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "service/resolver_world.hpp"
#include "support/eventually.hpp"

namespace loracle {
namespace {

using testing::FakeResolver;
using testing::make_folder;
using testing::ManualTime;
using testing::MemoryStorage;
using testing::TempDir;

/// Opens once.
class Gate {
 public:
  void open() {
    {
      const std::lock_guard lock(mutex_);
      is_open_ = true;
    }
    changed_.notify_all();
  }
  void pass() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return is_open_; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool is_open_ = false;
};

class ResolverChainTest : public ::testing::Test {
 protected:
  ResolverChainTest() {
    world_.clock = &posix_clock();
    world_.files = &posix_files();
    world_.storage = {&s3_, &https_};
    world_.base_models = {"llama", "meta/llama"};
    config_.deadline_ms = 60'000;
  }

  std::shared_ptr<FakeResolver> fake(const std::string& name, FakeResolver::Locate locate) {
    return std::make_shared<FakeResolver>(name, std::move(locate));
  }
  std::shared_ptr<FakeResolver> none(const std::string& name, std::atomic<int>& asked) {
    return fake(name, [&asked](const std::string&, const std::string&) -> Result<std::string> {
      ++asked;
      return fail(Errc::kNotFound, "none");
    });
  }
  std::unique_ptr<ResolverChain> chain_of(std::vector<std::shared_ptr<AdapterResolver>> resolvers) {
    return std::make_unique<ResolverChain>(std::move(resolvers), config_, world_);
  }
  /// As a configuration makes it.
  std::unique_ptr<ResolverChain> configured() {
    auto made = ResolverRegistry().make_chain(config_, world_);
    EXPECT_TRUE(made) << made.error().message;
    return made ? chain_of(*made) : nullptr;
  }
  std::string refusal() {
    auto made = ResolverRegistry().make_chain(config_, world_);
    return made ? "no refusal" : made.error().message;
  }

  TempDir dir_;
  MemoryStorage s3_{"s3"};
  MemoryStorage https_{"https"};
  ResolverWorld world_;
  ResolverConfig config_;
};

TEST_F(ResolverChainTest, OnceItIsStoppedNobodyWaitsForACall) {
  // If this failed, a service that was told to end at once would wait for the slowest of its resolvers.
  Gate gate;
  Gate asked;
  std::atomic<int> asked_after = 0;
  const auto chain = chain_of({fake("slow",
                                    [&](const std::string&, const std::string&) -> Result<std::string> {
                                      asked.open();
                                      gate.pass();
                                      return fail(Errc::kNotFound, "none");
                                    }),
                               none("next", asked_after)});
  auto answer = std::async(std::launch::async, [&] { return chain->resolve("", "sql"); });
  asked.pass();
  chain->stop();
  EXPECT_EQ(answer.get().error().code, Errc::kCancelled);
  EXPECT_EQ(chain->stats().resolvers[0].hung, 1U);
  EXPECT_EQ(chain->resolve("", "other").error().code, Errc::kCancelled);
  EXPECT_EQ(asked_after, 0);
  gate.open();
  EXPECT_TRUE(testing::eventually([&] { return chain->stats().resolvers[0].hung == 0; }));
}

TEST_F(ResolverChainTest, AsksInOrderUntilSomebodyHasIt) {
  // If this failed, an adapter would come from somewhere else than its operator has decided.
  const std::string folder = make_folder(dir_, "sql");
  std::string asked;
  const auto says = [&](const std::string& name, bool has) {
    return fake(name, [&, name, has](const std::string&, const std::string&) -> Result<std::string> {
      asked += name;
      if (!has) return fail(Errc::kNotFound, "none");
      return folder;
    });
  };
  const auto chain = chain_of({says("a", false), says("b", true), says("c", true)});
  const Result<ResolvedAdapter> found = chain->resolve("", "sql");
  ASSERT_TRUE(found) << found.error().message;
  EXPECT_EQ(found->name, "sql");
  EXPECT_EQ(found->location, folder);
  EXPECT_EQ(found->base_model, "llama");
  EXPECT_EQ(asked, "ab");
  const ResolverChainStats stats = chain->stats();
  EXPECT_EQ(stats.resolvers[0].asked, 1U);
  EXPECT_EQ(stats.resolvers[1].found, 1U);
  EXPECT_EQ(stats.resolvers[2].asked, 0U);
}

TEST_F(ResolverChainTest, RefusesNamesThatCouldLeaveADirectory) {
  // If this failed, a client could have any directory of the machine served.
  std::atomic<int> asked = 0;
  config_.cache_dir = dir_.path().string();
  const auto chain = chain_of({none("spy", asked)});
  const auto files = configured();
  for (const std::string name : {"../x", "/etc", "a/b", "..", ".", "", ".hidden", "a\nb"}) {
    for (ResolverChain* const one : {chain.get(), files.get()}) {
      const Result<ResolvedAdapter> found = one->resolve("", name);
      ASSERT_FALSE(found) << name;
      EXPECT_EQ(found.error().code, Errc::kInvalid) << name;
    }
  }
  const Result<ResolvedAdapter> zero = chain->resolve("", std::string("a\0b", 3));
  EXPECT_EQ(zero.error().code, Errc::kInvalid);
  EXPECT_EQ(asked, 0) << "nobody is even asked";
}

TEST_F(ResolverChainTest, ChecksTheBaseModelThatIsAskedForAndTheAdapters) {
  // If this failed, an adapter would be applied to a model it was not trained on.
  config_.cache_dir = dir_.path().string();
  make_folder(dir_, "ours", "meta/llama");
  make_folder(dir_, "theirs", "mistral");
  make_folder(dir_, "silent", "");
  const auto chain = configured();
  EXPECT_EQ(chain->resolve("", "ours")->base_model, "llama");
  EXPECT_EQ(chain->resolve("meta/llama", "ours")->base_model, "meta/llama") << "an alias is accepted";
  EXPECT_TRUE(chain->resolve("llama", "silent")) << "one that names no base model may be of any";
  const Result<ResolvedAdapter> theirs = chain->resolve("", "theirs");
  ASSERT_FALSE(theirs);
  EXPECT_EQ(theirs.error().code, Errc::kInvalid);
  EXPECT_NE(theirs.error().message.find("'mistral'"), std::string::npos) << theirs.error().message;
  const Result<ResolvedAdapter> asked = chain->resolve("mistral", "ours");
  ASSERT_FALSE(asked);
  EXPECT_EQ(asked.error().code, Errc::kInvalid);
  EXPECT_NE(asked.error().message.find("llama or meta/llama"), std::string::npos) << asked.error().message;
}

TEST_F(ResolverChainTest, WithoutABaseModelTheRequestsCounts) {
  // If this failed, a server without a configured base model would hand out adapters of any model.
  world_.base_models.clear();
  config_.cache_dir = dir_.path().string();
  make_folder(dir_, "sql", "llama");
  const auto chain = configured();
  EXPECT_EQ(chain->resolve("", "sql")->base_model, "llama");
  EXPECT_EQ(chain->resolve("llama", "sql")->base_model, "llama");
  EXPECT_EQ(chain->resolve("mistral", "sql").error().code, Errc::kInvalid);
}

TEST_F(ResolverChainTest, FilesystemTellsPathsFromTheRootOn) {
  // If this failed, a client that runs elsewhere would look for the adapter in a directory of its own.
  make_folder(dir_, "sql", "llama");
  config_.cache_dir = std::filesystem::relative(dir_.path()).string();
  ASSERT_FALSE(config_.cache_dir.starts_with('/'));
  const Result<ResolvedAdapter> found = configured()->resolve("", "sql");
  ASSERT_TRUE(found) << found.error().message;
  EXPECT_EQ(found->location, (dir_ / "sql").string());
}

TEST_F(ResolverChainTest, FilesystemRefusesLinksThatLeadOut) {
  // If this failed, a link in the cache directory would open the whole machine.
  const TempDir elsewhere;
  make_folder(elsewhere, "secret");
  std::filesystem::create_directory_symlink(elsewhere / "secret", dir_ / "link");
  make_folder(dir_, "real");
  std::filesystem::create_directory_symlink(dir_ / "real", dir_ / "inner");
  config_.cache_dir = dir_.path().string();
  const auto chain = configured();
  EXPECT_EQ(chain->resolve("", "link").error().code, Errc::kInvalid);
  EXPECT_TRUE(chain->resolve("", "inner"));
}

TEST_F(ResolverChainTest, FindsAdaptersInStorageAndInTheCatalog) {
  // If this failed, adapters outside of this machine could not be resolved.
  s3_.objects["s3://bucket/loras/far/adapter_config.json"] = testing::config_json("llama");
  https_.objects["https://host/a/odd%20name/adapter_config.json"] = testing::config_json("llama");
  const std::string folder = make_folder(dir_, "known-folder");
  config_.s3_prefix = "s3://bucket/loras/";
  config_.http_prefix = "https://host/a";
  world_.catalog = [&](const std::string& name) -> Result<std::string> {
    if (name == "known") return folder;
    return fail(Errc::kNotFound, "not in the catalog");
  };
  const auto chain = configured();
  EXPECT_EQ(chain->resolve("", "far")->location, "s3://bucket/loras/far");
  EXPECT_EQ(chain->resolve("", "odd name")->location, "https://host/a/odd%20name");
  EXPECT_EQ(chain->resolve("", "known")->location, folder);
  const Result<ResolvedAdapter> nowhere = chain->resolve("", "nowhere");
  ASSERT_FALSE(nowhere);
  EXPECT_EQ(nowhere.error().code, Errc::kNotFound);
  EXPECT_NE(nowhere.error().message.find("s3: has none; catalog: has none; http: has none"),
            std::string::npos)
      << nowhere.error().message;
}

TEST_F(ResolverChainTest, ARefusalIsAnsweredOnlyIfNobodyElseHasIt) {
  // If this failed, one damaged copy would hide the sound one.
  const std::string folder = make_folder(dir_, "sql");
  const auto broken = fake("broken", [](const std::string&, const std::string&) -> Result<std::string> {
    return fail(Errc::kCorrupt, "damaged");
  });
  const auto sound = fake("sound", [&](const std::string&, const std::string& name) -> Result<std::string> {
    if (name != "sql") return fail(Errc::kNotFound, "none");
    return folder;
  });
  const auto chain = chain_of({broken, sound});
  EXPECT_TRUE(chain->resolve("", "sql"));
  const Result<ResolvedAdapter> other = chain->resolve("", "other");
  EXPECT_EQ(other.error().code, Errc::kCorrupt);
  EXPECT_NE(other.error().message.find("broken: damaged; sound: has none"), std::string::npos);
  EXPECT_EQ(chain->stats().resolvers[0].failed, 2U);
}

TEST_F(ResolverChainTest, CallersOfOneNameShareOneRound) {
  // If this failed, a burst of requests for a new adapter would ask its storage a hundred times.
  const std::string folder = make_folder(dir_, "sql");
  Gate gate;
  std::atomic<int> asked = 0;
  const auto chain =
      chain_of({fake("slow", [&](const std::string&, const std::string&) -> Result<std::string> {
        ++asked;
        gate.pass();
        return folder;
      })});
  std::vector<std::thread> callers;
  std::atomic<int> found = 0;
  for (int i = 0; i < 8; ++i) callers.emplace_back([&] { found += chain->resolve("", "sql") ? 1 : 0; });
  while (chain->stats().shared < 7) std::this_thread::yield();
  gate.open();
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(asked, 1);
  EXPECT_EQ(found, 8);
  EXPECT_EQ(chain->stats().requests, 8U);
}

TEST_F(ResolverChainTest, RemembersBrieflyThatNobodyHasIt) {
  // If this failed, each request for a misspelt name would go to every storage.
  ManualTime time;
  world_.clock = &time;
  config_.negative_ttl_ms = 1000;
  std::atomic<int> asked = 0;
  const auto chain = chain_of({none("a", asked)});
  EXPECT_FALSE(chain->resolve("", "sql"));
  EXPECT_FALSE(chain->resolve("", "sql"));
  EXPECT_EQ(asked, 1);
  EXPECT_EQ(chain->stats().negatives_answered, 1U);
  EXPECT_FALSE(chain->resolve("llama", "sql")) << "another question";
  EXPECT_EQ(asked, 2);
  time.now += 999'999'998;
  EXPECT_FALSE(chain->resolve("", "sql"));
  EXPECT_EQ(asked, 2);
  time.now += 2;
  EXPECT_FALSE(chain->resolve("", "sql"));
  EXPECT_EQ(asked, 3);
  chain->forget_negatives();
  EXPECT_FALSE(chain->resolve("", "sql"));
  EXPECT_EQ(asked, 4);
}

TEST_F(ResolverChainTest, RemembersNoFailureAndNotMoreNamesThanItMay) {
  // If this failed, a storage that was away for a second would be away for longer, or names from the network
  // would fill the memory.
  std::atomic<int> asked = 0;
  const auto chain =
      chain_of({fake("away", [&](const std::string&, const std::string& name) -> Result<std::string> {
        ++asked;
        return fail(name == "sql" ? Errc::kIo : Errc::kNotFound, "away");
      })});
  EXPECT_FALSE(chain->resolve("", "sql"));
  EXPECT_FALSE(chain->resolve("", "sql"));
  EXPECT_EQ(asked, 2);
  EXPECT_EQ(ResolverChain::kNamesRemembered, 1024U);
  for (int i = 0; i < 1100; ++i) EXPECT_FALSE(chain->resolve("", "n" + std::to_string(i)));
  const int before = asked;
  for (int i = 0; i < 1100; ++i) EXPECT_FALSE(chain->resolve("", "n" + std::to_string(i)));
  EXPECT_GE(asked - before, 1100 - 1024);
}

TEST_F(ResolverChainTest, AResolverThatThrowsCostsItsCallOnly) {
  // If this failed, a plugin's exception would end the server.
  const std::string folder = make_folder(dir_, "sql");
  const auto chain =
      chain_of({fake("throws",
                     [](const std::string&, const std::string&) -> Result<std::string> {
                       throw std::runtime_error("out of luck");
                     }),
                fake("sound", [&](const std::string&, const std::string& name) -> Result<std::string> {
                  if (name != "sql") return fail(Errc::kNotFound, "none");
                  return folder;
                })});
  EXPECT_TRUE(chain->resolve("", "sql"));
  EXPECT_NE(chain->resolve("", "x").error().message.find("out of luck"), std::string::npos);
}

TEST_F(ResolverChainTest, AResolverThatHangsIsGivenUpAndThenPassedOver) {
  // If this failed, one dead mount would hold every request, or pile up threads without end.
  auto gate = std::make_shared<Gate>();
  const std::string folder = make_folder(dir_, "sql");
  auto entered = std::make_shared<std::atomic<std::uint32_t>>(0);
  ManualTime time;
  world_.clock = &time;
  config_.deadline_ms = 20;
  config_.negative_ttl_ms = 0;
  const auto hangs =
      fake("hangs", [gate, entered](const std::string&, const std::string&) -> Result<std::string> {
        ++*entered;
        gate->pass();
        return fail(Errc::kNotFound, "none");
      });
  const auto sound = fake("sound", [&](const std::string&, const std::string& name) -> Result<std::string> {
    if (name != "sql") return fail(Errc::kNotFound, "none");
    return folder;
  });
  const auto chain = chain_of({hangs, sound});
  for (std::uint32_t i = 1; i <= ResolverChain::kHungMax; ++i) {
    std::thread caller([&] { EXPECT_TRUE(chain->resolve("", "sql")); });
    while (*entered < i) std::this_thread::yield();
    time.now += 20'000'000;  // the deadline of this call, and of none that begins now
    caller.join();
  }
  ResolverStats stats = chain->stats().resolvers[0];
  EXPECT_EQ(stats.timed_out, ResolverChain::kHungMax);
  EXPECT_EQ(stats.hung, ResolverChain::kHungMax);
  EXPECT_EQ(stats.passed_over, 0U);
  EXPECT_TRUE(chain->resolve("", "sql"));
  EXPECT_EQ(chain->stats().resolvers[0].passed_over, 1U);
  EXPECT_EQ(chain->stats().resolvers[0].asked, ResolverChain::kHungMax);
  EXPECT_EQ(chain->resolve("", "x").error().code, Errc::kBusy);
  gate->open();
  while (chain->stats().resolvers[0].hung > 0) std::this_thread::yield();
  EXPECT_TRUE(chain->resolve("", "sql"));
  EXPECT_EQ(chain->stats().resolvers[0].asked, ResolverChain::kHungMax + 1) << "it is asked again";
}

TEST_F(ResolverChainTest, TheChainIsAsConfigured) {
  // If this failed, who is asked would not be what the settings say.
  const auto names = [&] {
    std::string text;
    const auto made = ResolverRegistry().make_chain(config_, world_);
    if (!made) return made.error().message;
    for (const auto& resolver : *made) text += std::string(resolver->name()) + " ";
    return text;
  };
  EXPECT_EQ(names(), "") << "all: but nothing is configured";
  config_.cache_dir = dir_.path().string();
  config_.s3_prefix = "s3://b/p";
  config_.http_prefix = "https://h/p";
  EXPECT_EQ(names(), "filesystem s3 http ");
  world_.catalog = [](const std::string&) -> Result<std::string> { return fail(Errc::kNotFound, ""); };
  EXPECT_EQ(names(), "filesystem s3 catalog http ");
  config_.chain = {"http", "lora_filesystem_resolver", "http"};
  EXPECT_EQ(names(), "http filesystem ");
  config_.chain = {};
  EXPECT_EQ(names(), "");
}

TEST_F(ResolverChainTest, AChainThatCannotWorkIsRefusedAtTheStart) {
  // If this failed, a server would start and refuse every adapter.
  config_.chain = {"filesystem"};
  EXPECT_NE(refusal().find("VLLM_LORA_RESOLVER_CACHE_DIR"), std::string::npos) << refusal();
  config_.cache_dir = "/nowhere/at/all";
  EXPECT_NE(refusal().find("/nowhere/at/all"), std::string::npos) << refusal();
  config_.chain = {"s3"};
  EXPECT_NE(refusal().find("set resolver.s3_prefix"), std::string::npos) << refusal();
  config_.s3_prefix = "s3://b/p";
  world_.storage.clear();
  EXPECT_NE(refusal().find("storage.providers"), std::string::npos) << refusal();
  config_.chain = {"filesytem"};
  EXPECT_NE(refusal().find("did you mean 'filesystem'"), std::string::npos) << refusal();
}

TEST_F(ResolverChainTest, TheRegistryTakesMore) {
  // If this failed, a program that embeds the service could not bring its own resolver.
  ResolverRegistry registry;
  const std::string folder = make_folder(dir_, "sql");
  const MakeResolver make = [&](const ResolverConfig&,
                                const ResolverWorld&) -> Result<std::shared_ptr<AdapterResolver>> {
    return fake("mine",
                [&](const std::string&, const std::string&) -> Result<std::string> { return folder; });
  };
  ASSERT_TRUE(registry.add("mine", make));
  EXPECT_EQ(registry.add("mine", make).error().code, Errc::kInvalid);
  EXPECT_EQ(registry.add("s3", make).error().code, Errc::kInvalid);
  EXPECT_EQ(registry.add("all", make).error().code, Errc::kInvalid);
  config_.chain = {"mine"};
  const auto made = registry.make_chain(config_, world_);
  ASSERT_TRUE(made) << made.error().message;
  EXPECT_EQ(chain_of(*made)->resolve("", "sql")->location, folder);
}

}  // namespace
}  // namespace loracle
