// Equal calls, equal answers: the ground on which engine and simulator agree.

#include "conformance/scene.hpp"

namespace loracle::testing {
namespace {

class Determinism : public Conformance {};

std::vector<Row> answers_of(const SubjectSpec& spec, const Scene& scene) {
  std::vector<Row> answers;
  const auto subject = make_subject(spec, scene.rows, scene.capacity, scene.future());
  if (subject == nullptr) return answers;
  Observer observer;
  observer.on_evict = [&](Row, Row answer) { answers.push_back(answer); };
  observer.on_shed = [&](Row row) { answers.push_back(row); };
  Player player(scene, *subject, observer);
  player.play();
  answers.push_back(Row{static_cast<std::uint32_t>(player.hits())});
  return answers;
}

// An answer that hung on an address, a clock or a shared generator would make no run repeatable.
LORACLE_POLICY_TEST(Determinism, EqualCallsGiveEqualVictims) {
  for (std::uint64_t seed = 0; seed < scenes(spec, 12) && !::testing::Test::HasFailure(); ++seed) {
    SceneOptions options;
    options.uses = 1000;
    options.sheds = seed % 2 == 0;
    const Scene scene = make_scene(seed + 4000, static_cast<Limit>(seed % 3), options);
    SCOPED_TRACE(scene.describe());
    ASSERT_EQ(answers_of(spec, scene), answers_of(spec, scene));
  }
}

// A plan made with a policy chosen by name would not be what the typed engine does.
LORACLE_POLICY_TEST(Determinism, AnyPolicyDecidesAsTheTypeInside) {
  if (!spec.through_any) return;
  SubjectSpec typed = spec;
  typed.through_any = false;
  for (std::uint64_t seed = 0; seed < scenes(spec, 12) && !::testing::Test::HasFailure(); ++seed) {
    const Scene scene = make_scene(seed + 5000, static_cast<Limit>(seed % 3), {});  // AnyPolicy does not shed
    SCOPED_TRACE(scene.describe());
    ASSERT_EQ(answers_of(spec, scene), answers_of(typed, scene));
  }
}

// The two forms of Belady's policy, with and without the future at hand, are promised to be one policy.
LORACLE_POLICY_TEST(Determinism, KnowingTheFutureFromTheStreamOrTheColumnIsOne) {
  if (!spec.told_future) return;
  SubjectSpec by_column = spec;
  by_column.told_future = false;
  for (std::uint64_t seed = 0; seed < scenes(spec, 100) && !::testing::Test::HasFailure(); ++seed) {
    const Scene scene = make_scene(seed + 6000, static_cast<Limit>(seed % 3), {});
    SCOPED_TRACE(scene.describe());
    ASSERT_EQ(answers_of(spec, scene), answers_of(by_column, scene));
  }
}

LORACLE_FOR_EVERY_POLICY(Determinism);

}  // namespace
}  // namespace loracle::testing
