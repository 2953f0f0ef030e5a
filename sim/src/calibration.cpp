#include "loracle/sim/calibration.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <utility>

#include "loracle/core/parse_bytes.hpp"
#include "loracle/core/rng.hpp"
#include "nonnegative_fit.hpp"
#include "plan_format.hpp"

namespace loracle {
namespace {

using detail::counted;
using detail::fit_nonnegative;
using detail::NonnegativeFit;

constexpr double kOneSize = 0.01;  // sizes that differ by no more are one size

/// What a fit is made of. `size` is what a group of measurements shows.
struct Rows {
  std::size_t columns = 0;
  std::vector<double> design;    // (rows, columns)
  std::vector<double> measured;  // [rows] seconds
  std::vector<double> size;      // [rows]

  [[nodiscard]] std::span<const double> row(std::size_t i) const {
    return std::span(design).subspan(i * columns, columns);
  }
};

double predict(std::span<const double> row, const std::vector<double>& value) {
  return std::inner_product(row.begin(), row.end(), value.begin(), 0.0);
}

double median_of(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const std::size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

/// Predictions of rows that the fit had not seen: each fifth by the other four. Which fifth is drawn, as
/// measurements often take sizes in turn.
std::vector<double> held_out_predictions(const Rows& rows) {
  constexpr std::uint32_t kFolds = 5;
  std::vector<double> predicted(rows.measured.size());
  std::vector<std::uint32_t> fold_of(predicted.size());
  Rng rng(1);
  for (std::uint32_t& fold : fold_of) fold = rng.below(kFolds);
  for (std::uint32_t fold = 0; fold < kFolds; ++fold) {
    std::vector<double> design;
    std::vector<double> measured;
    for (std::size_t i = 0; i < rows.measured.size(); ++i) {
      if (fold_of[i] == fold) continue;
      design.insert(design.end(), rows.row(i).begin(), rows.row(i).end());
      measured.push_back(rows.measured[i]);
    }
    const NonnegativeFit fit = fit_nonnegative(design, measured);
    for (std::size_t i = 0; i < predicted.size(); ++i)
      if (fold_of[i] == fold) predicted[i] = predict(rows.row(i), fit.value);
  }
  return predicted;
}

/// At most eight groups of equally many, in the order of their size; one size is never cut in two.
std::vector<CheckedGroup> grouped(const Rows& rows, const std::vector<double>& predicted) {
  constexpr std::size_t kGroupsMax = 8;
  std::vector<std::size_t> order(predicted.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return rows.size[a] < rows.size[b]; });
  std::size_t sizes = order.empty() ? 0 : 1;
  for (std::size_t i = 1; i < order.size(); ++i)
    if (rows.size[order[i]] > rows.size[order[i - 1]]) ++sizes;
  const std::size_t least = sizes <= kGroupsMax ? 1 : (order.size() + kGroupsMax - 1) / kGroupsMax;
  std::vector<CheckedGroup> groups;
  for (std::size_t begin = 0; begin < order.size();) {
    std::size_t end = std::min(order.size(), begin + least);
    while (end < order.size() && rows.size[order[end]] == rows.size[order[end - 1]]) ++end;
    std::vector<double> size;
    std::vector<double> measured;
    std::vector<double> expected;
    for (std::size_t i = begin; i < end; ++i) {
      size.push_back(rows.size[order[i]]);
      measured.push_back(rows.measured[order[i]]);
      expected.push_back(predicted[order[i]]);
    }
    groups.push_back({end - begin, median_of(std::move(size)), median_of(std::move(measured)),
                      median_of(std::move(expected))});
    begin = end;
  }
  return groups;
}

FitQuality quality_of(const Rows& rows, const NonnegativeFit& fit) {
  const std::size_t count = rows.measured.size();
  FitQuality quality;
  quality.count = count;
  quality.is_held_out = count >= 2 * detail::kFewRows;
  std::vector<double> fitted(count);
  for (std::size_t i = 0; i < count; ++i) fitted[i] = predict(rows.row(i), fit.value);
  // What has no weight says nothing about the rest.
  std::vector<double> kept;
  double residual = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const double error = rows.measured[i] - fitted[i];
    if (count >= detail::kFewRows && std::abs(error) >= detail::kSetAside * fit.scale * fitted[i]) continue;
    kept.push_back(rows.measured[i]);
    residual += error * error;
  }
  quality.set_aside = count - kept.size();
  const double mean = std::accumulate(kept.begin(), kept.end(), 0.0) /
                      static_cast<double>(std::max<std::size_t>(1, kept.size()));
  double total = 0;
  for (const double seconds : kept) total += (seconds - mean) * (seconds - mean);
  quality.r2 = total > 0 ? 1 - residual / total : 0;

