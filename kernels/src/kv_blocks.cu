// One block of threads a plane and staged block: 32 KB for 16 tokens of 8 heads of 128 float16. Bound by
// memory.

#include <cuda_runtime.h>

#include "kv_words.hpp"
#include "loracle/kernels/kv_blocks.hpp"

namespace loracle {
namespace {

constexpr unsigned kThreads = 256;
constexpr std::uint32_t kBlocksMax = 65'535;  // of a grid, in y

template <bool kGather>
__global__ void kv_blocks_kernel(const KvBlocks work, std::uint32_t first_plane, std::byte* staging) {
  move_plane<kGather>(work, blockIdx.x, first_plane + blockIdx.y, staging, threadIdx.x, kThreads);
}

template <bool kGather>
cudaError_t launch(const KvBlocks& work, std::byte* staging, cudaStream_t stream) {
  if (work.block_count == 0) return cudaSuccess;
  if (work.block_count > 0x7FFF'FFFFU) return cudaErrorInvalidValue;
  for (std::uint32_t first = 0; first < work.plane_count; first += kBlocksMax) {
    const std::uint32_t rest = work.plane_count - first;
    const dim3 grid(work.block_count, rest < kBlocksMax ? rest : kBlocksMax);
    kv_blocks_kernel<kGather><<<grid, kThreads, 0, stream>>>(work, first, staging);
    if (const cudaError_t error = cudaGetLastError(); error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

}  // namespace

int kv_gather(const KvBlocks& work, std::byte* staging, CUstream_st* stream) noexcept {
  return launch<true>(work, staging, stream);
}

int kv_scatter(const KvBlocks& work, const std::byte* staging, CUstream_st* stream) noexcept {
  return launch<false>(work, const_cast<std::byte*>(staging), stream);  // which a scatter only reads
}

}  // namespace loracle
