#pragma once
/// What a plan says of the setting that the server runs with today: keep it, change it, or neither.
///
/// The rule, in this order; the first that applies is the answer:
///  1. Nothing was said of today's setting: kNotAsked.
///  2. No pair within the limits will do: kInfeasible.
///  3. The trace is so short that a target stands on fewer than ten requests: kNotEnoughData.
///  4. Today's setting breaks a rule in this very trace (requests that are refused, or too many that wait; a
///     memory limit; the disk target, if the choice meets it or has a fifth fewer disk loads beyond first
///     uses): kChange. That needs no more data: it happened, or, where durations are assumed, it would have;
///     the reason says so.
///  5. Waits are unknown or stand on assumed durations, or the trace holds too few regimes for an interval:
///     kNotEnoughData. That a setting will go on serving is a claim about other days.
///  6. Loads and slots of today's setting cost the server a quarter more than the choice's (rule 4 of
///     plan.hpp): kChange. Host memory beyond what is needed costs nothing here.
///  7. Else kKeep.

#include <cstdint>
#include <string>

#include "loracle/sim/plan.hpp"

namespace loracle {

enum class Advice : std::uint8_t { kNotAsked, kKeep, kChange, kInfeasible, kNotEnoughData };
/// "not_asked", "keep", "change", "infeasible", "not_enough_data".
[[nodiscard]] const char* name_of(Advice advice) noexcept;

[[nodiscard]] Advice advice_of(const Plan& plan);

/// Why, in one sentence; empty if nothing was asked.
[[nodiscard]] std::string advice_reason(const Plan& plan);

/// What rule 4 of plan.hpp minimises: the time of loads into slots and the worth of the slots, as shares of
/// the server's time; or loads per use and their worth where the trace has no times.
[[nodiscard]] double running_cost(const Plan& plan, double slot_loads, double slots) noexcept;

}  // namespace loracle
