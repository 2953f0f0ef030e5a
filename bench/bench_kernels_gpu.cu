// The kernels as a shared library of C functions, for bench/kernels_against_triton.py: every pointer is a
// device pointer, every call is asynchronous on `stream`, and answers a cudaError_t. Built by bench/gpu.sh
// with nvcc alone. With LORACLE_BENCH_CUBLAS also a grouped cuBLAS product, the closest that cuBLAS has to a
// batch of LoRA.

#include <cuda_runtime.h>

#include <cstdint>

#include "loracle/kernels/kv_blocks.hpp"
#include "loracle/kernels/lora.hpp"
#include "loracle/kernels/slot_scatter.hpp"
#ifdef LORACLE_BENCH_CUBLAS
#include <cublas_v2.h>
#endif

namespace {

constexpr int kBf16 = 3;  // as ElementType has it

loracle::LoraLayer make_layer(int type, std::uint32_t slice_count, const void* const* a, const void* const* b,
                              const std::uint32_t* outs, std::uint32_t slots, std::uint32_t max_rank,
                              std::uint32_t in, const std::int32_t* ranks) {
  loracle::LoraLayer layer;
  layer.slice_count = slice_count;
  layer.slots = slots;
  layer.max_rank = max_rank;
  layer.in = in;
  layer.type = static_cast<loracle::ElementType>(type);
  layer.ranks = ranks;
  for (std::uint32_t i = 0; i < slice_count && i < loracle::kLoraSlicesMax; ++i) {
    layer.slices[i] = {a[i], b[i], outs[i], layer.y_columns};
    layer.y_columns += outs[i];
  }
  return layer;
}

}  // namespace

extern "C" {

/// Everything of one LoRA product but its pointers, and the pointers; made once and used again and again.
struct LoraCall {
  loracle::LoraLayer layer;
  loracle::LoraTokens tokens;
  const void* x;
  float* partial;
  void* y;
};

LoraCall* lora_call(int type, std::uint32_t slice_count, const void* const* a, const void* const* b,
                    const std::uint32_t* outs, std::uint32_t slots, std::uint32_t max_rank, std::uint32_t in,
                    const std::int32_t* ranks, std::uint32_t token_count, std::uint32_t segments,
                    const std::int32_t* order, const std::int32_t* slot, const std::int32_t* count,
                    const std::int32_t* start, const void* x, float* partial, void* y) {
  return new LoraCall{make_layer(type, slice_count, a, b, outs, slots, max_rank, in, ranks),
                      {token_count, segments, order, slot, count, start},
                      x,
                      partial,
                      y};
}
void lora_call_end(LoraCall* call) { delete call; }

std::uint64_t lora_floats(std::uint32_t slices, std::uint32_t max_rank, std::uint32_t in,
                          std::uint32_t tokens) {
  loracle::LoraLayer layer;
  layer.slice_count = slices;
  layer.max_rank = max_rank;
  layer.in = in;
  return loracle::lora_partial_floats(layer, tokens);
}

int lora_run(const LoraCall* call, int plain, int steps, cudaStream_t stream) {
  const auto math = plain != 0 ? loracle::LoraMath::kPlain : loracle::LoraMath::kTensorCores;
  int error = cudaSuccess;
  if ((steps & 1) != 0)
    error = loracle::lora_shrink(call->layer, call->tokens, call->x, call->partial, math, stream);
  if (error == cudaSuccess && (steps & 2) != 0)
    error = loracle::lora_expand(call->layer, call->tokens, call->partial, call->y, loracle::LoraOutput::kAdd,
                                 math, stream);
  return error;
}

int scatter_run(const void* parts, std::uint32_t count, const void* image, cudaStream_t stream) {
  return loracle::slot_scatter(static_cast<const loracle::ScatterPart*>(parts), count,
                               static_cast<const std::byte*>(image), 2, stream);
}
int gather_run(const void* parts, std::uint32_t count, void* image, cudaStream_t stream) {
  return loracle::slot_gather(static_cast<const loracle::ScatterPart*>(parts), count,
                              static_cast<std::byte*>(image), 2, nullptr, stream);
}

int kv_run(const void* planes, std::uint32_t plane_count, const std::int32_t* blocks,
           std::uint32_t block_count, std::uint32_t block_tokens, std::uint32_t token_bytes,
           std::uint32_t cache_blocks, void* staging, int gather, cudaStream_t stream) {
  loracle::KvBlocks work;
  work.planes = static_cast<const loracle::KvPlane*>(planes);
  work.blocks = blocks;
  work.plane_count = plane_count;
  work.block_count = block_count;
  work.block_tokens = block_tokens;
  work.token_bytes = token_bytes;
  work.cache_blocks = cache_blocks;
  return gather != 0 ? loracle::kv_gather(work, static_cast<std::byte*>(staging), stream)
                     : loracle::kv_scatter(work, static_cast<const std::byte*>(staging), stream);
}

#ifdef LORACLE_BENCH_CUBLAS
/// count products c_i (m, n) = a_i (m, k) b_i (n, k)^T, all row-major, of bfloat16 (type 3) or float16; sums
/// of binary32. `a`, `b` and `c` are device arrays of device pointers.
int cublas_batched(int type, int m, int n, int k, const void* const* a, const void* const* b, void* const* c,
                   float beta, int count, cudaStream_t stream) {
  static cublasHandle_t handle = nullptr;
  if (handle == nullptr && cublasCreate(&handle) != CUBLAS_STATUS_SUCCESS) return -1;
  if (cublasSetStream(handle, stream) != CUBLAS_STATUS_SUCCESS) return -1;
  const float alpha = 1;
  const cudaDataType_t element = type == kBf16 ? CUDA_R_16BF : CUDA_R_16F;
  // Column-major: c^T (n, m) = b (k, n)^T x a^T (k, m).
  const cublasStatus_t status =
      cublasGemmBatchedEx(handle, CUBLAS_OP_T, CUBLAS_OP_N, n, m, k, &alpha, b, element, k, a, element, k,
                          &beta, c, element, n, count, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT);
  return status == CUBLAS_STATUS_SUCCESS ? 0 : -1;
}
#endif

}  // extern "C"
