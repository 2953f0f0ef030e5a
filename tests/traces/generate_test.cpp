#include "loracle/traces/generate.hpp"

#include <gtest/gtest.h>
#include <xxhash.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "../../traces/src/alias_table.hpp"
#include "../../traces/src/exact_math.hpp"
#include "loracle/traces/check_trace.hpp"
#include "same_trace.hpp"

namespace loracle {
namespace {

GenerateOptions options_of(const std::string& text) {
  const auto options = parse_generator(text);
  EXPECT_TRUE(options) << options.error().message;
  return options ? *options : GenerateOptions{};
}
Trace generated(const std::string& text) {
  auto trace = generate(options_of(text));
  EXPECT_TRUE(trace) << trace.error().message;
  return trace ? *trace : Trace{};
}

template <class T>
void update(XXH3_state_t* state, const Column<T>& column) {
  XXH3_64bits_update(state, column.view().data(), column.view().size_bytes());
}
std::uint64_t hash_of(const Trace& trace) {
  XXH3_state_t* const state = XXH3_createState();
  XXH3_64bits_reset(state);
  update(state, trace.uses);
  update(state, trace.arrival_s);
  update(state, trace.input_tokens);
  update(state, trace.output_tokens);
  update(state, trace.duration_s);
  update(state, trace.adapters.name.begin);
  update(state, trace.adapters.name.text);
  update(state, trace.adapters.bytes);
  update(state, trace.adapters.rank);
  const std::uint64_t hash = XXH3_64bits_digest(state);
  XXH3_freeState(state);
  return hash;
}

/// Uses of each adapter by number, taken from its name.
std::vector<std::uint64_t> counts_of(const Trace& trace) {
  std::vector<std::uint64_t> by_row(trace.rows(), 0);
  for (const Row row : trace.uses.view()) ++by_row[index_of(row)];
  std::vector<std::uint64_t> counts(trace.rows(), 0);
  for (std::uint32_t row = 0; row < trace.rows(); ++row) {
    counts[std::stoul(std::string(trace.adapters.name[row].substr(8)))] = by_row[row];
  }
  return counts;
}

struct Golden {
  const char* text;
  std::uint64_t hash;
};
class GoldenTrace : public ::testing::TestWithParam<Golden> {};
INSTANTIATE_TEST_SUITE_P(
    Generators, GoldenTrace,
    ::testing::Values(
        Golden{"zipf:adapters=1000:requests=20000:duration=2:input_tokens=500:output_tokens=100:seed=42",
               11524233138628928048ULL},
        Golden{"s-lora-power:adapters=1000:requests=20000:alpha=0.3:rate=1234.5:seed=42",
               11398377540157453150ULL},
        Golden{"regimes:adapters=200:requests=20000:rate=20:regime_s=100:churn=0.3:seed=42",
               4189095942976961376ULL}));

// If this fails, a seed no longer means the same trace: on this platform, or since a change. Results that
// were published with a generator line cannot be reproduced then. The hashes are XXH3-64 of all columns, made
// by the first version on x86-64 with g++ 12 and the same with clang 14.
TEST_P(GoldenTrace, HasTheBytesItAlwaysHad) {
  const Trace trace = generated(GetParam().text);
  EXPECT_TRUE(check_trace(trace));
  EXPECT_EQ(hash_of(trace), GetParam().hash);
}

// If this fails, the seed does not reach a column.
TEST(Generate, GivesAnotherTraceForAnotherSeed) {
  const std::string text = "zipf:requests=1000:duration=1:input_tokens=9:output_tokens=9:seed=";
  const Trace a = generated(text + "1");
  const Trace b = generated(text + "2");
  const auto differ = [](const auto& x, const auto& y) {
    return !std::equal(x.view().begin(), x.view().end(), y.view().begin(), y.view().end());
  };
  EXPECT_TRUE(differ(a.uses, b.uses));
  EXPECT_TRUE(differ(a.arrival_s, b.arrival_s));
  EXPECT_TRUE(differ(a.duration_s, b.duration_s));
  EXPECT_TRUE(differ(a.input_tokens, b.input_tokens));
  EXPECT_TRUE(differ(a.output_tokens, b.output_tokens));
  EXPECT_TRUE(differ(a.adapters.rank, b.adapters.rank));
}

// If this fails, changing one knob changes everything, and no two runs can be compared.
TEST(Generate, DrawsEachKindFromItsOwnStream) {
  const Trace plain = generated("zipf:requests=1000");
  const Trace more = generated("zipf:requests=2000:duration=3:input_tokens=100");
  for (std::size_t i = 0; i < 1000; ++i) {
    ASSERT_EQ(plain.arrival_s[i], more.arrival_s[i]);
    ASSERT_EQ(plain.adapters.name[index_of(plain.uses[i])], more.adapters.name[index_of(more.uses[i])]);
  }
  std::map<std::string_view, std::uint16_t> rank;
  for (std::uint32_t row = 0; row < plain.rows(); ++row)
    rank[plain.adapters.name[row]] = plain.adapters.rank[row];
  for (std::uint32_t row = 0; row < more.rows(); ++row) {
    EXPECT_EQ(rank[more.adapters.name[row]], more.adapters.rank[row]);
  }
}

// If this fails, popularity does not follow the law in the trace's label. 5 standard deviations.
TEST(Generate, DrawsAdaptersByZipfsLaw) {
  for (const double alpha : {0.0, 0.9, 1.0, 2.5}) {
    const Trace trace = generated("zipf:adapters=300:requests=200000:alpha=" + std::to_string(alpha));
    const std::vector<std::uint64_t> counts = counts_of(trace);
    double total = 0;
    for (int k = 1; k <= 300; ++k) total += std::pow(k, -alpha);
    for (std::size_t k = 0; k < counts.size(); ++k) {
      const double p = std::pow(static_cast<double>(k + 1), -alpha) / total;
      const double deviation = std::sqrt(200'000 * p * (1 - p));
      EXPECT_NEAR(static_cast<double>(counts[k]), 200'000 * p, 5 * deviation + 1)
          << "alpha " << alpha << ", k " << k;
    }
  }
}

// If this fails, our "S-LoRA" numbers are not comparable with S-LoRA's.
TEST(Generate, DrawsAdaptersByThePowerOfSLora) {
  const double n = 50;
  for (const double alpha : {0.1, 0.3, 1.0}) {
    const Trace trace = generated("s-lora-power:adapters=50:requests=200000:alpha=" + std::to_string(alpha));
    const std::vector<std::uint64_t> counts = counts_of(trace);
    for (std::size_t k = 0; k < counts.size(); ++k) {
      const double at = static_cast<double>(k);
      const double p = std::pow((at + 1) / n, alpha) - std::pow(at / n, alpha);
      EXPECT_NEAR(static_cast<double>(counts[k]), 200'000 * p, 5 * std::sqrt(200'000 * p) + 1) << k;
    }
  }
}

// If this fails, arrivals are not Poisson: wrong rate, or gaps of the wrong spread.
TEST(Generate, ArrivesAsAPoissonProcess) {
  const Trace trace = generated("zipf:requests=200000:rate=37");
  double sum = 0;
  double squares = 0;
  double before = 0;
  for (std::size_t i = 0; i < 200'000; ++i) {
    const double gap = trace.arrival_s[i] - before;
    before = trace.arrival_s[i];
    sum += gap;
    squares += gap * gap;
    ASSERT_EQ(std::round(before * 1e6) / 1e6, before) << "whole microseconds";
  }
  const double mean = sum / 200'000;
  EXPECT_NEAR(mean * 37, 1, 0.012);
  EXPECT_NEAR(std::sqrt(squares / 200'000 - mean * mean) / mean, 1, 0.02) << "coefficient of variation";
}

// If this fails, a high rate is rounded away.
TEST(Generate, KeepsARateOfMillions) {
  const Trace trace = generated("zipf:requests=1000000:rate=3000000");
  EXPECT_NEAR(trace.arrival_s[999'999], 1.0 / 3, 0.002);
}

// If this fails, von Neumann's exponential is not exponential: its distribution function is off somewhere.
TEST(Generate, DrawsExponentials) {
  Rng rng(5);
  std::vector<int> below(60, 0);
  const int draws = 400'000;
  for (int i = 0; i < draws; ++i) {
    const double x = std::ldexp(static_cast<double>(draw_exponential(rng)), -32);
    for (std::size_t at = static_cast<std::size_t>(x * 10) + 1; at < below.size(); ++at) ++below[at];
  }
  for (std::size_t at = 1; at < below.size(); ++at) {
    const double p = 1 - std::exp(-static_cast<double>(at) / 10);
    EXPECT_NEAR(below[at] / static_cast<double>(draws), p, 5 * std::sqrt(p * (1 - p) / draws)) << at;
  }
}

// If this fails, mean tokens and durations are not what was asked for.
TEST(Generate, MeetsTheMeans) {
  const Trace trace = generated("zipf:requests=100000:duration=2.5:input_tokens=800:output_tokens=40");
  double input = 0;
  double output = 0;
  double duration = 0;
  for (std::size_t i = 0; i < 100'000; ++i) {
    ASSERT_GE(trace.output_tokens[i], 1U);
    input += trace.input_tokens[i];
    output += trace.output_tokens[i];
    duration += static_cast<double>(trace.duration_s[i]);
  }
  EXPECT_NEAR(input / 1e5, 800, 15);
  EXPECT_NEAR(output / 1e5, 40, 0.8);
  EXPECT_NEAR(duration / 1e5, 2.5, 0.05);
  const Trace none = generated("zipf:requests=10");
  EXPECT_TRUE(none.duration_s.empty() && none.input_tokens.empty() && none.output_tokens.empty());
}

// If this fails, adapters have ranks nobody asked for, or sizes that do not follow from them.
TEST(Generate, GivesRanksFromTheSetAndBytesByRank) {
  const Trace trace = generated("zipf:adapters=4000:requests=10:ranks=8,16,64:bytes_per_rank=1000");
  ASSERT_EQ(trace.rows(), 4000U) << "adapters that are not used are described all the same";
  std::map<int, int> count;
  for (std::uint32_t row = 0; row < trace.rows(); ++row) {
    ++count[trace.adapters.rank[row]];
    ASSERT_EQ(trace.adapters.bytes[row], 1000U * trace.adapters.rank[row]);
  }
  ASSERT_EQ(count.size(), 3U);
  for (const int rank : {8, 16, 64}) EXPECT_NEAR(count[rank], 1333, 150);
}

// If this fails, regimes do not change who is popular, or replace too many or too few adapters.
TEST(Generate, DealsPopularityOutAnewAtEachRegime) {
  const Trace trace =
      generated("regimes:adapters=100:requests=40000:rate=10:regime_s=1000:churn=0.25:alpha=1.2");
  EXPECT_TRUE(check_trace(trace));
  std::vector<std::map<std::string_view, int>> seen;  // by regime
  for (std::size_t i = 0; i < trace.requests; ++i) {
    const auto regime = static_cast<std::size_t>(trace.arrival_s[i] / 1000);
    if (regime >= seen.size()) seen.resize(regime + 1);
    ++seen[regime][trace.adapters.name[index_of(trace.uses[i])]];
  }
  const auto last = static_cast<std::size_t>(trace.arrival_s[39'999] / 1000);
  ASSERT_GE(last, 3U);
  EXPECT_EQ(trace.rows(), 100 + 25 * last);
  std::set<std::string_view> favourites;
  for (std::size_t regime = 0; regime < 3; ++regime) {
    const auto top = std::max_element(seen[regime].begin(), seen[regime].end(),
                                      [](const auto& a, const auto& b) { return a.second < b.second; });
    favourites.insert(top->first);
    EXPECT_LE(seen[regime].size(), 100U);
    if (regime == 0) continue;
    const auto shared = std::count_if(seen[regime].begin(), seen[regime].end(), [&](const auto& entry) {
      return seen[regime - 1].count(entry.first) > 0;
    });
    EXPECT_LE(shared, 75);
    EXPECT_GE(shared, 65) << "nearly all of the 100 are used in 10,000 requests";
  }
  EXPECT_GE(favourites.size(), 2U);
}

// If this fails, a large catalog is slow or wrong. (Building and drawing take about a second in a debug
// build.)
TEST(Generate, BearsAMillionAdapters) {
  const Trace trace = generated("zipf:adapters=1000000:requests=300000:alpha=0.9");
  EXPECT_EQ(trace.rows(), 1'000'000U);
  EXPECT_TRUE(check_trace(trace));
  const std::vector<std::uint64_t> counts = counts_of(trace);
  double total = 0;
  for (int k = 1; k <= 1'000'000; ++k) total += std::pow(k, -0.9);
  EXPECT_NEAR(static_cast<double>(counts[0]), 300'000 / total, 5 * std::sqrt(300'000 / total));
}

// If this fails, the line printed as a trace's source does not make that trace again.
TEST(Generate, MakesTheSameTraceFromItsOwnSourceLine) {
  for (const char* text :
       {"zipf", "s-lora-power:alpha=0.25:ranks=8", "regimes:churn=0.125:regime_s=33.3:rate=1e3"}) {
    const Trace trace = generated(text);
    testing::expect_same_trace(generated(trace.source), trace);
  }
}

// If this fails, a misspelt parameter is ignored, and a run is not what its command line says.
TEST(Generate, RefusesWhatItDoesNotUnderstand) {
  for (const char* text : {"zip",
                           "zipf:adapter=3",
                           "zipf:adapters=0",
                           "zipf:adapters=99999999999",
                           "zipf:adapters",
                           "zipf:alpha=-1",
                           "zipf:alpha=nan",
                           "zipf:rate=0",
                           "zipf:churn=0.5",
                           "regimes:churn=1.5",
                           "regimes:regime_s=0",
                           "zipf:ranks=",
                           "zipf:ranks=8,,9",
                           "zipf:ranks=0",
                           "zipf:requests=0",
                           "zipf:rate=1e-6:requests=1000000",
                           "zipf:duration=-1",
                           "s-lora-power:alpha=0",
                           "zipf:",
                           "regimes:adapters=10000000:rate=1:requests=100000000:regime_s=1",
                           ""}) {
    const auto options = parse_generator(text);
    ASSERT_FALSE(options) << text;
    EXPECT_EQ(options.error().code, Errc::kInvalid);
  }
}

// If this fails, some weight is given to an index that has none.
TEST(AliasTable, NeverDrawsAWeightOfZero) {
  const std::vector<std::uint64_t> weights = {0, 5, 0, 1, 0};
  const AliasTable table(weights);
  Rng rng(1);
  std::vector<int> counts(weights.size(), 0);
  for (int i = 0; i < 60'000; ++i) ++counts[table.draw(rng)];
  EXPECT_EQ(counts[0] + counts[2] + counts[4], 0);
  EXPECT_NEAR(counts[1], 50'000, 500);
}

// If this fails, the exact functions are exact only in name.
TEST(ExactMath, AgreesWithTheLibraryToTheLastPlaces) {
  Rng rng(9);
  for (int i = 0; i < 20'000; ++i) {
    const double x = std::ldexp(1 + rng.uniform(), static_cast<int>(rng.below(80)) - 40);
    ASSERT_NEAR(exact::log2(x), std::log2(x), 1e-15 * std::max(1.0, std::abs(std::log2(x)))) << x;
    const double y = (rng.uniform() - 0.5) * 200;
    ASSERT_NEAR(exact::exp2(y) / std::exp2(y), 1, 4e-15) << y;
  }
  EXPECT_EQ(exact::power(1, -0.9), 1);
  EXPECT_EQ(exact::power(8, 2), 64);
  EXPECT_EQ(exact::power(0, 0.1), 0);
  EXPECT_EQ(exact::power(123.456, 0), 1);
}

}  // namespace
}  // namespace loracle
