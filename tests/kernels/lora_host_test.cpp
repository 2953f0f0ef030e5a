// The LoRA product on this machine: the reference, and the blocks that a device runs, thread after thread.

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "lora_cases.hpp"

namespace loracle::testing {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

LoraLayer placed(const LoraCase& scene) {
  LoraLayer layer = scene.layer;
  for (std::uint32_t i = 0; i < layer.slice_count; ++i) {
    layer.slices[i].a = scene.a[i].data();
    layer.slices[i].b = scene.b[i].data();
  }
  layer.ranks = scene.ranks.data();
  return layer;
}

std::vector<std::uint16_t> on_host(const LoraCase& scene, const LoraTokens& tokens, LoraOutput output,
                                   std::span<float> partial) {
  const LoraLayer layer = placed(scene);
  std::vector<std::uint16_t> y = scene.y;
  lora_shrink_on_host(layer, tokens, scene.x.data(), partial);
  lora_expand_on_host(layer, tokens, partial, y.data(), output);
  return y;
}

std::vector<std::uint16_t> on_host(const LoraCase& scene, const LoraTokens& tokens, LoraOutput output) {
  std::vector<float> partial(lora_partial_floats(scene.layer, scene.shape.tokens), kNan);
  return on_host(scene, tokens, output, partial);
}

LoraProduct reference_of(const LoraCase& scene) {
  LoraProduct product{std::vector<double>(scene.y.size()), std::vector<double>(scene.y.size())};
  lora_reference(placed(scene), scene.slot_of_token, scene.x.data(), product.delta, product.magnitude);
  return product;
}

/// One element further on: an address that no word of 16 bytes begins at.
std::vector<std::uint16_t> moved_on(const std::vector<std::uint16_t>& from) {
  std::vector<std::uint16_t> moved = {kMark16};
  moved.insert(moved.end(), from.begin(), from.end());
  return moved;
}

// If this failed, every other form would be compared with something wrong.
TEST(LoraReference, IsTheDefinition) {
  for (const LoraCaseShape& shape : lora_case_shapes()) {
    const LoraCase scene = make_lora_case(shape);
    const LoraProduct expected = product_by_definition(scene);
    LoraProduct found{std::vector<double>(scene.y.size(), 7), std::vector<double>(scene.y.size(), 7)};
    lora_reference(placed(scene), scene.slot_of_token, scene.x.data(), found.delta, found.magnitude);
    for (std::size_t at = 0; at < scene.y.size(); ++at) {
      const double bound = expected.magnitude[at] * 1e-12;
      ASSERT_NEAR(found.delta[at], expected.delta[at], bound) << scene.name() << " at " << at;
      ASSERT_NEAR(found.magnitude[at], expected.magnitude[at], bound) << scene.name() << " at " << at;
    }
  }
}

// If this failed, a device would compute another product: it runs the same blocks.
TEST(LoraBlocks, MakeTheProductForEveryShape) {
  int checked = 0;
  for (const LoraCaseShape& shape : lora_case_shapes()) {
    const LoraCase scene = make_lora_case(shape);
    const CaseSegments segments(scene);
    const LoraProduct product = reference_of(scene);
    for (const LoraOutput output : {LoraOutput::kAdd, LoraOutput::kOverwrite}) {
      ASSERT_EQ(first_error(scene, product, output, on_host(scene, segments.tokens, output)), "");
      ++checked;
    }
  }
  EXPECT_EQ(checked, 120);
}

// If this failed, tensors that begin inside somebody else's would be read by words that are not there.
TEST(LoraBlocks, TakeAnyAddressOfAnElement) {
  for (const std::uint32_t tokens : {9U, 300U}) {
    const LoraCase scene = make_lora_case({tokens, 264, 24, 3, {72, 40}, 8, ElementType::kBf16});
    const CaseSegments segments(scene);
    for (const LoraOutput output : {LoraOutput::kAdd, LoraOutput::kOverwrite}) {
      const std::vector<std::uint16_t> expected = on_host(scene, segments.tokens, output);
      for (std::uint32_t which = 1; which < 16; ++which) {  // a bit for each of x, a, b and y
        LoraLayer layer = placed(scene);
        std::vector<std::vector<std::uint16_t>> moved;
        for (std::uint32_t i = 0; i < layer.slice_count; ++i) {
          moved.push_back(moved_on(scene.a[i]));
          if ((which & 2U) != 0) layer.slices[i].a = moved.back().data() + 1;
          moved.push_back(moved_on(scene.b[i]));
          if ((which & 4U) != 0) layer.slices[i].b = moved.back().data() + 1;
        }
        const std::vector<std::uint16_t> x = moved_on(scene.x);
        const std::size_t y_shift = (which & 8U) != 0 ? 1 : 0;
        std::vector<std::uint16_t> y = y_shift != 0 ? moved_on(scene.y) : scene.y;
        std::vector<float> partial(lora_partial_floats(layer, tokens), kNan);
        lora_shrink_on_host(layer, segments.tokens, (which & 1U) != 0 ? x.data() + 1 : scene.x.data(),
                            partial);
        lora_expand_on_host(layer, segments.tokens, partial, y.data() + y_shift, output);
        y.erase(y.begin(), y.begin() + static_cast<std::ptrdiff_t>(y_shift));
        EXPECT_EQ(y, expected) << tokens << " tokens, moved " << which;
      }
    }
  }
}

// If this failed, a server whose workspace is made for its largest batch would write past its end.
TEST(LoraWorkspace, OfTheLargestBatchServesEverySmallerOne) {
  LoraLayer layer;
  for (const std::uint32_t slices : {1U, 3U}) {
    for (const std::uint32_t in : {64U, 4096U, 14336U}) {
      layer.slice_count = slices;
      layer.in = in;
      layer.max_rank = 64;
      for (const std::uint32_t tokens_max : {0U, 1U, 8U, 255U, 256U, 257U, 1024U, 8192U}) {
        const std::uint64_t floats = lora_partial_floats_up_to(layer, tokens_max);
        std::uint64_t most = 0;
        for (std::uint32_t tokens = 0; tokens <= tokens_max; ++tokens)
          most = std::max(most, lora_partial_floats(layer, tokens));
        EXPECT_EQ(floats, most) << slices << " slices, in " << in << ", up to " << tokens_max << " tokens";
      }
    }
  }
}

// If this failed, what one batch left in the workspace would take part in the next.
TEST(LoraWorkspace, IsUsedAgainByBatchesOfOtherSizes) {
  constexpr std::uint32_t kTokensMax = 300;
  constexpr std::size_t kBehind = 64;
  LoraLayer layer;
  layer.slice_count = 1;
  layer.in = 2080;
  layer.max_rank = 8;
  std::vector<float> all(lora_partial_floats_up_to(layer, kTokensMax) + kBehind, 7.0F);
  const std::span<float> partial = std::span(all).first(all.size() - kBehind);
  for (const std::uint32_t tokens : {kTokensMax, 256U, 5U, 128U, kTokensMax}) {
    const LoraCase scene = make_lora_case({tokens, layer.in, layer.max_rank, 3, {40}, 0, ElementType::kBf16});
    const std::vector<std::uint16_t> y =
        on_host(scene, CaseSegments(scene).tokens, LoraOutput::kAdd, partial);
    EXPECT_EQ(first_error(scene, reference_of(scene), LoraOutput::kAdd, y), "");
  }
  EXPECT_TRUE(std::all_of(all.end() - kBehind, all.end(), [](float mark) { return mark == 7.0F; }));
}

// If this failed, a captured graph, which runs over the most segments there can be, would differ.
TEST(LoraBlocks, DoNotMindEmptySegments) {
  for (const LoraCaseShape& shape : lora_case_shapes()) {
    const LoraCase scene = make_lora_case(shape);
    const CaseSegments segments(scene);
    LoraTokens all = segments.tokens;
    all.segments = shape.slots + 1;
    EXPECT_EQ(on_host(scene, all, LoraOutput::kAdd), on_host(scene, segments.tokens, LoraOutput::kAdd));
    // As vLLM pads: the starts of segments that are not there are 0.
    std::vector<std::int32_t> starts = segments.start;
    std::fill(starts.begin() + segments.tokens.segments, starts.end(), 0);
    all.start = starts.data();
    EXPECT_EQ(on_host(scene, all, LoraOutput::kAdd), on_host(scene, segments.tokens, LoraOutput::kAdd));
  }
}

// If this failed, a batch that is split differently between steps would give other answers for no reason.
TEST(LoraBlocks, GiveATokenTheSameBitsWhereverItStands) {
  LoraCase scene = make_lora_case({64, 520, 16, 3, {72}, 0, ElementType::kBf16, TokenOrder::kSorted, 5});
  const std::vector<std::uint16_t> sorted = on_host(scene, CaseSegments(scene).tokens, LoraOutput::kAdd);
  LoraCase reversed = scene;
  const std::size_t columns = scene.layer.y_columns;
  for (std::size_t t = 0; t < 64; ++t) {
    const std::size_t from = 63 - t;
    reversed.slot_of_token[t] = scene.slot_of_token[from];
    std::copy_n(scene.x.begin() + static_cast<std::ptrdiff_t>(from * 520), 520,
                reversed.x.begin() + static_cast<std::ptrdiff_t>(t * 520));
    std::copy_n(scene.y.begin() + static_cast<std::ptrdiff_t>(from * columns), columns,
                reversed.y.begin() + static_cast<std::ptrdiff_t>(t * columns));
  }
  const std::vector<std::uint16_t> found = on_host(reversed, CaseSegments(reversed).tokens, LoraOutput::kAdd);
  for (std::size_t t = 0; t < 64; ++t)
    EXPECT_TRUE(std::equal(found.begin() + static_cast<std::ptrdiff_t>(t * columns),
                           found.begin() + static_cast<std::ptrdiff_t>((t + 1) * columns),
                           sorted.begin() + static_cast<std::ptrdiff_t>((63 - t) * columns)))
        << "token " << t;
}

// If this failed, tokens would be served with another's adapter.
TEST(LoraTokens, AreOrderedBySlotAndOtherwiseAsTheyCame) {
  const std::vector<std::int32_t> slots = {2, -1, 0, 2, 9, 0, -7, 2};
  std::vector<std::int32_t> order(8), slot(4), count(4), start(4);
  const LoraTokens found = sort_tokens_by_slot(slots, 3, {order, slot, count, start});
  EXPECT_EQ(found.tokens, 8U);
  ASSERT_EQ(found.segments, 3U);
  EXPECT_EQ(order, (std::vector<std::int32_t>{1, 4, 6, 2, 5, 0, 3, 7}));
  EXPECT_EQ(slot, (std::vector<std::int32_t>{-1, 0, 2, -1}));
  EXPECT_EQ(count, (std::vector<std::int32_t>{3, 2, 3, 0}));
  EXPECT_EQ(start, (std::vector<std::int32_t>{0, 3, 5, 8}));
}

// If this failed, a batch of no tokens would read what is not there.
TEST(LoraTokens, MayBeNone) {
  std::vector<std::int32_t> slot(3), count(3), start(3);
  EXPECT_EQ(sort_tokens_by_slot({}, 2, {{}, slot, count, start}).segments, 0U);
}

}  // namespace
}  // namespace loracle::testing
