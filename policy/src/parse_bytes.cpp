#include "loracle/core/parse_bytes.hpp"

#include <array>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <string>
#include <system_error>

namespace loracle {

std::optional<double> unit_factor(std::string_view unit) {
  static constexpr std::array<std::pair<std::string_view, double>, 10> kUnits = {{{"B", 1},
                                                                                  {"KB", 1e3},
                                                                                  {"MB", 1e6},
                                                                                  {"GB", 1e9},
                                                                                  {"TB", 1e12},
                                                                                  {"KiB", 1024.0},
                                                                                  {"MiB", 1048576.0},
                                                                                  {"GiB", 1073741824.0},
                                                                                  {"TiB", 1099511627776.0},
                                                                                  {"kB", 1e3}}};
  for (const auto& [name, factor] : kUnits)
    if (name == unit) return factor;
  return std::nullopt;
}

std::optional<std::pair<double, std::string_view>> number_and_suffix(std::string_view text) {
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || !std::isfinite(number) || number < 0) return std::nullopt;
  return std::pair{number, text.substr(static_cast<std::size_t>(end - text.data()))};
}

Result<Bytes> parse_bytes(std::string_view text) {
  const auto parts = number_and_suffix(text);
  const std::optional<double> factor = !parts                  ? std::nullopt
                                       : parts->second.empty() ? std::optional<double>(1)
                                                               : unit_factor(parts->second);
  if (!factor || parts->first * *factor >= 0x1p63) {
    std::string message("'");
    message.append(text).append("' is not a size: write for example 64GiB, 500MB or 1048576");
    return fail(Errc::kInvalid, std::move(message));
  }
  return Bytes{static_cast<std::uint64_t>(std::llround(parts->first * *factor))};
}

std::string human_bytes(Bytes bytes) {
  static constexpr std::array<std::string_view, 5> kUnits = {" B", " KiB", " MiB", " GiB", " TiB"};
  auto value = static_cast<double>(bytes.value);
  std::size_t unit = 0;
  while (value >= 1023.95 && unit + 1 < kUnits.size()) {  // which would be shown as 1024.0
    value /= 1024;
    ++unit;
  }
  if (unit == 0) return std::to_string(bytes.value) + std::string(kUnits[0]);
  std::array<char, 32> digits{};
  const auto end =
      std::to_chars(digits.data(), digits.data() + digits.size(), value, std::chars_format::fixed, 1);
  return std::string(digits.data(), end.ptr).append(kUnits[unit]);
}

}  // namespace loracle
