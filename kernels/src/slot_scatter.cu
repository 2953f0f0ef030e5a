// One block a stretch of a part; threads move 16 bytes at a time where both sides allow it. Bound by memory:
// each byte of the slot is written once and each byte of the image read once.

#include <cuda_runtime.h>

#include <cstdint>

#include "loracle/kernels/slot_scatter.hpp"

namespace loracle {
namespace {

constexpr unsigned kThreads = 256;
constexpr unsigned kBlocksPerPart = 16;

/// `Word` is what a thread moves at once; columns are counted in words.
template <class Word>
__device__ void scatter(const ScatterPart& part, const std::byte* image, std::uint32_t columns,
                        std::uint32_t slot_columns) {
  const Word* const source = reinterpret_cast<const Word*>(image + part.source);
  Word* const destination = reinterpret_cast<Word*>(part.destination);
  const std::uint64_t words = std::uint64_t{part.slot_rows} * slot_columns;
  const std::uint64_t stride = std::uint64_t{gridDim.x} * kThreads;
  for (std::uint64_t i = std::uint64_t{blockIdx.x} * kThreads + threadIdx.x; i < words; i += stride) {
    const auto row = static_cast<std::uint32_t>(i / slot_columns);
    const auto column = static_cast<std::uint32_t>(i % slot_columns);
    Word word{};
    if (row < part.rows && column < columns) word = source[std::uint64_t{row} * columns + column];
    destination[i] = word;
  }
}

__global__ void slot_scatter_kernel(const ScatterPart* parts, const std::byte* image,
                                    std::uint32_t element_bytes) {
  const ScatterPart part = parts[blockIdx.y];
  const std::uint64_t row_bytes = std::uint64_t{part.columns} * element_bytes;
  const std::uint64_t slot_row_bytes = std::uint64_t{part.slot_columns} * element_bytes;
  const std::uint64_t aligned = reinterpret_cast<std::uintptr_t>(image + part.source) |
                                reinterpret_cast<std::uintptr_t>(part.destination) | row_bytes |
                                slot_row_bytes;
  if (aligned % 16 == 0)
    scatter<uint4>(part, image, static_cast<std::uint32_t>(row_bytes / 16),
                   static_cast<std::uint32_t>(slot_row_bytes / 16));
  else if (element_bytes == 4)
    scatter<std::uint32_t>(part, image, part.columns, part.slot_columns);
  else if (element_bytes == 2)
    scatter<std::uint16_t>(part, image, part.columns, part.slot_columns);
  else
    scatter<std::uint8_t>(part, image, part.columns, part.slot_columns);
}

}  // namespace

int slot_scatter(const ScatterPart* parts, std::uint32_t part_count, const std::byte* image,
                 std::uint32_t element_bytes, CUstream_st* stream) noexcept {
  if (element_bytes != 1 && element_bytes != 2 && element_bytes != 4) return cudaErrorInvalidValue;
  constexpr std::uint32_t kPartsPerLaunch = 65'535;  // the most blocks a grid has in y
  for (std::uint32_t first = 0; first < part_count; first += kPartsPerLaunch) {
    const std::uint32_t count = part_count - first < kPartsPerLaunch ? part_count - first : kPartsPerLaunch;
    slot_scatter_kernel<<<dim3(kBlocksPerPart, count), kThreads, 0, stream>>>(parts + first, image,
                                                                              element_bytes);
    if (const cudaError_t error = cudaGetLastError(); error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

int load_slot_scatter() noexcept {
  cudaFuncAttributes attributes{};
  return cudaFuncGetAttributes(&attributes, slot_scatter_kernel);
}

}  // namespace loracle
