#pragma once
/// Where each matrix of an image goes: the bridge from a manifest to the scatter kernel's parts.

#include <cstdint>
#include <span>
#include <vector>

#include "loracle/engine/image.hpp"
#include "loracle/kernels/slot_scatter.hpp"

namespace loracle {

/// Bytes of one slot of a slice's stacked A or B buffer.
[[nodiscard]] std::uint64_t slot_a_bytes(const SlotLayout& layout, std::uint32_t slice) noexcept;
[[nodiscard]] std::uint64_t slot_b_bytes(const SlotLayout& layout, std::uint32_t slice) noexcept;

/// Two parts a slice, A then B, absent slices included. `a` and `b` are the stacked buffers. [2 x slices]
[[nodiscard]] std::vector<ScatterPart> slot_parts(const SlotLayout& layout, const ImageManifest& manifest,
                                                  std::uint32_t slot, std::span<std::byte* const> a,
                                                  std::span<std::byte* const> b);

}  // namespace loracle
