// One tier: slots, capacity, holds and pins, whatever the policy.

#include "loracle/policy/tier.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <set>
#include <vector>

#include "loracle/core/rng.hpp"
#include "loracle/policy/gdsf.hpp"
#include "loracle/policy/lru.hpp"
#include "support/allocation_count.hpp"

namespace loracle {
namespace {

constexpr Bytes kAnyBytes{kUnlimited};

/// A policy with a say in what comes in: refuses odd rows, and evicts the newcomer where `bypass` is set.
class Picky {
 public:
  using Config = NoConfig;
  static constexpr std::string_view kName = "picky";
  static constexpr bool kClairvoyant = false;
  Picky(std::uint32_t rows, Capacity capacity, const Config& config) : inner_(rows, capacity, config) {}
  [[nodiscard]] bool contains(Row row) const noexcept { return inner_.contains(row); }
  [[nodiscard]] bool admit(Row row, Tick, const AdapterTable&) noexcept { return index_of(row) % 2 == 0; }
  void on_insert(Row row, Tick now, const AdapterTable& table) noexcept { inner_.on_insert(row, now, table); }
  void on_access(Row row, Tick now, const AdapterTable& table) noexcept { inner_.on_access(row, now, table); }
  void on_remove(Row row) noexcept { inner_.on_remove(row); }
  template <class Guard>
  [[nodiscard]] Row evict(Row incoming, Tick now, const AdapterTable& table, const Guard& guard) noexcept {
    if (incoming == Row{4} && !guard.blocks(incoming)) return incoming;
    return inner_.evict(incoming, now, table, guard);
  }

