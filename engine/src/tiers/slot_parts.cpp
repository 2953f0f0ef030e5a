#include "tiers/slot_parts.hpp"

#include "loracle/core/check.hpp"

namespace loracle {

std::uint64_t slot_a_bytes(const SlotLayout& layout, std::uint32_t slice) noexcept {
  return std::uint64_t{layout.max_rank} * layout.slices[slice].in * bytes_of(layout.dtype);
}

std::uint64_t slot_b_bytes(const SlotLayout& layout, std::uint32_t slice) noexcept {
  return std::uint64_t{layout.max_rank} * layout.slices[slice].out * bytes_of(layout.dtype);
}

std::vector<ScatterPart> slot_parts(const SlotLayout& layout, const ImageManifest& manifest,
                                    std::uint32_t slot, std::span<std::byte* const> a,
                                    std::span<std::byte* const> b) {
  const std::uint64_t element = bytes_of(layout.dtype);
  std::vector<ScatterPart> parts;
  parts.reserve(2 * layout.slices.size());
  std::size_t next = 0;  // tensor of the manifest; both ascend by slice
  for (std::uint32_t slice = 0; slice < layout.slices.size(); ++slice) {
    const SlotSlice& shape = layout.slices[slice];
    ScatterPart to_a{
        a[slice] + slot * slot_a_bytes(layout, slice), 0, 0, shape.in, layout.max_rank, shape.in};
    ScatterPart to_b{b[slice] + slot * slot_b_bytes(layout, slice), 0, 0, 0, shape.out, layout.max_rank};
    if (next < manifest.tensors.size() && manifest.tensors[next].slice == slice) {
      const ImageTensor& tensor = manifest.tensors[next++];
      LORACLE_CHECK(tensor.rank <= layout.max_rank);
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

}  // namespace loracle