  const std::vector<double> predicted = quality.is_held_out ? held_out_predictions(rows) : fitted;
  std::vector<double> relative;
  std::vector<double> absolute;
  std::uint64_t within_10 = 0;
  std::uint64_t within_20 = 0;
  for (std::size_t i = 0; i < count; ++i) {
    absolute.push_back(std::abs(predicted[i] - rows.measured[i]));
    relative.push_back(absolute.back() / rows.measured[i]);
    within_10 += relative.back() <= 0.1 ? 1 : 0;
    within_20 += relative.back() <= 0.2 ? 1 : 0;
  }
  quality.error_median = median_of(std::move(relative));
  quality.error_median_s = median_of(std::move(absolute));
  quality.within_10 = static_cast<double>(within_10) / static_cast<double>(count);
  quality.within_20 = static_cast<double>(within_20) / static_cast<double>(count);
  quality.mean_ratio = std::accumulate(rows.measured.begin(), rows.measured.end(), 0.0) /
                       std::accumulate(fitted.begin(), fitted.end(), 0.0);
  quality.groups = grouped(rows, predicted);
  return quality;
}

std::string enough_loads(LoadWay way, std::uint64_t count) {
  return fmt::format(
      "{}: {}, {} are needed: give more of tier {} with --loads, or a --metrics page that counts "
      "more",
      name_of(way), counted(count, "load"), kTimedLoadsMin, name_of(way));
}

/// All latency: the typical time, whatever the size.
void take_as_latency(LoadFit& fit, Rows rows) {
  rows.columns = 1;
  rows.design.assign(rows.measured.size(), 1.0);
  const NonnegativeFit found = fit_nonnegative(rows.design, rows.measured);
  fit.channel.latency_s = found.value[0];
  fit.latency_error_s = found.error[0];
  fit.quality = quality_of(rows, found);
  fit.notes.push_back(fmt::format(
      "rate not told apart from latency: every load measured is of {}. Taken as latency, which is right for "
      "adapters of that size alone; measure a second size, four times as large",
      human_bytes(Bytes{static_cast<std::uint64_t>(fit.bytes_median)})));
}

void note_rate(LoadFit& fit, double s_per_byte) {
  if (!(s_per_byte > 0))
    fit.notes.emplace_back("no load takes longer for being larger: the rate is left out");
  else if (fit.s_per_byte_error > s_per_byte / 2)
    fit.notes.push_back(
        fmt::format("the rate is hardly known: its standard error is {:.0f} % of it; measure "
                    "sizes further apart",
                    fit.s_per_byte_error / s_per_byte * 100));
  constexpr double kMuch = 1.25;
  if (fit.quality.mean_ratio > kMuch)
    fit.notes.push_back(
        fmt::format("the mean load takes {:.2f} times as long as the typical one, which is what "
                    "is fitted: {} set aside",
                    fit.quality.mean_ratio, counted(fit.quality.set_aside, "outlier")));
}

constexpr std::array<std::string_view, 5> kStepTerms = {"base", "prefill token", "sequence", "adapter",
                                                        "adapter rank"};
constexpr std::array<double StepTimes::*, 5> kStepMembers = {&StepTimes::base_s, &StepTimes::prefill_token_s,
                                                             &StepTimes::sequence_s, &StepTimes::adapter_s,
                                                             &StepTimes::adapter_rank_s};

}  // namespace

