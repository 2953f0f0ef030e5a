#pragma once
/// The conversion loop, for a file that is compiled for one instruction set. `Isa` says how wide its vectors
/// are and how it reads and writes float16; all else is the same source, so paths cannot differ there.
/// Everything is local to the file that includes this: code for one processor must not be linked in place of
/// code for another, so nothing of the standard library is called that could be compiled out of line.

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "convert_paths.hpp"

namespace loracle {
namespace {

/// (Inside a struct because g++ 12 drops the attribute, without a word, from an alias in a function
/// template.)
template <std::size_t kWidth>
struct Vectors {
  static constexpr std::size_t kLanes = kWidth;
  using F32 [[gnu::vector_size(kWidth * 4)]] = float;
  using I32 [[gnu::vector_size(kWidth * 4)]] = std::int32_t;
  using U32 [[gnu::vector_size(kWidth * 4)]] = std::uint32_t;
  using U16 [[gnu::vector_size(kWidth * 2)]] = std::uint16_t;
};

// Vectors are never passed by value: the calling convention depends on the target.

/// float16 by integer arithmetic, for processors that have no instruction for it.
template <class V>
struct HalfByIntegers {
  using F32 = typename V::F32;
  using I32 = typename V::I32;
  using U32 = typename V::U32;
  using U16 = typename V::U16;

