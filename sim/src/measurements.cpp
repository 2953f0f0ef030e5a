#include "loracle/sim/measurements.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <map>
#include <optional>
#include <span>
#include <utility>

namespace loracle {
namespace {

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kBlanks = " \t\r";
  const std::size_t first = text.find_first_not_of(kBlanks);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kBlanks) - first + 1);
}

/// The text up to the next line break, which is taken off as well.
std::string_view take_line(std::string_view& text) {
  const std::size_t end = text.find('\n');
  const std::string_view line = text.substr(0, end);
  text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  return line;
}

std::vector<std::string_view> fields_of(std::string_view line) {
  std::vector<std::string_view> fields;
  for (;;) {
    const std::size_t comma = line.find(',');
    fields.push_back(trimmed(line.substr(0, comma)));
    if (comma == std::string_view::npos) return fields;
    line.remove_prefix(comma + 1);
  }
}

/// A finite number and nothing after it.
std::optional<double> number_of(std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || !std::isfinite(value)) return std::nullopt;
  return value;
}

struct CsvColumn {
  std::string_view name;
  bool is_positive = false;  // else 0 will do
};

/// Hands each line's cells, in the order of `columns`, to `take`, which may refuse them.
template <class Take>
Result<Unit> read_csv(std::string_view text, const std::string& name,
                      std::span<const std::string_view> columns, const Take& take) {
  std::string wanted;
  for (const std::string_view column : columns) wanted += (wanted.empty() ? "" : ",") + std::string(column);
  std::vector<std::size_t> place;  // [columns] in the line
  std::size_t width = 0;
  std::uint64_t number = 0;
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
  while (!text.empty()) {
    const std::string_view line = take_line(text);
    ++number;
    if (trimmed(line).empty() || trimmed(line).front() == '#') continue;
    const std::vector<std::string_view> fields = fields_of(line);
    if (width == 0) {
      for (const std::string_view column : columns) {
        const auto found = std::find(fields.begin(), fields.end(), column);
        if (found == fields.end())
          return fail(Errc::kCorrupt, fmt::format("{}:{}: the header has no column '{}': write {}", name,
                                                  number, column, wanted));
        place.push_back(static_cast<std::size_t>(found - fields.begin()));
      }
      width = fields.size();
      continue;
    }
    if (fields.size() != width)
      return fail(Errc::kCorrupt,
                  fmt::format("{}:{}: {} fields, the header has {}", name, number, fields.size(), width));
    std::vector<std::string_view> cells;
    cells.reserve(place.size());
    for (const std::size_t at : place) cells.push_back(fields[at]);
    if (Result<Unit> taken = take(cells, fmt::format("{}:{}", name, number)); !taken) return taken;
  }
  if (width == 0) return fail(Errc::kCorrupt, fmt::format("{}: is empty: write a header, {}", name, wanted));
  return Unit{};
}

Result<double> cell_number(std::string_view cell, CsvColumn column, const std::string& where) {
  const std::optional<double> value = number_of(cell);
  if (!value)
    return fail(Errc::kCorrupt, fmt::format("{}: {} is '{}': write a number", where, column.name, cell));
  if (*value < 0 || (column.is_positive && *value == 0))
    return fail(Errc::kCorrupt, fmt::format("{}: {} is {}: it must be {}", where, column.name, cell,
                                            column.is_positive ? "above 0" : "0 or more"));
  return *value;
}

/// One sample of a Prometheus page: name, labels as they are written between the braces, value.
struct Sample {
  std::string_view name;
  std::string_view labels;
  double value = 0;
};

/// Where the braces of labels close: a quoted value may hold any character.
std::size_t labels_end(std::string_view line, std::size_t open) {
  bool is_quoted = false;
  for (std::size_t i = open + 1; i < line.size(); ++i) {
    if (is_quoted && line[i] == '\\')
      ++i;
    else if (line[i] == '"')
      is_quoted = !is_quoted;
    else if (line[i] == '}' && !is_quoted)
      return i;
  }
  return std::string_view::npos;
}

std::optional<double> sample_value(std::string_view text) {
  if (text == "+Inf" || text == "Inf") return std::numeric_limits<double>::infinity();
  return number_of(text);
}

/// Empty for what is no sample: comments, and lines that break the format.
std::optional<Sample> sample_of(std::string_view line) {
  line = trimmed(line);
  if (line.empty() || line.front() == '#') return std::nullopt;
  Sample sample;
  const std::size_t name_end = line.find_first_of("{ \t");
  if (name_end == std::string_view::npos) return std::nullopt;
  sample.name = line.substr(0, name_end);
  std::size_t rest = name_end;
  if (line[name_end] == '{') {
    const std::size_t close = labels_end(line, name_end);
    if (close == std::string_view::npos) return std::nullopt;
    sample.labels = line.substr(name_end + 1, close - name_end - 1);
    rest = close + 1;
  }
  std::string_view value = trimmed(line.substr(rest));
  value = value.substr(0, value.find_first_of(" \t"));  // a timestamp may follow
  const std::optional<double> number = sample_value(value);
  if (!number) return std::nullopt;
  sample.value = *number;
  return sample;
}

