#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "loracle/core/parse_bytes.hpp"
#include "loracle/sim/calibration.hpp"
#include "plan_format.hpp"

namespace loracle {
namespace {

using detail::count_text;
using detail::counted;
using detail::seconds_text;
using detail::share_text;

constexpr std::size_t kColumns = 100;
constexpr std::size_t kIndent = 10;

/// `label`, then words in lines of at most kColumns, indented below the first.
void paragraph(std::string& out, std::string_view label, std::string_view text) {
  std::string line = fmt::format("{:<{}}", label, kIndent);
  bool is_first = true;
  while (!text.empty()) {
    const std::size_t end = text.find(' ');
    const std::string_view word = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    if (!is_first && line.size() + 1 + word.size() > kColumns) {
      out += line + '\n';
      line.assign(kIndent, ' ');
      is_first = true;
    }
    if (!is_first) line += ' ';
    line += word;
    is_first = false;
  }
  out += line + '\n';
}

/// Times of a step's terms are often below a millisecond.
std::string short_time(double seconds) {
  if (seconds > 0 && seconds < 1e-6) return fmt::format("{:.3g} ns", seconds * 1e9);
  if (seconds > 0 && seconds < 1e-3) return fmt::format("{:.3g} us", seconds * 1e6);
  return seconds_text(seconds);
}

std::string size_text(double bytes) {
  return bytes > 0 ? human_bytes(Bytes{static_cast<std::uint64_t>(bytes)}) : "?";
}

std::string with_error(const std::string& value, double error, const std::string& error_shown) {
  return error < 0 ? value : fmt::format("{} +- {}", value, error_shown);
}

void prediction(std::string& out, const FitQuality& quality, std::string_view what) {
  if (!has_prediction(quality)) {
    paragraph(out, "", counted(quality.count, what) + ": nothing to hold a prediction against");
    return;
  }
  paragraph(out, "",
            fmt::format("{}, {} set aside; R2 {:.4f}{}", counted(quality.count, what),
                        count_text(quality.set_aside), quality.r2,
                        quality.is_held_out ? "" : "; too few to hold any out of the fit"));
  paragraph(out, "",
            fmt::format("{}: median error {} ({}), {} within 10 %, {} within 20 %",
                        quality.is_held_out ? "Held out" : "In the fit", share_text(quality.error_median),
                        short_time(quality.error_median_s), share_text(quality.within_10),
                        share_text(quality.within_20)));
}

/// In which band the prediction is.
std::string_view band_of(double error) {
  return std::abs(error) <= 0.1 ? "" : std::abs(error) <= 0.2 ? "beyond 10 %" : "BEYOND 20 %";
}

void groups(std::string& out, const FitQuality& quality, bool of_loads) {
  if (quality.groups.empty()) return;
  out += fmt::format("{:>20} {:>10} {:>12} {:>12} {:>9}\n", of_loads ? "size" : "tokens+requests", "n",
                     "measured", "predicted", "error");
  for (const CheckedGroup& group : quality.groups) {
    const double error = group.predicted_s / group.measured_s - 1;
    std::string line =
        fmt::format("{:>20} {:>10} {:>12} {:>12} {:>+7.1f} %  {}",
                    of_loads ? size_text(group.size) : count_text(static_cast<std::uint64_t>(group.size)),
                    count_text(group.count), short_time(group.measured_s), short_time(group.predicted_s),
                    error * 100, band_of(error));
    while (line.back() == ' ') line.pop_back();
    out += line + '\n';
  }
}

void loads(std::string& out, std::string_view label, const std::optional<LoadFit>& fit) {
  if (!fit) return;
  const LoadChannel& channel = fit->channel;
  std::string model =
      with_error(short_time(channel.latency_s), fit->latency_error_s, short_time(fit->latency_error_s));
  if (fit->is_rate_known) {
    const double rate_error = fit->s_per_byte_error * channel.bytes_per_s * channel.bytes_per_s;
    model += fmt::format(" + bytes at {} GB/s",
                         with_error(fmt::format("{:.4g}", channel.bytes_per_s * 1e-9), fit->s_per_byte_error,
                                    fmt::format("{:.2g}", rate_error * 1e-9)));
  }
  paragraph(out, label,
            fmt::format("{}; an adapter of {} takes {}", model, size_text(fit->bytes_median),
                        short_time(load_time_s(*fit, 0))));
  prediction(out, fit->quality, "load");
  for (const std::string& note : fit->notes) paragraph(out, "", "Note: " + note + ".");
  groups(out, fit->quality, true);
}

void steps(std::string& out, const std::optional<StepFit>& fit) {
  if (!fit) return;
  constexpr std::pair<const char*, double StepTimes::*> kTerms[] = {
      {"base", &StepTimes::base_s},
      {"a prefill token", &StepTimes::prefill_token_s},
      {"a request", &StepTimes::sequence_s},
      {"an adapter", &StepTimes::adapter_s},
      {"a rank of one", &StepTimes::adapter_rank_s}};
  std::string model;
  for (const auto& [name, member] : kTerms)
    model += fmt::format(
        "{}{} {}", model.empty() ? "" : ", ", name,
        with_error(short_time(fit->times.*member), fit->errors.*member, short_time(fit->errors.*member)));
  paragraph(out, "step", model);
  prediction(out, fit->quality, "step");
  for (const std::string& note : fit->notes) paragraph(out, "", "Note: " + note + ".");
  groups(out, fit->quality, false);
}

}  // namespace

std::string calibration_text(const Calibration& calibration) {
  std::string out;
  paragraph(out, "MEASURED",
            fmt::format(
                "{}, on {}; from {}", calibration.date,
                calibration.machine.empty() ? "a machine that nobody named (--machine)" : calibration.machine,
                fmt::join(calibration.sources, ", ")));
  loads(out, "slot", calibration.slot);
  loads(out, "disk", calibration.disk);
  steps(out, calibration.step);
  for (std::size_t i = 0; i < calibration.missing.size(); ++i)
    paragraph(out, i == 0 ? "MISSING" : "", calibration.missing[i]);
  return out;
}

}  // namespace loracle