 private:
  Lru inner_;
};
static_assert(EvictionPolicy<Picky>);

template <class P = Lru>
Tier<P> make_tier(std::uint32_t rows, Capacity capacity, const AdapterTable& table) {
  return Tier<P>(rows, capacity, P(rows, capacity, {}), table);
}

/// Inserts and says who went, in order; fails the test unless the row came in.
template <class P>
std::vector<Row> insert(Tier<P>& tier, Row row, std::uint64_t now) {
  std::vector<Row> victims;
  EXPECT_EQ(tier.insert(row, Tick{now}, [&](Row victim, std::uint32_t) { victims.push_back(victim); }),
            Admission::kInserted);
  return victims;
}

// A slot handed out twice would have two adapters' weights in one place.
TEST(FreeSlots, HandsOutTheLowestEachOnce) {
  for (const std::uint32_t slots : {1U, 5U, 63U, 64U, 65U, 200U}) {
    FreeSlots free(slots);
    std::set<std::uint32_t> twin;
    for (std::uint32_t i = 0; i < slots; ++i) twin.insert(i);
    std::vector<std::uint32_t> taken;
    Rng rng(slots);
    for (int step = 0; step < 3000; ++step) {
      if (!twin.empty() && (taken.empty() || rng.below(2) == 0)) {
        const std::uint32_t slot = free.take_lowest();
        ASSERT_EQ(slot, *twin.begin());
        twin.erase(slot);
        taken.push_back(slot);
      } else {
        const std::uint32_t at = rng.below(static_cast<std::uint32_t>(taken.size()));
        free.give_back(taken[at]);
        twin.insert(taken[at]);
        taken.erase(taken.begin() + at);
      }
    }
  }
}

// The slot index names a place on the GPU: a running batch reads it, so it must not move under an adapter.
TEST(Tier, KeepsSlotsStableAndFillsTheLowestFree) {
  const AdapterTable table;
  Tier<Lru> tier = make_tier(10, {3, kAnyBytes}, table);
  for (std::uint32_t i = 0; i < 3; ++i) insert(tier, Row{i}, i);
  EXPECT_EQ(tier.row_in(), (std::vector<Row>{Row{0}, Row{1}, Row{2}}));
  EXPECT_EQ(tier.remove(Row{0}), 0U);
  EXPECT_EQ(tier.remove(Row{1}), 1U);
  EXPECT_EQ(tier.slot_of(Row{2}), 2U);
  insert(tier, Row{5}, 3);
  EXPECT_EQ(tier.slot_of(Row{5}), 0U);
  insert(tier, Row{6}, 4);
  EXPECT_EQ(tier.slot_of(Row{6}), 1U);
  EXPECT_EQ(insert(tier, Row{7}, 5), std::vector<Row>{Row{2}});
  EXPECT_EQ(tier.row_in(), (std::vector<Row>{Row{5}, Row{6}, Row{7}}));
  EXPECT_EQ(tier.slot_of(Row{2}), kNoSlot);
}

// Without it, a pinned tenant's adapter could be dropped by anybody's traffic.
TEST(Tier, NeverEvictsPinnedOrHeldRows) {
  const AdapterTable table;
  Tier<Lru> tier = make_tier(10, {3, kAnyBytes}, table);
  for (std::uint32_t i = 0; i < 3; ++i) insert(tier, Row{i}, i);
  tier.pin(Row{0});
  tier.hold(Row{1});
  EXPECT_EQ(insert(tier, Row{3}, 3), std::vector<Row>{Row{2}});
  tier.hold(Row{3});
  EXPECT_EQ(tier.insert(Row{4}, Tick{4}, [](Row, std::uint32_t) { FAIL(); }), Admission::kAllHeld);
  EXPECT_FALSE(tier.contains(Row{4}));
  tier.let_go(Row{1});
  EXPECT_EQ(insert(tier, Row{4}, 5), std::vector<Row>{Row{1}});
  tier.unpin(Row{0});
  EXPECT_EQ(insert(tier, Row{5}, 6), std::vector<Row>{Row{0}});
}

// Two leases of one adapter, one given back: the other still reads the slot.
TEST(Tier, HoldsNestAndPinsDoNot) {
  const AdapterTable table;
  Tier<Lru> tier = make_tier(4, {1, kAnyBytes}, table);
  insert(tier, Row{0}, 0);
  tier.hold(Row{0});
  tier.hold(Row{0});
  tier.let_go(Row{0});
  EXPECT_TRUE(tier.held(Row{0}));
  tier.pin(Row{0});
  tier.pin(Row{0});
  tier.let_go(Row{0});
  EXPECT_TRUE(tier.held(Row{0})) << "the pin is left";
  EXPECT_TRUE(tier.pinned(Row{0}));
  tier.unpin(Row{0});
  EXPECT_FALSE(tier.held(Row{0}));
  tier.unpin(Row{0});
  EXPECT_FALSE(tier.held(Row{0}));
  EXPECT_FALSE(tier.pinned(Row{0}));
}

// A lease is taken before the copy lands: a row not here yet must be protected from its first moment.
TEST(Tier, AHoldTakenBeforeTheRowIsHereProtectsItWhenItComes) {
  const AdapterTable table;
  Tier<Lru> tier = make_tier(4, {1, kAnyBytes}, table);
  tier.hold(Row{2});
  insert(tier, Row{2}, 0);
  EXPECT_FALSE(tier.could_hold({1, Bytes{1}}));
  EXPECT_EQ(tier.insert(Row{1}, Tick{1}, [](Row, std::uint32_t) { FAIL(); }), Admission::kAllHeld);
  tier.let_go(Row{2});
  EXPECT_TRUE(tier.could_hold({1, Bytes{1}}));
}

// Evicting everything for an adapter that cannot fit anyway would empty the cache for nothing.
TEST(Tier, EvictsNobodyForARowThatCannotFit) {
  AdapterTable table;
  table.size = {Bytes{40}, Bytes{40}, Bytes{101}};
  Tier<Lru> tier = make_tier(3, {kUnlimited, Bytes{100}}, table);
  insert(tier, Row{0}, 0);
  insert(tier, Row{1}, 1);
  EXPECT_EQ(tier.insert(Row{2}, Tick{2}, [](Row, std::uint32_t) { FAIL(); }), Admission::kTooLarge);
  EXPECT_EQ(tier.used().entries, 2U);
  EXPECT_EQ(tier.used().bytes, Bytes{80});
}

// A serving tier must load what a request needs, even where the policy would rather not.
TEST(Tier, AHeldRowComesInThoughThePolicyRefusesIt) {
  const AdapterTable table;
  Tier<Picky> tier = make_tier<Picky>(10, {2, kAnyBytes}, table);
  const auto nobody = [](Row, std::uint32_t) { FAIL(); };
  EXPECT_EQ(tier.insert(Row{1}, Tick{0}, nobody), Admission::kBypassed);
  EXPECT_FALSE(tier.contains(Row{1}));
  tier.hold(Row{1});
  EXPECT_EQ(tier.insert(Row{1}, Tick{1}, nobody), Admission::kInserted);
  EXPECT_EQ(tier.insert(Row{2}, Tick{2}, nobody), Admission::kInserted);
  EXPECT_EQ(tier.insert(Row{4}, Tick{3}, nobody), Admission::kBypassed);
  tier.hold(Row{4});
  EXPECT_EQ(insert(tier, Row{4}, 4), std::vector<Row>{Row{2}});
}

// Held bytes that drift would refuse requests for ever, or accept one that cannot be served.
TEST(Tier, KnowsWhatCouldComeInBesideTheHeldRows) {
  constexpr std::uint32_t kRows = 12;
  AdapterTable table;
  Rng rng(7);
  for (std::uint32_t i = 0; i < kRows; ++i) table.size.push_back(Bytes{1 + rng.below(40)});
  const Capacity capacity{5, Bytes{100}};
  Tier<Gdsf> tier(kRows, capacity, Gdsf(kRows, capacity, {}), table);
  std::vector<std::uint32_t> holds(kRows, 0);
  std::vector<bool> pins(kRows, false);
  for (int step = 0; step < 20'000; ++step) {
    const Row row{rng.below(kRows)};
    const std::size_t i = index_of(row);
    switch (rng.below(6)) {
      case 0:
        tier.hold(row);
        ++holds[i];
        break;
      case 1:
        if (holds[i] == 0) break;
        tier.let_go(row);
        --holds[i];
        break;
      case 2:
        tier.pin(row);
        pins[i] = true;
        break;
      case 3:
        tier.unpin(row);
        pins[i] = false;
        break;
      case 4:
        if (tier.contains(row)) tier.remove(row);
        break;
      default:
        if (tier.contains(row))
          tier.touch(row, Tick{static_cast<std::uint64_t>(step)});
        else
          static_cast<void>(
              tier.insert(row, Tick{static_cast<std::uint64_t>(step)}, [](Row, std::uint32_t) {}));
    }
    Occupancy held;
    for (std::uint32_t r = 0; r < kRows; ++r) {
      ASSERT_EQ(tier.held(Row{r}), holds[r] != 0 || pins[r]);
      ASSERT_EQ(tier.pinned(Row{r}), pins[r]);
      if (!tier.contains(Row{r}) || !tier.held(Row{r})) continue;
      ++held.entries;
      held.bytes += table.size[r];
    }
    const Occupancy more{rng.below(7), Bytes{rng.below(130)}};
    ASSERT_EQ(tier.could_hold(more),
              held.entries + more.entries <= capacity.entries && held.bytes + more.bytes <= capacity.bytes)
        << "step " << step;
  }
}

// Both limits at once: the one that is not looked at is the one that overflows.
TEST(Tier, KeepsBothLimits) {
  AdapterTable table;
  table.size = {Bytes{10}, Bytes{10}, Bytes{10}, Bytes{90}};
  Tier<Lru> tier = make_tier(4, {3, Bytes{100}}, table);
  for (std::uint32_t i = 0; i < 3; ++i) EXPECT_TRUE(insert(tier, Row{i}, i).empty());
  EXPECT_EQ(insert(tier, Row{3}, 3), (std::vector<Row>{Row{0}, Row{1}}));
  EXPECT_EQ(tier.used().bytes, Bytes{100});
  EXPECT_EQ(insert(tier, Row{0}, 4), std::vector<Row>{Row{2}});
  EXPECT_EQ(tier.used().entries, 2U);
}

// The request path of a server must not wait for the heap.
TEST(Tier, AllocatesNothingOnceBuilt) {
  constexpr std::uint32_t kRows = 200;
  const AdapterTable table;
  Tier<Lru> tier = make_tier(kRows, {20, kAnyBytes}, table);
  Rng rng(9);
  const std::uint64_t before = testing::allocation_count();
  for (std::uint64_t step = 0; step < 2000; ++step) {
    const Row row{rng.below(kRows)};
    if (tier.contains(row))
      tier.touch(row, Tick{step});
    else
      static_cast<void>(tier.insert(row, Tick{step}, [](Row, std::uint32_t) {}));
  }
  EXPECT_EQ(testing::allocation_count() - before, 0U);
}

// A tier of nothing has no meaning; building one is a bug of the caller.
TEST(TierDeathTest, RefusesToBeBuiltWithoutRoom) {
  const AdapterTable table;
  EXPECT_DEATH(static_cast<void>(make_tier(4, {0, kAnyBytes}, table)), "capacity.entries > 0");
  EXPECT_DEATH(static_cast<void>(make_tier(4, {1, Bytes{0}}, table)), "capacity.bytes.value > 0");
}

}  // namespace
}  // namespace loracle
