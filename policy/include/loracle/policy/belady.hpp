#pragma once
/// Belady's MIN: evicts the row whose next use is farthest away. Optimal at equal sizes; with unequal sizes
/// it is only a good policy, no bound. Always admits.
///
/// Formula: victim = argmax of next use; rows never used again go first, in the order of their last uses.
/// Two forms, equal in every decision:
/// - With `Config::future` (the uses of the whole replay; use t is of row future[t]) the resident set is a
///   set of ticks: a bit per use. A hit sets one bit, the victim is the highest bit, future[] names its row,
///   and no column by row is read but one bit of residency. `Config::future_next` saves the driver the column
///   table.next_use. future[] of a far tick is not in any cache of the processor, so the next few victims are
///   kept in `farthest_`, their rows known or asked for ahead of time (some 2.5 times as fast as without).
///   REQUIRES then: the tick of every call is the index of the use; a row removed from outside costs
///   O(residents).
/// - Without it, for any driver: a heap by table.next_use, O(log4 residents) an operation.
/// Cost with the future: O(1), at most one word a level of the 64-ary tree. Memory: 1/8 byte a use, 4 bytes
/// and one bit a row; without it 20 bytes a row.
/// Differences from the paper: none. From libCacheSim: none in the counts. (Which of the never-again rows
/// goes first cannot change a count: they are dead weight, and what is alive goes only when all of them are
/// gone.)
/// Source: Belady, "A study of replacement algorithms for a virtual-storage computer", IBM Systems Journal
/// 5(2), 1966.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "loracle/core/check.hpp"
#include "loracle/core/indexed_heap.hpp"
#include "loracle/core/tick_set.hpp"
#include "loracle/policy/eviction_policy.hpp"

namespace loracle {

class Belady {
 public:
  struct Config {
    std::span<const Row> future;                 // [uses] or empty: the row of each use
    std::span<const std::uint32_t> future_next;  // [uses] or empty: use index of its next use, all ones: none
    template <class V>
    void visit(V&&) {}
  };
  static constexpr std::string_view kName = "belady";
  static constexpr bool kClairvoyant = true;

  Belady(std::uint32_t rows, Capacity, const Config& config)
      : future_(config.future),
        future_next_(config.future_next),
        resident_((std::size_t{rows} + 63) / 64),
        next_uses_(static_cast<std::uint32_t>(future_.size())),
        heap_(future_.empty() ? rows : 0) {
    LORACLE_CHECK(future_.size() < TickSet::kNone);
    LORACLE_CHECK(future_next_.empty() || future_next_.size() == future_.size());
    if (!future_.empty()) done_.resize(rows);
  }

  [[nodiscard]] bool contains(Row row) const noexcept {
    return (resident_[index_of(row) / 64] >> (index_of(row) % 64) & 1U) != 0;
  }
  [[nodiscard]] bool admit(Row, Tick, const AdapterTable&) noexcept { return true; }

  void on_insert(Row row, Tick now, const AdapterTable& table) noexcept {
    resident_[index_of(row) / 64] |= mask(row);
    if (future_.empty())
      heap_.insert(row, urgency(row, table));
    else
      expect(row, now, table);
  }

  void on_access(Row row, Tick now, const AdapterTable& table) noexcept {
    if (future_.empty())
      heap_.update(row, urgency(row, table));
    else
      expect(row, now, table);
  }

  void on_remove(Row row) noexcept {
    resident_[index_of(row) / 64] &= ~mask(row);
    if (future_.empty()) {
      heap_.erase(row);
      return;
    }
    for (std::uint32_t i = done_begin_; i != done_end_; ++i) {
      if (done_[i] != row) continue;
      drop_done(i);
      return;
    }
    std::uint32_t tick = next_uses_.largest();  // a row's stale bits are all below its true one
    while (future_[tick] != row) tick = next_uses_.largest_below(tick);
    next_uses_.erase(tick);
    for (std::uint32_t i = 0; i != farthest_size_; ++i) {
      if (farthest_[i].tick != tick) continue;
      drop_farthest(i);
      return;
    }
  }

  template <class Guard>
  [[nodiscard]] Row evict(Row, Tick now, const AdapterTable&, const Guard& guard) noexcept {
    const Row victim = future_.empty() ? heap_.take(guard) : take(now, guard);
    if (victim != kNoRow) resident_[index_of(victim) / 64] &= ~mask(victim);
    return victim;
  }

  void prefetch(Row row) const noexcept {
    __builtin_prefetch(&resident_[index_of(row) / 64], 1);
    if (future_.empty()) heap_.prefetch(row);
  }

 private:
  [[nodiscard]] static std::uint64_t mask(Row row) noexcept {
    return std::uint64_t{1} << (index_of(row) % 64);
  }

  /// The heap's priority: the farther the next use, the less; equal for rows never used again.
  [[nodiscard]] static std::uint64_t urgency(Row row, const AdapterTable& table) noexcept {
    return ~table.next_use_of(row).value;
  }

