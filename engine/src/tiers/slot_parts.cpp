#include "tiers/slot_parts.hpp"

#include <fmt/format.h>

#include <limits>
#include <utility>

#include "loracle/core/check.hpp"

namespace loracle {

std::byte* SlotBuffers::buffer(std::uint32_t slice, SlotSide side) const noexcept {
  return slab + (side == SlotSide::kA ? a_offset : b_offset)[slice];
}

std::uint64_t SlotBuffers::matrix_bytes(std::uint32_t slice, SlotSide side) const noexcept {
  const SlotSlice& shape = layout.slices[slice];
  return std::uint64_t{layout.max_rank} * (side == SlotSide::kA ? shape.in : shape.out) *
         bytes_of(layout.dtype);
}

Result<SlotBuffers> place_slot_buffers(const SlotLayout& layout, std::uint32_t slots,
                                       std::uint64_t alignment) {
  constexpr std::uint64_t kBytesMax = std::numeric_limits<std::uint64_t>::max() / 2;
  const std::uint64_t slot_bytes = layout.slot_bytes() + 2 * layout.slices.size() * alignment;
  if (slot_bytes != 0 && slots > kBytesMax / slot_bytes)
    return fail(Errc::kTooLarge, fmt::format("{} slots of {} bytes cannot be addressed: lower their number",
                                             slots, slot_bytes));
  SlotBuffers buffers;
  buffers.layout = layout;
  buffers.slots = slots;
  const auto place = [&](std::vector<std::uint64_t>& offsets, std::uint64_t matrix_bytes) {
    offsets.push_back(buffers.bytes);
    buffers.bytes += (matrix_bytes * slots + alignment - 1) / alignment * alignment;
  };
  for (std::uint32_t slice = 0; slice < layout.slices.size(); ++slice) {
    place(buffers.a_offset, buffers.matrix_bytes(slice, SlotSide::kA));
    place(buffers.b_offset, buffers.matrix_bytes(slice, SlotSide::kB));
  }
  return buffers;
}

Result<Unit> check_slot(const SlotBuffers& buffers, std::uint32_t slot) {
  if (slot < buffers.slots) return Unit{};
  return fail(Errc::kInvalid,
              fmt::format("slot {}: the device has {} slots, numbered from 0", slot, buffers.slots));
}

Result<std::vector<ScatterPart>> slot_parts(const SlotBuffers& buffers, std::uint32_t slot,
                                            const ImageManifest& manifest, std::span<const std::byte> image) {
  const SlotLayout& layout = buffers.layout;
  const std::uint64_t element = bytes_of(layout.dtype);
  if (auto found = check_slot(buffers, slot); !found) return fail(std::move(found.error()));
  if (image.size() != manifest.elements * element)
    return fail(Errc::kInvalid, fmt::format("slot {}: the image has {} bytes, its manifest says {}", slot,
                                            image.size(), manifest.elements * element));
  std::vector<ScatterPart> parts;
  parts.reserve(2 * layout.slices.size());
  std::size_t next = 0;  // tensor of the manifest; both ascend by slice
  for (std::uint32_t slice = 0; slice < layout.slices.size(); ++slice) {
    const SlotSlice& shape = layout.slices[slice];
    ScatterPart to_a;
    to_a.destination = buffers.buffer(slice, SlotSide::kA) + slot * buffers.matrix_bytes(slice, SlotSide::kA);
    to_a.columns = shape.in;
    to_a.slot_rows = layout.max_rank;
    to_a.slot_columns = shape.in;
    ScatterPart to_b;
    to_b.destination = buffers.buffer(slice, SlotSide::kB) + slot * buffers.matrix_bytes(slice, SlotSide::kB);
    to_b.slot_rows = shape.out;
    to_b.slot_columns = layout.max_rank;
    if (next < manifest.tensors.size() && manifest.tensors[next].slice == slice) {
      const ImageTensor& tensor = manifest.tensors[next++];
      LORACLE_CHECK(tensor.rank <= layout.max_rank);
      LORACLE_CHECK(tensor.a_offset + std::uint64_t{tensor.rank} * shape.in <= manifest.elements);
      LORACLE_CHECK(tensor.b_offset + std::uint64_t{tensor.rank} * shape.out <= manifest.elements);
      to_a.source = tensor.a_offset * element;
      to_a.rows = tensor.rank;
      to_b.source = tensor.b_offset * element;
      to_b.rows = shape.out;
      to_b.columns = tensor.rank;
    }
    parts.push_back(to_a);
    parts.push_back(to_b);
  }
  LORACLE_CHECK(next == manifest.tensors.size());
  return parts;
}

Result<std::byte*> slot_matrix(const SlotBuffers& buffers, std::uint32_t slot, std::uint32_t slice,
                               SlotSide side, std::uint64_t bytes) {
  if (auto found = check_slot(buffers, slot); !found) return fail(std::move(found.error()));
  if (slice >= buffers.layout.slices.size())
    return fail(Errc::kInvalid, fmt::format("slice {}: the layout has {} slices, numbered from 0", slice,
                                            buffers.layout.slices.size()));
  const std::uint64_t has = buffers.matrix_bytes(slice, side);
  if (bytes != has)
    return fail(Errc::kInvalid,
                fmt::format("a slot's matrix of slice {} has {} bytes, not {}", slice, has, bytes));
  return buffers.buffer(slice, side) + slot * has;
}

}  // namespace loracle
