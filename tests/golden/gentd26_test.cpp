#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>

#include "loracle/sim/replay.hpp"
#include "loracle/traces/read.hpp"
#include "support/shared_data.hpp"

namespace loracle {
namespace {

/// Miss ratios to three places at 8, 32 and 128 adapters, counted by hand-written scripts when the trace was
/// studied.
struct Expected {
  const char* policy;
  double at_8, at_32, at_128;
};

void expect_ratios(double fold_period_s, std::initializer_list<Expected> table) {
  LORACLE_SHARED_FILE(file, "traces/gentd26/adapter_requests_timed_d00-11.csv.gz");
  ReadOptions options;
  options.fold_period_s = fold_period_s;
  const Result<Trace> trace = read_trace(file.string(), options);
  ASSERT_TRUE(trace) << trace.error().message;
  EXPECT_EQ(trace->requests, 9930U);
  Result<UseStream> stream = make_use_stream(*trace);
  ASSERT_TRUE(stream);
  ASSERT_EQ(stream->uses.size(), 1573U);
  compute_next_uses(*stream);
  for (const Expected& expected : table) {
    const double ratios[] = {expected.at_8, expected.at_32, expected.at_128};
    const std::uint64_t sizes[] = {8, 32, 128};
    for (int i = 0; i < 3; ++i) {
      const Result<ReplayCounts> counts =
          replay(*stream, SizeUnit::kObjects, {expected.policy, {sizes[i], Bytes{kUnlimited}}});
      ASSERT_TRUE(counts) << counts.error().message;
      EXPECT_NEAR(static_cast<double>(counts->misses) / 1573.0, ratios[i], 0.0005)
          << expected.policy << sizes[i];
    }
  }
}

// If this failed, a real LoRA trace would be read or replayed differently from how it was when it was
// studied.
TEST(GenTD26, MissRatiosInRealOrder) {
  expect_ratios(0, {{"lru", .223, .154, .113}, {"belady", .175, .117, .111}});
}

// If this failed, folding would no longer raise concurrency the way its documentation says.
TEST(GenTD26, MissRatiosFoldedOntoOneHour) {
  expect_ratios(3600, {{"lru", .845, .364, .121}, {"belady", .561, .193, .111}});
}

}  // namespace
}  // namespace loracle
