#include "loracle/sim/activity_curve.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <list>
#include <map>
#include <numeric>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "loracle/core/rng.hpp"
#include "loracle/sim/curves.hpp"
#include "loracle/traces/generate.hpp"
#include "sim/plan_traces.hpp"

namespace loracle {
namespace {

using testing::skewed_trace;
using testing::trace_of;

struct Direct {
  std::uint64_t misses = 0;
  std::uint64_t waits = 0;
};

/// Each adapter of a request once, as a server counts them.
std::vector<Row> distinct_of(std::span<const Row> batch) {
  std::vector<Row> rows;
  for (const Row row : batch)
    if (std::find(rows.begin(), rows.end(), row) == rows.end()) rows.push_back(row);
  return rows;
}

/// The cache itself at one size, without cleverness: a list of residents, those in use, a list of ends.
Direct simulate(const Trace& trace, std::size_t slots) {
  struct End {
    double at_s;
    std::uint64_t request;
  };
  Direct counts;
  std::list<Row> idle;        // resident, the one that ended last in front
  std::multiset<Row> in_use;  // once a holder
  std::vector<End> ends;
  const auto distinct = [&] { return std::set<Row>(in_use.begin(), in_use.end()).size(); };
  const auto shrink = [&] {
    while (!idle.empty() && distinct() + idle.size() > slots) idle.pop_back();
  };
  for (std::uint64_t i = 0; i < trace.requests; ++i) {
    const std::vector<Row> batch = distinct_of(trace.batch(i));
    if (batch.empty()) continue;
    for (;;) {
      const auto first = std::min_element(ends.begin(), ends.end(), [](const End& a, const End& b) {
        return a.at_s != b.at_s ? a.at_s < b.at_s : a.request < b.request;
      });
      if (first == ends.end() || first->at_s > trace.arrival_s[i]) break;
      for (const Row row : distinct_of(trace.batch(first->request))) {
        in_use.erase(in_use.find(row));
        if (in_use.count(row) == 0) idle.push_front(row);
      }
      ends.erase(first);
      shrink();
    }
    bool needs_idle = false;
    const std::set<Row> held_before(in_use.begin(), in_use.end());
    for (const Row row : batch) {
      const bool held = held_before.count(row) > 0;
      const bool resident = std::find(idle.begin(), idle.end(), row) != idle.end();
      needs_idle |= !held;
      if (slots == 0 || (!held && !resident)) ++counts.misses;
    }
    for (const Row row : batch) {
      in_use.insert(row);
      idle.remove(row);
    }
    if (needs_idle && distinct() > slots) ++counts.waits;
    shrink();
    ends.push_back({trace.arrival_s[i] + trace.duration_s[i], i});
  }
  return counts;
}

/// The same requests, held for times of their own.
Trace with_durations(Trace trace, std::uint64_t seed, double longest_s) {
  Rng rng(seed);
  std::vector<float> held_s(trace.requests);
  for (float& held : held_s) held = static_cast<float>(longest_s * rng.below(1000) / 1000.0);
  trace.duration_s = Column<float>(std::move(held_s));
  return trace;
}

// If this failed, the planner would call slot counts feasible at which requests wait.
TEST(ActivityCurve, EqualsTheDirectSimulationAtEverySize) {
  for (std::uint64_t seed = 0; seed < 30; ++seed) {
    const double longest_s = seed % 3 == 0 ? 0.0 : seed % 3 == 1 ? 4.0 : 40.0;
    const Trace trace =
        with_durations(skewed_trace(seed, 5 + static_cast<std::uint32_t>(seed), 400), seed, longest_s);
    const auto curve = activity_curve(trace);
    ASSERT_TRUE(curve);
    for (std::size_t slots = 0; slots <= trace.rows() + 1U; ++slots) {
      const Direct direct = simulate(trace, slots);
      ASSERT_EQ(curve->misses(slots), direct.misses) << "seed " << seed << ", " << slots << " slots";
      ASSERT_EQ(curve->waits(slots), direct.waits) << "seed " << seed << ", " << slots << " slots";
    }
  }
}

/// All sizes at once, end by end: those in use, and the idle ones in the order of their last ends.
ActivityCurve by_every_end(const Trace& trace) {
  ActivityCurve curve;
  std::set<std::pair<double, std::uint64_t>> ends;
  std::map<Row, int> holders;
  std::list<Row> idle;  // the one that ended last in front
  std::vector<std::uint64_t> hits_at(trace.uses.size() + 2, 0);
  std::vector<std::uint64_t> needs_idle(trace.uses.size() + 2, 0);
  curve.arrivals_at.assign(trace.uses.size() + 2, 0);
  for (std::uint64_t i = 0; i < trace.requests; ++i) {
    const std::vector<Row> batch = distinct_of(trace.batch(i));
    if (batch.empty()) continue;
    for (; !ends.empty() && ends.begin()->first <= trace.arrival_s[i]; ends.erase(ends.begin()))
      for (const Row row : distinct_of(trace.batch(ends.begin()->second)))
        if (--holders[row] == 0) {
          holders.erase(row);
          idle.push_front(row);
        }
    bool needs = false;
    for (const Row row : batch) {
      ++curve.uses;
      if (holders.count(row) > 0) {
        ++hits_at[1];
        continue;
      }
      needs = true;
      const auto found = std::find(idle.begin(), idle.end(), row);
      if (found == idle.end())
        ++curve.compulsory_misses;
      else
        ++hits_at[holders.size() + static_cast<std::size_t>(std::distance(idle.begin(), found)) + 1];
    }
    for (const Row row : batch) {
      ++holders[row];
      idle.remove(row);
    }
    ++curve.requests;
    ++curve.arrivals_at[holders.size()];
    needs_idle[holders.size()] += needs ? 1U : 0U;
    const double held_s = trace.duration_s[i] > 0 ? static_cast<double>(trace.duration_s[i]) : 0.0;
    ends.insert({trace.arrival_s[i] + held_s, i});
  }
  while (curve.arrivals_at.back() == 0) curve.arrivals_at.pop_back();
  std::uint64_t misses = curve.uses;
  for (std::size_t slots = 0; slots <= curve.compulsory_misses; ++slots)
    curve.misses_at.push_back(misses -= hits_at[slots]);
  std::uint64_t waits = std::accumulate(needs_idle.begin(), needs_idle.end(), std::uint64_t{0});
  for (std::size_t slots = 0; slots < curve.arrivals_at.size(); ++slots)
    curve.waits_at.push_back(waits -= needs_idle[slots]);
  return curve;
}

void expect_equal(const ActivityCurve& curve, const ActivityCurve& twin) {
  EXPECT_EQ(curve.requests, twin.requests);
  EXPECT_EQ(curve.uses, twin.uses);
  EXPECT_EQ(curve.compulsory_misses, twin.compulsory_misses);
  EXPECT_EQ(curve.misses_at, twin.misses_at);
  EXPECT_EQ(curve.waits_at, twin.waits_at);
  EXPECT_EQ(curve.arrivals_at, twin.arrivals_at);
}

/// Many times a block, with everything that ends and arrivals can do to one another.
struct Crowds {
  const char* name;
  std::uint32_t several;  // of ten requests, how many name more than one adapter
  double burst;           // share of arrivals that come at the time of the one before
  double pause;           // share that come a hundred times later
  double held_s;          // on average; one a second arrives
  double whole_s;         // durations are multiples of it; 0: any
  std::uint32_t requests = 20'000;
  double bare = 0;  // share that names no adapter
};

Trace crowded(const Crowds& crowds, std::uint64_t seed) {
  constexpr std::uint32_t kAdapters = 300;
  Rng rng(seed);
  const auto share = [&rng] { return rng.below(1'000'000) / 1e6; };
  std::vector<std::vector<std::uint32_t>> requests;
  std::vector<double> arrival_s;
  std::vector<float> held_s;
  double now_s = 0;
  for (std::uint32_t i = 0; i < crowds.requests; ++i) {
    requests.push_back({rng.below(1 + rng.below(kAdapters))});
    if (rng.below(10) < crowds.several)
      for (std::uint32_t more = rng.below(4); more-- > 0;) requests.back().push_back(rng.below(kAdapters));
    if (crowds.bare > 0 && share() < crowds.bare) requests.back().clear();
    if (share() >= crowds.burst) now_s += 2 * share() * (share() < crowds.pause ? 100 : 1);
    arrival_s.push_back(now_s);
    double held = -crowds.held_s * std::log(1 - share());
    if (crowds.whole_s > 0) held = crowds.whole_s * std::floor(held / crowds.whole_s);
    held_s.push_back(static_cast<float>(share() < 0.001 ? 1000 * held : held));
  }
  Trace trace = trace_of(requests);
  trace.arrival_s = Column<double>(std::move(arrival_s));
  trace.duration_s = Column<float>(std::move(held_s));
  return trace;
}

// If this failed, a trace longer than a block of arrivals would get another curve: one in which those who run
// from one block into the next are lost, or ends at the same time are in another order.
TEST(ActivityCurve, BlocksOfArrivalsAreNotSeen) {
  for (const Crowds& crowds :
       {Crowds{"steady", 0, 0, 0, 50, 0}, Crowds{"several adapters", 5, 0, 0, 50, 0},
        Crowds{"whole seconds", 3, 0.5, 0, 20, 1}, Crowds{"mostly nothing held", 3, 0.9, 0, 0.5, 1},
        Crowds{"pauses", 0, 0.2, 0.01, 50, 0}, Crowds{"all at a few moments", 3, 0.999, 0, 2, 0},
        Crowds{"thousands run", 2, 0, 0, 4000, 0}, Crowds{"nobody ever ends", 1, 0.1, 0, 1e9, 0},
        Crowds{"more end in a block than places last for", 3, 0, 0, 40e3, 0, 150'000},
        Crowds{"many name no adapter", 0, 0.2, 0, 50, 0, 20'000, 0.4},
        Crowds{"some name several, some none", 3, 0.5, 0, 20, 1, 20'000, 0.4}}) {
    SCOPED_TRACE(crowds.name);
    const Trace trace = crowded(crowds, 7);
    const auto stream = make_batch_stream(trace);
    ASSERT_TRUE(stream);
    const ActivityCurve twin = by_every_end(trace);
    for (const Simd simd : {Simd::kPortable, Simd::kAvx2, Simd::kAvx512})
      expect_equal(*activity_curve(trace, *stream, 1, simd), twin);
    EXPECT_EQ(active_at_arrival(trace, *stream)->arrivals_at, twin.arrivals_at);
  }
}

// If this failed, traces of instantaneous requests would get another curve than LRU's.
TEST(ActivityCurve, WithoutHoldingItIsThePlainLruCurve) {
  std::vector<std::vector<std::uint32_t>> requests;
  Rng rng(5);
  for (int i = 0; i < 200'000; ++i) requests.push_back({rng.below(1 + rng.below(3000))});
  Trace trace = trace_of(requests);
  trace.duration_s = Column<float>(std::vector<float>(requests.size(), 0.0F));
  const auto curve = activity_curve(trace);
  ASSERT_TRUE(curve);
  const auto stream = make_use_stream(trace);
  ASSERT_TRUE(stream);
  const LruCurve plain = lru_curve(*stream);
  EXPECT_EQ(curve->misses_at, plain.misses_at);
  EXPECT_EQ(curve->compulsory_misses, plain.compulsory_misses);
  EXPECT_EQ(curve->waits(0), curve->requests);
  EXPECT_EQ(curve->waits(1), 0U);
}

// If this failed, the numbers of slots that waits and adapters in use ask for would be off by one.
TEST(ActivityCurve, CountsByHand) {
  // a runs 0..10 s, b 1..11 s, then c at 2 s finds two in use; a again at 3 s is in use already.
  const Trace trace = trace_of({{0}, {1}, {2}, {0}}, 10);
  const auto curve = activity_curve(trace);
  ASSERT_TRUE(curve);
  EXPECT_EQ(curve->requests, 4U);
  EXPECT_EQ(curve->misses(1), 3U);
  EXPECT_EQ(curve->waits(0), 3U);  // the fourth finds its adapter in use
  EXPECT_EQ(curve->waits(1), 2U);
  EXPECT_EQ(curve->waits(2), 1U);
  EXPECT_EQ(curve->waits(3), 0U);
  EXPECT_EQ(curve->active_quantile(0.25), 1U);
  EXPECT_EQ(curve->active_quantile(0.5), 2U);
  EXPECT_EQ(curve->active_quantile(1), 3U);
}

// If this failed, a plan would say that it holds for more traffic than it does.
TEST(ActivityCurve, MoreTrafficIsTheSameRequestsSooner) {
  for (const double traffic : {0.25, 2.0, 4.0}) {  // powers of two: no rounding either way
    Trace trace = with_durations(skewed_trace(3, 20, 400), 3, 8.0);
    const auto scaled = activity_curve(trace, traffic);
    std::vector<double> sooner;
    for (std::uint64_t i = 0; i < trace.requests; ++i) sooner.push_back(trace.arrival_s[i] / traffic);
    trace.arrival_s = Column<double>(std::move(sooner));
    const auto direct = activity_curve(trace);
    ASSERT_TRUE(scaled && direct);
    EXPECT_EQ(scaled->misses_at, direct->misses_at);
    EXPECT_EQ(scaled->waits_at, direct->waits_at);
    EXPECT_EQ(scaled->arrivals_at, direct->arrivals_at);
  }
  EXPECT_FALSE(activity_curve(with_durations(skewed_trace(3, 20, 400), 3, 8.0), 0));
}

// If this failed, the light pass would ask for another floor than the curve that is shown beside it.
TEST(ActivityCurve, TheLightPassSeesTheSameAdaptersInUse) {
  const Trace trace = with_durations(skewed_trace(4, 30, 2000), 4, 12.0);
  const auto stream = make_batch_stream(trace);
  ASSERT_TRUE(stream);
  for (const double traffic : {0.5, 1.0, 3.0}) {
    const auto curve = activity_curve(trace, *stream, traffic);
    const auto light = active_at_arrival(trace, *stream, traffic);
    ASSERT_TRUE(curve && light);
    EXPECT_EQ(light->requests, curve->requests);
    EXPECT_EQ(light->arrivals_at, curve->arrivals_at);
    EXPECT_EQ(light->unknown_durations, curve->unknown_durations);
  }
}

// If this failed, a trace built by hand, without names, would be counted beyond the ends of the columns.
TEST(ActivityCurve, RowsNeedNoNames) {
  Trace trace = with_durations(skewed_trace(5, 20, 400), 5, 6.0);
  const auto named = activity_curve(trace);
  trace.adapters.name = {};
  ASSERT_EQ(trace.rows(), 0U);
  const auto nameless = activity_curve(trace);
  ASSERT_TRUE(named && nameless);
  EXPECT_EQ(nameless->misses_at, named->misses_at);
  EXPECT_EQ(nameless->waits_at, named->waits_at);
}

// If this failed, a trace that nobody checked would be counted beyond the ends of the columns.
TEST(ActivityCurve, ArrivalsOutOfOrderComeWithTheOneBefore) {
  Trace trace = trace_of({{0}, {0}, {0}, {1}, {0}});
  trace.duration_s = Column<float>(std::vector<float>(5, 100.0F));
  trace.arrival_s = Column<double>(std::vector<double>{0, 200, 1, 150, 400});
  const auto curve = activity_curve(trace);
  const auto stream = make_batch_stream(trace);
  ASSERT_TRUE(curve && stream);
  EXPECT_EQ(active_at_arrival(trace, *stream)->arrivals_at, curve->arrivals_at);
  trace.arrival_s = Column<double>(std::vector<double>{0, 200, 200, 200, 400});
  expect_equal(*curve, by_every_end(trace));
}

// If this failed, requests of unknown length would be taken for such that hold nothing, and nobody told.
TEST(ActivityCurve, CountsUnknownDurations) {
  Trace trace = trace_of({{0}, {}, {1}, {0}, {1}}, 5);
  trace.duration_s = Column<float>(std::vector<float>{5, 0, 0, -1, 3});
  const auto curve = activity_curve(trace);
  ASSERT_TRUE(curve);
  EXPECT_EQ(curve->requests, 4U);
  EXPECT_EQ(curve->unknown_durations, 2U) << "the one without an adapter does not count";
}

// If this failed, times that are missing would be taken for zero, and every slot count for feasible.
TEST(ActivityCurve, NeedsTimes) {
  const Trace trace = trace_of({{0}, {1}});
  EXPECT_FALSE(has_activity(trace));
  const auto curve = activity_curve(trace);
  ASSERT_FALSE(curve);
  EXPECT_EQ(curve.error().code, Errc::kInvalid);
}

}  // namespace
}  // namespace loracle
