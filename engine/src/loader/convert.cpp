#include "convert.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "loracle/core/check.hpp"

namespace loracle {
namespace {

// Where no processor has such vectors the compiler cuts them. They are never passed by value: the calling
// convention depends on the target.
constexpr std::size_t kLanes = 8;
using F32 [[gnu::vector_size(kLanes * 4)]] = float;
using I32 [[gnu::vector_size(kLanes * 4)]] = std::int32_t;
using U32 [[gnu::vector_size(kLanes * 4)]] = std::uint32_t;
using U16 [[gnu::vector_size(kLanes * 2)]] = std::uint16_t;
using U8 [[gnu::vector_size(kLanes)]] = std::uint8_t;

template <Dtype kDtype>
constexpr std::size_t kSize = kDtype == Dtype::kF32                             ? 4
                              : kDtype == Dtype::kF16 || kDtype == Dtype::kBf16 ? 2
                                                                                : 1;

/// Binary32 of a format with `kMantissa` bits below an exponent of `kExponent` bits, given at the foot of
/// each lane without its sign: the fields move up, the exponent is biased anew, and a subnormal gets its
/// leading one by a subtraction that is exact. Infinity and NaN are the caller's.
template <unsigned kExponent, unsigned kMantissa>
[[gnu::always_inline]] inline void widen_finite(const U32& magnitude, U32& bits) noexcept {
  constexpr std::uint32_t kBias = (127U - ((1U << (kExponent - 1U)) - 1U)) << 23U;
  constexpr std::uint32_t kExponentMask = ((1U << kExponent) - 1U) << 23U;
  const U32 moved = magnitude << (23U - kMantissa);
  const U32 normal = moved + kBias;
  const U32 raised = normal + (1U << 23U);
  const U32 smallest = U32{} + (kBias + (1U << 23U));
  const F32 subnormal = reinterpret_cast<F32>(raised) - reinterpret_cast<F32>(smallest);
  bits = reinterpret_cast<U32>((moved & kExponentMask) == 0U ? reinterpret_cast<I32>(subnormal)
                                                             : reinterpret_cast<I32>(normal));
}

/// 16 bits at the foot of each lane: sign, 5 bits of exponent, 10 of mantissa.
[[gnu::always_inline]] inline void widen_half(const U32& half, F32& value) noexcept {
  const U32 magnitude = half & 0x7FFFU;
  U32 bits;
  widen_finite<5, 10>(magnitude, bits);
  const U32 special = (magnitude << 13U) | 0x7F80'0000U;  // infinity, or a NaN with its payload
  bits = magnitude >= 0x7C00U ? special : bits;
  bits |= (half & 0x8000U) << 16U;
  value = reinterpret_cast<F32>(bits);
}

template <Dtype kFrom>
[[gnu::always_inline]] inline void widen(const std::byte* from, F32& value) noexcept {
  if constexpr (kFrom == Dtype::kF32) {
    std::memcpy(&value, from, sizeof value);
  } else if constexpr (kFrom == Dtype::kBf16 || kFrom == Dtype::kF16) {
    U16 stored;
    std::memcpy(&stored, from, sizeof stored);
    const U32 wide = __builtin_convertvector(stored, U32);
    if constexpr (kFrom == Dtype::kBf16)
      value = reinterpret_cast<F32>(wide << 16U);
    else
      widen_half(wide, value);
  } else {
    U8 stored;
    std::memcpy(&stored, from, sizeof stored);
    const U32 wide = __builtin_convertvector(stored, U32);
    if constexpr (kFrom == Dtype::kF8E5M2) {
      widen_half(wide << 8U, value);  // the upper half of a float16
    } else {
      const U32 magnitude = wide & 0x7FU;
      U32 bits;
      widen_finite<4, 3>(magnitude, bits);  // no infinity; all ones is the one NaN
      bits = magnitude == 0x7FU ? U32{} + 0x7FC0'0000U : bits;
      bits |= (wide & 0x80U) << 24U;
      value = reinterpret_cast<F32>(bits);
    }
  }
}

[[gnu::always_inline]] inline void round_to_bf16(const U32& bits, U32& rounded) noexcept {
  const U32 nearest = (bits + 0x7FFFU + ((bits >> 16U) & 1U)) >> 16U;
  const U32 quiet = (bits >> 16U) | 0x40U;
  const I32 magnitude = reinterpret_cast<I32>(bits & 0x7FFF'FFFFU);
  rounded = magnitude > 0x7F80'0000 ? quiet : nearest;
}

[[gnu::always_inline]] inline void round_to_half(const U32& bits, U32& rounded) noexcept {
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
  rounded = magnitude < 0x3880'0000 ? subnormal : normal;
  rounded = magnitude >= 0x4780'0000 ? U32{} + 0x7C00U : rounded;
  rounded = magnitude > 0x7F80'0000 ? quiet : rounded;
  rounded |= (bits >> 16U) & 0x8000U;
}

/// The 16 bits of the target, at the foot of each lane.
template <Dtype kTo>
[[gnu::always_inline]] inline void round_to(const F32& value, U32& rounded) noexcept {
  if constexpr (kTo == Dtype::kBf16)
    round_to_bf16(reinterpret_cast<U32>(value), rounded);
  else
    round_to_half(reinterpret_cast<U32>(value), rounded);
}

template <Dtype kTo>
[[gnu::always_inline]] inline void narrow(const F32& value, std::byte* into) noexcept {
  if constexpr (kTo == Dtype::kF32) {
    std::memcpy(into, &value, sizeof value);
  } else {
    U32 rounded;
    round_to<kTo>(value, rounded);
    const U16 stored = __builtin_convertvector(rounded, U16);
    std::memcpy(into, &stored, sizeof stored);
  }
}

/// 16 bits to 16 bits, two elements a lane: neither is moved out of its lane, which costs more than the rest.
template <Dtype kFrom, Dtype kTo>
[[gnu::always_inline]] inline void convert_pairs(const std::byte* from, std::byte* into,
                                                 float scale) noexcept {
  U32 pairs;
  std::memcpy(&pairs, from, sizeof pairs);
  F32 low;
  F32 high;
  if constexpr (kFrom == Dtype::kBf16) {
    low = reinterpret_cast<F32>(pairs << 16U);
    high = reinterpret_cast<F32>(pairs & 0xFFFF'0000U);
  } else {
    widen_half(pairs & 0xFFFFU, low);
    widen_half(pairs >> 16U, high);
  }
  low *= scale;
  high *= scale;
  U32 low_bits;
  U32 high_bits;
  round_to<kTo>(low, low_bits);
  round_to<kTo>(high, high_bits);
  pairs = low_bits | (high_bits << 16U);
  std::memcpy(into, &pairs, sizeof pairs);
}

template <Dtype kFrom, Dtype kTo>
[[gnu::always_inline]] inline void convert_all(const std::byte* from, std::byte* into, std::size_t count,
                                               float scale) noexcept {
  F32 value;
  std::size_t i = 0;
  if constexpr (kSize<kFrom> == 2 && kSize<kTo> == 2) {
    for (; i + 2 * kLanes <= count; i += 2 * kLanes)
      convert_pairs<kFrom, kTo>(from + i * 2, into + i * 2, scale);
  }
  for (; i + kLanes <= count; i += kLanes) {
    widen<kFrom>(from + i * kSize<kFrom>, value);
    value *= scale;
    narrow<kTo>(value, into + i * kSize<kTo>);
  }
  if (i == count) return;
  std::array<std::byte, kLanes * kSize<kFrom>> last_from{};
  std::array<std::byte, kLanes * kSize<kTo>> last_into;
  std::memcpy(last_from.data(), from + i * kSize<kFrom>, (count - i) * kSize<kFrom>);
  widen<kFrom>(last_from.data(), value);
  value *= scale;
  narrow<kTo>(value, last_into.data());
  std::memcpy(into + i * kSize<kTo>, last_into.data(), (count - i) * kSize<kTo>);
}

template <Dtype kFrom, Dtype kTo>
void convert_portable(const std::byte* from, std::byte* into, std::size_t count, float scale) noexcept {
  convert_all<kFrom, kTo>(from, into, count, scale);
}

using Convert = void (*)(const std::byte*, std::byte*, std::size_t, float) noexcept;

#if defined(__x86_64__)
template <Dtype kFrom, Dtype kTo>
[[gnu::target("avx2,bmi,bmi2,popcnt")]] void convert_avx2(const std::byte* from, std::byte* into,
                                                          std::size_t count, float scale) noexcept {
  convert_all<kFrom, kTo>(from, into, count, scale);
}

template <Dtype kFrom, Dtype kTo>
Convert best() noexcept {
  return convert_avx2<kFrom, kTo>;
}
#else
template <Dtype kFrom, Dtype kTo>
Convert best() noexcept {
  return convert_portable<kFrom, kTo>;
}
#endif

/// A byte has 256 values: each is converted once, then looked up. Faster than arithmetic on any processor.
template <Dtype kFrom, Dtype kTo>
void convert_bytes(const std::byte* from, std::byte* into, std::size_t count, float scale) noexcept {
  std::array<std::byte, 256> values{};
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<std::byte>(i);
  using Stored = std::conditional_t<kSize<kTo> == 4, std::uint32_t, std::uint16_t>;
  std::array<Stored, 256> table{};
  convert_portable<kFrom, kTo>(values.data(), reinterpret_cast<std::byte*>(table.data()), values.size(),
                               scale);
  for (std::size_t i = 0; i < count; ++i)
    std::memcpy(into + i * sizeof(Stored), &table[std::to_integer<std::size_t>(from[i])], sizeof(Stored));
}

template <Dtype kFrom, Dtype kTo>
Convert choose(Simd simd) noexcept {
  if constexpr (kSize<kFrom> == 1)
    return convert_bytes<kFrom, kTo>;
  else
    return simd == Simd::kPortable ? convert_portable<kFrom, kTo> : best<kFrom, kTo>();
}

template <Dtype kFrom>
Convert choose(Dtype to, Simd simd) noexcept {
  switch (to) {
    case Dtype::kF32:
      return choose<kFrom, Dtype::kF32>(simd);
    case Dtype::kF16:
      return choose<kFrom, Dtype::kF16>(simd);
    case Dtype::kBf16:
      return choose<kFrom, Dtype::kBf16>(simd);
    default:
      return nullptr;
  }
}

Convert choose(Dtype from, Dtype to, Simd simd) noexcept {
  switch (from) {
    case Dtype::kF32:
      return choose<Dtype::kF32>(to, simd);
    case Dtype::kF16:
      return choose<Dtype::kF16>(to, simd);
    case Dtype::kBf16:
      return choose<Dtype::kBf16>(to, simd);
    case Dtype::kF8E4M3:
      return choose<Dtype::kF8E4M3>(to, simd);
    case Dtype::kF8E5M2:
      return choose<Dtype::kF8E5M2>(to, simd);
  }
  return nullptr;
}

}  // namespace

bool is_serving_dtype(Dtype dtype) noexcept {
  return dtype == Dtype::kF32 || dtype == Dtype::kF16 || dtype == Dtype::kBf16;
}

void convert_elements(std::span<const std::byte> from, Dtype from_dtype, std::span<std::byte> into, Dtype to,
                      float scale, Simd simd) noexcept {
  const std::size_t count = from.size() / bytes_of(from_dtype);
  LORACLE_CHECK(is_serving_dtype(to));
  LORACLE_CHECK(from.size() == count * bytes_of(from_dtype) && into.size() == count * bytes_of(to));
  choose(from_dtype, to, std::min(simd, best_simd()))(from.data(), into.data(), count, scale);
}

}  // namespace loracle
