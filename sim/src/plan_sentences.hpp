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
/// ", if the 12 % of requests ..": under which condition what is said of waits holds; empty: without one.
[[nodiscard]] std::string assumption_text(const Plan& plan);
/// How much the advice stands on: "confidence: low, 2.1 days, 9 regimes, UNCALIBRATED".
[[nodiscard]] std::string confidence_text(const Plan& plan);
/// What is advised of today's setting, and the verdict.
[[nodiscard]] std::string judgement_text(const Plan& plan);
/// The same with its confidence.
[[nodiscard]] std::string headline_text(const Plan& plan);
[[nodiscard]] std::string effect_text(const Plan& plan);
/// From today's setting to the choice; empty if nothing is known of today's.
[[nodiscard]] std::string change_text(const Plan& plan);
/// What would make room for as many slots and adapters as are needed; empty where the plan meets its target.
[[nodiscard]] std::string way_out_text(const Plan& plan);
/// Up to which changes the choice holds, and with which it does not.
[[nodiscard]] std::string risk_text(const Plan& plan);
/// What to watch: the advice is wrong if it happens.
[[nodiscard]] std::string wrong_if_text(const Plan& plan);
/// The row's slots as they were given.
[[nodiscard]] std::uint32_t slots_of(const Plan& plan, const AdvisoryRow& row) noexcept;
/// " [0.41, 0.77]" for an interval, " (0.2 to 0.9)" for a range, both in percent; empty where nothing is
/// known.
[[nodiscard]] std::string interval_text(const Interval& interval);
/// The interval of what is left of 1.
[[nodiscard]] Interval complement_of(const Interval& interval) noexcept;
/// What the brackets stand on, or why there are none.
[[nodiscard]] std::string certainty_text(const Plan& plan);
/// For how much more traffic, and how many more adapters, the chosen pair is enough.
[[nodiscard]] std::string headroom_text(const Plan& plan);
/// "the 8.0 GiB given for slots", or what the server has beside the weights where that is less.
[[nodiscard]] std::string gpu_limit_text(const Plan& plan);
[[nodiscard]] std::string memory_text(const Plan& plan);
/// Stands before figures that are others than those beside them, which are simulated. Empty if none are.
[[nodiscard]] std::string replay_note(const Plan& plan);
/// Misses that no size and no policy saves, and what else does.
[[nodiscard]] std::string first_uses_text(const Plan& plan);
/// LRU, the bound, and what the best policies close of the gap between them, at the chosen slots or in host
/// memory.
[[nodiscard]] std::string gap_text(const Plan& plan, bool on_device);
/// The same by bytes loaded; empty where that is not known.
[[nodiscard]] std::string byte_gap_text(const Plan& plan, bool on_device);
/// Share of the gap from LRU to Belady that these misses close; "-" without a gap, "worse" below 0.
[[nodiscard]] std::string closed_text(const PolicyGap& gap, std::uint64_t misses);
/// Likewise of the bytes from LRU to the bound.
[[nodiscard]] std::string closed_text(const ByteGap& gap, Bytes loaded);
/// "-" where the gap is not known.
[[nodiscard]] std::string loaded_text(const ByteGap& gap, Bytes loaded);
/// Why the choice is what it is; plan.reason.
[[nodiscard]] std::string reason_of(const Plan& plan);
[[nodiscard]] std::string vllm_text(const Plan& plan);
[[nodiscard]] std::string trace_text(const Plan& plan);
/// "chosen" or "today", and the gravest of "REFUSES SOME", "INFEASIBLE", "below floor", "over memory",
/// "too many wait" and "off target", both or neither.
[[nodiscard]] std::string note_text(const Plan& plan, const AdvisoryRow& row);
/// How the changes are to be understood.
[[nodiscard]] std::string what_if_note(const Plan& plan);
/// "holds", or what breaks.
[[nodiscard]] std::string note_text(const Plan& plan, const WhatIf& what_if);
/// What is to be known about a line of the policies; by misses or by bytes.
[[nodiscard]] std::string policy_note(const PolicyRow& row, bool refuses);

}  // namespace loracle::detail
