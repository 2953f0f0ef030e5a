// Shrink and expand on a device: lora_blocks.hpp with a block's threads in place of a loop, and tensor cores
// (sm_80 and later) in place of plain sums. A block's only other steps are barriers.

#include <cuda_runtime.h>
#include <mma.h>

#include "lora_blocks.hpp"
#include "loracle/kernels/lora.hpp"

namespace loracle {
namespace {

namespace wmma = nvcuda::wmma;

struct TensorCoreMath {
  template <class Element, unsigned kRows, unsigned kColumns>
  struct Sums {
    static constexpr unsigned kDown = kRows / kFragment;
    static constexpr unsigned kAcross = kColumns / kFragment;
    using Native = typename Element::Native;
    template <class Use, class Order>
    using Factor = wmma::fragment<Use, kFragment, kFragment, kFragment, Native, Order>;
    wmma::fragment<wmma::accumulator, kFragment, kFragment, kFragment, float> of[kDown][kAcross];

    __host__ __device__ __forceinline__ void clear() {
#ifdef __CUDA_ARCH__
      for (auto& row : of)
        for (auto& sum : row) wmma::fill_fragment(sum, 0.0F);
#endif
    }

    __host__ __device__ __forceinline__ void add(const std::uint16_t* rows, const std::uint16_t* columns,
                                                 unsigned row_length, unsigned live_columns, unsigned) {
#ifdef __CUDA_ARCH__
      Factor<wmma::matrix_a, wmma::row_major> left[kDown];
#pragma unroll
      for (unsigned m = 0; m < kDown; ++m)
        wmma::load_matrix_sync(left[m], reinterpret_cast<const Native*>(rows + m * kFragment * row_length),
                               row_length);
#pragma unroll
      for (unsigned n = 0; n < kAcross; ++n) {
        if (n * kFragment >= live_columns) break;  // the same for the whole warp
        Factor<wmma::matrix_b, wmma::col_major> right;
        wmma::load_matrix_sync(right, reinterpret_cast<const Native*>(columns + n * kFragment * row_length),
                               row_length);
#pragma unroll
        for (unsigned m = 0; m < kDown; ++m) wmma::mma_sync(of[m][n], left[m], right, of[m][n]);
      }
#else
      static_cast<void>(rows), static_cast<void>(columns), static_cast<void>(row_length);
      static_cast<void>(live_columns);
#endif
    }

    /// Fragments of one type hold the same elements in the same places.
    __host__ __device__ __forceinline__ void add_times(const Sums& others, float factor) {
#ifdef __CUDA_ARCH__
#pragma unroll
      for (unsigned m = 0; m < kDown; ++m)
#pragma unroll
        for (unsigned n = 0; n < kAcross; ++n)
#pragma unroll
          for (int i = 0; i < of[m][n].num_elements; ++i) of[m][n].x[i] += others.of[m][n].x[i] * factor;
#else
      static_cast<void>(others), static_cast<void>(factor);
#endif
    }

