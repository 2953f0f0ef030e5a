#pragma once
/// What two plans say differently: last month's and today's, or two models' on the same trace.
///
/// Reads what `to_json(Plan)` wrote, of any version of schema `loracle.plan/1`. What only one of the two says
/// is shown as missing in the other; of the advice it is left out, for nothing changes by it. Threads: pure.

#include <string>
#include <string_view>
#include <vector>

#include "loracle/core/result.hpp"

namespace loracle {

/// How each of two plans says something, ready to be read; "-" where it does not.
struct PlanDifference {
  std::string what;
  std::string before;
  std::string after;
  std::string change;  // "+14 %"; empty where that says nothing
};

/// Only what differs.
struct PlanComparison {
  std::vector<PlanDifference> advice;   // what to set
  std::vector<PlanDifference> effect;   // what comes of it
  std::vector<PlanDifference> traffic;  // the trace
  std::vector<PlanDifference> asked;    // model, limits, targets and assumptions
  std::string flags;                    // of the second plan, to paste
};

/// `before`, `after`: JSON texts. Errors: kCorrupt (no JSON, or not a plan's), kUnsupported (of another
/// schema); the message begins with `before_name` or `after_name`.
[[nodiscard]] Result<PlanComparison> compare_plans(std::string_view before, const std::string& before_name,
                                                   std::string_view after, const std::string& after_name);

[[nodiscard]] std::string comparison_text(const PlanComparison& comparison, const std::string& before_name,
                                          const std::string& after_name);
/// Schema `loracle.compare/1`.
[[nodiscard]] std::string comparison_json(const PlanComparison& comparison, const std::string& before_name,
                                          const std::string& after_name);

}  // namespace loracle
