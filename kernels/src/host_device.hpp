#pragma once
/// Code that runs both in kernels and, block after block, on this machine: a block's work is written once as
/// a function over a team, and the team decides what "each thread, then wait for all" means. So the tests
/// without a device execute the very index arithmetic that the kernels do.

#include <cstddef>
#include <cstdint>
#include <cstring>

#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#define LORACLE_HOST_DEVICE __host__ __device__ __forceinline__
#else
#define LORACLE_HOST_DEVICE inline
#endif

namespace loracle {

/// 16 bytes that are moved at once, whatever lies in them: it may alias, or a compiler could move a read of
/// the elements before the word that holds them.
struct [[gnu::may_alias]] alignas(16) Word16 {
  std::uint32_t parts[4];
};

/// The threads of one block, one after the other, on this machine.
template <unsigned kThreads>
struct SerialTeam {
  template <class Work>
  void each(const Work& work) const {
    for (unsigned thread = 0; thread < kThreads; ++thread) work(thread);
  }
  /// A variable that each thread has for itself from one `each` to the next.
  template <class T>
  struct Own {
    T values[kThreads];
    T& operator[](unsigned thread) { return values[thread]; }
  };
};

#ifdef __CUDACC__
/// The threads of one block, on a device. `each` ends with a barrier: all threads of the block must come to
/// it.
struct DeviceTeam {
  template <class Work>
  __host__ __device__ __forceinline__ void each(const Work& work) const {
#ifdef __CUDA_ARCH__
    work(threadIdx.x);
    __syncthreads();
#else
    static_cast<void>(work);
#endif
  }
  template <class T>
  struct Own {
    T value;
    __host__ __device__ __forceinline__ T& operator[](unsigned) { return value; }
  };
};
#endif

LORACLE_HOST_DEVICE std::uint32_t bits_of(float value) {
#ifdef __CUDA_ARCH__
  return __float_as_uint(value);
#else
  std::uint32_t bits = 0;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
#endif
}

LORACLE_HOST_DEVICE float float_of(std::uint32_t bits) {
#ifdef __CUDA_ARCH__
  return __uint_as_float(bits);
#else
  float value = 0;
  std::memcpy(&value, &bits, sizeof value);
  return value;
#endif
}

/// bfloat16, stored as its bits.
struct Bf16 {
  /// What rounding leaves of a number is stored times this.
  static constexpr float kRestScale = 1;
#ifdef __CUDACC__
  using Native = __nv_bfloat16;
#endif
  LORACLE_HOST_DEVICE static float widen(std::uint16_t stored) {
    return float_of(static_cast<std::uint32_t>(stored) << 16U);
  }
  LORACLE_HOST_DEVICE static std::uint16_t narrow(float value) {
    const std::uint32_t bits = bits_of(value);
    if ((bits & 0x7FFF'FFFFU) > 0x7F80'0000U) return static_cast<std::uint16_t>((bits >> 16U) | 0x40U);
    return static_cast<std::uint16_t>((bits + 0x7FFFU + ((bits >> 16U) & 1U)) >> 16U);
  }
};

/// float16, stored as its bits.
struct F16 {
  static constexpr float kRestScale = 2048;  // it ends at 2^-24, above what is left of a number below 2^-9
#ifdef __CUDACC__
  using Native = __half;
#endif
  LORACLE_HOST_DEVICE static float widen(std::uint16_t stored) {
#ifdef __CUDA_ARCH__
    return __half2float(__ushort_as_half(stored));
#else
    const std::uint32_t sign = (stored & 0x8000U) << 16U;
    const std::uint32_t magnitude = stored & 0x7FFFU;
    if (magnitude >= 0x7C00U) return float_of(sign | 0x7F80'0000U | (magnitude & 0x3FFU) << 13U);
    if (magnitude >= 0x400U) return float_of(sign | ((magnitude << 13U) + (112U << 23U)));
    const float small = static_cast<float>(magnitude) * 0x1p-24F;
    return sign != 0 ? -small : small;
#endif
  }
  LORACLE_HOST_DEVICE static std::uint16_t narrow(float value) {
#ifdef __CUDA_ARCH__
    return __half_as_ushort(__float2half_rn(value));
#else
    const std::uint32_t bits = bits_of(value);
    const std::uint32_t sign = (bits >> 16U) & 0x8000U;
    const std::uint32_t magnitude = bits & 0x7FFF'FFFFU;
    if (magnitude > 0x7F80'0000U) return static_cast<std::uint16_t>(sign | 0x7E00U);
    if (magnitude >= 0x4780'0000U) return static_cast<std::uint16_t>(sign | 0x7C00U);
    if (magnitude < 0x3880'0000U)  // added to 1/2, a subnormal's last place stands at the float's last place
      return static_cast<std::uint16_t>(sign | (bits_of(float_of(magnitude) + 0.5F) - 0x3F00'0000U));
    const std::uint32_t odd = (magnitude >> 13U) & 1U;
    return static_cast<std::uint16_t>(sign | (magnitude - (112U << 23U) + 0xFFFU + odd) >> 13U);
#endif
  }
};

}  // namespace loracle
