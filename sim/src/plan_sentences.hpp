#pragma once
/// The sentences that the plan's text and its page share.

#include <string>
#include <string_view>

#include "loracle/sim/plan.hpp"

namespace loracle::detail {

/// The chosen pair's row of the slots' table; nullptr if it has none.
[[nodiscard]] const AdvisoryRow* row_of_choice(const Plan& plan) noexcept;
/// What the chosen pair does, simulated if it was.
[[nodiscard]] const GridCell& served_at_choice(const Plan& plan) noexcept;
[[nodiscard]] bool is_simulated(const Plan& plan) noexcept;
[[nodiscard]] std::string verdict_text(const Plan& plan);
[[nodiscard]] std::string effect_text(const Plan& plan);
/// For how much more traffic the chosen slots are enough.
[[nodiscard]] std::string headroom_text(const Plan& plan);
[[nodiscard]] std::string memory_text(const Plan& plan);
/// Stands before figures that are others than those beside them, which are simulated. Empty if none are.
[[nodiscard]] std::string replay_note(const Plan& plan);
/// LRU, the best policy and Belady at one size; `what` names the size.
[[nodiscard]] std::string gap_text(const Plan& plan, const PolicyGap& gap, std::string_view what);
/// Share of the gap from LRU to Belady that these misses close; "-" without a gap, "worse" below 0.
[[nodiscard]] std::string closed_text(const PolicyGap& gap, std::uint64_t misses);
[[nodiscard]] std::string vllm_text(const Plan& plan);
[[nodiscard]] std::string trace_text(const Plan& plan);
/// "chosen" and the gravest of "REFUSES SOME", "INFEASIBLE", "below floor", "over memory", "too many wait"
/// and "off target", both or neither.
[[nodiscard]] std::string note_text(const AdvisoryRow& row);
/// How the changes are to be understood.
[[nodiscard]] std::string what_if_note();
/// "holds", or what breaks.
[[nodiscard]] std::string note_text(const Plan& plan, const WhatIf& what_if);
[[nodiscard]] std::string policy_note(const PolicyRow& row);

}  // namespace loracle::detail
