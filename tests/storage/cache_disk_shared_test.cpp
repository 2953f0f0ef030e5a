// One directory, several processes: what each may do to the others.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <filesystem>
#include <functional>
#include <future>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "loracle/storage/disk_cache.hpp"
#include "storage/cache_fakes.hpp"
#include "support/temp_dir.hpp"

namespace loracle {
namespace {

namespace fs = std::filesystem;
using testing::bytes_below;
using testing::entries_in;
using testing::files_in;
using testing::put_files;

DiskCacheOptions options_at(const fs::path& directory, std::uint64_t bytes) {
  DiskCacheOptions options;
  options.cache_dir = directory.string();
  options.max_size_bytes = Bytes{bytes};
  return options;
}

/// A child process that says when it is ready, and is killed when this goes.
class Child {
 public:
  explicit Child(const std::function<void(const std::function<void()>& ready)>& work) {
    std::array<int, 2> pipe{};
    if (::pipe(pipe.data()) != 0) return;
    pid_ = ::fork();
    if (pid_ == 0) {
      ::close(pipe[0]);
      work([&] {
        if (::write(pipe[1], "r", 1) != 1) ::_exit(1);
      });
      ::_exit(0);
    }
    ::close(pipe[1]);
    char byte = 0;
    is_ready_ = ::read(pipe[0], &byte, 1) == 1;
    ::close(pipe[0]);
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  ~Child() { kill(); }
  [[nodiscard]] bool is_ready() const { return is_ready_; }
  void kill() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    pid_ = -1;
  }

