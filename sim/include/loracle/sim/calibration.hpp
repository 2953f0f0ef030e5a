#pragma once
/// A ServiceModel from measurements, with what is known of its errors, and the file it is kept in.
///
/// Loads: latency + bytes / rate, for each way alone. Steps: the five terms of StepTimes. Both by a robust
/// fit of relative errors without negative terms (sim/src/nonnegative_fit.hpp): outliers are set aside and
/// counted, so the fit is the typical load; `mean_ratio` says how far the mean lies from it.
/// Terms that the measurements cannot tell apart are 0, and a note says so: of adapters that are all of one
/// size, latency and rate are not told apart, and the load is all latency.
/// How well it predicts is counted on measurements that were left out of the fit (each fifth in turn), where
/// there are twenty or more; else on those it was fitted to.
/// Deterministic; no clock: the date is handed in. Threads: any.
/// Errors: kInvalid (not enough data, and what is missing), of reading a file kCorrupt and kUnsupported (a
/// schema of another version).

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "loracle/core/result.hpp"
#include "loracle/sim/measurements.hpp"
#include "loracle/sim/service_model.hpp"

namespace loracle {

inline constexpr std::uint64_t kTimedLoadsMin = 5;  // of one way
inline constexpr std::uint64_t kTimedStepsMin = 20;

/// Measurements of about one size, and what was predicted for them. Medians.
struct CheckedGroup {
  std::uint64_t count = 0;
  double size = 0;  // bytes of a load, tokens and sequences of a step
  double measured_s = 0;
  double predicted_s = 0;

  friend bool operator==(const CheckedGroup&, const CheckedGroup&) = default;
};

struct FitQuality {
  std::uint64_t count = 0;      // of measurements
  std::uint64_t set_aside = 0;  // outliers, which have no weight in the fit
  bool is_held_out = false;     // errors are of measurements that the prediction had not seen
  double r2 = 0;                // of those that were not set aside
  double error_median = 0;      // of |predicted - measured| / measured, all of them
  double error_median_s = 0;    // of |predicted - measured|
  double within_10 = 0;         // share predicted within 10 %
  double within_20 = 0;
  double mean_ratio = 1;  // measured over predicted, of the sums: outliers count
  std::vector<CheckedGroup> groups;

  friend bool operator==(const FitQuality&, const FitQuality&) = default;
};

/// Whether there was more than one size to hold predictions against; else what it says of them is nothing.
[[nodiscard]] bool has_prediction(const FitQuality& quality) noexcept;

struct LoadFit {
  LoadChannel channel;
  bool is_rate_known = false;    // else all latency: right for adapters of bytes_median
  double latency_error_s = -1;   // standard error; < 0: none
  double s_per_byte_error = -1;  // likewise, of 1 / bytes_per_s
  double bytes_min = 0;          // of what was measured; 0: not known
  double bytes_median = 0;       // of sums: the mean
  double bytes_max = 0;
  FitQuality quality;
  std::vector<std::string> notes;

  friend bool operator==(const LoadFit&, const LoadFit&) = default;
};

struct StepFit {
  StepTimes times;
  StepTimes errors{-1, -1, -1, -1, -1};  // standard errors; < 0: none
  FitQuality quality;
  std::vector<std::string> notes;

  friend bool operator==(const StepFit&, const StepFit&) = default;
};

struct Calibration {
  std::string date;     // "2026-11-22", UTC
  std::string machine;  // what it was measured on; empty: nobody said
  std::vector<std::string> sources;
  std::optional<LoadFit> disk;
  std::optional<LoadFit> slot;
  std::optional<StepFit> step;
  std::vector<std::string> missing;  // why a part is not there, and what to give for it

  friend bool operator==(const Calibration&, const Calibration&) = default;
};

[[nodiscard]] Result<LoadFit> fit_loads(std::span<const TimedLoad> loads, LoadWay way);
/// All latency, if it must be: sums know one mean size and one mean time.
[[nodiscard]] Result<LoadFit> fit_loads(const LoadSummary& summary);
[[nodiscard]] Result<StepFit> fit_steps(std::span<const TimedStep> steps);

/// Everything that was measured, of any source. Single loads are preferred to sums.
struct Measurements {
  std::vector<TimedLoad> loads;
  std::vector<LoadSummary> sums;
  std::vector<TimedStep> steps;
  std::vector<std::string> sources;
};
/// What can be fitted is; of the rest `missing` says why not. Nothing at all: kInvalid.
[[nodiscard]] Result<Calibration> calibrate(const Measurements& measured, std::string date,
                                            std::string machine);

/// Of an adapter of so many bytes; of 0 (unknown), one as large as those measured.
[[nodiscard]] double load_time_s(const LoadFit& fit, double bytes) noexcept;
/// What was measured in place of what stands in `otherwise`.
[[nodiscard]] ServiceModel service_model(const Calibration& calibration, const ServiceModel& otherwise);
/// "calibrated 2026-11-22 on NVIDIA H200".
[[nodiscard]] std::string calibration_name(const Calibration& calibration);

/// Schema "loracle.calibration/1": see sim/README.md. Reading gives back the very same numbers.
[[nodiscard]] std::string calibration_json(const Calibration& calibration);
[[nodiscard]] Result<Calibration> read_calibration(std::string_view text, const std::string& name);
/// Predicted against measured, with bands of 10 and 20 %; for a terminal, at most 100 columns.
[[nodiscard]] std::string calibration_text(const Calibration& calibration);

}  // namespace loracle
