#pragma once
/// Draws a trace from a traffic model: the popularity, the changes and the bursts of the trace that the model
/// was fitted to, with fresh arrivals, and as long, fast and large as asked.
///
/// A longer trace goes through the model's windows again, pass after pass. Adapters that came and went in the
/// source come as new ones in each pass ("NAME~1"): the catalog goes on growing as it did. Lasting ones stay.
/// `rate_times`: every cell has so many times its requests, in the same windows, from the same adapters.
/// `adapters_times`: so many times the adapters, each bringing the traffic of the one whose double it is
/// ("NAME#1"), from another part of the span; base-model requests stay as they are. For the same traffic over
/// twice the adapters, halve the rate. Below 1, adapters are left out by chance, with their requests.
/// Arrivals are whole microseconds from 0. There are no tenants. Adapters that no request names are left out.
/// Equal models and options give equal traces, bit for bit, on every platform, and a shorter one is the
/// beginning of a longer one: each cell of each pass draws from its own stream.
/// Cost: O(requests log(requests of a window)), some 300 ns a request. Threads: any.
/// Errors: kInvalid: an option out of range; a rate or a duration of a model without times; no request comes
/// of it.

#include <cstdint>

#include "loracle/core/result.hpp"
#include "loracle/traces/trace.hpp"
#include "loracle/traces/traffic_model.hpp"

namespace loracle {

struct SynthesizeOptions {
  std::uint64_t seed = 1;
  double duration_s = 0;      // 0: as long as the source; of models without times: requests
  double rate_times = 1;      // 0.001 .. 1000
  double adapters_times = 1;  // 0.01 .. 1000
};

/// `source` names model, seed and options; `format` is "synthetic"; `mapping` the model's. REQUIRES: the
/// model passes check_traffic_model.
[[nodiscard]] Result<Trace> synthesize(const TrafficModel& model, const SynthesizeOptions& options);

}  // namespace loracle
