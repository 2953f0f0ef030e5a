#pragma once
/// Text to numbers and times, whole field or nothing: no locale, no leading or trailing garbage, blanks
/// around allowed. Nothing allocates. Threads: pure functions; ArrivalClock has one owner.

#include <cstdint>
#include <optional>
#include <string_view>

namespace loracle {

[[nodiscard]] std::string_view trim(std::string_view text) noexcept;
/// ASCII letters only.
[[nodiscard]] bool equal_ignoring_case(std::string_view a, std::string_view b) noexcept;
/// A finite decimal number; "1e3" and "-2.5" are, "inf", "nan" and "0x10" are not.
[[nodiscard]] std::optional<double> parse_number(std::string_view text) noexcept;
/// A whole number from 0 to 2^64-1; "12.0", as data frames write it, is 12.
[[nodiscard]] std::optional<std::uint64_t> parse_count(std::string_view text) noexcept;
/// "2023-11-16 18:15:46.6805900", "2024-05-10T00:00:00Z", "... +02:00": nanoseconds since 1970 UTC. Without a
/// zone it is taken as UTC; digits behind the ninth are dropped; years 1900 to 2261.
[[nodiscard]] std::optional<std::int64_t> parse_iso_ns(std::string_view text) noexcept;

/// Turns a log's time stamps into seconds. The first stamp decides what they are: a date, an epoch number
/// (1e8 and up; seconds, milli-, micro- or nanoseconds by magnitude) or seconds from the log's own zero.
/// Dates and epoch numbers are counted from the first stamp, so a log out of order can give negative seconds
/// (see TraceBuilder).
class ArrivalClock {
 public:
  /// Nothing when the text is no stamp of the kind the first one was.
  [[nodiscard]] std::optional<double> seconds(std::string_view text) noexcept;
  [[nodiscard]] bool is_absolute() const noexcept { return kind_ == Kind::kDate || kind_ == Kind::kEpoch; }

 private:
  enum class Kind : std::uint8_t { kUnknown, kDate, kEpoch, kRelative };
  Kind kind_ = Kind::kUnknown;
  double units_per_second_ = 1;
  double first_epoch_ = 0;
  std::int64_t first_ns_ = 0;
};

}  // namespace loracle
