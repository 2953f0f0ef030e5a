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
  friend std::ostream& operator<<(std::ostream& out, const SubjectSpec& spec) { return out << spec.policy; }
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

/// `any_2q_in_0_5`: a spec as a part of a test's name.
[[nodiscard]] inline std::string test_name(const ::testing::TestParamInfo<SubjectSpec>& info) {
  std::string name = info.param.through_any ? "any_" : "";
  for (const char c : info.param.policy) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
    name += plain ? c : '_';
  }
  return info.param.told_future ? name + "_told" : name;
}

/// A fixture for properties of every policy.
class Conformance : public ::testing::TestWithParam<SubjectSpec> {};

}  // namespace loracle::testing

/// Runs the fixture's tests for every policy.
#define LORACLE_FOR_EVERY_POLICY(fixture)                                                   \
  INSTANTIATE_TEST_SUITE_P(Policies, fixture,                                               \
                           ::testing::ValuesIn(::loracle::testing::subject_specs().begin(), \
                                               ::loracle::testing::subject_specs().end()),  \
                           ::loracle::testing::test_name)
