// Both caches against a naive twin: a map and the bare policy, over random operations.

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "loracle/policy/all_policies.hpp"
#include "loracle/storage/make_cache.hpp"
#include "storage/cache_fakes.hpp"
#include "support/temp_dir.hpp"

namespace loracle {
namespace {

using testing::bytes_below;
using testing::files_in;

constexpr std::uint32_t kKeys = 24;

/// Keeps sizes in a map and asks the policy itself; a key's row is its number.
class Twin {
 public:
  Twin(const std::string& policy, std::uint64_t bytes_max, std::uint64_t entries_max)
      : capacity_{entries_max, Bytes{bytes_max}},
        policy_(*make_any_policy(*parse_policy_spec(policy), rows(entries_max), capacity_)),
        holds_(rows(entries_max), 0) {
    table_.size.assign(rows(entries_max), Bytes{});
  }

  [[nodiscard]] bool has(std::uint32_t key) const { return sizes_.count(key) != 0; }
  void touch(std::uint32_t key) { policy_.on_access(row(key), tick(), table_); }
  void remove(std::uint32_t key) {
    policy_.on_remove(row(key));
    sizes_.erase(key);
  }
  void hold(std::uint32_t key) { ++holds_[number(key)]; }
  void let_go(std::uint32_t key) { --holds_[number(key)]; }

  /// REQUIRES: !has(key).
  [[nodiscard]] bool insert(std::uint32_t key, std::uint64_t size) {
    if (size > capacity_.bytes.value) {
      static_cast<void>(number(key));  // it had a row all the same
      return false;
    }
    table_.size[number(key)] = Bytes{size};
    const Tick now = tick();
    static_cast<void>(policy_.admit(row(key), now, table_));
    hold(key);
    bool fits = true;
    while (sizes_.size() >= capacity_.entries || bytes() + size > capacity_.bytes.value) {
      const Row victim = policy_.evict(row(key), now, table_, HoldGuard{holds_});
      if (victim == kNoRow) {
        fits = false;
        break;
      }
      sizes_.erase(key_of_.at(victim));
    }
    let_go(key);
    if (!fits) return false;
    policy_.on_insert(row(key), now, table_);
    sizes_[key] = size;
    return true;
  }
  [[nodiscard]] std::uint64_t bytes() const {
    std::uint64_t sum = 0;
    for (const auto& [key, size] : sizes_) sum += size;
    return sum;
  }
  [[nodiscard]] std::size_t entries() const { return sizes_.size(); }

 private:
  /// As many as the caches have: some policies size what they remember by it.
  [[nodiscard]] static std::uint32_t rows(std::uint64_t entries_max) {
    return static_cast<std::uint32_t>(4 * entries_max + 64);
  }
  [[nodiscard]] Tick tick() { return Tick{++tick_}; }
  [[nodiscard]] std::uint32_t number(std::uint32_t key) {
    const auto [place, is_new] = row_of_.try_emplace(key, Row{static_cast<std::uint32_t>(row_of_.size())});
    if (is_new) key_of_[place->second] = key;
    return static_cast<std::uint32_t>(place->second);
  }
  [[nodiscard]] Row row(std::uint32_t key) { return Row{number(key)}; }

