// When discovery looks: every interval, at once when files change, and what it does where nobody tells it.

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <filesystem>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "loracle/service/discovery_loop.hpp"
#include "service/watch.hpp"
#include "support/temp_dir.hpp"

namespace loracle {
namespace {

namespace fs = std::filesystem;
using testing::TempDir;

/// Takes everything.
class AnyTarget final : public DiscoveryTarget {
 public:
  [[nodiscard]] Result<Unit> add(const std::string& name, const std::string& location) override {
    known_[name] = location;
    return Unit{};
  }
  [[nodiscard]] Result<Unit> remove(const std::string& name) override {
    known_.erase(name);
    return Unit{};
  }
  [[nodiscard]] std::optional<std::string> location(const std::string& name) override {
    const auto found = known_.find(name);
    return found == known_.end() ? std::nullopt : std::optional(found->second);
  }

 private:
  std::map<std::string, std::string> known_;  // rounds wait for each other
};

class DiscoveryWatchTest : public ::testing::Test {
 protected:
  DiscoveryWatchTest() {
    options_.discovery.prefixes = {dir_.path().string()};
    options_.quiet_ms = 5;
    options_.on_round = [this](const DiscoveryRound& round) {
      {
        const std::lock_guard lock(mutex_);
        rounds_.push_back(round);
      }
      changed_.notify_all();
    };
  }
  void start() {
    loop_ = std::make_unique<DiscoveryLoop>(options_,
                                            DiscoveryWorld{&target_, &posix_files(), &posix_clock(), {}});
    loop_->start();
    ASSERT_TRUE(until([](const DiscoveryRound&) { return true; }));
    const std::lock_guard lock(mutex_);
    first_ = rounds_[0];
  }
  /// True as soon as a round is as asked; false after ten seconds.
  bool until(const std::function<bool(const DiscoveryRound&)>& as_asked) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(10), [&] {
      for (const DiscoveryRound& round : rounds_)
        if (as_asked(round)) return true;
      return false;
    });
  }
  static std::function<bool(const DiscoveryRound&)> added(const std::string& name) {
    return [name](const DiscoveryRound& round) {
      return std::find(round.added.begin(), round.added.end(), name) != round.added.end();
    };
  }
  void make(const std::string& name) {
    fs::create_directories(dir_ / name);
    dir_.write(name + "/adapter_config.json", "{}");
    dir_.write(name + "/adapter_model.safetensors", "weights");
  }

  TempDir dir_;
  AnyTarget target_;
  DiscoveryOptions options_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<DiscoveryRound> rounds_;
  DiscoveryRound first_;
  std::unique_ptr<DiscoveryLoop> loop_;  // goes first
};

TEST_F(DiscoveryWatchTest, LooksAtTheStartAndEveryInterval) {
  // If this failed, --lora-discovery-interval would do nothing.
  options_.discovery.watch = false;
  options_.interval_ms = 5;
  make("a");
  start();
  EXPECT_EQ(first_.added, std::vector<std::string>{"a"});
  make("b");
  EXPECT_TRUE(until(added("b")));
  EXPECT_TRUE(until([](const DiscoveryRound& round) { return round.number >= 5; }));
}

TEST_F(DiscoveryWatchTest, SeesAtOnceWhatComesGoesAndChanges) {
  // If this failed, a new adapter would wait for somebody to ask for a refresh.
  make("a");
  start();
  EXPECT_TRUE(first_.failures.empty()) << first_.failures[0];
  make("b");
  EXPECT_TRUE(until(added("b")));
  dir_.write("a/adapter_model.safetensors", "newer weights");
  EXPECT_TRUE(
      until([](const DiscoveryRound& round) { return round.changed == std::vector<std::string>{"a"}; }));
  const TempDir elsewhere;
  fs::create_directories(dir_ / ".staging" / "c");
  dir_.write(".staging/c/adapter_config.json", "{}");
  fs::rename(dir_ / ".staging" / "c", dir_ / "c");
  EXPECT_TRUE(until(added("c"))) << "published by a rename";
  dir_.write("c/adapter_model.safetensors", "weights");
  EXPECT_TRUE(until([](const DiscoveryRound& round) {
    return round.changed == std::vector<std::string>{"c"};
  })) << "a folder that came later is watched too";
  fs::remove_all(dir_ / "b");
  EXPECT_TRUE(
      until([](const DiscoveryRound& round) { return round.removed == std::vector<std::string>{"b"}; }));
}

