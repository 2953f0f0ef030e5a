#include "loracle/traces/traffic_model.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "loracle/core/rng.hpp"
#include "loracle/traces/check_trace.hpp"
#include "loracle/traces/synthesize.hpp"
#include "loracle/traces/write.hpp"
#include "support/sanitized.hpp"

namespace loracle {
namespace {

/// Three adapters ("c" comes and goes), four sets (the base model, a, b with c, c), three windows of 100 s.
TrafficModel small_model() {
  TrafficModel model;
  model.source = "s.jsonl";
  model.format = "jsonl";
  model.mapping = "lora";
  model.requests = 100;
  model.window_s = 100;
  model.name = {"a", "b", "c"};
  model.bytes = {10, 20, 0};
  model.rank = {8, 16, 0};
  model.lasting = {1, 1, 0};
  model.set_begin = {0, 0, 1, 3, 4};
  model.set_adapters = {0, 1, 2, 2};
  model.shape = {1, 0.25, 2, 0.0125};
  model.holding = {{1, {0, 0.5}, 0, 0}, {0.5, {1, 0}, 0, 0}, {0, {}, 2.5, 4}, {1, {-1.5, 2}, 0, 0}};
  model.window_begin = {0, 3, 3, 5};
  model.cell_set = {0, 1, 2, 1, 3};
  model.cell_count = {40, 30, 10, 5, 15};
  model.output_tokens = LogNormalLaw{4, 1};
  return model;
}

std::string document(const TrafficModel& model) {
  return R"({"schema": "loracle.traffic/1", "fits": {"any": [1]}, "model": )" + to_json(model) + "}";
}

std::string jsonl(const Trace& trace) {
  std::string text;
  const Result<Unit> written = write_jsonl(trace, [&](std::span<const char> bytes) -> Result<Unit> {
    text.append(bytes.data(), bytes.size());
    return Unit{};
  });
  EXPECT_TRUE(written) << written.error().message;
  return text;
}

Trace drawn(const TrafficModel& model, const SynthesizeOptions& options) {
  const Result<Trace> trace = synthesize(model, options);
  EXPECT_TRUE(trace) << trace.error().message;
  if (!trace) return {};
  const Result<Unit> sound = check_trace(*trace);
  EXPECT_TRUE(sound) << sound.error().message;
  return *trace;
}

/// Requests by window and by the names of what they use.
std::map<std::pair<int, std::string>, int> cells_of(const Trace& trace, double window_s) {
  std::map<std::pair<int, std::string>, int> cells;
  for (std::uint64_t i = 0; i < trace.requests; ++i) {
    std::string names;
    for (const Row row : trace.batch(i)) names += std::string(trace.adapters.name[index_of(row)]) + ";";
    ++cells[{static_cast<int>(trace.arrival_s[i] / window_s), names}];
  }
  return cells;
}

// If this failed, a model would not be the one that was written.
TEST(TrafficModel, ReadsBackWhatWasWritten) {
  const TrafficModel model = small_model();
  ASSERT_TRUE(check_traffic_model(model));
  const Result<TrafficModel> read = parse_traffic_model(document(model), "fit.json");
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_TRUE(*read == model);
  TrafficModel bare = model;
  bare.timed = false;
  bare.bytes.clear();
  bare.rank.clear();
  bare.holding.clear();
  bare.output_tokens.reset();
  bare.name[1] = "a \"quoted\"\n\xC3\xA9 name";
  const Result<TrafficModel> again = parse_traffic_model(document(bare), "fit.json");
  ASSERT_TRUE(again) << again.error().message;
  EXPECT_TRUE(*again == bare);
}

// If this failed, a person would not learn which file is wrong, and where.
TEST(TrafficModel, SaysWhatIsWrongWithAFile) {
  const auto expect = [](const std::string& text, Errc code, const std::string& words) {
    const Result<TrafficModel> read = parse_traffic_model(text, "fit.json");
    ASSERT_FALSE(read) << text;
    EXPECT_EQ(read.error().code, code) << read.error().message;
    EXPECT_EQ(read.error().message.find("fit.json: "), 0U) << read.error().message;
    EXPECT_NE(read.error().message.find(words), std::string::npos) << read.error().message;
  };
  expect("", Errc::kCorrupt, "not a JSON object");
  expect("[1]", Errc::kCorrupt, "not a JSON object");
  expect("{}", Errc::kCorrupt, "/schema");
  expect(R"({"schema": 1})", Errc::kCorrupt, "/schema");
  expect(R"({"schema": "loracle.plan/1"})", Errc::kUnsupported, "loracle.plan/1");
  expect(R"({"schema": "loracle.traffic/1"})", Errc::kCorrupt, "/model");
  const nlohmann::json good = nlohmann::json::parse(document(small_model()));
  for (const auto& [key, value] : good.at("model").items()) {
    nlohmann::json without = good;
    without.at("model").erase(key);
    expect(without.dump(), Errc::kCorrupt, "/model/" + key + " is missing");
    nlohmann::json other = good;
    other.at("model").at(key) = nlohmann::json::object();
    if (key != "input_tokens" && key != "output_tokens")
      expect(other.dump(), Errc::kCorrupt, "/model/" + key);
  }
  const auto with = [&](const char* pointer, const nlohmann::json& value) {
    nlohmann::json changed = good;
    changed[nlohmann::json::json_pointer(pointer)] = value;
    return changed.dump();
  };
  expect(with("/model/window_s", 0), Errc::kCorrupt, "window_s");
  expect(with("/model/window_s", -1), Errc::kCorrupt, "window_s");
  expect(with("/model/cell_set/3", 4), Errc::kCorrupt, "cell_set: 4");
  expect(with("/model/cell_set/1", 0), Errc::kCorrupt, "cell_set: 0");
  expect(with("/model/cell_count/0", 0), Errc::kCorrupt, "cell_count");
  expect(with("/model/cell_count/0", -3), Errc::kCorrupt, "/model/cell_count/0 must be a whole number");
  expect(with("/model/cell_count/0", 5'000'000'000U), Errc::kCorrupt, "/model/cell_count/0");
  expect(with("/model/window_begin/1", 9), Errc::kCorrupt, "window_begin");
  expect(with("/model/set_begin/0", 1), Errc::kCorrupt, "set_begin");
  expect(with("/model/set_adapters/1", 2), Errc::kCorrupt, "set_adapters");
  expect(with("/model/shape/0", 0), Errc::kCorrupt, "shape");
  expect(with("/model/shape/0", "1"), Errc::kCorrupt, "/model/shape/0 must be a number");
  expect(with("/model/name/1", "a"), Errc::kCorrupt, "'a'");
  expect(with("/model/name/1", ""), Errc::kCorrupt, "name");
  expect(with("/model/holding/1/known_share", 1.5), Errc::kCorrupt, "known_share");
  expect(with("/model/holding/1/gamma_shape", -1), Errc::kCorrupt, "gamma_shape");
  expect(with("/model/holding/1", 3), Errc::kCorrupt, "/model/holding/1 must be an object");
  expect(with("/model/output_tokens/sigma", 1000), Errc::kCorrupt, "output_tokens");
}

// If this failed, some damaged file would crash the reader, or pass for a model that crashes the synthesis.
TEST(TrafficModel, SurvivesAnyDamage) {
  const std::string good = document(small_model());
  Rng rng(11);
  int accepted = 0;
  const int rounds = testing::all_or_few(20'000, 2'000);
  for (int round = 0; round < rounds; ++round) {
    std::string text = good;
    for (std::uint32_t edits = 1 + rng.below(3); edits > 0; --edits) {
      const std::size_t at = rng.below(static_cast<std::uint32_t>(text.size()));
      const char bytes[] = "0123456789-.,[]{}\"e:atn\xFF";
      switch (rng.below(4)) {
        case 0:
          text[at] = bytes[rng.below(sizeof(bytes) - 1)];
          break;
        case 1:
          text.erase(at, 1 + rng.below(8));
          break;
        case 2:
          text.insert(at, 1, bytes[rng.below(sizeof(bytes) - 1)]);
          break;
        default:
          text.resize(round % 50 == 0 ? at + 1 : text.size());
      }
      if (text.empty()) text = "{";
    }
    const Result<TrafficModel> read = parse_traffic_model(text, "fit.json");
    if (!read) {
      ASSERT_EQ(read.error().message.find("fit.json: "), 0U);
      continue;
    }
    ++accepted;
    ASSERT_TRUE(check_traffic_model(*read));
    double requests = 0;
    for (const std::uint32_t count : read->cell_count) requests += count;
    if (requests > 100'000) continue;
    const Result<Trace> trace = synthesize(*read, {});
    if (!trace) continue;
    const Result<Unit> sound = check_trace(*trace);
    ASSERT_TRUE(sound) << sound.error().message;
  }
  EXPECT_GT(accepted, rounds / 40) << "what is damaged must sometimes still be read, or nothing was tried";
}

// If this failed, popularity and its changes would not be the source's.
TEST(Synthesize, GivesEachWindowItsRequests) {
  const TrafficModel model = small_model();
  const std::map<std::pair<int, std::string>, int> expected = {
      {{0, ""}, 40}, {{0, "a;"}, 30}, {{0, "b;c;"}, 10}, {{2, "a;"}, 5}, {{2, "c;"}, 15}};
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    const Trace trace = drawn(model, {.seed = seed});
    EXPECT_EQ(trace.requests, 100U);
    EXPECT_EQ(cells_of(trace, 100), expected) << seed;
    EXPECT_EQ(trace.adapters.bytes.size(), 3U);
    for (std::uint32_t row = 0; row < trace.rows(); ++row)
      if (trace.adapters.name[row] == "b") {
        EXPECT_EQ(trace.adapters.rank[row], 16);
      }
  }
}

// If this failed, a synthetic trace could not be named by its model and its seed.
TEST(Synthesize, EqualSeedsGiveEqualBytesAndOthersDoNot) {
  const std::string once = jsonl(drawn(small_model(), {.seed = 5}));
  EXPECT_EQ(once, jsonl(drawn(small_model(), {.seed = 5})));
  EXPECT_NE(once, jsonl(drawn(small_model(), {.seed = 6})));
}

// If this failed, a week would not begin with the day that was looked at before.
TEST(Synthesize, AShorterTraceIsTheBeginningOfALongerOne) {
  const Trace whole = drawn(small_model(), {.seed = 2, .duration_s = 900});
  EXPECT_EQ(whole.requests, 300U);
  const Trace part = drawn(small_model(), {.seed = 2, .duration_s = 440});
  ASSERT_GT(part.requests, 100U);
  ASSERT_LT(part.requests, whole.requests);
  for (std::uint64_t i = 0; i < part.requests; ++i) {
    ASSERT_EQ(part.arrival_s[i], whole.arrival_s[i]);
    ASSERT_EQ(part.duration_s[i], whole.duration_s[i]);
    ASSERT_EQ(part.batch(i).size(), whole.batch(i).size());
    for (std::size_t k = 0; k < part.batch(i).size(); ++k) ASSERT_EQ(part.batch(i)[k], whole.batch(i)[k]);
  }
  EXPECT_LT(part.arrival_s[part.requests - 1], 440);
}

// If this failed, a longer trace would meet no new adapter, or only new ones.
TEST(Synthesize, AdaptersThatCameAndWentComeAsNewOnesInEachPass) {
  const Trace trace = drawn(small_model(), {.duration_s = 900});
  const auto cells = cells_of(trace, 100);
  EXPECT_EQ(cells.at({3, "b;c~1;"}), 10);
  EXPECT_EQ(cells.at({6, "b;c~2;"}), 10);
  EXPECT_EQ(cells.at({8, "c~2;"}), 15);
  EXPECT_EQ(cells.at({8, "a;"}), 5);
  EXPECT_EQ(trace.rows(), 5U);
}

// If this failed, "twice the traffic" would be other traffic.
TEST(Synthesize, RatesAndAdaptersAreMultiplied) {
  const Trace fast = drawn(small_model(), {.rate_times = 3});
  EXPECT_EQ(cells_of(fast, 100).at({0, "a;"}), 90);
  EXPECT_EQ(fast.requests, 300U);
  double requests = 0;
  for (std::uint64_t seed = 1; seed <= 200; ++seed)
    requests += static_cast<double>(drawn(small_model(), {.seed = seed, .rate_times = 0.55}).requests);
  // 200 x 55, each of 5 cells rounded by chance: sd below 200^0.5 x 5^0.5 / 2.
  EXPECT_NEAR(requests / 200, 55, 0.4);

  const Trace large = drawn(small_model(), {.adapters_times = 2});
  const auto cells = cells_of(large, 100);
  EXPECT_EQ(large.requests, 160U) << "the base model's 40 are not doubled";
  EXPECT_EQ(cells.at({0, "a;"}), 30);
  EXPECT_EQ(cells.at({1, "a#1;"}), 5) << "the doubles are half the span ahead: one window of three";
  EXPECT_EQ(cells.at({2, "b#1;c#1~1;"}), 10);
  const Trace halved = drawn(small_model(), {.seed = 3, .adapters_times = 0.5});
  EXPECT_LT(halved.rows(), 3U);
  EXPECT_GE(halved.requests, 40U);
}

// If this failed, bursts would not be those of the shape: the squared coefficient of variation of stretched
// gaps is that of a Dirichlet share, (n - 1) / (n k + 1) for n gaps of shape k.
TEST(Synthesize, GapsVaryAsTheirShapeSays) {
  for (const double shape : {0.1, 1.0, 10.0}) {
    TrafficModel model;
    model.requests = 10;
    model.window_s = 1000;
    model.name = {"a"};
    model.lasting = {1};
    model.set_begin = {0, 1};
    model.set_adapters = {0};
    model.shape = {shape};
    model.window_begin = {0, 1};
    model.cell_set = {0};
    model.cell_count = {9};
    ASSERT_TRUE(check_traffic_model(model));
    double squares = 0;
    const int seeds = 4000;
    for (int seed = 1; seed <= seeds; ++seed) {
      const Trace trace = drawn(model, {.seed = static_cast<std::uint64_t>(seed)});
      double before = 0;
      for (std::uint64_t i = 0; i <= trace.requests; ++i) {
        const double at = i < trace.requests ? trace.arrival_s[i] : 1000;
        squares += std::pow((at - before) / 100 - 1, 2) / 10 / seeds;
        before = at;
      }
    }
    const double expected = 9 / (10 * shape + 1);
    EXPECT_NEAR(squares, expected, 0.06 * expected) << shape;
  }
}

// If this failed, holding times would not be those of the fit.
TEST(Synthesize, HoldsAndTokensFollowTheirLaws) {
  TrafficModel model = small_model();
  model.cell_count = {1, 20'000, 20'000, 1, 20'000};
  model.holding[2].known_share = 1;
  const Trace trace = drawn(model, {});
  double known = 0;
  double log_sum = 0;
  double log_squares = 0;
  double c_uses = 0;
  double token_logs = 0;
  double gamma_sum = 0;
  double gamma_squares = 0;
  for (std::uint64_t i = 0; i < trace.requests; ++i) {
    token_logs += std::log(trace.output_tokens[i]) / static_cast<double>(trace.requests);
    const double held = double{trace.duration_s[i]};
    if (trace.batch(i).size() == 2) {
      gamma_sum += held / 20'000;
      gamma_squares += held * held / 20'000;
    }
    if (trace.batch(i).size() != 1) continue;
    if (trace.adapters.name[index_of(trace.batch(i)[0])] == "a") {
      known += held > 0 ? 1 : 0;
      if (held > 0) {
        EXPECT_NEAR(held, std::exp(1.0), 1e-5) << "sigma 0";
      }
    } else {
      log_sum += std::log(held);
      log_squares += std::log(held) * std::log(held);
      ++c_uses;
    }
  }
  EXPECT_NEAR(known / 20'001, 0.5, 0.015);
  EXPECT_NEAR(log_sum / c_uses, -1.5, 0.06);
  EXPECT_NEAR(std::sqrt(log_squares / c_uses - std::pow(log_sum / c_uses, 2)), 2, 0.04);
  EXPECT_NEAR(gamma_sum, 2.5 * 4, 0.2);
  EXPECT_NEAR(gamma_squares - gamma_sum * gamma_sum, 2.5 * 4 * 4, 2.5);
  EXPECT_NEAR(token_logs, 4, 0.02);
  EXPECT_TRUE(trace.input_tokens.empty());
}

// If this failed, what cannot be drawn would be drawn, or run out of memory.
TEST(Synthesize, RefusesWhatCannotBe) {
  const auto refused = [](const TrafficModel& model, const SynthesizeOptions& options, const char* words) {
    const Result<Trace> trace = synthesize(model, options);
    ASSERT_FALSE(trace) << words;
    EXPECT_NE(trace.error().message.find(words), std::string::npos) << trace.error().message;
  };
  const TrafficModel model = small_model();
  refused(model, {.rate_times = 0}, "rate");
  refused(model, {.rate_times = std::numeric_limits<double>::quiet_NaN()}, "rate");
  refused(model, {.adapters_times = 1e6}, "adapters");
  refused(model, {.duration_s = -1}, "duration");
  refused(model, {.duration_s = 3e9, .rate_times = 1000}, "requests");
  TrafficModel tiny = model;
  tiny.window_s = 1e-3;
  refused(tiny, {.duration_s = 1e9}, "windows");
  TrafficModel untimed = model;
  untimed.timed = false;
  refused(untimed, {.rate_times = 2}, "no arrival times");
  const Trace in_order = drawn(untimed, {});
  EXPECT_TRUE(in_order.arrival_s.empty());
  EXPECT_EQ(in_order.requests, 100U);
  TrafficModel nothing = model;
  nothing.window_begin = {0, 0};
  nothing.cell_set.clear();
  nothing.cell_count.clear();
  refused(nothing, {}, "no request");
}

// If this failed, two adapters of a synthetic trace would have one name, and one file would make them one.
TEST(Synthesize, NamesStayDifferent) {
  TrafficModel model = small_model();
  model.name = {"c#1", "b", "c"};
  const Trace trace = drawn(model, {.duration_s = 900, .adapters_times = 3});
  std::map<std::string, int> names;
  for (std::uint32_t row = 0; row < trace.rows(); ++row) ++names[std::string(trace.adapters.name[row])];
  EXPECT_EQ(names.size(), trace.rows());
}

}  // namespace
}  // namespace loracle
