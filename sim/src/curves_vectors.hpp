#pragma once
/// What the loops of curves_*.cpp share. One source serves every processor: a loop is a template over the
/// width of its vectors, inlined into one function per instruction set, so there are no intrinsics and
/// nothing to keep equal. Vectors are never passed between functions (their calling convention depends on the
/// target), and templates of the library are called inside such loops only where they inline.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <span>
#include <vector>

#include "loracle/core/check.hpp"
#include "loracle/core/units.hpp"
#include "loracle/sim/curves.hpp"

/// What `Simd` promises, as the compiler spells it; best_simd() asks the processor for the same.
#define LORACLE_TARGET_AVX2 "avx2,bmi,bmi2,popcnt"
#define LORACLE_TARGET_AVX512 "avx2,bmi,bmi2,popcnt,avx512f,avx512bw,avx512dq,avx512vl"

namespace loracle {

/// A vector of kWidth bytes that may be read over an array of Lane, at its own alignment or at the lane's.
/// (Inside a struct because g++ 12 drops the attribute, without a word, from an alias in a function
/// template.)
template <class Lane, std::size_t kWidth>
struct VectorOf {
  using Aligned [[gnu::vector_size(kWidth), gnu::may_alias]] = Lane;
  using Unaligned [[gnu::vector_size(kWidth), gnu::may_alias, gnu::aligned(alignof(Lane))]] = Lane;
  static_assert(sizeof(Aligned) == kWidth && sizeof(Unaligned) == kWidth);
};

/// `wanted`, or the best the processor has when that is less.
[[nodiscard]] inline Simd usable(Simd wanted) noexcept { return std::min(wanted, best_simd()); }

/// The row `ahead` uses from now, or the last one: what to prefetch.
[[nodiscard, gnu::always_inline]] inline std::size_t row_ahead(std::span<const Row> uses, std::size_t i,
                                                               std::size_t ahead) noexcept {
  return index_of(uses[std::min(i + ahead, uses.size() - 1)]);
}

/// A moment on the compacted time axis of a curve: rows hold the place of their last use.
using AxisPlace = std::uint32_t;
inline constexpr AxisPlace kNoAxisPlace = std::numeric_limits<AxisPlace>::max();

/// Long enough that moving every row once an axis is cheap next to the uses in between; short enough for the
/// cache. A multiple of 64, and more than `rows` unless no row ever has to move.
[[nodiscard]] inline AxisPlace axis_length(std::uint32_t rows, std::uint64_t uses) noexcept {
  LORACLE_CHECK(rows < 0xFFFF'FF00U);
  const std::uint64_t wanted = std::max<std::uint64_t>(std::uint64_t{rows} * 2, 1U << 16U);
  const std::uint64_t places = (std::min(wanted, uses) + 63U) / 64U * 64U;
  return static_cast<AxisPlace>(std::min<std::uint64_t>(places, 0xFFFF'FFC0U));
}

/// Positions of `values` in ascending order of value.
template <class T>
[[nodiscard]] std::vector<std::size_t> ascending_order(std::span<const T> values) {
  std::vector<std::size_t> order(values.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [values](std::size_t a, std::size_t b) { return values[a] < values[b]; });
  return order;
}

}  // namespace loracle
