#include <fmt/format.h>

#include <cmath>
#include <memory>
#include <optional>

#include "commands.hpp"
#include "common.hpp"
#include "loracle/sim/curves.hpp"
#include "trace_json.hpp"

namespace loracle::app {
namespace {

struct CurveFlags {
  TraceFlags trace;
  Format format = Format::kText;
  std::optional<SizeUnit> unit;
  unsigned points = 32;
};

struct Point {
  std::uint64_t capacity = 0;
  std::uint64_t misses = 0;
  std::uint64_t bytes_missed = 0;
};

/// Sizes from `first` to `last`, evenly spread on a log scale, without repeats.
std::vector<std::uint64_t> log_spread(std::uint64_t first, std::uint64_t last, unsigned points) {
  std::vector<std::uint64_t> sizes;
  const double ratio = std::log(static_cast<double>(last) / static_cast<double>(first));
  for (unsigned i = 0; i < points; ++i) {
    const double share = points == 1 ? 1.0 : static_cast<double>(i) / (points - 1);
    const auto size =
        static_cast<std::uint64_t>(std::llround(static_cast<double>(first) * std::exp(ratio * share)));
    if (sizes.empty() || size > sizes.back()) sizes.push_back(std::min(size, last));
  }
  if (sizes.empty() || sizes.back() != last) sizes.push_back(last);
  return sizes;
}

Result<std::vector<Point>> count_points(const UseStream& stream, const CurveFlags& flags) {
  std::vector<Point> points;
  if (flags.unit.value_or(SizeUnit::kObjects) == SizeUnit::kObjects) {
    const LruCurve curve = lru_curve(stream);
    for (std::uint64_t entries = 1; flags.points == 0 && entries <= stream.distinct; ++entries)
      points.push_back({entries, curve.misses(entries), curve.misses(entries)});
    if (flags.points > 0 && stream.distinct > 0)
      for (const std::uint64_t entries : log_spread(1, stream.distinct, flags.points))
        points.push_back({entries, curve.misses(entries), curve.misses(entries)});
    return points;
  }
  std::uint64_t largest = 1;
  std::uint64_t footprint = 0;
  std::vector<bool> used(stream.rows, false);
  for (const Row row : stream.uses.view()) used[index_of(row)] = true;
  for (std::uint32_t row = 0; row < stream.rows; ++row) {
    if (!used[row]) continue;
    largest = std::max(largest, stream.size[row].value);
    footprint += stream.size[row].value;
  }
  std::vector<Bytes> capacities;
  for (const std::uint64_t bytes :
       log_spread(largest, std::max(largest, footprint), std::max(2U, flags.points)))
    capacities.push_back(Bytes{bytes});
  const Result<std::vector<ByteCurvePoint>> curve = lru_byte_curve(stream, capacities);
  if (!curve) return fail(curve.error());
  for (const ByteCurvePoint& point : *curve)
    points.push_back({point.capacity.value, point.misses, point.bytes_missed.value});
  return points;
}

int run_curve(const CurveFlags& flags) {
  const Result<Trace> trace = flags.trace.load();
  if (!trace) return report_input(trace.error());
  if (flags.unit == SizeUnit::kBytes)
    if (const Result<Unit> known = check_sizes_known(*trace); !known) return report_usage(known.error());
  const Result<UseStream> stream = make_use_stream(*trace);
  if (!stream) return report_input(stream.error());
  const Result<std::vector<Point>> points = [&] {
    const Progress progress("computing the curve");
    return count_points(*stream, flags);
  }();
  if (!points) return report_usage(points.error());
  const SizeUnit unit = flags.unit.value_or(SizeUnit::kObjects);
  const auto uses = static_cast<double>(std::max<std::size_t>(1, stream->uses.size()));
  if (flags.format == Format::kJson) {
    nlohmann::ordered_json json = nlohmann::ordered_json::array();
    for (const Point& point : *points)
      json.push_back({{"capacity", point.capacity},
                      {"misses", point.misses},
                      {"miss_ratio", static_cast<double>(point.misses) / uses},
                      {"bytes_missed", unit == SizeUnit::kBytes ? nlohmann::ordered_json(point.bytes_missed)
                                                                : nlohmann::ordered_json()}});
    print(dump({{"trace", describe(*trace)},
                {"policy", "lru"},
                {"unit", name_of(unit)},
                {"requests", stream->uses.size()},
                {"compulsory_misses", stream->distinct},
                {"points", std::move(json)}}));
    return kExitOk;
  }
  std::string out =
      flags.format == Format::kCsv
          ? "capacity,unit,misses,miss_ratio,bytes_missed\n"
          : fmt::format(
                "{}: {} uses of {} adapters (mapping: {}); LRU, every size exact\n{:>16} {:>12} {:>9}\n",
                trace->source, stream->uses.size(), stream->distinct, trace->mapping, "capacity", "misses",
                "miss %");
  for (const Point& point : *points) {
    const double ratio = static_cast<double>(point.misses) / uses;
    out += flags.format == Format::kCsv
               ? fmt::format("{},{},{},{},{}\n", point.capacity, name_of(unit), point.misses, ratio,
                             unit == SizeUnit::kBytes ? std::to_string(point.bytes_missed) : "")
               : fmt::format("{:>16} {:>12} {:>8.2f}%\n",
                             unit == SizeUnit::kBytes ? human_bytes(Bytes{point.capacity})
                                                      : std::to_string(point.capacity),
                             point.misses, 100 * ratio);
  }
  print(out);
  return kExitOk;
}

}  // namespace

void add_curve_command(CLI::App& app, int& exit_code) {
  auto flags = std::make_shared<CurveFlags>();
  CLI::App* command = app.add_subcommand("curve", "Exact LRU miss-ratio curve for all sizes, in one pass");
  flags->trace.add_to(*command);
  add_unit_flag(*command, flags->unit);
  command
      ->add_option("--points", flags->points,
                   "Points to print, spread on a log scale; 0 = every size (objects)")
      ->check(in_range(0, 1'000'000))
      ->capture_default_str();
  add_format_flag(*command, flags->format);
  command->footer(
      "Examples:\n"
      "  loracle curve t.jsonl\n"
      "  loracle curve t.jsonl --unit bytes --format csv\n\n"
      "By bytes the curve starts at the largest adapter: below that LRU has no single curve; use replay "
      "there.");
  command->callback([flags, &exit_code] { exit_code = run_curve(*flags); });
}

}  // namespace loracle::app
