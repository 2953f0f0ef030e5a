#pragma once
/// Which word of a staged block lies where in a paged cache, for a device and for this machine.
///
/// One block of a launch moves one plane of one staged block, in words of 16, 8, 4, 2 bytes or 1.

#include <cstddef>
#include <cstdint>

#include "host_device.hpp"
#include "loracle/kernels/kv_blocks.hpp"

namespace loracle {

/// The widest word that a plane's addresses and the staging buffer allow, in bytes.
[[nodiscard]] LORACLE_HOST_DEVICE std::uint32_t kv_word_bytes(const KvPlane& plane, const KvBlocks& work,
                                                              const std::byte* staging) {
  const std::uint64_t all =
      reinterpret_cast<std::uintptr_t>(plane.base) | reinterpret_cast<std::uintptr_t>(staging) |
      plane.block_stride | plane.token_stride | plane.head_stride | plane.head_bytes | work.token_bytes | 16U;
  return static_cast<std::uint32_t>(all & (~all + 1U));
}

/// Whether the staged block has a block in the cache.
[[nodiscard]] LORACLE_HOST_DEVICE bool is_in_cache(const KvBlocks& work, std::int32_t block) {
  return block >= 0 && static_cast<std::uint32_t>(block) < work.cache_blocks;
}

/// Bytes from the staging buffer's start to a plane of a staged block.
[[nodiscard]] LORACLE_HOST_DEVICE std::uint64_t staged_at(const KvBlocks& work, std::uint32_t staged,
                                                          std::uint32_t plane) {
  return (std::uint64_t{staged} * work.plane_count + plane) * work.block_tokens * work.token_bytes;
}

/// Bytes from the plane's block in the cache to word `index` of the staged form, words of `word` bytes.
[[nodiscard]] LORACLE_HOST_DEVICE std::uint64_t cached_at(const KvPlane& plane, std::uint32_t index,
                                                          std::uint32_t word) {
  const std::uint32_t head_words = plane.head_bytes / word;
  const std::uint32_t head = index / head_words;  // counted over tokens
  const std::uint32_t token = head / plane.heads;
  return token * plane.token_stride + (head - token * plane.heads) * plane.head_stride +
         std::uint64_t{index - head * head_words} * word;
}

/// What one thread of `threads` moves of one plane of one staged block.
template <class Word, bool kGather>
LORACLE_HOST_DEVICE void move_words(const KvBlocks& work, const KvPlane& plane, std::int32_t block,
                                    std::byte* staged, unsigned thread, unsigned threads) {
  std::byte* const cached = plane.base + static_cast<std::uint64_t>(block) * plane.block_stride;
  const std::uint32_t words =
      work.block_tokens * (work.token_bytes / static_cast<std::uint32_t>(sizeof(Word)));
  for (std::uint32_t i = thread; i < words; i += threads) {
    Word* const in_cache = reinterpret_cast<Word*>(cached + cached_at(plane, i, sizeof(Word)));
    Word* const in_staging = reinterpret_cast<Word*>(staged) + i;
    if constexpr (kGather)
      *in_staging = *in_cache;
    else
      *in_cache = *in_staging;
  }
}

/// The same for one of the block's threads, whatever the word.
template <bool kGather>
LORACLE_HOST_DEVICE void move_plane(const KvBlocks& work, std::uint32_t staged_block,
                                    std::uint32_t plane_index, std::byte* staging, unsigned thread,
                                    unsigned threads) {
  const std::int32_t block = work.blocks[staged_block];
  if (!is_in_cache(work, block)) return;
  const KvPlane plane = work.planes[plane_index];
  std::byte* const staged = staging + staged_at(work, staged_block, plane_index);
  switch (kv_word_bytes(plane, work, staging)) {
    case 16:
      return move_words<Word16, kGather>(work, plane, block, staged, thread, threads);
    case 8:
      return move_words<std::uint64_t, kGather>(work, plane, block, staged, thread, threads);
    case 4:
      return move_words<std::uint32_t, kGather>(work, plane, block, staged, thread, threads);
    case 2:
      return move_words<std::uint16_t, kGather>(work, plane, block, staged, thread, threads);
    default:
      return move_words<std::uint8_t, kGather>(work, plane, block, staged, thread, threads);
  }
}

}  // namespace loracle
