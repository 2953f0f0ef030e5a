#pragma once
/// Replays a trace, request by request, through a stack of tiers: the decision core of the engine, or vLLM's.
///
/// Unlike replay.hpp a request is a batch: its adapters are needed together and never evict one another. A
/// batch with more adapters than max_loras is refused, logged and counted. Deterministic; one thread; no
/// clock.

#include <cstdint>
#include <string>
#include <vector>

#include "loracle/core/result.hpp"
#include "loracle/policy/capacity.hpp"
#include "loracle/policy/decision_log.hpp"
#include "loracle/policy/hierarchy.hpp"
#include "loracle/sim/replay.hpp"
#include "loracle/sim/stretches.hpp"
#include "loracle/traces/trace.hpp"

namespace loracle {

struct TierOptions {
  std::string tiers = "vllm";  // `vllm`, a policy for both tiers, or device/host
  std::uint32_t max_loras = 1;
  std::uint32_t max_cpu_loras = 1;
  Bytes gpu_memory{kUnlimited};  // byte limits beside the counts; not for `vllm`, which knows none
  Bytes cpu_memory{kUnlimited};
  Boundary boundary = Boundary::kInclusive;
  std::vector<Row> pins;        // pinned before the first request, in this order
  std::uint32_t stretches = 0;  // of the requests, to be counted each by itself too
};

struct TierReplay {
  HierarchyCounts counts;  // of the requests; what pinning took to set up is in the log alone
  std::uint64_t decisions = 0;
  std::uint64_t decision_log_hash = 0;
  std::vector<StretchCounts> stretches;  // [options.stretches]
};

/// A trace's requests with duplicates inside a request dropped: what tiers are replayed with. Prepared once.
struct BatchStream {
  UseStream uses;                     // flattened, in order
  std::vector<std::uint64_t> begin;   // [requests + 1] into uses; requests without an adapter are left out
  std::vector<std::uint64_t> origin;  // [requests] which request of the trace it is
  std::uint32_t batch_max = 0;        // adapters in the largest request

  [[nodiscard]] std::uint64_t requests() const noexcept { return begin.empty() ? 0 : begin.size() - 1; }
  [[nodiscard]] std::span<const Row> batch(std::uint64_t i) const noexcept {
    return uses.uses.view().subspan(begin[i], begin[i + 1] - begin[i]);
  }
};

/// Whether uses.next_use is filled: a pass over the uses that clairvoyant policies alone need.
enum class NextUses : std::uint8_t { kKnown, kUnknown };

[[nodiscard]] Result<BatchStream> make_batch_stream(const Trace& trace,
                                                    NextUses next_uses = NextUses::kKnown);

/// Checks what can be checked without a trace; `replay_tiers` does it too.
[[nodiscard]] Result<Unit> check_tier_options(const TierOptions& options);

/// Errors: kNotFound (unknown policy), kInvalid (a size of 0; max_cpu_loras < max_loras unless
/// exclusive; byte limits with vllm), kAllPinned or kTooLarge (the pins do not fit).
/// REQUIRES: next uses are known if a policy is clairvoyant.
[[nodiscard]] Result<TierReplay> replay_tiers(const BatchStream& stream, const TierOptions& options,
                                              DecisionSink* sink = nullptr);

}  // namespace loracle
