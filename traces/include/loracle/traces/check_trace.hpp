#pragma once
/// Says whether a trace keeps the promises of trace.hpp: column lengths, offsets in order, rows and tenants
/// in range, rows numbered by first appearance, times finite and non-decreasing, durations finite and not
/// negative. Writers call it before they write and binary readers after they read, so that nothing downstream
/// has to. Cost: O(requests + uses + rows), no allocation. Errors: kInvalid; the message names the column and
/// the place, without the file. Threads: any.

#include "loracle/core/result.hpp"
#include "loracle/traces/trace.hpp"

namespace loracle {

/// Lengths only: O(1), whatever the trace's size.
[[nodiscard]] Result<Unit> check_trace_lengths(const Trace& trace);
[[nodiscard]] Result<Unit> check_trace(const Trace& trace);

}  // namespace loracle
