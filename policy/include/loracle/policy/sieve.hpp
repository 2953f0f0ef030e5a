#pragma once
/// SIEVE: a FIFO queue with a hand that walks from old to new, takes the first row not used since the hand
/// last passed, and leaves the others where they are.
///
/// Formula: a hit sets the row's mark; evict: while the row at the hand is marked, unmark it and step to the
/// next newer row (from the newest back to the oldest); evict the row at the hand and step. Newcomers come in
/// unmarked at the new end. Cost: a hit sets one bit of one word; evict is O(1) amortised over hits. Memory:
/// 12 bytes a row.
/// Blocked rows are stepped over and keep their marks.
/// Differences from the paper: the queue is an array in order of arrival, packed now and then, instead of a
/// linked list (the hand reads memory in sequence); same victims. From libCacheSim: none in the counts.
/// Source: Zhang et al., "SIEVE is simpler than LRU", NSDI 2024.

#include <cstdint>
#include <string_view>

#include "loracle/core/row_ring.hpp"
#include "loracle/policy/eviction_policy.hpp"

namespace loracle {

class Sieve {
 public:
  using Config = NoConfig;
  static constexpr std::string_view kName = "sieve";
  static constexpr bool kClairvoyant = false;

  Sieve(std::uint32_t rows, Capacity capacity, const Config&) : ring_(rows, capacity.entries) {}

  [[nodiscard]] bool contains(Row row) const noexcept { return ring_.contains(row); }
  [[nodiscard]] bool admit(Row, Tick, const AdapterTable&) noexcept { return true; }
  void on_insert(Row row, Tick, const AdapterTable&) noexcept { ring_.push(row, hand_); }
  void on_access(Row row, Tick, const AdapterTable&) noexcept { ring_.mark(row); }
  void on_remove(Row row) noexcept {
    const RowRing::Position at = ring_.position_of(row);
    const RowRing::Position newer = ring_.erase_at(at);
    if (at == hand_) hand_to(newer);
  }

  template <class Guard>
  [[nodiscard]] Row evict(Row, Tick, const AdapterTable&, const Guard& guard) noexcept {
    const RowRing::Position start = hand_;
    // Two turns see every row unmarked; one more covers a start in the middle.
    for (int turns = 0; turns < 3 && ring_.size() != 0;) {
      const Row row = ring_.at(hand_);
      if (!guard.blocks(row)) {
        if (!ring_.marked(row)) {
          hand_to(ring_.erase_at(hand_));
          return row;
        }
        ring_.unmark(row);
      }
      hand_ = ring_.next_row(hand_);
      if (hand_ == ring_.end()) {
        hand_ = ring_.begin();
        ++turns;
      }
    }
    hand_ = start;  // nobody went: nothing changed
    return kNoRow;
  }

  void prefetch(Row row) const noexcept { ring_.prefetch(row); }

 private:
  /// From the newest row the hand goes to the oldest at once: a newcomer is not seen before a whole turn.
  void hand_to(RowRing::Position position) noexcept {
    hand_ = position == ring_.end() ? ring_.begin() : position;
  }

  RowRing ring_;
  RowRing::Position hand_ = 0;  // on a row, or at the end of an empty ring
};
static_assert(EvictionPolicy<Sieve>);

}  // namespace loracle