  Capacity capacity_;
  AnyPolicy policy_;
  AdapterTable table_;
  std::vector<std::uint32_t> holds_;
  std::map<std::uint32_t, std::uint64_t> sizes_;  // by key
  std::map<std::uint32_t, Row> row_of_;
  std::map<Row, std::uint32_t> key_of_;
  std::uint64_t tick_ = 0;
};

std::string bytes_of_key(std::uint32_t key, std::uint64_t size) {
  Rng rng(key * 1000 + size);
  return testing::random_text(rng, size);
}

/// `cost`: what an entry of one file takes. `look`: called after every operation.
void compare(CacheBackend& cache, const std::string& policy, std::uint64_t bytes_max,
             std::uint64_t entries_max,
             const std::function<std::uint64_t(const std::string& key, std::uint64_t size)>& cost,
             const std::function<void()>& look, int operations) {
  Twin twin(policy, bytes_max, entries_max);
  std::map<std::uint32_t, CachedCopy> leases;
  std::map<std::uint32_t, std::uint64_t> sizes;
  Rng rng(7);
  for (int i = 0; i < operations; ++i) {
    SCOPED_TRACE(policy + ", operation " + std::to_string(i));
    // Half of the requests go to a quarter of the keys.
    const std::uint32_t key = rng.below(2) == 0 ? rng.below(kKeys / 4) : rng.below(kKeys);
    const std::string name = "key-" + std::to_string(key);
    const std::uint32_t what = rng.below(20);
    if (what == 0 && twin.has(key) && leases.count(key) == 0) {
      ASSERT_TRUE(cache.remove(name));
      twin.remove(key);
    } else if (what == 1 && !leases.empty()) {
      twin.let_go(leases.begin()->first);
      leases.erase(leases.begin());
    } else {
      Result<CachedCopy> copy = cache.get(name);
      ASSERT_EQ(copy.has_value(), twin.has(key));
      if (copy) {
        twin.touch(key);
        ASSERT_EQ(testing::text_of(copy->directory + "/f"), bytes_of_key(key, sizes[key]));
        if (what == 2 && leases.size() < 3 && leases.count(key) == 0) {
          twin.hold(key);
          leases.emplace(key, std::move(*copy));
        }
      } else {
        sizes[key] = 100 + rng.below(900) + (what == 3 ? bytes_max : 0);
        const bool fits = twin.insert(key, cost(name, sizes[key]));
        const Result<Unit> put = testing::put_files(cache, name, {{"f", bytes_of_key(key, sizes[key])}});
        ASSERT_EQ(put.has_value(), fits) << (put ? "" : put.error().message);
      }
    }
    ASSERT_EQ(cache.stats().bytes, twin.bytes());
    ASSERT_EQ(cache.stats().entries, twin.entries());
    look();
  }
  EXPECT_GT(cache.stats().evictions, static_cast<std::uint64_t>(operations / 10));
}

const char* const kPolicies[] = {"lru", "fifo", "sieve", "s3fifo", "arc", "gdsf", "wtinylfu"};

// If this failed, the cache in memory would evict others than the policy it was told to use.
TEST(CacheTwin, MemoryCacheDecidesAsTheBarePolicy) {
  for (const std::string policy : kPolicies) {
    MemoryCacheOptions options;
    options.max_size_bytes = Bytes{6000};
    options.max_items = 9;
    options.policy = policy;
    Result<std::unique_ptr<CacheBackend>> cache = make_memory_cache(options);
    ASSERT_TRUE(cache);
    compare(
        **cache, policy, 6000, 9, [](const std::string&, std::uint64_t size) { return size; }, [] {}, 1500);
  }
}

// If this failed, the disk cache would evict others than its policy says, or outgrow its bound.
TEST(CacheTwin, DiskCacheDecidesAsTheBarePolicyAndNeverExceedsItsBound) {
  const testing::FoldersInMemory in_memory;
  const testing::TempDir measure;
  DiskCacheOptions probe;
  probe.cache_dir = measure.path().string();
  Result<std::unique_ptr<CacheBackend>> ruler = make_disk_cache(probe);
  ASSERT_TRUE(ruler);
  std::map<std::pair<std::string, std::size_t>, std::uint64_t> records;
  // A record's length hangs on the key, and on the digits of the size.
  const auto cost = [&](const std::string& key, std::uint64_t size) {
    const auto [place, is_new] = records.try_emplace({key, std::to_string(size).size()}, 0);
    if (is_new) {
      EXPECT_TRUE((*ruler)->clear());
      EXPECT_TRUE(testing::put_files(**ruler, key, {{"f", std::string(size, 'x')}}));
      place->second = bytes_below(measure.path()) - size;
    }
    return place->second + size;
  };
  for (const std::string policy : kPolicies) {
    const testing::TempDir folder;
    DiskCacheOptions options;
    options.cache_dir = folder.path().string();
    options.max_size_bytes = Bytes{6000};
    options.policy = policy;
    Result<std::unique_ptr<CacheBackend>> cache = make_disk_cache(options);
    ASSERT_TRUE(cache);
    compare(
        **cache, policy, 6000, kDiskCacheEntriesMax, cost,
        [&] {
          ASSERT_LE(bytes_below(folder.path()), 6000U);
          ASSERT_EQ(bytes_below(folder.path()), (*cache)->stats().bytes);
        },
        250);
  }
}

}  // namespace
}  // namespace loracle
