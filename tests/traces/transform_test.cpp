#include "loracle/traces/transform.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include "loracle/traces/check_trace.hpp"
#include "loracle/traces/generate.hpp"
#include "same_trace.hpp"

namespace loracle {
namespace {

using testing::full_trace;

std::vector<std::string> adapters_of(const Trace& trace, std::uint64_t request) {
  std::vector<std::string> names;
  for (const Row row : trace.batch(request)) names.emplace_back(trace.adapters.name[index_of(row)]);
  return names;
}

// If this fails, a fold mixes up which request needs which adapters, or breaks a promise of the trace.
TEST(Fold, MovesWholeRequests) {
  const Trace trace = full_trace();  // arrives at -0.5, 0, 0.1, 0.1, 333333333.333...
  const auto folded = fold(trace, 1.0);
  ASSERT_TRUE(folded) << folded.error().message;
  const auto sound = check_trace(*folded);
  EXPECT_TRUE(sound) << sound.error().message;
  const std::vector<std::uint64_t> order = {1, 2, 3, 4, 0};
  for (std::uint64_t i = 0; i < order.size(); ++i) {
    EXPECT_EQ(adapters_of(*folded, i), adapters_of(trace, order[i])) << i;
    EXPECT_EQ(folded->input_tokens[i], trace.input_tokens[order[i]]);
    EXPECT_EQ(folded->output_tokens[i], trace.output_tokens[order[i]]);
    EXPECT_EQ(folded->tenant[i], trace.tenant[order[i]]);
    EXPECT_EQ(folded->duration_s[i], trace.duration_s[order[i]]);
  }
  EXPECT_EQ(folded->arrival_s[4], 0.5) << "a negative time counts from the period's end";
  EXPECT_EQ(folded->mapping, "tenant, folded onto 1 s");
}

// If this fails, an adapter's facts do not follow its row.
TEST(Fold, MovesFactsAlongWithRows) {
  const Trace trace = full_trace();
  const auto folded = fold(trace, 1.0);
  ASSERT_TRUE(folded);
  ASSERT_EQ(folded->rows(), trace.rows());
  for (std::uint32_t row = 0; row < trace.rows(); ++row) {
    std::uint32_t old = 0;
    while (trace.adapters.name[old] != folded->adapters.name[row]) ++old;
    EXPECT_EQ(folded->adapters.bytes[row], trace.adapters.bytes[old]);
    EXPECT_EQ(folded->adapters.rank[row], trace.adapters.rank[old]);
  }
  EXPECT_EQ(folded->adapters.name[3], "unused");
}

// If this fails, folding onto more than the whole span is not the identity it should be.
TEST(Fold, ChangesNothingWhenThePeriodIsLonger) {
  GenerateOptions options;
  options.requests = 2000;
  options.duration_s_mean = 1;
  const auto trace = generate(options);
  ASSERT_TRUE(trace);
  auto folded = fold(*trace, 1e6);
  ASSERT_TRUE(folded);
  folded->mapping = trace->mapping;
  testing::expect_same_trace(*folded, *trace);
}

// If this fails, requests at one time change places, and replays of equal folds differ.
TEST(Fold, KeepsEqualTimesInOrder) {
  Trace trace;
  trace.requests = 1000;
  std::vector<std::uint32_t> uses(1000);
  std::iota(uses.begin(), uses.end(), 0U);
  std::vector<double> arrival_s(1000);
  std::vector<std::string> names;
  for (std::size_t i = 0; i < 1000; ++i) {
    arrival_s[i] = static_cast<double>(i / 10);
    names.push_back(std::to_string(i));
  }
  trace.uses = testing::rows_of(uses);
  trace.arrival_s = Column<double>(std::move(arrival_s));
  trace.adapters.name = testing::names_of(names);
  const auto folded = fold(trace, 10);
  ASSERT_TRUE(folded);
  EXPECT_TRUE(check_trace(*folded));
  for (std::uint64_t i = 1; i < 1000; ++i) {
    if (folded->arrival_s[i] != folded->arrival_s[i - 1]) continue;
    EXPECT_LT(std::stoi(adapters_of(*folded, i - 1)[0]), std::stoi(adapters_of(*folded, i)[0]));
  }
}

// If this fails, a period that means nothing gives a trace that means nothing.
TEST(Fold, RefusesSenselessPeriodsAndTracesWithoutTimes) {
  for (const double period : {0.0, -1.0, HUGE_VAL, std::numeric_limits<double>::quiet_NaN()}) {
    const auto folded = fold(full_trace(), period);
    ASSERT_FALSE(folded);
    EXPECT_EQ(folded.error().code, Errc::kInvalid);
  }
  Trace trace = full_trace();
  trace.arrival_s = {};
  EXPECT_EQ(fold(trace, 60).error().code, Errc::kInvalid);
}

// If this fails, the first requests of a trace are not what they were in the whole.
TEST(Head, KeepsTheFirstRequestsAndEveryAdapter) {
  const Trace trace = full_trace();
  for (std::uint64_t count = 0; count <= 6; ++count) {
    const Trace cut = head(trace, count);
    ASSERT_EQ(cut.requests, std::min<std::uint64_t>(count, 5));
    const auto sound = check_trace(cut);
    ASSERT_TRUE(sound) << sound.error().message;
    for (std::uint64_t i = 0; i < cut.requests; ++i) {
      EXPECT_EQ(adapters_of(cut, i), adapters_of(trace, i));
      EXPECT_EQ(cut.arrival_s[i], trace.arrival_s[i]);
    }
    EXPECT_EQ(cut.rows(), 4U);
  }
  testing::expect_same_trace(head(trace, 5), trace);
}

// If this fails, a trace of one adapter a request is cut in the wrong column.
TEST(Head, CutsTracesOfOneAdapterARequest) {
  GenerateOptions options;
  options.requests = 100;
  const auto trace = generate(options);
  ASSERT_TRUE(trace);
  const Trace cut = head(*trace, 7);
  EXPECT_EQ(cut.uses.size(), 7U);
  EXPECT_TRUE(cut.use_begin.empty());
  EXPECT_TRUE(check_trace(cut));
}

// If one of these fails, a what-if asks about a trace that nobody meant, or about a broken one.
TEST(WhatIfTraces, TrafficKeepsOrderAndHolding) {
  const Trace trace = full_trace();
  const Trace twice = with_traffic(trace, 2);
  EXPECT_TRUE(check_trace(twice));
  for (std::uint64_t i = 0; i < trace.requests; ++i) {
    EXPECT_EQ(twice.arrival_s[i], trace.arrival_s[i] / 2);
    EXPECT_EQ(adapters_of(twice, i), adapters_of(trace, i));
  }
  EXPECT_EQ(twice.duration_s[0], trace.duration_s[0]);
}

std::uint64_t uses_of(const Trace& trace, const std::string& name, bool with_doubles) {
  std::uint64_t uses = 0;
  for (const Row row : trace.uses.view()) {
    const std::string_view found = trace.adapters.name[index_of(row)];
    uses += found == name || (with_doubles && found.starts_with(name + "#")) ? 1 : 0;
  }
  return uses;
}

Trace generated(std::uint32_t adapters, std::uint64_t requests) {
  GenerateOptions options;
  options.adapters = adapters;
  options.requests = requests;
  return *generate(options);
}

TEST(WhatIfTraces, SplitAdaptersShareWhatOneHad) {
  const Trace trace = generated(20, 2000);
  const Trace split = with_split_adapters(trace, 3, 7);
  const auto sound = check_trace(split);
  EXPECT_TRUE(sound) << sound.error().message;
  EXPECT_EQ(split.requests, trace.requests);
  for (std::uint32_t row = 0; row < trace.rows(); ++row) {
    const std::string name(trace.adapters.name[row]);
    EXPECT_EQ(uses_of(split, name, true), uses_of(trace, name, false));
    const auto all = static_cast<double>(uses_of(trace, name, false));
    const auto kept = static_cast<double>(uses_of(split, name, false));
    EXPECT_TRUE(all < 100 || (kept > all / 6 && kept < all / 2)) << name << " " << kept << " of " << all;
  }
  EXPECT_GT(split.rows(), 2 * trace.rows());
  EXPECT_TRUE(split.arrival_s.view().data() == trace.arrival_s.view().data() ||
              split.arrival_s[9] == trace.arrival_s[9]);
  EXPECT_EQ(adapters_of(with_split_adapters(trace, 1, 7), 5), adapters_of(trace, 5));
}

TEST(WhatIfTraces, MoreAdaptersComeHalfTheTraceLater) {
  const Trace trace = full_trace();
  EXPECT_EQ(with_more_adapters(trace, 0, 1).requests, trace.requests);
  const Trace doubled = with_more_adapters(trace, 1, 1);
  const auto sound = check_trace(doubled);
  EXPECT_TRUE(sound) << sound.error().message;
  std::uint64_t with_adapter = 0;
  for (std::uint64_t i = 0; i < trace.requests; ++i) with_adapter += trace.batch(i).empty() ? 0 : 1;
  EXPECT_EQ(doubled.requests, trace.requests + with_adapter);
  EXPECT_EQ(doubled.uses.size(), 2 * trace.uses.size());
  EXPECT_EQ(doubled.arrival_s[0], trace.arrival_s[0]);
  EXPECT_EQ(doubled.arrival_s[doubled.requests - 1], trace.arrival_s[trace.requests - 1]);
  for (std::uint32_t row = 0; row < trace.rows(); ++row) {
    const std::string name(trace.adapters.name[row]);
    EXPECT_EQ(uses_of(doubled, name + "#1", false), uses_of(trace, name, false)) << name;
  }
}

TEST(WhatIfTraces, SomeAdaptersHaveDoublesAndOnlyWholeRequestsOfThoseComeAgain) {
  const Trace trace = generated(200, 3000);
  const Trace grown = with_more_adapters(trace, 0.5, 9);
  const auto sound = check_trace(grown);
  EXPECT_TRUE(sound) << sound.error().message;
  EXPECT_GT(grown.requests, trace.requests * 11 / 10);
  EXPECT_LT(grown.requests, trace.requests * 19 / 10);
  std::uint64_t doubles = 0;
  for (std::uint32_t row = 0; row < grown.rows(); ++row)
    doubles += grown.adapters.name[row].ends_with("#1") ? 1 : 0;
  EXPECT_GT(doubles, trace.rows() / 3);
  EXPECT_LT(doubles, trace.rows() * 2 / 3);
  EXPECT_EQ(grown.rows() - doubles, with_more_adapters(trace, 0, 9).rows()) << "those that are used";
}

TEST(WhatIfTraces, SeveralDoublesComeEvenlySpread) {
  const Trace trace = generated(50, 1000);
  const Trace grown = with_more_adapters(trace, 2.5, 9);
  const auto sound = check_trace(grown);
  EXPECT_TRUE(sound) << sound.error().message;
  EXPECT_GT(grown.requests, trace.requests * 31 / 10);
  EXPECT_LT(grown.requests, trace.requests * 39 / 10);
  for (std::uint32_t row = 0; row < trace.rows(); ++row) {
    const std::string name(trace.adapters.name[row]);
    const std::uint64_t uses = uses_of(trace, name, false);
    EXPECT_EQ(uses_of(grown, name + "#1", false), uses) << name;
    EXPECT_EQ(uses_of(grown, name + "#2", false), uses) << name;
    const std::uint64_t third = uses_of(grown, name + "#3", false);
    EXPECT_TRUE(third == 0 || third == uses) << name;
  }
}

TEST(WhatIfTraces, BurstsKeepRequestsAndPeriods) {
  const Trace trace = full_trace();  // arrives at -0.5, 0, 0.1, 0.1, 333333333.333...
  const Trace bursts = with_bursts(trace, 4, 2);
  EXPECT_TRUE(check_trace(bursts));
  EXPECT_EQ(bursts.arrival_s[0], -0.5);
  EXPECT_EQ(bursts.arrival_s[1], -0.375);
  EXPECT_DOUBLE_EQ(bursts.arrival_s[2], -0.35);
  EXPECT_EQ(adapters_of(bursts, 2), adapters_of(trace, 2));
  EXPECT_EQ(bursts.duration_s[0], trace.duration_s[0]);
  const Trace dense = generated(20, 5000);
  const Trace dense_bursts = with_bursts(dense, 3, 60);
  EXPECT_TRUE(check_trace(dense_bursts));
  for (std::uint64_t i = 0; i < dense.requests; ++i) {
    const auto since = [&](const Trace& one) { return one.arrival_s[i] - dense.arrival_s[0]; };
    EXPECT_EQ(std::floor(since(dense) / 60), std::floor(since(dense_bursts) / 60)) << i;
    EXPECT_LE(since(dense_bursts) - 60 * std::floor(since(dense_bursts) / 60), 20.0 + 1e-6) << i;
  }
  const Trace same = with_bursts(dense, 1, 60);
  for (std::uint64_t i = 0; i < dense.requests; ++i) EXPECT_NEAR(same.arrival_s[i], dense.arrival_s[i], 1e-9);
}

TEST(WhatIfTraces, TheBusiestTenantComesASecondTimeWithAdaptersOfItsOwn) {
  const Trace trace = full_trace();
  ASSERT_TRUE(has_tenants(trace));
  const Trace twice = with_busiest_twice(trace);
  const auto sound = check_trace(twice);
  EXPECT_TRUE(sound) << sound.error().message;
  ASSERT_EQ(twice.tenant_name.size(), trace.tenant_name.size() + 1);
  const auto added = static_cast<std::uint32_t>(trace.tenant_name.size());
  const std::string name(twice.tenant_name[added]);
  ASSERT_TRUE(name.ends_with("#1"));
  std::uint64_t requests = 0;
  for (std::uint64_t i = 0; i < twice.requests; ++i) {
    if (twice.tenant[i] != added) continue;
    ++requests;
    for (const Row row : twice.batch(i)) EXPECT_TRUE(twice.adapters.name[index_of(row)].ends_with("#1"));
  }
  std::uint64_t before = 0;
  for (std::uint64_t i = 0; i < trace.requests; ++i)
    if (trace.tenant[i] != kNoTenant && trace.tenant_name[trace.tenant[i]] == name.substr(0, name.size() - 2))
      before += trace.batch(i).empty() ? 0 : 1;
  EXPECT_GT(before, 0U);
  EXPECT_EQ(requests, before);
  EXPECT_EQ(twice.requests, trace.requests + before);
}

TEST(WhatIfTraces, WithoutTenantsTheBusiestAdapterDoes) {
  const Trace trace = generated(20, 2000);
  ASSERT_FALSE(has_tenants(trace));
  const Trace twice = with_busiest_twice(trace);
  EXPECT_TRUE(check_trace(twice));
  EXPECT_EQ(twice.rows(), trace.rows() + 1);
  std::uint64_t most = 0;
  for (std::uint32_t row = 0; row < trace.rows(); ++row)
    most = std::max(most, uses_of(trace, std::string(trace.adapters.name[row]), false));
  EXPECT_EQ(twice.requests, trace.requests + most);
}

// If one of these fails, a plan counts slots that nobody holds, or misses those that somebody does.
TEST(AssumedDurations, AreThoseOfTheSameAdapterWhereEnoughSaySo) {
  // Adapter 0 says how long in 30 of its 60 requests, adapter 1 in 29 of 58.
  std::vector<Row> uses;
  std::vector<float> duration_s;
  for (std::uint32_t i = 0; i < 60; ++i) {
    uses.push_back(Row{0});
    duration_s.push_back(i % 2 == 0 ? 1.0F + static_cast<float>(i) : 0.0F);
    if (i >= 58) continue;
    uses.push_back(Row{1});
    duration_s.push_back(i % 2 == 1 ? 100.0F : std::numeric_limits<float>::quiet_NaN());
  }
  Trace trace = generated(2, 118);
  trace.uses = Column<Row>(std::move(uses));
  trace.duration_s = Column<float>(duration_s);
  const Trace filled = with_assumed_durations(trace);
  std::vector<float> others;
  float own_s = 1;
  for (std::size_t i = 0; i < duration_s.size(); ++i) {
    if (duration_s[i] > 0) {
      EXPECT_EQ(filled.duration_s[i], duration_s[i]) << i;
    } else if (trace.uses[i] == Row{0}) {
      EXPECT_EQ(filled.duration_s[i], own_s) << i;  // 1, 3, 5, ... as they stand in the trace
      own_s += 2;
    } else {
      others.push_back(filled.duration_s[i]);
    }
  }
  EXPECT_EQ(others.size(), 29U);
  EXPECT_EQ(others[0], 1.0F);
  EXPECT_EQ(others[1], 100.0F);
  EXPECT_EQ(others[2], 3.0F) << "of all requests, in their order";
}

TEST(AssumedDurations, BeginAgainWhereMoreAreUnknown) {
  // Adapter 0 says so 30 times and does not 61 times; adapter 1, last, once and 95 times.
  Trace trace = generated(2, 187);
  std::vector<Row> uses(91, Row{0});
  uses.resize(187, Row{1});
  std::vector<float> duration_s(187, 0.0F);
  for (std::size_t i = 0; i < 30; ++i) duration_s[i] = 1.0F + static_cast<float>(i);
  duration_s[91] = 31;
  trace.uses = Column<Row>(std::move(uses));
  trace.duration_s = Column<float>(std::move(duration_s));
  trace.adapters.name = {};  // rows need no names
  const Trace filled = with_assumed_durations(trace);
  for (std::size_t i = 0; i < 61; ++i)
    EXPECT_EQ(filled.duration_s[30 + i], 1.0F + static_cast<float>(i % 30));
  for (std::size_t i = 0; i < 95; ++i)
    EXPECT_EQ(filled.duration_s[92 + i], 1.0F + static_cast<float>(i % 31));
}

TEST(AssumedDurations, OfSeveralAdaptersTheFirstCountsAndOfNoneNothing) {
  Trace trace = generated(2, 64);
  std::vector<std::uint64_t> begin = {0};
  std::vector<Row> uses;
  std::vector<float> duration_s;
  const auto add = [&](const std::vector<Row>& rows, float held_s) {
    uses.insert(uses.end(), rows.begin(), rows.end());
    begin.push_back(uses.size());
    duration_s.push_back(held_s);
  };
  add({}, 500);  // says how long, and of no adapter
  for (int i = 0; i < 30; ++i) add({Row{0}, Row{1}}, 2);
  for (int i = 0; i < 30; ++i) add({Row{1}}, 3);
  add({Row{0}}, 0);
  add({Row{1}, Row{0}}, 0);
  add({}, 0);
  trace.uses = Column<Row>(std::move(uses));
  trace.use_begin = Column<std::uint64_t>(std::move(begin));
  trace.duration_s = Column<float>(std::move(duration_s));
  const Trace filled = with_assumed_durations(trace);
  EXPECT_EQ(filled.duration_s[61], 2.0F);
  EXPECT_EQ(filled.duration_s[62], 3.0F);
  EXPECT_EQ(filled.duration_s[63], 0.0F);
}

TEST(AssumedDurations, StayUnknownWhereNoRequestSaysAnything) {
  Trace trace = generated(3, 50);
  EXPECT_TRUE(with_assumed_durations(trace).duration_s.empty());
  trace.duration_s = Column<float>(std::vector<float>(50, 0.0F));
  EXPECT_EQ(with_assumed_durations(trace).duration_s[7], 0.0F);
}

}  // namespace
}  // namespace loracle
