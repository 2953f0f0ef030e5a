#pragma once
/// The conversions of each path, by types. They take any count and any alignment.

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

}  // namespace loracle