  /// The fields move up, the exponent is biased anew, and a subnormal gets its leading one by a subtraction
  /// that is exact.
  [[gnu::always_inline]] static inline void load(const std::byte* from, F32& value) noexcept {
    U16 stored;
    std::memcpy(&stored, from, sizeof stored);
    const U32 half = __builtin_convertvector(stored, U32);
    const U32 magnitude = half & 0x7FFFU;
    constexpr std::uint32_t kBias = 112U << 23U;
    const U32 moved = magnitude << 13U;
    const U32 normal = moved + kBias;
    const U32 raised = normal + (1U << 23U);
    const U32 smallest = U32{} + (kBias + (1U << 23U));
    const F32 subnormal = reinterpret_cast<F32>(raised) - reinterpret_cast<F32>(smallest);
    U32 bits = reinterpret_cast<U32>((moved & 0x0F80'0000U) == 0U ? reinterpret_cast<I32>(subnormal)
                                                                  : reinterpret_cast<I32>(normal));
    const U32 special = moved | 0x7F80'0000U;  // infinity, or a NaN with its payload
    bits = magnitude >= 0x7C00U ? special : bits;
    bits |= (half & 0x8000U) << 16U;
    value = reinterpret_cast<F32>(bits);
  }

  [[gnu::always_inline]] static inline void store(const F32& value, std::byte* into) noexcept {
    const U32 bits = reinterpret_cast<U32>(value);
    const U32 unsigned_bits = bits & 0x7FFF'FFFFU;
    const I32 magnitude = reinterpret_cast<I32>(unsigned_bits);
    // A carry out of the mantissa raises the exponent, up to infinity's, which is what rounding asks for.
    const U32 odd = (unsigned_bits >> 13U) & 1U;
    const U32 normal = (unsigned_bits - (112U << 23U) + 0xFFFU + odd) >> 13U;
    // Added to 1/2, a subnormal's last place stands at the float's last place: the addition rounds it.
    const U32 half = U32{} + 0x3F00'0000U;
    const F32 sum = reinterpret_cast<F32>(unsigned_bits) + reinterpret_cast<F32>(half);
    const U32 subnormal = reinterpret_cast<U32>(sum) - half;
    const U32 quiet = 0x7E00U | ((unsigned_bits >> 13U) & 0x3FFU);
    U32 rounded = magnitude < 0x3880'0000 ? subnormal : normal;
    rounded = magnitude >= 0x4780'0000 ? U32{} + 0x7C00U : rounded;
    rounded = magnitude > 0x7F80'0000 ? quiet : rounded;
    rounded |= (bits >> 16U) & 0x8000U;
    const U16 stored = __builtin_convertvector(rounded, U16);
    std::memcpy(into, &stored, sizeof stored);
  }
};

template <class V>
[[gnu::always_inline]] inline void round_to_bf16(const typename V::U32& bits,
                                                 typename V::U32& rounded) noexcept {
  using I32 = typename V::I32;
  using U32 = typename V::U32;
  const U32 nearest = (bits + 0x7FFFU + ((bits >> 16U) & 1U)) >> 16U;
  const U32 quiet = (bits >> 16U) | 0x40U;
  const I32 magnitude = reinterpret_cast<I32>(bits & 0x7FFF'FFFFU);
  rounded = magnitude > 0x7F80'0000 ? quiet : nearest;
}

template <class Isa, ElementType kFrom>
[[gnu::always_inline]] inline void widen(const std::byte* from, typename Isa::V::F32& value) noexcept {
  using V = typename Isa::V;
  if constexpr (kFrom == ElementType::kF32) {
    std::memcpy(&value, from, sizeof value);
  } else if constexpr (kFrom == ElementType::kF16) {
    Isa::Half::load(from, value);
  } else {
    typename V::U16 stored;
    std::memcpy(&stored, from, sizeof stored);
    const typename V::U32 wide = __builtin_convertvector(stored, typename V::U32);
    value = reinterpret_cast<typename V::F32>(wide << 16U);
  }
}

template <class Isa, ElementType kTo>
[[gnu::always_inline]] inline void narrow(const typename Isa::V::F32& value, std::byte* into) noexcept {
  using V = typename Isa::V;
  if constexpr (kTo == ElementType::kF32) {
    std::memcpy(into, &value, sizeof value);
  } else if constexpr (kTo == ElementType::kF16) {
    Isa::Half::store(value, into);
  } else {
    typename V::U32 rounded;
    round_to_bf16<V>(reinterpret_cast<typename V::U32>(value), rounded);
    const typename V::U16 stored = __builtin_convertvector(rounded, typename V::U16);
    std::memcpy(into, &stored, sizeof stored);
  }
}

/// bfloat16 to bfloat16, two elements a lane: neither is moved out of its lane, which costs more than the
/// rest.
template <class Isa>
[[gnu::always_inline]] inline void scale_bf16_pairs(const std::byte* from, std::byte* into,
                                                    float scale) noexcept {
  using V = typename Isa::V;
  using F32 = typename V::F32;
  using U32 = typename V::U32;
  U32 pairs;
  std::memcpy(&pairs, from, sizeof pairs);
  const F32 low = reinterpret_cast<F32>(pairs << 16U) * scale;
  const F32 high = reinterpret_cast<F32>(pairs & 0xFFFF'0000U) * scale;
  U32 low_bits;
  U32 high_bits;
  round_to_bf16<V>(reinterpret_cast<U32>(low), low_bits);
  round_to_bf16<V>(reinterpret_cast<U32>(high), high_bits);
  pairs = low_bits | (high_bits << 16U);
  std::memcpy(into, &pairs, sizeof pairs);
}

template <class Isa, ElementType kFrom, ElementType kTo>
void convert_all(const std::byte* from, std::byte* into, std::size_t count, float scale) noexcept {
  constexpr std::size_t kLanes = Isa::V::kLanes;
  constexpr std::size_t kFromBytes = bytes_of(kFrom);
  constexpr std::size_t kToBytes = bytes_of(kTo);
  typename Isa::V::F32 value;
  std::size_t i = 0;
  if constexpr (kFrom == ElementType::kBf16 && kTo == ElementType::kBf16)
    for (; i + 2 * kLanes <= count; i += 2 * kLanes) scale_bf16_pairs<Isa>(from + i * 2, into + i * 2, scale);
  for (; i + kLanes <= count; i += kLanes) {
    widen<Isa, kFrom>(from + i * kFromBytes, value);
    value *= scale;
    narrow<Isa, kTo>(value, into + i * kToBytes);
  }
  if (i == count) return;
  std::byte last_from[kLanes * kFromBytes] = {};
  std::byte last_into[kLanes * kToBytes];
  std::memcpy(last_from, from + i * kFromBytes, (count - i) * kFromBytes);
  widen<Isa, kFrom>(last_from, value);
  value *= scale;
  narrow<Isa, kTo>(value, last_into);
  std::memcpy(into + i * kToBytes, last_into, (count - i) * kToBytes);
}

template <class Isa, ElementType kFrom>
Convert conversion_to(ElementType to) noexcept {
  switch (to) {
    case ElementType::kF32:
      return convert_all<Isa, kFrom, ElementType::kF32>;
    case ElementType::kF16:
      return convert_all<Isa, kFrom, ElementType::kF16>;
    case ElementType::kBf16:
      return convert_all<Isa, kFrom, ElementType::kBf16>;
    default:
      return nullptr;
  }
}

template <class Isa>
Convert conversion(ElementType from, ElementType to) noexcept {
  switch (from) {
    case ElementType::kF32:
      return conversion_to<Isa, ElementType::kF32>(to);
    case ElementType::kF16:
      return conversion_to<Isa, ElementType::kF16>(to);
    case ElementType::kBf16:
      return conversion_to<Isa, ElementType::kBf16>(to);
    default:
      return nullptr;  // float8 goes through a table
  }
}

}  // namespace
}  // namespace loracle
