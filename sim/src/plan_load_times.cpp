#include "plan_load_times.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "loracle/core/parse_bytes.hpp"
#include "plan_format.hpp"

namespace loracle {

const char* name_of(LoadTimesFrom from) noexcept {
  switch (from) {
    case LoadTimesFrom::kAssumed:
      return "uncalibrated";
    case LoadTimesFrom::kGiven:
      return "given";
    case LoadTimesFrom::kCalibrated:
      break;
  }
  return "calibrated";
}

namespace detail {
namespace {

/// Sizes of the adapters in use, as far as they are known.
struct KnownSizes {
  std::vector<double> bytes;
  bool are_in_trace = false;  // of every one, and what the simulation counts
};

KnownSizes known_sizes(const Trace& trace, std::span<const Bytes> sizes) {
  const auto in_trace = [&](std::size_t row) {
    return row < trace.adapters.bytes.size() ? trace.adapters.bytes[row] : std::uint64_t{0};
  };
  KnownSizes known;
  known.are_in_trace = true;
  std::vector<double> stored;
  for (std::size_t row = 0; row < sizes.size(); ++row) {
    if (sizes[row].value == 0) continue;
    known.bytes.push_back(static_cast<double>(sizes[row].value));
    stored.push_back(static_cast<double>(in_trace(row)));
    known.are_in_trace = known.are_in_trace && in_trace(row) > 0;
  }
  known.are_in_trace = known.are_in_trace && !stored.empty();
  if (known.are_in_trace) known.bytes = std::move(stored);
  return known;
}

struct LoadTime {
  LoadChannel channel;
  double mean_s = 0;
  LoadTimesFrom from = LoadTimesFrom::kAssumed;
};

LoadTime load_time(const std::optional<LoadFit>& fit, bool is_given, double option_s, const KnownSizes& sizes,
                   std::uint64_t adapters) {
  LoadTime time;
  if (is_given || !fit) {
    time.channel.latency_s = time.mean_s = option_s;
    time.from = is_given ? LoadTimesFrom::kGiven : LoadTimesFrom::kAssumed;
    return time;
  }
  time.from = LoadTimesFrom::kCalibrated;
  double sum = 0;
  for (const double bytes : sizes.bytes) sum += bytes;
  const double mean = sizes.bytes.empty() ? 0 : sum / static_cast<double>(sizes.bytes.size());
  time.mean_s = load_time_s(*fit, mean);
  if (sizes.are_in_trace && sizes.bytes.size() == adapters)
    time.channel = fit->channel;
  else
    time.channel.latency_s = time.mean_s;
  return time;
}

/// Largest and smallest adapter against what was measured.
std::string beyond(const char* way, const std::optional<LoadFit>& fit, double least, double most) {
  constexpr double kFar = 1.25;
  if (!fit || !(fit->bytes_max > 0)) return {};
  if (most <= fit->bytes_max * kFar && least >= fit->bytes_min / kFar) return {};
  const auto shown = [](double bytes) { return human_bytes(Bytes{static_cast<std::uint64_t>(bytes)}); };
  return fmt::format("Loads {} were measured of {} to {}, adapters take {} to {}: {}.", way,
                     shown(fit->bytes_min), shown(fit->bytes_max), shown(least), shown(most),
                     fit->is_rate_known ? "times beyond are extrapolated"
                                        : "all are taken to load as long as those measured");
}

}  // namespace

void fill_load_times(Plan& plan, const Trace& trace, std::span<const Bytes> sizes,
                     const PlanOptions& options) {
  plan.calibration = options.calibration;
  const KnownSizes known = known_sizes(trace, sizes);
  const auto [least, most] = std::minmax_element(known.bytes.begin(), known.bytes.end());
  plan.load_bytes_min = least == known.bytes.end() ? 0 : *least;
  plan.load_bytes_max = most == known.bytes.end() ? 0 : *most;
  const auto fit_of = [&](std::optional<LoadFit> Calibration::*way) {
    return plan.calibration ? (*plan.calibration).*way : std::optional<LoadFit>();
  };
  const LoadTime slot = load_time(fit_of(&Calibration::slot), options.slot_load_given, options.slot_load_s,
                                  known, plan.adapters);
  const LoadTime disk = load_time(fit_of(&Calibration::disk), options.disk_load_given, options.disk_load_s,
                                  known, plan.adapters);
  plan.slot_load = slot.channel;
  plan.slot_load_s = slot.mean_s;
  plan.slot_load_from = slot.from;
  plan.disk_load = disk.channel;
  plan.disk_load_s = disk.mean_s;
  plan.disk_load_from = disk.from;
}

LoadTimesFrom load_times_from(const Plan& plan) noexcept {
  return std::min(plan.slot_load_from, plan.disk_load_from);
}

std::string load_times_mark(const Plan& plan) {
  std::string measured = plan.calibration ? calibration_name(*plan.calibration) : std::string();
  if (load_times_from(plan) == LoadTimesFrom::kCalibrated) return measured;
  const auto mark = [&](LoadTimesFrom from) {
    return from == LoadTimesFrom::kCalibrated ? measured
           : from == LoadTimesFrom::kGiven    ? std::string("as given")
                                              : std::string("a guess");
  };
  if (plan.slot_load_from == LoadTimesFrom::kAssumed && plan.disk_load_from == LoadTimesFrom::kAssumed)
    return "UNCALIBRATED";
  if (plan.slot_load_from == LoadTimesFrom::kGiven && plan.disk_load_from == LoadTimesFrom::kGiven)
    return "UNCALIBRATED: load times as given";
  return fmt::format("UNCALIBRATED: load times into slots {}, from disk {}", mark(plan.slot_load_from),
                     mark(plan.disk_load_from));
}

std::string load_times_text(const Plan& plan) {
  const LoadTimesFrom from = load_times_from(plan);
  std::string head = from == LoadTimesFrom::kAssumed ? "UNCALIBRATED"
                     : from == LoadTimesFrom::kGiven ? "As given"
                                                     : "As " + calibration_name(*plan.calibration);
  const bool is_by_size =
      std::isfinite(plan.slot_load.bytes_per_s) || std::isfinite(plan.disk_load.bytes_per_s);
  return fmt::format(
      "{}: a load from host memory into a slot is taken to last {}, one from disk {} before that{}{}; a "
      "further slot must save {} of the server's time.",
      head, seconds_text(plan.slot_load_s), seconds_text(plan.disk_load_s),
      is_by_size ? ", of an adapter of mean size: each by its own bytes" : "",
      from == LoadTimesFrom::kAssumed
          ? " (give yours: `loracle calibrate` and --calibration, or --slot-load-time, --disk-load-time)"
          : "",
      share_text(plan.slot_worth_time));
}

std::string extrapolation_text(const Plan& plan) {
  if (!plan.calibration || !(plan.load_bytes_max > 0)) return {};
  std::string text;
  if (plan.slot_load_from == LoadTimesFrom::kCalibrated)
    text = beyond("into slots", plan.calibration->slot, plan.load_bytes_min, plan.load_bytes_max);
  if (plan.disk_load_from == LoadTimesFrom::kCalibrated)
    if (const std::string disk =
            beyond("from disk", plan.calibration->disk, plan.load_bytes_min, plan.load_bytes_max);
        !disk.empty())
      text += (text.empty() ? "" : " ") + disk;
  return text;
}

}  // namespace detail
}  // namespace loracle
