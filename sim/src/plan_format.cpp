#include "plan_format.hpp"

#include <fmt/format.h>

#include <array>

namespace loracle::detail {

std::string count_text(std::uint64_t count) {
  std::string text = std::to_string(count);
  for (std::size_t at = text.size(); at > 3;) {
    at -= 3;
    text.insert(at, 1, ',');
  }
  return text;
}

std::string percent_digits(double percent) {
  return percent < 9.995 ? fmt::format("{:.2f}", percent) : fmt::format("{:.1f}", percent);
}

std::string share_text(double share) {
  const double percent = share * 100;
  if (percent <= 0) return "0 %";
  if (percent < 0.01) return "<0.01 %";
  return percent_digits(percent) + " %";
}

std::string share_text(std::uint64_t part, std::uint64_t whole) {
  return share_text(whole == 0 ? 0.0 : static_cast<double>(part) / static_cast<double>(whole));
}

std::string seconds_text(double seconds) {
  if (seconds < 0.9995) return fmt::format("{:.3g} ms", seconds * 1e3);
  if (seconds < 120) return fmt::format("{:.3g} s", seconds);
  if (seconds < 2 * 3600) return fmt::format("{:.3g} min", seconds / 60);
  if (seconds < 48 * 3600) return fmt::format("{:.3g} h", seconds / 3600);
  return fmt::format("{:.3g} days", seconds / 86400);
}

std::string counted(std::uint64_t count, std::string_view one) {
  return fmt::format("{} {}{}", count_text(count), one, count == 1 ? "" : "s");
}

std::string_view base_name(std::string_view path) noexcept {
  const auto slash = path.rfind('/');
  return slash == std::string_view::npos || slash + 1 == path.size() ? path : path.substr(slash + 1);
}

}  // namespace loracle::detail
