// Compiled for AVX-512 F, BW, DQ and VL (kernels/CMakeLists.txt); called only where the processor has them.

#include <immintrin.h>

#include "convert_vectors.hpp"

namespace loracle {
namespace {

struct Avx512 {
  using V = Vectors<16>;
  struct Half {
    static constexpr __mmask16 kAll = 0xFFFF;  // g++ 12 warns of its own header where there is no mask
    [[gnu::always_inline]] static inline void load(const std::byte* from, V::F32& value) noexcept {
      value = reinterpret_cast<V::F32>(
          _mm512_maskz_cvtph_ps(kAll, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from))));
    }
    [[gnu::always_inline]] static inline void store(const V::F32& value, std::byte* into) noexcept {
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(into),
                          _mm512_maskz_cvtps_ph(kAll, reinterpret_cast<__m512>(value),
                                                _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    }
  };
};

}  // namespace

Convert avx512_conversion(ElementType from, ElementType to) noexcept { return conversion<Avx512>(from, to); }

}  // namespace loracle
