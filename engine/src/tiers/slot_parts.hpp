#pragma once
/// The stacked buffers of a layout in one slab of memory, and the way from a manifest to the parts that the
/// scatter spreads over them. Addresses only: the memory may be a device's.
/// Errors: kInvalid (a slot, slice or size that is not of these buffers), kTooLarge (more bytes than can be
/// counted).

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "loracle/core/result.hpp"
#include "loracle/engine/device.hpp"
#include "loracle/engine/image.hpp"
#include "loracle/kernels/slot_scatter.hpp"

namespace loracle {

struct SlotBuffers {
  SlotLayout layout;
  std::uint32_t slots = 0;
  std::uint64_t bytes = 0;              // of the slab
  std::byte* slab = nullptr;            // set by whoever allocates it
  std::vector<std::uint64_t> a_offset;  // [slices]  bytes from the slab's start
  std::vector<std::uint64_t> b_offset;  // [slices]

  /// The stacked buffer of a slice. REQUIRES: the slice is one of the layout's.
  [[nodiscard]] std::byte* buffer(std::uint32_t slice, SlotSide side) const noexcept;
  /// Bytes of one slot of it.
  [[nodiscard]] std::uint64_t matrix_bytes(std::uint32_t slice, SlotSide side) const noexcept;
};

/// Every buffer begins at a multiple of `alignment`; the slab is still to be allocated.
[[nodiscard]] Result<SlotBuffers> place_slot_buffers(const SlotLayout& layout, std::uint32_t slots,
                                                     std::uint64_t alignment);

/// Whether there is such a slot.
[[nodiscard]] Result<Unit> check_slot(const SlotBuffers& buffers, std::uint32_t slot);

/// Two parts a slice, A then B, absent slices included. REQUIRES: the manifest is plan_image's for this
/// layout. [2 x slices]
[[nodiscard]] Result<std::vector<ScatterPart>> slot_parts(const SlotBuffers& buffers, std::uint32_t slot,
                                                          const ImageManifest& manifest,
                                                          std::span<const std::byte> image);

/// Where one matrix of a slot lies, which is to be read into `bytes` bytes.
[[nodiscard]] Result<std::byte*> slot_matrix(const SlotBuffers& buffers, std::uint32_t slot,
                                             std::uint32_t slice, SlotSide side, std::uint64_t bytes);

}  // namespace loracle
