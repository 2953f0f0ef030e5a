#pragma once
/// What requests wait for, in virtual time: slots that running requests hold, and loads that take time.
///
/// A request arrives, waits until its adapters can all have slots (and the server has a seat for it), waits
/// until those that were not there are loaded, and then holds its slots for its duration. Who waits is tried
/// in the order of arrival; one that cannot start is passed by those that can, as vLLM's scheduler does
/// (max_loras distinct adapters among the running, max_num_seqs requests). What is loaded and who goes for
/// it, is decided by the hierarchy of the engine; running requests hold leases on their adapters.
/// Loads: from disk into host memory, from there into a slot; each way is one channel, first come, first
/// served, so that loads under way share its bandwidth. A request for an adapter that is on its way waits for
/// what is left of it. What is moved out of a slot into host memory takes no time. Or loads stall: everything
/// stands still while one runs, as in vLLM today.
/// Invariants: 1. Decisions are those of a hierarchy asked in the order in which requests start. 2. Equal
/// inputs, equal outcome. 3. Without contention and with loads that take no time, nobody waits. 4. Who is not
/// refused is served: a request that fits no tier beside the pins is refused when it arrives.
/// Cost: O(uses log(running + sets of adapters waited for)), where requests need one adapter each; an adapter
/// that is taken or comes free costs one step more a set of several that waits for it. With byte limits an
/// end may look at every set. Memory: 12 bytes a request, 30 a row, about 60 a set that was ever waited for.
/// Threads: none. No clock.
/// Errors: those of check_tier_options and of pins; kInvalid (no arrival times or durations, tiers `vllm`, a
/// rate or time that is not positive).
/// A request holds its adapters for as long as the trace says. Where batches slow each other down, and for
/// several replicas, priorities and prefetch: batch_sim.hpp.

#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "loracle/core/result.hpp"
#include "loracle/policy/decision_log.hpp"
#include "loracle/policy/hierarchy.hpp"
#include "loracle/sim/service_model.hpp"
#include "loracle/sim/tier_replay.hpp"
#include "loracle/traces/trace.hpp"

namespace loracle {

/// One adapter of a request that has got its slots.
struct StartedUse {
  Row row = kNoRow;
  Place found = Place::kDevice;  // kDevice: it had a slot, be it one that is still filled; kHost; kDisk
  double load_s = 0;             // until it is in its slot; all the same for a batch where loads stall
};
struct StartedRequest {
  std::uint64_t batch = 0;  // of the stream
  double slot_wait_s = 0;   // for slots and seats
  double load_wait_s = 0;
  std::span<const StartedUse> uses;  // in the order of the batch; gone after the call
};
/// Told of every request that is served, when it starts.
class StartWatch {
 public:
  virtual ~StartWatch() = default;
  virtual void on_start(const StartedRequest& request) noexcept = 0;
};

struct EventOptions {
  TierOptions tiers;
  LoadChannel disk;  // into host memory
  LoadChannel slot;  // host memory into a slot
  bool loads_stall = false;
  std::uint32_t max_num_seqs = 256;                         // requests that run at once
  double late_s = std::numeric_limits<double>::infinity();  // requests delayed for longer are counted
  StartWatch* starts = nullptr;                             // nobody is told
};

/// Of all requests that were served, in seconds.
struct WaitTimes {
  double mean = 0;
  double p50 = 0;
  double p99 = 0;
  double max = 0;

  friend bool operator==(const WaitTimes&, const WaitTimes&) = default;
};

struct EventOutcome {
  std::uint64_t requests = 0;         // that name an adapter
  std::uint64_t refused = 0;          // larger than the tiers, or than what the pins leave of them
  std::uint64_t waited_for_slot = 0;  // their adapters could not all have slots when they arrived
  std::uint64_t waited_for_seat = 0;  // they could, but too many requests ran
  std::uint64_t waited_for_load = 0;
  std::uint64_t late = 0;          // their delay is longer than options.late_s
  std::uint64_t shared_loads = 0;  // uses that joined a load which was under way
  WaitTimes slot_wait;             // for slots and seats
  WaitTimes load_wait;             // for loads, those too that the server stands still for
  WaitTimes delay;                 // both: what is added to the time to first token
  double stalled_s = 0;            // with loads_stall: that nothing ran
  std::uint64_t waiting_max = 0;
  HierarchyCounts counts;
  std::uint64_t decision_log_hash = 0;
  std::vector<StretchCounts> stretches;  // [options.tiers.stretches] by arrival

  friend bool operator==(const EventOutcome&, const EventOutcome&) = default;
};

[[nodiscard]] Result<EventOutcome> simulate_events(const Trace& trace, const EventOptions& options,
                                                   DecisionSink* sink = nullptr);
/// The same for a stream prepared once. REQUIRES: it was made from this trace.
[[nodiscard]] Result<EventOutcome> simulate_events(const Trace& trace, const BatchStream& stream,
                                                   const EventOptions& options, DecisionSink* sink = nullptr);

}  // namespace loracle
