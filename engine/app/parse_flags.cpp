#include "parse_flags.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <thread>
#include <utility>

#include "loracle/core/parse_bytes.hpp"

namespace loracle::app {

unsigned threads_meant(unsigned threads) noexcept {
  return threads == 0 ? std::max(1U, std::thread::hardware_concurrency()) : threads;
}

CLI::Validator in_range(double least, double most) {
  const std::string wanted =
      std::isfinite(most) ? fmt::format("from {} to {}", least, most) : fmt::format("{} or more", least);
  const auto take = [least, most, wanted](std::string& text) -> std::string {
    double number = 0;
    if (!CLI::detail::lexical_cast(text, number)) return fmt::format("'{}' is not a number", text);
    return number >= least && number <= most ? std::string{} : fmt::format("{} is not {}", text, wanted);
  };
  return CLI::Validator(take, wanted);
}

CLI::Validator at_least(double least) { return in_range(least, std::numeric_limits<double>::infinity()); }

void add_threads_flag(CLI::App& command, unsigned& threads) {
  command.add_option("--threads", threads, "Threads to use; 0 = one a processor")->check(in_range(0, 1024));
}

namespace {

/// 0 or more; empty if it is no duration.
std::optional<double> seconds_of(std::string_view text) {
  static constexpr std::array<std::pair<std::string_view, double>, 9> kUnits = {{{"", 1},
                                                                                 {"s", 1},
                                                                                 {"ms", 1e-3},
                                                                                 {"m", 60},
                                                                                 {"min", 60},
                                                                                 {"h", 3600},
                                                                                 {"d", 86400},
                                                                                 {"day", 86400},
                                                                                 {"days", 86400}}};
  if (const auto parts = number_and_suffix(text))
    for (const auto& [name, factor] : kUnits)
      if (name == parts->second) return parts->first * factor;
  return std::nullopt;
}

std::string no_duration(std::string_view text) {
  return fmt::format("'{}' is not a duration: write for example 1h, 10min, 90s or 1d", text);
}

}  // namespace

Result<double> parse_seconds(std::string_view text) {
  if (const auto seconds = seconds_of(text); seconds && *seconds > 0) return *seconds;
  return fail(Errc::kInvalid, no_duration(text));
}

CLI::Validator as_seconds() {
  const auto take = [](std::string& text) -> std::string {
    const std::optional<double> seconds = seconds_of(text);
    if (!seconds) return no_duration(text);
    text = fmt::format("{}", *seconds);
    return {};
  };
  return CLI::Validator(take, "");
}

Result<double> parse_load_time(const std::string& text) {
  Result<double> seconds = parse_seconds(text);
  if (seconds && text.find_first_not_of("0123456789.") != std::string::npos) return seconds;
  return fail(
      Errc::kInvalid,
      fmt::format("'{}' is no time of a load: write it with its unit, for example 8ms or 0.5s", text));
}

Result<double> parse_rate(std::string_view flag, std::string_view text) {
  const std::string_view size = text.ends_with("/s") ? text.substr(0, text.size() - 2) : text;
  const auto parts = number_and_suffix(size);
  if (parts && unit_factor(parts->second) && parts->first > 0)
    if (const Result<Bytes> bytes = parse_bytes(size)) return static_cast<double>(bytes->value);
  return fail(
      Errc::kInvalid,
      fmt::format("{} '{}': write bytes a second with their unit, for example 20GiB or 500MB/s", flag, text));
}

Result<double> parse_share(std::string_view text) {
  if (const auto parts = number_and_suffix(text)) {
    const double share = parts->second == "%" ? parts->first / 100 : parts->first;
    if ((parts->second.empty() || parts->second == "%") && share <= 1) return share;
  }
  return fail(Errc::kInvalid, fmt::format("'{}' is not a share: write for example 1% or 0.01", text));
}

Result<std::vector<std::uint32_t>> parse_sizes(std::string_view flag, std::string_view text) {
  constexpr std::uint32_t kSizesMax = 4096;
  const auto bad = [&](std::string_view part) {
    return fail(
        Errc::kInvalid,
        fmt::format("{} '{}': write a range such as 1:64 or 8:512:8, or a list such as 8,16,32", flag, part));
  };
  const auto whole = [](std::string_view part) -> std::optional<std::uint32_t> {
    std::uint32_t value = 0;
    const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), value);
    if (error != std::errc{} || end != part.data() + part.size()) return std::nullopt;
    return value;
  };
  std::vector<std::uint32_t> sizes;
  for (const std::string& part : split_commas(text)) {
    const std::size_t colon = part.find(':');
    const std::size_t second = colon == std::string::npos ? colon : part.find(':', colon + 1);
    const std::string_view view = part;
    const auto first = whole(view.substr(0, colon));
    const auto last =
        colon == std::string::npos
            ? first
            : whole(view.substr(colon + 1, second == std::string::npos ? second : second - colon - 1));
    const auto step =
        second == std::string::npos ? std::optional<std::uint32_t>(1) : whole(view.substr(second + 1));
    if (!first || !last || !step || *step == 0 || *last < *first) return bad(part);
    if ((*last - *first) / *step + sizes.size() >= kSizesMax)
      return fail(Errc::kInvalid, fmt::format("{} '{}': more than {} sizes; add a step: 1:{}:{}", flag, part,
                                              kSizesMax, *last, (*last - *first) / kSizesMax + 1));
    for (std::uint64_t size = *first; size <= *last; size += *step)
      sizes.push_back(static_cast<std::uint32_t>(size));
  }
  if (sizes.empty()) return bad(text);
  return sizes;
}

