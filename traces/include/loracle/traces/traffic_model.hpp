#pragma once
/// What a trace's traffic is like, in windows of time: enough to draw other traces like it (synthesize.hpp).
///
/// Adapters that requests name together are a *set* (one adapter mostly; the empty set is the base model). In
/// each window of `window_s` seconds each set has so many requests, its cell; where in the window they arrive
/// is a renewal process with Gamma gaps of the set's own shape, stretched to fill the window: below 1 they
/// come in bursts, at 1 they are independent, above 1 regular. So popularity and what changes it is in the
/// cells, and locality shorter than a window in the shapes. Holding times are lognormal or
/// Gamma, tokens lognormal.
/// Where a trace has no arrival times, its clock is the request's number: `window_s` then counts requests.
///
///   adapters   name, bytes, rank, lasting                                        [adapters]
///   sets       set_begin [sets + 1] into set_adapters; shape, durations          [sets]
///   cells      window_begin [windows + 1] into cell_set, cell_count              [cells]
///
/// Invariants (`check_traffic_model`): offsets begin at 0, do not fall and end at the column's length;
/// indices are in range; no set and no window has one twice; counts are 1 or more; shapes within 1e-3 .. 1e3;
/// window_s above 0; numbers are finite. Threads: plain data.
/// Errors of the reader: kCorrupt (not JSON; a field missing, of the wrong type or out of range),
/// kUnsupported (another schema). Messages name the file and the field. It never throws.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "loracle/core/result.hpp"

namespace loracle {

/// ln(x) is normal with this mean and standard deviation.
struct LogNormalLaw {
  double mu = 0;
  double sigma = 0;  // 0 .. 20

  friend bool operator==(const LogNormalLaw&, const LogNormalLaw&) noexcept = default;
};

/// How long requests hold their adapters: not known of some; of the others lognormal, or Gamma where
/// `gamma_shape` is above 0 (the exponential law is Gamma of shape 1).
struct HoldingLaw {
  double known_share = 1;  // of the requests, 0 .. 1
  LogNormalLaw law;        // seconds
  double gamma_shape = 0;  // 0, or 1e-3 .. 1e6
  double gamma_scale_s = 0;

  friend bool operator==(const HoldingLaw&, const HoldingLaw&) noexcept = default;
};

struct TrafficModel {
  std::string source;  // of the trace it was fitted to, as Trace has it
  std::string format;
  std::string mapping;
  std::uint64_t requests = 0;

  bool timed = true;
  double window_s = 0;

  std::vector<std::string> name;      // [adapters] in the order of their first use; unique
  std::vector<std::uint64_t> bytes;   // [adapters] or empty; 0 = unknown
  std::vector<std::uint16_t> rank;    // [adapters] or empty; 0 = unknown
  std::vector<std::uint8_t> lasting;  // [adapters] 1: used over half the span or more; 0: comes and goes

  std::vector<std::uint32_t> set_begin;     // [sets + 1]
  std::vector<std::uint32_t> set_adapters;  // into name
  std::vector<double> shape;                // [sets]
  std::vector<HoldingLaw> holding;          // [sets] or empty: no durations

  std::vector<std::uint32_t> window_begin;  // [windows + 1]
  std::vector<std::uint32_t> cell_set;      // [cells] ascending within a window
  std::vector<std::uint32_t> cell_count;    // [cells]

  std::optional<LogNormalLaw> input_tokens;
  std::optional<LogNormalLaw> output_tokens;

  [[nodiscard]] std::uint32_t adapters() const noexcept { return static_cast<std::uint32_t>(name.size()); }
  [[nodiscard]] std::uint32_t sets() const noexcept { return static_cast<std::uint32_t>(shape.size()); }
  [[nodiscard]] std::uint32_t windows() const noexcept {
    return window_begin.empty() ? 0 : static_cast<std::uint32_t>(window_begin.size() - 1);
  }
  [[nodiscard]] double span_s() const noexcept { return window_s * windows(); }

  friend bool operator==(const TrafficModel&, const TrafficModel&) = default;
};

inline constexpr double kGapShapeMin = 1e-3;
inline constexpr double kGapShapeMax = 1e3;
inline constexpr std::uint32_t kTrafficWindowsMax = 10'000'000;

/// Errors: kInvalid; the message names the field.
[[nodiscard]] Result<Unit> check_traffic_model(const TrafficModel& model);

/// The member `model` of a document of schema `loracle.traffic/1`, without the document around it.
/// REQUIRES: names are UTF-8. Reads back equal.
[[nodiscard]] std::string to_json(const TrafficModel& model);

inline constexpr const char* kTrafficSchema = "loracle.traffic/1";

/// Reads a whole document: `schema` and `model`; other members are passed over. `file` begins each message.
[[nodiscard]] Result<TrafficModel> parse_traffic_model(std::string_view text, const std::string& file);

}  // namespace loracle