    __host__ __device__ __forceinline__ void store(float* into, unsigned row_length, unsigned) const {
#ifdef __CUDA_ARCH__
#pragma unroll
      for (unsigned m = 0; m < kDown; ++m)
#pragma unroll
        for (unsigned n = 0; n < kAcross; ++n)
          wmma::store_matrix_sync(into + m * kFragment * row_length + n * kFragment, of[m][n], row_length,
                                  wmma::mem_row_major);
#else
      static_cast<void>(into), static_cast<void>(row_length);
#endif
    }
  };
};

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
template <class Math>
using MathHere = PlainMath;
#else
template <class Math>
using MathHere = Math;
#endif

template <class Tile, class Element, class Math>
__global__ void __launch_bounds__(kLoraThreads) shrink_kernel(const __grid_constant__ ShrinkArguments work) {
  __shared__ typename Tile::Shared shared;
  const std::uint32_t columns = column_count<Tile>(work.layer.max_rank);
  const LoraBlock at{blockIdx.x / columns, blockIdx.x % columns, blockIdx.y, blockIdx.z};
  shrink_block<Tile, Element, MathHere<Math>>(work, at, shared, DeviceTeam{});
}

template <class Tile, class Element, class Math>
__global__ void __launch_bounds__(kLoraThreads) expand_kernel(const __grid_constant__ ExpandArguments work) {
  __shared__ typename Tile::Shared shared;
  const std::uint32_t columns = column_count<Tile>(widest_slice(work.layer));
  const LoraBlock at{blockIdx.x / columns, blockIdx.x % columns, blockIdx.y, 0};
  expand_block<Tile, Element, MathHere<Math>>(work, at, shared, DeviceTeam{});
}

constexpr std::uint64_t kBlocksMax = 0x7FFF'FFFF;  // of a grid, in x

template <class Tile, class Element, class Math>
cudaError_t launch_shrink(const ShrinkArguments& work, cudaStream_t stream) {
  const std::uint64_t blocks =
      std::uint64_t{tile_count(work.tokens, Tile::kM)} * column_count<Tile>(work.layer.max_rank);
  if (blocks > kBlocksMax) return cudaErrorInvalidValue;
  const dim3 grid(static_cast<unsigned>(blocks), work.layer.slice_count, work.splits);
  shrink_kernel<Tile, Element, Math><<<grid, kLoraThreads, 0, stream>>>(work);
  return cudaGetLastError();
}

template <class Tile, class Element, class Math>
cudaError_t launch_expand(const ExpandArguments& work, cudaStream_t stream) {
  const std::uint64_t blocks =
      std::uint64_t{tile_count(work.tokens, Tile::kM)} * column_count<Tile>(widest_slice(work.layer));
  if (blocks > kBlocksMax) return cudaErrorInvalidValue;
  const dim3 grid(static_cast<unsigned>(blocks), work.layer.slice_count);
  expand_kernel<Tile, Element, Math><<<grid, kLoraThreads, 0, stream>>>(work);
  return cudaGetLastError();
}

template <class Element, class Math>
cudaError_t launch(const ShrinkArguments& work, cudaStream_t stream) {
  return is_prefill(work.tokens.tokens) ? launch_shrink<PrefillShrinkTile, Element, Math>(work, stream)
                                        : launch_shrink<DecodeShrinkTile, Element, Math>(work, stream);
}

template <class Element, class Math>
cudaError_t launch(const ExpandArguments& work, cudaStream_t stream) {
  return is_prefill(work.tokens.tokens) ? launch_expand<PrefillExpandTile, Element, Math>(work, stream)
                                        : launch_expand<DecodeExpandTile, Element, Math>(work, stream);
}

template <class Arguments>
cudaError_t launch(const Arguments& work, LoraMath math, cudaStream_t stream) {
  const bool half = work.layer.type == ElementType::kF16;
  if (math == LoraMath::kPlain)
    return half ? launch<F16, PlainMath>(work, stream) : launch<Bf16, PlainMath>(work, stream);
  return half ? launch<F16, TensorCoreMath>(work, stream) : launch<Bf16, TensorCoreMath>(work, stream);
}

bool is_served(const LoraLayer& layer) {
  return (layer.type == ElementType::kF16 || layer.type == ElementType::kBf16) &&
         layer.slice_count <= kLoraSlicesMax;
}

/// A grid may not be empty, and there is nothing to do.
bool is_empty(const LoraLayer& layer, const LoraTokens& tokens) {
  return tokens.tokens == 0 || tokens.segments == 0 || layer.slice_count == 0;
}

}  // namespace

int lora_shrink(const LoraLayer& layer, const LoraTokens& tokens, const void* x, std::span<float> partial,
                LoraMath math, CUstream_st* stream) noexcept {
  if (!is_served(layer)) return cudaErrorInvalidValue;
  if (is_empty(layer, tokens) || layer.max_rank == 0) return cudaSuccess;
  if (partial.size() < lora_partial_floats(layer, tokens.tokens)) return cudaErrorInvalidValue;
  const ShrinkArguments work{layer, tokens, static_cast<const std::uint16_t*>(x), partial.data(),
                             lora_splits(layer, tokens.tokens)};
  return launch(work, math, stream);
}

int lora_expand(const LoraLayer& layer, const LoraTokens& tokens, std::span<const float> partial, void* y,
                LoraOutput output, LoraMath math, CUstream_st* stream) noexcept {
  if (!is_served(layer)) return cudaErrorInvalidValue;
  if (is_empty(layer, tokens) || widest_slice(layer) == 0) return cudaSuccess;
  if (partial.size() < lora_partial_floats(layer, tokens.tokens)) return cudaErrorInvalidValue;
  const ExpandArguments work{layer,
                             tokens,
                             partial.data(),
                             static_cast<std::uint16_t*>(y),
                             lora_splits(layer, tokens.tokens),
                             output == LoraOutput::kOverwrite};
  return launch(work, math, stream);
}

}  // namespace loracle
