// One block a stretch of a part; threads move 16 bytes at a time where both sides allow it. Bound by memory:
// each byte of the slot is written once and each byte of the image read once.

#include <cuda_runtime.h>

#include <cstdint>

#include "loracle/kernels/slot_scatter.hpp"
#include "slot_words.hpp"

namespace loracle {
namespace {

constexpr unsigned kThreads = 256;
constexpr unsigned kBlocksPerPart = 16;

/// `Word` is what a thread moves at once.
template <class Word>
__device__ void scatter(const ScatterPart& part, const std::byte* image, std::uint32_t element_bytes) {
  const PartWords words = part_words(part, element_bytes, sizeof(Word));
  const Word* const source = reinterpret_cast<const Word*>(image + part.source);
  Word* const destination = reinterpret_cast<Word*>(part.destination);
  const std::uint64_t stride = std::uint64_t{gridDim.x} * kThreads;
  for (std::uint64_t i = std::uint64_t{blockIdx.x} * kThreads + threadIdx.x; i < words.slot; i += stride) {
    const WordSource from = source_of(words, i);
    Word word{};
    if (from.filled) word = source[from.word];
    destination[i] = word;
  }
}

__device__ void scatter_part(const ScatterPart& part, const std::byte* image, std::uint32_t element_bytes) {
  switch (word_bytes(part, image, element_bytes)) {
    case 16:
      return scatter<Word16>(part, image, element_bytes);
    case 8:
      return scatter<uint2>(part, image, element_bytes);
    case 4:
      return scatter<std::uint32_t>(part, image, element_bytes);
    case 2:
      return scatter<std::uint16_t>(part, image, element_bytes);
    default:
      return scatter<std::uint8_t>(part, image, element_bytes);
  }
}

__global__ void slot_scatter_kernel(const ScatterPart* parts, const std::byte* image,
                                    std::uint32_t element_bytes) {
  scatter_part(parts[blockIdx.y], image, element_bytes);
}

__global__ void slot_scatter_batch_kernel(const ScatterPart* parts, const std::byte* const* images,
                                          std::uint32_t element_bytes) {
  scatter_part(parts[std::size_t{blockIdx.z} * gridDim.y + blockIdx.y], images[blockIdx.z], element_bytes);
}

constexpr std::uint32_t kBlocksMax = 65'535;  // of a grid, in y or in z

}  // namespace

int slot_scatter(const ScatterPart* parts, std::uint32_t part_count, const std::byte* image,
                 std::uint32_t element_bytes, CUstream_st* stream) noexcept {
  if (element_bytes != 1 && element_bytes != 2 && element_bytes != 4) return cudaErrorInvalidValue;
  for (std::uint32_t first = 0; first < part_count; first += kBlocksMax) {
    const std::uint32_t count = part_count - first < kBlocksMax ? part_count - first : kBlocksMax;
    slot_scatter_kernel<<<dim3(kBlocksPerPart, count), kThreads, 0, stream>>>(parts + first, image,
                                                                              element_bytes);
    if (const cudaError_t error = cudaGetLastError(); error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

int slot_scatter_batch(const ScatterPart* parts, std::uint32_t parts_per_slot, const std::byte* const* images,
                       std::uint32_t slots, std::uint32_t element_bytes, CUstream_st* stream) noexcept {
  if (element_bytes != 1 && element_bytes != 2 && element_bytes != 4) return cudaErrorInvalidValue;
  if (parts_per_slot > kBlocksMax || slots > kBlocksMax) return cudaErrorInvalidValue;
  if (parts_per_slot == 0 || slots == 0) return cudaSuccess;
  slot_scatter_batch_kernel<<<dim3(kBlocksPerPart, parts_per_slot, slots), kThreads, 0, stream>>>(
      parts, images, element_bytes);
  return cudaGetLastError();
}

int load_slot_scatter() noexcept {
  cudaFuncAttributes attributes{};
  return cudaFuncGetAttributes(&attributes, slot_scatter_kernel);
}

}  // namespace loracle
