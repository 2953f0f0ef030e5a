#pragma once
/// What loads take in a plan: guessed, given by hand, or calibrated.

#include <span>
#include <string>

#include "loracle/sim/plan.hpp"

namespace loracle::detail {

/// `sizes` [rows]: of the adapters that are used, as they are served; 0: not used, or unknown.
/// A calibrated rate counts the trace's own bytes where it knows those of every adapter in use. Else each
/// takes what one of the mean size does, and where no size is known, one as large as those measured.
void fill_load_times(Plan& plan, const Trace& trace, std::span<const Bytes> sizes,
                     const PlanOptions& options);

/// The worse of the two ways'.
[[nodiscard]] LoadTimesFrom load_times_from(const Plan& plan) noexcept;
/// What a verdict says of them: "UNCALIBRATED", "calibrated 2026-11-22 on NVIDIA H200".
[[nodiscard]] std::string load_times_mark(const Plan& plan);
/// "UNCALIBRATED: a load from host memory into a slot is taken to last 8 ms, ..."
[[nodiscard]] std::string load_times_text(const Plan& plan);
/// What of the adapters the calibration has not seen; empty if nothing.
[[nodiscard]] std::string extrapolation_text(const Plan& plan);

}  // namespace loracle::detail