 private:
  pid_t pid_ = -1;
  bool is_ready_ = false;
};

// If this failed, one server's eviction would pull an adapter from under another one that loads it.
TEST(SharedDiskCache, NoProcessDeletesWhatAnotherOneUses) {
  const testing::TempDir folder;
  const DiskCacheOptions options = options_at(folder / "cache", 2500);
  Child child([&](const std::function<void()>& ready) {
    Result<std::unique_ptr<CacheBackend>> cache = make_disk_cache(options);
    if (!cache || !put_files(**cache, "a", {{"f", std::string(900, 'a')}})) return;
    const Result<CachedCopy> lease = (*cache)->get("a");
    if (!lease) return;
    ready();
    ::pause();
  });
  ASSERT_TRUE(child.is_ready());
  Result<std::unique_ptr<CacheBackend>> cache = make_disk_cache(options);
  ASSERT_TRUE(cache) << cache.error().message;
  ASSERT_TRUE(put_files(**cache, "b", {{"f", std::string(900, 'b')}}));
  ASSERT_TRUE(put_files(**cache, "c", {{"f", std::string(900, 'c')}})) << "in place of b, though a is older";
  EXPECT_EQ((*cache)->get("b").error().code, Errc::kNotFound);
  ASSERT_TRUE((*cache)->get("a"));
  {
    const Result<CachedCopy> held = (*cache)->get("c");
    const Result<Unit> full = put_files(**cache, "d", {{"f", std::string(900, 'd')}});
    ASSERT_FALSE(full);
    EXPECT_EQ(full.error().code, Errc::kAllPinned);
  }
  const fs::path entry = fs::path((*cache)->get("a")->directory);
  ASSERT_TRUE((*cache)->clear());
  EXPECT_EQ(files_in(entry).at("f"), std::string(900, 'a')) << "cleared, and still there for its user";
  EXPECT_EQ((*cache)->get("a").error().code, Errc::kNotFound);
  child.kill();
  ASSERT_TRUE(put_files(**cache, "d", {{"f", std::string(900, 'd')}}));
  EXPECT_FALSE(fs::exists(entry)) << "its user is dead";
}

// If this failed, two servers on one machine would fill twice the room they were given together.
TEST(SharedDiskCache, ReservationsOfOthersCount) {
  const testing::TempDir folder;
  const DiskCacheOptions options = options_at(folder / "cache", 2500);
  Child child([&](const std::function<void()>& ready) {
    Result<std::unique_ptr<CacheBackend>> cache = make_disk_cache(options);
    if (!cache) return;
    const Result<std::unique_ptr<CacheFill>> fill = (*cache)->begin({"big", {{"f", 1800}}, {}});
    if (!fill) return;
    ready();
    ::pause();
  });
  ASSERT_TRUE(child.is_ready());
  Result<std::unique_ptr<CacheBackend>> cache = make_disk_cache(options);
  ASSERT_TRUE(cache);
  EXPECT_EQ(put_files(**cache, "a", {{"f", std::string(900, 'a')}}).error().code, Errc::kAllPinned);
  EXPECT_GT((*cache)->stats().reserved_bytes, 1800U);
  EXPECT_EQ(entries_in(folder / "cache/staging"), 1U);
  child.kill();
  EXPECT_TRUE(put_files(**cache, "a", {{"f", std::string(900, 'a')}}));
  EXPECT_EQ(entries_in(folder / "cache/staging"), 0U) << "what the dead one was writing is gone";
  EXPECT_EQ((*cache)->stats().reserved_bytes, 0U);
}

// If this failed, what one process fetched would be fetched again by its neighbour.
TEST(SharedDiskCache, SeesWhatOthersPublishRemoveAndUse) {
  const testing::TempDir folder;
  const DiskCacheOptions options = options_at(folder / "cache", 3500);
  // Two caches of one process are strangers to each other as two processes are.
  Result<std::unique_ptr<CacheBackend>> one = make_disk_cache(options);
  Result<std::unique_ptr<CacheBackend>> two = make_disk_cache(options);
  ASSERT_TRUE(one && two);
  for (const char* key : {"a", "b", "c"}) ASSERT_TRUE(put_files(**one, key, {{"f", std::string(900, *key)}}));
  const Result<CachedCopy> a = (*two)->get("a");
  ASSERT_TRUE(a) << a.error().message;
  EXPECT_EQ(files_in(a->directory).at("f"), std::string(900, 'a'));
  ASSERT_TRUE(put_files(**one, "d", {{"f", std::string(900, 'd')}}));
  EXPECT_TRUE((*one)->get("a")) << "used by the other, so b went";
  EXPECT_FALSE((*two)->get("b"));
  ASSERT_TRUE((*one)->remove("c"));
  EXPECT_EQ((*two)->get("c").error().code, Errc::kNotFound);
  ASSERT_TRUE(put_files(**one, "a", {{"f", "anew"}}));
  ASSERT_TRUE(put_files(**two, "e", {{"f", "e"}}));  // makes `two` look
  EXPECT_EQ(files_in((*two)->get("a")->directory).at("f"), "anew");
  EXPECT_EQ(files_in(a->directory).at("f"), std::string(900, 'a')) << "the old one, while it is leased";
}

// If this failed, two servers at work would lose entries, tear them, or overrun the bound together.
TEST(SharedDiskCache, TwoBusyProcessesStayWithinTheBoundAndServeWholeEntries) {
  const testing::FoldersInMemory in_memory;
  const testing::TempDir folder;
  constexpr std::uint64_t kBound = 8000;
  const DiskCacheOptions options = options_at(folder / "cache", kBound);
  const auto work = [&](std::uint64_t seed) {
    Result<std::unique_ptr<CacheBackend>> cache = make_disk_cache(options);
    if (!cache) return 1;
    Rng rng(seed);
    for (int i = 0; i < 120; ++i) {
      const std::uint32_t n = rng.below(12);
      const std::string key = "k" + std::to_string(n);
      const std::map<std::string, std::string> files = {
          {"f", std::string(500 + 100 * n, static_cast<char>('a' + n))}, {"g", key}};
      if (const Result<CachedCopy> copy = (*cache)->get(key); copy) {
        if (files_in(copy->directory) != files) return 2;
        // The other one may have been faster.
        if (rng.below(8) == 0)
          if (const Result<Unit> gone = (*cache)->remove(key); !gone && gone.error().code != Errc::kNotFound)
            return 3;
        if (files_in(copy->directory) != files) return 4;
      } else if (const Result<Unit> put = put_files(**cache, key, files);
                 !put && put.error().code != Errc::kAllPinned) {
        return 5;
      }
    }
    return 0;
  };
  std::vector<pid_t> children;
  for (std::uint64_t seed = 1; seed <= 2; ++seed) {
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) ::_exit(work(seed));
    children.push_back(child);
  }
  // With the lock held nothing is renamed, so that nothing is counted twice.
  std::size_t looks = 0;
  std::uint64_t most = 0;
  for (std::size_t running = children.size(); running > 0;) {
    const int lock = ::open((folder / "cache/lock").c_str(), O_RDWR | O_CLOEXEC);
    if (lock >= 0) {
      ASSERT_EQ(::flock(lock, LOCK_EX), 0);
      most = std::max(most, bytes_below(folder / "cache"));
      ++looks;
      ::close(lock);
    }
    int status = 0;
    if (const pid_t ended = ::waitpid(-1, &status, WNOHANG); ended > 0) {
      --running;
      EXPECT_TRUE(WIFEXITED(status));
      EXPECT_EQ(WEXITSTATUS(status), 0);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  EXPECT_GT(looks, 3U);
  EXPECT_GT(most, kBound / 2);
  EXPECT_LE(most, kBound);
  Result<std::unique_ptr<CacheBackend>> cache = make_disk_cache(options);
  ASSERT_TRUE(cache);
  EXPECT_EQ(entries_in(folder / "cache/staging"), 0U);
  EXPECT_EQ((*cache)->stats().bytes, bytes_below(folder / "cache"));
  EXPECT_EQ((*cache)->stats().entries, entries_in(folder / "cache/entries"));
}

// If this failed, a directory that was deleted would be gone for those that had it open, and two of them
// would think that they share one.
TEST(SharedDiskCache, ADeletedDirectoryIsMadeAnewByWhoeverNeedsIt) {
  const testing::TempDir folder;
  DiskCacheOptions options = options_at(folder / "cache", 8000);
  Result<std::unique_ptr<CacheBackend>> one = make_disk_cache(options);
  Result<std::unique_ptr<CacheBackend>> two = make_disk_cache(options);
  ASSERT_TRUE(one && two);
  ASSERT_TRUE(put_files(**one, "a", {{"f", "a"}}));
  const Result<CachedCopy> held = (*two)->get("a");
  ASSERT_TRUE(held);
  for (const char* const gone : {"cache", "cache/entries", "cache/staging", "cache/lock"}) {
    SCOPED_TRACE(gone);
    fs::remove_all(folder / gone);
    ASSERT_TRUE(put_files(**one, "b", {{"f", gone}}));
    const Result<CachedCopy> copy = (*two)->get("b");
    ASSERT_TRUE(copy) << copy.error().message;
    EXPECT_EQ(files_in(copy->directory).at("f"), gone);
    ASSERT_TRUE((*two)->remove("b"));
    EXPECT_FALSE((*one)->get("b"));
  }
  options.create_dirs = false;
  two = make_disk_cache(options);
  ASSERT_TRUE(two);
  fs::remove_all(folder / "cache");
  EXPECT_EQ(put_files(**two, "b", {{"f", "b"}}).error().code, Errc::kNotFound) << "not ours to make";
}

// If this failed, a hung process would hang every other one with it.
TEST(SharedDiskCache, AHungProcessIsAnError) {
  const testing::TempDir folder;
  DiskCacheOptions options = options_at(folder / "cache", 8000);
  options.lock_timeout_ms = 20;
  Result<std::unique_ptr<CacheBackend>> cache = make_disk_cache(options);
  ASSERT_TRUE(cache);
  const int lock = ::open((folder / "cache/lock").c_str(), O_RDWR | O_CLOEXEC);
  ASSERT_EQ(::flock(lock, LOCK_EX), 0);
  EXPECT_EQ(put_files(**cache, "a", {{"f", "a"}}).error().code, Errc::kBusy);
  EXPECT_EQ(make_disk_cache(options).error().code, Errc::kBusy);
  ::close(lock);
  EXPECT_TRUE(put_files(**cache, "a", {{"f", "a"}}));
}

// If this failed, one hung process would stop every request of its neighbours, those for what they have too.
TEST(SharedDiskCache, AHungProcessDoesNotFreezeThoseWhoReadWhatIsHere) {
  const testing::TempDir folder;
  const DiskCacheOptions options = options_at(folder / "cache", 8000);
  Result<std::unique_ptr<CacheBackend>> cache = make_disk_cache(options);
  ASSERT_TRUE(cache);
  ASSERT_TRUE(put_files(**cache, "a", {{"f", "a"}}, {{"is", "here"}}));
  ASSERT_TRUE(put_files(**cache, "b", {{"f", "b"}}));
  Result<CachedCopy> removed = (*cache)->get("b");
  ASSERT_TRUE(removed && (*cache)->remove("b"));
  Child hung([&](const std::function<void()>& ready) {
    const int lock = ::open((folder / "cache/lock").c_str(), O_RDWR | O_CLOEXEC);
    if (lock < 0 || ::flock(lock, LOCK_EX) != 0) return;
    ready();
    ::pause();
  });
  ASSERT_TRUE(hung.is_ready());
  // Three that must wait for the directory.
  std::vector<std::future<Errc>> waiting;
  for (const char* key : {"x", "y"})
    waiting.push_back(std::async(std::launch::async, [&, key] { return (*cache)->get(key).error().code; }));
  waiting.push_back(std::async(std::launch::async, [&] {
    return put_files(**cache, "z", {{"f", "z"}}) ? Errc::kNotFound : Errc::kBusy;
  }));
  std::this_thread::sleep_for(std::chrono::milliseconds(30));  // or less: then this proves less
  for (int i = 0; i < 100; ++i) {
    const Result<CachedCopy> copy = (*cache)->get("a");
    ASSERT_TRUE(copy) << copy.error().message;
    EXPECT_EQ(files_in(copy->directory).at("f"), "a");
    EXPECT_EQ((*cache)->stats().leased, 2U);
    EXPECT_TRUE((*cache)->metadata("a"));
  }
  const fs::path gone = removed->directory;
  removed->hold.reset();
  EXPECT_TRUE(fs::exists(gone)) << "nobody deletes without the lock";
  for (std::future<Errc>& one : waiting)
    EXPECT_EQ(one.wait_for(std::chrono::seconds(0)), std::future_status::timeout);
  hung.kill();
  for (std::future<Errc>& one : waiting) EXPECT_EQ(one.get(), Errc::kNotFound);
  EXPECT_FALSE(fs::exists(gone)) << "who looked next saw to it";
}

// If this failed, a thread that leases what another one evicts would be given a directory that goes, or the
// policy would be told of uses of what it has let go.
TEST(SharedDiskCache, WhatIsBeingEvictedIsNotLeased) {
  const testing::FoldersInMemory in_memory;
  const testing::TempDir folder;
  const DiskCacheOptions options = options_at(folder / "cache", 9000);
  Result<std::unique_ptr<CacheBackend>> cache = make_disk_cache(options);
  ASSERT_TRUE(cache);
  std::map<std::string, std::string> many;
  for (int i = 0; i < 40; ++i) many["f" + std::to_string(i)] = "x";
  const auto work = [&](std::uint64_t seed) {
    Rng rng(seed);
    for (int i = 0; i < 150; ++i) {
      // Large ones push several small ones out at once.
      const bool is_large = rng.below(8) == 0;
      const std::string key = (is_large ? "large" : "k") + std::to_string(rng.below(6));
      std::map<std::string, std::string> files = many;
      files["f0"] = is_large ? std::string(3000, 'l') : key;
      if (const Result<CachedCopy> copy = (*cache)->get(key); copy) {
        EXPECT_EQ(files_in(copy->directory), files);
      } else {
        const Result<Unit> put = put_files(**cache, key, files);
        EXPECT_TRUE(put || put.error().code == Errc::kAllPinned) << put.error().message;
      }
    }
  };
  std::vector<std::thread> threads;
  for (std::uint64_t seed = 1; seed <= 4; ++seed) threads.emplace_back(work, seed);
  for (std::thread& thread : threads) thread.join();
  ASSERT_TRUE((*cache)->list()) << "looks, and deletes what was left over";
  EXPECT_EQ((*cache)->stats().leased, 0U);
  EXPECT_EQ((*cache)->stats().bytes, bytes_below(folder / "cache"));
  EXPECT_LE((*cache)->stats().bytes, 9000U);
  EXPECT_EQ((*cache)->stats().entries, entries_in(folder / "cache/entries"));
  EXPECT_EQ(entries_in(folder / "cache/staging"), 0U);
}

}  // namespace
}  // namespace loracle
