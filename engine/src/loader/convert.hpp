#pragma once
/// Conversion of matrix elements to a serving dtype, multiplied on the way.
///
/// Each element becomes binary32, which is exact for every dtype here; is multiplied by `scale` in binary32;
/// and is rounded once to the target, to nearest, ties to even, as IEEE 754 has it: too large is infinity,
/// subnormal results are kept, NaN stays a (quiet) NaN with the upper bits of its payload.
/// One source serves every processor: the loop is inlined into one function an instruction set, so the form
/// for AVX2 and the portable one give the same bits by construction. (F16C was left out for that reason, and
/// because clang takes its builtins only where the template cannot have them.) Float8 goes through a table.
/// Targets: kF32, kF16, kBf16. Cost: close to memory's pace with AVX2. Threads: pure.

#include <cstddef>
#include <span>

#include "loracle/engine/adapter_files.hpp"
#include "loracle/sim/curves.hpp"

namespace loracle {

/// False: float8, which nothing is served as.
[[nodiscard]] bool is_serving_dtype(Dtype dtype) noexcept;

/// REQUIRES: is_serving_dtype(to); from holds n x bytes_of(from_dtype) bytes and into n x bytes_of(to) bytes;
/// they do not overlap. Any alignment.
void convert_elements(std::span<const std::byte> from, Dtype from_dtype, std::span<std::byte> into, Dtype to,
                      float scale, Simd simd = best_simd()) noexcept;

}  // namespace loracle
