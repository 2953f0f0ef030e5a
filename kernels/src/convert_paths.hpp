#pragma once
/// The conversions of each path, by types, and a conversion made ready for many rows. They take any count and
/// any alignment.

#include <array>
#include <cstddef>

#include "loracle/kernels/convert.hpp"

namespace loracle {

using Convert = void (*)(const std::byte* from, std::byte* into, std::size_t count, float scale) noexcept;

// nullptr for what has no conversion.
[[nodiscard]] Convert scalar_conversion(ElementType from, ElementType to) noexcept;
[[nodiscard]] Convert portable_conversion(ElementType from, ElementType to) noexcept;
// Only on x86-64. They exist in every build there; the caller asks the processor first.
[[nodiscard]] Convert avx2_conversion(ElementType from, ElementType to) noexcept;
[[nodiscard]] Convert avx512_conversion(ElementType from, ElementType to) noexcept;

/// What convert_elements does, made ready once: a byte of float8 has 256 values, and each is converted here,
/// then looked up, which is faster than arithmetic on any processor.
class Converter {
 public:
  Converter(ElementType from, ElementType to, float scale, CpuPath path) noexcept;
  void operator()(const std::byte* from, std::byte* into, std::size_t count) const noexcept;

 private:
  static constexpr std::size_t kByteValues = 256;

  Convert convert_ = nullptr;  // nullptr: by the table
  float scale_;
  std::size_t width_;                                         // of an element of the table
  alignas(16) std::array<std::byte, kByteValues * 4> table_;  // [256]  filled for float8 only
};

}  // namespace loracle
