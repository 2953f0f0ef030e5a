#include "loracle/sim/confidence.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "regime_traces.hpp"
#include "support/sanitized.hpp"

namespace loracle {
namespace {

using testing::Coverage;
using testing::coverage_of;
using testing::Figure;
using testing::RegimeLaw;

// If this fails, every interval is too wide or too narrow. Values: Abramowitz and Stegun, table 26.10.
TEST(Confidence, QuantilesOfStudentsDistributionAreThoseOfTheTable) {
  EXPECT_NEAR(student_t(0.5, 1), 1, 1e-12);
  EXPECT_NEAR(student_t(0.95, 1), 12.706, 0.0005);
  EXPECT_NEAR(student_t(0.95, 2), 4.303, 0.0005);
  EXPECT_NEAR(student_t(0.95, 3), 3.182, 0.0005);
  EXPECT_NEAR(student_t(0.95, 7), 2.365, 0.0005);
  EXPECT_NEAR(student_t(0.95, 10), 2.228, 0.0005);
  EXPECT_NEAR(student_t(0.95, 27), 2.052, 0.0005);
  EXPECT_NEAR(student_t(0.95, 120), 1.980, 0.0005);
  EXPECT_NEAR(student_t(0.99, 5), 4.032, 0.0005);
  EXPECT_NEAR(student_t(0.8, 20), 1.325, 0.0005);
  EXPECT_NEAR(student_t(0.95, 100000), 1.95999, 0.0001);
}

// By hand: eight blocks with shares .1 .3 .1 .3 ..: mean .2, deviation .1 * sqrt(8 / 7), of the mean
// .0378; t(7) = 2.365; in log-odds -1.3863 -+ .5588.
TEST(Confidence, IntervalsAreThoseWorkedOutByHand) {
  const std::vector<std::uint64_t> part = {10, 30, 10, 30, 10, 30, 10, 30};
  const std::vector<std::uint64_t> whole(8, 100);
  const Interval interval = block_interval(part, whole, 1);
  EXPECT_EQ(interval.blocks, 8U);
  EXPECT_EQ(interval.confidence, kConfidence);
  EXPECT_NEAR(interval.low, 0.1251, 0.0002);
  EXPECT_NEAR(interval.high, 0.3042, 0.0002);
}

// If this fails, a few blocks, or blocks that are one another's echo, pass for evidence.
TEST(Confidence, TooFewBlocksOrCorrelatedOnesGiveARange) {
  std::vector<std::uint64_t> part(64);
  const std::vector<std::uint64_t> whole(64, 1000);
  for (std::size_t i = 0; i < part.size(); ++i) part[i] = 100 + i % 2;
  EXPECT_EQ(block_interval(part, whole, 1).blocks, 64U);
  EXPECT_EQ(block_interval(part, whole, 8).blocks, 8U);
  Interval few = block_interval(part, whole, 8.1);
  EXPECT_EQ(few.confidence, 0);
  EXPECT_EQ(few.blocks, kBlocksMin);
  for (std::size_t i = 0; i < part.size(); ++i) part[i] = 100 + 10 * (i / 8);  // a slow rise
  few = block_interval(part, whole, 1);
  EXPECT_EQ(few, (Interval{0.1, 0.17, 0, kBlocksMin}));
}

// If this fails, "0 %" is said to be certain, or a plan of a short trace ends the program.
TEST(Confidence, NothingIsKnownOfWhatNeverHappenedOrOfAFewStretches) {
  const std::vector<std::uint64_t> whole(20, 50);
  EXPECT_EQ(block_interval(std::vector<std::uint64_t>(20, 0), whole, 1), Interval{});
  EXPECT_EQ(block_interval(whole, whole, 1), Interval{});
  EXPECT_EQ(block_interval({}, {}, 0), Interval{});
  const std::vector<std::uint64_t> ones(7, 1);
  EXPECT_EQ(block_interval(ones, std::vector<std::uint64_t>(7, 2), 1), Interval{});
}

// If this fails, intervals of 95 % hold the truth less often than 9 times in 10. Seven days, regimes of an
// hour; the truth is the mean of all traces. (confidence_soak_test.cpp: more of them, and waits.)
TEST(Confidence, IntervalsHoldTheTruthOverSevenDaysOfRegimes) {
  LORACLE_SKIP_IF_SANITIZED();
  constexpr std::uint32_t kWeeks = 30;
  for (const RegimeLaw law : {RegimeLaw::kFixedLength, RegimeLaw::kExponentialLength}) {
    const Coverage coverage = coverage_of(law, Figure::kMisses, kWeeks);
    EXPECT_GE(coverage.intervals, kWeeks * 8 / 10);
    EXPECT_GE(10 * coverage.held, 9 * coverage.intervals) << "half-width " << coverage.half_width;
    EXPECT_LT(coverage.half_width, 0.06);
  }
}

}  // namespace
}  // namespace loracle
