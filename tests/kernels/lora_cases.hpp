#pragma once
/// Batches and layers made up for the LoRA product, and the product by its definition. Standard library only,
/// so that nvcc reads it too; the numbers are made and judged without the code under test.
///
/// What lies beyond a slot's rank is NaN, the columns of y that no slice fills hold a mark, and a workspace
/// is to be filled with NaN: whoever reads or writes what is not theirs shows.

#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "loracle/kernels/lora.hpp"

namespace loracle::testing {

/// Splitmix64.
struct CaseRandom {
  std::uint64_t state = 1;
  std::uint64_t next() {
    std::uint64_t z = (state += 0x9E37'79B9'7F4A'7C15U);
    z = (z ^ (z >> 30U)) * 0xBF58'476D'1CE4'E5B9U;
    z = (z ^ (z >> 27U)) * 0x94D0'49BB'1331'11EBU;
    return z ^ (z >> 31U);
  }
  std::uint32_t below(std::uint32_t bound) { return static_cast<std::uint32_t>(next() % bound); }
};

inline double element_value(ElementType type, std::uint16_t stored) {
  const bool half = type == ElementType::kF16;
  const int mantissa_bits = half ? 10 : 7;
  const int exponent_mask = half ? 31 : 255;
  const int exponent = (stored >> mantissa_bits) & exponent_mask;
  const int mantissa = stored & ((1 << mantissa_bits) - 1);
  const double sign = (stored & 0x8000) != 0 ? -1 : 1;
  const int bottom = 1 - (half ? 15 : 127) - mantissa_bits;
  if (exponent == exponent_mask) return mantissa == 0 ? sign * HUGE_VAL : NAN;
  if (exponent == 0) return sign * std::ldexp(mantissa, bottom);
  return sign * std::ldexp(mantissa + (1 << mantissa_bits), bottom + exponent - 1);
}

constexpr std::uint16_t kNan16 = 0x7FFF;  // of float16 and of bfloat16
constexpr std::uint16_t kMark16 = 0x1234;

/// A number of magnitude 2^-4 to 2, of either sign, times 2^shift.
inline std::uint16_t random_element(ElementType type, CaseRandom& random, std::int32_t shift = 0) {
  const bool half = type == ElementType::kF16;
  const std::uint32_t exponent = (half ? 15U : 127U) + static_cast<std::uint32_t>(shift) - random.below(5);
  const std::uint32_t mantissa_bits = half ? 10 : 7;
  return static_cast<std::uint16_t>(random.below(2) << 15U | exponent << mantissa_bits |
                                    random.below(1U << mantissa_bits));
}

enum class TokenOrder : std::uint8_t { kRandom, kSorted, kNone, kOneSlot };

struct LoraCaseShape {
  std::uint32_t tokens = 0;
  std::uint32_t in = 0;
  std::uint32_t max_rank = 0;
  std::uint32_t slots = 1;
  std::vector<std::uint32_t> outs;
  std::uint32_t gap = 0;  // columns of y before each slice and after the last
  ElementType type = ElementType::kBf16;
  TokenOrder order = TokenOrder::kRandom;
  std::uint64_t seed = 1;
  bool is_faint = false;  // x and A are small and B is large: the intermediate is near 2^-18, y is not

  [[nodiscard]] std::int32_t x_shift() const { return is_faint ? -6 : 0; }
  [[nodiscard]] std::int32_t a_shift() const { return is_faint ? -10 : 0; }
  [[nodiscard]] std::int32_t b_shift() const { return is_faint ? 9 : 0; }
};

struct LoraCase {
  LoraCaseShape shape;
  LoraLayer layer;  // without addresses
  std::vector<std::uint16_t> x;
  std::vector<std::vector<std::uint16_t>> a;
  std::vector<std::vector<std::uint16_t>> b;
  std::vector<std::int32_t> ranks;
  std::vector<std::int32_t> slot_of_token;
  std::vector<std::uint16_t> y;  // before

