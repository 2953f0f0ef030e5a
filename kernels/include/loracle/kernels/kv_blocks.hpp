#pragma once
/// Copies blocks of a paged KV cache to and from one contiguous staging buffer, all layers, K and V, in one
/// launch, whatever the cache's layout.
///
///   planes   [planes]             one a layer and side (K, V); one a layer where K and V are one (MLA)
///   blocks   [blocks]    int32    the cache's block of each staged block; one outside the cache is left out
///   staging  (blocks, planes, block_tokens, heads, head_bytes)    contiguous
/// The staging form does not depend on the cache's: what one server gathers another may scatter into a cache
/// of another layout. Elements are moved, never read.
/// A plane says by strides where the `head_bytes` of a token's head lie: base + block x block_stride + token
/// x token_stride + head x head_stride. kv_planes makes them for vLLM's layouts. All planes move the same
/// bytes a token, heads x head_bytes.
///
/// Invariants: 1. A gather and a scatter of the same blocks give the cache its bytes back. 2. Scatter writes
/// the listed blocks and nothing else. (Of a block listed twice, a gather makes two copies, and
/// of two scattered either may win.)
/// Cost: each byte is read once and written once; no allocation. The device forms launch one kernel for each
/// 65,535 planes and wait for nothing. Threads: pure, but for what they write.
/// Errors of the device forms: those of a launch.
/// Checked against a plain loop in tests/kernels/kv_blocks_host_test.cpp; on a device in kv_blocks_test.cu.
/// Source: the layouts of vllm/v1/attention/backends (get_kv_cache_shape) and of vLLM's V0 paged attention.

#include <cstddef>
#include <cstdint>
#include <span>

struct CUstream_st;

namespace loracle {

struct KvPlane {
  std::byte* base = nullptr;
  std::uint64_t block_stride = 0;  // bytes
  std::uint64_t token_stride = 0;  // bytes
  std::uint64_t head_stride = 0;   // bytes
  std::uint32_t heads = 0;
  std::uint32_t head_bytes = 0;  // contiguous in the cache
};

struct KvBlocks {
  const KvPlane* planes = nullptr;       // [plane_count]
  const std::int32_t* blocks = nullptr;  // [block_count]
  std::uint32_t plane_count = 0;
  std::uint32_t block_count = 0;
  std::uint32_t block_tokens = 0;
  std::uint32_t token_bytes = 0;   // heads x head_bytes of every plane
  std::uint32_t cache_blocks = 0;  // of the cache, to refuse what is outside
};

/// How a layer's tensor lies in memory.
enum class KvLayout : std::uint8_t {
  kSplitNhd,  // (2, blocks, tokens, heads, width)
  kSplitHnd,  // (2, blocks, heads, tokens, width)
  kPairNhd,   // (blocks, 2, tokens, heads, width)
  kPairHnd,   // (blocks, 2, heads, tokens, width)
  kLatent,    // (blocks, tokens, width): MLA, one plane
  kPagedV0,   // (2, blocks, ...): K (heads, width / x, tokens, x), x = 16 bytes; V (heads, width, tokens)
};

struct KvShape {
  KvLayout layout = KvLayout::kSplitNhd;
  std::uint32_t cache_blocks = 0;
  std::uint32_t block_tokens = 0;
  std::uint32_t heads = 0;  // 1 for kLatent
  std::uint32_t width = 0;  // elements of a head
  std::uint32_t element_bytes = 2;
};

/// The planes of one layer whose tensor begins at `layer`: K, then V. Returns how many: 2, or 1 for kLatent.
[[nodiscard]] std::uint32_t kv_planes(const KvShape& shape, std::byte* layer,
                                      std::span<KvPlane, 2> planes) noexcept;
/// Bytes of the staging buffer.
[[nodiscard]] std::uint64_t kv_staging_bytes(const KvBlocks& work) noexcept;

/// On this thread, in memory of this machine.
void kv_gather_on_host(const KvBlocks& work, std::byte* staging) noexcept;
void kv_scatter_on_host(const KvBlocks& work, const std::byte* staging) noexcept;

/// On a device: every pointer is a device pointer. Return a cudaError_t. Only in builds with CUDA.
[[nodiscard]] int kv_gather(const KvBlocks& work, std::byte* staging, CUstream_st* stream) noexcept;
[[nodiscard]] int kv_scatter(const KvBlocks& work, const std::byte* staging, CUstream_st* stream) noexcept;

}  // namespace loracle
