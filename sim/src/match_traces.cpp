#include "loracle/sim/match_traces.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "loracle/sim/activity_curve.hpp"
#include "loracle/sim/tier_replay.hpp"

namespace loracle {
namespace {

[[nodiscard]] double share(std::uint64_t part, std::uint64_t whole) {
  return static_cast<double>(part) / static_cast<double>(whole);
}

}  // namespace

Result<TrafficMarks> measure_traffic(const Trace& trace, std::optional<double> held_s) {
  const Result<UseStream> uses = make_use_stream(trace);
  if (!uses) return fail(uses.error());
  if (uses->uses.empty())
    return fail(Errc::kInvalid,
                fmt::format("{}: no request names an adapter: choose another --map", trace.source));
  TrafficMarks marks;
  marks.curve = lru_curve(*uses);
  Trace timed = trace;
  if (held_s) timed.duration_s = std::vector<float>(trace.requests, static_cast<float>(*held_s));
  if (!has_activity(timed)) return marks;
  const Result<BatchStream> stream = make_batch_stream(timed, NextUses::kUnknown);
  if (!stream) return fail(stream.error());
  const Result<ActiveAtArrival> active = active_at_arrival(timed, *stream);
  if (!active) return fail(active.error());
  marks.active_p99 = active->active_quantile(0.99);
  return marks;
}

TraceMatch match_marks(const TrafficMarks& source, const TrafficMarks& synthetic) {
  TraceMatch match;
  const std::size_t sizes = std::max(source.curve.misses_at.size(), synthetic.curve.misses_at.size());
  for (std::size_t entries = 0; entries < sizes; ++entries) {
    const double of_source = share(source.curve.misses(entries), source.curve.requests);
    const double of_synthetic = share(synthetic.curve.misses(entries), synthetic.curve.requests);
    if (std::abs(of_synthetic - of_source) <= std::abs(match.miss_difference)) continue;
    match.miss_difference = of_synthetic - of_source;
    match.at_entries = entries;
    match.source_misses = of_source;
    match.synthetic_misses = of_synthetic;
  }
  match.source_active_p99 = source.active_p99;
  match.synthetic_active_p99 = synthetic.active_p99;
  match.accepted = std::abs(match.miss_difference) <= kMissDifferenceMax;
  if (source.active_p99 && synthetic.active_p99) {
    const std::uint32_t low = std::min(*source.active_p99, *synthetic.active_p99);
    const std::uint32_t high = std::max(*source.active_p99, *synthetic.active_p99);
    match.accepted = match.accepted && high - low <= kActiveDifferenceMax;
  }
  return match;
}

Result<TraceMatch> match_traces(const Trace& source, const Trace& synthetic, double held_s) {
  if (!(held_s > 0) || !(held_s <= 1e9))
    return fail(Errc::kInvalid, fmt::format("held for {} s: give a time above 0", held_s));
  const bool is_known = !source.duration_s.empty() && !synthetic.duration_s.empty();
  const std::optional<double> assumed = is_known ? std::nullopt : std::optional<double>(held_s);
  const Result<TrafficMarks> of_source = measure_traffic(source, assumed);
  if (!of_source) return fail(of_source.error());
  const Result<TrafficMarks> of_synthetic = measure_traffic(synthetic, assumed);
  if (!of_synthetic) return fail(of_synthetic.error());
  TraceMatch match = match_marks(*of_source, *of_synthetic);
  if (match.source_active_p99 && match.synthetic_active_p99) match.held_s = assumed;
  return match;
}

std::string match_text(const TraceMatch& match) {
  std::string text = fmt::format(
      "{}\n  LRU misses             differ by {:+.2f} points at {} entries ({:.2f} % here, {:.2f} % in the "
      "source), where most; {:g} may be\n",
      match.accepted ? "ACCEPTED" : "NOT ACCEPTED: do not size a cache with it", 100 * match.miss_difference,
      match.at_entries, 100 * match.synthetic_misses, 100 * match.source_misses, 100 * kMissDifferenceMax);
  if (!match.source_active_p99 || !match.synthetic_active_p99)
    return text + "  adapters in use, p99   not compared: there are no arrival times\n";
  return text + fmt::format("  adapters in use, p99   {} here, {} in the source; {} more or less may be{}\n",
                            *match.synthetic_active_p99, *match.source_active_p99, kActiveDifferenceMax,
                            match.held_s
                                ? fmt::format(" (requests taken to hold theirs for {:g} s: the trace "
                                              "does not say)",
                                              *match.held_s)
                                : "");
}

}  // namespace loracle
