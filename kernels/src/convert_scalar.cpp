// One element at a time, by the definition of each format: what the vectors are checked against. It shares
// nothing with them: values are taken apart and put together in binary64, where all of it is exact.

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "convert_paths.hpp"

namespace loracle {
namespace {

struct Format {
  int exponent_bits;
  int mantissa_bits;
  bool has_infinity;  // else all ones is the one NaN, and numbers go on up to it

  [[nodiscard]] constexpr int bias() const { return (1 << (exponent_bits - 1)) - 1; }
  [[nodiscard]] constexpr std::uint32_t exponent_mask() const { return (1U << exponent_bits) - 1U; }
  [[nodiscard]] constexpr std::uint32_t mantissa_mask() const { return (1U << mantissa_bits) - 1U; }
};

constexpr Format format_of(ElementType type) {
  switch (type) {
    case ElementType::kF16:
      return {5, 10, true};
    case ElementType::kBf16:
      return {8, 7, true};
    case ElementType::kF8E4M3:
      return {4, 3, false};
    case ElementType::kF8E5M2:
      return {5, 2, true};
    default:
      return {8, 23, true};
  }
}

float widen(std::uint32_t raw, const Format& format) {
  const std::uint32_t mantissa = raw & format.mantissa_mask();
  const std::uint32_t exponent = (raw >> format.mantissa_bits) & format.exponent_mask();
  const std::uint32_t sign = raw >> (format.exponent_bits + format.mantissa_bits);
  if (exponent == format.exponent_mask()) {
    if (format.has_infinity)
      return std::bit_cast<float>(sign << 31U | 0x7F80'0000U | mantissa << (23 - format.mantissa_bits));
    if (mantissa == format.mantissa_mask()) return std::bit_cast<float>(sign << 31U | 0x7FC0'0000U);
  }
  const int bottom = 1 - format.bias() - format.mantissa_bits;  // the exponent of a subnormal's last bit
  const double magnitude = exponent == 0 ? std::ldexp(mantissa, bottom)
                                         : std::ldexp(mantissa + (1U << format.mantissa_bits),
                                                      bottom + static_cast<int>(exponent) - 1);
  return static_cast<float>(sign != 0 ? -magnitude : magnitude);
}

std::uint32_t narrow(float value, const Format& format) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = (bits >> 31U) << (format.exponent_bits + format.mantissa_bits);
  const std::uint32_t infinity = format.exponent_mask() << format.mantissa_bits;
  if (std::isnan(value)) {
    const std::uint32_t payload = (bits & 0x7F'FFFFU) >> (23 - format.mantissa_bits);
    return sign | infinity | 1U << (format.mantissa_bits - 1) | payload;
  }
  if (std::isinf(value)) return sign | infinity;
  if (value == 0) return sign;
  const double magnitude = std::fabs(static_cast<double>(value));
  const int bottom = 1 - format.bias() - format.mantissa_bits;
  int exponent = 0;
  static_cast<void>(std::frexp(magnitude, &exponent));  // magnitude < 2^exponent
  const int last_place = std::max(exponent - 1 - format.mantissa_bits, bottom);
  const double places = std::nearbyint(std::ldexp(magnitude, -last_place));  // ties to even
  if (std::ldexp(places, last_place) >= std::ldexp(1.0, format.bias() + 1)) return sign | infinity;
  // A subnormal's places are its bits. A normal number's have the leading one, which adds the first exponent.
  const auto whole = static_cast<std::uint32_t>(places);
  const auto below = static_cast<std::uint32_t>(last_place - bottom) << format.mantissa_bits;
  return sign | (below + whole);
}

template <ElementType kFrom, ElementType kTo>
void convert_each(const std::byte* from, std::byte* into, std::size_t count, float scale) noexcept {
  for (std::size_t i = 0; i < count; ++i) {
    std::uint32_t raw = 0;
    std::memcpy(&raw, from + i * bytes_of(kFrom), bytes_of(kFrom));
    float value = kFrom == ElementType::kF32 ? std::bit_cast<float>(raw) : widen(raw, format_of(kFrom));
    value *= scale;
    raw = kTo == ElementType::kF32 ? std::bit_cast<std::uint32_t>(value) : narrow(value, format_of(kTo));
    std::memcpy(into + i * bytes_of(kTo), &raw, bytes_of(kTo));
  }
}

template <ElementType kFrom>
Convert conversion_to(ElementType to) noexcept {
  switch (to) {
    case ElementType::kF32:
      return convert_each<kFrom, ElementType::kF32>;
    case ElementType::kF16:
      return convert_each<kFrom, ElementType::kF16>;
    case ElementType::kBf16:
      return convert_each<kFrom, ElementType::kBf16>;
    default:
      return nullptr;
  }
}

}  // namespace

Convert scalar_conversion(ElementType from, ElementType to) noexcept {
  static_assert(std::endian::native == std::endian::little, "elements lie in the low bytes of a word");
  switch (from) {
    case ElementType::kF32:
      return conversion_to<ElementType::kF32>(to);
    case ElementType::kF16:
      return conversion_to<ElementType::kF16>(to);
    case ElementType::kBf16:
      return conversion_to<ElementType::kBf16>(to);
    case ElementType::kF8E4M3:
      return conversion_to<ElementType::kF8E4M3>(to);
    case ElementType::kF8E5M2:
      return conversion_to<ElementType::kF8E5M2>(to);
  }
  return nullptr;
}

}  // namespace loracle
