// The scatter's way back on this machine, and the device's index arithmetic without a device.

#include <gtest/gtest.h>

#include <algorithm>

#include "../../kernels/src/slot_words.hpp"
#include "scatter_cases.hpp"

namespace loracle::testing {
namespace {

constexpr std::byte kUntouched{0xA5};

// If this failed, the check that a slot holds its adapter would approve of slots that do not.
TEST(SlotGatherReference, GivesBackWhatWasScattered) {
  for (const ScatterCase& scene : scatter_cases()) {
    std::vector<std::byte> slot(scene.slot_bytes, kUntouched);
    const std::vector<ScatterPart> parts = scene.placed_at(slot.data());
    slot_scatter_reference(parts, scene.source(), scene.shape.element_bytes);
    std::vector<std::byte> found(scene.source().size(), kUntouched);
    ASSERT_EQ(slot_gather_reference(parts, found, scene.shape.element_bytes), 0U) << scene.name();
    ASSERT_TRUE(std::equal(found.begin(), found.end(), scene.source().begin())) << scene.name();
  }
}

// If this failed, an adapter of very many matrices would be gathered in part.
TEST(SlotGatherReference, TakesMorePartsThanOneLaunchCan) {
  const ScatterCase scene = many_small_parts();
  std::vector<std::byte> slot(scene.slot_bytes, kUntouched);
  const std::vector<ScatterPart> parts = scene.placed_at(slot.data());
  slot_scatter_reference(parts, scene.source(), 2);
  std::vector<std::byte> found(scene.source().size(), kUntouched);
  EXPECT_EQ(slot_gather_reference(parts, found, 2), 0U);
  EXPECT_TRUE(std::equal(found.begin(), found.end(), scene.source().begin()));
}

// If this failed, what an earlier adapter left beyond the rank would not be noticed.
TEST(SlotGatherReference, CountsPaddingThatIsNotZero) {
  constexpr ScatterModule kModules[] = {{6, 4}};
  const ScatterCase scene = make_scatter_case({2, 5, 2, 0}, kModules);
  std::vector<std::byte> slot(scene.slot_bytes, kUntouched);
  const std::vector<ScatterPart> parts = scene.placed_at(slot.data());
  std::vector<std::byte> image(scene.source().size());
  // A: 3 rows of 6, B: 4 rows of 3, two bytes each.
  EXPECT_EQ(slot_gather_reference(parts, image, 2), (3U * 6U + 4U * 3U) * 2U);
}

/// What the kernel does for one part, word by word.
template <class Word>
void scatter_words(const ScatterPart& part, const std::byte* image, std::uint32_t element_bytes) {
  const PartWords words = part_words(part, element_bytes, sizeof(Word));
  for (std::uint64_t i = 0; i < words.slot; ++i) {
    const WordSource from = source_of(words, i);
    Word word{};
    if (from.filled) std::memcpy(&word, image + part.source + from.word * sizeof(Word), sizeof(Word));
    std::memcpy(part.destination + i * sizeof(Word), &word, sizeof(Word));
  }
}

// If this failed, the kernel would put words in the wrong places: it computes these.
TEST(SlotWords, MakeTheScatterForEveryShapeAndWord) {
  std::vector<int> times(17);
  for (const ScatterCase& scene : scatter_cases()) {
    std::vector<std::byte> expected(scene.slot_bytes, kUntouched);
    std::vector<std::byte> found(scene.slot_bytes, kUntouched);
    slot_scatter_reference(scene.placed_at(expected.data()), scene.source(), scene.shape.element_bytes);
    for (const ScatterPart& part : scene.placed_at(found.data())) {
      const std::uint32_t word = word_bytes(part, scene.source().data(), scene.shape.element_bytes);
      ++times[word];
      switch (word) {
        case 16:
          scatter_words<Word16>(part, scene.source().data(), scene.shape.element_bytes);
          break;
        case 8:
          scatter_words<std::uint64_t>(part, scene.source().data(), scene.shape.element_bytes);
          break;
        case 4:
          scatter_words<std::uint32_t>(part, scene.source().data(), scene.shape.element_bytes);
          break;
        case 2:
          scatter_words<std::uint16_t>(part, scene.source().data(), scene.shape.element_bytes);
          break;
        default:
          ASSERT_EQ(word, 1U);
          scatter_words<std::uint8_t>(part, scene.source().data(), scene.shape.element_bytes);
      }
    }
    const auto differs = std::mismatch(found.begin(), found.end(), expected.begin()).first;
    ASSERT_TRUE(differs == found.end()) << scene.name() << ": byte " << differs - found.begin();
  }
  for (const std::size_t word : {1U, 2U, 4U, 8U, 16U}) EXPECT_GT(times[word], 0) << word << "-byte words";
}

}  // namespace
}  // namespace loracle::testing