Result<LoadFit> fit_loads(std::span<const TimedLoad> loads, LoadWay way) {
  LoadFit fit;
  Rows rows;
  rows.columns = 2;
  for (const TimedLoad& load : loads) {
    if (load.way != way) continue;
    if (!(load.bytes > 0 && load.seconds > 0 && std::isfinite(load.bytes) && std::isfinite(load.seconds)))
      return fail(Errc::kInvalid, fmt::format("{}: a load of {} bytes in {} s: both must be above 0",
                                              name_of(way), load.bytes, load.seconds));
    rows.design.insert(rows.design.end(), {1, load.bytes});
    rows.measured.push_back(load.seconds);
    rows.size.push_back(load.bytes);
  }
  if (rows.measured.size() < kTimedLoadsMin)
    return fail(Errc::kInvalid, enough_loads(way, rows.measured.size()));
  const auto [least, most] = std::minmax_element(rows.size.begin(), rows.size.end());
  fit.bytes_min = *least;
  fit.bytes_max = *most;
  fit.bytes_median = median_of(rows.size);
  if (*most - *least <= kOneSize * *most) {
    take_as_latency(fit, std::move(rows));
    return fit;
  }
  const NonnegativeFit found = fit_nonnegative(rows.design, rows.measured);
  fit.is_rate_known = found.value[1] > 0;
  fit.channel.latency_s = found.value[0];
  fit.channel.bytes_per_s = fit.is_rate_known ? 1 / found.value[1] : std::numeric_limits<double>::infinity();
  fit.latency_error_s = found.error[0];
  fit.s_per_byte_error = found.error[1];
  fit.quality = quality_of(rows, found);
  note_rate(fit, found.value[1]);
  return fit;
}

Result<LoadFit> fit_loads(const LoadSummary& summary) {
  if (summary.loads < kTimedLoadsMin) return fail(Errc::kInvalid, enough_loads(summary.way, summary.loads));
  const auto count = static_cast<double>(summary.loads);
  LoadFit fit;
  fit.channel.latency_s = summary.seconds / count;
  fit.bytes_min = fit.bytes_median = fit.bytes_max = summary.bytes / count;
  if (summary.spread_s >= 0) fit.latency_error_s = summary.spread_s / std::sqrt(count);
  fit.quality.count = summary.loads;
  fit.quality.groups.push_back(
      {summary.loads, fit.bytes_median, fit.channel.latency_s, fit.channel.latency_s});
  fit.notes.push_back(fmt::format(
      "rate not told apart from latency: counters know one mean, of {}{}. Taken as latency; give single "
      "loads of "
      "several sizes (--loads, --measure) for the rate",
      counted(summary.loads, "load"),
      summary.bytes > 0
          ? fmt::format(" of {} each", human_bytes(Bytes{static_cast<std::uint64_t>(fit.bytes_median)}))
          : " of unknown size"));
  fit.notes.emplace_back(
      "the mean is exact, outliers included; single loads are known to a factor of two, the histogram's "
      "buckets, "
      "so its standard error is a rough one");
  return fit;
}

