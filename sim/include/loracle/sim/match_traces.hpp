#pragma once
/// Is a synthetic trace enough like its source to size a cache with?
///
/// Two figures decide. Of the LRU miss ratio by number of entries: the largest difference at any size. Of the
/// adapters in use at once, as arriving requests find it: the difference of the 99th percentiles, where both
/// traces have arrival times. Requests whose durations no trace knows are taken to hold their adapters for
/// `held_s`, in both. Traces accepted so still differ in what neither figure sees: the order of loads by a
/// policy that counts frequencies, say. Threads: none. Cost: that of lru_curve and active_at_arrival.

#include <cstdint>
#include <optional>
#include <string>

#include "loracle/core/result.hpp"
#include "loracle/sim/curves.hpp"
#include "loracle/traces/trace.hpp"

namespace loracle {

inline constexpr double kMissDifferenceMax = 0.02;
inline constexpr std::uint32_t kActiveDifferenceMax = 1;

/// What of a trace is compared.
struct TrafficMarks {
  LruCurve curve;
  std::optional<std::uint32_t> active_p99;  // absent without arrival times
};

/// `held_s`: how long every request holds its adapters, instead of the trace's durations; absent: the trace's
/// own. Errors: kInvalid (no request names an adapter), those of make_batch_stream.
[[nodiscard]] Result<TrafficMarks> measure_traffic(const Trace& trace, std::optional<double> held_s);

struct TraceMatch {
  double miss_difference = 0;  // synthetic less source, where it is largest; a share of uses
  std::uint64_t at_entries = 0;
  double source_misses = 0;  // there, shares of uses
  double synthetic_misses = 0;
  std::optional<std::uint32_t> source_active_p99;
  std::optional<std::uint32_t> synthetic_active_p99;
  std::optional<double> held_s;  // that was taken for unknown durations
  bool accepted = false;
};

[[nodiscard]] TraceMatch match_marks(const TrafficMarks& source, const TrafficMarks& synthetic);

/// `held_s` counts only where a trace has no durations. Errors: kInvalid (held_s not above 0; a trace that
/// names no adapter).
[[nodiscard]] Result<TraceMatch> match_traces(const Trace& source, const Trace& synthetic, double held_s);

/// A few lines for a person, the verdict first.
[[nodiscard]] std::string match_text(const TraceMatch& match);

}  // namespace loracle