/// The value of a label that needs no escapes.
std::string_view label_of(std::string_view labels, std::string_view name) {
  while (!labels.empty()) {
    const std::size_t equals = labels.find("=\"");
    if (equals == std::string_view::npos) return {};
    const std::string_view key = trimmed(labels.substr(0, equals));
    std::size_t end = equals + 2;
    while (end < labels.size() && labels[end] != '"') end += labels[end] == '\\' ? 2 : 1;
    if (end >= labels.size()) return {};
    if (key == name) return labels.substr(equals + 2, end - equals - 2);
    labels.remove_prefix(end + 1);
    if (!labels.empty() && labels.front() == ',') labels.remove_prefix(1);
  }
  return {};
}

/// A histogram of load times of one way.
struct LoadHistogram {
  std::map<double, double> below;  // bucket's end -> loads up to it
  double sum = 0;
  double count = 0;
  double bytes = 0;
};

/// Standard deviation, every load taken to lie in the geometric middle of its bucket; < 0 without buckets.
double spread_of(const LoadHistogram& histogram) {
  if (histogram.below.empty() || !(histogram.count > 0)) return -1;
  const double mean = histogram.sum / histogram.count;
  double squares = 0;
  double from = 0;
  double before = 0;
  for (const auto& [end, up_to] : histogram.below) {
    const double middle = std::isinf(end) ? from : from > 0 ? std::sqrt(from * end) : end / 2;
    squares += std::max(0.0, up_to - before) * (middle - mean) * (middle - mean);
    from = end;
    before = up_to;
  }
  return std::sqrt(squares / histogram.count);
}

struct LoadFamily {
  std::string_view times;
  std::string_view bytes;  // empty: it has none
  std::string_view label;
  std::array<std::string_view, 2> tiers;  // [LoadWay]
};
constexpr LoadFamily kOurs = {
    "loracle_tier_load_seconds", "loracle_tier_loaded_bytes_total", "tier", {"host", "device"}};
constexpr LoadFamily kGateways = {"vllm:lora_adapter_load_seconds", "", "level", {"cpu", "gpu"}};

/// Whether the page has the family at all; its numbers.
bool collect(std::string_view text, const LoadFamily& family, std::array<LoadHistogram, 2>& ways) {
  bool is_there = false;
  while (!text.empty()) {
    const std::optional<Sample> sample = sample_of(take_line(text));
    if (!sample) continue;
    const bool is_time = sample->name.starts_with(family.times);
    if (!is_time && (family.bytes.empty() || sample->name != family.bytes)) continue;
    const auto tier =
        std::find(family.tiers.begin(), family.tiers.end(), label_of(sample->labels, family.label));
    if (tier == family.tiers.end()) continue;
    LoadHistogram& way = ways[static_cast<std::size_t>(tier - family.tiers.begin())];
    const std::string_view part = is_time ? sample->name.substr(family.times.size()) : "bytes";
    is_there = is_there || part == "_count";
    // Several replicas' pages may stand in one file: their counters add up.
    if (part == "_sum") way.sum += sample->value;
    if (part == "_count") way.count += sample->value;
    if (part == "bytes") way.bytes += sample->value;
    if (part == "_bucket")
      if (const auto end = sample_value(label_of(sample->labels, "le")); end)
        way.below[*end] += sample->value;
  }
  return is_there;
}

/// The number that stands before `words`; 0 or more.
std::optional<double> number_before(std::string_view line, std::string_view words) {
  const std::size_t at = line.find(words);
  if (at == std::string_view::npos || at == 0) return std::nullopt;
  const std::size_t begin = line.find_last_not_of("0123456789.", at - 1);
  const auto value = number_of(line.substr(begin + 1, at - begin - 1));
  return value && *value >= 0 ? value : std::nullopt;
}

}  // namespace

const char* name_of(LoadWay way) noexcept { return way == LoadWay::kDisk ? "disk" : "slot"; }

Result<std::vector<TimedLoad>> read_loads_csv(std::string_view text, const std::string& name) {
  static constexpr std::array<std::string_view, 3> kColumns = {"tier", "bytes", "seconds"};
  std::vector<TimedLoad> loads;
  const auto take = [&](const std::vector<std::string_view>& cells,
                        const std::string& where) -> Result<Unit> {
    if (cells[0] != "disk" && cells[0] != "slot")
      return fail(Errc::kCorrupt, fmt::format("{}: tier is '{}': write disk (into host memory) or slot "
                                              "(host memory into a slot)",
                                              where, cells[0]));
    const auto bytes = cell_number(cells[1], {kColumns[1], true}, where);
    if (!bytes) return fail(bytes.error());
    const auto seconds = cell_number(cells[2], {kColumns[2], true}, where);
    if (!seconds) return fail(seconds.error());
    loads.push_back({cells[0] == "disk" ? LoadWay::kDisk : LoadWay::kSlot, *bytes, *seconds});
    return Unit{};
  };
  if (const Result<Unit> read = read_csv(text, name, kColumns, take); !read) return fail(read.error());
  return loads;
}

