#pragma once
/// A min-heap over rows whose entries can be moved and removed by row; equal priorities leave in the order in
/// which they were set (first set, first out), so that every victim is decided.
/// Layout: 4-ary. An entry is 16 bytes (priority, order, row), so the four children of a node are one cache
/// line: the root lies at place 3, the children of place p at 4(p - 2) .. 4(p - 2) + 3, and place 0 is
/// cache-line aligned. `place_` [rows] says where a row lies; 0 where it is absent. 20 bytes a row, allocated
/// once at construction.
/// Invariants: 1. No entry is less than its parent. 2. place_[row of entry p] == p.
/// Cost: O(log4 size) an operation, `least` O(1). A `take` leaves its hole at the root until the next
/// operation, so that take + insert, a cache's steady state, walks the tree once.
/// Orders are 32 bits; when they are used up the entries are sorted (a sorted array is a heap) and numbered
/// anew.
/// Dropped: leaving a hit's new priority beside the heap until its entry comes to the top (0.8 times as fast:
/// most hits move an entry a level or two near the bottom, a late correction moves it all the way from the
/// top).
/// Threads: one owner. Priority: uint64_t, or double from 0 up; never NaN.

#include <algorithm>
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "loracle/core/check.hpp"
#include "loracle/core/units.hpp"

namespace loracle {

template <class Priority>
class IndexedHeap {
 public:
  static_assert(std::same_as<Priority, double> || std::same_as<Priority, std::uint64_t>);

  explicit IndexedHeap(std::uint32_t rows, std::uint32_t first_order = 0)
      : entries_(std::size_t{rows} + kRoot + kLine), place_(rows, kAbsent), next_order_(first_order) {
    const auto address = reinterpret_cast<std::uintptr_t>(entries_.data());
    offset_ = (kLineBytes - address % kLineBytes) % kLineBytes / sizeof(Entry);
  }

  [[nodiscard]] bool contains(Row row) const noexcept { return place_[index_of(row)] != kAbsent; }
  [[nodiscard]] std::uint32_t size() const noexcept { return end_ - kRoot - (hole_ ? 1U : 0U); }
  [[nodiscard]] bool empty() const noexcept { return size() == 0; }

  /// REQUIRES: contains(row).
  [[nodiscard]] Priority priority_of(Row row) const noexcept {
    LORACLE_DCHECK(contains(row));
    return at(place_[index_of(row)]).priority;
  }

  /// REQUIRES: !contains(row).
  void insert(Row row, Priority priority) noexcept {
    LORACLE_DCHECK(!contains(row));
    LORACLE_DCHECK(priority >= Priority{0});
    const Entry entry{priority, draw_order(), row};
    if (hole_) {
      hole_ = false;
      sink(kRoot, entry);
    } else {
      rise(end_++, entry);
    }
  }

  /// Gives a row a new priority and the newest order. REQUIRES: contains(row).
  void update(Row row, Priority priority) noexcept {
    LORACLE_DCHECK(contains(row));
    LORACLE_DCHECK(priority >= Priority{0});
    const std::uint32_t order = draw_order();  // may move entries: before the place is read
    settle();
    const std::uint32_t place = place_[index_of(row)];
    const bool falls = at(place).priority <= priority;
    if (falls)
      sink(place, Entry{priority, order, row});
    else
      rise(place, Entry{priority, order, row});
  }

  /// REQUIRES: contains(row).
  void erase(Row row) noexcept {
    LORACLE_DCHECK(contains(row));
    settle();
    const std::uint32_t place = place_[index_of(row)];
    place_[index_of(row)] = kAbsent;
    const Entry last = at(--end_);
    if (place == end_) return;
    if (place != kRoot && less(last, at(parent(place))))
      rise(place, last);
    else
      sink(place, last);
  }

  /// The row that `take` would remove, without a guard; kNoRow if the heap is empty.
  [[nodiscard]] Row least() noexcept {
    settle();
    return end_ == kRoot ? kNoRow : at(kRoot).row;
  }

  /// Removes and returns the least row that the guard does not block, unless `keep(its priority)`: then, and
  /// if there is none, nothing changes and the answer is kNoRow.
  /// Blocked entries wait behind the heap's end, in the very places that taking them off has freed: O(blocked
  /// log n).
  template <class Guard, class Keep>
  [[nodiscard]] Row take_unless(const Guard& guard, Keep&& keep) noexcept {
    settle();
    std::uint32_t aside = 0;
    while (end_ != kRoot && guard.blocks(at(kRoot).row)) {
      const Entry blocked = at(kRoot);
      const Entry last = at(--end_);
      if (end_ != kRoot) sink(kRoot, last);
      at(end_) = blocked;
      ++aside;
    }
    Row taken = kNoRow;
    if (end_ != kRoot && !keep(at(kRoot).priority)) {
      taken = at(kRoot).row;
      place_[index_of(taken)] = kAbsent;
      if (aside == 0) {
        hole_ = true;
      } else {
        const Entry last = at(--end_);
        if (end_ != kRoot) sink(kRoot, last);
      }
    }
    // With a row taken, the entries set aside begin one place behind the end.
    const std::uint32_t gap = taken == kNoRow ? 0 : 1;
    for (; aside != 0; --aside) {
      const Entry blocked = at(end_ + gap);
      rise(end_++, blocked);
    }
    return taken;
  }

