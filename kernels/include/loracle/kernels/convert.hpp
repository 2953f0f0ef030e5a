#pragma once
/// Conversion of matrix elements to a serving type, multiplied on the way.
///
/// Each element becomes binary32, which is exact for every type here; is multiplied by `scale` in binary32;
/// and is rounded once to the target, to nearest, ties to even, as IEEE 754 has it: too large is infinity,
/// subnormal results are kept, NaN stays a (quiet) NaN with the upper bits of its payload.
/// Every path gives the same bits: CpuPath chooses instructions, never answers. kScalar is written by the
/// definition and slow; the others are checked against it.
/// Targets: kF32, kF16, kBf16. Cost: near memory's pace with AVX2 (bench/bench_kernels_packing.cpp); float8
/// goes through a table. No allocation. Threads: pure.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace loracle {

enum class ElementType : std::uint8_t { kF32 = 1, kF16 = 2, kBf16 = 3, kF8E4M3 = 4, kF8E5M2 = 5 };

[[nodiscard]] constexpr std::uint32_t bytes_of(ElementType type) noexcept {
  return type == ElementType::kF32 ? 4 : type == ElementType::kF16 || type == ElementType::kBf16 ? 2 : 1;
}

/// True for what conversion can aim at. Nothing is served as float8.
[[nodiscard]] constexpr bool is_serving_type(ElementType type) noexcept {
  return type == ElementType::kF32 || type == ElementType::kF16 || type == ElementType::kBf16;
}

/// Ascending: a path that the processor lacks counts as the best it has.
enum class CpuPath : std::uint8_t {
  kScalar,    // one element at a time, by the definition
  kPortable,  // vectors that the compiler cuts to what every processor of this architecture has
  kAvx2,      // x86-64 with AVX2 and F16C
  kAvx512,    // AVX-512 F, BW, DQ and VL
};
[[nodiscard]] CpuPath best_cpu_path() noexcept;
[[nodiscard]] std::string_view name_of(CpuPath path) noexcept;

/// Converts as many elements as both sides hold. Any alignment. REQUIRES: is_serving_type(to); the sides do
/// not overlap; `scale` is not NaN.
void convert_elements(std::span<const std::byte> from, ElementType from_type, std::span<std::byte> into,
                      ElementType to, float scale, CpuPath path = best_cpu_path()) noexcept;

}  // namespace loracle
