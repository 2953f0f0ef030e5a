#include "loracle/sim/regimes.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstdlib>
#include <numeric>
#include <string>
#include <vector>

#include "loracle/sim/stretches.hpp"
#include "loracle/traces/generate.hpp"
#include "regime_traces.hpp"

namespace loracle {
namespace {

using testing::kWeekRegimes;
using testing::regime_week;
using testing::RegimeLaw;
using testing::RegimeWeek;

Regimes regimes_of(const Trace& trace) {
  const auto stream = make_batch_stream(trace, NextUses::kUnknown);
  EXPECT_TRUE(stream) << stream.error().message;
  return stream ? find_regimes(*stream) : Regimes{};
}

Regimes regimes_of(const std::string& generator) {
  const auto options = parse_generator(generator);
  const auto trace = options ? generate(*options) : fail(options.error());
  EXPECT_TRUE(trace) << trace.error().message;
  return trace ? regimes_of(*trace) : Regimes{};
}

// If this fails, blocks are cut shorter than regimes, and intervals come out too narrow.
TEST(Regimes, ChangesAreFoundWhereTheyAre) {
  for (const std::uint64_t seed : {1U, 2U, 3U}) {
    const RegimeWeek week = regime_week(RegimeLaw::kFixedLength, seed);
    const Regimes regimes = regimes_of(week.trace);
    EXPECT_NEAR(static_cast<double>(regimes.begin.size()), kWeekRegimes, 10);  // some are alike
    std::uint32_t found = 0;
    for (const std::uint64_t change : week.changes) {
      const std::uint32_t stretch = stretch_of(change, week.trace.requests, regimes.stretches);
      for (const std::uint32_t begin : regimes.begin) found += begin + 1 >= stretch && begin <= stretch + 1;
    }
    EXPECT_GE(found, week.changes.size() * 90 / 100);
  }
}

// If this fails, chance passes for change, and blocks are cut short for nothing.
TEST(Regimes, ATraceWithoutChangesIsOneRegime) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    for (const char* law : {"alpha=0.9", "alpha=0", "alpha=2", "adapters=2000", "adapters=3"}) {
      const Regimes regimes =
          regimes_of("zipf:" + std::string(law) + ":requests=30000:seed=" + std::to_string(seed));
      EXPECT_EQ(regimes.begin, std::vector<std::uint32_t>{0}) << law << ", seed " << seed;
      EXPECT_EQ(regimes.length_mean(), regimes.stretches);
    }
  }
}

// If this fails, slow drift is taken for no change at all.
TEST(Regimes, DriftIsCutWhereItHasCarriedFar) {
  Rng rng(5);
  std::vector<Row> uses;
  for (std::uint32_t i = 0; i < 40'000; ++i) uses.push_back(Row{i / 100 + rng.below(1 + rng.below(40))});
  Trace trace;
  trace.requests = uses.size();
  trace.uses = Column<Row>(std::move(uses));
  const Regimes regimes = regimes_of(trace);
  EXPECT_GT(regimes.begin.size(), 8U);
  EXPECT_LT(regimes.begin.size(), 200U);
}

// If this fails, a few requests are read as a trend, or the last stretch runs over the end.
TEST(Regimes, StretchesCoverEveryRequestOnceAndFewRequestsHaveNone) {
  EXPECT_EQ(stretches_for(0), 0U);
  EXPECT_EQ(stretches_for(2047), 0U);
  EXPECT_EQ(stretches_for(2048), 16U);
  EXPECT_EQ(stretches_for(4'000'000'000), 4096U);
  for (const std::uint64_t requests : {2048U, 2049U, 99'991U, 1'000'000U}) {
    const std::uint32_t stretches = stretches_for(requests);
    EXPECT_EQ(stretch_begin(0, requests, stretches), 0U);
    EXPECT_EQ(stretch_begin(stretches, requests, stretches), requests);
    for (std::uint32_t i = 0; i < stretches; ++i) {
      const std::uint64_t begin = stretch_begin(i, requests, stretches);
      ASSERT_EQ(stretch_of(begin, requests, stretches), i);
      if (i > 0) {
        ASSERT_EQ(stretch_of(begin - 1, requests, stretches), i - 1);
      }
    }
  }
  const Regimes few = regimes_of("zipf:requests=100");
  EXPECT_EQ(few.stretches, 0U);
  EXPECT_TRUE(few.begin.empty());
  EXPECT_EQ(few.length_mean(), 0);
}

// If this fails, blocks follow the many short regimes and forget the long one that most requests fall in.
TEST(Regimes, TheMeanLengthIsThatOfTheRegimeARequestFallsIn) {
  const Regimes regimes{100, {0, 50, 60, 70, 80, 90}};
  EXPECT_DOUBLE_EQ(regimes.length_mean(), 0.5 * 50 + 0.5 * 10);
}

// If this fails, a plan's intervals count other requests than the plan does.
TEST(Stretches, AddUpToTheWholeInReplaysAndSimulations) {
  const RegimeWeek week = regime_week(RegimeLaw::kExponentialLength, 9);
  const auto stream = make_batch_stream(week.trace);
  ASSERT_TRUE(stream);
  const auto sum = [](const std::vector<StretchCounts>& stretches) {
    StretchCounts all;
    for (const StretchCounts& one : stretches) {
      all.requests += one.requests;
      all.uses += one.uses;
      all.gpu_hits += one.gpu_hits;
      all.disk_loads += one.disk_loads;
      all.waited_for_slot += one.waited_for_slot;
    }
    return all;
  };
  for (const char* tiers : {"vllm", "lru/lru", "sieve/gdsf", "belady/belady"}) {
    TierOptions options;
    options.tiers = tiers;
    options.max_loras = 12;
    options.max_cpu_loras = 60;
    options.stretches = 77;
    options.pins = {Row{3}};
    const auto replayed = replay_tiers(*stream, options);
    ASSERT_TRUE(replayed) << replayed.error().message;
    ASSERT_EQ(replayed->stretches.size(), 77U);
    EXPECT_EQ(sum(replayed->stretches),
              (StretchCounts{stream->requests(), replayed->counts.uses, replayed->counts.gpu_hits,
                             replayed->counts.disk_loads, 0}))
        << tiers;
    if (std::string(tiers) == "vllm" || std::string(tiers) == "belady/belady") continue;
    for (const Boundary boundary : {Boundary::kInclusive, Boundary::kExclusive}) {
      EventOptions events;
      events.tiers = options;
      events.tiers.boundary = boundary;
      events.slot.latency_s = 0.01;
      events.max_num_seqs = 20;
      const auto outcome = simulate_events(week.trace, *stream, events);
      ASSERT_TRUE(outcome) << outcome.error().message;
      EXPECT_GT(outcome->waited_for_seat, 0U);
      EXPECT_EQ(sum(outcome->stretches),
                (StretchCounts{outcome->requests, outcome->counts.uses, outcome->counts.gpu_hits,
                               outcome->counts.disk_loads, outcome->waited_for_slot}))
          << tiers;
    }
  }
}

}  // namespace
}  // namespace loracle
