#pragma once
/// "Did you mean", phrased for this module's messages (core/nearest.hpp finds the name).

#include <string>
#include <string_view>
#include <vector>

namespace loracle {

/// The name meant by a slip of the pen, or "".
[[nodiscard]] std::string_view nearest_of(std::string_view typed, const std::vector<std::string>& names);

/// " (did you mean 'x'?)" or "".
[[nodiscard]] std::string did_you_mean(std::string_view typed, const std::vector<std::string>& names);

/// "a, b, c".
[[nodiscard]] std::string join_names(const std::vector<std::string>& names);

}  // namespace loracle
