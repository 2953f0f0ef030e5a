#pragma once
/// A serving engine in virtual time, step by step: batches that slow each other down, on one replica or many.
///
/// Each step of a replica runs one token of every request that decodes, and prefill tokens of others: of
/// those under way first, then of newcomers, while tokens of `max_num_batched_tokens` are left (long prompts
/// go on in the next step). It takes the time that StepTimes says for that batch. Who waits is admitted
/// between steps as vLLM's scheduler does: by priority, then in the order of arrival, at most `max_num_seqs`
/// requests of `max_loras` distinct adapters; one that cannot have its slots is passed by those that can. The
/// step that ends a request's prefill gives its first token. Requests that name no adapter take seats and
/// tokens, but no slots. A count of tokens that is 0 counts as 1.
/// What is loaded and who goes for it, is decided by the hierarchy of the engine; admitted requests hold
/// leases on their adapters. Loads stall (vLLM today): the step that admits somebody waits for them, with
/// everybody in it. Or they run beside the steps over two channels (event_sim.hpp), and a request joins the
/// first step that begins when its adapters are there. `prefetch`: what a request needs is brought into host
/// memory when it arrives, not when it is admitted.
/// Several replicas, each with caches of its own, stand behind a router that sees requests as they arrive.
/// Layout: a column a request (waits, times, replica), lists and heaps of requests a replica.
/// Invariants: 1. A replica's decisions are those of a hierarchy asked in the order of its starts (and of its
/// arrivals, with prefetch). 2. Equal inputs, equal outcome. 3. Who is not refused is served.
/// Cost: steps that are alike are taken at once: O(log running) a request, beside what waiting costs in
/// event_sim.hpp, and O(1) a step with prefill; routers other than kRoundRobin O(replicas) a request.
/// Memory: 60 bytes a request, 90 a row and replica. Threads: none. No clock.
/// Errors: those of simulate_events but for durations, which are not read; kInvalid (no token counts, step
/// times that are not positive, fewer tokens a step than seats, no replica, prefetch where loads stall or
/// tiers are exclusive).
/// Not modelled: memory of KV caches (so nobody is preempted), prefix caching, speculative decoding; adapters
/// of one replica are not fetched from another.

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "loracle/core/result.hpp"
#include "loracle/policy/decision_log.hpp"
#include "loracle/policy/hierarchy.hpp"
#include "loracle/sim/event_sim.hpp"
#include "loracle/sim/service_model.hpp"
#include "loracle/sim/tier_replay.hpp"
#include "loracle/traces/trace.hpp"

namespace loracle {

/// Which replica gets a request. Outstanding: arrived there, not refused, not ended. Of equals the first.
enum class Router : std::uint8_t {
  kRoundRobin,
  kLeastLoaded,     // the fewest outstanding
  kLoraAffinity,    // of those that have its adapters in slots or outstanding, and are not overloaded, the
                    // least loaded; of all if there is none
  kConsistentHash,  // a ring of the replicas by the first adapter; the overloaded are passed over (Mirrokni,
                    // Thorup and Zadimoghaddam, SODA 2018). Without an adapter: the least loaded
};
/// `round-robin`, `least-loaded`, `lora-affinity`, `consistent-hash`.
[[nodiscard]] std::string_view name_of(Router router) noexcept;
[[nodiscard]] std::span<const Router> all_routers() noexcept;

struct BatchOptions {
  TierOptions tiers;  // of each replica; stretches are not counted
  ServiceModel service;
  bool loads_stall = false;
  bool prefetch = false;
  std::uint32_t max_num_seqs = 256;
  std::uint32_t max_num_batched_tokens = 2048;
  std::uint32_t unknown_rank = 16;            // of adapters whose rank the trace does not say
  std::vector<std::int32_t> tenant_priority;  // [tenants, or fewer] the lower goes first; others have 0
  std::uint32_t replicas = 1;
  Router router = Router::kRoundRobin;
  double load_bound = 1.25;  // overloaded: with one more, outstanding beyond this times the mean, rounded up
};

/// Gaps between a request's tokens, in seconds.
struct TokenGaps {
  std::uint64_t count = 0;
  std::uint64_t stalled = 0;  // in which loads stood in the way of everybody
  double mean = 0;
  double p50 = 0;
  double p99 = 0;
  double max = 0;

  friend bool operator==(const TokenGaps&, const TokenGaps&) = default;
};

/// What was moved one way. Bytes of adapters of unknown size: 1 each, as everywhere.
struct Moved {
  std::uint64_t loads = 0;
  Bytes bytes{};

  friend bool operator==(const Moved&, const Moved&) = default;
};

/// Of one replica, or of all together.
struct ReplicaOutcome {
  std::uint64_t requests = 0;
  std::uint64_t refused = 0;          // as in EventOutcome
  std::uint64_t waited_for_slot = 0;  // not admitted when the scheduler first saw them, for want of slots
  std::uint64_t waited_for_seat = 0;  // or of seats, or of tokens in the step
  std::uint64_t waited_for_load = 0;
  std::uint64_t shared_loads = 0;
  std::uint64_t waiting_max = 0;  // of all together: the largest of any
  std::uint64_t steps = 0;
  std::uint64_t prefill_tokens = 0;
  std::uint64_t output_tokens = 0;
  WaitTimes slot_wait;    // from arrival until admitted: slots, seats, tokens, the end of the step under way
  WaitTimes load_wait;    // from then on, for loads
  WaitTimes first_token;  // from arrival to the end of the step that gives it
  WaitTimes latency;      // to the last token
  TokenGaps gaps;
  double busy_s = 0;         // in steps
  double stalled_s = 0;      // of these, in loads
  double running_mean = 0;   // requests in the batch, over all the time from first arrival to last token
  double adapters_mean = 0;  // distinct adapters in it, likewise
  Moved disk;                // into host memory, prefetched or not
  Moved slot;                // into slots
  Moved prefetched;          // the part of `disk` that prefetch asked for
  HierarchyCounts counts;
  std::uint64_t decision_log_hash = 0;  // of all together: of the replicas' hashes, if they are several

  friend bool operator==(const ReplicaOutcome&, const ReplicaOutcome&) = default;
};

/// Of the requests of one tenant, or that name one adapter.
struct GroupOutcome {
  std::uint64_t requests = 0;
  std::uint64_t refused = 0;
  std::uint64_t output_tokens = 0;
  Moved disk;  // for a tenant's requests; of an adapter
  Moved slot;
  WaitTimes first_token;

  friend bool operator==(const GroupOutcome&, const GroupOutcome&) = default;
};

struct BatchOutcome {
  ReplicaOutcome total;
  double span_s = 0;                     // from the first arrival to the last token
  std::vector<ReplicaOutcome> replicas;  // [options.replicas]
  std::vector<GroupOutcome> tenants;     // [tenants of the trace]
  std::vector<GroupOutcome> adapters;    // [rows]

  friend bool operator==(const BatchOutcome&, const BatchOutcome&) = default;
};

/// `sinks`: [options.replicas], or none; each gets the decisions of its replica.
[[nodiscard]] Result<BatchOutcome> simulate_batches(const Trace& trace, const BatchOptions& options,
                                                    std::span<DecisionSink* const> sinks = {});

}  // namespace loracle
