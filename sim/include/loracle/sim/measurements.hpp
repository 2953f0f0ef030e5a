#pragma once
/// What a calibration is fitted to, and the files that it comes in: loads of adapters and steps of an engine,
/// with the time each took.
///
/// Loads go one of two ways, named as in a plan: `disk` (into host memory, wherever the adapter lies) and
/// `slot` (host memory into a slot). All times in seconds, sizes in bytes.
/// Threads: any; pure functions of the text. `name` stands in messages: the file, or where it was read.
/// Errors: kCorrupt, with the line and what should be there.
/// Source of the log's line: vLLM of 2026-08, --enable-logging-iteration-details.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "loracle/core/result.hpp"

namespace loracle {

enum class LoadWay : std::uint8_t { kDisk, kSlot };
/// "disk", "slot".
[[nodiscard]] const char* name_of(LoadWay way) noexcept;

/// One load of one adapter. Both above 0.
struct TimedLoad {
  LoadWay way = LoadWay::kDisk;
  double bytes = 0;
  double seconds = 0;

  friend bool operator==(const TimedLoad&, const TimedLoad&) = default;
};

/// What counters know of many loads.
struct LoadSummary {
  LoadWay way = LoadWay::kDisk;
  std::uint64_t loads = 0;
  double bytes = 0;     // of all together; 0: not known
  double seconds = 0;   // of all together
  double spread_s = 0;  // standard deviation of one load, from buckets a factor of two wide; < 0: unknown
};

/// One step of the engine: a batch that ran once.
struct TimedStep {
  double prefill_tokens = 0;
  double sequences = 0;  // requests in the batch, prefilling and decoding
  double adapters = 0;   // distinct
  double rank_sum = 0;   // of the distinct adapters
  double seconds = 0;    // above 0

  friend bool operator==(const TimedStep&, const TimedStep&) = default;
};

/// CSV with a header: tier,bytes,seconds in any order; tier is `disk` or `slot`.
[[nodiscard]] Result<std::vector<TimedLoad>> read_loads_csv(std::string_view text, const std::string& name);
/// CSV with a header: prefill_tokens,sequences,adapters,rank_sum,seconds in any order.
[[nodiscard]] Result<std::vector<TimedStep>> read_steps_csv(std::string_view text, const std::string& name);

/// Prometheus text of `loracle serve`: loracle_tier_load_seconds and loracle_tier_loaded_bytes_total; else
/// vllm:lora_adapter_load_seconds, which knows no bytes. Tiers that have loaded nothing are left out. The
/// mean is exact (a sum over a count); of a single load only its bucket is known.
/// Errors: also where the page has neither family.
[[nodiscard]] Result<std::vector<LoadSummary>> read_load_metrics(std::string_view text,
                                                                 const std::string& name);

/// A vLLM log: its lines "Iteration(N): A context requests, B context tokens, C generation requests, ...,
/// iteration elapsed time: T ms". They name no adapters, so those count 0. Other lines are passed over.
/// Errors: also where no line says it, and where most of the times are those of an engine that does not wait
/// for its steps (asynchronous scheduling).
[[nodiscard]] Result<std::vector<TimedStep>> read_vllm_log(std::string_view text, const std::string& name);

}  // namespace loracle
