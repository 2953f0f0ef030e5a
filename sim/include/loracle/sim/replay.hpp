#pragma once
/// Replays the uses of a trace through one policy at one capacity, or through many (policy, capacity) pairs.
///
/// A request that needs several adapters is flattened: each is one use, in the request's order. An adapter
/// larger than the whole capacity bypasses the cache (a miss, nothing evicted), as does one the policy
/// refuses. Exact and deterministic; no clock, no thread of its own. Memory: what the policy keeps a row,
/// plus 8 bytes a row for sizes when bytes are counted, plus 4 bytes a use for clairvoyant policies.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "loracle/core/adapter_table.hpp"
#include "loracle/core/result.hpp"
#include "loracle/policy/capacity.hpp"
#include "loracle/sim/executor.hpp"
#include "loracle/traces/trace.hpp"

namespace loracle {

/// What a tier is measured in.
enum class SizeUnit : std::uint8_t { kObjects, kBytes };

/// The part of a trace that replays and curves need, prepared once and shared by all of them.
struct UseStream {
  Column<Row> uses;                // [uses]
  Column<std::uint32_t> next_use;  // [uses] of the same row, kNoNextUse at its last; empty until needed
  std::uint32_t rows = 0;
  std::uint32_t distinct = 0;  // rows that are used at least once: the compulsory misses
  std::vector<Bytes> size;     // [rows]; adapters of unknown size count 1

  static constexpr std::uint32_t kNoNextUse = 0xFFFF'FFFFU;
};

/// Builds the stream. Errors: kTooLarge above 2^32 - 2 uses, or 2^64 bytes asked for.
[[nodiscard]] Result<UseStream> make_use_stream(const Trace& trace);
/// Fills `next_use`, one backward pass. O(uses).
void compute_next_uses(UseStream& stream);

/// Misses told apart: compulsory = first use of an adapter; the rest would have hit in a larger cache.
struct ReplayCounts {
  std::uint64_t requests = 0;  // uses replayed
  std::uint64_t misses = 0;
  std::uint64_t compulsory_misses = 0;
  std::uint64_t evictions = 0;
  std::uint64_t bypasses = 0;  // misses that were not kept: too large, refused, or all else held
  Bytes bytes_requested{};     // in the unit's measure: equals `requests` when objects are counted
  Bytes bytes_missed{};
  std::uint64_t resident_entries = 0;  // at the end
  Bytes resident_bytes{};

  friend bool operator==(const ReplayCounts&, const ReplayCounts&) = default;
};

/// One replay to run: a policy as written on the command line (`lru`, `chameleon:size=-0.45`) at one
/// capacity.
struct ReplayJob {
  std::string policy;
  Capacity capacity;
};

struct ReplayResult {
  ReplayCounts counts;
  double seconds = 0;  // of this replay alone; 0 when the executor has no clock
};

/// Replays one policy, in this thread. Errors: kNotFound (unknown policy; names the nearest), kInvalid (bad
/// parameter, capacity 0).
[[nodiscard]] Result<ReplayCounts> replay(const UseStream& stream, SizeUnit unit, const ReplayJob& job);

/// Replays all jobs on the executor; results in the order of the jobs, independent of its number of threads.
/// Clairvoyant policies need `compute_next_uses` to have run.
[[nodiscard]] Result<std::vector<ReplayResult>> replay_all(const UseStream& stream, SizeUnit unit,
                                                           std::span<const ReplayJob> jobs,
                                                           Executor& executor);

}  // namespace loracle
