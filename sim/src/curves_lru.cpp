/// The whole LRU curve by count. Every row holds one place on a time axis, its last use; a use's stack
/// distance is the number of places held from its row's old place on. Places are bits of a bitmap, and a
/// prefix tree over its words counts them. Places are taken only at the end. When the axis is used up, each
/// row's place becomes its rank.

#include <bit>
#include <limits>

#include "curves_vectors.hpp"
#include "prefix_tree.hpp"

namespace loracle {
namespace {

constexpr std::size_t kAheadPlace = 32;  // uses between the prefetch of a row's place and its use
constexpr std::size_t kAheadWord = 12;   // the same for that place's word and its node

struct Counting {
  std::span<const Row> uses;
  std::size_t next = 0;              // the use to count next
  AxisPlace end = 0;                 // the first place never held
  std::uint32_t distinct = 0;        // = places held
  std::vector<AxisPlace> place;      // [rows] of the last use, or kNoAxisPlace
  std::vector<std::uint32_t> at;     // [rows + 1] uses by stack distance; fewer than 2^32, so none overflows
  AxisPlace places = 0;              // on the axis, a multiple of 64
  std::vector<std::uint64_t> words;  // [places / 64] which are held
  PrefixTree<std::uint32_t> held;    // [places / 64] how many, by word

  Counting(const UseStream& stream, AxisPlace axis)
      : uses(stream.uses.view()),
        place(stream.rows, kNoAxisPlace),
        at(std::size_t{stream.rows} + 1, 0),
        places(axis),
        words(axis / 64U),
        held(axis / 64U) {}

  void open(std::size_t word) noexcept {
    held.open(word, word == 0 ? 0U : static_cast<std::uint32_t>(std::popcount(words[word - 1])));
  }
};

/// How many places are held before `place`.
[[gnu::always_inline]] inline std::uint32_t rank(const Counting& state, AxisPlace place) noexcept {
  const std::uint64_t below = state.words[place / 64U] & ((std::uint64_t{1} << (place % 64U)) - 1U);
  return state.held.before(place / 64U) + static_cast<std::uint32_t>(std::popcount(below));
}

/// Counts uses until none are left or the axis is used up.
template <std::size_t kWidth>
[[gnu::always_inline]] inline void count_uses(Counting& state) noexcept {
  const std::span<const Row> uses = state.uses;
  std::size_t i = state.next;
  AxisPlace now = state.end;
  std::uint32_t distinct = state.distinct;
  while (i < uses.size() && now < state.places) {
    if (now % 64U == 0) state.open(now / 64U);
    const std::size_t stop = i + std::min<std::size_t>(uses.size() - i, 64U - now % 64U);
    for (; i < stop; ++i, ++now) {
      __builtin_prefetch(&state.place[row_ahead(uses, i, kAheadPlace)], 1);
      const AxisPlace soon = std::min(state.place[row_ahead(uses, i, kAheadWord)], state.places - 1U);
      __builtin_prefetch(&state.words[soon / 64U], 1);
      state.held.prefetch(soon / 64U);
      AxisPlace& place = state.place[index_of(uses[i])];
      const AxisPlace old = place;
      place = now;
      if (old == kNoAxisPlace) {
        ++distinct;
      } else {
        ++state.at[distinct - rank(state, old)];
        state.words[old / 64U] &= ~(std::uint64_t{1} << (old % 64U));
        state.held.take<kWidth>(old / 64U, 1);
      }
      state.words[now / 64U] |= std::uint64_t{1} << (now % 64U);
    }
  }
  state.next = i;
  state.end = now;
  state.distinct = distinct;
}

/// Gives each row its rank as its place, so that the held places are the first ones of the axis.
[[gnu::always_inline]] inline void compact(Counting& state) noexcept {
  for (AxisPlace& place : state.place)
    if (place != kNoAxisPlace) place = rank(state, place);
  state.end = state.distinct;
  const std::size_t whole = state.end / 64U;
  std::fill_n(state.words.begin(), whole, ~std::uint64_t{0});
  std::fill(state.words.begin() + static_cast<std::ptrdiff_t>(whole), state.words.end(), std::uint64_t{0});
  if (state.end % 64U != 0) state.words[whole] = (std::uint64_t{1} << (state.end % 64U)) - 1U;
  for (std::size_t word = 0; word * 64 < state.end; ++word) state.open(word);
}

template <std::size_t kWidth>
[[gnu::always_inline]] inline void count_all(Counting& state) noexcept {
  for (;;) {
    count_uses<kWidth>(state);
    if (state.next == state.uses.size()) return;
    compact(state);
  }
}

void count_all_portable(Counting& state) noexcept { count_all<16>(state); }
#if defined(__x86_64__)
[[gnu::target(LORACLE_TARGET_AVX2)]] void count_all_avx2(Counting& state) noexcept { count_all<32>(state); }
[[gnu::target(LORACLE_TARGET_AVX512)]] void count_all_avx512(Counting& state) noexcept {
  count_all<64>(state);
}
#endif

}  // namespace

LruCurve lru_curve(const UseStream& stream, Simd simd) {
  Counting state(stream, axis_length(stream.rows, stream.uses.size()));
  if (!state.uses.empty()) {
    switch (usable(simd)) {
#if defined(__x86_64__)
      case Simd::kAvx512:
        count_all_avx512(state);
        break;
      case Simd::kAvx2:
        count_all_avx2(state);
        break;
#endif
      default:
        count_all_portable(state);
        break;
    }
  }
  LruCurve curve;
  curve.requests = state.uses.size();
  curve.compulsory_misses = state.distinct;
  state.at.resize(std::size_t{state.distinct} + 1);
  curve.hits_at_distance.assign(state.at.begin(), state.at.end());
  curve.misses_at.reserve(state.at.size());
  std::uint64_t misses = curve.requests;
  for (const std::uint64_t hits : curve.hits_at_distance) curve.misses_at.push_back(misses -= hits);
  return curve;
}

}  // namespace loracle
