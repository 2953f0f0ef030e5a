// Packing on this machine: every path against the scalar one, and both against the slot's definition.

#include "loracle/kernels/pack.hpp"

#include <gtest/gtest.h>

#include <vector>

#include "lora_cases.hpp"

namespace loracle::testing {
namespace {

constexpr ElementType kAll[] = {ElementType::kF32, ElementType::kF16, ElementType::kBf16,
                                ElementType::kF8E4M3, ElementType::kF8E5M2};
constexpr ElementType kServed[] = {ElementType::kF32, ElementType::kF16, ElementType::kBf16};

std::vector<CpuPath> paths_here() {
  std::vector<CpuPath> paths;
  for (const CpuPath path : {CpuPath::kPortable, CpuPath::kAvx2, CpuPath::kAvx512})
    if (path <= best_cpu_path()) paths.push_back(path);
  return paths;
}

// Skipped, so that it shows, where this processor lacks a path: the tests below leave it out.
TEST(CpuPath, AllAreTestedOnThisMachine) {
#if defined(__x86_64__)
  if (best_cpu_path() < CpuPath::kAvx512)
    GTEST_SKIP() << "this processor's best path is " << name_of(best_cpu_path()) << ": those after it, up to "
                 << name_of(CpuPath::kAvx512) << ", are compiled and not tested here";
#endif
}

std::vector<std::byte> random_bytes(std::size_t count, CaseRandom& random) {
  std::vector<std::byte> made(count);
  for (std::byte& byte : made) byte = static_cast<std::byte>(random.next());
  return made;
}

// If this failed, the same adapter would be other weights on another machine. NaN, infinity and subnormals
// are among random bits.
TEST(Convert, GivesTheSameBitsOnEveryPath) {
  CaseRandom random{11};
  for (const ElementType from : kAll) {
    for (const ElementType to : kServed) {
      for (const std::size_t count : {0U, 1U, 7U, 8U, 15U, 16U, 33U, 20'000U}) {
        const std::vector<std::byte> source = random_bytes(count * bytes_of(from) + 1, random);
        const std::span<const std::byte> raw = std::span(source).subspan(1);  // at an odd address
        for (const float scale : {1.0F, 0.37F, -2.0F, 1e-20F}) {
          std::vector<std::byte> expected(count * bytes_of(to));
          convert_elements(raw, from, expected, to, scale, CpuPath::kScalar);
          for (const CpuPath path : paths_here()) {
            std::vector<std::byte> found(count * bytes_of(to));
            convert_elements(raw, from, found, to, scale, path);
            ASSERT_EQ(found, expected) << name_of(path) << ", " << static_cast<int>(from) << " to "
                                       << static_cast<int>(to) << ", scale " << scale;
          }
        }
      }
    }
  }
}

// If this failed, some 16-bit value would be served as another number: all of them, to all that is served.
TEST(Convert, TakesEverySixteenBitValue) {
  std::vector<std::byte> all(2 * 65'536);
  for (std::size_t i = 0; i < 65'536; ++i) {
    all[2 * i] = static_cast<std::byte>(i);
    all[2 * i + 1] = static_cast<std::byte>(i >> 8U);
  }
  for (const ElementType from : {ElementType::kF16, ElementType::kBf16}) {
    for (const ElementType to : kServed) {
      std::vector<std::byte> expected(65'536U * bytes_of(to));
      convert_elements(all, from, expected, to, 1.0F, CpuPath::kScalar);
      for (const CpuPath path : paths_here()) {
        std::vector<std::byte> found(expected.size());
        convert_elements(all, from, found, to, 1.0F, path);
        EXPECT_EQ(found, expected) << name_of(path);
      }
    }
  }
}

// If this failed, a slot's padding would take part, or a transposed matrix would be another.
TEST(Pack, FillsSlotsByTheirDefinition) {
  CaseRandom random{12};
  for (int round = 0; round < 300; ++round) {
    const ElementType from = kAll[random.below(5)];
    const ElementType to = kServed[random.below(3)];
    PackMatrix matrix;
    matrix.rows = random.below(90);
    matrix.columns = 1 + random.below(140);
    matrix.source_pitch = random.below(2) == 0 ? 0 : matrix.columns + random.below(5);
    matrix.transposed = random.below(2) == 0;
    matrix.slot_rows = (matrix.transposed ? matrix.columns : matrix.rows) + random.below(3);
    matrix.slot_columns = (matrix.transposed ? matrix.rows : matrix.columns) + random.below(9);
    matrix.scale = random.below(2) == 0 ? 1.0F : 0.25F;
    matrix.from = from;
    const std::uint64_t pitch = matrix.source_pitch == 0 ? matrix.columns : matrix.source_pitch;
    const std::vector<std::byte> source = random_bytes(matrix.rows * pitch * bytes_of(from), random);
    matrix.source = source.data();
    const std::size_t width = bytes_of(to);
    const std::size_t slot_bytes = std::size_t{matrix.slot_rows} * matrix.slot_columns * width;
    std::vector<std::byte> expected(slot_bytes);
    for (std::uint32_t r = 0; r < matrix.rows; ++r) {
      for (std::uint32_t c = 0; c < matrix.columns; ++c) {
        const std::size_t at = matrix.transposed ? std::size_t{c} * matrix.slot_columns + r
                                                 : std::size_t{r} * matrix.slot_columns + c;
        convert_elements(std::span(source).subspan((r * pitch + c) * bytes_of(from), bytes_of(from)), from,
                         std::span(expected).subspan(at * width, width), to, matrix.scale, CpuPath::kScalar);
      }
    }
    for (const CpuPath path : paths_here()) {
      std::vector<std::byte> found(slot_bytes + 1, std::byte{0xA5});
      matrix.destination = found.data();
      pack_matrices({&matrix, 1}, to, path);
      ASSERT_EQ(found.back(), std::byte{0xA5});
      found.pop_back();
      // Same type and scale 1 is moved as it is: a signalling NaN stays one there.
      if (from == to && matrix.scale == 1.0F) continue;
      ASSERT_EQ(found, expected) << name_of(path) << " round " << round;
    }
  }
}

// If this failed, what need not be converted would be changed on its way.
TEST(Pack, MovesWhatIsAlreadyServedAsItIs) {
  CaseRandom random{13};
  const std::vector<std::byte> source = random_bytes(2 * 30, random);
  std::vector<std::byte> found(2 * 40, std::byte{0xA5});
  PackMatrix matrix;
  matrix.source = source.data();
  matrix.destination = found.data();
  matrix.rows = 5;
  matrix.columns = 6;
  matrix.slot_rows = 5;
  matrix.slot_columns = 8;
  pack_matrices({&matrix, 1}, ElementType::kBf16);
  for (std::size_t r = 0; r < 5; ++r)
    for (std::size_t i = 0; i < 16; ++i)
      EXPECT_EQ(found[r * 16 + i], i < 12 ? source[r * 12 + i] : std::byte{0});
}

}  // namespace
}  // namespace loracle::testing
