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

// If this failed, a block that is fetched would hold another token's keys.
TEST(KvBlocks, GatherEveryLayoutIntoOneForm) {
  for (const KvCase& scene : kv_cases()) {
    std::vector<std::byte> cache = numbered(scene.layers * scene.layer_bytes(), 3);
    const std::vector<KvPlane> planes = planes_at(scene, cache.data());
    KvBlocks work = work_of(scene);
    ASSERT_EQ(planes.size(), work.plane_count);
    ASSERT_EQ(kv_staging_bytes(work), scene.staging_bytes());
    work.planes = planes.data();
    work.blocks = scene.blocks.data();
    std::vector<std::byte> staging(scene.staging_bytes(), std::byte{0xEE});
    std::vector<std::byte> expected = staging;
    for_each_kv_byte(scene,
                     [&](std::uint64_t cached, std::uint64_t staged) { expected[staged] = cache[cached]; });
    kv_gather_on_host(work, staging.data());
    EXPECT_EQ(staging, expected) << scene.name();
  }
}

// If this failed, a scatter would overwrite blocks of running requests, or leave its own half written.
TEST(KvBlocks, ScatterWritesTheListedBlocksAndNothingElse) {
  for (const KvCase& scene : kv_cases()) {
    std::vector<std::byte> cache = numbered(scene.layers * scene.layer_bytes(), 3);
    std::vector<std::byte> expected = cache;
    const std::vector<KvPlane> planes = planes_at(scene, cache.data());
    KvBlocks work = work_of(scene);
    work.planes = planes.data();
    work.blocks = scene.blocks.data();
    const std::vector<std::byte> staging = numbered(scene.staging_bytes(), 100);
    for_each_kv_byte(scene,
                     [&](std::uint64_t cached, std::uint64_t staged) { expected[cached] = staging[staged]; });
    kv_scatter_on_host(work, staging.data());
    EXPECT_EQ(cache, expected) << scene.name();
  }
}

}  // namespace
}  // namespace loracle::testing