  template <class Guard>
  [[nodiscard]] Row take(const Guard& guard) noexcept {
    return take_unless(guard, [](Priority) { return false; });
  }

  /// Asks the processor for a row's place ahead of use; never faults.
  void prefetch(Row row) const noexcept { __builtin_prefetch(&place_[index_of(row)], 1); }

 private:
  static constexpr std::uint32_t kAbsent = 0;
  static constexpr std::uint32_t kRoot = 3;
  static constexpr std::uint32_t kLine = 4;  // entries in a cache line
  static constexpr std::uintptr_t kLineBytes = 64;

  struct Entry {
    Priority priority{};
    std::uint32_t order = 0;
    Row row = kNoRow;
  };
  static_assert(sizeof(Entry) == 16);

  __extension__ using Wide = unsigned __int128;  // an extension of both compilers we build with

  /// (priority, order) as one number: a non-negative double has the order of its bits.
  [[nodiscard]] static Wide wide(const Entry& entry) noexcept {
    return static_cast<Wide>(std::bit_cast<std::uint64_t>(entry.priority)) << 64U | entry.order;
  }
  [[nodiscard]] static bool less(const Entry& a, const Entry& b) noexcept {
    // One 128-bit comparison, because which child is least cannot be predicted: no branch may depend on it.
    return wide(a) < wide(b);
  }
  [[nodiscard]] static std::uint32_t parent(std::uint32_t place) noexcept { return place / 4 + 2; }
  [[nodiscard]] static std::uint32_t first_child(std::uint32_t place) noexcept { return 4 * (place - 2); }

  [[nodiscard]] Entry& at(std::uint32_t place) noexcept { return entries_[offset_ + place]; }
  [[nodiscard]] const Entry& at(std::uint32_t place) const noexcept { return entries_[offset_ + place]; }

  void put(std::uint32_t place, const Entry& entry) noexcept {
    at(place) = entry;
    place_[index_of(entry.row)] = place;
  }

  /// Puts `entry` at `place` or above. The place's old content is lost.
  void rise(std::uint32_t place, const Entry& entry) noexcept {
    while (place != kRoot) {
      const std::uint32_t up = parent(place);
      if (!less(entry, at(up))) break;
      put(place, at(up));
      place = up;
    }
    put(place, entry);
  }

  /// Puts `entry` at `place` or below. The place's old content is lost.
  void sink(std::uint32_t place, const Entry& entry) noexcept {
    for (;;) {
      const std::uint32_t child = first_child(place);
      if (child >= end_) break;
      // Which of the grandchildren's four lines comes next is known too late to fetch it then.
      for (std::uint32_t next = first_child(child), i = 0; i < 4 && next < end_; ++i, next += kLine)
        __builtin_prefetch(&at(next));
      std::uint32_t least;
      if (child + 3 < end_) {
        const std::uint32_t left = child + static_cast<std::uint32_t>(less(at(child + 1), at(child)));
        const std::uint32_t right =
            child + 2 + static_cast<std::uint32_t>(less(at(child + 3), at(child + 2)));
        least = less(at(right), at(left)) ? right : left;
      } else {
        least = child;
        for (std::uint32_t other = child + 1; other < end_; ++other)
          if (less(at(other), at(least))) least = other;
      }
      if (!less(at(least), entry)) break;
      put(place, at(least));
      place = least;
    }
    put(place, entry);
  }

  /// Fills the hole that `take` left at the root.
  void settle() noexcept {
    if (!hole_) return;
    hole_ = false;
    const Entry last = at(--end_);
    if (end_ != kRoot) sink(kRoot, last);
  }

  [[nodiscard]] std::uint32_t draw_order() noexcept {
    if (next_order_ == std::numeric_limits<std::uint32_t>::max()) number_anew();
    return next_order_++;
  }

  void number_anew() noexcept {
    settle();
    std::sort(&at(kRoot), &at(kRoot) + (end_ - kRoot), less);
    next_order_ = 0;
    for (std::uint32_t place = kRoot; place != end_; ++place) {
      at(place).order = next_order_++;
      place_[index_of(at(place).row)] = place;
    }
  }

  std::vector<Entry> entries_;
  std::vector<std::uint32_t> place_;  // [rows]
  std::size_t offset_ = 0;            // of place 0 in entries_
  std::uint32_t end_ = kRoot;         // one past the last place in use
  std::uint32_t next_order_;
  bool hole_ = false;  // the root is free; every other place below end_ is in use
};

}  // namespace loracle
