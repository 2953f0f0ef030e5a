// A pinned, leased or requested row is never a victim, and a policy that had to say "nobody" goes on working.

#include "conformance/scene.hpp"

namespace loracle::testing {
namespace {

class HeldRows : public Conformance {};

// Without it a tenant's pinned adapter, or one that the GPU is reading, is overwritten.
LORACLE_POLICY_TEST(HeldRows, AreNeverEvicted) {
  for (std::uint64_t seed = 0; seed < scenes(spec, 24) && !::testing::Test::HasFailure(); ++seed) {
    for (const Limit limit : {Limit::kEntries, Limit::kBytes, Limit::kBoth}) {
      SceneOptions options;
      options.sheds = seed % 4 == 0;
      const Scene scene = make_scene(seed, limit, options);
      SCOPED_TRACE(scene.describe());
      const auto subject = make_subject(spec, scene.rows, scene.capacity, scene.future());
      ASSERT_NE(subject, nullptr);
      Observer observer;
      Player* books = nullptr;
      observer.on_evict = [&](Row incoming, Row answer) {
        if (answer == kNoRow) return;
        ASSERT_FALSE(books->held(answer))
            << "row " << index_of(answer) << " evicted at " << books->now().value
            << (answer == incoming ? ", the newcomer itself" : "");
      };
      observer.on_shed = [&](Row row) {
        ASSERT_FALSE(books->held(row)) << "row " << index_of(row) << " shed";
      };
      Player player(scene, *subject, observer);
      books = &player;
      player.play();
    }
  }
}

// A policy that gives up although somebody may go refuses requests that could be served.
LORACLE_POLICY_TEST(HeldRows, AreTheOnlyReasonToNameNobody) {
  for (std::uint64_t seed = 100; seed < 100 + scenes(spec, 24) && !::testing::Test::HasFailure(); ++seed) {
    for (const Limit limit : {Limit::kEntries, Limit::kBytes}) {
      const Scene scene = make_scene(seed, limit, {});
      SCOPED_TRACE(scene.describe());
      const auto subject = make_subject(spec, scene.rows, scene.capacity, scene.future());
      ASSERT_NE(subject, nullptr);
      Observer observer;
      Player* books = nullptr;
      observer.on_evict = [&](Row, Row answer) {
        if (answer != kNoRow) return;
        for (std::uint32_t i = 0; i < scene.rows; ++i)
          ASSERT_FALSE(books->tracked(Row{i}) && !books->held(Row{i}))
              << "at " << books->now().value << " row " << i << " could have gone";
      };
      Player player(scene, *subject, observer);
      books = &player;
      player.play();
    }
  }
}

// After a moment with everything pinned the cache has to work as before.
LORACLE_POLICY_TEST(HeldRows, CanGoOnceTheyAreLetGo) {
  constexpr std::uint32_t kEntries = 6;
  SceneOptions options;
  options.holds = false;
  options.removals = false;
  for (std::uint64_t seed = 0; seed < 10; ++seed) {
    Scene scene = make_scene(seed, Limit::kEntries, options);
    scene.rows = 20;
    scene.table = {};
    scene.table.next_use.assign(scene.rows, kNever);
    scene.capacity = {kEntries, Bytes{kUnlimited}};
    scene.uses.clear();
    for (std::uint32_t i = 0; i < 20; ++i) scene.uses.push_back(Row{i});
    scene.next.assign(20, 0xFFFF'FFFFU);
    const auto subject = make_subject(spec, scene.rows, scene.capacity, scene.future());
    ASSERT_NE(subject, nullptr);
    std::vector<std::uint32_t> holds(scene.rows, 0);
    Tick now{};
    const auto bring = [&](Row row) {
      EXPECT_TRUE(subject->admit(row, now, scene.table));
      subject->on_insert(row, now, scene.table);
      now += Tick{1};
    };
    for (std::uint32_t i = 0; i < kEntries; ++i) bring(Row{i});
    std::fill(holds.begin(), holds.end(), 1);
    const Row newcomer{kEntries};
    static_cast<void>(subject->admit(newcomer, now, scene.table));
    for (int i = 0; i < 3; ++i) ASSERT_EQ(subject->evict(newcomer, now, scene.table, holds), kNoRow);
    for (std::uint32_t i = 0; i < kEntries; ++i) ASSERT_TRUE(subject->contains(Row{i}));
    ASSERT_FALSE(subject->contains(newcomer));
    // Let them go one by one: each must be found, whatever the order.
    Rng rng(seed);
    std::vector<std::uint32_t> order;
    for (std::uint32_t i = 0; i < kEntries; ++i) order.push_back(i);
    for (std::uint32_t i = kEntries; i > 1; --i) std::swap(order[i - 1], order[rng.below(i)]);
    for (const std::uint32_t i : order) {
      holds[i] = 0;
      ASSERT_EQ(subject->evict(newcomer, now, scene.table, holds), Row{i});
      ASSERT_EQ(subject->evict(newcomer, now, scene.table, holds), kNoRow);
    }
    subject->on_insert(newcomer, now, scene.table);
    EXPECT_TRUE(subject->contains(newcomer));
  }
}

// A newcomer that must come in (it is part of the request) and is answered with itself would never be loaded.
LORACLE_POLICY_TEST(HeldRows, OnTheirWayInAreNeverTurnedAway) {
  for (std::uint64_t seed = 200; seed < 200 + scenes(spec, 30) && !::testing::Test::HasFailure(); ++seed) {
    SceneOptions options;
    options.holds = false;
    const Scene scene = make_scene(seed, seed % 2 == 0 ? Limit::kEntries : Limit::kBytes, options);
    SCOPED_TRACE(scene.describe());
    const auto subject = make_subject(spec, scene.rows, scene.capacity, scene.future());
    ASSERT_NE(subject, nullptr);
    std::vector<std::uint32_t> holds(scene.rows, 0);
    Occupancy used;
    for (std::size_t i = 0; i < scene.uses.size(); ++i) {
      const Row row = scene.uses[i];
      const Tick now{i};
      AdapterTable table = scene.table;
      if (subject->contains(row)) {
        subject->on_access(row, now, table);
        continue;
      }
      const Bytes size = table.size_of(row);
      if (!fits(Occupancy{}, size, scene.capacity)) continue;
      holds[index_of(row)] = 1;
      static_cast<void>(subject->admit(row, now, table));
      while (!fits(used, size, scene.capacity)) {
        const Row victim = subject->evict(row, now, table, holds);
        ASSERT_NE(victim, row);
        ASSERT_NE(victim, kNoRow);
        --used.entries;
        used.bytes -= table.size_of(victim);
      }
      subject->on_insert(row, now, table);
      ++used.entries;
      used.bytes += size;
      holds[index_of(row)] = 0;
    }
  }
}

LORACLE_FOR_EVERY_POLICY(HeldRows);

}  // namespace
}  // namespace loracle::testing
