#include <cstring>

#include "loracle/kernels/slot_scatter.hpp"

namespace loracle {
namespace {

void scatter_part(const ScatterPart& part, const std::byte* source, std::uint32_t element_bytes) noexcept {
  const std::size_t row_bytes = std::size_t{part.columns} * element_bytes;
  const std::size_t slot_row_bytes = std::size_t{part.slot_columns} * element_bytes;
  std::byte* to = part.destination;
  if (row_bytes == slot_row_bytes) {
    const std::size_t bytes = row_bytes * part.rows;
    if (bytes != 0) std::memcpy(to, source, bytes);
    to += bytes;
  } else {
    for (std::uint32_t row = 0; row < part.rows; ++row, to += slot_row_bytes, source += row_bytes) {
      std::memcpy(to, source, row_bytes);
      std::memset(to + row_bytes, 0, slot_row_bytes - row_bytes);
    }
  }
  std::memset(to, 0, slot_row_bytes * (part.slot_rows - part.rows));
}

}  // namespace

void slot_scatter_reference(std::span<const ScatterPart> parts, std::span<const std::byte> image,
                            std::uint32_t element_bytes) noexcept {
  for (const ScatterPart& part : parts) scatter_part(part, image.data() + part.source, element_bytes);
}

}  // namespace loracle
