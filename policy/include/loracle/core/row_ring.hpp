#pragma once
/// Rows in order of arrival, oldest first, with one mark bit each; any of them may leave at any time.
///
/// Layout: `slots_` [2 x live_max + 2] is a circular array of rows in which a row that left early leaves a
/// hole (kNoRow); `places_` [rows] holds 1 + the row's slot, its top bit the mark, 0 if it is not here. So
/// membership, mark and place are one word: a hit touches 4 bytes, and a walk over the order reads memory in
/// sequence where linked lists wait for one link after another.
/// Invariants: 1. Unless empty, the slot at begin() and the slot before end() hold rows. 2. A position is
/// good until the next push.
/// Cost: O(1) an operation, amortised: a full array is packed, at most once in live_max + 1 pushes. 12 bytes
/// a row where live_max = rows. Allocated once; grows only for a caller that exceeds live_max.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "loracle/core/check.hpp"
#include "loracle/core/units.hpp"

namespace loracle {

class RowRing {
 public:
  using Position = std::uint32_t;  // a slot

  /// Holds up to `live_max` rows at once.
  RowRing(std::uint32_t rows, std::uint64_t live_max)
      : places_(rows, 0),
        slots_(2 * static_cast<std::size_t>(std::min<std::uint64_t>(rows, live_max)) + 2, kNoRow) {
    LORACLE_CHECK(slots_.size() < kMark);
  }

  [[nodiscard]] bool contains(Row row) const noexcept { return places_[index_of(row)] != 0; }
  [[nodiscard]] std::uint32_t size() const noexcept { return live_; }

  /// REQUIRES (of these three): contains(row).
  [[nodiscard]] bool marked(Row row) const noexcept { return (places_[index_of(row)] & kMark) != 0; }
  void mark(Row row) noexcept { places_[index_of(row)] |= kMark; }
  void unmark(Row row) noexcept { places_[index_of(row)] &= ~kMark; }

  /// The oldest row's position; equal to end() if there is none.
  [[nodiscard]] Position begin() const noexcept { return begin_; }
  [[nodiscard]] Position end() const noexcept { return end_; }
  /// The row there, or kNoRow for a hole.
  [[nodiscard]] Row at(Position position) const noexcept { return slots_[position]; }
  [[nodiscard]] Position next(Position position) const noexcept {
    return position + 1 == slots_.size() ? 0 : position + 1;
  }
  /// The position of the next newer row, or end(). REQUIRES: position != end().
  [[nodiscard]] Position next_row(Position position) const noexcept {
    do position = next(position);
    while (position != end_ && slots_[position] == kNoRow);
    return position;
  }
  /// REQUIRES: contains(row).
  [[nodiscard]] Position position_of(Row row) const noexcept { return (places_[index_of(row)] & ~kMark) - 1; }

  /// Adds the newest row, unmarked. `hand`, a position held by the caller, stays on its row (or at the end).
  /// REQUIRES: !contains(row).
  void push(Row row, Position& hand) noexcept {
    LORACLE_DCHECK(!contains(row));
    if (next(end_) == begin_) make_space(hand);
    slots_[end_] = row;
    places_[index_of(row)] = end_ + 1;
    end_ = next(end_);
    ++live_;
  }
  void push(Row row) noexcept {
    Position none = begin_;
    push(row, none);
  }

  /// Takes out the row at a position and returns the position of the next newer row, or end(). REQUIRES:
  /// at(position) != kNoRow.
  Position erase_at(Position position) noexcept {
    LORACLE_DCHECK(slots_[position] != kNoRow);
    places_[index_of(slots_[position])] = 0;
    slots_[position] = kNoRow;
    --live_;
    if (next(position) == end_) {
      while (end_ != begin_ && slots_[previous(end_)] == kNoRow) end_ = previous(end_);
      return end_;
    }
    const Position newer = next_row(position);
    if (position == begin_) begin_ = newer;
    return newer;
  }

  /// Makes the oldest row the newest, unmarked. REQUIRES: size() > 0.
  void rotate() noexcept {
    const Row row = slots_[begin_];
    slots_[begin_] = kNoRow;
    begin_ = next_row(begin_);
    slots_[end_] = row;
    places_[index_of(row)] = end_ + 1;
    end_ = next(end_);
  }

  /// Asks the processor for a row's word ahead of use; never faults.
  void prefetch(Row row) const noexcept { __builtin_prefetch(&places_[index_of(row)], 1); }
  /// The same for the row a few slots after a position, for who walks along the order.
  void prefetch_after(Position position) const noexcept {
    const std::size_t ahead = std::size_t{position} + kAhead;
    if (ahead < slots_.size() && slots_[ahead] != kNoRow) prefetch(slots_[ahead]);
  }

 private:
  static constexpr std::size_t kAhead = 6;  // slots; 4 to 8 measure alike
  static constexpr std::uint32_t kMark = 0x8000'0000U;

  [[nodiscard]] Position previous(Position position) const noexcept {
    return position == 0 ? static_cast<Position>(slots_.size() - 1) : position - 1;
  }

  /// Closes the holes, so that at least half of the slots are free.
  [[gnu::noinline]] void make_space(Position& hand) noexcept {
    Position to = begin_;
    Position hand_to = hand;
    for (Position from = begin_; from != end_; from = next(from)) {
      if (from == hand) hand_to = to;
      const Row row = slots_[from];
      if (row == kNoRow) continue;
      if (from != to) {
        slots_[from] = kNoRow;
        slots_[to] = row;
        places_[index_of(row)] = (places_[index_of(row)] & kMark) | (to + 1);
      }
      to = next(to);
    }
    hand = hand == end_ ? to : hand_to;
    end_ = to;
    if (std::size_t{live_} * 2 >= slots_.size()) grow(hand);
  }

  /// Only reached when more rows are here than the caller said there would be.
  void grow(Position& hand) noexcept {
    LORACLE_CHECK(slots_.size() < kMark / 2);
    const Position shift = begin_;
    const auto slots = static_cast<Position>(slots_.size());
    std::rotate(slots_.begin(), slots_.begin() + shift, slots_.end());
    hand = (hand + slots - shift) % slots;
    begin_ = 0;
    end_ = live_;
    for (Position position = 0; position < end_; ++position) {
      std::uint32_t& place = places_[index_of(slots_[position])];
      place = (place & kMark) | (position + 1);
    }
    slots_.resize(std::size_t{slots} * 2, kNoRow);
  }

  std::vector<std::uint32_t> places_;  // [rows]
  std::vector<Row> slots_;             // [2 x live_max + 2]
  Position begin_ = 0;
  Position end_ = 0;
  std::uint32_t live_ = 0;
};

}  // namespace loracle
