// Tiers stacked: what a batch, a pin and a lease are promised, and that both boundaries keep their word.

#include "loracle/policy/hierarchy.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "loracle/core/rng.hpp"
#include "loracle/policy/any_policy.hpp"
#include "loracle/policy/gdsf.hpp"
#include "loracle/policy/lru.hpp"
#include "loracle/policy/sieve.hpp"
#include "support/allocation_count.hpp"

namespace loracle {
namespace {

constexpr Bytes kAnyBytes{kUnlimited};
constexpr Place kPlaces[] = {Place::kDevice, Place::kHost, Place::kDisk};

class Recorder final : public DecisionSink {
 public:
  void on_decision(const Decision& decision) noexcept override { decisions.push_back(decision); }
  std::vector<Decision> decisions;
};

std::string text_of(const Decision& d) {
  const auto slot = d.slot == kNoSlot ? std::string("-") : std::to_string(d.slot);
  return std::string(name_of(d.action)) + " " + std::to_string(index_of(d.row)) + " " +
         std::string(name_of(d.from)) + " " + std::string(name_of(d.to)) + " " + slot;
}

struct LevelShape {
  Capacity capacity;
  Boundary below = Boundary::kInclusive;
};

template <class P = Lru>
Hierarchy<P> make_hierarchy(std::uint32_t rows, const std::vector<LevelShape>& shapes,
                            const AdapterTable& table, DecisionLog& log) {
  std::vector<TierSetup<P>> setups;
  for (std::size_t i = 0; i < shapes.size(); ++i)
    setups.push_back({kPlaces[i], shapes[i].capacity, P(rows, shapes[i].capacity, {}), shapes[i].below});
  return Hierarchy<P>(rows, std::move(setups), table, log);
}

template <class P>
Hierarchy<AnyPolicy> make_any_hierarchy(std::uint32_t rows, const std::vector<LevelShape>& shapes,
                                        const AdapterTable& table, DecisionLog& log) {
  std::vector<TierSetup<AnyPolicy>> setups;
  for (std::size_t i = 0; i < shapes.size(); ++i)
    setups.push_back(
        {kPlaces[i], shapes[i].capacity, AnyPolicy(P(rows, shapes[i].capacity, {})), shapes[i].below});
  return Hierarchy<AnyPolicy>(rows, std::move(setups), table, log);
}

template <class P>
Verdict request(Hierarchy<P>& tiers, std::vector<Row> batch, std::uint64_t now) {
  return tiers.request(batch, Tick{now});
}

/// Everything about residency that a request may change.
template <class P>
std::vector<std::vector<Row>> residency_of(const Hierarchy<P>& tiers) {
  std::vector<std::vector<Row>> slots;
  for (std::size_t level = 0; level < tiers.levels(); ++level) slots.push_back(tiers.tier(level).row_in());
  return slots;
}

/// `count` distinct rows.
std::vector<Row> draw_batch(Rng& rng, std::uint32_t rows, std::uint32_t count) {
  std::vector<Row> batch;
  while (batch.size() < count) {
    const Row row{rng.below(rows)};
    if (std::find(batch.begin(), batch.end(), row) == batch.end()) batch.push_back(row);
  }
  return batch;
}

// vLLM's first weakness: with the batch {A new, B hot} it evicts B for A and loads it again.
TEST(Hierarchy, ABatchNeverEvictsItsOwnMembers) {
  enum : std::uint32_t { kA, kB, kC };
  for (const std::vector<Row>& batch :
       {std::vector<Row>{Row{kA}, Row{kB}}, std::vector<Row>{Row{kB}, Row{kA}}}) {
    const AdapterTable table;
    DecisionLog log;
    Hierarchy<Lru> tiers = make_hierarchy(3, {{{2, kAnyBytes}}, {{2, kAnyBytes}}}, table, log);
    ASSERT_EQ(request(tiers, {Row{kB}, Row{kC}}, 0), Verdict::kServed);
    ASSERT_EQ(tiers.request(batch, Tick{2}), Verdict::kServed);
    EXPECT_EQ(tiers.counts().disk_loads, 2U + 1U) << "vLLM loads twice";
    EXPECT_TRUE(tiers.tier(0).contains(Row{kA}));
    EXPECT_TRUE(tiers.tier(0).contains(Row{kB}));
  }
}

// vLLM's second: a pin takes a slot that the batch was promised. It has to be said before anything is moved.
TEST(Hierarchy, CountsPinsBeforeItAcceptsABatch) {
  enum : std::uint32_t { kP, kX, kY };
  const AdapterTable table;
  DecisionLog log;
  Hierarchy<Lru> tiers = make_hierarchy(3, {{{2, kAnyBytes}}, {{3, kAnyBytes}}}, table, log);
  ASSERT_EQ(tiers.pin(Row{kP}, Tick{0}), Verdict::kServed);
  EXPECT_EQ(request(tiers, {Row{kX}, Row{kY}}, 1), Verdict::kAllHeld);
  EXPECT_EQ(request(tiers, {Row{kX}, Row{kP}}, 3), Verdict::kServed);
  tiers.unpin(Row{kP});
  EXPECT_EQ(request(tiers, {Row{kX}, Row{kY}}, 5), Verdict::kServed);
}

// vLLM's third: with all pinned one more adapter kills its engine; here it is an answer.
TEST(Hierarchy, RefusesWhenEverythingIsPinned) {
  const AdapterTable table;
  DecisionLog log;
  Hierarchy<Lru> tiers = make_hierarchy(3, {{{2, kAnyBytes}}, {{2, kAnyBytes}}}, table, log);
  ASSERT_EQ(tiers.pin(Row{0}, Tick{0}), Verdict::kServed);
  ASSERT_EQ(tiers.pin(Row{1}, Tick{1}), Verdict::kServed);
  EXPECT_EQ(request(tiers, {Row{2}}, 2), Verdict::kAllHeld);
  EXPECT_EQ(tiers.pin(Row{2}, Tick{3}), Verdict::kAllHeld);
  EXPECT_FALSE(tiers.tier(0).held(Row{2})) << "a refused pin leaves no pin behind";
  EXPECT_EQ(request(tiers, {Row{1}, Row{0}}, 4), Verdict::kServed);
}

// A request that is refused halfway would have evicted adapters that others still use, for nothing.
TEST(Hierarchy, ARefusalLeavesTheTiersAsTheyWere) {
  constexpr std::uint32_t kRows = 10;
  for (std::uint64_t seed = 0; seed < 60; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Rng rng(seed);
    AdapterTable table;
    for (std::uint32_t i = 0; i < kRows; ++i) table.size.push_back(Bytes{1 + rng.below(30)});
    DecisionLog log;
    const Boundary below = seed % 2 == 0 ? Boundary::kInclusive : Boundary::kExclusive;
    Hierarchy<Lru> tiers =
        make_hierarchy(kRows, {{{3, Bytes{50}}, below}, {{5, Bytes{70}}, below}}, table, log);
    std::uint64_t refused = 0;
    for (std::uint64_t step = 0; step < 300; ++step) {
      const std::vector<Row> one = draw_batch(rng, kRows, 1);
      if (rng.below(10) == 0) tiers.unpin(one[0]);
      if (rng.below(20) == 0) static_cast<void>(tiers.pin(one[0], Tick{step * 8}));
      const auto before = residency_of(tiers);
      const HierarchyCounts counts = tiers.counts();
      const std::uint64_t logged = log.count();
      const std::vector<Row> batch = draw_batch(rng, kRows, 1 + rng.below(4));
      if (tiers.request(batch, Tick{step * 8 + 1}) == Verdict::kServed) continue;
      ++refused;
      ASSERT_EQ(residency_of(tiers), before);
      ASSERT_EQ(log.count(), logged + batch.size()) << "one line for each member";
      HierarchyCounts expected = counts;
      expected.uses += batch.size();
      expected.refused_uses += batch.size();
      ++expected.refused_requests;
      ASSERT_EQ(tiers.counts(), expected);
    }
    EXPECT_GT(refused, 0U);
  }
}

// "Full" is a different matter from "never": an operator can unpin, but cannot make an adapter smaller.
TEST(Hierarchy, SaysWhyItRefuses) {
  AdapterTable table;
  table.size = {Bytes{10}, Bytes{60}, Bytes{50}, Bytes{101}, Bytes{10}};
  DecisionLog log;
  Hierarchy<Lru> tiers = make_hierarchy(5, {{{2, Bytes{100}}}, {{4, Bytes{200}}}}, table, log);
  EXPECT_EQ(request(tiers, {Row{0}, Row{1}, Row{2}}, 0), Verdict::kTooManyAdapters);
  EXPECT_EQ(request(tiers, {Row{3}}, 3), Verdict::kTooLarge);
  EXPECT_EQ(request(tiers, {Row{1}, Row{2}}, 4), Verdict::kTooLarge) << "110 bytes together";
  EXPECT_EQ(tiers.pin(Row{1}, Tick{6}), Verdict::kServed);
  EXPECT_EQ(request(tiers, {Row{2}}, 7), Verdict::kAllHeld);
  EXPECT_EQ(request(tiers, {Row{0}}, 8), Verdict::kServed);
  EXPECT_EQ(request(tiers, {Row{0}, Row{1}}, 9), Verdict::kServed);
}

// A lease is a running batch: its slots are being read by the GPU.
TEST(Hierarchy, ALeasedRowStaysUntilItsLastLeaseIsGivenBack) {
  const AdapterTable table;
  DecisionLog log;
  Hierarchy<Lru> tiers = make_hierarchy(4, {{{2, kAnyBytes}}, {{2, kAnyBytes}}}, table, log);
  const std::vector<Row> leased = {Row{0}};
  ASSERT_EQ(request(tiers, {Row{0}, Row{1}}, 0), Verdict::kServed);
  tiers.lease(leased);
  tiers.lease(leased);
  ASSERT_EQ(request(tiers, {Row{2}}, 2), Verdict::kServed);
  EXPECT_TRUE(tiers.tier(0).contains(Row{0}));
  EXPECT_FALSE(tiers.tier(0).contains(Row{1}));
  tiers.give_back(leased);
  ASSERT_EQ(request(tiers, {Row{3}}, 3), Verdict::kServed);
  EXPECT_TRUE(tiers.tier(0).contains(Row{0}));
  tiers.give_back(leased);
  ASSERT_EQ(request(tiers, {Row{1}}, 4), Verdict::kServed);
  EXPECT_FALSE(tiers.tier(0).contains(Row{0}));
  EXPECT_FALSE(tiers.tier(1).contains(Row{0}));
}

// Inclusive: an adapter on the device whose host copy is gone could not be restored or copied again.
TEST(Hierarchy, AHostEvictionFreesTheDeviceSlot) {
  const AdapterTable table;
  Recorder recorder;
  DecisionLog log(&recorder);
  // 0 is used on the device alone in no way: a hit touches both tiers, so make the host forget it by bytes.
  AdapterTable sized;
  sized.size = {Bytes{10}, Bytes{10}, Bytes{25}};
  Hierarchy<Lru> tiers = make_hierarchy(3, {{{3, kAnyBytes}}, {{3, Bytes{40}}}}, sized, log);
  ASSERT_EQ(request(tiers, {Row{0}}, 0), Verdict::kServed);
  ASSERT_EQ(request(tiers, {Row{1}}, 1), Verdict::kServed);
  recorder.decisions.clear();
  ASSERT_EQ(request(tiers, {Row{2}}, 2), Verdict::kServed);
  std::vector<std::string> said;
  for (const Decision& decision : recorder.decisions) said.push_back(text_of(decision));
  EXPECT_EQ(said, (std::vector<std::string>{"evict 0 host - 0", "evict 0 device - 0", "load 2 origin host 0",
                                            "load 2 host device 0"}));
  EXPECT_EQ(tiers.counts().gpu_invalidations, 1U);
  EXPECT_EQ(tiers.counts().gpu_evictions, 0U);
  EXPECT_EQ(tiers.counts().host_evictions, 1U);
}

// Exclusive: the host gains what the device has; a second copy there would waste it.
TEST(Hierarchy, AnExclusiveVictimMovesDownAndAHitMovesItUp) {
  const AdapterTable table;
  Recorder recorder;
  DecisionLog log(&recorder);
  Hierarchy<Lru> tiers =
      make_hierarchy(4, {{{1, kAnyBytes}, Boundary::kExclusive}, {{1, kAnyBytes}}}, table, log);
  ASSERT_EQ(request(tiers, {Row{0}}, 0), Verdict::kServed);
  ASSERT_EQ(request(tiers, {Row{1}}, 1), Verdict::kServed);
  ASSERT_EQ(request(tiers, {Row{0}}, 2), Verdict::kServed);
  ASSERT_EQ(request(tiers, {Row{2}}, 3), Verdict::kServed);
  std::vector<std::string> said;
  for (const Decision& decision : recorder.decisions) said.push_back(text_of(decision));
  EXPECT_EQ(said, (std::vector<std::string>{
                      "load 0 origin device 0",                                                   //
                      "evict 0 device host 0", "load 0 device host 0", "load 1 origin device 0",  //
                      "evict 0 host device 0", "evict 1 device host 0", "load 1 device host 0",   //
                      "load 0 host device 0",                                                     //
                      "evict 0 device host 0", "evict 1 host - 0", "load 0 device host 0",
                      "load 2 origin device 0"}));
  EXPECT_EQ(tiers.counts().disk_loads, 3U);
  EXPECT_EQ(tiers.counts().host_to_device_loads, 4U);
  EXPECT_EQ(tiers.counts().gpu_evictions, 3U);
  EXPECT_EQ(tiers.counts().host_evictions, 1U);
}

// Counters are what the planner reports; a load counted at the wrong depth is a wrong time to first token.
TEST(Hierarchy, CountsLoadsByHowDeepTheyReach) {
  const AdapterTable table;
  DecisionLog log;
  Hierarchy<Lru> tiers =
      make_hierarchy(8, {{{1, kAnyBytes}}, {{2, kAnyBytes}}, {{3, kAnyBytes}}}, table, log);
  for (std::uint64_t i = 0; i < 4; ++i)
    ASSERT_EQ(request(tiers, {Row{static_cast<std::uint32_t>(i)}}, i), Verdict::kServed);
  // device {3}, host {2, 3}, disk {1, 2, 3}
  EXPECT_EQ(tiers.counts().origin_loads, 4U);
  ASSERT_EQ(request(tiers, {Row{3}}, 4), Verdict::kServed);  // device
  ASSERT_EQ(request(tiers, {Row{2}}, 5), Verdict::kServed);  // host
  ASSERT_EQ(request(tiers, {Row{1}}, 6), Verdict::kServed);  // disk
  ASSERT_EQ(request(tiers, {Row{0}}, 7), Verdict::kServed);  // origin
  const HierarchyCounts& counts = tiers.counts();
  EXPECT_EQ(counts.uses, 8U);
  EXPECT_EQ(counts.gpu_hits, 1U);
  EXPECT_EQ(counts.host_to_device_loads, 7U);
  EXPECT_EQ(counts.disk_loads, 6U);
  EXPECT_EQ(counts.origin_loads, 5U);
  EXPECT_EQ(counts.disk_evictions, 2U);
}

/// Random batches, pins and leases through every mix of boundaries; checks what must hold between any two.
void check_invariants(std::uint64_t seed) {
  SCOPED_TRACE("seed " + std::to_string(seed));
  constexpr std::uint32_t kRows = 14;
  Rng rng(seed);
  AdapterTable table;
  const bool sized = rng.below(2) == 0;
  if (sized)
    for (std::uint32_t i = 0; i < kRows; ++i) table.size.push_back(Bytes{1 + rng.below(30)});
  std::vector<LevelShape> shapes(1 + rng.below(3));
  for (LevelShape& shape : shapes) {
    shape.capacity = {1 + rng.below(9), sized && rng.below(3) != 0 ? Bytes{20 + rng.below(150)} : kAnyBytes};
    shape.below = rng.below(2) == 0 ? Boundary::kInclusive : Boundary::kExclusive;
  }
  DecisionLog log;
  Hierarchy<Lru> tiers = make_hierarchy(kRows, shapes, table, log);
  std::vector<std::vector<Row>> leases;
  std::vector<bool> pinned(kRows, false);
  for (std::uint64_t step = 0; step < 400; ++step) {
    const Tick now{step * 10};
    const Row any{rng.below(kRows)};
    std::vector<Row> must_stay;
    for (std::uint32_t i = 0; i < kRows; ++i)
      if (pinned[i]) must_stay.push_back(Row{i});
    for (const std::vector<Row>& lease : leases)
      must_stay.insert(must_stay.end(), lease.begin(), lease.end());
    std::vector<std::vector<bool>> was_in(tiers.levels());
    for (std::size_t level = 0; level < tiers.levels(); ++level)
      for (const Row row : must_stay) was_in[level].push_back(tiers.tier(level).contains(row));
    const std::uint32_t what = rng.below(12);
    std::vector<Row> batch;
    if (what == 0) {
      tiers.unpin(any);
      pinned[index_of(any)] = false;
    } else if (what == 1) {
      if (tiers.pin(any, now) == Verdict::kServed) {
        pinned[index_of(any)] = true;
        batch = {any};
      }
    } else if (what == 2 && !leases.empty()) {
      const std::size_t which = rng.below(static_cast<std::uint32_t>(leases.size()));
      tiers.give_back(leases[which]);
      leases.erase(leases.begin() + static_cast<std::ptrdiff_t>(which));
    } else {
      batch = draw_batch(rng, kRows, 1 + rng.below(4));
      const Verdict verdict = tiers.request(batch, now);
      if (verdict != Verdict::kServed) batch.clear();
      if (!batch.empty() && rng.below(4) == 0 && leases.size() < 3) {
        tiers.lease(batch);
        leases.push_back(batch);
      }
    }
    for (const Row row : batch) ASSERT_TRUE(tiers.tier(0).contains(row)) << "served, and not on the device";
    for (std::size_t m = 0; m < must_stay.size(); ++m) {
      bool resident_before = false;
      bool resident_now = false;
      for (std::size_t level = 0; level < tiers.levels(); ++level) {
        resident_before = resident_before || was_in[level][m];
        resident_now = resident_now || tiers.tier(level).contains(must_stay[m]);
        ASSERT_TRUE(level != 0 || !was_in[0][m] || tiers.tier(0).contains(must_stay[m]))
            << "step " << step << ": a held row left the device";
      }
      ASSERT_TRUE(resident_now || !resident_before) << "step " << step << ": a held row is gone";
    }
    for (std::size_t level = 0; level < tiers.levels(); ++level) {
      const Tier<Lru>& tier = tiers.tier(level);
      Occupancy used;
      for (std::uint32_t i = 0; i < kRows; ++i) {
        if (!tier.contains(Row{i})) continue;
        ++used.entries;
        used.bytes += table.size_of(Row{i});
        if (level + 1 == tiers.levels()) continue;
        const bool below = tiers.tier(level + 1).contains(Row{i});
        ASSERT_EQ(below, shapes[level].below == Boundary::kInclusive)
            << "step " << step << ": row " << i << " is in level " << level << (below ? " and" : " and not")
            << " below";
      }
      ASSERT_EQ(used.entries, tier.used().entries);
      ASSERT_EQ(used.bytes, tier.used().bytes);
      ASSERT_LE(used.entries, tier.capacity().entries);
      ASSERT_LE(used.bytes, tier.capacity().bytes);
    }
  }
}

// The whole of the promise, over every mix of depths, boundaries and limits.
TEST(Hierarchy, KeepsItsInvariantsUnderRandomTraffic) {
  for (std::uint64_t seed = 0; seed < 400 && !::testing::Test::HasFatalFailure(); ++seed)
    check_invariants(seed);
}

/// The log's hash after random batches; the same calls whatever the policy type.
template <class P>
std::uint64_t hash_of_run(Hierarchy<P> tiers, const DecisionLog& log, std::uint64_t seed,
                          std::uint32_t rows) {
  Rng rng(seed);
  for (std::uint64_t step = 0; step < 500; ++step) {
    const Row row{rng.below(rows)};
    if (rng.below(20) == 0)
      tiers.unpin(row);
    else if (rng.below(20) == 0)
      static_cast<void>(tiers.pin(row, Tick{step * 10}));
    else
      static_cast<void>(tiers.request(draw_batch(rng, rows, 1 + rng.below(3)), Tick{step * 10 + 1}));
  }
  EXPECT_GT(log.count(), 500U);
  return log.hash();
}

template <class P>
void check_any_policy_decides_alike() {
  constexpr std::uint32_t kRows = 16;
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    Rng rng(seed);
    AdapterTable table;
    for (std::uint32_t i = 0; i < kRows; ++i) {
      table.size.push_back(Bytes{1 + rng.below(30)});
      table.reload_cost.push_back(static_cast<float>(1 + rng.below(5)));
    }
    const Boundary below = seed % 2 == 0 ? Boundary::kInclusive : Boundary::kExclusive;
    const std::vector<LevelShape> shapes = {
        {{4, kAnyBytes}, below}, {{8, Bytes{150}}, below}, {{12, kAnyBytes}}};
    DecisionLog typed_log;
    DecisionLog any_log;
    const std::uint64_t typed =
        hash_of_run(make_hierarchy<P>(kRows, shapes, table, typed_log), typed_log, seed, kRows);
    const std::uint64_t any =
        hash_of_run(make_any_hierarchy<P>(kRows, shapes, table, any_log), any_log, seed, kRows);
    EXPECT_EQ(typed, any) << P::kName << ", seed " << seed;
  }
}

// A policy chosen by name must decide as the type does, or a plan made with one is no plan for the other.
TEST(Hierarchy, DecidesAlikeWithAPolicyChosenByName) {
  check_any_policy_decides_alike<Lru>();
  check_any_policy_decides_alike<Sieve>();
  check_any_policy_decides_alike<Gdsf>();
}

// The hash goes into files and is compared across machines and versions: the same decisions, the same number.
TEST(Hierarchy, AKnownRunHasAKnownLogAndHash) {
  const AdapterTable table;
  Recorder recorder;
  DecisionLog log(&recorder);
  Hierarchy<Lru> tiers = make_hierarchy(8, {{{2, kAnyBytes}}, {{3, kAnyBytes}}}, table, log);
  EXPECT_EQ(request(tiers, {Row{0}, Row{1}}, 0), Verdict::kServed);
  EXPECT_EQ(request(tiers, {Row{2}}, 2), Verdict::kServed);
  EXPECT_EQ(request(tiers, {Row{1}, Row{3}}, 3), Verdict::kServed);
  EXPECT_EQ(request(tiers, {Row{4}, Row{5}, Row{6}}, 5), Verdict::kTooManyAdapters);
  std::vector<std::string> said;
  for (const Decision& decision : recorder.decisions) {
    EXPECT_EQ(decision.sequence, said.size());
    said.push_back(text_of(decision));
  }
  EXPECT_EQ(
      said,
      (std::vector<std::string>{
          "load 0 origin host 0", "load 0 host device 0", "load 1 origin host 1", "load 1 host device 1",
          "load 2 origin host 2", "evict 0 device - 0", "load 2 host device 0",  //
          "hit 1 device device 1", "evict 0 host - 0", "load 3 origin host 0", "evict 2 device - 0",
          "load 3 host device 0",  //
          "refuse 4 - device -", "refuse 5 - device -", "refuse 6 - device -"}));
  EXPECT_EQ(log.count(), said.size());
  EXPECT_EQ(log.hash(), 0x681E'257E'7564'F051ULL)
      << "computed apart, by a few lines of Python over the list above";
}

// The request path of a server must not wait for the heap.
TEST(Hierarchy, AllocatesNothingOnceBuilt) {
  constexpr std::uint32_t kRows = 40;
  const AdapterTable table;
  for (const Boundary below : {Boundary::kInclusive, Boundary::kExclusive}) {
    DecisionLog log;
    Hierarchy<Lru> tiers = make_hierarchy(
        kRows, {{{4, kAnyBytes}, below}, {{8, kAnyBytes}, below}, {{16, kAnyBytes}}}, table, log);
    Rng rng(4);
    std::vector<std::vector<Row>> batches;
    for (int i = 0; i < 500; ++i) batches.push_back(draw_batch(rng, kRows, 1 + rng.below(5)));
    const std::uint64_t before = testing::allocation_count();
    Tick now{};
    for (const std::vector<Row>& batch : batches) {
      static_cast<void>(tiers.request(batch, now));
      tiers.lease(batch);
      tiers.give_back(batch);
      now += Tick{10};
    }
    EXPECT_EQ(testing::allocation_count() - before, 0U);
  }
}

// The order of tiers is a matter of construction; a wrong one is a bug of the caller, found at once.
TEST(HierarchyDeathTest, RefusesTiersInAWrongOrder) {
  const AdapterTable table;
  DecisionLog log;
  const auto build = [&](std::vector<Place> places) {
    std::vector<TierSetup<Lru>> setups;
    for (const Place place : places)
      setups.push_back({place, {2, kAnyBytes}, Lru(4, {2, kAnyBytes}, {}), {}});
    Hierarchy<Lru> tiers(4, std::move(setups), table, log);
  };
  EXPECT_DEATH(build({}), "empty");
  EXPECT_DEATH(build({Place::kHost}), "kDevice");
  EXPECT_DEATH(build({Place::kDevice, Place::kHost, Place::kDisk, Place::kOrigin}), "size");
}

}  // namespace
}  // namespace loracle
