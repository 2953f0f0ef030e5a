// Resolvers that come as shared objects: one that works, and everything that can be wrong with one.

#include <dlfcn.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <string>
#include <thread>

#include "loracle/service/resolver.hpp"
#include "service/resolver_world.hpp"

namespace loracle {
namespace {

using testing::FakeResolver;
using testing::make_folder;
using testing::TempDir;

class ResolverPluginTest : public ::testing::Test {
 protected:
  ResolverPluginTest() {
    world_.clock = &posix_clock();
    world_.files = &posix_files();
    world_.base_models = {"llama"};
    config_.deadline_ms = 60'000;
    config_.negative_ttl_ms = 0;
    sql_ = make_folder(dir_, "sql");
  }

  /// The faulty plugin first, and behind it one that has every adapter.
  std::unique_ptr<ResolverChain> faulty_then_sound() {
    config_.plugins = {FAULTY_RESOLVER_PATH};
    config_.chain = {"faulty"};
    auto made = ResolverRegistry().make_chain(config_, world_);
    EXPECT_TRUE(made) << made.error().message;
    if (!made) return nullptr;
    made->push_back(std::make_shared<FakeResolver>(
        "sound", [this](const std::string&, const std::string&) -> Result<std::string> { return sql_; }));
    return std::make_unique<ResolverChain>(*made, config_, world_);
  }
  static std::string refusal(const std::string& path) {
    const auto plugin = load_resolver_plugin(path, 1000);
    return plugin ? "no refusal" : plugin.error().message;
  }

