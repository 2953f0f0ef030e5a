// kill -9 at any moment: what was acknowledged is there and whole, and nothing else is.
// LORACLE_KILL_ROUNDS times.

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <map>
#include <string>

#include "loracle/storage/disk_cache.hpp"
#include "storage/cache_fakes.hpp"
#include "support/temp_dir.hpp"

namespace loracle {
namespace {

namespace fs = std::filesystem;
using testing::bytes_below;
using testing::entries_in;
using testing::files_in;

constexpr std::uint64_t kRoomy = std::uint64_t{1} << 30U;
constexpr std::uint64_t kNarrow = 300'000;

std::map<std::string, std::string> files_of(std::uint64_t n) {
  Rng rng(n);
  return {{"adapter_config.json", "r=" + std::to_string(n)},
          {"adapter_model.safetensors", testing::random_text(rng, 1000 + rng.below(60'000))}};
}
std::string key_of(std::uint64_t n) { return "adapter-" + std::to_string(n); }

DiskCacheOptions options_at(const fs::path& directory, std::uint64_t bytes) {
  DiskCacheOptions options;
  options.cache_dir = directory.string();
  options.max_size_bytes = Bytes{bytes};
  return options;
}

/// Puts n, n + 1, ...; after each it says so. Where there is little room, it also reads and removes.
[[noreturn]] void work_until_killed(const DiskCacheOptions& options, std::uint64_t n, int fd) {
  Result<std::unique_ptr<CacheBackend>> cache = make_disk_cache(options);
  if (!cache) ::_exit(1);
  for (;; ++n) {
    if (!testing::put_files(**cache, key_of(n), files_of(n))) ::_exit(2);
    if (options.max_size_bytes.value == kNarrow) {
      const Result<CachedCopy> lease = (*cache)->get(key_of(n));
      if (!lease) ::_exit(3);
      if (n % 5 == 0 && !(*cache)->remove(key_of(n))) ::_exit(4);
    }
    if (::write(fd, &n, sizeof n) != sizeof n) ::_exit(5);
  }
}

/// One life of the child. The number of the last put that it acknowledged, or -1.
std::int64_t live_and_die(const DiskCacheOptions& options, std::uint64_t first, Rng& rng) {
  std::array<int, 2> pipe{};
  EXPECT_EQ(::pipe(pipe.data()), 0);
  const pid_t child = ::fork();
  EXPECT_GE(child, 0);
  if (child == 0) {
    ::close(pipe[0]);
    work_until_killed(options, first, pipe[1]);
  }
  ::close(pipe[1]);
  std::int64_t acknowledged = -1;
  std::uint64_t n = 0;
  // Every fourth is killed while it opens the directory, the others at work, however slow the machine is.
  const bool is_at_work = rng.below(4) != 0;
  for (std::uint32_t wanted = is_at_work ? 1 + rng.below(6) : 0; wanted > 0; --wanted) {
    EXPECT_EQ(::read(pipe[0], &n, sizeof n), static_cast<ssize_t>(sizeof n)) << "the child has ended";
    acknowledged = static_cast<std::int64_t>(n);
  }
  ::usleep(rng.below(15'000));
  ::kill(child, SIGKILL);
  int status = 0;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFSIGNALED(status)) << "the child failed by itself with " << WEXITSTATUS(status);
  while (::read(pipe[0], &n, sizeof n) == sizeof n) acknowledged = static_cast<std::int64_t>(n);
  ::close(pipe[0]);
  return acknowledged;
}

/// Every entry that the cache shows is one that was put, whole. How many.
std::size_t check_whole(CacheBackend& cache) {
  const Result<std::vector<CacheItem>> items = cache.list();
  EXPECT_TRUE(items);
  for (const CacheItem& item : *items) {
    const std::uint64_t n = std::stoull(item.key.substr(item.key.find('-') + 1));
    const Result<CachedCopy> copy = cache.get(item.key);
    EXPECT_TRUE(copy) << item.key << " is half";
    if (copy) {
      EXPECT_EQ(files_in(copy->directory), files_of(n)) << item.key;
    }
  }
  EXPECT_EQ(cache.stats().damaged, 0U);
  return items->size();
}

void check_no_orphans(const fs::path& directory, CacheBackend& cache) {
  EXPECT_EQ(entries_in(directory / "staging"), 0U);
  EXPECT_EQ(entries_in(directory / "entries"), cache.stats().entries);
  EXPECT_EQ(bytes_below(directory), cache.stats().bytes);
  EXPECT_EQ(cache.stats().reserved_bytes, 0U);
}

// If this failed, a crash would lose adapters that were fetched, serve half ones, or leak disk for ever.
TEST(CacheKill, EveryAcknowledgedEntrySurvivesKill9AndNothingElseDoes) {
  const testing::TempDir folder;
  const DiskCacheOptions options = options_at(folder / "cache", kRoomy);
  Rng rng(20261121);
  std::uint64_t next = 0;
  for (int round = 0; round < LORACLE_KILL_ROUNDS && !::testing::Test::HasFailure(); ++round) {
    SCOPED_TRACE("round " + std::to_string(round));
    const std::int64_t acknowledged = live_and_die(options, next, rng);
    if (acknowledged >= 0) next = static_cast<std::uint64_t>(acknowledged) + 1;
    Result<std::unique_ptr<CacheBackend>> cache = make_disk_cache(options);
    ASSERT_TRUE(cache) << cache.error().message;
    check_no_orphans(folder / "cache", **cache);
    const std::size_t found = check_whole(**cache);
    for (std::uint64_t n = 0; n < next; ++n)
      ASSERT_TRUE((*cache)->get(key_of(n))) << "acknowledged, and lost";
    ASSERT_LE(found, next + 1) << "more than the one that was under way";
    if (found == next + 1) ++next;  // it was published before its acknowledgement
  }
  EXPECT_GE(next, static_cast<std::uint64_t>(LORACLE_KILL_ROUNDS));
}

// If this failed, a crash in the middle of an eviction would leave half an adapter, or break the bound.
TEST(CacheKill, EvictionsAndRemovalsSurviveKill9) {
  const testing::TempDir folder;
  const DiskCacheOptions options = options_at(folder / "cache", kNarrow);
  Rng rng(20261122);
  std::uint64_t next = 1;
  for (int round = 0; round < LORACLE_KILL_ROUNDS && !::testing::Test::HasFailure(); ++round) {
    SCOPED_TRACE("round " + std::to_string(round));
    const std::int64_t acknowledged = live_and_die(options, next, rng);
    EXPECT_LE(bytes_below(folder / "cache"), kNarrow) << "before anybody cleaned up";
    Result<std::unique_ptr<CacheBackend>> cache = make_disk_cache(options);
    ASSERT_TRUE(cache) << cache.error().message;
    check_no_orphans(folder / "cache", **cache);
    check_whole(**cache);
    if (acknowledged < 0) continue;
    const auto last = static_cast<std::uint64_t>(acknowledged);
    next = last + 1;
    EXPECT_EQ((*cache)->get(key_of(last)).has_value(), last % 5 != 0) << "the last one acknowledged";
    for (std::uint64_t n = 5; n <= last; n += 5)
      EXPECT_FALSE((*cache)->get(key_of(n))) << n << " was removed";
  }
  EXPECT_GE(next, static_cast<std::uint64_t>(LORACLE_KILL_ROUNDS));
}

}  // namespace
}  // namespace loracle
