#include "parse_values.hpp"

#include <array>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <system_error>

namespace loracle {
namespace {

constexpr bool is_digit(char c) noexcept { return c >= '0' && c <= '9'; }
constexpr char lower(char c) noexcept { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

/// Takes exactly `digits` decimal digits off the front.
std::optional<int> take_digits(std::string_view& text, std::size_t digits) noexcept {
  if (text.size() < digits) return std::nullopt;
  int value = 0;
  for (std::size_t i = 0; i < digits; ++i) {
    if (!is_digit(text[i])) return std::nullopt;
    value = value * 10 + (text[i] - '0');
  }
  text.remove_prefix(digits);
  return value;
}

bool take(std::string_view& text, char expected) noexcept {
  if (text.empty() || text.front() != expected) return false;
  text.remove_prefix(1);
  return true;
}

/// Days from 1970-01-01 in the proleptic Gregorian calendar, counted in years that begin in March, so that
/// the leap day is a year's last.
constexpr std::int64_t days_since_1970(int year, int month, int day) noexcept {
  const std::int64_t y = month <= 2 ? year - 1 : year;
  const std::int64_t m = month <= 2 ? month + 9 : month - 3;  // March is 0
  return 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - 719468;
}
static_assert(days_since_1970(1970, 1, 1) == 0 && days_since_1970(2000, 3, 1) == 11017);

constexpr bool is_leap(int year) noexcept { return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0); }

constexpr int days_in(int year, int month) noexcept {
  constexpr std::array<int, 12> kDays = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
  return month == 2 && is_leap(year) ? 29 : kDays[static_cast<std::size_t>(month - 1)];
}

/// "", "Z", "+02:00", "-0530", "+02": seconds east of UTC.
std::optional<std::int64_t> take_zone(std::string_view text) noexcept {
  if (text.empty() || text == "Z" || text == "z" || text == " UTC") return 0;
  const bool east = text.front() == '+';
  if (!east && text.front() != '-') return std::nullopt;
  text.remove_prefix(1);
  const std::optional<int> hours = take_digits(text, 2);
  if (!hours || *hours > 14) return std::nullopt;
  int minutes = 0;
  if (!text.empty()) {
    static_cast<void>(take(text, ':'));
    const std::optional<int> read = take_digits(text, 2);
    if (!read || *read > 59 || !text.empty()) return std::nullopt;
    minutes = *read;
  }
  const std::int64_t seconds = std::int64_t{*hours} * 3600 + std::int64_t{minutes} * 60;
  return east ? seconds : -seconds;
}

}  // namespace

std::string_view trim(std::string_view text) noexcept {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

bool equal_ignoring_case(std::string_view a, std::string_view b) noexcept {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i)
    if (lower(a[i]) != lower(b[i])) return false;
  return true;
}

std::optional<double> parse_number(std::string_view text) noexcept {
  text = trim(text);
  // from_chars alone would take "inf" and "nan".
  if (text.empty() || !(is_digit(text.front()) || text.front() == '-' || text.front() == '.'))
    return std::nullopt;
  double value = 0;
  const char* last = text.data() + text.size();
  const auto [end, error] = std::from_chars(text.data(), last, value);
  if (error != std::errc{} || end != last || !std::isfinite(value)) return std::nullopt;
  return value;
}

std::optional<std::uint64_t> parse_count(std::string_view text) noexcept {
  text = trim(text);
  std::uint64_t value = 0;
  const char* last = text.data() + text.size();
  const auto [end, error] = std::from_chars(text.data(), last, value);
  if (error == std::errc{} && end == last) return value;
  if (error == std::errc::result_out_of_range) return std::nullopt;
  const std::optional<double> real = parse_number(text);
  // Above 2^53 a fraction cannot be told from none.
  if (!real || *real < 0 || *real > 0x1p53 || *real != std::floor(*real)) return std::nullopt;
  return static_cast<std::uint64_t>(*real);
}

std::optional<std::int64_t> parse_iso_ns(std::string_view text) noexcept {
  text = trim(text);
  const std::optional<int> year = take_digits(text, 4);
  if (!year || *year < 1900 || *year > 2261 || !take(text, '-')) return std::nullopt;
  const std::optional<int> month = take_digits(text, 2);
  if (!month || *month < 1 || *month > 12 || !take(text, '-')) return std::nullopt;
  const std::optional<int> day = take_digits(text, 2);
  if (!day || *day < 1 || *day > days_in(*year, *month)) return std::nullopt;
  if (!take(text, 'T') && !take(text, ' ') && !take(text, 't')) return std::nullopt;
  const std::optional<int> hour = take_digits(text, 2);
  if (!hour || *hour > 23 || !take(text, ':')) return std::nullopt;
  const std::optional<int> minute = take_digits(text, 2);
  if (!minute || *minute > 59 || !take(text, ':')) return std::nullopt;
  const std::optional<int> second = take_digits(text, 2);
  if (!second || *second > 60) return std::nullopt;  // 60: a leap second
  std::int64_t fraction_ns = 0;
  if (take(text, '.') || take(text, ',')) {
    std::size_t digits = 0;
    for (; !text.empty() && is_digit(text.front()); text.remove_prefix(1), ++digits)
      if (digits < 9) fraction_ns = fraction_ns * 10 + (text.front() - '0');
    if (digits == 0) return std::nullopt;
    for (; digits < 9; ++digits) fraction_ns *= 10;
  }
  const std::optional<std::int64_t> east = take_zone(text);
  if (!east) return std::nullopt;
  const std::int64_t seconds = days_since_1970(*year, *month, *day) * 86400 + std::int64_t{*hour} * 3600 +
                               std::int64_t{*minute} * 60 + *second - *east;
  return seconds * 1'000'000'000 + fraction_ns;
}

std::optional<double> ArrivalClock::seconds(std::string_view text) noexcept {
  if (kind_ == Kind::kUnknown || kind_ == Kind::kDate) {
    const std::optional<std::int64_t> ns = parse_iso_ns(text);
    if (ns && kind_ == Kind::kUnknown) {
      kind_ = Kind::kDate;
      first_ns_ = *ns;
    }
    if (ns) return static_cast<double>(*ns - first_ns_) * 1e-9;
    if (kind_ == Kind::kDate) return std::nullopt;
  }
  const std::optional<double> value = parse_number(text);
  if (!value || *value < 0) return std::nullopt;
  constexpr double kEpochMin = 1e8;
  if (kind_ == Kind::kUnknown) {
    kind_ = *value < kEpochMin ? Kind::kRelative : Kind::kEpoch;
    first_epoch_ = *value;
    units_per_second_ = *value < 1e11 ? 1 : *value < 1e14 ? 1e3 : *value < 1e17 ? 1e6 : 1e9;
  }
  if (kind_ == Kind::kRelative) return *value;
  // An epoch number of another magnitude would come out years away.
  if (*value < kEpochMin * units_per_second_ || *value >= 1e11 * units_per_second_) return std::nullopt;
  return (*value - first_epoch_) / units_per_second_;
}

}  // namespace loracle
