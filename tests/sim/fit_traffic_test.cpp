#include "loracle/sim/fit_traffic.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "loracle/traces/generate.hpp"
#include "loracle/traces/read.hpp"
#include "loracle/traces/synthesize.hpp"
#include "loracle/traces/transform.hpp"
#include "support/shared_data.hpp"

namespace loracle {
namespace {

Trace generated(const char* generator) {
  const Result<GenerateOptions> options = parse_generator(generator);
  EXPECT_TRUE(options) << options.error().message;
  const Result<Trace> trace = generate(*options);
  EXPECT_TRUE(trace);
  return *trace;
}

/// One adapter a letter, a request a letter, at the times given (none: no times).
Trace lettered(const std::string& letters, const std::vector<double>& times) {
  Trace trace;
  trace.source = "letters";
  trace.requests = letters.size();
  std::string names;
  std::vector<Row> uses;
  for (const char letter : letters) {
    if (names.find(letter) == std::string::npos) names += letter;
    uses.push_back(Row{static_cast<std::uint32_t>(names.find(letter))});
  }
  std::vector<std::uint64_t> begin;
  for (std::uint64_t i = 0; i <= names.size(); ++i) begin.push_back(i);
  trace.uses = uses;
  trace.arrival_s = times;
  trace.adapters.name = {begin, std::vector<char>(names.begin(), names.end())};
  return trace;
}

TraceFit fit_of(const Trace& trace, const FitOptions& options = {}) {
  const Result<TraceFit> fit = fit_traffic(trace, options);
  EXPECT_TRUE(fit) << fit.error().message;
  return fit.value_or(TraceFit{});
}

// If this failed, a comparison would not see the sizes at which two traces differ. By hand: in abab every use
// after the first two is at distance 2, in aabb one at distance 1 each.
TEST(MatchTraces, FindsTheLargestDifferenceOfTheCurves) {
  const Trace alternating = lettered("abababababababababab", {});
  const Trace in_runs = lettered("aaaaaaaaaabbbbbbbbbb", {});
  const Result<TraceMatch> match = match_traces(alternating, in_runs, 10);
  ASSERT_TRUE(match);
  EXPECT_EQ(match->at_entries, 1U);
  EXPECT_NEAR(match->miss_difference, 2.0 / 20 - 1, 1e-12);
  EXPECT_FALSE(match->accepted);
  EXPECT_FALSE(match->source_active_p99);
  const Result<TraceMatch> same = match_traces(in_runs, in_runs, 10);
  ASSERT_TRUE(same);
  EXPECT_TRUE(same->accepted);
  EXPECT_EQ(same->miss_difference, 0);
  EXPECT_FALSE(match_traces(in_runs, in_runs, 0));
  EXPECT_FALSE(match_traces(Trace{}, in_runs, 1));
}

// If this failed, a trace whose adapters crowd at once would be taken for one whose adapters do not.
TEST(MatchTraces, ComparesTheAdaptersInUseAtOnce) {
  const std::string letters = "abcdabcdabcdabcdabcd";
  std::vector<double> slow;
  std::vector<double> fast;
  for (std::size_t i = 0; i < letters.size(); ++i) {
    slow.push_back(100.0 * static_cast<double>(i));
    fast.push_back(static_cast<double>(i));
  }
  const Result<TraceMatch> match = match_traces(lettered(letters, slow), lettered(letters, fast), 10);
  ASSERT_TRUE(match);
  EXPECT_EQ(match->miss_difference, 0) << "the order is the same";
  EXPECT_EQ(match->source_active_p99, 1U);
  EXPECT_EQ(match->synthetic_active_p99, 4U);
  EXPECT_EQ(match->held_s, 10.0);
  EXPECT_FALSE(match->accepted);
  EXPECT_NE(match_text(*match).find("NOT ACCEPTED"), std::string::npos);
}

// If this failed, the laws of a trace would not be those it was made with: each within three standard errors
// (the shares of popularity by rank, so alpha with a little more).
TEST(FitTraffic, FindsTheLawsOfAGeneratedTrace) {
  for (const char* seed : {"1", "2", "3"}) {
    const Trace trace = generated(
        (std::string("zipf:adapters=60:requests=30000:rate=5:alpha=0.9:duration=3:seed=") + seed).c_str());
    const TraceFit fit = fit_of(trace);
    ASSERT_TRUE(fit.popularity.fit);
    EXPECT_NEAR(fit.popularity.fit->alpha, 0.9, 4 * fit.popularity.fit->alpha_se + 0.01);
    EXPECT_LT(fit.popularity.fit->ks, 0.02);
    ASSERT_TRUE(fit.gaps.fit);
    EXPECT_NEAR(fit.gaps.fit->gamma.shape, 1, 3 * fit.gaps.fit->gamma.shape_se);
    EXPECT_NEAR(fit.gaps.fit->mean_s, 0.2, 3 * 0.2 / std::sqrt(30'000));
    EXPECT_EQ(fit.gaps.fit->best, GapFamily::kExponential);
    EXPECT_GT(fit.adapter_gaps.size(), 50U);
    // Independent draws: one regime, and shuffling changes nothing but by chance.
    EXPECT_EQ(fit.churn.regimes, 1U);
    for (const LocalityPoint& point : fit.locality) EXPECT_NEAR(point.misses, point.shuffled_misses, 0.012);
    EXPECT_TRUE(fit.accepted());
    EXPECT_LE(fit.attempts.size(), 3U) << "nothing changes: few windows are enough";
    for (const HoldingLaw& holding : fit.model.holding)
      EXPECT_NEAR(holding.gamma_shape, 1, 0.6) << "exponential, by a hundred requests or more";
  }
}

// If this failed, changes of popularity would be overlooked, and what draws from the fit would have none.
TEST(FitTraffic, SeesChurnAndLocality) {
  const Trace trace =
      generated("regimes:adapters=200:requests=60000:rate=20:alpha=1:regime_s=300:churn=0.5:seed=4");
  const TraceFit fit = fit_of(trace);
  // 3000 s in regimes of 300 s; the last may be a stub.
  EXPECT_GE(fit.churn.regimes, 9U);
  EXPECT_LE(fit.churn.regimes, 12U);
  EXPECT_NEAR(fit.churn.regime_requests, 6000, 700);
  EXPECT_GT(fit.churn.distance, 0.6);
  EXPECT_LT(fit.churn.top10_kept, 0.3);
  EXPECT_GT(fit.churn.late_use_share, 0.5);
  bool is_local = false;
  for (const LocalityPoint& point : fit.locality) is_local |= point.misses < point.shuffled_misses - 0.05;
  EXPECT_TRUE(is_local);
  EXPECT_TRUE(fit.accepted());
  EXPECT_GT(fit.attempts.size(), 1U) << "one window would mix the regimes";
}

// If this failed, a document would not hold the model that was fitted.
TEST(FitTraffic, ItsDocumentReadsBackAndIsTheSameTwice) {
  const Trace trace = generated("zipf:adapters=20:requests=2000:rate=5:input_tokens=100:duration=2:seed=9");
  const TraceFit fit = fit_of(trace);
  const std::string json = fit_json(fit);
  EXPECT_EQ(json, fit_json(fit_of(trace)));
  const Result<TrafficModel> read = parse_traffic_model(json, "fit.json");
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_TRUE(*read == fit.model);
  EXPECT_TRUE(read->input_tokens.has_value());
  EXPECT_FALSE(read->output_tokens.has_value());
  EXPECT_NE(fit_text(fit).find("ACCEPTED"), std::string::npos);
}

// If this failed, a poor trace would crash the fit, or get an answer that it cannot carry.
TEST(FitTraffic, SaysWhatPoorTracesCannotSettle) {
  const auto refused = [](const Trace& trace, const FitOptions& options, const char* words) {
    const Result<TraceFit> fit = fit_traffic(trace, options);
    ASSERT_FALSE(fit) << words;
    EXPECT_NE(fit.error().message.find(words), std::string::npos) << fit.error().message;
  };
  refused(lettered("a", {0}), {}, "1 requests");
  refused(lettered("ab", {5, 5}), {}, "at once");
  refused(lettered("ab", {0, 5}), {.window_s = 1e-9}, "windows");
  refused(lettered("ab", {0, 5}), {.held_s = 0}, "above 0");
  Trace base_model = lettered("ab", {0, 5});
  base_model.uses = std::vector<Row>{};
  base_model.use_begin = std::vector<std::uint64_t>{0, 0, 0};
  refused(base_model, {}, "no request names an adapter");

  // One adapter, on the clock: no popularity law and no law of gaps, and still a trace like it.
  std::vector<double> clock;
  for (int i = 0; i < 40; ++i) clock.push_back(2.5 * i);
  const TraceFit one = fit_of(lettered(std::string(40, 'a'), clock));
  EXPECT_FALSE(one.popularity.fit);
  EXPECT_NE(one.popularity.why.find("two adapters"), std::string::npos);
  EXPECT_FALSE(one.gaps.fit);
  EXPECT_NE(one.gaps.why.find("2.5 s"), std::string::npos) << one.gaps.why;
  EXPECT_FALSE(one.durations.fit);
  EXPECT_TRUE(one.accepted());
  EXPECT_GT(one.model.shape[0], 100) << "as regular as shapes go";

  const TraceFit untimed = fit_of(lettered("abcabcaabbccabcabcaabbcc", {}));
  EXPECT_FALSE(untimed.gaps.fit);
  EXPECT_NE(untimed.gaps.why.find("no arrival times"), std::string::npos);
  EXPECT_FALSE(untimed.model.timed);
  EXPECT_NE(fit_text(untimed).find("not compared"), std::string::npos);
  const TraceFit two = fit_of(lettered("ab", {0, 5}));
  EXPECT_EQ(two.model.span_s(), 10) << "two requests, one every 5 s";
}

// If this failed, traces drawn from the fits of real traces would not be like them: within 2 points of their
// LRU misses at every size and within 1 adapter in use, for seeds that the fit did not try.
TEST(FitTraffic, DrawsTracesLikeTheRealOne) {
  LORACLE_SHARED_FILE(file, "traces/gentd26/adapter_requests_timed_d00-11.csv.gz");
  const Result<Trace> trace = read_trace(file.string(), {});
  ASSERT_TRUE(trace) << trace.error().message;
  const TraceFit fit = fit_of(*trace);
  EXPECT_TRUE(fit.accepted());
  EXPECT_LT(fit.attempts.back().cells, fit.requests / 2) << "else the model is the trace itself";
  int accepted = 0;
  for (std::uint64_t seed = 101; seed <= 110; ++seed) {
    const Result<Trace> drawn = synthesize(fit.model, {.seed = seed});
    ASSERT_TRUE(drawn);
    const Result<TraceMatch> match = match_traces(*trace, *drawn, 10);
    ASSERT_TRUE(match);
    EXPECT_FALSE(match->held_s) << "the trace says how long";
    accepted += match->accepted ? 1 : 0;
  }
  EXPECT_GE(accepted, 9);
  // And shuffled, as independent draws would have it, it is refused by far.
  Trace by_chance = generated("zipf:adapters=174:requests=1573:rate=0.002:alpha=0.8:duration=40:seed=1");
  const Result<TraceMatch> match = match_traces(*trace, by_chance, 10);
  ASSERT_TRUE(match);
  EXPECT_GT(std::abs(match->miss_difference), 0.2);
  EXPECT_FALSE(match->accepted);
}

// If this failed, the same would hold of the arrivals of a real service of language models.
TEST(FitTraffic, DrawsTracesLikeThatOfALanguageModel) {
  LORACLE_SHARED_FILE(file, "traces/azure_llm2023/AzureLLMInferenceTrace_conv.csv.gz");
  const Result<Trace> trace = read_trace(file.string(), {});
  ASSERT_TRUE(trace) << trace.error().message;
  const TraceFit fit = fit_of(*trace);
  EXPECT_TRUE(fit.accepted());
  EXPECT_LT(fit.attempts.back().cells, fit.requests / 4);
  ASSERT_TRUE(fit.popularity.fit);
  EXPECT_NEAR(fit.popularity.fit->alpha, 0.9, 0.02) << "its adapters are drawn with 0.9";
}

}  // namespace
}  // namespace loracle
