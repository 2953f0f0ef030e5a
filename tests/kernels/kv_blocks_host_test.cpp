// KV blocks to and from staging on this machine, byte by byte against the layouts' definitions. The copies
// run the index arithmetic of the kernels.

#include <gtest/gtest.h>

#include "kv_cases.hpp"

namespace loracle::testing {
namespace {

std::vector<std::byte> numbered(std::uint64_t bytes, unsigned first) {
  std::vector<std::byte> made(bytes);
  for (std::size_t i = 0; i < made.size(); ++i) made[i] = static_cast<std::byte>((first + i * 7) % 251);
  return made;
}

/// Every case at an aligned address and one element further on, and one with very many planes.
template <class Check>
void for_each_case(const Check& check) {
  std::vector<KvCase> cases = kv_cases();
  cases.push_back(kv_case_of_many_planes());
  for (const KvCase& scene : cases)
    for (const std::size_t shift : {std::size_t{0}, std::size_t{scene.shape.element_bytes}}) {
      SCOPED_TRACE(scene.name() + ", shifted by " + std::to_string(shift));
      check(scene, shift);
    }
}

// If this failed, a block that is fetched would hold another token's keys.
TEST(KvBlocks, GatherEveryLayoutIntoOneForm) {
  for_each_case([](const KvCase& scene, std::size_t shift) {
    std::vector<std::byte> cache = numbered(shift + scene.layers * scene.layer_bytes(), 3);
    const std::vector<KvPlane> planes = planes_at(scene, cache.data() + shift);
    KvBlocks work = work_of(scene);
    ASSERT_EQ(planes.size(), work.plane_count);
    ASSERT_EQ(kv_staging_bytes(work), scene.staging_bytes());
    work.planes = planes.data();
    work.blocks = scene.blocks.data();
    std::vector<std::byte> staging(shift + scene.staging_bytes(), std::byte{0xEE});
    std::vector<std::byte> expected = staging;
    for_each_kv_byte(scene, [&](std::uint64_t cached, std::uint64_t staged) {
      expected[shift + staged] = cache[shift + cached];
    });
    kv_gather_on_host(work, staging.data() + shift);
    EXPECT_EQ(staging, expected);
  });
}

// If this failed, a scatter would overwrite blocks of running requests, or leave its own half written.
TEST(KvBlocks, ScatterWritesTheListedBlocksAndNothingElse) {
  for_each_case([](const KvCase& scene, std::size_t shift) {
    std::vector<std::byte> cache = numbered(shift + scene.layers * scene.layer_bytes(), 3);
    std::vector<std::byte> expected = cache;
    const std::vector<KvPlane> planes = planes_at(scene, cache.data() + shift);
    KvBlocks work = work_of(scene);
    work.planes = planes.data();
    work.blocks = scene.blocks.data();
    const std::vector<std::byte> staging = numbered(shift + scene.staging_bytes(), 100);
    for_each_kv_byte(scene, [&](std::uint64_t cached, std::uint64_t staged) {
      expected[shift + cached] = staging[shift + staged];
    });
    kv_scatter_on_host(work, staging.data() + shift);
    EXPECT_EQ(cache, expected);
  });
}

}  // namespace
}  // namespace loracle::testing
