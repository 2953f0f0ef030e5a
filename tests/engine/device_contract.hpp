#pragma once
/// What every DeviceMemory must do: tests that run against each kind there is. A binary that links
/// device_contract.cpp says which: INSTANTIATE_TEST_SUITE_P(Host, DeviceContract, Values(...)).

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "loracle/engine/device.hpp"

namespace loracle::testing {

struct DeviceKind {
  std::string_view name;
  std::function<std::unique_ptr<DeviceMemory>()> make;
};
inline std::ostream& operator<<(std::ostream& out, const DeviceKind& kind) { return out << kind.name; }

class DeviceContract : public ::testing::TestWithParam<DeviceKind> {
 protected:
  std::unique_ptr<DeviceMemory> device = GetParam().make();
};

/// An image of made-up weights: those of equal seeds are equal.
struct MadeImage {
  ImageManifest manifest;
  std::vector<std::byte> bytes;
};

/// Slices with odd and even widths.
[[nodiscard]] SlotLayout mixed_layout(std::uint32_t max_rank, Dtype dtype);
/// The slices whose bit is set in `present`, at `rank`; no byte of it is 0.
[[nodiscard]] MadeImage make_image(const SlotLayout& layout, std::uint32_t rank, std::uint32_t seed,
                                   std::uint64_t present = ~std::uint64_t{0});
/// Whether a slot holds the image whole and zeroes beside it; says where not.
[[nodiscard]] ::testing::AssertionResult holds(DeviceMemory& device, const SlotLayout& layout,
                                               std::uint32_t slot, const MadeImage& image);

}  // namespace loracle::testing
