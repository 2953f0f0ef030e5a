#include <algorithm>
#include <cstring>

#include "loracle/kernels/slot_scatter.hpp"

namespace loracle {
namespace {

std::uint64_t dirty_bytes(const std::byte* first, std::size_t bytes) noexcept {
  return bytes - static_cast<std::uint64_t>(std::count(first, first + bytes, std::byte{0}));
}

}  // namespace

std::uint64_t slot_gather_reference(std::span<const ScatterPart> parts, std::span<std::byte> image,
                                    std::uint32_t element_bytes) noexcept {
  std::uint64_t dirty = 0;
  for (const ScatterPart& part : parts) {
    const std::size_t row_bytes = std::size_t{part.columns} * element_bytes;
    const std::size_t slot_row_bytes = std::size_t{part.slot_columns} * element_bytes;
    for (std::uint32_t row = 0; row < part.slot_rows; ++row) {
      const std::byte* const from = part.destination + row * slot_row_bytes;
      const std::size_t filled = row < part.rows ? row_bytes : 0;
      if (filled != 0) std::memcpy(image.data() + part.source + row * row_bytes, from, filled);
      dirty += dirty_bytes(from + filled, slot_row_bytes - filled);
    }
  }
  return dirty;
}

}  // namespace loracle
