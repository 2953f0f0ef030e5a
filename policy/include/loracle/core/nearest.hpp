#pragma once
/// "Did you mean": the known name nearest to what somebody typed.

#include <span>
#include <string>
#include <string_view>

namespace loracle {

/// The name with the smallest edit distance (insert, delete, replace, swap neighbours; case ignored), or an
/// empty view if none is within a third of the length, at least 1. O(names x length^2).
[[nodiscard]] std::string_view nearest_name(std::string_view given, std::span<const std::string_view> names);

/// `unknown policy 'seive'; did you mean 'sieve'? Known: lru fifo ...`
[[nodiscard]] std::string unknown_name_message(std::string_view what, std::string_view given,
                                               std::span<const std::string_view> names);

}  // namespace loracle
