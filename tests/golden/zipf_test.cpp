// Golden miss counts on a synthetic Zipf trace: 10,000 ids, 20 million requests, seed 7, made in memory.
// Where the numbers come from: support/zipf_stream.hpp.

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <string>

#include "loracle/sim/curves.hpp"
#include "loracle/sim/replay.hpp"
#include "support/zipf_stream.hpp"

namespace loracle {
namespace {

const UseStream& zipf_stream() {
  static const UseStream kStream = testing::zipf_stream(10'000, 20'000'000, 7);
  return kStream;
}

constexpr std::array<std::uint64_t, 7> kSizes = {4, 8, 16, 32, 64, 100, 1000};

struct Expected {
  const char* policy;
  std::array<std::uint64_t, 7> misses;  // 0: libCacheSim caches nothing or too much there: its defects
};

class ZipfGolden : public ::testing::TestWithParam<Expected> {};

// If this failed, a policy would decide differently from the independent simulator at the sizes max_loras
// has.
TEST_P(ZipfGolden, MissCountsEqualLibCacheSims) {
  for (std::size_t i = 0; i < kSizes.size(); ++i) {
    if (GetParam().misses[i] == 0) continue;
    const Result<ReplayCounts> counts =
        replay(zipf_stream(), SizeUnit::kObjects, {GetParam().policy, {kSizes[i], Bytes{kUnlimited}}});
    ASSERT_TRUE(counts) << counts.error().message;
    EXPECT_EQ(counts->misses, GetParam().misses[i]) << GetParam().policy << " at " << kSizes[i];
  }
}

INSTANTIATE_TEST_SUITE_P(
    Policies, ZipfGolden,
    ::testing::Values(
        Expected{"lru", {18751110, 17784373, 16415152, 14845329, 13238359, 12188171, 6487411}},
        Expected{"fifo", {18836539, 18042859, 16959830, 15641904, 14157164, 13142806, 7380445}},
        Expected{"clock", {18678262, 17591714, 16125799, 14551573, 12951832, 11907556, 6279688}},
        Expected{"sieve", {17011818, 15284104, 13706900, 12192634, 10701815, 9760988, 4929513}},
        Expected{"slru", {16572839, 15251837, 13866297, 12456435, 11036914, 10118894, 5325646}},
        Expected{"arc", {16791792, 15287432, 13821793, 12380028, 10954374, 10043918, 5429165}},
        Expected{"lirs", {0, 0, 0, 0, 0, 0, 5417231}},
        Expected{"lfu", {16745275, 14972152, 13715504, 12278605, 10881351, 9793068, 5230587}},
        Expected{"gdsf", {16741271, 15530328, 13963014, 12658407, 11202524, 10280192, 5206284}},
        Expected{"s3fifo", {0, 0, 0, 12132168, 10753004, 9871547, 5242247}},
        Expected{"belady", {15619025, 13918970, 12322118, 10789979, 9299806, 8356708, 3656654}}),
    [](const auto& param_info) { return std::string(param_info.param.policy); });

// If this failed, the one-pass curve would no longer be exact on a long trace.
TEST(ZipfCurve, EqualsTheReplayedCounts) {
  const LruCurve curve = lru_curve(zipf_stream());
  EXPECT_EQ(curve.misses(4), 18751110U);
  EXPECT_EQ(curve.misses(100), 12188171U);
  EXPECT_EQ(curve.misses(1000), 6487411U);
}

}  // namespace
}  // namespace loracle
