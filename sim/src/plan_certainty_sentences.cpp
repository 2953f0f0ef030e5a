#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <vector>

#include "loracle/sim/confidence.hpp"
#include "plan_format.hpp"
#include "plan_sentences.hpp"

namespace loracle::detail {
namespace {

std::string percent_text(double share) {
  const double percent = share * 100;
  return percent < 0.005 ? "0" : percent_digits(percent);
}

std::string regime_length(const Certainty& certainty, double times) {
  return certainty.regime_s > 0
             ? seconds_text(certainty.regime_s * times)
             : counted(static_cast<std::uint64_t>(certainty.regime_requests * times), "request");
}

/// Those of the figures that have an interval, or a range.
std::vector<Interval> shown(const Certainty& certainty, bool intervals) {
  std::vector<Interval> found;
  for (const Interval& one : {certainty.waited, certainty.misses, certainty.disk_loads})
    if (one.blocks > 0 && (one.confidence > 0) == intervals) found.push_back(one);
  return found;
}

std::string range_note(const Certainty& certainty) {
  return shown(certainty, false).empty()
             ? ""
             : fmt::format(
                   " (low to high): the range of {} equal parts of the trace, which promises nothing.",
                   kBlocksMin);
}

/// Why there is no interval at all.
std::string not_enough(const Certainty& certainty) {
  if (certainty.regimes == 0) return "Not enough data: too few requests to see whether popularity changes.";
  if (certainty.regimes == 1)
    return "Not enough data: popularity does not change in this trace, so what a change would do is not "
           "known.";
  if (certainty.blocks >= kBlocksMin && shown(certainty, false).empty())
    return "No interval: what never or always happens in the trace has none.";
  if (certainty.blocks >= kBlocksMin) return "Not enough data: even long blocks of the trace are correlated.";
  return fmt::format(
      "Not enough data: {} regimes of popularity, of {} for the mean request. Intervals need {} blocks of "
      "{:g} of them: {}.",
      count_text(certainty.regimes), regime_length(certainty, 1), kBlocksMin, kBlockRegimes,
      regime_length(certainty, kBlocksMin * kBlockRegimes));
}

}  // namespace

std::string interval_text(const Interval& interval) {
  if (interval.blocks == 0) return "";
  return interval.confidence > 0
             ? fmt::format(" [{}, {}]", percent_text(interval.low), percent_text(interval.high))
             : fmt::format(" ({} to {})", percent_text(interval.low), percent_text(interval.high));
}

Interval complement_of(const Interval& interval) noexcept {
  if (interval.blocks == 0) return interval;
  return {1 - interval.high, 1 - interval.low, interval.confidence, interval.blocks};
}

std::string certainty_text(const Plan& plan) {
  const Certainty& certainty = plan.certainty;
  const std::vector<Interval> intervals = shown(certainty, true);
  if (intervals.empty()) return not_enough(certainty) + range_note(certainty);
  const auto [fewest, most] =
      std::minmax_element(intervals.begin(), intervals.end(),
                          [](const Interval& a, const Interval& b) { return a.blocks < b.blocks; });
  std::string text = fmt::format(
      "[low, high]: {:g} % confidence, by the means of {} blocks. {} regimes of popularity, of {} "
      "for the mean request; a block is {:g} of them or more.{}",
      kConfidence * 100,
      fewest->blocks == most->blocks ? fmt::format("{}", most->blocks)
                                     : fmt::format("{} to {}", fewest->blocks, most->blocks),
      count_text(certainty.regimes), regime_length(certainty, 1), kBlockRegimes, range_note(certainty));
  if (certainty.waited.confidence > 0 && plan.waited <= plan.max_wait_probability &&
      certainty.waited.high > plan.max_wait_probability)
    text += fmt::format(" By this, more than {} may wait.", share_text(plan.max_wait_probability));
  return text;
}

}  // namespace loracle::detail
