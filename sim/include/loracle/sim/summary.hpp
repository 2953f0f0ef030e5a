#pragma once
/// What a trace asks of a cache, before any cache is simulated: how uneven the adapters' popularity is, and
/// how many different ones are needed in each stretch of time. Exact. Threads: none; any may share a trace.

#include <cstdint>
#include <vector>

#include "loracle/core/result.hpp"
#include "loracle/sim/replay.hpp"
#include "loracle/traces/trace.hpp"

namespace loracle {

/// Uses of each row. O(uses).
[[nodiscard]] std::vector<std::uint64_t> uses_per_row(const UseStream& stream);  // [rows]

/// Uses per row, most used first; rows never used are left out. O(uses + distinct x log(distinct)).
[[nodiscard]] std::vector<std::uint64_t> popularity(const UseStream& stream);  // [distinct]

/// One window of time, [begin_s, begin_s + window).
struct WorkingSetWindow {
  double begin_s = 0;
  std::uint64_t requests = 0;
  std::uint64_t uses = 0;
  std::uint32_t distinct = 0;    // adapters used in it
  std::uint32_t first_seen = 0;  // of those, how many were never used before it

  friend bool operator==(const WorkingSetWindow&, const WorkingSetWindow&) = default;
};

/// No chart shows more windows than this, and a tiny window over a long trace would fill the memory.
inline constexpr std::uint64_t kWorkingSetWindowsMax = 1'000'000;

/// Windows from the first request's to the last one's, without gaps; borders are multiples of `window_s` on
/// the trace's clock. O(uses + windows). Errors: kInvalid if the window is not a positive number of seconds,
/// the trace has no arrival times, or more than kWorkingSetWindowsMax windows would be needed.
[[nodiscard]] Result<std::vector<WorkingSetWindow>> working_set_over_time(const Trace& trace,
                                                                          double window_s);

}  // namespace loracle
