#include "loracle/sim/curves.hpp"

#include <algorithm>

namespace loracle {

Simd best_simd() noexcept {
#if defined(__x86_64__)
  static const Simd best = [] {
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") &&
                      __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("popcnt");
    const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    if (!avx2) return Simd::kPortable;
    return avx512 ? Simd::kAvx512 : Simd::kAvx2;
  }();
  return best;
#else
  return Simd::kPortable;
#endif
}

std::string_view name_of(Simd simd) noexcept {
  switch (simd) {
    case Simd::kPortable:
      return "portable";
    case Simd::kAvx2:
      return "avx2";
    case Simd::kAvx512:
      return "avx512";
  }
  return "unknown";
}

std::uint64_t LruCurve::misses(std::uint64_t entries) const noexcept {
  if (misses_at.empty()) return requests;
  return misses_at[std::min<std::uint64_t>(entries, misses_at.size() - 1)];
}

}  // namespace loracle