Result<StepFit> fit_steps(std::span<const TimedStep> steps) {
  if (steps.size() < kTimedStepsMin)
    return fail(Errc::kInvalid, fmt::format("step: {}, {} are needed: give more with --steps or --vllm-log",
                                            counted(steps.size(), "step"), kTimedStepsMin));
  Rows rows;
  rows.columns = kStepTerms.size();
  for (const TimedStep& step : steps) {
    const std::array<double, 5> row = {1, step.prefill_tokens, step.sequences, step.adapters, step.rank_sum};
    const bool is_sane =
        std::all_of(row.begin(), row.end(), [](double value) { return value >= 0 && std::isfinite(value); });
    if (!is_sane || !(step.seconds > 0) || !std::isfinite(step.seconds))
      return fail(Errc::kInvalid, "step: counts must be 0 or more, and seconds above 0");
    rows.design.insert(rows.design.end(), row.begin(), row.end());
    rows.measured.push_back(step.seconds);
    rows.size.push_back(step.prefill_tokens + step.sequences);
  }
  const NonnegativeFit found = fit_nonnegative(rows.design, rows.measured);
  if (!(found.value[0] > 0))
    return fail(
        Errc::kInvalid,
        "step: no time is left for an empty step (base): measure small batches too, of few tokens and "
        "one or two requests");
  StepFit fit;
  for (std::size_t i = 0; i < kStepMembers.size(); ++i) {
    fit.times.*kStepMembers[i] = found.value[i];
    fit.errors.*kStepMembers[i] = found.error[i];
    if (!found.told_apart[i])
      fit.notes.push_back(
          fmt::format("time for each {} is not told apart from the terms above it, and counts "
                      "there: it does not vary on its own in these steps",
                      kStepTerms[i]));
    else if (i > 0 && found.value[i] > 0 && found.error[i] > found.value[i] / 2)
      fit.notes.push_back(
          fmt::format("time for each {} is hardly known: its standard error is {:.0f} % of it", kStepTerms[i],
                      found.error[i] / found.value[i] * 100));
  }
  fit.quality = quality_of(rows, found);
  return fit;
}

Result<Calibration> calibrate(const Measurements& measured, std::string date, std::string machine) {
  Calibration made;
  made.date = std::move(date);
  made.machine = std::move(machine);
  made.sources = measured.sources;
  for (const LoadWay way : {LoadWay::kSlot, LoadWay::kDisk}) {
    Result<LoadFit> fit = fit_loads(measured.loads, way);
    const auto sum = std::find_if(measured.sums.begin(), measured.sums.end(),
                                  [&](const LoadSummary& one) { return one.way == way; });
    if (!fit && sum != measured.sums.end()) {
      fit = fit_loads(*sum);
    } else if (fit && sum != measured.sums.end() && sum->bytes > 0) {
      // Counters that the fit has not seen: one more place to hold it against.
      const double bytes = sum->bytes / static_cast<double>(sum->loads);
      const double mean_s = sum->seconds / static_cast<double>(sum->loads);
      fit->notes.push_back(fmt::format(
          "the counters' mean load of {} took {}, predicted {}: {:+.1f} %",
          human_bytes(Bytes{static_cast<std::uint64_t>(bytes)}), detail::seconds_text(mean_s),
          detail::seconds_text(load_time_s(*fit, bytes)), (load_time_s(*fit, bytes) / mean_s - 1) * 100));
    }
    if (fit)
      (way == LoadWay::kSlot ? made.slot : made.disk) = std::move(*fit);
    else
      made.missing.push_back(fit.error().message);
  }
  if (Result<StepFit> fit = fit_steps(measured.steps); fit)
    made.step = std::move(*fit);
  else
    made.missing.push_back(fit.error().message);
  if (made.slot || made.disk || made.step) return made;
  return fail(Errc::kInvalid, fmt::format("not enough data: {}", fmt::join(made.missing, "; ")));
}

bool has_prediction(const FitQuality& quality) noexcept {
  return quality.groups.size() > 1 || quality.within_10 > 0;
}

double load_time_s(const LoadFit& fit, double bytes) noexcept {
  const double size = bytes > 0 ? bytes : fit.bytes_median;
  return fit.channel.latency_s + size / fit.channel.bytes_per_s;
}

ServiceModel service_model(const Calibration& calibration, const ServiceModel& otherwise) {
  ServiceModel model = otherwise;
  model.source = calibration_name(calibration);
  if (calibration.disk) model.disk = calibration.disk->channel;
  if (calibration.slot) model.slot = calibration.slot->channel;
  if (calibration.step) model.step = calibration.step->times;
  return model;
}

std::string calibration_name(const Calibration& calibration) {
  return fmt::format("calibrated {}{}{}", calibration.date, calibration.machine.empty() ? "" : " on ",
                     calibration.machine);
}

}  // namespace loracle
