#pragma once
/// A set of ticks below a fixed limit, answering "the largest member" and "the largest member below t" in a
/// few steps.
/// Layout: a 64-ary tree of bits. Level 0 has one bit a tick; a bit of level k + 1 says that a word of level
/// k is not empty. Bits: limit * 64/63, that is 2.5 MB for 20 million ticks; allocated once at construction.
/// Invariant: a bit above level 0 is set if and only if its word below is not zero.
/// Cost: `insert`, `erase`, `largest` at most one word a level (ceil(log64 limit)); no loop over ticks.
/// Threads: one owner. Source: a van Emde Boas tree flattened to word size, as in many allocators' bitmaps.

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "loracle/core/check.hpp"

namespace loracle {

class TickSet {
 public:
  static constexpr std::uint32_t kNone = 0xFFFF'FFFFU;

  /// Ticks 0 .. limit - 1.
  explicit TickSet(std::uint32_t limit) : limit_(limit) {
    std::size_t total = 0;
    std::uint64_t words = limit;
    do {
      words = words <= 64 ? 1 : (words + 63) / 64;
      begin_[levels_++] = total;
      total += words;
    } while (words > 1);
    words_.assign(total, 0);
  }

  [[nodiscard]] bool contains(std::uint32_t tick) const noexcept {
    LORACLE_DCHECK(tick < limit_);
    return (words_[tick / 64] >> (tick % 64) & 1U) != 0;
  }

  void insert(std::uint32_t tick) noexcept {
    LORACLE_DCHECK(tick < limit_);
    for (std::uint32_t level = 0; level < levels_; ++level) {
      std::uint64_t& word = words_[begin_[level] + tick / 64];
      const bool was_empty = word == 0;
      word |= std::uint64_t{1} << (tick % 64);
      if (!was_empty) return;
      tick /= 64;
    }
  }

  /// Asks the processor for the tick's word ahead of use; never faults, whatever the tick.
  void prefetch(std::uint32_t tick) const noexcept {
    if (tick < limit_) __builtin_prefetch(&words_[tick / 64], 1);
  }

  void erase(std::uint32_t tick) noexcept {
    LORACLE_DCHECK(tick < limit_);
    for (std::uint32_t level = 0; level < levels_; ++level) {
      std::uint64_t& word = words_[begin_[level] + tick / 64];
      word &= ~(std::uint64_t{1} << (tick % 64));
      if (word != 0) return;
      tick /= 64;
    }
  }

  /// The largest member; kNone if the set is empty.
  [[nodiscard]] std::uint32_t largest() const noexcept {
    if (words_[begin_[levels_ - 1]] == 0) return kNone;
    return descend(levels_, 0);
  }

  /// The largest member below `tick`; kNone if there is none.
  [[nodiscard]] std::uint32_t largest_below(std::uint32_t tick) const noexcept {
    for (std::uint32_t level = 0; level < levels_; ++level) {
      const std::uint64_t below =
          words_[begin_[level] + tick / 64] & ((std::uint64_t{1} << (tick % 64)) - 1U);
      tick /= 64;
      if (below != 0) return descend(level, tick * 64 + highest(below));
    }
    return kNone;
  }

 private:
  static constexpr std::uint32_t kLevelsMax = 6;  // 64^6 > 2^32

  [[nodiscard]] static std::uint32_t highest(std::uint64_t word) noexcept {
    return 63U - static_cast<std::uint32_t>(std::countl_zero(word));
  }

  /// From a set bit of `level` (or the root word, level == levels_) down to the largest tick beneath it.
  [[nodiscard]] std::uint32_t descend(std::uint32_t level, std::uint32_t bit) const noexcept {
    while (level-- > 0) bit = bit * 64 + highest(words_[begin_[level] + bit]);
    return bit;
  }

  std::uint32_t limit_;
  std::uint32_t levels_ = 0;
  std::array<std::size_t, kLevelsMax> begin_{};  // first word of each level
  std::vector<std::uint64_t> words_;
};

}  // namespace loracle
