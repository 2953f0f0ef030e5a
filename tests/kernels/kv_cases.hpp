#pragma once
/// Paged caches made up for the copies of KV blocks, in every layout, and where an element lies by the
/// layout's own words. Standard library only, so that nvcc reads it too.

#include <cstdint>
#include <string>
#include <vector>

#include "loracle/kernels/kv_blocks.hpp"

namespace loracle::testing {

struct KvCase {
  KvShape shape;
  std::uint32_t layers = 0;
  std::vector<std::int32_t> blocks;

  [[nodiscard]] std::uint32_t sides() const { return shape.layout == KvLayout::kLatent ? 1 : 2; }
  [[nodiscard]] std::uint64_t layer_bytes() const {
    return std::uint64_t{sides()} * shape.cache_blocks * shape.block_tokens * shape.heads * shape.width *
           shape.element_bytes;
  }
  [[nodiscard]] std::uint64_t staging_bytes() const {
    return std::uint64_t{blocks.size()} * layers * sides() * shape.block_tokens * shape.heads * shape.width *
           shape.element_bytes;
  }
  [[nodiscard]] std::string name() const {
    return "layout " + std::to_string(static_cast<int>(shape.layout)) + ", " +
           std::to_string(shape.block_tokens) + " tokens, " + std::to_string(shape.heads) + " heads of " +
           std::to_string(shape.width) + " x " + std::to_string(shape.element_bytes) + " bytes";
  }
};

/// Elements from a layer's start to one element, as the header's table of layouts has it.
inline std::uint64_t cached_element(const KvShape& s, std::uint64_t side, std::uint64_t block,
                                    std::uint64_t token, std::uint64_t head, std::uint64_t e) {
  const std::uint64_t n = s.cache_blocks;
  const std::uint64_t t = s.block_tokens;
  const std::uint64_t h = s.heads;
  const std::uint64_t w = s.width;
  switch (s.layout) {
    case KvLayout::kSplitNhd:
      return (((side * n + block) * t + token) * h + head) * w + e;
    case KvLayout::kSplitHnd:
      return (((side * n + block) * h + head) * t + token) * w + e;
    case KvLayout::kPairNhd:
      return (((block * 2 + side) * t + token) * h + head) * w + e;
    case KvLayout::kPairHnd:
      return (((block * 2 + side) * h + head) * t + token) * w + e;
    case KvLayout::kLatent:
      return (block * t + token) * w + e;
    case KvLayout::kPagedV0: {
      const std::uint64_t x = 16 / s.element_bytes;
      if (side == 0) return (((block * h + head) * (w / x) + e / x) * t + token) * x + e % x;
      return n * t * h * w + ((block * h + head) * w + e) * t + token;
    }
  }
  return 0;
}

/// Calls work(byte in the layers end to end, byte in staging) for each byte of each listed block.
template <class Work>
void for_each_kv_byte(const KvCase& scene, const Work& work) {
  const KvShape& s = scene.shape;
  std::uint64_t staged = 0;
  for (const std::int32_t block : scene.blocks)
    for (std::uint64_t layer = 0; layer < scene.layers; ++layer)
      for (std::uint64_t side = 0; side < scene.sides(); ++side)
        for (std::uint64_t token = 0; token < s.block_tokens; ++token)
          for (std::uint64_t head = 0; head < s.heads; ++head)
            for (std::uint64_t e = 0; e < s.width; ++e)
              for (std::uint64_t byte = 0; byte < s.element_bytes; ++byte, ++staged)
                if (block >= 0 && static_cast<std::uint32_t>(block) < s.cache_blocks)
                  work(layer * scene.layer_bytes() +
                           cached_element(s, side, static_cast<std::uint64_t>(block), token, head, e) *
                               s.element_bytes +
                           byte,
                       staged);
}

/// The planes of layers that follow each other from `cache` on.
inline std::vector<KvPlane> planes_at(const KvCase& scene, std::byte* cache) {
  std::vector<KvPlane> planes;
  for (std::uint32_t layer = 0; layer < scene.layers; ++layer) {
    KvPlane made[2];
    const std::uint32_t count = kv_planes(scene.shape, cache + layer * scene.layer_bytes(), made);
    planes.insert(planes.end(), made, made + count);
  }
  return planes;
}

inline KvBlocks work_of(const KvCase& scene) {
  KvBlocks work;
  work.plane_count = scene.layers * scene.sides();
  work.block_count = static_cast<std::uint32_t>(scene.blocks.size());
  work.block_tokens = scene.shape.block_tokens;
  work.token_bytes = scene.shape.heads * scene.shape.width * scene.shape.element_bytes;
  work.cache_blocks = scene.shape.cache_blocks;
  return work;
}

inline std::vector<KvCase> kv_cases() {
  std::vector<KvCase> cases;
  for (const KvLayout layout : {KvLayout::kSplitNhd, KvLayout::kSplitHnd, KvLayout::kPairNhd,
                                KvLayout::kPairHnd, KvLayout::kLatent, KvLayout::kPagedV0}) {
    const std::uint32_t heads = layout == KvLayout::kLatent ? 1 : 3;
    cases.push_back({{layout, 9, 16, heads, 64, 2}, 3, {4, 0, 8}});
    cases.push_back({{layout, 5, 4, heads, 32, 1}, 2, {-1, 3, 5, 1}});
    cases.push_back({{layout, 3, 1, heads, 16, 2}, 1, {2}});
    cases.push_back({{layout, 3, 2, heads, 16, 2}, 2, {}});
    if (layout != KvLayout::kPagedV0) cases.push_back({{layout, 4, 3, heads, 5, 1}, 2, {3, 1}});
    if (layout != KvLayout::kPagedV0) cases.push_back({{layout, 4, 3, heads, 7, 2}, 2, {0, 2}});
  }
  return cases;
}

/// More planes than one launch of a kernel can take: 65,535 and some, of a few bytes.
inline KvCase kv_case_of_many_planes() { return {{KvLayout::kLatent, 2, 1, 1, 4, 1}, 66'000, {1}}; }

}  // namespace loracle::testing
