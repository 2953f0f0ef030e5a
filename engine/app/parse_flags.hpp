#pragma once
/// Values of flags as people write them: durations, shares, sizes, capacities, numbers of threads.

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "loracle/core/result.hpp"
#include "loracle/policy/capacity.hpp"
#include "loracle/sim/replay.hpp"

namespace loracle::app {

/// One of these names, whatever the case, as its value. The error lists them.
template <class Enum>
[[nodiscard]] CLI::Validator one_of(std::vector<std::pair<std::string, Enum>> names) {
  std::string shown;
  for (const auto& [name, value] : names) shown += (shown.empty() ? "" : "|") + name;
  const auto take = [names = std::move(names), shown](std::string& text) -> std::string {
    for (const auto& [name, value] : names) {
      if (CLI::detail::to_lower(text) != CLI::detail::to_lower(name)) continue;
      text = std::to_string(static_cast<int>(value));
      return {};
    }
    return "'" + text + "' is none of " + shown;
  };
  return CLI::Validator(take, shown);
}

/// A number from `least` to `most`, or at least so much. The errors say which.
[[nodiscard]] CLI::Validator in_range(double least, double most);
[[nodiscard]] CLI::Validator at_least(double least);

/// Seconds as parse_seconds reads them, or none.
[[nodiscard]] CLI::Validator as_seconds();

/// `--threads N`, 0 = as many as there are processors.
void add_threads_flag(CLI::App& command, unsigned& threads);
/// What the flag means here.
[[nodiscard]] unsigned threads_meant(unsigned threads) noexcept;

/// `1h`, `90s`, `10min`, `1d`, `3600`. Errors: kInvalid.
[[nodiscard]] Result<double> parse_seconds(std::string_view text);
/// The same with its unit always: `8ms`, `0.5s`. Seconds and milliseconds are too easily mixed up here.
[[nodiscard]] Result<double> parse_load_time(const std::string& text);
/// Bytes a second, with their unit always: `20GiB`, `500MB/s`. Errors: kInvalid, names the flag.
[[nodiscard]] Result<double> parse_rate(std::string_view flag, std::string_view text);
/// `1%`, `0.01`. Errors: kInvalid.
[[nodiscard]] Result<double> parse_share(std::string_view text);
/// `1:64`, `1:64:4` (step), `8,16,32`. Errors: kInvalid.
[[nodiscard]] Result<std::vector<std::uint32_t>> parse_sizes(std::string_view flag, std::string_view text);
[[nodiscard]] std::vector<std::string> split_commas(std::string_view text);

/// A capacity as written: `8` and `10%` in the unit, `4GiB` in bytes.
struct AskedCapacity {
  std::string text;
  SizeUnit unit = SizeUnit::kObjects;
  Capacity capacity;

  [[nodiscard]] std::uint64_t value() const noexcept {
    return unit == SizeUnit::kBytes ? capacity.bytes.value : capacity.entries;
  }
};
/// `unit` absent: bytes where a size in bytes is written, else objects. Errors: kInvalid.
[[nodiscard]] Result<std::vector<AskedCapacity>> parse_capacities(std::string_view text,
                                                                  std::optional<SizeUnit> unit,
                                                                  const UseStream& stream);
[[nodiscard]] std::string_view name_of(SizeUnit unit) noexcept;
/// `--unit objects|bytes`; left alone when the flag is absent.
void add_unit_flag(CLI::App& command, std::optional<SizeUnit>& unit);

}  // namespace loracle::app
