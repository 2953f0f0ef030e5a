// The disk cache in one process: what it serves, what it bounds, what survives.

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "loracle/storage/disk_cache.hpp"
#include "loracle/storage/make_cache.hpp"
#include "storage/cache_fakes.hpp"
#include "support/temp_dir.hpp"

namespace loracle {
namespace {

namespace fs = std::filesystem;
using testing::bytes_below;
using testing::entries_in;
using testing::files_in;
using testing::put_files;

class DiskCacheTest : public ::testing::Test {
 protected:
  [[nodiscard]] DiskCacheOptions options(std::uint64_t bytes = 1U << 20U) const {
    DiskCacheOptions options;
    options.cache_dir = (folder_ / "cache").string();
    options.max_size_bytes = Bytes{bytes};
    return options;
  }
  void open(const DiskCacheOptions& options) {
    cache_.reset();
    Result<std::unique_ptr<CacheBackend>> made = make_disk_cache(options);
    ASSERT_TRUE(made) << made.error().message;
    cache_ = std::move(*made);
  }
  [[nodiscard]] fs::path only_entry() const {
    return fs::directory_iterator(folder_ / "cache/entries")->path();
  }
  [[nodiscard]] bool has(const std::string& key) { return cache_->get(key).has_value(); }

  testing::TempDir folder_;
  std::unique_ptr<CacheBackend> cache_;
};

/// While it lives, this process is nobody in particular: what may not be deleted is not, even where tests run
/// as root.
class AsNobody {
 public:
  AsNobody() : was_(::geteuid()) {
    if (was_ == 0) static_cast<void>(::seteuid(65534));
  }
  ~AsNobody() {
    if (was_ == 0) static_cast<void>(::seteuid(0));
  }
  AsNobody(const AsNobody&) = delete;
  AsNobody& operator=(const AsNobody&) = delete;

