#pragma once
/// LRU stack distances, one use at a time: how many distinct rows were used since a row's last use, itself
/// included.
///
/// Each resident row has a mark at the position of its last use; a Fenwick tree counts marks. Positions run
/// out after 2 x rows uses or so and are then renumbered in order. Question and update are apart, because the
/// members of a batch are all looked up before any of them moves. O(log rows) each; 20 to 36 bytes a row.
/// Threads: one owner. Source: Bennett and Kruskal, "LRU stack processing", IBM J. Res. Dev. 19(4), 1975.

#include <algorithm>
#include <bit>
#include <cstdint>
#include <vector>

#include "loracle/core/units.hpp"

namespace loracle {

class StackDistance {
 public:
  static constexpr std::uint32_t kCold = 0;  // never used before; real distances start at 1

  explicit StackDistance(std::uint32_t rows)
      : position_of_(rows, 0),
        row_at_(std::bit_ceil(std::uint64_t{rows} * 2 + 64), kNoRow),
        marks_(row_at_.size(), 0) {}

  [[nodiscard]] std::uint32_t distance(Row row) const noexcept {
    const std::uint32_t position = position_of_[index_of(row)];
    return position == 0 ? kCold : live_ - marks_below(position);
  }

  void touch(Row row) noexcept {
    if (next_ == row_at_.size()) renumber();
    std::uint32_t& position = position_of_[index_of(row)];
    if (position != 0) {
      add(position, -1);
      row_at_[position] = kNoRow;
    } else {
      ++live_;
    }
    position = next_++;
    row_at_[position] = row;
    add(position, 1);
  }

 private:
  void add(std::uint32_t position, std::int32_t amount) noexcept {
    for (std::size_t i = position; i < marks_.size(); i += i & (~i + 1))
      marks_[i] = static_cast<std::uint32_t>(static_cast<std::int32_t>(marks_[i]) + amount);
  }
  [[nodiscard]] std::uint32_t marks_below(std::uint32_t position) const noexcept {
    std::uint32_t sum = 0;
    for (std::size_t i = position - 1; i > 0; i &= i - 1) sum += marks_[i];
    return sum;
  }
  void renumber() noexcept {
    std::fill(marks_.begin(), marks_.end(), 0);
    std::uint32_t to = 1;
    for (std::size_t from = 1; from < row_at_.size(); ++from) {
      const Row row = row_at_[from];
      if (row == kNoRow) continue;
      row_at_[from] = kNoRow;
      row_at_[to] = row;
      position_of_[index_of(row)] = to;
      add(to++, 1);
    }
    next_ = to;
  }

  std::vector<std::uint32_t> position_of_;  // [rows] from 1; 0: never used
  std::vector<Row> row_at_;                 // [positions]
  std::vector<std::uint32_t> marks_;        // [positions] Fenwick tree over row_at_ != kNoRow
  std::uint32_t next_ = 1;
  std::uint32_t live_ = 0;
};

}  // namespace loracle
