// The cache in memory.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "loracle/engine/files.hpp"
#include "loracle/storage/memory_cache.hpp"
#include "storage/cache_fakes.hpp"
#include "support/temp_dir.hpp"

namespace loracle {
namespace {

namespace fs = std::filesystem;
using testing::files_in;
using testing::open_descriptors;
using testing::put_files;

std::unique_ptr<CacheBackend> make(std::uint64_t bytes, std::uint64_t items = 0) {
  MemoryCacheOptions options;
  options.max_size_bytes = Bytes{bytes};
  options.max_items = items;
  Result<std::unique_ptr<CacheBackend>> made = make_memory_cache(options);
  EXPECT_TRUE(made) << made.error().message;
  return made ? std::move(*made) : nullptr;
}

// If this failed, a server that is bound to directories could not read what its cache in memory hands out, or
// would take what such an adapter does not have for forbidden.
TEST(MemoryCache, FilesBoundToItsDirectoryReadWhatItHandsOut) {
  const std::unique_ptr<CacheBackend> cache = make(10'000);
  ASSERT_TRUE(put_files(*cache, "a", {{"f", "bytes"}}));
  const Result<CachedCopy> copy = cache->get("a");
  ASSERT_TRUE(copy);
  const std::string roots[] = {cache->directory()};
  const Result<std::unique_ptr<Files>> files = make_rooted_files(roots, kMemoryCacheFileName);
  ASSERT_TRUE(files) << files.error().message;
  EXPECT_EQ(read_text(**files, copy->directory + "/f", 100).value_or("not read"), "bytes");
  EXPECT_EQ((*files)->stat(copy->directory + "/f")->size, 5U);
  EXPECT_EQ((*files)->open(copy->directory + "/absent").error().code, Errc::kNotFound);
  EXPECT_EQ((*files)->open("/etc/passwd").error().code, Errc::kInvalid);
}

// If this failed, a cache would hand out something else than what it was given.
TEST(MemoryCache, GivesBackWhatWasPutToAnythingThatReadsFiles) {
  const testing::TempDir folder;
  fs::create_directories(folder / "source/inner");
  folder.write("source/a", "first");
  folder.write("source/inner/b", std::string(5000, 'b'));
  const std::unique_ptr<CacheBackend> cache = make(10'000);
  ASSERT_TRUE(cache->put("adapter1", (folder / "source").string(), {{"version", "1.0"}}));
  const auto expected = files_in(folder / "source");
  fs::remove_all(folder / "source");
  const Result<CachedCopy> copy = cache->get("adapter1");
  ASSERT_TRUE(copy) << copy.error().message;
  EXPECT_EQ(files_in(copy->directory), expected);
  const Result<std::string> read = read_text(posix_files(), copy->directory + "/inner/b", 10'000);
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(*read, std::string(5000, 'b'));
  EXPECT_EQ(cache->metadata("adapter1")->at("version"), "1.0");
  EXPECT_EQ(cache->list()->front().bytes, 5005U);
  EXPECT_EQ(cache->stats().bytes, 5005U);
  EXPECT_EQ(cache->stats().leased, 1U);
  // Nobody can write to what others read.
  const int fd = ::open((copy->directory + "/a").c_str(), O_RDWR | O_CLOEXEC);
  if (fd >= 0) {
    EXPECT_LT(::pwrite(fd, "x", 1, 0), 0);
    ::close(fd);
  }
}

// If this failed, the cache would eat the memory that adapters are served from.
TEST(MemoryCache, StaysWithinBothBounds) {
  const std::unique_ptr<CacheBackend> cache = make(3000, 2);
  for (const char* key : {"a", "b", "c"})
    ASSERT_TRUE(put_files(*cache, key, {{"f", std::string(900, *key)}}));
  EXPECT_EQ(cache->stats().entries, 2U);
  EXPECT_FALSE(cache->get("a"));
  ASSERT_TRUE(put_files(*cache, "d", {{"f", std::string(2500, 'd')}}));
  EXPECT_EQ(cache->stats().bytes, 2500U);
  EXPECT_EQ(cache->stats().evictions, 3U);
  EXPECT_EQ(put_files(*cache, "e", {{"f", std::string(3001, 'e')}}).error().code, Errc::kTooLarge);
  const Result<CachedCopy> held = cache->get("d");
  EXPECT_EQ(put_files(*cache, "e", {{"f", std::string(900, 'e')}}).error().code, Errc::kAllPinned);
  EXPECT_EQ(cache->stats().refused, 2U);
}

// If this failed, memory or descriptors would leak with every adapter that comes and goes.
TEST(MemoryCache, WhatIsRemovedGoesWithItsLastLease) {
  const std::size_t before = open_descriptors();
  std::string directory;
  {
    std::unique_ptr<CacheBackend> cache = make(10'000);
    ASSERT_TRUE(put_files(*cache, "a", {{"f", "one"}}));
    Result<CachedCopy> first = cache->get("a");
    Result<CachedCopy> second = cache->get("a");
    ASSERT_TRUE(put_files(*cache, "a", {{"f", "two"}}));
    EXPECT_EQ(files_in(cache->get("a")->directory).at("f"), "two");
    ASSERT_TRUE(cache->clear());
    EXPECT_EQ(cache->stats().bytes, 3U) << "the leased one";
    first = fail(Errc::kNotFound, "let go");
    EXPECT_EQ(testing::text_of(second->directory + "/f"), "one");
    directory = second->directory;
    cache.reset();
    EXPECT_EQ(testing::text_of(directory + "/f"), "one") << "a lease outlives its cache";
  }
  EXPECT_FALSE(fs::exists(directory));
  EXPECT_EQ(open_descriptors(), before);
}

// If this failed, killed servers would leave folders in /tmp for ever.
TEST(MemoryCache, SweepsWhatAKilledProcessLeft) {
  const testing::TempDir folder;
  const std::string usual = std::getenv("TMPDIR") != nullptr ? std::getenv("TMPDIR") : "";
  ASSERT_EQ(::setenv("TMPDIR", folder.path().c_str(), 1), 0);
  const std::unique_ptr<CacheBackend> mine = make(10'000);
  ASSERT_TRUE(put_files(*mine, "a", {{"f", "a"}}));
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    const std::unique_ptr<CacheBackend> cache = make(10'000);
    if (cache) static_cast<void>(put_files(*cache, "b", {{"f", "b"}}));
    ::kill(::getpid(), SIGKILL);
  }
  ::waitpid(child, nullptr, 0);
  EXPECT_EQ(testing::entries_in(folder.path()), 2U);
  const std::unique_ptr<CacheBackend> next = make(10'000);
  EXPECT_EQ(testing::entries_in(folder.path()), 2U) << "the dead one's went, the new one's came";
  EXPECT_TRUE(mine->get("a"));
  EXPECT_EQ(testing::text_of(mine->get("a")->directory + "/f"), "a");
  if (usual.empty())
    ::unsetenv("TMPDIR");
  else
    ::setenv("TMPDIR", usual.c_str(), 1);
}

}  // namespace
}  // namespace loracle
