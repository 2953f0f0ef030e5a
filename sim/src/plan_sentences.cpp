#include "plan_sentences.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "loracle/core/parse_bytes.hpp"
#include "plan_format.hpp"
#include "plan_sizes.hpp"

namespace loracle::detail {

const AdvisoryRow* row_of_choice(const Plan& plan) noexcept {
  for (const AdvisoryRow& row : plan.by_slots)
    if (row.chosen) return &row;
  return nullptr;
}

const GridCell& served_at_choice(const Plan& plan) noexcept {
  const AdvisoryRow* const row = row_of_choice(plan);
  return row == nullptr ? plan.chosen : row->served;
}

bool is_simulated(const Plan& plan) noexcept {
  const AdvisoryRow* const row = row_of_choice(plan);
  return row != nullptr && row->simulated;
}

std::string gpu_limit_text(const Plan& plan) {
  return plan.gpu_memory_limit < plan.gpu_memory_given
             ? fmt::format("the {} that the server has beside the weights",
                           human_bytes(plan.gpu_memory_limit))
             : fmt::format("the {} given for slots", human_bytes(plan.gpu_memory_limit));
}

std::string memory_text(const Plan& plan) {
  std::string text;
  if (plan.slot_bytes.value > 0) {
    text = fmt::format("{} x {} = {} of GPU memory", counted(plan.chosen.max_loras, "slot"),
                       human_bytes(plan.slot_bytes),
                       human_bytes(Bytes{plan.slot_bytes.value * plan.chosen.max_loras}));
    if (plan.gpu_memory_limit == Bytes::max())
      text += ", taken from the KV cache (no limit was given: --gpu-memory-for-loras)";
  }
  if (plan.host_bytes_known) {
    text += fmt::format("{}up to {} of host memory for {}", text.empty() ? "" : "; ",
                        human_bytes(largest_together(plan.host_bytes, plan.chosen.max_cpu_loras)),
                        counted(plan.chosen.max_cpu_loras, "adapter"));
  }
  return text.empty() ? "unknown without a model" : text;
}

std::string note_text(const Plan& plan, const AdvisoryRow& row) {
  // The gravest remark alone: what does not serve need not also miss a target.
  const std::string_view remark = row.cell.refused > 0 ? "REFUSES SOME"
                                  : row.below_floor
                                      ? row.waited < 0 || row.too_many_wait ? "INFEASIBLE" : "below floor"
                                  : row.over_limit    ? "over memory"
                                  : row.too_many_wait ? "too many wait"
                                  : !row.meets_target ? "off target"
                                                      : "";
  std::string note = row.chosen ? row.current ? "chosen, today" : "chosen" : "";
  if (row.current && !row.chosen) note = fmt::format("today, {} in host", plan.current.max_cpu_loras);
  if (note.empty() || remark.empty()) return note + std::string(remark);
  return fmt::format("{}, {}", note, remark);
}

std::string what_if_note(const Plan& plan) {
  return fmt::format(
      "2x the adapters alone: they share the traffic of today; bursts: the requests of each {:g} s within "
      "its first {:g}; a replica lost: the others get its traffic; from S3: {} a load",
      kBurstPeriodS, kBurstPeriodS / kBurst, seconds_text(plan.changes.store_load_s));
}

std::string note_text(const Plan& plan, const WhatIf& what_if) {
  if (!what_if.fits) return "does not fit";
  std::string note = what_if.too_many_wait ? "too many wait" : what_if.meets_target ? "holds" : "off target";
  if (what_if.max_loras < plan.chosen.max_loras)
    note +=
        fmt::format(": only {} fit{}", counted(what_if.max_loras, "slot"), what_if.max_loras == 1 ? "s" : "");
  else if (what_if.max_cpu_loras < plan.chosen.max_cpu_loras)
    note += fmt::format(": {} in host memory", count_text(what_if.max_cpu_loras));
  return note;
}

namespace {

/// What waits are unknown for, if it is not that too few durations are known.
std::string missing_times(const Plan& plan) {
  const bool has_durations = plan.duration_median_s >= 0;
  if (plan.span_s >= 0) return "how long requests hold their slots (duration_s)";
  return has_durations ? "when requests arrive (arrival_s)"
                       : "when requests arrive and how long they hold their slots (arrival_s, duration_s)";
}

/// Without times half of the question is open, and the smaller half is answered.
std::string unknown_waits(const Plan& plan) {
  const std::string why =
      plan.unknown_durations > 0
          ? fmt::format("{} of requests have no duration (duration_s), and those that do are too few",
                        share_text(plan.unknown_durations, plan.requests_with_adapter))
          : "the trace does not say " + missing_times(plan);
  return fmt::format("WAITS UNKNOWN: {}, and with too few slots they wait for minutes", why);
}

std::string verdict_of_known(const Plan& plan) {
  switch (plan.verdict) {
    case PlanVerdict::kMeetsTarget:
      return plan.active.known ? "meets the target" : "meets the target for loads; " + unknown_waits(plan);
    case PlanVerdict::kMissesTarget:
      return "MISSES THE TARGET: the best that fits the limits" +
             (plan.active.known ? "" : "; " + unknown_waits(plan));
    case PlanVerdict::kInfeasible:
      break;
  }
  return plan.floor_from == SlotsBound::kSimulation
             ? "INFEASIBLE: too many requests wait for a slot"
             : "INFEASIBLE: fewer slots fit than requests need at once";
}

}  // namespace

std::string verdict_text(const Plan& plan) { return verdict_of_known(plan) + assumption_text(plan); }

std::string assumption_text(const Plan& plan) {
  if (plan.assumed_durations == 0) return {};
  return fmt::format(", if the {} of requests without a duration hold their slot as long as the others",
                     share_text(plan.assumed_durations, plan.requests_with_adapter));
}

std::string replay_note(const Plan& plan) {
  return is_simulated(plan) ? "Not simulated, requests holding nothing: " : "";
}

std::string effect_text(const Plan& plan) {
  const AdvisoryRow* const row = row_of_choice(plan);
  const GridCell& cell = served_at_choice(plan);
  std::string waits;
  if (row != nullptr && row->waited >= 0)
    waits = fmt::format("{}{} of requests wait for a slot; 99 % start within {} of their arrival. ",
                        share_text(row->waited), interval_text(plan.certainty.waited),
                        seconds_text(row->delay_p99_s));
  const double load_s = static_cast<double>(cell.host_to_device_loads) * plan.slot_load_s +
                        static_cast<double>(cell.disk_loads) * plan.disk_load_s;
  return waits +
         fmt::format(
             "{}{} of {} uses hit a slot; {} load one from host memory, {} from disk ({} first uses, "
             "{}{} beyond){}. Loads cost the mean request {}, at {} into a slot and {} more from disk.",
             share_text(cell.gpu_hits, plan.uses), interval_text(complement_of(plan.certainty.misses)),
             count_text(plan.uses), share_text(cell.host_to_device_loads - cell.disk_loads, plan.uses),
             share_text(cell.disk_loads, plan.uses), share_text(plan.adapters, plan.uses),
             share_text(excess_disk_loads(plan, cell)), interval_text(plan.certainty.disk_loads),
             cell.refused > 0 ? fmt::format("; {} are refused", share_text(cell.refused, plan.uses)) : "",
             seconds_text(load_s / static_cast<double>(plan.requests_with_adapter)),
             seconds_text(plan.slot_load_s), seconds_text(plan.disk_load_s));
}

namespace {

std::string adapters_text(const Plan& plan) {
  const Breakpoint& limit = plan.adapters_limit;
  if (limit.limit <= 0) return "";
  if (limit.limit >= limit.most)
    return fmt::format(
        " It holds with {:.3g} times the adapters, the most looked at, each with requests of its own.",
        limit.most);
  const std::string breaks = !limit.off_target      ? "too many requests wait"
                             : !limit.too_many_wait ? "disk loads are off target"
                                                    : "too many requests wait, and disk loads are off target";
  return fmt::format(" It holds {}, each with requests of its own; beyond, {}.",
                     limit.limit == 1 ? "with hardly any more adapters than these"
                                      : fmt::format("up to about {:.3g} times the adapters", limit.limit),
                     breaks);
}

}  // namespace

std::string headroom_text(const Plan& plan) {
  constexpr double kLittleMargin = 1.25;
  const Breakpoint& traffic = plan.traffic_limit;
  if (traffic.limit < 0)
    return plan.active.known ? "not asked for"
           : plan.span_s < 0 ? "unknown without arrival times"
                             : "unknown without durations";
  if (plan.chosen.max_loras == plan.adapters)
    return "at any traffic of these adapters: every one has a slot." + adapters_text(plan);
  std::string text;
  if (traffic.limit == 0)
    text = "not even at a sixteenth of this traffic";
  else if (traffic.limit >= traffic.most)
    text = fmt::format("at {:g} times this traffic and more", traffic.most);
  else
    text =
        fmt::format("{}: beyond, more than {} of requests find all slots in use",
                    traffic.limit == 1 ? "at this traffic and hardly more"
                                       : fmt::format("up to about {:.3g} times this traffic", traffic.limit),
                    share_text(plan.max_wait_probability));
  text += fmt::format(". Twice the traffic asks for {}", counted(traffic.slots_at_twice, "slot"));
  const bool is_close = traffic.limit >= 1 && traffic.limit < kLittleMargin;
  return text + (is_close ? ": the margin is small." : ".") + adapters_text(plan);
}

std::string vllm_text(const Plan& plan) {
  std::string text =
      fmt::format("vLLM's own caches at these sizes: {} hits, {} loads into slots, {} disk loads",
                  share_text(plan.vllm.gpu_hits, plan.uses), count_text(plan.vllm.host_to_device_loads),
                  count_text(plan.vllm.disk_loads));
  if (plan.vllm.refused > 0) text += fmt::format(", {} uses refused", count_text(plan.vllm.refused));
  return text + fmt::format("; {} in loracle: {} hits, {} and {}.", plan.grid.tiers,
                            share_text(plan.chosen.gpu_hits, plan.uses),
                            count_text(plan.chosen.host_to_device_loads), count_text(plan.chosen.disk_loads));
}

std::string trace_text(const Plan& plan) {
  std::string text =
      fmt::format("{} ({}{}{}): {}, {} of {}", plan.source, plan.format,
                  plan.mapping.empty() ? "" : ", by " + plan.mapping,
                  plan.trace_note.empty() ? "" : ", " + plan.trace_note, counted(plan.requests, "request"),
                  counted(plan.uses, "use"), counted(plan.adapters, "adapter"));
  if (plan.requests_with_several > 0) {
    text +=
        fmt::format(", {} of several at once (at most {})",
                    share_text(plan.requests_with_several, plan.requests_with_adapter), plan.largest_request);
  }
  if (plan.span_s > 0) text += ", over " + seconds_text(plan.span_s);
  if (plan.active.known) {
    text += fmt::format("; active at once: median {}, p99 {}, p99.9 {}, at most {}", plan.active.p50,
                        plan.active.p99, plan.active.p999, plan.active.max);
  }
  if (plan.skipped_lines > 0) text += fmt::format("; {} skipped", counted(plan.skipped_lines, "bad line"));
  return text;
}

}  // namespace loracle::detail
