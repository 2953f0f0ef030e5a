#pragma once
/// The engine's names of stored types, which reach the catalog, as the kernels have them.

#include "loracle/engine/adapter_files.hpp"
#include "loracle/kernels/convert.hpp"

namespace loracle {

[[nodiscard]] constexpr ElementType element_type_of(Dtype dtype) noexcept {
  return static_cast<ElementType>(dtype);
}
static_assert(element_type_of(Dtype::kF32) == ElementType::kF32 &&
              element_type_of(Dtype::kF16) == ElementType::kF16 &&
              element_type_of(Dtype::kBf16) == ElementType::kBf16 &&
              element_type_of(Dtype::kF8E4M3) == ElementType::kF8E4M3 &&
              element_type_of(Dtype::kF8E5M2) == ElementType::kF8E5M2);

/// False: float8, which nothing is served as.
[[nodiscard]] constexpr bool is_serving_dtype(Dtype dtype) noexcept {
  return is_serving_type(element_type_of(dtype));
}

}  // namespace loracle
