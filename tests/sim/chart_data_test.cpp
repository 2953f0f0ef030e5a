#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "loracle/sim/plan.hpp"
#include "loracle/sim/plan_charts.hpp"
#include "loracle/sim/replay.hpp"
#include "loracle/sim/summary.hpp"
#include "plan_traces.hpp"

namespace loracle {
namespace {

using testing::cyclic_trace;
using testing::skewed_trace;

/// Adapters of unequal size, two tenants and requests of nobody.
Trace rich_trace(std::uint64_t seed, std::uint32_t requests = 4000) {
  Trace trace = skewed_trace(seed, 60, requests, 5);
  std::vector<std::uint64_t> bytes;
  for (std::uint32_t row = 0; row < trace.rows(); ++row) bytes.push_back((1 + row % 7) << 24U);
  trace.adapters.bytes = Column<std::uint64_t>(std::move(bytes));
  std::vector<std::uint32_t> tenant;
  for (std::uint64_t i = 0; i < trace.requests; ++i) {
    const auto row = static_cast<std::uint32_t>(trace.batch(i)[0]);
    tenant.push_back(i % 50 == 0 ? kNoTenant : row % 9 == 0 ? 1 : 0);
  }
  trace.tenant = Column<std::uint32_t>(std::move(tenant));
  trace.tenant_name.begin = Column<std::uint64_t>(std::vector<std::uint64_t>{0, 4, 9});
  trace.tenant_name.text = Column<char>(std::vector<char>{'a', 'c', 'm', 'e', 'b', 'u', 'r', 'n', 's'});
  return trace;
}

Plan planned(const Trace& trace, PlanOptions options = {}) {
  options.what_ifs = false;
  InlineExecutor executor;
  Result<Plan> plan = make_plan(trace, options, executor);
  EXPECT_TRUE(plan.has_value()) << (plan ? "" : plan.error().message);
  return plan ? std::move(*plan) : Plan{};
}

/// Each request of the chosen pair's simulation as it was told.
class Told final : public StartWatch {
 public:
  struct One {
    std::uint64_t batch = 0;
    float slot_wait_s = 0;
    float load_wait_s = 0;
    std::vector<StartedUse> uses;
  };
  void on_start(const StartedRequest& request) noexcept override {
    all.push_back({request.batch,
                   static_cast<float>(request.slot_wait_s),
                   static_cast<float>(request.load_wait_s),
                   {request.uses.begin(), request.uses.end()}});
  }
  std::vector<One> all;
};

EventOptions options_of(const Plan& plan) {
  EventOptions options;
  options.tiers.tiers = "lru/lru";
  options.tiers.max_loras = plan.chosen.max_loras;
  options.tiers.max_cpu_loras = plan.chosen.max_cpu_loras;
  options.max_num_seqs = 1U << 30U;
  options.slot = plan.slot_load;
  options.disk = plan.disk_load;
  return options;
}

void expect_spread(const Spread& spread, std::vector<float> times) {
  EXPECT_EQ(spread.count, times.size());
  std::erase_if(times, [](float time) { return !(time > 0); });
  std::sort(times.begin(), times.end());
  ASSERT_EQ(spread.positive, times.size());
  if (times.empty()) {
    EXPECT_TRUE(spread.at_s.empty());
    return;
  }
  ASSERT_EQ(spread.at_s.size(), spread_levels().size());
  for (std::size_t i = 0; i < spread.at_s.size(); ++i)
    EXPECT_EQ(spread.at_s[i],
              times[static_cast<std::size_t>(spread_levels()[i] * static_cast<double>(times.size() - 1))]);
}

// If this failed, the charts of delays would show another simulation than the one that the tables are of.
TEST(ChartData, DelaysAreThoseOfTheChosenPair) {
  const Trace trace = rich_trace(31);
  const Plan plan = planned(trace);
  Told told;
  EventOptions options = options_of(plan);
  options.starts = &told;
  const auto outcome = simulate_events(trace, options);
  ASSERT_TRUE(outcome);
  const DelayCauses& delays = plan.charts.delays;
  ASSERT_TRUE(delays.known);
  EXPECT_EQ(delays.slot_times, outcome->slot_wait);
  EXPECT_EQ(delays.load_times, outcome->load_wait);
  EXPECT_EQ(delays.delay_times, outcome->delay);
  std::vector<float> slot;
  std::vector<float> load;
  std::vector<float> both;
  std::map<Place, std::vector<float>> by_tier;
  for (const Told::One& one : told.all) {
    slot.push_back(one.slot_wait_s);
    load.push_back(one.load_wait_s);
    both.push_back(one.slot_wait_s + one.load_wait_s);
    float longest = 0;
    for (const StartedUse& use : one.uses) {
      by_tier[use.found].push_back(static_cast<float>(use.load_s));
      longest = std::max(longest, static_cast<float>(use.load_s));
    }
    EXPECT_EQ(longest, one.load_wait_s) << "a request waits for the last of its adapters";
  }
  expect_spread(delays.slot_wait, slot);
  expect_spread(delays.load_wait, load);
  expect_spread(delays.delay, both);
  EXPECT_EQ(by_tier[Place::kDevice].size(), outcome->counts.gpu_hits);
  EXPECT_EQ(by_tier[Place::kDisk].size(), outcome->counts.disk_loads);
  expect_spread(delays.load[0], by_tier[Place::kDevice]);
  expect_spread(delays.load[1], by_tier[Place::kHost]);
  expect_spread(delays.load[2], by_tier[Place::kDisk]);
}

/// The same, counted by name.
std::vector<ServedGroup> counted_groups(const Told& told, const BatchStream& stream,
                                        const std::function<std::string(std::uint64_t, Row)>& name_of) {
  std::map<std::string, ServedGroup> groups;
  std::map<std::string, std::vector<float>> delays;
  for (const Told::One& one : told.all) {
    std::map<std::string, bool> seen;
    for (const StartedUse& use : one.uses) {
      const std::string name = name_of(stream.origin[one.batch], use.row);
      ServedGroup& group = groups[name];
      group.name = name;
      ++group.uses;
      group.gpu_hits += use.found == Place::kDevice ? 1U : 0U;
      group.disk_loads += use.found == Place::kDisk ? 1U : 0U;
      if (std::exchange(seen[name], true)) continue;
      ++group.requests;
      group.waited += one.slot_wait_s > 0 ? 1U : 0U;
      delays[name].push_back(one.slot_wait_s + one.load_wait_s);
    }
  }
  std::vector<ServedGroup> all;
  for (auto& [name, group] : groups) {
    std::vector<float>& mine = delays[name];
    std::sort(mine.begin(), mine.end());
    group.delay_p99_s =
        static_cast<double>(mine[static_cast<std::size_t>(0.99 * static_cast<double>(mine.size() - 1))]);
    all.push_back(group);
  }
  return all;
}

void expect_worst(const WorstServed& served, const std::vector<ServedGroup>& all) {
  EXPECT_EQ(served.groups, all.size());
  ASSERT_EQ(served.worst.size(), std::min(kWorstServed, all.size()));
  std::uint64_t evictions = 0;
  for (ServedGroup group : served.worst) {
    evictions += std::exchange(group.evictions, 0);
    EXPECT_GE(group.requests, served.requests_min);
    EXPECT_NE(std::find(all.begin(), all.end(), group), all.end()) << group.name;
  }
  EXPECT_LE(evictions, served.evictions);
  // Nobody who is ranked and left out waits longer.
  for (const ServedGroup& group : all) {
    const bool is_shown = std::any_of(served.worst.begin(), served.worst.end(),
                                      [&](const ServedGroup& shown) { return shown.name == group.name; });
    if (!is_shown && group.requests >= served.requests_min) {
      EXPECT_LE(group.delay_p99_s, served.worst.back().delay_p99_s) << group.name;
    }
  }
}

// If this failed, the report would name the wrong ones.
TEST(ChartData, TheWorstAreThoseACountFinds) {
  for (const std::uint64_t seed : {32U, 33U}) {
    const Trace trace = rich_trace(seed);
    const Plan plan = planned(trace);
    const auto stream = make_batch_stream(trace, NextUses::kUnknown);
    ASSERT_TRUE(stream);
    Told told;
    EventOptions options = options_of(plan);
    options.starts = &told;
    const auto outcome = simulate_events(trace, *stream, options);
    ASSERT_TRUE(outcome);
    expect_worst(plan.charts.adapters, counted_groups(told, *stream, [&](std::uint64_t, Row row) {
                   return std::string(trace.adapters.name[index_of(row)]);
                 }));
    EXPECT_GE(plan.charts.adapters.evictions, outcome->counts.gpu_evictions);
    EXPECT_EQ(plan.charts.adapters.evictions, plan.charts.tenants.evictions);
    const auto tenants = counted_groups(told, *stream, [&](std::uint64_t request, Row) {
      const std::uint32_t tenant = trace.tenant[request];
      return tenant == kNoTenant ? "(no tenant)" : std::string(trace.tenant_name[tenant]);
    });
    ASSERT_EQ(tenants.size(), 3U);
    expect_worst(plan.charts.tenants, tenants);
    std::uint64_t evictions = 0;
    for (const ServedGroup& tenant : plan.charts.tenants.worst) evictions += tenant.evictions;
    EXPECT_EQ(evictions, plan.charts.tenants.evictions) << "all three are shown";
  }
}

// If this failed, one tenant, or a trace without any, would be compared with itself.
TEST(ChartData, NobodyIsWorstAlone) {
  const Plan one = planned(cyclic_trace(1, 300, 5));
  EXPECT_TRUE(one.charts.adapters.worst.empty());
  EXPECT_TRUE(one.charts.tenants.worst.empty());
  EXPECT_EQ(one.charts.tenants.groups, 0U);
}

// If this failed, the map would not be that of the histogram beside it.
TEST(ChartData, TheDistanceMapIsTheHistogramInTime) {
  const Trace trace = rich_trace(34, 1500);
  const Plan plan = planned(trace);
  const DistanceMap& map = plan.charts.distances;
  const std::size_t bins = plan.distances.size();
  ASSERT_EQ(map.stretches(), kDistanceStretchesMax);
  const auto stream = make_batch_stream(trace, NextUses::kUnknown);
  ASSERT_TRUE(stream);
  std::vector<Row> stack;  // the last used first
  std::vector<std::uint64_t> first(map.stretches(), 0);
  std::vector<std::uint64_t> uses(map.uses.size(), 0);
  for (std::uint64_t i = 0; i < stream->requests(); ++i) {
    const std::uint64_t stretch = i * map.stretches() / stream->requests();
    for (const Row row : stream->batch(i)) {
      const auto at = std::find(stack.begin(), stack.end(), row);
      if (at == stack.end()) {
        ++first[stretch];
      } else {
        const auto distance = static_cast<std::uint64_t>(at - stack.begin()) + 1;
        std::size_t bin = 0;
        while (plan.distances[bin].high < distance) ++bin;
        ++uses[stretch * bins + bin];
        stack.erase(at);
      }
      stack.insert(stack.begin(), row);
    }
  }
  EXPECT_EQ(map.first_uses, first);
  EXPECT_EQ(map.uses, uses);
  for (std::size_t bin = 0; bin < bins; ++bin) {
    std::uint64_t all = 0;
    for (std::size_t stretch = 0; stretch < map.stretches(); ++stretch) all += map.uses[stretch * bins + bin];
    EXPECT_EQ(all, plan.distances[bin].uses) << bin;
  }
  EXPECT_EQ(std::accumulate(first.begin(), first.end(), std::uint64_t{0}), plan.adapters);
  EXPECT_TRUE(planned(cyclic_trace(3, 10)).charts.distances.begin.empty()) << "too short to be cut";
}

// If this failed, the byte curve would promise what a cache of that size does not hold.
TEST(ChartData, TheByteCurveIsWhatReplaysLoad) {
  const Trace trace = rich_trace(35);
  PlanOptions options;
  options.target_disk_loads = 0.2;
  const Plan plan = planned(trace, options);
  ASSERT_TRUE(plan.host_byte_gap.known);
  ASSERT_GT(plan.charts.bytes.size(), 20U);
  const auto stream = make_use_stream(trace);
  ASSERT_TRUE(stream);
  Bytes before = Bytes::max();
  bool has_choice = false;
  for (const ByteCurvePoint& point : plan.charts.bytes) {
    Capacity capacity;
    capacity.bytes = point.capacity;
    const auto counts = replay(*stream, SizeUnit::kBytes, {"lru", capacity});
    ASSERT_TRUE(counts);
    EXPECT_EQ(point.misses, counts->misses) << point.capacity.value;
    EXPECT_EQ(point.bytes_missed, counts->bytes_missed) << point.capacity.value;
    EXPECT_LE(point.bytes_missed, before);
    before = point.bytes_missed;
    if (point.capacity != plan.host_byte_gap.capacity) continue;
    has_choice = true;
    EXPECT_EQ(point.bytes_missed, plan.host_byte_gap.lru);
    EXPECT_GE(point.bytes_missed, plan.host_byte_gap.bound);
  }
  EXPECT_TRUE(has_choice);
  EXPECT_EQ(plan.charts.bytes.back().bytes_missed, plan.host_byte_gap.first_uses);
  EXPECT_TRUE(planned(skewed_trace(36, 40, 2000, 5)).charts.bytes.empty()) << "sizes are not known";
}

// If this failed, the line through the popularity would be of another trace, or miss its own area.
TEST(ChartData, TheLawIsFittedToTheRanks) {
  const Trace trace = rich_trace(37);
  const Plan plan = planned(trace);
  const auto stream = make_use_stream(trace);
  ASSERT_TRUE(stream && plan.charts.zipf);
  EXPECT_EQ(plan.charts.zipf->ranks, plan.adapters);
  EXPECT_EQ(plan.charts.zipf->draws, plan.uses);
  EXPECT_GT(plan.charts.zipf->alpha, 0);
  EXPECT_FALSE(planned(cyclic_trace(1, 50)).charts.zipf.has_value()) << "one adapter has no law";
}

// If this failed, the ring on the curves would lie where no slot pays.
TEST(ChartData, TheKneeIsWhereMoreSlotsCostMore) {
  const Trace trace = rich_trace(38);
  PlanOptions options;
  options.slot_worth_time = 0;
  EXPECT_EQ(planned(trace, options).charts.knee, planned(trace, options).grid.max_loras.back())
      << "slots cost nothing, so all that save anything pay";
  options.slot_worth_time = 1;
  EXPECT_EQ(planned(trace, options).charts.knee, planned(trace, options).largest_request) << "none does";
}

// If this failed, scripts would not find what the charts show.
TEST(ChartData, IsInTheJson) {
  const Plan plan = planned(rich_trace(39));
  const auto json = nlohmann::json::parse(plan_json(plan), nullptr, false);
  ASSERT_TRUE(json.is_object());
  EXPECT_EQ(json["delays"]["rows"].size(), spread_levels().size());
  EXPECT_EQ(json["delays"]["columns"].size(), json["delays"]["rows"][0].size());
  EXPECT_EQ(json["delays"]["delay_s"]["p99"], plan.charts.delays.delay_times.p99);
  EXPECT_EQ(json["worst"]["adapters"]["rows"].size(), kWorstServed);
  EXPECT_EQ(json["worst"]["adapters"]["rows"][0][0], plan.charts.adapters.worst[0].name);
  EXPECT_EQ(json["worst"]["tenants"]["rows"].size(), 3U);
  EXPECT_EQ(json["byte_curve"]["rows"].size(), plan.charts.bytes.size());
  EXPECT_EQ(json["distances_over_time"]["rows"].size(), plan.charts.distances.stretches());
  EXPECT_EQ(json["distances_over_time"]["columns"].size(), plan.distances.size() + 2);
  EXPECT_EQ(json["popularity"]["zipf"]["alpha"], plan.charts.zipf->alpha);
  EXPECT_EQ(json["curves"]["knee_max_loras"], plan.charts.knee);
  const auto timeless = nlohmann::json::parse(plan_json(planned(skewed_trace(40, 30, 900))), nullptr, false);
  for (const char* absent : {"delays", "worst", "byte_curve"}) {
    ASSERT_TRUE(timeless.contains(absent)) << absent;
    EXPECT_TRUE(timeless[absent].is_null()) << absent;
  }
}

}  // namespace
}  // namespace loracle
