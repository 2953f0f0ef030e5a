#pragma once
/// The charts as Vega specifications, in JSON text. The signals `ink`, `soft` and `blue` (colours)
/// and the width are set by the page's script.

#include <string>

#include "loracle/sim/plan.hpp"

namespace loracle::detail {

/// What a load from disk weighs against one from host memory in the colour of the grid.
inline constexpr double kDiskWeight = 10;

[[nodiscard]] std::string grid_chart(const Plan& plan);
[[nodiscard]] std::string curves_chart(const Plan& plan);
[[nodiscard]] std::string popularity_chart(const Plan& plan);
[[nodiscard]] std::string distances_chart(const Plan& plan);
[[nodiscard]] std::string working_set_chart(const Plan& plan);

}  // namespace loracle::detail
