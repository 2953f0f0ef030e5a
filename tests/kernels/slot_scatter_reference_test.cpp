// The CPU's scatter against the definition, element by element.

#include <gtest/gtest.h>

#include <algorithm>

#include "scatter_cases.hpp"

namespace loracle::testing {
namespace {

constexpr std::byte kUntouched{0xA5};

/// What the header says a scatter does, read literally.
void scatter_literally(const std::vector<ScatterPart>& parts, std::span<const std::byte> image,
                       std::uint32_t element_bytes) {
  for (const ScatterPart& part : parts) {
    for (std::uint64_t row = 0; row < part.slot_rows; ++row) {
      for (std::uint64_t column = 0; column < part.slot_columns; ++column) {
        for (std::uint64_t byte = 0; byte < element_bytes; ++byte) {
          const bool inside = row < part.rows && column < part.columns;
          const std::uint64_t from = part.source + (row * part.columns + column) * element_bytes + byte;
          part.destination[(row * part.slot_columns + column) * element_bytes + byte] =
              inside ? image[from] : std::byte{0};
        }
      }
    }
  }
}

void expect_equal_scatters(const ScatterCase& scene) {
  std::vector<std::byte> expected(scene.slot_bytes, kUntouched);
  std::vector<std::byte> found(scene.slot_bytes, kUntouched);
  scatter_literally(scene.placed_at(expected.data()), scene.source(), scene.shape.element_bytes);
  slot_scatter_reference(scene.placed_at(found.data()), scene.source(), scene.shape.element_bytes);
  const auto differs = std::mismatch(found.begin(), found.end(), expected.begin()).first;
  EXPECT_TRUE(differs == found.end()) << scene.name() << ": byte " << differs - found.begin();
}

// If this failed, adapters would be served with weights in the wrong places, or with a former adapter's.
TEST(SlotScatterReference, DoesWhatTheHeaderSaysForEveryShape) {
  const std::vector<ScatterCase> cases = scatter_cases();
  ASSERT_GT(cases.size(), 200U);
  for (const ScatterCase& scene : cases) expect_equal_scatters(scene);
}

// If this failed, the case that the device's launches are split for would prove nothing.
TEST(SlotScatterReference, TakesMorePartsThanOneLaunchCan) {
  const ScatterCase scene = many_small_parts();
  ASSERT_GT(scene.parts.size(), 2U * 65'535U);
  expect_equal_scatters(scene);
}

}  // namespace
}  // namespace loracle::testing