  /// Notes when the row used now is used next. The bit of its use at `now` stays behind: bits at or below the
  /// present are never looked at, and clearing them would cost as much as setting them.
  void expect(Row row, Tick now, const AdapterTable& table) noexcept {
    LORACLE_DCHECK(now.value < future_.size());
    LORACLE_DCHECK(future_[now.value] == row);
    std::uint32_t next = TickSet::kNone;
    if (!future_next_.empty()) {
      next = future_next_[now.value];
      if (now.value + kAhead < future_next_.size()) next_uses_.prefetch(future_next_[now.value + kAhead]);
    } else if (table.next_use_of(row) != kNever)
      next = static_cast<std::uint32_t>(table.next_use_of(row).value);
    if (next == TickSet::kNone) {
      append_done(row);
      return;
    }
    next_uses_.insert(next);
    if (farthest_size_ != 0 && next > farthest_[0].tick) add_farthest(next, row);
  }

  template <class Guard>
  [[nodiscard]] Row take(Tick now, const Guard& guard) noexcept {
    for (std::uint32_t i = done_begin_; i != done_end_; ++i) {
      const Row row = done_[i];
      if (guard.blocks(row)) continue;
      drop_done(i);
      return row;
    }
    if (farthest_size_ == 0 || farthest_[farthest_size_ - 1].tick <= now.value) refill_farthest(now);
    std::uint32_t tick = TickSet::kNone;
    for (std::uint32_t i = farthest_size_; i-- > 0;) {
      tick = farthest_[i].tick;
      if (tick <= now.value) return kNoRow;
      const Row row = farthest_[i].row == kNoRow ? future_[tick] : farthest_[i].row;
      if (guard.blocks(row)) continue;
      drop_farthest(i);
      next_uses_.erase(tick);
      return row;
    }
    if (tick == TickSet::kNone) return kNoRow;
    for (tick = next_uses_.largest_below(tick); tick != TickSet::kNone && tick > now.value;
         tick = next_uses_.largest_below(tick)) {
      const Row row = future_[tick];
      if (guard.blocks(row)) continue;
      next_uses_.erase(tick);
      return row;
    }
    return kNoRow;
  }

  void refill_farthest(Tick now) noexcept {
    std::uint32_t tick = next_uses_.largest();
    std::uint32_t found = 0;
    for (; found != kFarthestMax && tick != TickSet::kNone && tick > now.value; ++found) {
      __builtin_prefetch(&future_[tick]);
      farthest_[kFarthestMax - 1 - found] = {tick, kNoRow};
      tick = next_uses_.largest_below(tick);
    }
    std::copy(farthest_.end() - found, farthest_.end(), farthest_.begin());
    farthest_size_ = found;
  }

  /// REQUIRES: farthest_ is not empty and its first tick is below `tick`.
  void add_farthest(std::uint32_t tick, Row row) noexcept {
    if (farthest_size_ == kFarthestMax) drop_farthest(0);
    std::uint32_t place = farthest_size_++;
    for (; place != 0 && farthest_[place - 1].tick > tick; --place) farthest_[place] = farthest_[place - 1];
    farthest_[place] = {tick, row};
  }

  void drop_farthest(std::uint32_t place) noexcept {
    for (--farthest_size_; place != farthest_size_; ++place) farthest_[place] = farthest_[place + 1];
  }

  void append_done(Row row) noexcept {
    if (done_end_ == done_.size()) {  // only where rows were removed and came back after their last use
      std::copy(done_.begin() + done_begin_, done_.end(), done_.begin());
      done_end_ -= done_begin_;
      done_begin_ = 0;
    }
    done_[done_end_++] = row;
  }

  void drop_done(std::uint32_t place) noexcept {
    for (; place != done_begin_; --place) done_[place] = done_[place - 1];
    ++done_begin_;
  }

  std::span<const Row> future_;
  std::span<const std::uint32_t> future_next_;
  std::vector<std::uint64_t> resident_;  // [rows / 64]  bits
  TickSet next_uses_;                    // of resident rows, and bits of the past; empty without a future
  struct Use {
    std::uint32_t tick = 0;
    Row row = kNoRow;  // kNoRow: not read from future_ yet
  };
  static constexpr std::uint32_t kFarthestMax = 16;
  static constexpr std::uint32_t kAhead = 16;
  std::array<Use, kFarthestMax> farthest_;  // ascending; none of next_uses_ above the first is missing
  std::uint32_t farthest_size_ = 0;
  std::vector<Row> done_;  // [rows]  resident rows never used again: done_begin_ .. done_end_
  std::uint32_t done_begin_ = 0;
  std::uint32_t done_end_ = 0;
  IndexedHeap<std::uint64_t> heap_;  // without a future
};
static_assert(EvictionPolicy<Belady>);

}  // namespace loracle
