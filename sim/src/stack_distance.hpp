#pragma once
/// LRU stack distances where the order of touches is not simply that of the uses: members of a batch are all
/// looked up before any of them moves. (curves_lru.cpp counts plain uses, in one loop without calls.)
///
/// Each row in the stack holds a place on an axis, its last touch; its distance is the number of places held
/// from its own on. Places are bits, counted by a prefix tree over their words; when the axis is used up,
/// each row's place becomes its rank. Cost: O(log32(rows)) a call; 9 to 11 bytes a row, allocated once.
/// Threads: one owner. Source: Bennett and Kruskal, "LRU stack processing", IBM J. Res. Dev. 19(4), 1975.

#include <algorithm>
#include <bit>
#include <cstdint>
#include <vector>

#include "curves_vectors.hpp"
#include "loracle/core/units.hpp"
#include "prefix_tree.hpp"

namespace loracle {

class StackDistance {
 public:
  static constexpr std::uint32_t kAbsent = 0;  // not in the stack; real distances start at 1

  explicit StackDistance(std::uint32_t rows)
      : place_(rows, kNoAxisPlace),
        places_(axis_length(rows, std::numeric_limits<std::uint64_t>::max())),
        words_(places_ / 64U, 0),
        held_(places_ / 64U) {}

  /// Rows in the stack.
  [[nodiscard]] std::uint32_t size() const noexcept { return size_; }

  /// 1: the row that was touched last.
  [[nodiscard]] std::uint32_t distance(Row row) const noexcept {
    const AxisPlace place = place_[index_of(row)];
    return place == kNoAxisPlace ? kAbsent : size_ - rank(place);
  }

  /// Puts the row on top, whether it was in the stack or not.
  void touch(Row row) noexcept {
    lift(row);
    if (end_ == places_) compact();
    if (end_ % 64U == 0) open(end_ / 64U);
    words_[end_ / 64U] |= std::uint64_t{1} << (end_ % 64U);
    place_[index_of(row)] = end_++;
    ++size_;
  }

  /// Takes the row out, if it is in.
  void lift(Row row) noexcept {
    AxisPlace& place = place_[index_of(row)];
    if (place == kNoAxisPlace) return;
    words_[place / 64U] &= ~(std::uint64_t{1} << (place % 64U));
    held_.take<16>(place / 64U, 1);
    place = kNoAxisPlace;
    --size_;
  }

 private:
  /// How many places are held before `place`.
  [[nodiscard]] std::uint32_t rank(AxisPlace place) const noexcept {
    const std::uint64_t below = words_[place / 64U] & ((std::uint64_t{1} << (place % 64U)) - 1U);
    return held_.before(place / 64U) + static_cast<std::uint32_t>(std::popcount(below));
  }

  void open(std::size_t word) noexcept {
    held_.open(word, word == 0 ? 0U : static_cast<std::uint32_t>(std::popcount(words_[word - 1])));
  }

  void compact() noexcept {
    for (AxisPlace& place : place_)
      if (place != kNoAxisPlace) place = rank(place);
    std::fill(words_.begin(), words_.end(), std::uint64_t{0});
    for (AxisPlace at = 0; at < size_; ++at) words_[at / 64U] |= std::uint64_t{1} << (at % 64U);
    end_ = size_;
    // The word that `end_` stands in is opened by the touch that enters it, unless it is entered already.
    for (std::size_t word = 0; word * 64 < end_; ++word) open(word);
  }

  std::vector<AxisPlace> place_;      // [rows] of the last touch, or kNoAxisPlace
  AxisPlace places_ = 0;              // on the axis, a multiple of 64, more than rows
  std::vector<std::uint64_t> words_;  // [places / 64] which are held
  PrefixTree<std::uint32_t> held_;    // [places / 64] how many, by word
  AxisPlace end_ = 0;                 // the first place not yet given out
  std::uint32_t size_ = 0;            // places held
};

}  // namespace loracle
