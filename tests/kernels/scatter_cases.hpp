#pragma once
/// Adapters made up for the scatter: shapes that are odd and even, absent slices, ranks below the slot's,
/// sources and destinations that no vector load may touch. Standard library only, so that nvcc reads it too.
///
/// A case's slot lies in one block of `slot_bytes` whose parts have gaps between them; a gap must keep what
/// it held. `destination` of a part is an offset into the block until `placed_at` makes it an address.

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "loracle/kernels/slot_scatter.hpp"

namespace loracle::testing {

struct ScatterShape {
  std::uint32_t rank = 0;
  std::uint32_t max_rank = 0;
  std::uint32_t element_bytes = 2;
  std::uint32_t shift = 0;  // elements between an aligned address and the image, and between parts
};

struct ScatterCase {
  ScatterShape shape;
  std::vector<ScatterPart> parts;
  std::vector<std::byte> image;  // begins after `shape.shift` elements
  std::uint64_t slot_bytes = 0;

  /// The image as the scatter wants it, `shift` elements into an aligned block.
  [[nodiscard]] std::span<const std::byte> source() const {
    return std::span(image).subspan(std::size_t{shape.shift} * shape.element_bytes);
  }
  /// The parts for a slot that lies at `slot`.
  [[nodiscard]] std::vector<ScatterPart> placed_at(std::byte* slot) const {
    std::vector<ScatterPart> placed = parts;
    for (ScatterPart& part : placed)
      part.destination = slot + reinterpret_cast<std::uintptr_t>(part.destination);
    return placed;
  }
  [[nodiscard]] std::string name() const {
    return "rank " + std::to_string(shape.rank) + " of " + std::to_string(shape.max_rank) + ", " +
           std::to_string(shape.element_bytes) + " bytes an element, shifted by " +
           std::to_string(shape.shift);
  }
};

struct ScatterModule {
  std::uint32_t in = 0;
  std::uint32_t out = 0;
  bool present = true;
};

/// A and B of each module, with bytes that differ from their neighbours and are never 0.
[[nodiscard]] inline ScatterCase make_scatter_case(const ScatterShape& shape,
                                                   std::span<const ScatterModule> modules) {
  ScatterCase made;
  made.shape = shape;
  const std::uint64_t gap = std::uint64_t{shape.shift} * shape.element_bytes;
  std::uint64_t source = 0;
  const auto add = [&](bool present, std::uint32_t rows, std::uint32_t columns, std::uint32_t slot_rows,
                       std::uint32_t slot_columns) {
    ScatterPart part;
    part.destination = reinterpret_cast<std::byte*>(static_cast<std::uintptr_t>(made.slot_bytes));
    part.slot_rows = slot_rows;
    part.slot_columns = slot_columns;
    if (present) {
      part.source = source;
      part.rows = rows;
      part.columns = columns;
      source += std::uint64_t{rows} * columns * shape.element_bytes;
    }
    made.parts.push_back(part);
    made.slot_bytes += std::uint64_t{slot_rows} * slot_columns * shape.element_bytes + gap;
  };
  for (const ScatterModule& module : modules) {
    const bool present = module.present && shape.rank != 0;
    add(present, shape.rank, module.in, shape.max_rank, module.in);
    add(present, module.out, shape.rank, module.out, shape.max_rank);
  }
  made.image.resize(gap + source);
  for (std::size_t i = 0; i < made.image.size(); ++i) made.image[i] = static_cast<std::byte>(1 + i % 251);
  return made;
}

/// Every rank, element and shift with modules of odd, even and single widths, one of them absent.
[[nodiscard]] inline std::vector<ScatterCase> scatter_cases() {
  constexpr ScatterModule kModules[] = {{64, 32}, {33, 47},  {1, 5},        {40, 24, false}, {128, 1},
                                        {7, 128}, {256, 96}, {1, 1, false}, {31, 16, false}};
  std::vector<ScatterCase> cases;
  for (const std::uint32_t rank : {0U, 1U, 3U, 8U, 16U, 64U, 256U})
    for (const std::uint32_t beyond : {0U, 1U, 8U, 48U})
      for (const std::uint32_t element_bytes : {1U, 2U, 4U})
        for (const std::uint32_t shift : {0U, 1U, 3U})
          if (rank + beyond != 0)
            cases.push_back(make_scatter_case({rank, rank + beyond, element_bytes, shift}, kModules));
  return cases;
}

/// More parts than one launch of a kernel can take: twice 65,535 and some, of one or two elements.
[[nodiscard]] inline ScatterCase many_small_parts() {
  const std::vector<ScatterModule> modules(66'000, ScatterModule{2, 1});
  return make_scatter_case({1, 1, 2, 0}, modules);
}

}  // namespace loracle::testing
