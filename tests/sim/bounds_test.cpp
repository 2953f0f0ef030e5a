#include "loracle/sim/bounds.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <limits>
#include <string>
#include <vector>

#include "loracle/core/rng.hpp"
#include "loracle/policy/policy_spec.hpp"
#include "loracle/traces/generate.hpp"

namespace loracle {
namespace {

/// A stream of these rows, with next uses. `sizes`: [rows], or empty for all of size 1.
UseStream stream_of(const std::vector<std::uint32_t>& rows, const std::vector<std::uint64_t>& sizes,
                    std::uint32_t row_count) {
  std::vector<Row> uses;
  std::vector<bool> used(row_count, false);
  for (const std::uint32_t row : rows) {
    uses.push_back(Row{row});
    used[row] = true;
  }
  UseStream stream;
  stream.uses = Column<Row>(std::move(uses));
  stream.rows = row_count;
  stream.distinct = static_cast<std::uint32_t>(std::count(used.begin(), used.end(), true));
  for (std::uint32_t row = 0; row < row_count; ++row)
    stream.size.push_back(Bytes{sizes.empty() ? 1 : sizes[row]});
  compute_next_uses(stream);
  return stream;
}

/// Skewed, and drifting from one half of the rows to the other.
UseStream random_stream(Rng& rng, std::uint32_t rows, std::uint32_t uses, std::uint64_t size_max) {
  std::vector<std::uint64_t> sizes(rows);
  for (std::uint64_t& size : sizes) size = 1 + rng.below(static_cast<std::uint32_t>(size_max));
  std::vector<std::uint32_t> drawn(uses);
  for (std::uint32_t use = 0; use < uses; ++use) {
    const std::uint32_t row = rng.below(1 + rng.below(rows));
    drawn[use] = rng.below(uses) < use ? rows - 1 - row : row;
  }
  return stream_of(drawn, sizes, rows);
}

/// The least that all misses can cost: every set of residents is tried, refusals too.
std::uint64_t least_cost(const UseStream& stream, std::uint64_t capacity,
                         const std::vector<std::uint64_t>& cost) {
  constexpr std::uint64_t kNever = std::numeric_limits<std::uint64_t>::max();
  const std::uint32_t sets = 1U << stream.rows;
  std::vector<bool> fits(sets);
  for (std::uint32_t set = 0; set < sets; ++set) {
    std::uint64_t size = 0;
    for (std::uint32_t row = 0; row < stream.rows; ++row)
      if ((set >> row & 1U) != 0) size += stream.size[row].value;
    fits[set] = size <= capacity;
  }
  std::vector<std::uint64_t> least(sets, kNever);  // [sets] to reach this set of residents
  least[0] = 0;
  for (const Row row : stream.uses.view()) {
    const std::uint32_t bit = 1U << index_of(row);
    std::vector<std::uint64_t> after(sets, kNever);
    for (std::uint32_t set = 0; set < sets; ++set) {
      if (least[set] == kNever) continue;
      const std::uint64_t paid = least[set] + ((set & bit) != 0 ? 0 : cost[index_of(row)]);
      const std::uint32_t whole = set | bit;
      for (std::uint32_t kept = whole;; kept = (kept - 1) & whole) {
        if (fits[kept]) after[kept] = std::min(after[kept], paid);
        if (kept == 0) break;
      }
    }
    least = std::move(after);
  }
  return *std::min_element(least.begin(), least.end());
}

std::vector<std::uint64_t> bytes_of(const UseStream& stream) {
  std::vector<std::uint64_t> bytes;
  for (const Bytes size : stream.size) bytes.push_back(size.value);
  return bytes;
}

// If this fails, a number is called a bound that a cache exists to beat.
TEST(Bounds, NeverExceedTheOptimumFoundByTryingEverything) {
  Rng rng(11);
  for (int round = 0; round < 300; ++round) {
    const std::uint32_t rows = 2 + rng.below(4);
    const UseStream stream = random_stream(rng, rows, 4 + rng.below(14), 1 + rng.below(5));
    const std::vector<std::uint64_t> ones(rows, 1);
    std::vector<std::uint64_t> cost(rows);
    for (std::uint64_t& one : cost) one = rng.below(7);
    for (std::uint64_t capacity = 0; capacity <= 9; ++capacity) {
      const std::vector<std::uint64_t> at = {capacity};
      EXPECT_LE(miss_bounds(stream, SizeUnit::kBytes, at)[0], least_cost(stream, capacity, ones));
      EXPECT_LE(cost_bounds(stream, SizeUnit::kBytes, cost, at)[0], least_cost(stream, capacity, cost));
      EXPECT_LE(cost_bounds(stream, SizeUnit::kBytes, bytes_of(stream), at)[0],
                least_cost(stream, capacity, bytes_of(stream)));
    }
  }
}

// If this fails, the share of a gap that a policy closes can exceed the whole gap.
TEST(Bounds, NoPolicyBeatsThemAtAnySizeByCountOrByBytes) {
  Rng rng(12);
  for (int round = 0; round < 12; ++round) {
    const std::uint64_t size_max = round % 3 == 0 ? 1 : 40;
    const UseStream stream = random_stream(rng, 40, 1500, size_max);
    const std::vector<std::uint64_t> bytes = bytes_of(stream);
    for (const std::uint64_t entries : {1U, 3U, 10U, 25U, 40U}) {
      const std::vector<std::uint64_t> count = {entries};
      const std::vector<std::uint64_t> room = {entries * (1 + size_max) / 2};
      const std::uint64_t misses = miss_bounds(stream, SizeUnit::kObjects, count)[0];
      const std::uint64_t loaded = cost_bounds(stream, SizeUnit::kObjects, bytes, count)[0];
      const std::uint64_t byte_misses = miss_bounds(stream, SizeUnit::kBytes, room)[0];
      const std::uint64_t byte_loaded = cost_bounds(stream, SizeUnit::kBytes, bytes, room)[0];
      for (const std::string_view name : policy_names()) {
        const std::string policy(name);
        const auto by_count = replay(stream, SizeUnit::kBytes, {policy, {entries, Bytes{kUnlimited}}});
        const auto by_bytes = replay(stream, SizeUnit::kBytes, {policy, {kUnlimited, Bytes{room[0]}}});
        ASSERT_TRUE(by_count && by_bytes);
        EXPECT_LE(misses, by_count->misses) << policy << " at " << entries;
        EXPECT_LE(loaded, by_count->bytes_missed.value) << policy << " at " << entries;
        EXPECT_LE(byte_misses, by_bytes->misses) << policy << " at " << room[0] << " bytes";
        EXPECT_LE(byte_loaded, by_bytes->bytes_missed.value) << policy << " at " << room[0] << " bytes";
      }
    }
  }
}

// If this fails, a bound promises what no size of a cache can do, or the reader of a curve sees it rise.
TEST(Bounds, FallFromEverythingToTheFirstUsesAsTheCapacityGrows) {
  Rng rng(13);
  const UseStream stream = random_stream(rng, 30, 800, 9);
  const std::vector<std::uint64_t> bytes = bytes_of(stream);
  std::uint64_t all_bytes = 0;
  std::uint64_t first_bytes = 0;
  for (const Row row : stream.uses.view()) all_bytes += bytes[index_of(row)];
  std::vector<bool> seen(stream.rows, false);
  for (const Row row : stream.uses.view()) {
    if (!seen[index_of(row)]) first_bytes += bytes[index_of(row)];
    seen[index_of(row)] = true;
  }
  std::vector<std::uint64_t> capacities;
  for (std::uint64_t capacity = 0; capacity <= 300; ++capacity) capacities.push_back(capacity);
  const auto misses = miss_bounds(stream, SizeUnit::kBytes, capacities);
  const auto loaded = cost_bounds(stream, SizeUnit::kBytes, bytes, capacities);
  EXPECT_EQ(misses.front(), 800U);
  EXPECT_EQ(misses.back(), stream.distinct);
  EXPECT_EQ(loaded.front(), all_bytes);
  EXPECT_EQ(loaded.back(), first_bytes);
  EXPECT_TRUE(std::is_sorted(misses.rbegin(), misses.rend()));
  EXPECT_TRUE(std::is_sorted(loaded.rbegin(), loaded.rend()));
}

// If this fails, the bound lies so far below what is possible that every policy looks bad beside it.
TEST(Bounds, LieCloseToBeladyWhereSizesAreEqual) {
  const auto options = parse_generator("zipf:adapters=200:alpha=0.9:requests=100000:seed=3");
  ASSERT_TRUE(options);
  const auto trace = generate(*options);
  ASSERT_TRUE(trace);
  auto stream = make_use_stream(*trace);
  ASSERT_TRUE(stream);
  compute_next_uses(*stream);
  for (const std::uint64_t entries : {8U, 16U, 32U, 64U}) {
    const std::vector<std::uint64_t> at = {entries};
    const std::uint64_t bound = miss_bounds(*stream, SizeUnit::kObjects, at)[0];
    const auto belady = replay(*stream, SizeUnit::kObjects, {"belady", {entries, Bytes{kUnlimited}}});
    ASSERT_TRUE(belady);
    EXPECT_LE(bound, belady->misses);
    EXPECT_GE(static_cast<double>(bound), 0.85 * static_cast<double>(belady->misses)) << entries;
    RecordProperty("percent_of_belady_at_" + std::to_string(entries),
                   std::to_string(100.0 * static_cast<double>(bound) / static_cast<double>(belady->misses)));
  }
}

// If this fails, an empty trace ends the program, or costs without misses are charged.
TEST(Bounds, AreZeroWhereNothingIsUsedOrNothingCosts) {
  const UseStream none = stream_of({}, {}, 0);
  const std::vector<std::uint64_t> at = {0, 3};
  EXPECT_EQ(miss_bounds(none, SizeUnit::kObjects, at), (std::vector<std::uint64_t>{0, 0}));
  EXPECT_EQ(cost_bounds(none, SizeUnit::kBytes, {}, at), (std::vector<std::uint64_t>{0, 0}));
  const UseStream some = stream_of({0, 1, 0, 1}, {}, 2);
  const std::vector<std::uint64_t> free = {0, 0};
  EXPECT_EQ(cost_bounds(some, SizeUnit::kObjects, free, at), (std::vector<std::uint64_t>{0, 0}));
  // Room for one: of four uses, the first two are first uses, and one of the others can hit.
  EXPECT_EQ(miss_bounds(some, SizeUnit::kObjects, std::vector<std::uint64_t>{1})[0], 3U);
}

}  // namespace
}  // namespace loracle
