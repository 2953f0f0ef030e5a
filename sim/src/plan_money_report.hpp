#pragma once
/// Memory, money and other engines' settings as the plan's text, page and JSON say them.

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "loracle/sim/plan.hpp"
#include "plan_tables.hpp"

namespace loracle::detail {

/// Label (or "") and sentences, in the order they are read: KV cache, host memory and disk, ranks, cost,
/// prices, sensitivity, today, what bound, other engines.
[[nodiscard]] std::vector<std::pair<std::string_view, std::string>> money_paragraphs(const Plan& plan);
/// What the choice costs a month beside today's, for the first screen; empty without prices.
[[nodiscard]] std::string first_cost_text(const Plan& plan);
/// Costs a month of the tables' rows and of today's; without lines where there are no prices.
[[nodiscard]] ReportTable cost_table(const Plan& plan);
/// An object of "memory", "costs" and "engines".
[[nodiscard]] std::string money_json(const Plan& plan);
/// Of one option; "null" without prices.
[[nodiscard]] std::string cost_json(const Plan& plan, const std::optional<MonthlyCost>& cost);

}  // namespace loracle::detail
