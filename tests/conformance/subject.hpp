#pragma once
/// Every policy behind one table of functions, so that a property is compiled once and not once a policy.
///
/// `subject_specs` lists all policies by their types, all again through AnyPolicy, and settings that move
/// their inner queues to the ends of their ranges. Threads: one owner.

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <ostream>
#include <span>
#include <string>
#include <string_view>

#include "loracle/core/adapter_table.hpp"
#include "loracle/core/units.hpp"
#include "loracle/policy/capacity.hpp"
#include "loracle/policy/eviction_policy.hpp"
#include "loracle/policy/policy_spec.hpp"

namespace loracle::testing {

/// The uses to come, for clairvoyant policies that are told all of them at once.
struct Future {
  std::span<const Row> uses;            // [uses]
  std::span<const std::uint32_t> next;  // [uses] index of the next use of the same row, all ones: none
};

struct SubjectSpec {
  std::string policy;        // as on a command line
  bool through_any = false;  // AnyPolicy
  bool told_future = false;  // Config::future is filled

  /// For GoogleTest, which prints bytes otherwise.
  friend std::ostream& operator<<(std::ostream& out, const SubjectSpec& spec) {
    return out << spec.policy << (spec.through_any ? " through AnyPolicy" : "")
               << (spec.told_future ? " told the future" : "");
  }
};

class Subject {
 public:
  virtual ~Subject() = default;
  [[nodiscard]] virtual bool contains(Row row) const = 0;
  [[nodiscard]] virtual bool admit(Row row, Tick now, const AdapterTable& table) = 0;
  virtual void on_insert(Row row, Tick now, const AdapterTable& table) = 0;
  virtual void on_access(Row row, Tick now, const AdapterTable& table) = 0;
  virtual void on_remove(Row row) = 0;
  /// No holds at all: NoGuard.
  [[nodiscard]] virtual Row evict(Row incoming, Tick now, const AdapterTable& table,
                                  std::span<const std::uint32_t> holds) = 0;
  /// kNoRow for a policy that has no surplus.
  [[nodiscard]] virtual Row shed(Tick now, const AdapterTable& table,
                                 std::span<const std::uint32_t> holds) = 0;
};

[[nodiscard]] std::span<const SubjectSpec> subject_specs();

/// Fails the running test, and answers nothing, if the policy cannot be built.
[[nodiscard]] std::unique_ptr<Subject> make_subject(const SubjectSpec& spec, std::uint32_t rows,
                                                    Capacity capacity, const Future& future);

/// The name without parameters.
[[nodiscard]] inline std::string_view base_name(const SubjectSpec& spec) {
  return std::string_view(spec.policy).substr(0, spec.policy.find(':'));
}

/// A fixture for properties of every policy, by its name; a test is run for every spec of that name.
class Conformance : public ::testing::TestWithParam<std::string_view> {
 protected:
  template <class Check>
  static void for_each_spec(Check&& check) {
    for (const SubjectSpec& spec : subject_specs()) {
      if (base_name(spec) != GetParam()) continue;
      const ::testing::ScopedTrace trace(__FILE__, __LINE__, spec);
      check(spec);
      if (::testing::Test::HasFailure()) return;
    }
  }
};

/// A policy's name as a part of a test's name.
[[nodiscard]] inline std::string test_name(const ::testing::TestParamInfo<std::string_view>& info) {
  std::string name(info.param);
  for (char& c : name)
    if (c == '-') c = '_';
  return name;
}

}  // namespace loracle::testing

/// A test of a fixture derived from Conformance; its body is given `spec`.
#define LORACLE_POLICY_TEST(fixture, name)                         \
  void fixture##name(const ::loracle::testing::SubjectSpec& spec); \
  TEST_P(fixture, name) { for_each_spec(fixture##name); }          \
  void fixture##name([[maybe_unused]] const ::loracle::testing::SubjectSpec& spec)

/// Runs the fixture's tests for every policy.
#define LORACLE_FOR_EVERY_POLICY(fixture)                                                      \
  INSTANTIATE_TEST_SUITE_P(                                                                    \
      Policies, fixture,                                                                       \
      ::testing::ValuesIn(::loracle::policy_names().begin(), ::loracle::policy_names().end()), \
      ::loracle::testing::test_name)
