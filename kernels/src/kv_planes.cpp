#include "loracle/kernels/kv_blocks.hpp"

namespace loracle {
namespace {

/// Fills in how a plane's block lies: tokens outside heads, or heads outside tokens.
KvPlane make_plane(const KvShape& shape, std::byte* base, std::uint64_t block_stride, std::uint32_t heads,
                   std::uint32_t head_bytes, bool heads_outside) noexcept {
  KvPlane plane;
  plane.base = base;
  plane.block_stride = block_stride;
  plane.heads = heads;
  plane.head_bytes = head_bytes;
  plane.token_stride = heads_outside ? head_bytes : std::uint64_t{heads} * head_bytes;
  plane.head_stride = heads_outside ? std::uint64_t{shape.block_tokens} * head_bytes : head_bytes;
  return plane;
}

}  // namespace

std::uint32_t kv_planes(const KvShape& shape, std::byte* layer, std::span<KvPlane, 2> planes) noexcept {
  const std::uint32_t head_bytes = shape.width * shape.element_bytes;
  const std::uint64_t block_bytes = std::uint64_t{shape.block_tokens} * shape.heads * head_bytes;
  const std::uint64_t side_bytes = block_bytes * shape.cache_blocks;
  switch (shape.layout) {
    case KvLayout::kSplitNhd:
    case KvLayout::kSplitHnd:
      for (std::uint32_t side = 0; side < 2; ++side)
        planes[side] = make_plane(shape, layer + side * side_bytes, block_bytes, shape.heads, head_bytes,
                                  shape.layout == KvLayout::kSplitHnd);
      return 2;
    case KvLayout::kPairNhd:
    case KvLayout::kPairHnd:
      for (std::uint32_t side = 0; side < 2; ++side)
        planes[side] = make_plane(shape, layer + side * block_bytes, 2 * block_bytes, shape.heads, head_bytes,
                                  shape.layout == KvLayout::kPairHnd);
      return 2;
    case KvLayout::kLatent:
      planes[0] = make_plane(shape, layer, block_bytes, shape.heads, head_bytes, false);
      return 1;
    case KvLayout::kPagedV0: {
      // K's unit is 16 bytes of a head, V's one element: as if there were more, narrower heads outside
      // tokens.
      constexpr std::uint32_t kPacked = 16;
      planes[0] = make_plane(shape, layer, block_bytes, shape.heads * (head_bytes / kPacked), kPacked, true);
      planes[1] = make_plane(shape, layer + side_bytes, block_bytes, shape.heads * shape.width,
                             shape.element_bytes, true);
      return 2;
    }
  }
  return 0;
}

std::uint64_t kv_staging_bytes(const KvBlocks& work) noexcept {
  return std::uint64_t{work.block_count} * work.plane_count * work.block_tokens * work.token_bytes;
}

}  // namespace loracle
