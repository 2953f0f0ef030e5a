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

/// Requests that name adapters and do not say how long they hold them (0, or not a number) hold them as long
/// as others do that say so: those of the same adapter, the first of a request, where kOwnDurationsMin of its
/// requests say so, else those of all adapters; one after the other in the trace's order, from the beginning
/// again after the last. So what is filled in is spread as what is known. Unchanged where no request says so.
/// O(uses + rows).
[[nodiscard]] Trace with_assumed_durations(const Trace& trace);
/// With so many durations of its own an adapter's other requests are taken to be like those.
inline constexpr std::uint32_t kOwnDurationsMin = 30;

/// Requests arrive so many times as fast, in the same order, and hold their adapters as long. REQUIRES: the
/// factor is above 0.
[[nodiscard]] Trace with_traffic(const Trace& trace, double factor);

/// Of each period, counted from the first arrival, the requests come so many times as fast, at its beginning,
/// and the rest of it is quiet: as many requests, in the same order, holding as long. REQUIRES: the factor is
/// 1 or more, the period above 0 and finite.
[[nodiscard]] Trace with_bursts(const Trace& trace, double factor, double period_s);

// What follows makes rows anew; adapters that nobody uses are left out. O(requests + uses),
// and as often more adapters O(requests x share^2).

/// Each adapter becomes so many, and each of its uses goes to one of them by chance: the traffic stays, and
/// less of it is shared. The further ones are called "NAME#1" and so on. REQUIRES: parts is 1 or more.
[[nodiscard]] Trace with_split_adapters(const Trace& trace, std::uint32_t parts, std::uint64_t seed);

/// So many times as many adapters more: each has as many doubles, "NAME#1", "NAME#2", as `share` says, the
/// broken part of it drawn by chance. A request for such adapters comes again for each, evenly spread over
/// the trace's span, past its end from its beginning on. New adapters with the popularity and the habits of
/// the old. REQUIRES: the trace has arrival times; the share is from 0 to 1000.
[[nodiscard]] Trace with_more_adapters(const Trace& trace, double share, std::uint64_t seed);

/// The tenant with the most uses comes a second time, as "NAME#1" with adapters of its own, half the trace's
/// span later (or earlier). Where requests have no tenants, the adapter with the most uses does. The first of
/// equals. REQUIRES: the trace has arrival times.
[[nodiscard]] Trace with_busiest_twice(const Trace& trace);
/// True if a request with an adapter has a tenant.
[[nodiscard]] bool has_tenants(const Trace& trace) noexcept;

}  // namespace loracle