std::vector<std::string> split_commas(std::string_view text) {
  std::vector<std::string> parts;
  while (!text.empty()) {
    const std::size_t comma = text.find(',');
    if (comma != 0) parts.emplace_back(text.substr(0, comma));
    text.remove_prefix(comma == std::string_view::npos ? text.size() : comma + 1);
  }
  return parts;
}

Result<std::vector<AskedCapacity>> parse_capacities(std::string_view text, std::optional<SizeUnit> unit,
                                                    const UseStream& stream) {
  std::uint64_t footprint = 0;
  std::vector<bool> used(stream.rows, false);
  for (const Row row : stream.uses.view()) {
    if (used[index_of(row)]) continue;
    used[index_of(row)] = true;
    footprint += stream.size[index_of(row)].value;
  }
  std::vector<AskedCapacity> asked;
  for (const std::string& part : split_commas(text)) {
    const auto parts = number_and_suffix(part);
    if (!parts)
      return fail(Errc::kInvalid,
                  fmt::format("--capacity '{}': write a count, a share or a size: 8, 10% or 4GiB", part));
    const bool percent = parts->second == "%";
    const bool in_bytes = unit_factor(parts->second).has_value();
    if (!percent && !in_bytes && !parts->second.empty())
      return fail(Errc::kInvalid, fmt::format("--capacity '{}': unknown unit '{}': write 8, 10% or 4GiB",
                                              part, parts->second));
    const SizeUnit here = unit.value_or(in_bytes ? SizeUnit::kBytes : SizeUnit::kObjects);
    if (in_bytes && here == SizeUnit::kObjects)
      return fail(Errc::kInvalid,
                  fmt::format("--capacity '{}' is a size in bytes: drop --unit objects", part));
    const double whole = static_cast<double>(here == SizeUnit::kBytes ? footprint : stream.distinct);
    const double factor = percent ? whole / 100 : in_bytes ? *unit_factor(parts->second) : 1;
    const double value = std::floor(parts->first * factor);
    if (!percent && !in_bytes && value != parts->first)
      return fail(Errc::kInvalid, fmt::format("--capacity '{}': a count is a whole number", part));
    if (value < 1)
      return fail(Errc::kInvalid, fmt::format("--capacity '{}' holds nothing: give 1 or more", part));
    if (value >= 0x1p63) return fail(Errc::kInvalid, fmt::format("--capacity '{}' is out of range", part));
    AskedCapacity capacity{part, here, {}};
    if (here == SizeUnit::kBytes)
      capacity.capacity.bytes = Bytes{static_cast<std::uint64_t>(value)};
    else
      capacity.capacity.entries = static_cast<std::uint64_t>(value);
    asked.push_back(std::move(capacity));
  }
  if (asked.empty()) return fail(Errc::kInvalid, "--capacity: give at least one, for example 8,64,10%");
  return asked;
}

std::string_view name_of(SizeUnit unit) noexcept { return unit == SizeUnit::kBytes ? "bytes" : "objects"; }

void add_unit_flag(CLI::App& command, std::optional<SizeUnit>& unit) {
  command
      .add_option_function<std::string>(
          "--unit",
          [&unit](const std::string& text) {
            unit = text == "bytes" ? SizeUnit::kBytes : SizeUnit::kObjects;
          },
          "What capacities count: objects or bytes")
      ->check(CLI::IsMember({"objects", "bytes"}));
}

}  // namespace loracle::app
