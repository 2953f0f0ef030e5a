#include "lora_blocks.hpp"
#include "loracle/kernels/lora.hpp"

namespace loracle {
namespace {

using Team = SerialTeam<kLoraThreads>;

template <class Tile, class Element>
void shrink(const ShrinkArguments& work) noexcept {
  typename Tile::Shared shared;
  const std::uint32_t columns = column_count<Tile>(work.layer.max_rank);
  const std::uint32_t tiles = tile_count(work.tokens, Tile::kM);
  for (std::uint32_t split = 0; split < work.splits; ++split)
    for (std::uint32_t slice = 0; slice < work.layer.slice_count; ++slice)
      for (std::uint32_t tile = 0; tile < tiles; ++tile)
        for (std::uint32_t column = 0; column < columns; ++column)
          shrink_block<Tile, Element, PlainMath>(work, {tile, column, slice, split}, shared, Team{});
}

template <class Tile, class Element>
void expand(const ExpandArguments& work) noexcept {
  typename Tile::Shared shared;
  const std::uint32_t columns = column_count<Tile>(widest_slice(work.layer));
  const std::uint32_t tiles = tile_count(work.tokens, Tile::kM);
  for (std::uint32_t slice = 0; slice < work.layer.slice_count; ++slice)
    for (std::uint32_t tile = 0; tile < tiles; ++tile)
      for (std::uint32_t column = 0; column < columns; ++column)
        expand_block<Tile, Element, PlainMath>(work, {tile, column, slice, 0}, shared, Team{});
}

template <class Element>
void shrink(const ShrinkArguments& work) noexcept {
  if (is_prefill(work.tokens.tokens))
    shrink<PrefillShrinkTile, Element>(work);
  else
    shrink<DecodeShrinkTile, Element>(work);
}

template <class Element>
void expand(const ExpandArguments& work) noexcept {
  if (is_prefill(work.tokens.tokens))
    expand<PrefillExpandTile, Element>(work);
  else
    expand<DecodeExpandTile, Element>(work);
}

}  // namespace

void lora_shrink_on_host(const LoraLayer& layer, const LoraTokens& tokens, const void* x,
                         std::span<float> partial) noexcept {
  const ShrinkArguments work{layer, tokens, static_cast<const std::uint16_t*>(x), partial.data(),
                             lora_splits(layer, tokens.tokens)};
  if (layer.type == ElementType::kF16)
    shrink<F16>(work);
  else
    shrink<Bf16>(work);
}

void lora_expand_on_host(const LoraLayer& layer, const LoraTokens& tokens, std::span<const float> partial,
                         void* y, LoraOutput output) noexcept {
  const ExpandArguments work{layer,
                             tokens,
                             partial.data(),
                             static_cast<std::uint16_t*>(y),
                             lora_splits(layer, tokens.tokens),
                             output == LoraOutput::kOverwrite};
  if (layer.type == ElementType::kF16)
    expand<F16>(work);
  else
    expand<Bf16>(work);
}

}  // namespace loracle
