// Compiled for AVX2 and F16C (kernels/CMakeLists.txt); called only where the processor has them.

#include <immintrin.h>

#include "convert_vectors.hpp"

namespace loracle {
namespace {

struct Avx2 {
  using V = Vectors<8>;
  struct Half {
    [[gnu::always_inline]] static inline void load(const std::byte* from, V::F32& value) noexcept {
      value =
          reinterpret_cast<V::F32>(_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))));
    }
    [[gnu::always_inline]] static inline void store(const V::F32& value, std::byte* into) noexcept {
      _mm_storeu_si128(
          reinterpret_cast<__m128i*>(into),
          _mm256_cvtps_ph(reinterpret_cast<__m256>(value), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    }
  };
};

}  // namespace

Convert avx2_conversion(ElementType from, ElementType to) noexcept { return conversion<Avx2>(from, to); }

}  // namespace loracle
