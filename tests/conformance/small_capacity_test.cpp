// The smallest tiers, where shares round to nothing and one row fills a queue: `--max-loras 1` is a real
// setting.

#include "conformance/scene.hpp"

namespace loracle::testing {
namespace {

class SmallCapacity : public Conformance {};

void play_checked(const SubjectSpec& spec, const Scene& scene) {
  SCOPED_TRACE(scene.describe());
  const auto subject = make_subject(spec, scene.rows, scene.capacity, scene.future());
  ASSERT_NE(subject, nullptr);
  Observer observer;
  Player* books = nullptr;
  observer.on_evict = [&](Row incoming, Row answer) {
    ASSERT_TRUE(answer == incoming || answer == kNoRow || books->tracked(answer));
  };
  observer.on_operation = [&] {
    ASSERT_LE(books->used().entries, scene.capacity.entries);
    ASSERT_LE(books->used().bytes, scene.capacity.bytes);
    for (std::uint32_t i = 0; i < scene.rows; ++i)
      ASSERT_EQ(subject->contains(Row{i}), books->tracked(Row{i}));
  };
  Player player(scene, *subject, observer);
  books = &player;
  player.play();
}

// One, two and three entries: every inner queue must have room for somebody.
LORACLE_POLICY_TEST(SmallCapacity, OfAFewEntriesWorks) {
  for (std::uint32_t entries = 1; entries <= 3; ++entries) {
    for (std::uint64_t seed = 0; seed < scenes(spec, 12) && !::testing::Test::HasFailure(); ++seed) {
      SceneOptions options;
      options.sheds = seed % 2 == 0;
      Scene scene = make_scene(seed + 8000, Limit::kEntries, options);
      scene.capacity.entries = entries;
      play_checked(spec, scene);
    }
  }
}

// A cache of one entry holds what was used last, whatever its policy; else it is no cache of one entry.
LORACLE_POLICY_TEST(SmallCapacity, OfOneEntryServesARepeatedRow) {
  Scene scene;
  scene.rows = 2;
  scene.capacity.entries = 1;
  scene.table.next_use.assign(2, kNever);
  scene.options.holds = scene.options.removals = false;
  for (int i = 0; i < 50; ++i) scene.uses.push_back(Row{0});
  for (std::uint32_t i = 1; i < 50; ++i) scene.next.push_back(i);
  scene.next.push_back(0xFFFF'FFFFU);
  const auto subject = make_subject(spec, scene.rows, scene.capacity, scene.future());
  ASSERT_NE(subject, nullptr);
  Player player(scene, *subject, {});
  player.play();
  EXPECT_EQ(player.hits(), 49U);
}

// A few bytes, one byte, and rows that fill the tier alone: larger than any queue inside.
LORACLE_POLICY_TEST(SmallCapacity, OfAFewBytesWorks) {
  for (std::uint64_t bytes : {1U, 2U, 3U, 7U, 20U, 29U}) {
    for (std::uint64_t seed = 0; seed < scenes(spec, 12) && !::testing::Test::HasFailure(); ++seed) {
      SceneOptions options;
      options.sheds = seed % 2 == 0;
      Scene scene = make_scene(seed + 9000, Limit::kBytes, options);
      scene.capacity.bytes = Bytes{bytes};
      for (Bytes& size : scene.table.size) size = Bytes{1 + size.value % (bytes + 1)};
      play_checked(spec, scene);
    }
  }
}

// Both limits at once, either of them the one that binds.
LORACLE_POLICY_TEST(SmallCapacity, OfEntriesAndBytesTogetherWorks) {
  for (std::uint64_t seed = 0; seed < scenes(spec, 24) && !::testing::Test::HasFailure(); ++seed) {
    Scene scene = make_scene(seed + 10'000, Limit::kBoth, {});
    scene.capacity.entries = 1 + seed % 3;
    play_checked(spec, scene);
  }
}

// Everything fits: nothing may be evicted, and no queue may ask for more room than there is.
LORACLE_POLICY_TEST(SmallCapacity, WithRoomForAllEvictsNobody) {
  for (std::uint64_t seed = 0; seed < scenes(spec, 12); ++seed) {
    SceneOptions options;
    options.holds = false;
    Scene scene = make_scene(seed + 11'000, Limit::kEntries, options);
    scene.capacity = {};
    if (seed % 2 == 0) scene.capacity.entries = scene.rows;
    const auto subject = make_subject(spec, scene.rows, scene.capacity, scene.future());
    ASSERT_NE(subject, nullptr);
    Player player(scene, *subject, {});
    player.play();
    EXPECT_EQ(player.evictions(), 0U);
  }
}

/// Ticks as an engine has them: far apart, with jumps.
class FarTicks final : public Subject {
 public:
  explicit FarTicks(Subject& inner) : inner_(inner) {}
  bool contains(Row row) const override { return inner_.contains(row); }
  bool admit(Row row, Tick now, const AdapterTable& table) override {
    return inner_.admit(row, far(now), table);
  }
  void on_insert(Row row, Tick now, const AdapterTable& table) override {
    inner_.on_insert(row, far(now), table);
  }
  void on_access(Row row, Tick now, const AdapterTable& table) override {
    inner_.on_access(row, far(now), table);
  }
  void on_remove(Row row) override { inner_.on_remove(row); }
  Row evict(Row incoming, Tick now, const AdapterTable& table,
            std::span<const std::uint32_t> holds) override {
    return inner_.evict(incoming, far(now), table, holds);
  }
  Row shed(Tick now, const AdapterTable& table, std::span<const std::uint32_t> holds) override {
    return inner_.shed(far(now), table, holds);
  }

 private:
  static Tick far(Tick now) {
    return Tick{now.value * now.value * now.value * 1'000'003 + (now.value / 8 << 40U)};
  }
  Subject& inner_;
};

// An engine that runs for months counts to large ticks; an age that wraps would turn the order round.
LORACLE_POLICY_TEST(SmallCapacity, WorksWithTicksFarApart) {
  if (base_name(spec).substr(0, 6) == "belady") return;  // their ticks are indices into the future
  for (std::uint64_t seed = 0; seed < scenes(spec, 12) && !::testing::Test::HasFailure(); ++seed) {
    const Scene scene = make_scene(seed + 12'000, static_cast<Limit>(seed % 3), {});
    SCOPED_TRACE(scene.describe());
    const auto inner = make_subject(spec, scene.rows, scene.capacity, scene.future());
    ASSERT_NE(inner, nullptr);
    FarTicks subject(*inner);
    Observer observer;
    Player* books = nullptr;
    observer.on_evict = [&](Row incoming, Row answer) {
      ASSERT_TRUE(answer == incoming || answer == kNoRow || (books->tracked(answer) && !books->held(answer)));
    };
    Player player(scene, subject, observer);
    books = &player;
    player.play();
  }
}

LORACLE_FOR_EVERY_POLICY(SmallCapacity);

}  // namespace
}  // namespace loracle::testing
