// Conversions bit by bit: every 16-bit and 8-bit value, and binary32 around each place where rounding turns.

#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <cstring>
#include <string>
#include <vector>

#include "../../engine/src/loader/element_type.hpp"
#include "adapter_maker.hpp"

namespace loracle {
namespace {

using testing::append_rounded;
using testing::value_of;

constexpr std::array kServing = {Dtype::kF32, Dtype::kF16, Dtype::kBf16};

std::string converted(const std::string& from, Dtype from_dtype, Dtype to, float scale, CpuPath path) {
  std::string into(from.size() / bytes_of(from_dtype) * bytes_of(to), '\0');
  convert_elements(std::as_bytes(std::span(from)), element_type_of(from_dtype),
                   std::as_writable_bytes(std::span(into)), element_type_of(to), scale, path);
  return into;
}

/// Equal bits, or two NaNs (whose payload IEEE 754 leaves open).
void expect_rounded(const std::string& from, Dtype from_dtype, Dtype to, float scale) {
  const std::string into = converted(from, from_dtype, to, scale, best_cpu_path());
  for (const CpuPath path : {CpuPath::kScalar, CpuPath::kPortable, CpuPath::kAvx2})
    EXPECT_EQ(into, converted(from, from_dtype, to, scale, path)) << name_of(path) << " differs";
  std::string expected;
  const std::size_t width = bytes_of(to);
  for (std::size_t i = 0; i * width < into.size(); ++i) {
    expected.clear();
    const double value = value_of(from_dtype, from.data() + i * bytes_of(from_dtype));
    append_rounded(expected, to, value, scale);
    const std::string_view got = std::string_view(into).substr(i * width, width);
    const bool both_nan = std::isnan(value_of(to, got.data())) && std::isnan(value_of(to, expected.data()));
    ASSERT_TRUE(got == expected || both_nan)
        << name_of(from_dtype) << " element " << i << " (" << value << ") to " << name_of(to) << ", scale "
        << scale << ": got " << value_of(to, got.data()) << ", want " << value_of(to, expected.data());
  }
}

std::string bytes_from(const std::vector<std::uint32_t>& bits) {
  std::string bytes(bits.size() * 4, '\0');
  std::memcpy(bytes.data(), bits.data(), bytes.size());
  return bytes;
}

// Broken: some value of a narrow format comes out as another number.
TEST(Convert, TakesEveryNarrowValue) {
  for (const Dtype from : {Dtype::kF16, Dtype::kBf16, Dtype::kF8E4M3, Dtype::kF8E5M2}) {
    const std::size_t width = bytes_of(from);
    std::string all;
    for (std::uint32_t raw = 0; raw < (1U << (8 * width)); ++raw)
      all.append(reinterpret_cast<const char*>(&raw), width);
    for (const Dtype to : kServing)
      for (const float scale : {1.0F, 2.0F, 0.1F, -3.3F, 1e-30F, 1e30F, 0.0F})
        expect_rounded(all, from, to, scale);
  }
}

// Broken: a value between two of the target's goes to the wrong one, or a border (subnormal, largest finite,
// infinity) is off by one.
TEST(Convert, RoundsBinary32AtEveryBorder) {
  std::vector<std::uint32_t> bits;
  for (std::uint32_t exponent = 0; exponent < 256; ++exponent)
    for (const std::uint32_t top : {0U, 1U, 2U, 3U, 0x1FFU, 0x2AAU, 0x3FEU, 0x3FFU})
      for (const std::uint32_t bottom : {0U, 1U, 0xFFFU, 0x1000U, 0x1001U, 0x1FFFU, 0x7FFU, 0x800U, 0x801U})
        for (const std::uint32_t sign : {0U, 1U})
          bits.push_back(sign << 31U | exponent << 23U | top << 13U | bottom);
  for (std::uint32_t high = 0; high < 0x1'0000U; ++high)
    for (const std::uint32_t low : {0x7FFFU, 0x8000U, 0x8001U}) bits.push_back(high << 16U | low);
  for (const Dtype to : kServing)
    for (const float scale : {1.0F, 0.3F}) expect_rounded(bytes_from(bits), Dtype::kF32, to, scale);
}

// Broken: rare bit patterns, anywhere, are rounded wrongly.
TEST(Convert, RoundsRandomBinary32) {
  Rng rng(9);
  std::vector<std::uint32_t> bits(1U << 18U);
  for (std::uint32_t& value : bits) value = static_cast<std::uint32_t>(rng.next());
  for (const Dtype to : kServing)
    for (const float scale : {1.0F, 1.7F, 1e-20F, 65504.0F})
      expect_rounded(bytes_from(bits), Dtype::kF32, to, scale);
}

// Broken: what stands behind the last whole vector is lost, or bytes beyond the end are touched.
TEST(Convert, HandlesEveryLengthAndAlignment) {
  Rng rng(10);
  for (std::size_t count = 0; count < 40; ++count) {
    for (std::size_t shift = 0; shift < 4; ++shift) {
      const std::string values = testing::random_tensor(rng, "", Dtype::kF32, 1, count).bytes;
      const std::string from = std::string(shift, 'x') + values;
      std::string into(shift + count * 2 + 1, 'y');
      convert_elements(std::as_bytes(std::span(from).subspan(shift)), ElementType::kF32,
                       std::as_writable_bytes(std::span(into).subspan(shift, count * 2)), ElementType::kBf16,
                       1.5F);
      EXPECT_EQ(into.substr(shift, count * 2),
                converted(values, Dtype::kF32, Dtype::kBf16, 1.5F, CpuPath::kPortable));
      EXPECT_EQ(into.substr(0, shift), std::string(shift, 'y'));
      EXPECT_EQ(into.back(), 'y');
    }
  }
}

}  // namespace
}  // namespace loracle
