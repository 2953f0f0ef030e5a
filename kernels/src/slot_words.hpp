#pragma once
/// Which word of an image belongs where in a slot: the index arithmetic of scatter and gather.
///
/// A part is moved in words as wide as the addresses and both row lengths allow: 16, 8, 4, 2 bytes or 1.

#include <cstddef>
#include <cstdint>

#include "host_device.hpp"
#include "loracle/kernels/slot_scatter.hpp"

namespace loracle {

/// A part counted in words.
struct PartWords {
  std::uint64_t slot = 0;    // words of the slot's matrix
  std::uint64_t filled = 0;  // words of the image's
  std::uint32_t rows = 0;
  std::uint32_t columns = 0;
  std::uint32_t slot_columns = 0;
};

/// A word of the slot: where in the image its content lies.
struct WordSource {
  std::uint64_t word = 0;
  bool filled = false;  // else it is padding, and zero
};

/// The widest word that fits `part` with the image at `image`, in bytes.
[[nodiscard]] LORACLE_HOST_DEVICE std::uint32_t word_bytes(const ScatterPart& part, const std::byte* image,
                                                           std::uint32_t element_bytes) {
  const std::uint64_t all = reinterpret_cast<std::uintptr_t>(image + part.source) |
                            reinterpret_cast<std::uintptr_t>(part.destination) |
                            std::uint64_t{part.columns} * element_bytes |
                            std::uint64_t{part.slot_columns} * element_bytes | 16U;
  return static_cast<std::uint32_t>(all & (~all + 1U));  // the lowest bit that is set
}

[[nodiscard]] LORACLE_HOST_DEVICE PartWords part_words(const ScatterPart& part, std::uint32_t element_bytes,
                                                       std::uint32_t word) {
  PartWords found;
  found.rows = part.rows;
  found.columns = static_cast<std::uint32_t>(std::uint64_t{part.columns} * element_bytes / word);
  found.slot_columns = static_cast<std::uint32_t>(std::uint64_t{part.slot_columns} * element_bytes / word);
  found.slot = std::uint64_t{part.slot_rows} * found.slot_columns;
  found.filled = std::uint64_t{part.rows} * found.columns;
  return found;
}

/// Where word `index` of the slot comes from. REQUIRES: index < part.slot.
[[nodiscard]] LORACLE_HOST_DEVICE WordSource source_of(const PartWords& part, std::uint64_t index) {
  if (part.columns == part.slot_columns) return {index, index < part.filled};
  std::uint64_t row = 0;
  std::uint64_t column = 0;
  if (part.slot <= 0xFFFF'FFFFU) {  // a division of 32 bits is several times cheaper on a device
    row = static_cast<std::uint32_t>(index) / part.slot_columns;
    column = static_cast<std::uint32_t>(index) % part.slot_columns;
  } else {
    row = index / part.slot_columns;
    column = index % part.slot_columns;
  }
  return {row * part.columns + column, row < part.rows && column < part.columns};
}

}  // namespace loracle
