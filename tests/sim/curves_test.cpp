#include "loracle/sim/curves.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <list>
#include <string>
#include <tuple>
#include <vector>

#include "loracle/core/rng.hpp"
#include "loracle/sim/replay.hpp"
#include "loracle/traces/read.hpp"
#include "support/sanitized.hpp"
#include "support/shared_data.hpp"

namespace loracle {
namespace {

UseStream stream_of(std::vector<std::uint32_t> rows, std::vector<std::uint64_t> sizes = {}) {
  std::vector<Row> uses;
  UseStream stream;
  for (const std::uint32_t row : rows) {
    uses.push_back(Row{row});
    stream.rows = std::max(stream.rows, row + 1);
  }
  std::sort(rows.begin(), rows.end());
  stream.distinct = static_cast<std::uint32_t>(std::unique(rows.begin(), rows.end()) - rows.begin());
  for (const std::uint64_t size : sizes) stream.size.push_back(Bytes{size});
  stream.rows = std::max(stream.rows, static_cast<std::uint32_t>(stream.size.size()));
  stream.size.resize(stream.rows, Bytes{1});
  stream.uses = Column<Row>(std::move(uses));
  return stream;
}

/// Low rows are used far more often than high ones; some high ones not at all.
UseStream random_stream(std::uint64_t seed, std::uint32_t rows, std::size_t count) {
  Rng rng(seed);
  std::vector<std::uint32_t> uses;
  while (uses.size() < count) uses.push_back(rng.below(1 + rng.below(rows)));
  std::vector<std::uint64_t> sizes;
  while (sizes.size() < rows) sizes.push_back(1 + rng.below(20));
  return stream_of(std::move(uses), std::move(sizes));
}

struct Counts {
  std::uint64_t misses = 0;
  std::uint64_t bytes_missed = 0;
};

/// The textbook list of one cache: newest first, evicts from the back until the newcomer fits. FIFO is the
/// same list without the move to the front.
Counts list_cache(const UseStream& stream, std::uint64_t capacity, bool move_to_front, bool by_bytes) {
  const auto weight = [&](Row row) { return by_bytes ? stream.size[index_of(row)].value : 1; };
  std::list<Row> list;
  std::vector<std::list<Row>::iterator> place(stream.rows, list.end());
  std::uint64_t used = 0;
  Counts counts;
  for (const Row row : stream.uses.view()) {
    auto& at = place[index_of(row)];
    if (at != list.end()) {
      if (move_to_front) list.splice(list.begin(), list, at);
      continue;
    }
    ++counts.misses;
    counts.bytes_missed += stream.size[index_of(row)].value;
    if (weight(row) > capacity) continue;
    for (; used + weight(row) > capacity; list.pop_back()) {
      used -= weight(list.back());
      place[index_of(list.back())] = list.end();
    }
    list.push_front(row);
    at = list.begin();
    used += weight(row);
  }
  return counts;
}

std::vector<std::uint64_t> sizes_up_to(std::uint64_t last) {
  std::vector<std::uint64_t> sizes;
  for (std::uint64_t size = 0; size <= last; ++size) sizes.push_back(size);
  return sizes;
}

/// Every test of this suite runs once per instruction set, and is skipped where the processor lacks it.
class Curves : public ::testing::TestWithParam<Simd> {
 protected:
  void SetUp() override {
    if (GetParam() > best_simd()) GTEST_SKIP() << "this processor has no " << name_of(GetParam());
  }
};
INSTANTIATE_TEST_SUITE_P(Simd, Curves, ::testing::Values(Simd::kPortable, Simd::kAvx2, Simd::kAvx512),
                         [](const auto& suite) { return std::string(name_of(suite.param)); });

// If this failed, the curve would promise hits that an LRU cache of that size does not have.
TEST_P(Curves, LruCurveEqualsAListAtEverySize) {
  for (std::uint64_t seed = 1; seed <= 30; ++seed) {
    const UseStream stream = random_stream(seed, 1 + static_cast<std::uint32_t>(seed) * 3, seed * 40);
    const LruCurve curve = lru_curve(stream, GetParam());
    EXPECT_EQ(curve.requests, stream.uses.size());
    EXPECT_EQ(curve.compulsory_misses, stream.distinct);
    ASSERT_EQ(curve.hits_at_distance.size(), stream.distinct + 1U);
    ASSERT_EQ(curve.misses_at.size(), stream.distinct + 1U);
    for (std::uint64_t entries = 0; entries <= stream.distinct + 3U; ++entries)
      ASSERT_EQ(curve.misses(entries), list_cache(stream, entries, true, false).misses)
          << "seed " << seed << ", " << entries << " entries";
  }
}

// If this failed, insertion numbers would not say what a FIFO cache holds, or lanes would leak into each
// other.
TEST_P(Curves, FifoEqualsAListAtEverySize) {
  for (std::uint64_t seed = 1; seed <= 30; ++seed) {
    const UseStream stream = random_stream(seed, 1 + static_cast<std::uint32_t>(seed) * 3, seed * 40);
    const std::vector<std::uint64_t> sizes = sizes_up_to(stream.rows + 3);
    const std::vector<std::uint64_t> misses = fifo_misses_at(stream, sizes, GetParam());
    ASSERT_EQ(misses.size(), sizes.size());
    for (std::size_t k = 0; k < sizes.size(); ++k)
      ASSERT_EQ(misses[k], list_cache(stream, sizes[k], false, false).misses)
          << "seed " << seed << ", " << sizes[k] << " entries";
  }
}

// If this failed, a byte capacity would be planned from a wrong miss count or a wrong volume of loads.
TEST_P(Curves, ByteCurveEqualsAListAtEveryCapacity) {
  for (std::uint64_t seed = 1; seed <= 30; ++seed) {
    const UseStream stream = random_stream(seed, 1 + static_cast<std::uint32_t>(seed) * 2, seed * 30);
    std::vector<Bytes> capacities;
    for (std::uint64_t bytes = 20; bytes <= 20 + 11 * stream.rows; ++bytes)
      capacities.push_back(Bytes{bytes});
    const auto points = lru_byte_curve(stream, capacities, GetParam());
    ASSERT_TRUE(points) << points.error().message;
    ASSERT_EQ(points->size(), capacities.size());
    for (std::size_t k = 0; k < capacities.size(); ++k) {
      const Counts expected = list_cache(stream, capacities[k].value, true, true);
      ASSERT_EQ((*points)[k], (ByteCurvePoint{capacities[k], expected.misses, Bytes{expected.bytes_missed}}))
          << "seed " << seed << ", " << capacities[k].value << " bytes";
    }
  }
}

// If this failed, counts would go wrong each time the time axis is used up and rows get new places.
TEST_P(Curves, StayExactWhenTheTimeAxisIsRenumbered) {
  const UseStream stream = random_stream(7, 150, 300'000);
  const LruCurve curve = lru_curve(stream, GetParam());
  for (std::uint64_t entries = 1; entries <= stream.distinct; entries += testing::all_or_few(7U, 35U))
    ASSERT_EQ(curve.misses(entries), list_cache(stream, entries, true, false).misses)
        << entries << " entries";
  std::vector<Bytes> capacities;
  for (std::uint64_t bytes = 20; bytes < 1600; bytes += testing::all_or_few(41U, 205U))
    capacities.push_back(Bytes{bytes});
  const auto points = lru_byte_curve(stream, capacities, GetParam());
  ASSERT_TRUE(points) << points.error().message;
  for (const ByteCurvePoint& point : *points) {
    const Counts expected = list_cache(stream, point.capacity.value, true, true);
    ASSERT_EQ(point.misses, expected.misses) << point.capacity.value << " bytes";
    ASSERT_EQ(point.bytes_missed.value, expected.bytes_missed) << point.capacity.value << " bytes";
  }
}

// If this failed, the upper levels of the prefix trees would be wrong, which only many adapters reach.
TEST_P(Curves, StayExactWithManyAdapters) {
  const UseStream stream = random_stream(11, 70'000, 400'000);
  const LruCurve curve = lru_curve(stream, GetParam());
  std::vector<std::uint64_t> sizes;
  for (std::uint64_t size = 1; size < 70'000; size = size * 3 / 2 + 1) sizes.push_back(size);
  const std::vector<std::uint64_t> misses = lru_misses_at(stream, sizes);
  for (std::size_t k = 0; k < sizes.size(); ++k) EXPECT_EQ(curve.misses(sizes[k]), misses[k]) << sizes[k];
  EXPECT_EQ(curve.misses(20'000), list_cache(stream, 20'000, true, false).misses);
  const std::vector<Bytes> capacities{Bytes{500}, Bytes{40'000}, Bytes{300'000}, Bytes{2'000'000}};
  const auto points = lru_byte_curve(stream, capacities, GetParam());
  ASSERT_TRUE(points) << points.error().message;
  for (const ByteCurvePoint& point : *points)
    EXPECT_EQ(point.misses, list_cache(stream, point.capacity.value, true, true).misses)
        << point.capacity.value;
}

// If this failed, sizes of real adapters (hundreds of megabytes) would overflow somewhere on the way.
TEST_P(Curves, ByteCurveHoldsAdaptersOfManyGigabytes) {
  const std::uint64_t gib = std::uint64_t{1} << 30U;
  const UseStream stream = stream_of({0, 1, 2, 0, 1, 2, 0}, {40 * gib, 30 * gib, 20 * gib});
  const auto points =
      lru_byte_curve(stream, std::vector<Bytes>{Bytes{90 * gib}, Bytes{90 * gib - 1}}, GetParam());
  ASSERT_TRUE(points) << points.error().message;
  EXPECT_EQ((*points)[0], (ByteCurvePoint{Bytes{90 * gib}, 3, Bytes{90 * gib}}));
  EXPECT_EQ((*points)[1], (ByteCurvePoint{Bytes{90 * gib - 1}, 7, Bytes{220 * gib}}));
}

// If this failed, an empty trace would crash a report instead of showing noughts.
TEST_P(Curves, AnEmptyStreamHasNoMisses) {
  for (const UseStream& stream : {stream_of({}), stream_of({}, {5, 6})}) {
    const LruCurve curve = lru_curve(stream, GetParam());
    EXPECT_EQ(curve.requests, 0U);
    EXPECT_EQ(curve.misses(0), 0U);
    EXPECT_EQ(curve.misses(10), 0U);
    EXPECT_EQ(curve.hits_at_distance, (std::vector<std::uint64_t>{0}));
    const std::vector<std::uint64_t> sizes{0, 1, 9};
    EXPECT_EQ(lru_misses_at(stream, sizes), (std::vector<std::uint64_t>{0, 0, 0}));
    EXPECT_EQ(fifo_misses_at(stream, sizes, GetParam()), (std::vector<std::uint64_t>{0, 0, 0}));
    const auto points = lru_byte_curve(stream, std::vector<Bytes>{Bytes{1}}, GetParam());
    ASSERT_TRUE(points) << points.error().message;
    EXPECT_EQ(points->at(0), (ByteCurvePoint{Bytes{1}, 0, Bytes{0}}));
  }
}

// If this failed, the smallest deployment, one adapter in one slot, would be reported wrongly.
TEST_P(Curves, OneAdapterMissesOnce) {
  const UseStream stream = stream_of({0, 0, 0, 0}, {8});
  EXPECT_EQ(lru_curve(stream, GetParam()).misses_at, (std::vector<std::uint64_t>{4, 1}));
  const std::vector<std::uint64_t> sizes{2, 1, 0};
  EXPECT_EQ(lru_misses_at(stream, sizes), (std::vector<std::uint64_t>{1, 1, 4}));
  EXPECT_EQ(fifo_misses_at(stream, sizes, GetParam()), (std::vector<std::uint64_t>{1, 1, 4}));
  const auto points = lru_byte_curve(stream, std::vector<Bytes>{Bytes{9}, Bytes{8}}, GetParam());
  ASSERT_TRUE(points) << points.error().message;
  EXPECT_EQ(points->at(1), (ByteCurvePoint{Bytes{8}, 1, Bytes{8}}));
}

// If this failed, a scan one adapter longer than the cache would be said to hit. Counted by hand.
TEST_P(Curves, ALoopLongerThanTheCacheNeverHits) {
  std::vector<std::uint32_t> uses;
  for (std::uint32_t round = 0; round < 50; ++round)
    for (std::uint32_t row = 0; row < 101; ++row) uses.push_back(row);
  const UseStream stream = stream_of(std::move(uses));
  const std::vector<std::uint64_t> sizes{1, 32, 100, 101, 500};
  const std::vector<std::uint64_t> expected{5050, 5050, 5050, 101, 101};
  EXPECT_EQ(lru_misses_at(stream, sizes), expected);
  EXPECT_EQ(fifo_misses_at(stream, sizes, GetParam()), expected);
  const LruCurve curve = lru_curve(stream, GetParam());
  for (std::size_t k = 0; k < sizes.size(); ++k) EXPECT_EQ(curve.misses(sizes[k]), expected[k]) << sizes[k];
}

// If this failed, LRU and FIFO would be confused, or Belady's anomaly of FIFO be smoothed away. The reference
// string and both rows are the textbook's (Belady, Nelson and Shedler, CACM 12(6), 1969).
TEST_P(Curves, ShowBeladysAnomaly) {
  const UseStream stream = stream_of({0, 1, 2, 3, 0, 1, 4, 0, 1, 2, 3, 4});
  const std::vector<std::uint64_t> sizes{1, 2, 3, 4, 5};
  EXPECT_EQ(fifo_misses_at(stream, sizes, GetParam()), (std::vector<std::uint64_t>{12, 12, 9, 10, 5}));
  EXPECT_EQ(lru_misses_at(stream, sizes), (std::vector<std::uint64_t>{12, 12, 10, 8, 5}));
  EXPECT_EQ(lru_curve(stream, GetParam()).misses_at, (std::vector<std::uint64_t>{12, 12, 12, 10, 8, 5}));
  EXPECT_EQ(lru_curve(stream, GetParam()).hits_at_distance, (std::vector<std::uint64_t>{0, 0, 0, 2, 2, 3}));
}

// If this failed, a capacity at which adapters bypass the cache would get a number that no cache produces.
TEST_P(Curves, RefuseACapacityBelowTheLargestAdapterUsed) {
  const UseStream stream = stream_of({0, 1, 0, 1}, {10, 30, 99});
  const auto refused = lru_byte_curve(stream, std::vector<Bytes>{Bytes{50}, Bytes{29}}, GetParam());
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::kInvalid);
  EXPECT_NE(refused.error().message.find("29"), std::string::npos) << refused.error().message;
  EXPECT_NE(refused.error().message.find("30"), std::string::npos) << refused.error().message;
  // The third adapter is larger still, but never used.
  const auto points = lru_byte_curve(stream, std::vector<Bytes>{Bytes{30}}, GetParam());
  ASSERT_TRUE(points) << points.error().message;
  EXPECT_EQ(points->at(0), (ByteCurvePoint{Bytes{30}, 4, Bytes{80}}));
}

// If this failed, answers would land at the wrong size when sizes come unsorted, repeated, or by the dozen.
TEST_P(Curves, AnswerInTheOrderOfTheQuestion) {
  const UseStream stream = random_stream(3, 90, 3000);
  std::vector<std::uint64_t> sizes;
  std::vector<Bytes> capacities;
  Rng rng(4);
  for (int k = 0; k < 37; ++k) {
    sizes.push_back(rng.below(100));
    capacities.push_back(Bytes{20 + rng.below(900)});
  }
  sizes.push_back(sizes.front());
  capacities.push_back(capacities.front());
  const auto lru = lru_misses_at(stream, sizes);
  const auto fifo = fifo_misses_at(stream, sizes, GetParam());
  const auto points = lru_byte_curve(stream, capacities, GetParam());
  ASSERT_TRUE(points) << points.error().message;
  for (std::size_t k = 0; k < sizes.size(); ++k) {
    EXPECT_EQ(lru[k], list_cache(stream, sizes[k], true, false).misses) << sizes[k];
    EXPECT_EQ(fifo[k], list_cache(stream, sizes[k], false, false).misses) << sizes[k];
    EXPECT_EQ((*points)[k].capacity, capacities[k]);
    EXPECT_EQ((*points)[k].misses, list_cache(stream, capacities[k].value, true, true).misses);
  }
  EXPECT_TRUE(lru_misses_at(stream, {}).empty());
  EXPECT_TRUE(fifo_misses_at(stream, {}, GetParam()).empty());
  EXPECT_TRUE(lru_byte_curve(stream, {}, GetParam())->empty());
}

// If this failed, a size beyond 32 bits ("unlimited") would wrap round to a small cache.
TEST_P(Curves, AHugeSizeLeavesOnlyFirstUses) {
  const UseStream stream = random_stream(9, 50, 2000);
  const std::vector<std::uint64_t> sizes{kUnlimited, (std::uint64_t{1} << 32U) + 1, kUnlimited - 1};
  const std::vector<std::uint64_t> expected(3, stream.distinct);
  EXPECT_EQ(lru_misses_at(stream, sizes), expected);
  EXPECT_EQ(fifo_misses_at(stream, sizes, GetParam()), expected);
  EXPECT_EQ(lru_curve(stream, GetParam()).misses(kUnlimited), stream.distinct);
  const auto points = lru_byte_curve(stream, std::vector<Bytes>{Bytes{kUnlimited}}, GetParam());
  ASSERT_TRUE(points) << points.error().message;
  EXPECT_EQ(points->at(0).misses, stream.distinct);
}

// If this failed, boundaries would fall out of step with what an LRU cache of each size holds.
TEST(LruMissesAt, EqualsAListAtEverySize) {
  for (std::uint64_t seed = 1; seed <= 30; ++seed) {
    const UseStream stream = random_stream(seed, 1 + static_cast<std::uint32_t>(seed) * 3, seed * 40);
    const std::vector<std::uint64_t> sizes = sizes_up_to(stream.rows + 3);
    const std::vector<std::uint64_t> misses = lru_misses_at(stream, sizes);
    ASSERT_EQ(misses.size(), sizes.size());
    for (std::size_t k = 0; k < sizes.size(); ++k)
      ASSERT_EQ(misses[k], list_cache(stream, sizes[k], true, false).misses)
          << "seed " << seed << ", " << sizes[k] << " entries";
  }
}

// If this failed, curve and replay of one policy would disagree in the same report.
TEST(LruCurve, EqualsTheReplayOfTheSamePolicy) {
  const UseStream stream = random_stream(21, 80, 5000);
  const LruCurve curve = lru_curve(stream);
  for (const std::uint64_t size : {1U, 2U, 5U, 17U, 40U, 80U, 200U}) {
    ReplayJob job{"lru", {}};
    job.capacity.entries = size;
    const auto lru = replay(stream, SizeUnit::kObjects, job);
    ASSERT_TRUE(lru) << lru.error().message;
    EXPECT_EQ(curve.misses(size), lru->misses) << size;
    job.policy = "fifo";
    const auto fifo = replay(stream, SizeUnit::kObjects, job);
    ASSERT_TRUE(fifo) << fifo.error().message;
    EXPECT_EQ(fifo_misses_at(stream, std::vector<std::uint64_t>{size}).at(0), fifo->misses) << size;
    job = {"lru", {}};
    job.capacity.bytes = Bytes{20 + size};
    const auto bytes = replay(stream, SizeUnit::kBytes, job);
    ASSERT_TRUE(bytes) << bytes.error().message;
    const auto points = lru_byte_curve(stream, std::vector<Bytes>{job.capacity.bytes});
    ASSERT_TRUE(points) << points.error().message;
    EXPECT_EQ(points->at(0).misses, bytes->misses) << size;
    EXPECT_EQ(points->at(0).bytes_missed, bytes->bytes_missed) << size;
  }
}

// If this failed, our counts would differ from libCacheSim's on a trace from production (its own sample).
TEST(LruCurve, EqualsLibCacheSimOnItsSampleTrace) {
  LORACLE_SHARED_FILE(file, "traces/libcachesim/cloudPhysicsIO.oracleGeneral.zst");
  const Result<Trace> trace = read_trace(file.string(), {});
  ASSERT_TRUE(trace) << trace.error().message;
  const Result<UseStream> stream = make_use_stream(*trace);
  ASSERT_TRUE(stream) << stream.error().message;
  EXPECT_EQ(stream->uses.size(), 113'872U);

  const std::vector<std::uint64_t> sizes{8, 32, 128, 490, 2449, 4897, 9795, 14692, 24487};
  const std::vector<std::uint64_t> lru{108196, 104212, 99411, 95415, 93897, 91657, 82531, 75247, 71395};
  const std::vector<std::uint64_t> fifo{108274, 104893, 100831, 96515, 94122, 91716, 81171, 72880, 72143};
  EXPECT_EQ(lru_misses_at(*stream, sizes), lru);
  EXPECT_EQ(fifo_misses_at(*stream, sizes), fifo);
  const LruCurve curve = lru_curve(*stream);
  for (std::size_t k = 0; k < sizes.size(); ++k) EXPECT_EQ(curve.misses(sizes[k]), lru[k]) << sizes[k];

  const std::vector<Bytes> capacities{Bytes{128U << 20U}, Bytes{512U << 20U}};
  const auto points = lru_byte_curve(*stream, capacities);
  ASSERT_TRUE(points) << points.error().message;
  EXPECT_EQ(points->at(0), (ByteCurvePoint{capacities[0], 93'374, Bytes{4'214'303'232}}));
  EXPECT_EQ(points->at(1), (ByteCurvePoint{capacities[1], 81'722, Bytes{3'660'569'600}}));
}

}  // namespace
}  // namespace loracle
