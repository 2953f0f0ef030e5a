// Every policy against its naive twin: the same admissions and the same victims, step by step.

#include <cstdlib>
#include <string>
#include <vector>

#include "conformance/scene.hpp"
#include "conformance/twin.hpp"

namespace loracle::testing {
namespace {

/// The policy as the player sees it, with the twin beside it and every answer compared.
class WithTwin final : public Subject {
 public:
  WithTwin(Subject& policy, Twin& twin) : policy_(policy), twin_(twin) {}
  bool contains(Row row) const override {
    const bool answer = policy_.contains(row);
    EXPECT_EQ(answer, twin_.contains(row)) << "contains row " << index_of(row);
    return answer;
  }
  bool admit(Row row, Tick now, const AdapterTable& table) override {
    note("admit", row, now);
    const bool answer = policy_.admit(row, now, table);
    EXPECT_EQ(answer, twin_.admit(row, now, table)) << steps_;
    return answer;
  }
  void on_insert(Row row, Tick now, const AdapterTable& table) override {
    note("insert", row, now);
    policy_.on_insert(row, now, table);
    twin_.on_insert(row, now, table);
  }
  void on_access(Row row, Tick now, const AdapterTable& table) override {
    note("access", row, now);
    policy_.on_access(row, now, table);
    twin_.on_access(row, now, table);
  }
  void on_remove(Row row) override {
    note("remove", row, {});
    policy_.on_remove(row);
    twin_.on_remove(row);
  }
  Row evict(Row incoming, Tick now, const AdapterTable& table,
            std::span<const std::uint32_t> holds) override {
    note_holds(holds);
    const Row answer = policy_.evict(incoming, now, table, holds);
    const Row wanted = twin_.evict({incoming, now, answer}, table, Held(holds));
    note("evict ->", answer, now);
    EXPECT_EQ(answer, wanted) << (steps_.size() > 6000 ? steps_.substr(steps_.size() - 6000) : steps_);
    return answer;
  }
  Row shed(Tick now, const AdapterTable& table, std::span<const std::uint32_t> holds) override {
    const Row answer = policy_.shed(now, table, holds);
    const Row wanted = twin_.shed(Held(holds));
    if (answer != kNoRow || wanted != kNoRow) note("shed ->", answer, now);
    EXPECT_EQ(answer, wanted) << steps_;
    return answer;
  }

 private:
  void note(const char* what, Row row, Tick now) {
    if (!told()) return;
    steps_ += std::to_string(now.value) + ' ' + what + ' ';
    steps_ += row == kNoRow ? "nobody" : std::to_string(index_of(row));
    steps_ += '\n';
  }
  void note_holds(std::span<const std::uint32_t> holds) {
    if (!told()) return;
    steps_ += "held:";
    for (std::size_t i = 0; i < holds.size(); ++i)
      if (holds[i] != 0) steps_ += ' ' + std::to_string(i);
    steps_ += '\n';
  }
  /// LORACLE_TRACE_TWINS: say what led to a difference.
  static bool told() {
    static const bool kTold = std::getenv("LORACLE_TRACE_TWINS") != nullptr;
    return kTold;
  }

  Subject& policy_;
  Twin& twin_;
  std::string steps_;
};

void compare(const SubjectSpec& spec, const SceneOptions& options, Limit limit, std::uint64_t first_seed) {
  // Which rows a policy draws is its own affair; AnyPolicy is compared with the type elsewhere.
  if (spec.through_any || spec.policy.find("samples=") != std::string::npos) return;
  for (std::uint64_t i = 0; i < scenes(spec, 40) && !::testing::Test::HasFailure(); ++i) {
    SceneOptions drawn = options;
    drawn.entries_max = i % 2 == 0 ? 20 : 6;
    const Scene scene = make_scene(first_seed + i, limit, drawn);
    SCOPED_TRACE(scene.describe());
    const TwinSetup setup{spec.policy, scene.rows, scene.capacity};
    std::unique_ptr<Twin> twin = make_order_twin(setup);
    if (twin == nullptr) twin = make_value_twin(setup);
    if (twin == nullptr) twin = make_queue_twin(setup);
    ASSERT_NE(twin, nullptr);
    const auto policy = make_subject(spec, scene.rows, scene.capacity, scene.future());
    ASSERT_NE(policy, nullptr);
    WithTwin both(*policy, *twin);
    Observer observer;
    observer.on_operation = [&] {
      for (std::uint32_t row = 0; row < scene.rows; ++row) static_cast<void>(both.contains(Row{row}));
    };
    Player player(scene, both, observer);
    player.play();
    if (::testing::Test::HasFailure()) ADD_FAILURE() << "at use " << player.now().value;
  }
}

SceneOptions plain() {
  SceneOptions options;
  options.holds = options.removals = false;
  return options;
}

class ModelTwin : public Conformance {};

// The rule as published, with nobody held and nobody taken away: what a replay asks.
LORACLE_POLICY_TEST(ModelTwin, AgreesByEntries) { compare(spec, plain(), Limit::kEntries, 20'000); }

// The same with sizes.
LORACLE_POLICY_TEST(ModelTwin, AgreesByBytes) { compare(spec, plain(), Limit::kBytes, 30'000); }

// The same with both limits.
LORACLE_POLICY_TEST(ModelTwin, AgreesByEntriesAndBytes) { compare(spec, plain(), Limit::kBoth, 40'000); }

// What a serving tier asks: pins, leases and removals in between.
LORACLE_POLICY_TEST(ModelTwin, AgreesWithHoldsAndRemovals) {
  compare(spec, {}, Limit::kEntries, 50'000);
  compare(spec, {}, Limit::kBytes, 60'000);
}

class ModelTwinSurplus : public Conformance {};

// What a driver asks that evicts surplus at once. No tier does, so nobody is held.
LORACLE_POLICY_TEST(ModelTwinSurplus, Agrees) {
  SceneOptions options = plain();
  options.sheds = true;
  compare(spec, options, Limit::kEntries, 70'000);
  compare(spec, options, Limit::kBytes, 80'000);
}

/// All but lhd: its header says what it learns, and not in which steps.
std::vector<std::string_view> with_twins() {
  std::vector<std::string_view> names;
  for (const std::string_view name : policy_names())
    if (name != "lhd") names.push_back(name);
  return names;
}
INSTANTIATE_TEST_SUITE_P(Policies, ModelTwin, ::testing::ValuesIn(with_twins()), test_name);
INSTANTIATE_TEST_SUITE_P(Policies, ModelTwinSurplus, ::testing::Values("slru", "lirs"), test_name);

}  // namespace
}  // namespace loracle::testing
