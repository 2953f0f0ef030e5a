#pragma once
/// The plan as one self-contained page: no network, light and dark, under 3 MB; the text and the tables read
/// without JavaScript, the charts are drawn by Vega, which is embedded at build time.
/// Pure and deterministic: equal plans, equal bytes; no date, no timing.

#include <string>

#include "loracle/sim/plan.hpp"

namespace loracle {

[[nodiscard]] std::string plan_html(const Plan& plan);

}  // namespace loracle
