#pragma once
/// What a trace is like, in laws with standard errors, and a model that draws traces like it.
///
/// The laws describe: popularity (Zipf), gaps between arrivals of all requests and of each adapter
/// (exponential, Gamma, Weibull), holding times and tokens (lognormal), how popularity changes (churn), and
/// how much adapters are used again soon (locality). The model (traces/traffic_model.hpp) does not draw from
/// the popularity law: independent draws have none of the locality. It keeps the requests of each window of
/// time, as long a window as still gives accepted traces (match_traces.hpp): windows are tried from long to
/// short, each with eight seeds, all of which must be accepted.
/// Deterministic. Cost: some seconds for a million requests and ten lengths of windows. Threads: none.
/// Errors: kInvalid: fewer than two requests; none names an adapter; all arrive at once; a window that is not
/// above 0, or more than kTrafficWindowsMax of them. A law that the trace cannot settle is left out, and
/// `Fitted::why` says why.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "loracle/core/result.hpp"
#include "loracle/sim/fit_laws.hpp"
#include "loracle/sim/match_traces.hpp"
#include "loracle/traces/trace.hpp"
#include "loracle/traces/traffic_model.hpp"

namespace loracle {

/// A law, or why there is none.
template <class Fit>
struct Fitted {
  std::optional<Fit> fit;
  std::string why;
};

/// Gaps between the requests of one adapter.
struct AdapterGaps {
  std::string name;
  std::uint64_t uses = 0;
  GapFit fit;
};

/// How the ranking changes from one regime (regimes.hpp) to the next; means over neighbouring regimes.
struct Churn {
  std::uint32_t regimes = 0;   // 1: no change was found, and what follows is 0; 0: too few requests to look
  double regime_requests = 0;  // length of the one that a request falls in, on average
  double distance = 0;         // half the sum of |share before - share after|: 0 alike, 1 all others
  double top10_kept = 0;       // share of the ten most used that are among the ten afterwards
  double late_use_share = 0;   // uses of the second half, of adapters the first half never used
};

/// Misses of an LRU of `entries`, in the trace's order and after shuffling: the difference is locality.
struct LocalityPoint {
  std::uint64_t entries = 0;
  double misses = 0;  // shares of uses
  double shuffled_misses = 0;
};

/// One length of windows that was tried.
struct FitAttempt {
  double window_s = 0;
  std::uint64_t cells = 0;
  TraceMatch worst;  // of the seeds that were tried: the first that was not accepted, else the last
};

struct FitOptions {
  double window_s = 0;  // 0: found by trying
  double held_s = 10;   // for traces without durations
};

struct TraceFit {
  std::uint64_t requests = 0;
  std::uint64_t uses = 0;
  std::uint32_t adapters = 0;             // that are used
  Fitted<ZipfFit> popularity;             // ranks by uses, most used first
  Fitted<GapFit> gaps;                    // of all requests
  std::vector<AdapterGaps> adapter_gaps;  // of the most used (at most 1000) with 20 gaps or more
  Fitted<LogNormalFit> durations;         // seconds; of requests that say them
  Fitted<LogNormalFit> input_tokens;
  Fitted<LogNormalFit> output_tokens;
  Churn churn;
  std::vector<LocalityPoint> locality;
  std::vector<FitAttempt> attempts;  // the last is the model's
  TrafficModel model;

  [[nodiscard]] bool accepted() const noexcept { return attempts.back().worst.accepted; }
};

[[nodiscard]] Result<TraceFit> fit_traffic(const Trace& trace, const FitOptions& options);

/// For a person.
[[nodiscard]] std::string fit_text(const TraceFit& fit);
/// Schema `loracle.traffic/1`: the laws as `fits`, and `model`, which parse_traffic_model reads.
[[nodiscard]] std::string fit_json(const TraceFit& fit);

}  // namespace loracle
