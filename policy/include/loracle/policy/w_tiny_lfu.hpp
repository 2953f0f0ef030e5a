#pragma once
/// W-TinyLFU: newcomers pass through a small LRU window; one that leaves it enters the main cache only if it
/// has been used more often, lately, than the row it would push out.
///
/// Formula: Window (LRU) has share `window` of the capacity, at least one entry; Main the rest, split into
/// Probation and Protected (share `protected` of Main), both LRU. Hit: in Window to its front; in Main to the
/// front of Protected, whose overflow goes back to the front of Probation. A newcomer enters Window. What
/// Window has too much moves, oldest first, to Main while Main has room: to Probation, or to Protected once
/// Probation has its share (so too before an eviction, the newcomer counted). Evict: if the newcomer would
/// not fit in Window, Window's oldest meets the oldest of Probation (of Protected, if that is empty): the one
/// used less often is the victim, on a tie the one from Window. Else the victim is the oldest of Main.
/// How often: each row counts, to 255, its misses and its hits in Main; a burst of hits in Window tells
/// nothing. All counts are halved whenever `sample` counted uses per resident row have passed (lazily: by the
/// shift that is due when a count is next read).
/// Cost: O(1) an operation, amortised. Memory: 13 bytes a row, 21 where bytes are limited.
/// Blocked rows neither leave nor meet another; if one side has only such, the other gives the victim.
/// Differences from the paper: exact counters instead of a sketch (rows are few, and no collision can keep
/// out a useful row), counting to 255, no doorkeeper, hits in Window not counted. From libCacheSim: it counts
/// in a sketch, which over-estimates; counts a row again each time it meets another; halves by hits in Main
/// alone; evicts until a row from Window loses. It keeps nothing below 100 entries, where its Window has no
/// room, nor rows larger than Window. Misses on its sample trace (cloudPhysicsIO): 3.8 % fewer to 0.9 % more
/// from 128 entries up, 0.1 % and 1.8 % more in bytes; on Zipf(1.0) 2 to 4 % fewer.
/// Source: Einziger, Friedman and Manes, "TinyLFU: a highly efficient cache admission policy", ACM TOS 13(4),
/// 2017.

#include <algorithm>
#include <cstdint>
#include <string_view>
#include <vector>

#include "loracle/core/row_queues.hpp"
#include "loracle/policy/eviction_policy.hpp"

namespace loracle {

class WTinyLfu {
 public:
  struct Config {
    double window = 0.01;       // of the capacity
    double protect = 0.8;       // of Main
    std::uint64_t sample = 32;  // uses per resident row between halvings, at least 1
    template <class V>
    void visit(V&& v) {
      v("window", window);
      v("protected", protect);
      v("sample", sample);
    }
  };
  static constexpr std::string_view kName = "wtinylfu";
  static constexpr bool kClairvoyant = false;

  WTinyLfu(std::uint32_t rows, Capacity capacity, const Config& config)
      : weigher_(capacity),
        window_max_(std::clamp<std::uint64_t>(weigher_.share(config.window), 1, weigher_.total())),
        main_max_(weigher_.total() - window_max_),
        protected_max_(static_cast<std::uint64_t>(static_cast<double>(main_max_) *
                                                  std::clamp(config.protect, 0.0, 1.0))),
        sample_(std::max<std::uint64_t>(config.sample, 1)),
        queues_(rows, 3, weigher_.by_bytes()),
        uses_(rows, 0) {}

  [[nodiscard]] bool contains(Row row) const noexcept { return queues_.queue_of(row) != RowQueues::kNowhere; }

  [[nodiscard]] bool admit(Row row, Tick, const AdapterTable&) noexcept {
    count_use(row);
    return true;
  }

  void on_insert(Row row, Tick, const AdapterTable& table) noexcept {
    queues_.push_front(kWindow, row, weigher_.of(row, table));
    ++resident_;
    drain_window(0);
  }

  void on_access(Row row, Tick, const AdapterTable&) noexcept {
    if (queues_.queue_of(row) == kWindow) return queues_.move_to_front(kWindow, row);
    count_use(row);
    queues_.move_to_front(kProtected, row);
    while (queues_.weight(kProtected) > protected_max_)
      queues_.move_to_front(kProbation, queues_.back(kProtected));
  }

  void on_remove(Row row) noexcept {
    queues_.erase(row);
    --resident_;
  }

  template <class Guard>
  [[nodiscard]] Row evict(Row incoming, Tick, const AdapterTable& table, const Guard& guard) noexcept {
    const std::uint64_t weight = weigher_.of(incoming, table);
    drain_window(weight);
    const bool window_full = queues_.weight(kWindow) + weight > window_max_;
    const Row candidate = queues_.oldest_free(kWindow, guard);
    Row victim = queues_.oldest_free(kProbation, guard);
    if (victim == kNoRow) victim = queues_.oldest_free(kProtected, guard);
    if (victim == kNoRow || (candidate != kNoRow && window_full && uses_of(candidate) <= uses_of(victim)))
      victim = candidate;
    if (victim == kNoRow) return kNoRow;
    on_remove(victim);
    return victim;
  }

  void prefetch(Row row) const noexcept {
    queues_.prefetch(row);
    __builtin_prefetch(&uses_[index_of(row)], 1);
  }

 private:
  enum : std::uint32_t { kWindow, kProbation, kProtected };
  static constexpr std::uint32_t kUsesBits = 8;
  static constexpr std::uint32_t kUsesMax = (1U << kUsesBits) - 1;
  static constexpr std::uint32_t kEpochMask = ~kUsesMax >> kUsesBits;

  [[nodiscard]] std::uint32_t uses_of(Row row) const noexcept {
    const std::uint32_t word = uses_[index_of(row)];
    const std::uint32_t halvings = (epoch_ - (word >> kUsesBits)) & kEpochMask;
    return halvings > kUsesBits ? 0 : (word & kUsesMax) >> halvings;
  }
  void count_use(Row row) noexcept {
    if (++uses_since_halving_ / sample_ >= std::max<std::uint64_t>(resident_, 1)) {
      uses_since_halving_ = 0;
      epoch_ = (epoch_ + 1) & kEpochMask;
    }
    uses_[index_of(row)] = (epoch_ << kUsesBits) | std::min(uses_of(row) + 1, kUsesMax);
  }

  /// Moves what Window has too much, once `coming` enters it, to Main as far as there is room.
  void drain_window(std::uint64_t coming) noexcept {
    while (queues_.weight(kWindow) + coming > window_max_) {
      const Row row = queues_.back(kWindow);
      if (row == kNoRow) return;
      const std::uint64_t main = queues_.weight(kProbation) + queues_.weight(kProtected);
      if (main + queues_.weight_of(row) > main_max_) return;
      const bool probation_full =
          queues_.weight(kProbation) + queues_.weight_of(row) > main_max_ - protected_max_;
      queues_.move_to_front(probation_full ? kProtected : kProbation, row);
    }
  }

  Weigher weigher_;
  std::uint64_t window_max_;  // these three in the weigher's unit
  std::uint64_t main_max_;
  std::uint64_t protected_max_;
  std::uint64_t sample_;
  RowQueues queues_;
  std::vector<std::uint32_t> uses_;  // [rows] low 8 bits: uses; high 24: the epoch they were last counted in
  std::uint32_t epoch_ = 0;          // halvings so far, modulo 2^24
  std::uint64_t uses_since_halving_ = 0;
  std::uint64_t resident_ = 0;  // rows
};
static_assert(EvictionPolicy<WTinyLfu>);

}  // namespace loracle
