// What a policy says it tracks is what it was given and has not given back.

#include "conformance/scene.hpp"

namespace loracle::testing {
namespace {

class TrackedRows : public Conformance {};

// A victim that is not resident would make a tier free a slot that holds somebody else.
LORACLE_POLICY_TEST(TrackedRows, AreTheOnlyVictimsAndAgreeWithTheBooks) {
  for (std::uint64_t seed = 0; seed < scenes(spec, 24) && !::testing::Test::HasFailure(); ++seed) {
    for (const Limit limit : {Limit::kEntries, Limit::kBytes, Limit::kBoth}) {
      SceneOptions options;
      options.sheds = seed % 2 == 0;
      options.holds = seed % 3 != 0;
      const Scene scene = make_scene(seed + 1000, limit, options);
      SCOPED_TRACE(scene.describe());
      const auto subject = make_subject(spec, scene.rows, scene.capacity, scene.future());
      ASSERT_NE(subject, nullptr);
      Observer observer;
      Player* books = nullptr;
      observer.on_evict = [&](Row incoming, Row answer) {
        ASSERT_FALSE(books->tracked(incoming));
        if (answer == kNoRow || answer == incoming) return;
        ASSERT_LT(index_of(answer), scene.rows);
        ASSERT_TRUE(books->tracked(answer)) << "row " << index_of(answer) << " is not here";
        ASSERT_FALSE(subject->contains(answer))
            << "row " << index_of(answer) << " was evicted, and is still tracked";
      };
      observer.on_shed = [&](Row row) {
        ASSERT_LT(index_of(row), scene.rows);
        ASSERT_TRUE(books->tracked(row));
        ASSERT_FALSE(subject->contains(row));
      };
      observer.on_operation = [&] {
        for (std::uint32_t i = 0; i < scene.rows; ++i)
          ASSERT_EQ(subject->contains(Row{i}), books->tracked(Row{i}))
              << "row " << i << " at " << books->now().value;
      };
      Player player(scene, *subject, observer);
      books = &player;
      player.play();
    }
  }
}

// A row that is lost inside a policy can never be evicted: the tier shrinks by it for ever.
LORACLE_POLICY_TEST(TrackedRows, AllLeaveEachOnce) {
  for (std::uint64_t seed = 0; seed < scenes(spec, 40) && !::testing::Test::HasFailure(); ++seed) {
    const Scene scene = make_scene(seed + 2000, seed % 2 == 0 ? Limit::kEntries : Limit::kBytes, {});
    SCOPED_TRACE(scene.describe());
    const auto subject = make_subject(spec, scene.rows, scene.capacity, scene.future());
    ASSERT_NE(subject, nullptr);
    Player player(scene, *subject, {});
    const std::uint64_t stop = 50 + seed * 8;
    while (player.now().value < stop && player.step()) {
    }
    // The newcomer is blocked, so that it is not the answer itself.
    Row newcomer = kNoRow;
    for (std::uint32_t i = 0; i < scene.rows; ++i)
      if (!player.tracked(Row{i})) newcomer = Row{i};
    if (newcomer == kNoRow) continue;
    std::vector<std::uint32_t> holds(scene.rows, 0);
    holds[index_of(newcomer)] = 1;
    const Tick now = player.now().value == 0 ? Tick{} : player.now() - Tick{1};  // the use that was made last
    while (player.used().entries > 0) {
      const Row victim = subject->evict(newcomer, now, player.table(), holds);
      ASSERT_NE(victim, kNoRow) << player.used().entries << " rows were lost";
      ASSERT_TRUE(player.tracked(victim)) << "row " << index_of(victim) << " twice";
      player.forget(victim);
    }
    ASSERT_EQ(subject->evict(newcomer, now, player.table(), holds), kNoRow);
  }
}

// Adapters are also deleted by name and dropped with the tier below them: each, from whatever queue it is in.
LORACLE_POLICY_TEST(TrackedRows, MayBeTakenAwayAtAnyTime) {
  for (std::uint64_t seed = 0; seed < scenes(spec, 40) && !::testing::Test::HasFailure(); ++seed) {
    const Scene scene = make_scene(seed + 3000, seed % 2 == 0 ? Limit::kEntries : Limit::kBytes, {});
    SCOPED_TRACE(scene.describe());
    const auto subject = make_subject(spec, scene.rows, scene.capacity, scene.future());
    ASSERT_NE(subject, nullptr);
    Player player(scene, *subject, {});
    Rng rng(seed);
    while (player.step()) {
      if (rng.below(30) != 0) continue;
      for (std::uint32_t i = 0; i < scene.rows; ++i) {
        const Row row{(i * 7 + static_cast<std::uint32_t>(seed)) % scene.rows};
        if (!player.tracked(row) || rng.below(4) == 0) continue;
        subject->on_remove(row);
        player.forget(row);
        ASSERT_FALSE(subject->contains(row));
      }
    }
  }
}

LORACLE_FOR_EVERY_POLICY(TrackedRows);

}  // namespace
}  // namespace loracle::testing
