#include "tiers/host_arena.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <vector>

#include "loracle/core/rng.hpp"

namespace loracle {
namespace {

void fill(std::span<std::byte> bytes, std::uint32_t seed) {
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(seed * 31 + i);
}
bool holds(std::span<const std::byte> bytes, std::uint32_t seed) {
  for (std::size_t i = 0; i < bytes.size(); ++i)
    if (bytes[i] != static_cast<std::byte>(seed * 31 + i)) return false;
  return true;
}

// If this failed, an adapter that fits by its bytes would be refused because the free bytes lie apart.
TEST(HostArena, MovesBlocksTogetherWhenNoGapIsLargeEnough) {
  std::vector<std::byte> memory(10 * 64);
  HostArena arena(memory);
  for (std::uint32_t i = 0; i < 10; ++i) {
    ASSERT_TRUE(arena.allocate(Row{i}, 64));
    fill(arena.bytes(Row{i}), i);
    arena.release(Row{i});
  }
  for (std::uint32_t i = 0; i < 10; i += 2) arena.free(Row{i});
  EXPECT_EQ(arena.free_bytes(), 5U * 64);
  ASSERT_TRUE(arena.allocate(Row{20}, 5 * 64));
  EXPECT_EQ(arena.free_bytes(), 0U);
  for (std::uint32_t i = 1; i < 10; i += 2) EXPECT_TRUE(holds(arena.bytes(Row{i}), i)) << i;
}

// If this failed, a block would be moved under a copy that reads it.
TEST(HostArena, NeverMovesAFixedBlock) {
  std::vector<std::byte> memory(3 * 64);
  HostArena arena(memory);
  for (std::uint32_t i = 0; i < 3; ++i) ASSERT_TRUE(arena.allocate(Row{i}, 64));
  const std::byte* const middle = arena.bytes(Row{1}).data();
  arena.free(Row{0});
  arena.free(Row{2});
  EXPECT_FALSE(arena.allocate(Row{3}, 128)) << "the middle block is fixed";
  arena.release(Row{1});
  EXPECT_TRUE(arena.allocate(Row{3}, 128));
  EXPECT_NE(arena.bytes(Row{1}).data(), middle);
}

// Overlapping blocks would serve one tenant another one's weights.
TEST(HostArena, KeepsEveryBlocksBytesThroughRandomUse) {
  std::vector<std::byte> memory(64 * 64);
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    Rng rng(seed);
    HostArena arena(memory);
    std::map<std::uint32_t, std::uint32_t> fixed;  // row -> times
    std::uint64_t used = 0;
    for (int step = 0; step < 200; ++step) {
      const std::uint32_t row = rng.below(24);
      if (arena.contains(Row{row})) {
        ASSERT_TRUE(holds(arena.bytes(Row{row}), row)) << "seed " << seed << " step " << step;
        if (rng.below(3) == 0) {
          used -= (arena.bytes(Row{row}).size() + 63) / 64 * 64;
          arena.free(Row{row});
          fixed.erase(row);
        } else if (fixed[row] > 0) {
          arena.release(Row{row});
          --fixed[row];
        } else {
          arena.fix(Row{row});
          ++fixed[row];
        }
      } else {
        const std::uint64_t bytes = 1 + rng.below(700);
        const std::uint64_t need = (bytes + 63) / 64 * 64;
        const bool any_fixed =
            std::any_of(fixed.begin(), fixed.end(), [](const auto& entry) { return entry.second > 0; });
        const bool done = arena.allocate(Row{row}, bytes);
        if (need > memory.size() - used) {
          ASSERT_FALSE(done);
        } else if (!any_fixed) {
          ASSERT_TRUE(done) << "seed " << seed << " step " << step;
        }
        if (!done) continue;
        used += need;
        fill(arena.bytes(Row{row}), row);
        fixed[row] = 1;
      }
      ASSERT_EQ(arena.free_bytes(), memory.size() - used);
    }
  }
}

}  // namespace
}  // namespace loracle
