#pragma once
/// How long an engine takes for a step, and adapters for their way into it: what a simulation with batches
/// needs, and what a calibration measures.
///
/// A step of vLLM's scheduler runs every request of the batch once: a prefill of some tokens, or one token of
/// decoding. Its time is modelled as
///   base + prefill_token x prefill tokens + sequence x requests + adapter x distinct adapters
///        + adapter_rank x sum of the ranks of the distinct adapters.
/// Plain data. Threads: any.

#include <limits>
#include <string>

namespace loracle {

/// Time to move one adapter: latency, then its bytes at this rate. Adapters of unknown size are all latency.
struct LoadChannel {
  double latency_s = 0;
  double bytes_per_s = std::numeric_limits<double>::infinity();

  friend bool operator==(const LoadChannel&, const LoadChannel&) = default;
};

/// Seconds; none negative, `base_s` above 0.
struct StepTimes {
  double base_s = 0;
  double prefill_token_s = 0;
  double sequence_s = 0;
  double adapter_s = 0;
  double adapter_rank_s = 0;

  friend bool operator==(const StepTimes&, const StepTimes&) = default;
};

struct ServiceModel {
  std::string source;  // "built-in: not measured", or the calibration file and its date
  StepTimes step;
  LoadChannel disk;  // into host memory
  LoadChannel slot;  // host memory into a slot

  friend bool operator==(const ServiceModel&, const ServiceModel&) = default;
};

}  // namespace loracle