  [[nodiscard]] std::string name() const {
    std::string text = std::to_string(shape.tokens) + " tokens, in " + std::to_string(shape.in) + ", rank " +
                       std::to_string(shape.max_rank) + ", " + std::to_string(shape.slots) + " slots, outs";
    for (const std::uint32_t out : shape.outs) text.append(" ").append(std::to_string(out));
    return text + ", gap " + std::to_string(shape.gap) +
           (shape.type == ElementType::kF16 ? ", float16" : ", bfloat16") +
           (shape.is_faint ? ", faint" : "") + ", seed " + std::to_string(shape.seed);
  }
};

inline LoraCase make_lora_case(const LoraCaseShape& shape) {
  LoraCase made;
  made.shape = shape;
  CaseRandom random{shape.seed};
  LoraLayer& layer = made.layer;
  layer.slice_count = static_cast<std::uint32_t>(shape.outs.size());
  layer.slots = shape.slots;
  layer.max_rank = shape.max_rank;
  layer.in = shape.in;
  layer.type = shape.type;
  layer.y_columns = shape.gap;
  for (std::uint32_t i = 0; i < layer.slice_count; ++i) {
    layer.slices[i].out = shape.outs[i];
    layer.slices[i].y_column = layer.y_columns;
    layer.y_columns += shape.outs[i] + shape.gap;
    for (std::uint32_t slot = 0; slot < shape.slots; ++slot) {
      const std::uint32_t kind = random.below(6);  // the extremes, often
      const std::uint32_t rank = kind == 0   ? 0
                                 : kind == 1 ? 1
                                 : kind == 2 ? shape.max_rank
                                             : 1 + random.below(shape.max_rank);
      made.ranks.push_back(static_cast<std::int32_t>(rank));
    }
  }
  for (std::uint32_t t = 0; t < shape.tokens; ++t) {
    std::int32_t slot = static_cast<std::int32_t>(random.below(shape.slots + 1)) - 1;
    if (shape.order == TokenOrder::kNone) slot = -1;
    if (shape.order == TokenOrder::kOneSlot) slot = static_cast<std::int32_t>(shape.slots) - 1;
    if (shape.order == TokenOrder::kSorted)
      slot = static_cast<std::int32_t>(std::uint64_t{t} * (shape.slots + 1) / shape.tokens) - 1;
    made.slot_of_token.push_back(slot);
  }
  for (std::uint64_t i = 0; i < std::uint64_t{shape.tokens} * shape.in; ++i)
    made.x.push_back(random_element(shape.type, random, shape.x_shift()));
  for (std::uint32_t i = 0; i < layer.slice_count; ++i) {
    made.a.emplace_back(std::size_t{shape.slots} * shape.max_rank * shape.in, kNan16);
    made.b.emplace_back(std::size_t{shape.slots} * shape.outs[i] * shape.max_rank, kNan16);
    for (std::uint32_t slot = 0; slot < shape.slots; ++slot) {
      const auto rank = static_cast<std::uint32_t>(made.ranks[std::size_t{i} * shape.slots + slot]);
      for (std::uint32_t r = 0; r < rank; ++r) {
        for (std::uint32_t k = 0; k < shape.in; ++k)
          made.a[i][(std::size_t{slot} * shape.max_rank + r) * shape.in + k] =
              random_element(shape.type, random, shape.a_shift());
        for (std::uint32_t o = 0; o < shape.outs[i]; ++o)
          made.b[i][(std::size_t{slot} * shape.outs[i] + o) * shape.max_rank + r] =
              random_element(shape.type, random, shape.b_shift());
      }
    }
  }
  made.y.assign(std::size_t{shape.tokens} * layer.y_columns, kMark16);
  for (std::uint32_t t = 0; t < shape.tokens; ++t)
    for (std::uint32_t i = 0; i < layer.slice_count; ++i)
      for (std::uint32_t o = 0; o < shape.outs[i]; ++o)
        made.y[std::size_t{t} * layer.y_columns + layer.slices[i].y_column + o] =
            random_element(shape.type, random);
  return made;
}

/// What is added to y, and the sum of the terms' magnitudes: the definition, term by term.
struct LoraProduct {
  std::vector<double> delta;      // (tokens, y_columns)
  std::vector<double> magnitude;  // (tokens, y_columns)
};

inline LoraProduct product_by_definition(const LoraCase& scene) {
  const LoraLayer& layer = scene.layer;
  LoraProduct found;
  found.delta.assign(scene.y.size(), 0);
  found.magnitude.assign(scene.y.size(), 0);
  for (std::uint32_t t = 0; t < scene.shape.tokens; ++t) {
    const std::int32_t slot = scene.slot_of_token[t];
    if (slot < 0) continue;
    const auto s = static_cast<std::size_t>(slot);
    for (std::uint32_t i = 0; i < layer.slice_count; ++i) {
      const auto rank = static_cast<std::uint32_t>(scene.ranks[std::size_t{i} * layer.slots + s]);
      const std::uint32_t out = layer.slices[i].out;
      for (std::uint32_t r = 0; r < rank; ++r) {
        double inner = 0;
        double inner_magnitude = 0;
        for (std::uint32_t k = 0; k < layer.in; ++k) {
          const double term = element_value(layer.type, scene.x[std::size_t{t} * layer.in + k]) *
                              element_value(layer.type, scene.a[i][(s * layer.max_rank + r) * layer.in + k]);
          inner += term;
          inner_magnitude += std::fabs(term);
        }
        for (std::uint32_t o = 0; o < out; ++o) {
          const double b = element_value(layer.type, scene.b[i][(s * out + o) * layer.max_rank + r]);
          const std::size_t at = std::size_t{t} * layer.y_columns + layer.slices[i].y_column + o;
          found.delta[at] += inner * b;
          found.magnitude[at] += inner_magnitude * std::fabs(b);
        }
      }
    }
  }
  return found;
}

/// Where y is not what the product says, or an empty string. The bound: half a unit in y's last place, sums
/// of binary32, and 16 bits of the intermediate, in float16 down to 2^-36.
inline std::string first_error(const LoraCase& scene, const LoraProduct& product, LoraOutput output,
                               const std::vector<std::uint16_t>& y) {
  const LoraLayer& layer = scene.layer;
  const bool half = layer.type == ElementType::kF16;
  const double last_place = half ? 0x1p-11 : 0x1p-8;
  const double below = half ? layer.max_rank * std::ldexp(0x1p-35, scene.shape.b_shift()) : 0;
  std::vector<bool> in_slice(layer.y_columns, false);
  for (std::uint32_t i = 0; i < layer.slice_count; ++i)
    for (std::uint32_t o = 0; o < layer.slices[i].out; ++o) in_slice[layer.slices[i].y_column + o] = true;
  for (std::size_t at = 0; at < y.size(); ++at) {
    const std::size_t t = at / layer.y_columns;
    const std::string where = scene.name() + ": token " + std::to_string(t) + " (slot " +
                              std::to_string(scene.slot_of_token[t]) + "), column " +
                              std::to_string(at % layer.y_columns);
    const bool untouched =
        !in_slice[at % layer.y_columns] || (output == LoraOutput::kAdd && product.magnitude[at] == 0);
    if (untouched) {
      if (y[at] != scene.y[at]) return where + " was written";
      continue;
    }
    const double before = output == LoraOutput::kAdd ? element_value(layer.type, scene.y[at]) : 0;
    const double expected = before + product.delta[at];
    const double sums = product.magnitude[at] * (0x1p-16 + (layer.in + layer.max_rank + 64) * 0x1p-24);
    const double bound =
        std::fabs(expected) * last_place + (sums + std::fabs(before) * 0x1p-23) * 1.01 + below + 1e-7;
    const double found = element_value(layer.type, y[at]);
    if (!(std::fabs(found - expected) <= bound))
      return where + " is " + std::to_string(found) + ", not " + std::to_string(expected) + " +- " +
             std::to_string(bound);
  }
  return {};
}

/// Sizes at which tiles, words and fragments end, and others drawn at random.
inline std::vector<LoraCaseShape> lora_case_shapes() {
  std::vector<LoraCaseShape> shapes;
  const auto add = [&shapes](LoraCaseShape shape) {
    shape.seed = shapes.size() + 1;
    shapes.push_back(std::move(shape));
  };
  constexpr ElementType kBf16 = ElementType::kBf16;
  constexpr ElementType kF16 = ElementType::kF16;
  add({0, 64, 16, 2, {32}, 0, kBf16});
  add({1, 1, 1, 1, {1}, 0, kBf16});
  add({1, 4096, 16, 3, {256, 64, 64}, 0, kBf16});
  add({3, 2080, 8, 2, {130}, 8, kF16});
  add({16, 256, 256, 4, {128}, 0, kF16});
  add({17, 264, 256, 3, {136, 40}, 8, kBf16, TokenOrder::kSorted});
  add({64, 100, 64, 64, {33, 7}, 3, kBf16});
  add({256, 64, 32, 5, {128, 64}, 0, kF16, TokenOrder::kSorted});
  add({257, 64, 16, 4, {64, 64, 64}, 0, kBf16});
  add({300, 72, 80, 3, {65}, 1, kF16, TokenOrder::kSorted});
  add({520, 136, 8, 9, {72}, 8, kBf16, TokenOrder::kOneSlot});
  add({40, 48, 16, 2, {24}, 0, kBf16, TokenOrder::kNone});
  add({400, 8, 4, 2, {24}, 0, kF16, TokenOrder::kNone});
  add({2048, 72, 16, 5, {64, 24}, 0, kBf16});
  add({20, 4, 16, 2, {48}, 0, kF16, TokenOrder::kRandom, 0, true});
  add({270, 3, 72, 2, {40}, 0, kF16, TokenOrder::kRandom, 0, true});
  CaseRandom random{2026};
  while (shapes.size() < 60) {
    LoraCaseShape shape;
    constexpr std::uint32_t kTokens[] = {1, 2, 5, 15, 31, 33, 48, 100, 259, 330};
    constexpr std::uint32_t kWidths[] = {1, 3, 8, 15, 16, 24, 65, 128, 200, 257};
    constexpr std::uint32_t kRanks[] = {1, 2, 7, 8, 16, 17, 32, 33, 64, 72, 130, 256};
    shape.tokens = kTokens[random.below(10)];
    shape.in = kWidths[random.below(10)];
    shape.max_rank = kRanks[random.below(12)];
    if (shape.tokens > 100 && shape.max_rank > 64) shape.max_rank = 40;
    shape.slots = 1 + random.below(7);
    for (std::uint32_t slices = 1 + random.below(3); slices > 0; --slices)
      shape.outs.push_back(kWidths[random.below(8)]);
    shape.gap = random.below(3) == 0 ? random.below(9) : 0;
    shape.type = random.below(2) == 0 ? kBf16 : kF16;
    shape.order = static_cast<TokenOrder>(random.below(8) < 5 ? 0 : random.below(4));
    add(std::move(shape));
  }
  return shapes;
}

/// The segments of a case, and the arrays they lie in.
struct CaseSegments {
  explicit CaseSegments(const LoraCase& scene)
      : order(scene.shape.tokens + 1),
        slot(scene.shape.slots + 1),
        count(scene.shape.slots + 1),
        start(scene.shape.slots + 1),
        tokens(sort_tokens_by_slot(scene.slot_of_token, scene.shape.slots, {order, slot, count, start})) {}

  std::vector<std::int32_t> order;
  std::vector<std::int32_t> slot;
  std::vector<std::int32_t> count;
  std::vector<std::int32_t> start;
  LoraTokens tokens;
};

}  // namespace loracle::testing