TEST_F(DiscoveryWatchTest, LooksNowAndThenWhereItCannotWatch) {
  // If this failed, discovery would stop without a word on a file system that tells of no changes.
  options_.discovery.prefixes = {(dir_ / "later").string()};
  options_.fallback_interval_ms = 5;
  start();
  EXPECT_EQ(first_.prefixes_failed, 1U);
  bool told = false;
  for (const std::string& failure : first_.failures)
    told = told || failure.find("cannot be watched") != std::string::npos;
  EXPECT_TRUE(told);
  fs::create_directories(dir_ / "later");
  make("later/a");
  EXPECT_TRUE(until(added("a")));
  EXPECT_TRUE(until([](const DiscoveryRound& round) { return round.failures.empty(); }))
      << "and watches it then";
}

TEST_F(DiscoveryWatchTest, TriesAPrefixThatFailsAgain) {
  // If this failed, a bucket that is away when the server starts would stay unseen until somebody asks.
  options_.discovery.prefixes = {(dir_ / "later").string()};
  options_.discovery.watch = false;
  options_.fallback_interval_ms = 5;
  start();
  EXPECT_EQ(first_.prefixes_failed, 1U);
  EXPECT_NE(trouble_of(first_).find("later"), std::string::npos);
  make("coming/a");
  fs::rename(dir_ / "coming", dir_ / "later");  // at once: a round that found it empty would be content
  EXPECT_TRUE(until(added("a")));
  EXPECT_EQ(trouble_of(loop_->last_round()), "");
}

TEST_F(DiscoveryWatchTest, StopsAtOnceAndOnlyOnce) {
  // If this failed, a server would not shut down, or look at files while it does.
  options_.interval_ms = 3'600'000;
  start();
  loop_->stop();
  loop_->stop();
  const std::uint64_t number = loop_->last_round().number;
  make("a");
  EXPECT_EQ(loop_->last_round().number, number);
  EXPECT_EQ(loop_->refresh().error().code, Errc::kCancelled);
}

TEST(DirectoryWatch, TellsOfChangesAndOfBeingAsked) {
  // If this failed, the loop would sleep through what it waits for.
  const TempDir dir;
  service::DirectoryWatch watch(true);
  EXPECT_TRUE(watch.watch({dir.path().string()}).empty());
  EXPECT_EQ(watch.wait(0), service::Woken::kTimeout);
  dir.write("file", "x");
  EXPECT_EQ(watch.wait(10'000), service::Woken::kChanged);
  watch.wake();
  EXPECT_EQ(watch.wait(service::kWaitForEver), service::Woken::kAsked);
  EXPECT_TRUE(watch.watch({}).empty());
  static_cast<void>(watch.wait(0));  // that it ended may be told, and is no change
  dir.write("other", "x");
  EXPECT_EQ(watch.wait(0), service::Woken::kTimeout) << "it is not watched any more";
  const std::vector<std::string> failures = watch.watch({"/nowhere"});
  ASSERT_EQ(failures.size(), 1U);
  EXPECT_NE(failures[0].find("/nowhere: cannot be watched"), std::string::npos);
}

TEST(DirectoryWatch, WithoutInotifyItOnlyWaits) {
  // If this failed, `discovery.watch = false` would be ignored.
  const TempDir dir;
  service::DirectoryWatch watch(false);
  EXPECT_TRUE(watch.watch({dir.path().string()}).empty());
  dir.write("file", "x");
  EXPECT_EQ(watch.wait(1), service::Woken::kTimeout);
}

}  // namespace
}  // namespace loracle
