// Policies that draw rows or learn have no twin that agrees step by step; what they promise is tested here.

#include <vector>

#include "conformance/scene.hpp"

namespace loracle::testing {
namespace {

// A draw that favours some rows is another policy than the one that is named.
TEST(RandomPolicy, EvictsEveryFreeRowAboutEquallyOften) {
  constexpr std::uint32_t kRows = 10;
  constexpr std::uint32_t kHeld = 4;
  constexpr std::uint32_t kDraws = 12'000;
  const AdapterTable table;
  const auto policy = make_subject({"random"}, kRows + 1, {kRows, Bytes{kUnlimited}}, {});
  ASSERT_NE(policy, nullptr);
  std::vector<std::uint32_t> holds(kRows + 1, 0);
  for (std::uint32_t i = 0; i < kRows; ++i) {
    policy->on_insert(Row{i}, Tick{i}, table);
    if (i < kHeld) holds[i] = 1;
  }
  std::vector<std::uint32_t> evicted(kRows, 0);
  for (std::uint32_t i = 0; i < kDraws; ++i) {
    const Row victim = policy->evict(Row{kRows}, Tick{kRows + i}, table, holds);
    ASSERT_LT(index_of(victim), kRows);
    ++evicted[index_of(victim)];
    policy->on_insert(victim, Tick{kRows + i}, table);
  }
  // 2000 expected each; the deviation is 41.
  for (std::uint32_t i = 0; i < kRows; ++i)
    EXPECT_NEAR(evicted[i], i < kHeld ? 0 : kDraws / (kRows - kHeld), 250) << "row " << i;
}

std::uint64_t hits_of(const char* policy, const Scene& scene) {
  const auto subject = make_subject({policy}, scene.rows, scene.capacity, scene.future());
  if (subject == nullptr) return 0;
  Player player(scene, *subject, {});
  player.play();
  return player.hits();
}

/// A few hot rows among many that are used once in a long while, by turns.
Scene loop_with_hot_rows() {
  Scene scene;
  scene.rows = 210;
  scene.capacity.entries = 40;
  scene.options.holds = scene.options.removals = false;
  scene.table.next_use.assign(scene.rows, kNever);
  Rng rng(5);
  std::uint32_t turn = 0;
  for (int i = 0; i < 60'000; ++i) {
    const bool hot = rng.below(3) == 0;
    scene.uses.push_back(Row{hot ? rng.below(10) : 10 + turn++ % 200});
  }
  scene.next.assign(scene.uses.size(), 0xFFFF'FFFFU);
  return scene;
}

// LHD is there to learn which ages are worth keeping; without that it is an expensive random.
TEST(LhdPolicy, LearnsToKeepWhatIsUsedAgain) {
  const Scene scene = loop_with_hot_rows();
  const std::uint64_t lru = hits_of("lru", scene);
  const std::uint64_t random = hits_of("random", scene);
  const std::uint64_t lhd = hits_of("lhd:period=2000", scene);
  EXPECT_GT(lhd, lru * 11 / 10);
  EXPECT_GT(lhd, random);
}

// The sampled forms are approximations of the full ones, not other policies.
TEST(SampledPolicies, ComeNearTheirFullForms) {
  const Scene scene = loop_with_hot_rows();
  const auto near = [&](const char* full, const char* sampled) {
    const auto full_hits = static_cast<double>(hits_of(full, scene));
    const auto sampled_hits = static_cast<double>(hits_of(sampled, scene));
    EXPECT_NEAR(sampled_hits / full_hits, 1.0, 0.2)
        << full << " " << full_hits << ", " << sampled << " " << sampled_hits;
  };
  near("hyperbolic", "hyperbolic:samples=16");
  near("chameleon", "chameleon:samples=16:scan_max=1");
  near("fastlibra", "fastlibra:samples=16:scan_max=1");
}

}  // namespace
}  // namespace loracle::testing
