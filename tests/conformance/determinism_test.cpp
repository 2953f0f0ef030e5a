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
TEST_P(Determinism, EqualCallsGiveEqualVictims) {
  for (std::uint64_t seed = 0; seed < scenes(GetParam(), 12) && !HasFailure(); ++seed) {
    SceneOptions options;
    options.uses = 1000;
    options.sheds = seed % 2 == 0;
    const Scene scene = make_scene(seed + 4000, static_cast<Limit>(seed % 3), options);
    SCOPED_TRACE(scene.describe());
    ASSERT_EQ(answers_of(GetParam(), scene), answers_of(GetParam(), scene));
  }
}

// A plan made with a policy chosen by name would not be what the typed engine does.
TEST_P(Determinism, AnyPolicyDecidesAsTheTypeInside) {
  if (!GetParam().through_any) return;
  SubjectSpec typed = GetParam();
  typed.through_any = false;
  for (std::uint64_t seed = 0; seed < scenes(GetParam(), 12) && !HasFailure(); ++seed) {
    const Scene scene = make_scene(seed + 5000, static_cast<Limit>(seed % 3), {});  // AnyPolicy does not shed
    SCOPED_TRACE(scene.describe());
    ASSERT_EQ(answers_of(GetParam(), scene), answers_of(typed, scene));
  }
}

// The two forms of Belady's policy, with and without the future at hand, are promised to be one policy.
TEST_P(Determinism, KnowingTheFutureFromTheStreamOrTheColumnIsOne) {
  if (!GetParam().told_future) return;
  SubjectSpec by_column = GetParam();
  by_column.told_future = false;
  for (std::uint64_t seed = 0; seed < scenes(GetParam(), 100) && !HasFailure(); ++seed) {
    const Scene scene = make_scene(seed + 6000, static_cast<Limit>(seed % 3), {});
    SCOPED_TRACE(scene.describe());
    ASSERT_EQ(answers_of(GetParam(), scene), answers_of(by_column, scene));
  }
}

LORACLE_FOR_EVERY_POLICY(Determinism);

}  // namespace
}  // namespace loracle::testing
