#pragma once
/// How numbers read in the plan's text and page. Same text on every machine: no locale.

#include <cstdint>
#include <string>
#include <string_view>

#include "loracle/core/units.hpp"

namespace loracle::detail {

/// 16709 -> "16,709".
[[nodiscard]] std::string count_text(std::uint64_t count);
/// 8.314 -> "8.31", 83.14 -> "83.1".
[[nodiscard]] std::string percent_digits(double percent);
/// 0.0831 -> "8.31 %"; three digits that matter, never "0 %" for something above 0.
[[nodiscard]] std::string share_text(double share);
[[nodiscard]] std::string share_text(std::uint64_t part, std::uint64_t whole);
/// 3600 -> "1.0 h".
[[nodiscard]] std::string seconds_text(double seconds);
/// "1 slot", "8 slots".
[[nodiscard]] std::string counted(std::uint64_t count, std::string_view one);
/// The last component of a path: what a page may show of it.
[[nodiscard]] std::string_view base_name(std::string_view path) noexcept;

}  // namespace loracle::detail
