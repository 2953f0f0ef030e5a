#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <fstream>
#include <map>
#include <sstream>
#include <string>

#include "loracle/sim/replay.hpp"
#include "loracle/traces/read.hpp"
#include "support/shared_data.hpp"

namespace loracle {
namespace {

enum class Rule : std::uint8_t { kExact, kWithinOnePercent };

/// Which rows of the table bind us, and how tightly. Policies of the table that are not ours are not
/// compared.
struct Promise {
  Rule rule;
  std::uint64_t unit_capacity_min;  // below it the table itself shows a defect (nothing is cached at all)
};

const std::map<std::string, Promise>& promises() {
  static const std::map<std::string, Promise> kPromises = {
      {"lru", {Rule::kExact, 1}},
      {"fifo", {Rule::kExact, 1}},
      {"clock", {Rule::kExact, 1}},
      {"sieve", {Rule::kExact, 1}},
      {"lfu", {Rule::kExact, 1}},
      {"slru", {Rule::kExact, 1}},
      {"arc", {Rule::kExact, 1}},
      {"car", {Rule::kExact, 1}},
      {"lirs", {Rule::kExact, 200}},  // below, libCacheSim holds more rows than its capacity: see lirs.hpp
      {"twoq", {Rule::kExact, 1}},
      {"gdsf", {Rule::kExact, 1}},
      {"belady", {Rule::kExact, 1}},
      {"s3fifo", {Rule::kExact, 20}},
      {"random", {Rule::kWithinOnePercent, 1}},
      {"hyperbolic", {Rule::kWithinOnePercent, 1}},
      {"beladySize", {Rule::kWithinOnePercent, 1}},
  };
  return kPromises;
}

struct TableRow {
  std::string policy;
  SizeUnit unit;
  std::uint64_t capacity;
  std::uint64_t requests;
  std::uint64_t misses;
  std::uint64_t miss_bytes;
};

std::vector<TableRow> read_table(const std::filesystem::path& file) {
  std::vector<TableRow> rows;
  std::ifstream in(file);
  std::string line;
  std::getline(in, line);
  while (std::getline(in, line)) {
    std::stringstream fields(line);
    std::vector<std::string> field;
    for (std::string one; std::getline(fields, one, ',');) field.push_back(one);
    rows.push_back({field[0], field[1] == "bytes" ? SizeUnit::kBytes : SizeUnit::kObjects,
                    std::stoull(field[2]), std::stoull(field[3]), std::stoull(field[4]),
                    std::stoull(field[6])});
  }
  return rows;
}

// If this failed, a policy would no longer decide as the independent simulator libCacheSim (6d3d368) does on
// a real block trace, in requests or in bytes, at one of seventeen sizes.
TEST(CloudPhysics, MissCountsEqualLibCacheSims) {
  LORACLE_SHARED_FILE(trace_file, "traces/libcachesim/cloudPhysicsIO.oracleGeneral.zst");
  LORACLE_SHARED_FILE(table_file, "golden/libcachesim-cloudphysics.csv");
  const Result<Trace> trace = read_trace(trace_file.string(), {});
  ASSERT_TRUE(trace) << trace.error().message;
  Result<UseStream> stream = make_use_stream(*trace);
  ASSERT_TRUE(stream);
  compute_next_uses(*stream);
  std::size_t compared = 0;
  for (const TableRow& row : read_table(table_file)) {
    const auto promise = promises().find(row.policy);
    if (promise == promises().end()) continue;
    if (row.unit == SizeUnit::kObjects && row.capacity < promise->second.unit_capacity_min) continue;
    ReplayJob job{row.policy, {}};
    (row.unit == SizeUnit::kBytes ? job.capacity.bytes.value : job.capacity.entries) = row.capacity;
    const Result<ReplayCounts> counts = replay(*stream, row.unit, job);
    ASSERT_TRUE(counts) << counts.error().message;
    const std::string where =
        row.policy + (row.unit == SizeUnit::kBytes ? " bytes " : " unit ") + std::to_string(row.capacity);
    EXPECT_EQ(counts->requests, row.requests) << where;
    if (promise->second.rule == Rule::kExact) {
      EXPECT_EQ(counts->misses, row.misses) << where;
      EXPECT_EQ(counts->bytes_missed.value, row.miss_bytes) << where;
    } else {
      EXPECT_NEAR(static_cast<double>(counts->misses), static_cast<double>(row.misses),
                  0.01 * static_cast<double>(row.misses))
          << where;
    }
    ++compared;
  }
  EXPECT_EQ(compared, 14U * 17U + 16U + 14U);  // 9 + 8 sizes; s3fifo without 8, lirs without 8 .. 128
}

// If this failed, a queue of ours would round to nothing again at the sizes max_loras has, and cache nothing
// at all.
TEST(CloudPhysics, SmallCachesCacheSomethingWhereLibCacheSimsCacheNothing) {
  LORACLE_SHARED_FILE(trace_file, "traces/libcachesim/cloudPhysicsIO.oracleGeneral.zst");
  const Result<Trace> trace = read_trace(trace_file.string(), {});
  ASSERT_TRUE(trace) << trace.error().message;
  const Result<UseStream> stream = make_use_stream(*trace);
  ASSERT_TRUE(stream);
  for (const char* policy : {"s3fifo", "wtinylfu"}) {
    for (const std::uint64_t entries : {1U, 2U, 8U, 19U, 32U}) {
      const Result<ReplayCounts> counts =
          replay(*stream, SizeUnit::kObjects, {policy, {entries, Bytes{kUnlimited}}});
      ASSERT_TRUE(counts) << counts.error().message;
      EXPECT_LT(counts->misses, counts->requests) << policy << " at " << entries;
    }
  }
}

}  // namespace
}  // namespace loracle
