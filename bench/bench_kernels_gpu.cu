// The kernels as a shared library of C functions, for bench/kernels_against_triton.py: every pointer is a
// device pointer, every call is asynchronous on `stream`, and answers a cudaError_t. Built by bench/gpu.sh
// with nvcc alone.

#include <cuda_runtime.h>

#include <cstdint>
#include <span>

#include "loracle/kernels/kv_blocks.hpp"
#include "loracle/kernels/lora.hpp"
#include "loracle/kernels/slot_scatter.hpp"

namespace {

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

/// Versions as CUDA writes them: 13000 for 13.0; 0 where it does not say.
int cuda_driver_version() {
  int version = 0;
  return cudaDriverGetVersion(&version) == cudaSuccess ? version : 0;
}
int cuda_runtime_version() {
  int version = 0;
  return cudaRuntimeGetVersion(&version) == cudaSuccess ? version : 0;
}
int nvcc_version() { return __CUDACC_VER_MAJOR__ * 1000 + __CUDACC_VER_MINOR__ * 10; }
std::uint64_t l2_bytes() {
  int device = 0;
  int bytes = 0;
  if (cudaGetDevice(&device) != cudaSuccess ||
      cudaDeviceGetAttribute(&bytes, cudaDevAttrL2CacheSize, device) != cudaSuccess)
    return 0;
  return static_cast<std::uint64_t>(bytes);
}

/// Everything of one LoRA product but its pointers, and the pointers; made once and used again and again.
struct LoraCall {
  loracle::LoraLayer layer;
  loracle::LoraTokens tokens;
  const void* x;
  std::span<float> partial;
  void* y;
};

LoraCall* lora_call(int type, std::uint32_t slice_count, const void* const* a, const void* const* b,
                    const std::uint32_t* outs, std::uint32_t slots, std::uint32_t max_rank, std::uint32_t in,
                    const std::int32_t* ranks, std::uint32_t token_count, std::uint32_t segments,
                    const std::int32_t* order, const std::int32_t* slot, const std::int32_t* count,
                    const std::int32_t* start, const void* x, float* partial, std::uint64_t floats, void* y) {
  return new LoraCall{make_layer(type, slice_count, a, b, outs, slots, max_rank, in, ranks),
                      {token_count, segments, order, slot, count, start},
                      x,
                      {partial, floats},
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

/// Step 1 is the shrink, step 2 the expand, 3 both.
int lora_run(const LoraCall* call, int plain, int steps, int overwrite, cudaStream_t stream) {
  const auto output = overwrite != 0 ? loracle::LoraOutput::kOverwrite : loracle::LoraOutput::kAdd;
  const auto math = plain != 0 ? loracle::LoraMath::kPlain : loracle::LoraMath::kTensorCores;
  int error = cudaSuccess;
  if ((steps & 1) != 0)
    error = loracle::lora_shrink(call->layer, call->tokens, call->x, call->partial, math, stream);
  if (error == cudaSuccess && (steps & 2) != 0)
    error = loracle::lora_expand(call->layer, call->tokens, call->partial, call->y, output, math, stream);
  return error;
}

int scatter_run(const void* parts, std::uint32_t count, const void* image, cudaStream_t stream) {
  return loracle::slot_scatter(static_cast<const loracle::ScatterPart*>(parts), count,
                               static_cast<const std::byte*>(image), 2, stream);
}
int scatter_batch_run(const void* parts, std::uint32_t parts_per_slot, const void* images,
                      std::uint32_t slots, cudaStream_t stream) {
  return loracle::slot_scatter_batch(static_cast<const loracle::ScatterPart*>(parts), parts_per_slot,
                                     static_cast<const std::byte* const*>(images), slots, 2, stream);
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

}  // extern "C"
