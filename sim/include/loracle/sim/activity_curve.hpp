#pragma once
/// How many slots do requests need that hold them for a while? Misses and waits at every number of slots, in
/// one pass.
///
/// A curve in the order of requests ignores that a running request keeps its adapters in their slots. Here an
/// adapter is stamped when its last request ends: those in use lie on top of the stack, the idle ones below,
/// by their last end. An arriving request finds an adapter in a slot if it is in use, or if fewer adapters
/// than there are slots lie above it. It finds all slots busy, and would wait, if it needs one that is idle
/// and those in use and its own together are more than the slots.
/// Invariants: equals, at every number of slots, the simulation of an LRU cache whose entries in use are
/// never evicted, in which a request that should wait is served at once in a slot beyond the number ("no
/// wait"); where requests hold nothing, equals the plain LRU curve. Waiting makes requests hold their slots
/// later, and so others wait more: true waits are at least these, and close to them while they are rare.
/// A request whose duration is not known (0 or missing) counts as holding nothing.
/// Cost: O(uses x log32(rows)). Memory: 37 to 39 bytes a row and 8 more for the curve; 350 KB, or 180 bytes
/// an adapter in use where that is more. Threads: none.
/// Source: own; see Mattson et al., IBM Systems Journal 9(2), 1970, for the plain stack.

#include <cstdint>
#include <vector>

#include "loracle/core/result.hpp"
#include "loracle/sim/curves.hpp"
#include "loracle/sim/tier_replay.hpp"
#include "loracle/traces/trace.hpp"

namespace loracle {

/// How many adapters are in use, as arriving requests find it, their own included.
struct ActiveAtArrival {
  std::uint64_t requests = 0;              // that name an adapter
  std::uint64_t unknown_durations = 0;     // of those: 0 or missing
  std::vector<std::uint64_t> arrivals_at;  // [largest + 1] requests by adapters in use

  /// The number of adapters in use that this share of arriving requests do not exceed.
  [[nodiscard]] std::uint32_t active_quantile(double share) const noexcept;
  /// Adapters in use on average. With fewer slots than that, requests pile up (the characteristic time of the
  /// cache is below the mean holding time), however few of them seem to wait.
  [[nodiscard]] double active_mean() const noexcept;
};

struct ActivityCurve : ActiveAtArrival {
  std::uint64_t uses = 0;
  std::uint64_t compulsory_misses = 0;   // = distinct adapters used
  std::vector<std::uint64_t> misses_at;  // [distinct + 1] uses that miss, by slots
  std::vector<std::uint64_t> waits_at;   // [largest + 1] requests that find all slots busy, by slots

  /// Slots may exceed the ends of the columns.
  [[nodiscard]] std::uint64_t misses(std::uint64_t slots) const noexcept;
  [[nodiscard]] std::uint64_t waits(std::uint64_t slots) const noexcept;
};

/// True if the trace says when requests arrive and how long they hold their adapters.
[[nodiscard]] bool has_activity(const Trace& trace) noexcept;

/// At `traffic` times the rate of arrivals: the same requests in the same order, holding as long, sooner
/// after one another. An adapter that a request names twice is one use. Errors: kInvalid (no arrival times or
/// durations; no request names an adapter; traffic not above 0), those of make_batch_stream.
[[nodiscard]] Result<ActivityCurve> activity_curve(const Trace& trace, double traffic = 1);
/// The same for a stream prepared once. A `simd` the processor lacks counts as the best it has.
/// REQUIRES: the stream was made from this trace.
[[nodiscard]] Result<ActivityCurve> activity_curve(const Trace& trace, const BatchStream& stream,
                                                   double traffic = 1, Simd simd = best_simd());
/// Only the adapters in use: what asks for slots, without their misses, in a fraction of the time.
[[nodiscard]] Result<ActiveAtArrival> active_at_arrival(const Trace& trace, const BatchStream& stream,
                                                        double traffic = 1);

}  // namespace loracle
