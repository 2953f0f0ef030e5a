#include "kv_words.hpp"
#include "loracle/kernels/kv_blocks.hpp"

namespace loracle {
namespace {

template <bool kGather>
void move_all(const KvBlocks& work, std::byte* staging) noexcept {
  for (std::uint32_t block = 0; block < work.block_count; ++block)
    for (std::uint32_t plane = 0; plane < work.plane_count; ++plane)
      move_plane<kGather>(work, block, plane, staging, 0, 1);
}

}  // namespace

void kv_gather_on_host(const KvBlocks& work, std::byte* staging) noexcept { move_all<true>(work, staging); }

void kv_scatter_on_host(const KvBlocks& work, const std::byte* staging) noexcept {
  move_all<false>(work, const_cast<std::byte*>(staging));  // which a scatter only reads
}

}  // namespace loracle