  TempDir dir_;
  std::string sql_;
  ResolverWorld world_;
  ResolverConfig config_;
};

TEST_F(ResolverPluginTest, TheExampleFindsAdapters) {
  // If this failed, the plugin that people start from would not work.
  ::setenv("EXAMPLE_RESOLVER_ROOT", dir_.path().c_str(), 1);
  config_.plugins = {EXAMPLE_RESOLVER_PATH};
  const auto made = ResolverRegistry().make_chain(config_, world_);
  ASSERT_TRUE(made) << made.error().message;
  ASSERT_EQ(made->size(), 1U) << "all: plugins too";
  ResolverChain chain(*made, config_, world_);
  const Result<ResolvedAdapter> found = chain.resolve("llama", "sql");
  ASSERT_TRUE(found) << found.error().message;
  EXPECT_EQ(found->location, sql_);
  EXPECT_EQ(chain.resolve("", "other").error().code, Errc::kNotFound);
  make_folder(dir_, "theirs", "mistral");
  EXPECT_EQ(chain.resolve("", "theirs").error().code, Errc::kInvalid) << "what a plugin answers is checked";
}

TEST_F(ResolverPluginTest, APluginThatDoesNotStartIsNamed) {
  // If this failed, a server would start without a resolver that its operator counts on.
  ::unsetenv("EXAMPLE_RESOLVER_ROOT");
  const std::string message = refusal(EXAMPLE_RESOLVER_PATH);
  EXPECT_NE(message.find(EXAMPLE_RESOLVER_PATH), std::string::npos);
  EXPECT_NE(message.find("'example' does not start (its code 1)"), std::string::npos) << message;
}

TEST_F(ResolverPluginTest, WhatIsNoPluginIsRefusedWithTheReason) {
  // If this failed, an operator would see a crash, or a symbol's name.
  EXPECT_NE(refusal("/nowhere/x.so").find("/nowhere/x.so"), std::string::npos);
  EXPECT_NE(refusal("x.so").find("./x.so"), std::string::npos) << "the library path is not searched";
  const std::string text = dir_.write("text.so", "this is no shared object");
  EXPECT_NE(refusal(text).find("cannot be loaded"), std::string::npos) << refusal(text);
  const std::string version = refusal(STALE_RESOLVER_PATH);
  EXPECT_NE(version.find("version 999"), std::string::npos) << version;
  EXPECT_NE(version.find("this loracle has 1"), std::string::npos) << version;
  void* const c_library = ::dlopen("libm.so.6", RTLD_NOW);
  ASSERT_NE(c_library, nullptr);
  Dl_info info{};
  ASSERT_NE(::dladdr(::dlsym(c_library, "cos"), &info), 0);
  EXPECT_NE(refusal(info.dli_fname).find("does not export loracle_resolver_plugin()"), std::string::npos)
      << refusal(info.dli_fname);
  ::dlclose(c_library);
}

TEST_F(ResolverPluginTest, TwoResolversOfOneNameAreRefused) {
  // If this failed, it would depend on their order which of them is asked.
  config_.plugins = {FAULTY_RESOLVER_PATH, FAULTY_RESOLVER_PATH};
  const auto made = ResolverRegistry().make_chain(config_, world_);
  ASSERT_FALSE(made);
  EXPECT_NE(made.error().message.find("'faulty'"), std::string::npos) << made.error().message;
}

TEST_F(ResolverPluginTest, AfterAPluginThatThrowsOrTalksNonsenseTheNextIsAsked) {
  // If this failed, one bad plugin would make every adapter unavailable.
  const auto chain = faulty_then_sound();
  ASSERT_NE(chain, nullptr);
  for (const char* name : {"throws", "throws-int", "nonsense", "silent", "refused", "failed", "sql"}) {
    const Result<ResolvedAdapter> found = chain->resolve("", name);
    ASSERT_TRUE(found) << name << ": " << found.error().message;
    EXPECT_EQ(found->location, sql_);
  }
  EXPECT_EQ(chain->stats().resolvers[0].failed, 6U);
  EXPECT_FALSE(chain->stats().resolvers[0].crashed);
}

TEST_F(ResolverPluginTest, WhatAPluginSaysReachesTheClient) {
  // If this failed, nobody would know why an adapter cannot be had.
  config_.plugins = {FAULTY_RESOLVER_PATH};
  const auto made = ResolverRegistry().make_chain(config_, world_);
  ASSERT_TRUE(made) << made.error().message;
  ResolverChain chain(*made, config_, world_);
  const auto said = [&](const char* name) { return chain.resolve("", name).error().message; };
  EXPECT_NE(said("refused").find("faulty: you have not paid"), std::string::npos);
  EXPECT_NE(said("failed").find("the database is away"), std::string::npos);
  EXPECT_NE(said("throws").find("the plugin has thrown"), std::string::npos);
  EXPECT_NE(said("throws-int").find("threw something"), std::string::npos);
  EXPECT_NE(said("nonsense").find("answers 42"), std::string::npos);
  EXPECT_EQ(chain.resolve("", "refused").error().code, Errc::kInvalid);
  EXPECT_EQ(chain.resolve("", "failed").error().code, Errc::kIo);
}

TEST_F(ResolverPluginTest, APluginThatHangsDoesNotHoldTheRequest) {
  // If this failed, a plugin whose database does not answer would hang the server with it.
  testing::ManualTime time;
  world_.clock = &time;
  config_.deadline_ms = 30;
  const auto chain = faulty_then_sound();
  ASSERT_NE(chain, nullptr);
  void* const plugin = ::dlopen(FAULTY_RESOLVER_PATH, RTLD_NOW | RTLD_NOLOAD);
  ASSERT_NE(plugin, nullptr);
  const auto hanging = reinterpret_cast<unsigned (*)()>(::dlsym(plugin, "faulty_calls_hanging"));
  const auto release = reinterpret_cast<void (*)(bool)>(::dlsym(plugin, "faulty_release"));
  ASSERT_TRUE(hanging != nullptr && release != nullptr);
  std::thread caller([&] {
    const Result<ResolvedAdapter> found = chain->resolve("", "hangs");
    EXPECT_TRUE(found && found->location == sql_);
  });
  while (hanging() == 0) std::this_thread::yield();
  time.now += 30'000'000;
  caller.join();
  EXPECT_EQ(chain->stats().resolvers[0].hung, 1U);
  release(true);
  while (chain->stats().resolvers[0].hung > 0) std::this_thread::yield();
  release(false);
  ::dlclose(plugin);
}

TEST_F(ResolverPluginTest, APluginThatCrashesTakesNobodyWithIt) {
  // If this failed, a null pointer in a plugin would be an outage.
  for (const char* name : {"faults", "aborts", "overflows"}) {
#if defined(LORACLE_SANITIZED_THREAD)
    if (std::string(name) != "aborts") continue;  // its own handlers stand in the way
#endif
    const auto chain = faulty_then_sound();
    ASSERT_NE(chain, nullptr);
    const Result<ResolvedAdapter> found = chain->resolve("", name);
    ASSERT_TRUE(found) << name << ": " << found.error().message;
    EXPECT_EQ(found->location, sql_);
    ResolverStats stats = chain->stats().resolvers[0];
    EXPECT_TRUE(stats.crashed) << name;
    EXPECT_TRUE(chain->resolve("", "sql"));
    stats = chain->stats().resolvers[0];
    EXPECT_EQ(stats.asked, 1U) << "it is not asked again";
    EXPECT_EQ(stats.passed_over, 1U);
  }
}

TEST_F(ResolverPluginTest, AFaultOfOurOwnStillEndsTheProcess) {
  // If this failed, a bug of the server's own would leave it hanging instead of restarting.
  GTEST_FLAG_SET(death_test_style, "threadsafe");  // there are threads already
  EXPECT_DEATH(
      {
        const auto chain = faulty_then_sound();
        static_cast<void>(chain->resolve("", "faults"));
        std::abort();
      },
      "");
}

}  // namespace
}  // namespace loracle
