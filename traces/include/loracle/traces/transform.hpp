#pragma once
/// Traces made of traces. The input is never changed; columns that stay the same are shared.
/// Threads: any.

#include <cstdint>

#include "loracle/core/result.hpp"
#include "loracle/traces/trace.hpp"

namespace loracle {

/// Overlays the trace's periods: arrival becomes arrival modulo `period_s`, and requests are sorted by it,
/// equal times in their old order. Folding 24 days onto an hour gives some 550 times the concurrency with
/// every user's own sequence still in order within a period; folding onto a day keeps the time of day.
/// Rows are numbered anew, by first appearance in the new order, and names, bytes and ranks move along;
/// tenants keep their numbers. `mapping` gains ", folded onto <period_s> s". The trace should pass
/// `check_trace`.
/// Cost: O(requests log requests + uses); 16 bytes a request on the way.
/// Errors: kInvalid: no arrival times, or a period that is not above 0 and finite.
[[nodiscard]] Result<Trace> fold(const Trace& trace, double period_s);

/// The first `requests` requests, or all; views into the same columns. Adapters stay, also those that are
/// then only described, so that the catalog does not depend on where a trace was cut. O(1).
[[nodiscard]] Trace head(const Trace& trace, std::uint64_t requests);

}  // namespace loracle
