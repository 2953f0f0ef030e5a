// The scatter's way back: the same words, each read from the slot, and written to the image or looked at.

#include <cuda_runtime.h>

#include <cstdint>

#include "loracle/kernels/slot_scatter.hpp"
#include "slot_words.hpp"

namespace loracle {
namespace {

constexpr unsigned kThreads = 256;
constexpr unsigned kBlocksPerPart = 16;
constexpr std::uint32_t kBlocksMax = 65'535;  // of a grid, in y

template <class Word>
__device__ bool is_zero(const Word& word) {
  if constexpr (sizeof(Word) == 16)
    return (word.parts[0] | word.parts[1] | word.parts[2] | word.parts[3]) == 0;
  else if constexpr (sizeof(Word) == 8)
    return (word.x | word.y) == 0;
  else
    return word == 0;
}

template <class Word>
__device__ void gather(const ScatterPart& part, std::byte* image, std::uint32_t element_bytes,
                       unsigned long long* dirty_words) {
  const PartWords words = part_words(part, element_bytes, sizeof(Word));
  Word* const into = reinterpret_cast<Word*>(image + part.source);
  const Word* const slot = reinterpret_cast<const Word*>(part.destination);
  const std::uint64_t stride = std::uint64_t{gridDim.x} * kThreads;
  for (std::uint64_t i = std::uint64_t{blockIdx.x} * kThreads + threadIdx.x; i < words.slot; i += stride) {
    const WordSource from = source_of(words, i);
    if (from.filled)
      into[from.word] = slot[i];
    else if (dirty_words != nullptr && !is_zero(slot[i]))
      atomicAdd(dirty_words, 1ULL);
  }
}

__global__ void slot_gather_kernel(const ScatterPart* parts, std::byte* image, std::uint32_t element_bytes,
                                   unsigned long long* dirty_words) {
  const ScatterPart part = parts[blockIdx.y];
  switch (word_bytes(part, image, element_bytes)) {
    case 16:
      return gather<Word16>(part, image, element_bytes, dirty_words);
    case 8:
      return gather<uint2>(part, image, element_bytes, dirty_words);
    case 4:
      return gather<std::uint32_t>(part, image, element_bytes, dirty_words);
    case 2:
      return gather<std::uint16_t>(part, image, element_bytes, dirty_words);
    default:
      return gather<std::uint8_t>(part, image, element_bytes, dirty_words);
  }
}

}  // namespace

int slot_gather(const ScatterPart* parts, std::uint32_t part_count, std::byte* image,
                std::uint32_t element_bytes, std::uint64_t* dirty_words, CUstream_st* stream) noexcept {
  static_assert(sizeof(unsigned long long) == sizeof(std::uint64_t));
  if (element_bytes != 1 && element_bytes != 2 && element_bytes != 4) return cudaErrorInvalidValue;
  for (std::uint32_t first = 0; first < part_count; first += kBlocksMax) {
    const std::uint32_t count = part_count - first < kBlocksMax ? part_count - first : kBlocksMax;
    slot_gather_kernel<<<dim3(kBlocksPerPart, count), kThreads, 0, stream>>>(
        parts + first, image, element_bytes, reinterpret_cast<unsigned long long*>(dirty_words));
    if (const cudaError_t error = cudaGetLastError(); error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

}  // namespace loracle
