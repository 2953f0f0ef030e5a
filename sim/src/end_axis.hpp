#pragma once
/// The LRU stack of adapters that requests hold for a while: those in use on top, the idle ones below, by
/// their last ends.
///
/// An axis of ends, known beforehand (busy_periods.hpp): each period of use of an adapter has a place on it,
/// by when it ends; a row holds the place of its latest period. `now` goes along the axis: rows with places
/// before it are idle, the others in use. So nothing has to be done when requests end, nor when they come to
/// an adapter in use, and the pass is that of curves_lru.cpp, whose places are given out by uses: a bitmap,
/// and a prefix tree over its words that are before now. Places after now are bits alone.
/// At the end of a block all rows in use hold kStays, which is no place; the next one gives them theirs.
/// There, too, each idle row's place becomes its rank when the axis is used up.
/// Cost: O(log32(rows)) a period. Memory: 9 to 11 bytes a row, more only if a block needs a longer axis.
/// Threads: one owner.

#include <algorithm>
#include <bit>
#include <cstdint>
#include <limits>
#include <vector>

#include "curves_vectors.hpp"
#include "loracle/core/check.hpp"
#include "loracle/core/units.hpp"
#include "prefix_tree.hpp"

namespace loracle::detail {

struct EndAxis {
  static constexpr AxisPlace kUnused = kNoAxisPlace;  // nobody has held the row yet
  static constexpr AxisPlace kStays = kUnused - 1U;   // it is in use beyond the block

  AxisPlace now = 0;                 // places before it have ended
  std::size_t word = 0;              // that `now` is in: the last one opened
  std::uint32_t before_word = 0;     // places held in the words before
  std::uint32_t distinct = 0;        // rows that are held or idle
  std::vector<AxisPlace> last;       // [rows] place of the last end
  AxisPlace places = 0;              // on the axis, a multiple of 64; `now` is one of them
  std::vector<std::uint64_t> words;  // [places / 64] which are held
  PrefixTree<std::uint32_t> held;    // [places / 64] how many, by word

  explicit EndAxis(std::uint32_t rows)
      : last(rows, kUnused),
        places(axis_length(rows, std::numeric_limits<std::uint64_t>::max())),
        words(places / 64U, 0),
        held(words.size()) {
    held.open(0, 0);
  }

  /// Rows that are idle.
  [[nodiscard]] std::uint32_t idle() const noexcept {
    const std::uint64_t ended = words[word] & ((std::uint64_t{1} << (now % 64U)) - 1U);
    return before_word + static_cast<std::uint32_t>(std::popcount(ended));
  }

  /// Makes sure that so many places are left from `now` on. REQUIRES: rows in use hold kStays.
  void reserve(std::uint64_t more) {
    if (now + more < places) return;
    for (AxisPlace& place : last)
      if (place < now) place = rank(place);
    const std::uint32_t kept = idle();
    if (const std::uint64_t needed = 2 * (kept + more) + 1; needed > places) {
      LORACLE_CHECK(needed < kStays - 64U);
      places = static_cast<AxisPlace>((needed + 63U) / 64U * 64U);
      words.resize(places / 64U);
      held = PrefixTree<std::uint32_t>(words.size());
    }
    now = kept;
    word = now / 64U;
    before_word = now / 64U * 64U;
    const auto whole = static_cast<std::ptrdiff_t>(word);
    std::fill(words.begin(), words.begin() + whole, ~std::uint64_t{0});
    std::fill(words.begin() + whole, words.end(), std::uint64_t{0});
    words[word] = (std::uint64_t{1} << (now % 64U)) - 1U;
    for (std::size_t opened = 0; opened <= word; ++opened)
      held.open(opened, opened == 0 ? 0U : static_cast<std::uint32_t>(std::popcount(words[opened - 1])));
  }

  /// So many periods will end next: the places from `now` on are held. REQUIRES: reserve(more).
  void hold(AxisPlace more) noexcept {
    for (AxisPlace place = now; place < now + more;) {
      const AxisPlace here = std::min(64U - place % 64U, now + more - place);
      const std::uint64_t bits = here == 64U ? ~std::uint64_t{0} : (std::uint64_t{1} << here) - 1U;
      words[place / 64U] |= bits << (place % 64U);
      place += here;
    }
  }

  /// Lets what ends before `place` end. REQUIRES: it never goes back.
  [[gnu::always_inline]] void advance(AxisPlace place) noexcept {
    now = place;
    for (; now / 64U > word; ++word) {
      const auto in_word = static_cast<std::uint32_t>(std::popcount(words[word]));
      before_word += in_word;
      held.open(word + 1, in_word);
    }
  }

  /// How many rows are in use, or idle and ended last at `place` or later. REQUIRES: place < now.
  [[nodiscard, gnu::always_inline]] std::uint32_t distance(AxisPlace place) const noexcept {
    return distinct - rank(place);
  }

  [[gnu::always_inline]] void prefetch(AxisPlace place) const noexcept {
    const std::size_t soon = std::min(place, places - 1U) / 64U;
    __builtin_prefetch(&words[soon], 1);
    held.prefetch(soon);
  }

  /// What ended last at `old` is taken again. REQUIRES: old < now; it is held.
  template <std::size_t kWidth>
  [[gnu::always_inline]] void take(AxisPlace old) noexcept {
    words[old / 64U] &= ~(std::uint64_t{1} << (old % 64U));
    held.take<kWidth>(old / 64U, 1);
    before_word -= old / 64U < word ? 1U : 0U;
  }

 private:
  /// How many places are held before `place`. REQUIRES: place < now.
  [[nodiscard, gnu::always_inline]] std::uint32_t rank(AxisPlace place) const noexcept {
    const std::uint64_t below = words[place / 64U] & ((std::uint64_t{1} << (place % 64U)) - 1U);
    return held.before(place / 64U) + static_cast<std::uint32_t>(std::popcount(below));
  }
};

}  // namespace loracle::detail