Result<std::vector<TimedStep>> read_steps_csv(std::string_view text, const std::string& name) {
  static constexpr std::array<std::string_view, 5> kColumns = {"prefill_tokens", "sequences", "adapters",
                                                               "rank_sum", "seconds"};
  std::vector<TimedStep> steps;
  const auto take = [&](const std::vector<std::string_view>& cells,
                        const std::string& where) -> Result<Unit> {
    std::array<double, kColumns.size()> values{};
    for (std::size_t i = 0; i < values.size(); ++i) {
      const auto value = cell_number(cells[i], {kColumns[i], kColumns[i] == "seconds"}, where);
      if (!value) return fail(value.error());
      values[i] = *value;
    }
    steps.push_back({values[0], values[1], values[2], values[3], values[4]});
    return Unit{};
  };
  if (const Result<Unit> read = read_csv(text, name, kColumns, take); !read) return fail(read.error());
  return steps;
}

Result<std::vector<LoadSummary>> read_load_metrics(std::string_view text, const std::string& name) {
  std::array<LoadHistogram, 2> ways;
  if (!collect(text, kOurs, ways)) {
    ways = {};
    if (!collect(text, kGateways, ways))
      return fail(Errc::kCorrupt, fmt::format("{}: has neither {} nor {}: give the /metrics page of a server "
                                              "that times its loads, as `loracle serve` does",
                                              name, kOurs.times, kGateways.times));
  }
  std::vector<LoadSummary> found;
  for (const LoadWay way : {LoadWay::kDisk, LoadWay::kSlot}) {
    const LoadHistogram& histogram = ways[static_cast<std::size_t>(way)];
    const bool is_sane = histogram.count >= 0 && histogram.count < 0x1p53 && std::isfinite(histogram.sum) &&
                         histogram.sum >= 0 && std::isfinite(histogram.bytes) && histogram.bytes >= 0;
    if (!is_sane || (histogram.count > 0 && histogram.sum == 0))
      return fail(Errc::kCorrupt,
                  fmt::format("{}: {} of {} counts {} loads in {} s: the page is damaged", name, kOurs.times,
                              name_of(way), histogram.count, histogram.sum));
    if (histogram.count >= 1)
      found.push_back({way, static_cast<std::uint64_t>(histogram.count), histogram.bytes, histogram.sum,
                       spread_of(histogram)});
  }
  return found;
}

Result<std::vector<TimedStep>> read_vllm_log(std::string_view text, const std::string& name) {
  // No batch of a served model runs so fast: what was timed is handing it over.
  constexpr double kHandedOver = 1e-4;
  std::vector<TimedStep> steps;
  std::uint64_t handed_over = 0;
  std::uint64_t number = 0;
  while (!text.empty()) {
    const std::string_view line = take_line(text);
    ++number;
    const std::size_t begin = line.find("Iteration(");
    if (begin == std::string_view::npos) continue;
    const std::string_view rest = line.substr(begin);
    constexpr std::string_view kElapsed = "iteration elapsed time:";
    const std::size_t elapsed = rest.find(kElapsed);
    if (elapsed == std::string_view::npos) continue;
    const auto context = number_before(rest, " context requests");
    const auto tokens = number_before(rest, " context tokens");
    const auto decoding = number_before(rest, " generation requests");
    const std::string_view time = trimmed(rest.substr(elapsed + kElapsed.size()));
    const auto ms = number_of(trimmed(time.substr(0, time.find("ms"))));
    if (!context || !tokens || !decoding || !ms || *ms < 0)
      return fail(Errc::kCorrupt,
                  fmt::format("{}:{}: an Iteration line that is not as vLLM writes it: '... context "
                              "requests, ... context tokens, ... generation requests, ... iteration elapsed "
                              "time: ... ms'",
                              name, number));
    if (*context + *decoding == 0) continue;
    if (*ms * 1e-3 < kHandedOver)
      ++handed_over;
    else
      steps.push_back({*tokens, *context + *decoding, 0, 0, *ms * 1e-3});
  }
  if (handed_over > steps.size() / 10)
    return fail(Errc::kCorrupt,
                fmt::format("{}: {} of {} steps took less than {} ms: vLLM timed handing them over, not "
                            "running them; log with --no-async-scheduling",
                            name, handed_over, handed_over + steps.size(), kHandedOver * 1e3));
  if (steps.empty())
    return fail(Errc::kCorrupt,
                fmt::format("{}: no line says what a step took: start vLLM with "
                            "--enable-logging-iteration-details (and --no-async-scheduling). vLLM logs no "
                            "load times at all: for those give --loads or --metrics",
                            name));
  return steps;
}

}  // namespace loracle