 private:
  uid_t was_;
};

// If this failed, an entry that could be deleted only in part would be served as if it were whole.
TEST(DiskCacheOfNobody, WhatCannotBeDeletedWholeIsNotServed) {
  const AsNobody nobody;
  const testing::TempDir folder;
  DiskCacheOptions options;
  options.cache_dir = (folder / "cache").string();
  options.max_size_bytes = Bytes{3000};
  Result<std::unique_ptr<CacheBackend>> cache = make_disk_cache(options);
  ASSERT_TRUE(cache) << cache.error().message;
  const std::map<std::string, std::string> files = {{"f", std::string(900, 'f')},
                                                    {"inner/g", std::string(900, 'g')}};
  ASSERT_TRUE(put_files(**cache, "a", files));
  const fs::path entry = fs::directory_iterator(folder / "cache/entries")->path();
  fs::permissions(entry / "inner", fs::perms::owner_read | fs::perms::owner_exec);
  EXPECT_EQ(put_files(**cache, "b", {{"f", std::string(900, 'b')}}).error().code, Errc::kAllPinned);
  EXPECT_EQ((*cache)->get("a").error().code, Errc::kNotFound);
  fs::permissions(entry / "inner", fs::perms::owner_all);
  EXPECT_TRUE(put_files(**cache, "b", {{"f", std::string(900, 'b')}}));
  EXPECT_FALSE(fs::exists(entry));
  EXPECT_EQ((*cache)->stats().bytes, bytes_below(folder / "cache"));
}

// If this failed, a cache would hand out something else than what it was given.
TEST_F(DiskCacheTest, GivesBackWhatWasPut) {
  fs::create_directories(folder_ / "source/inner");
  folder_.write("source/a", "first");
  folder_.write("source/inner/b", std::string(5000, 'b'));
  folder_.write("source/empty", "");
  open(options());
  ASSERT_TRUE(cache_->put("adapter1", (folder_ / "source").string(), {{"version", "1.0"}}));
  Result<CachedCopy> copy = cache_->get("adapter1");
  ASSERT_TRUE(copy) << copy.error().message;
  EXPECT_EQ(files_in(copy->directory), files_in(folder_ / "source"));
  EXPECT_EQ(copy->contents->metadata.at("version"), "1.0");
  EXPECT_EQ(*cache_->metadata("adapter1"), (CacheMetadata{{"version", "1.0"}}));
  const Result<std::vector<CacheItem>> items = cache_->list();
  ASSERT_TRUE(items);
  ASSERT_EQ(items->size(), 1U);
  EXPECT_EQ(items->front().key, "adapter1");
  EXPECT_EQ(items->front().bytes, bytes_below(folder_ / "cache")) << "what is charged is what lies there";
  EXPECT_EQ(cache_->stats().hits, 1U);
  EXPECT_EQ(cache_->get("other").error().code, Errc::kNotFound);
  EXPECT_EQ(cache_->stats().misses, 1U);

  ASSERT_TRUE(cache_->put("single", (folder_ / "source/a").string()));
  EXPECT_EQ(files_in(cache_->get("single")->directory), (std::map<std::string, std::string>{{"a", "first"}}));
}

// If this failed, an operator would look for what is wrong with a setting that the message does not name.
TEST_F(DiskCacheTest, SaysWhatIsWrongWithItsSettings) {
  DiskCacheOptions bad = options();
  bad.cache_dir.clear();
  EXPECT_EQ(make_disk_cache(bad).error().code, Errc::kInvalid);
  bad = options(0);
  EXPECT_NE(make_disk_cache(bad).error().message.find("max_size_bytes"), std::string::npos);
  bad = options();
  bad.policy = "belady";
  EXPECT_EQ(make_disk_cache(bad).error().code, Errc::kInvalid);
  bad.policy = "lrv";
  EXPECT_NE(make_disk_cache(bad).error().message.find("lru"), std::string::npos) << "the nearest";
  bad = options();
  bad.create_dirs = false;
  EXPECT_EQ(make_disk_cache(bad).error().code, Errc::kNotFound);
  EXPECT_EQ(make_cache({"tape", {}, {}}).error().code, Errc::kInvalid);
  EXPECT_EQ((*make_cache({"disk", options(), {}}))->type(), "disk");
}

// If this failed, a file name out of a bucket could write outside the cache, or fake its records.
TEST_F(DiskCacheTest, RefusesNamesThatLeadElsewhere) {
  open(options());
  for (const std::string name : {"../x", "/x", "a//b", "a/..", "", ".", ".loracle", "a/"}) {
    const Result<Unit> refused = put_files(*cache_, "k", {{name, "x"}});
    ASSERT_FALSE(refused) << name;
    EXPECT_EQ(refused.error().code, Errc::kInvalid) << name;
  }
  EXPECT_EQ(put_files(*cache_, "", {{"a", "x"}}).error().code, Errc::kInvalid);
  EXPECT_EQ(put_files(*cache_, "\xff", {{"a", "x"}}).error().code, Errc::kInvalid);
  EXPECT_EQ(put_files(*cache_, "k", {{"a", "x"}}, {{"m", std::string(1U << 17U, 'm')}}).error().code,
            Errc::kTooLarge);
  EXPECT_TRUE(put_files(*cache_, "../../k\n", {{"a", "x"}})) << "a key is no path";
  EXPECT_EQ(bytes_below(folder_.path()), bytes_below(folder_ / "cache"));
}

// If this failed, the disk would fill up beyond what the operator allowed.
TEST_F(DiskCacheTest, EvictsByItsPolicyToStayWithinItsBytes) {
  open(options(3500));
  for (const char* key : {"a", "b", "c"})
    ASSERT_TRUE(put_files(*cache_, key, {{"f", std::string(900, *key)}}));
  EXPECT_TRUE(has("a"));
  ASSERT_TRUE(put_files(*cache_, "d", {{"f", std::string(900, 'd')}}));
  EXPECT_FALSE(has("b")) << "was the least recently used";
  EXPECT_TRUE(has("a") && has("c") && has("d"));
  EXPECT_LE(bytes_below(folder_ / "cache"), 3500U);
  EXPECT_EQ(cache_->stats().evictions, 1U);
  const Result<Unit> large = put_files(*cache_, "e", {{"f", std::string(3500, 'e')}});
  ASSERT_FALSE(large);
  EXPECT_EQ(large.error().code, Errc::kTooLarge);
  EXPECT_TRUE(has("a") && has("c") && has("d")) << "what cannot fit evicts nobody";
  DiskCacheOptions few = options();
  few.max_items = 2;
  open(few);
  EXPECT_EQ(cache_->stats().entries, 2U) << "smaller bounds hold from the start";
  EXPECT_EQ(entries_in(folder_ / "cache/entries"), 2U);
  EXPECT_TRUE(has("c") && has("d"));
}

// If this failed, an adapter's file could vanish while it is read into memory.
TEST_F(DiskCacheTest, KeepsWhatIsLeased) {
  open(options(2500));
  ASSERT_TRUE(put_files(*cache_, "a", {{"f", std::string(900, 'a')}}));
  ASSERT_TRUE(put_files(*cache_, "b", {{"f", std::string(900, 'b')}}));
  Result<CachedCopy> a = cache_->get("a");
  Result<CachedCopy> b = cache_->get("b");
  const Result<Unit> full = put_files(*cache_, "c", {{"f", std::string(900, 'c')}});
  ASSERT_FALSE(full);
  EXPECT_EQ(full.error().code, Errc::kAllPinned);
  b = fail(Errc::kNotFound, "let go");
  EXPECT_TRUE(put_files(*cache_, "c", {{"f", std::string(900, 'c')}}));
  EXPECT_FALSE(has("b"));
  EXPECT_EQ(files_in(a->directory).at("f"), std::string(900, 'a'));

  // Removed and replaced ones stay for those who use them.
  ASSERT_TRUE(cache_->remove("a"));
  EXPECT_FALSE(has("a"));
  EXPECT_EQ(files_in(a->directory).at("f"), std::string(900, 'a'));
  EXPECT_EQ(cache_->remove("a").error().code, Errc::kNotFound);
  a = fail(Errc::kNotFound, "let go");
  EXPECT_EQ(entries_in(folder_ / "cache/entries"), 1U);
  Result<CachedCopy> c = cache_->get("c");
  ASSERT_TRUE(put_files(*cache_, "c", {{"f", "other"}}));
  EXPECT_EQ(files_in(c->directory).at("f"), std::string(900, 'c'));
  EXPECT_EQ(files_in(cache_->get("c")->directory).at("f"), "other");
  ASSERT_TRUE(cache_->clear());
  EXPECT_EQ(files_in(c->directory).at("f"), std::string(900, 'c'));
  const std::string directory = c->directory;
  cache_.reset();  // a lease outlives its cache
  EXPECT_EQ(files_in(directory).at("f"), std::string(900, 'c'));
  c = fail(Errc::kNotFound, "let go");
  EXPECT_EQ(bytes_below(folder_ / "cache"), 0U);
}

// If this failed, what was removed while it was in use would be back after a restart.
TEST_F(DiskCacheTest, RemovedEntriesStayRemovedAfterARestart) {
  open(options());
  ASSERT_TRUE(put_files(*cache_, "a", {{"f", "a"}}));
  const Result<CachedCopy> lease = cache_->get("a");
  ASSERT_TRUE(cache_->remove("a"));
  // Another process, while the first one still uses it: as after a crash of the first.
  Result<std::unique_ptr<CacheBackend>> other = make_disk_cache(options());
  ASSERT_TRUE(other);
  EXPECT_EQ((*other)->get("a").error().code, Errc::kNotFound);
  EXPECT_EQ(files_in(lease->directory).at("f"), "a");
}

// If this failed, every restart would fetch everything again.
TEST_F(DiskCacheTest, SurvivesARestartWithItsOrderOfUses) {
  open(options(3500));
  for (const char* key : {"a", "b", "c"}) {
    ASSERT_TRUE(put_files(*cache_, key, {{"f", std::string(900, *key)}}, {{"is", key}}));
  }
  EXPECT_TRUE(has("a"));
  open(options(3500));
  EXPECT_EQ(cache_->stats().entries, 3U);
  EXPECT_EQ(cache_->metadata("b")->at("is"), "b");
  ASSERT_TRUE(put_files(*cache_, "d", {{"f", std::string(900, 'd')}}));
  EXPECT_FALSE(has("b")) << "the least recently used of the earlier process";
  for (const std::string key : {"a", "c", "d"}) {
    const Result<CachedCopy> copy = cache_->get(key);
    ASSERT_TRUE(copy) << key;
    EXPECT_EQ(files_in(copy->directory).at("f"), std::string(900, key[0]));
  }
}

// If this failed, an adapter whose bytes rotted on the disk would be served.
TEST_F(DiskCacheTest, DropsDamagedEntries) {
  const auto flip_a_bit = [](const fs::path& path) {
    std::string text = testing::text_of(path);
    char& byte = text[text.size() / 2];
    byte = static_cast<char>(byte ^ 1);
    std::ofstream(path, std::ios::binary) << text;
  };
  const std::vector<std::function<void()>> damages = {
      [&] { flip_a_bit(only_entry() / "f"); },
      [&] { flip_a_bit(only_entry() / ".loracle"); },
      [&] { fs::resize_file(only_entry() / "f", 10); },
      [&] { fs::remove(only_entry() / "f"); },
      [&] { fs::resize_file(only_entry() / ".loracle", 0); },
  };
  for (const auto& damage : damages) {
    open(options());
    ASSERT_TRUE(put_files(*cache_, "a", {{"f", std::string(900, 'a')}}));
    cache_.reset();
    damage();
    open(options());
    EXPECT_EQ(cache_->get("a").error().code, Errc::kNotFound);
    EXPECT_EQ(cache_->stats().damaged, 1U);
    EXPECT_EQ(entries_in(folder_ / "cache/entries"), 0U);
    EXPECT_EQ(cache_->stats().bytes, 0U);
    ASSERT_TRUE(put_files(*cache_, "a", {{"f", "sound"}}));
    EXPECT_TRUE(has("a"));
    ASSERT_TRUE(cache_->clear());
  }
}

// If this failed, a fetch that was given up would take room for ever.
TEST_F(DiskCacheTest, AnUnpublishedFillLeavesNothing) {
  open(options(2000));
  {
    Result<std::unique_ptr<CacheFill>> fill = cache_->begin({"a", {{"f", 1500}}, {}});
    ASSERT_TRUE(fill);
    EXPECT_GT(bytes_below(folder_ / "cache"), 1400U) << "it has its room before the first byte comes";
    EXPECT_EQ(cache_->stats().reserved_bytes, cache_->stats().bytes);
    EXPECT_EQ(cache_->begin({"b", {{"f", 1500}}, {}}).error().code, Errc::kAllPinned);
    EXPECT_FALSE(has("a")) << "not whole yet";
  }
  EXPECT_EQ(bytes_below(folder_ / "cache"), 0U);
  EXPECT_EQ(cache_->stats().bytes, 0U);
  EXPECT_TRUE(cache_->begin({"b", {{"f", 1500}}, {}}));
}

// If this failed, another download of the same bytes would take away what is in use.
TEST_F(DiskCacheTest, KeepsWhatIsThereIfAsked) {
  open(options());
  ASSERT_TRUE(put_files(*cache_, "a", {{"f", "one"}}));
  Result<std::unique_ptr<CacheFill>> fill = cache_->begin({"a", {{"f", 3}}, {}});
  ASSERT_TRUE(fill);
  ASSERT_EQ(::pwrite((*fill)->files()[0], "two", 3, 0), 3);
  const Result<CachedCopy> kept = (*fill)->publish(OnExisting::kKeep);
  ASSERT_TRUE(kept);
  EXPECT_EQ(files_in(kept->directory).at("f"), "one");
  fill = fail(Errc::kNotFound, "let go");
  EXPECT_EQ(entries_in(folder_ / "cache/staging"), 0U);
}

// If this failed, adapters that only some may read would be readable to all, or to nobody.
TEST_F(DiskCacheTest, PreservesPermissionsIfAsked) {
  const std::string source = folder_.write("source", "bytes");
  ASSERT_EQ(::chmod(source.c_str(), 0640), 0);
  for (const bool preserve : {false, true}) {
    DiskCacheOptions choice = options();
    choice.preserve_permissions = preserve;
    open(choice);
    ASSERT_TRUE(cache_->put("a", source));
    struct stat found {};
    ASSERT_EQ(::stat((only_entry() / "source").c_str(), &found), 0);
    EXPECT_EQ(found.st_mode & 0777U, preserve ? 0640U : 0600U);
    ASSERT_TRUE(cache_->clear());
  }
}

// If this failed, a full disk would end the process, or be served as an adapter.
TEST_F(DiskCacheTest, AFullDiskIsAnErrorThatSaysSo) {
  // In a process of its own, which may not write large files: the kernel's answer to a disk that is full.
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{10'000, 10'000};
    if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) ::_exit(1);
    Result<std::unique_ptr<CacheBackend>> cache = make_disk_cache(options());
    if (!cache) ::_exit(2);
    if (!put_files(**cache, "small", {{"f", std::string(900, 's')}})) ::_exit(3);
    const Result<Unit> large = put_files(**cache, "large", {{"f", std::string(20'000, 'l')}});
    if (large || large.error().code != Errc::kIo || large.error().detail != EFBIG) ::_exit(4);
    if ((*cache)->get("large") || !(*cache)->get("small")) ::_exit(5);
    if ((*cache)->stats().reserved_bytes != 0 || entries_in(folder_ / "cache/staging") != 0) ::_exit(6);
    ::_exit(0);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

// If this failed, a file that somebody else keeps in that directory would be deleted or counted.
TEST_F(DiskCacheTest, LeavesAloneWhatIsNotItsOwn) {
  fs::create_directories(folder_ / "cache/staging/mine");
  fs::create_directories(folder_ / "cache/entries/mine");
  folder_.write("cache/staging/mine/a", "a");
  folder_.write("cache/entries/mine/b", "b");
  folder_.write("cache/c", "c");
  open(options());
  ASSERT_TRUE(put_files(*cache_, "a", {{"f", "a"}}));
  ASSERT_TRUE(cache_->clear());
  EXPECT_EQ(cache_->stats().bytes, 0U);
  EXPECT_EQ(bytes_below(folder_ / "cache"), 3U);
}

}  // namespace
}  // namespace loracle
