#pragma once
/// The units everything is counted in: `Row` (an adapter's index in every column), `Bytes`, `Tick`.
/// All are trivially copyable and passed by value.

#include <compare>
#include <cstddef>
#include <cstdint>
#include <limits>

namespace loracle {

/// An adapter's index in every column. Dense, from 0. (A GPU slot is called a slot, never a row.)
enum class Row : std::uint32_t {};

/// Names no adapter.
inline constexpr Row kNoRow{std::numeric_limits<std::uint32_t>::max()};

[[nodiscard]] constexpr std::size_t index_of(Row row) noexcept { return static_cast<std::size_t>(row); }

/// A 64-bit count of one unit. Counts of different units do not mix.
template <class Unit>
struct Quantity {
  std::uint64_t value = 0;

  friend constexpr auto operator<=>(Quantity, Quantity) noexcept = default;
  friend constexpr Quantity operator+(Quantity a, Quantity b) noexcept { return {a.value + b.value}; }
  friend constexpr Quantity operator-(Quantity a, Quantity b) noexcept { return {a.value - b.value}; }
  constexpr Quantity& operator+=(Quantity other) noexcept {
    value += other.value;
    return *this;
  }
  constexpr Quantity& operator-=(Quantity other) noexcept {
    value -= other.value;
    return *this;
  }
  [[nodiscard]] static constexpr Quantity max() noexcept {
    return {std::numeric_limits<std::uint64_t>::max()};
  }
};

/// A size or an amount moved.
using Bytes = Quantity<struct BytesUnit>;

/// Logical time: in a replay, the 0-based index of the use; in the engine, the owner thread's sequence
/// number. It only ever grows. No policy knows seconds.
using Tick = Quantity<struct TickUnit>;

/// A next use that never comes.
inline constexpr Tick kNever = Tick::max();

}  // namespace loracle
