#include <algorithm>

#include "lora_blocks.hpp"
#include "loracle/kernels/lora.hpp"

namespace loracle {

LoraTokens sort_tokens_by_slot(std::span<const std::int32_t> slot_of_token, std::uint32_t slots,
                               const LoraTokenArrays& arrays) noexcept {
  const auto bin_of = [slots](std::int32_t slot) {
    return slot < 0 || static_cast<std::uint32_t>(slot) >= slots ? 0U : static_cast<std::uint32_t>(slot) + 1U;
  };
  const std::uint32_t bins = slots + 1;
  std::fill_n(arrays.count.begin(), bins, 0);
  for (const std::int32_t slot : slot_of_token) ++arrays.count[bin_of(slot)];
  std::int32_t next = 0;
  for (std::uint32_t bin = 0; bin < bins; ++bin) {
    arrays.slot[bin] = static_cast<std::int32_t>(bin) - 1;
    arrays.start[bin] = next;
    next += arrays.count[bin];
  }
  for (std::size_t t = 0; t < slot_of_token.size(); ++t)  // start serves as the place of the bin's next token
    arrays.order[static_cast<std::size_t>(arrays.start[bin_of(slot_of_token[t])]++)] =
        static_cast<std::int32_t>(t);
  // The bins that have tokens move to the front, in order.
  std::uint32_t used = 0;
  for (std::uint32_t bin = 0; bin < bins; ++bin) {
    const std::int32_t count = arrays.count[bin];
    if (count == 0) continue;
    arrays.slot[used] = arrays.slot[bin];
    arrays.start[used] = arrays.start[bin] - count;
    arrays.count[used] = count;
    ++used;
  }
  for (std::uint32_t rest = used; rest < bins; ++rest) {
    arrays.slot[rest] = -1;
    arrays.start[rest] = next;
    arrays.count[rest] = 0;
  }
  return {static_cast<std::uint32_t>(slot_of_token.size()),
          used,
          arrays.order.data(),
          arrays.slot.data(),
          arrays.count.data(),
          arrays.start.data()};
}

std::uint32_t lora_splits(const LoraLayer& layer, std::uint32_t tokens) noexcept {
  if (is_prefill(tokens)) return 1;
  // Two blocks for each multiprocessor of a large device, and a stretch of `in` that is worth a block.
  constexpr std::uint32_t kBlocksWanted = 264;
  constexpr std::uint32_t kSplitsMax = 8;
  using Tile = DecodeShrinkTile;
  const std::uint32_t blocks = (tokens / Tile::kM + 1) * std::max(layer.slice_count, 1U);
  const std::uint32_t stretches = std::max(layer.in / (2 * Tile::kK), 1U);
  return std::clamp(kBlocksWanted / blocks, 1U, std::min(kSplitsMax, stretches));
}

std::uint64_t lora_partial_floats(const LoraLayer& layer, std::uint32_t tokens) noexcept {
  return std::uint64_t{layer.slice_count} * lora_splits(layer, tokens) * tokens * layer.max_rank;
}

std::uint64_t lora_partial_floats_up_to(const LoraLayer& layer, std::uint32_t tokens_max) noexcept {
  std::uint64_t most = lora_partial_floats(layer, tokens_max);
  // Where nothing is split, more tokens need more; below, each number of tokens is looked at.
  for (std::uint32_t tokens = 1; tokens < tokens_max && !is_prefill(tokens); ++tokens)
    most = std::max(most, lora_partial_floats(layer, tokens));
  return most;
}

}  // namespace loracle
