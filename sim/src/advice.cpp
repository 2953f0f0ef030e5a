#include "loracle/sim/advice.hpp"

#include <fmt/format.h>

#include "loracle/core/parse_bytes.hpp"
#include "loracle/sim/confidence.hpp"
#include "plan_format.hpp"
#include "plan_sentences.hpp"

namespace loracle {
namespace {

using detail::counted;
using detail::share_text;

constexpr double kWorthAChange = 1.25;  // times what the choice costs

/// What today's setting breaks that the choice keeps or comes clearly nearer to; empty if nothing.
std::string broken_rule(const Plan& plan) {
  const CurrentSetting& today = plan.current;
  const AdvisoryRow& row = today.row;
  if (row.cell.refused > 0)
    return fmt::format("{} of uses are refused: their requests need more adapters at once than today's {}",
                       share_text(row.cell.refused, plan.uses), counted(today.max_loras, "slot"));
  if (row.too_many_wait)
    return fmt::format("at today's {}, {} of requests wait for one (at most {} may){}",
                       counted(today.max_loras, "slot"), share_text(row.waited),
                       share_text(plan.max_wait_probability), detail::assumption_text(plan));
  if (row.slot_memory > plan.gpu_memory_limit)
    return fmt::format("{} of GPU memory for today's {} is more than {}", human_bytes(row.slot_memory),
                       counted(today.max_loras, "slot"), detail::gpu_limit_text(plan));
  if (row.host_memory > plan.host_memory_limit)
    return fmt::format("today's {} in host memory may take {}, more than the {} given",
                       counted(today.max_cpu_loras, "adapter"), human_bytes(row.host_memory),
                       human_bytes(plan.host_memory_limit));
  const double loads = excess_disk_loads(plan, row.cell);
  const double of_choice = excess_disk_loads(plan, plan.chosen);
  if (!row.meets_target && (meets_target(plan, plan.chosen) || loads > kWorthAChange * of_choice))
    return fmt::format(
        "with {} in host memory, disk loads beyond first uses are {} of uses (target {}, the choice {})",
        counted(today.max_cpu_loras, "adapter"), share_text(loads), share_text(plan.target_disk_loads),
        share_text(of_choice));
  return {};
}

/// Of a setting that breaks none: "keeps every rule", or all but the one that no choice keeps.
std::string kept_text(const Plan& plan) {
  if (plan.current.row.meets_target) return "keeps every rule";
  return fmt::format("keeps every rule but the target of disk loads ({} of uses, the choice {})",
                     share_text(excess_disk_loads(plan, plan.current.row.cell)),
                     share_text(excess_disk_loads(plan, plan.chosen)));
}

bool has_intervals(const Plan& plan) {
  const Certainty& certainty = plan.certainty;
  return certainty.blocks >= kBlocksMin || certainty.misses.confidence > 0 ||
         certainty.waited.confidence > 0 || certainty.disk_loads.confidence > 0;
}

/// Why today's setting cannot be judged.
const char* why_unjudged(const Plan& plan) {
  if (!plan.active.known)
    return plan.span_s < 0 ? "without arrival times nobody can tell who waits for a slot"
                           : "without durations nobody can tell who waits for a slot";
  return plan.assumed_durations > 0 ? "too many durations are assumed"
                                    : "whether it does on other days takes a longer trace";
}

double cost_of(const Plan& plan, const GridCell& cell, std::uint32_t slots) {
  return running_cost(plan, static_cast<double>(cell.host_to_device_loads), slots);
}

bool is_dear(const Plan& plan) {
  return cost_of(plan, plan.current.row.cell, plan.current.max_loras) >
         kWorthAChange * cost_of(plan, plan.chosen, plan.chosen.max_loras);
}

}  // namespace

const char* name_of(Advice advice) noexcept {
  switch (advice) {
    case Advice::kNotAsked:
      return "not_asked";
    case Advice::kKeep:
      return "keep";
    case Advice::kChange:
      return "change";
    case Advice::kInfeasible:
      return "infeasible";
    case Advice::kNotEnoughData:
      break;
  }
  return "not_enough_data";
}

double running_cost(const Plan& plan, double slot_loads, double slots) noexcept {
  if (plan.span_s > 0) return slot_loads * plan.slot_load_s / plan.span_s + plan.slot_worth_time * slots;
  return slot_loads / static_cast<double>(plan.uses) + plan.slot_worth * slots;
}

Advice advice_of(const Plan& plan) {
  if (!plan.current.known) return Advice::kNotAsked;
  if (plan.verdict == PlanVerdict::kInfeasible) return Advice::kInfeasible;
  if (plan.is_short) return Advice::kNotEnoughData;
  if (!broken_rule(plan).empty()) return Advice::kChange;
  if (!plan.active.known || plan.assumed_durations > 0 || !has_intervals(plan)) return Advice::kNotEnoughData;
  return is_dear(plan) ? Advice::kChange : Advice::kKeep;
}

std::string advice_reason(const Plan& plan) {
  const CurrentSetting& today = plan.current;
  switch (advice_of(plan)) {
    case Advice::kNotAsked:
      return {};
    case Advice::kInfeasible:
      if (today.row.over_limit && today.row.cell.refused == 0 && !today.row.too_many_wait)
        return "no sizes within the limits serve this traffic: " + broken_rule(plan) + ".";
      return "no sizes within the limits serve this traffic, today's as little as any other.";
    case Advice::kKeep:
      return fmt::format(
          "today's --max-loras {} --max-cpu-loras {} {}, and what else was found would not save enough.",
          today.max_loras, today.max_cpu_loras, kept_text(plan));
    case Advice::kChange:
      break;
    case Advice::kNotEnoughData:
      if (plan.is_short) return "the trace is too short to judge today's setting by.";
      return fmt::format("today's setting {}, as far as this trace can test it; {}.", kept_text(plan),
                         why_unjudged(plan));
  }
  if (const std::string broken = broken_rule(plan); !broken.empty()) return broken + ".";
  const double saved =
      1 - cost_of(plan, plan.chosen, plan.chosen.max_loras) / cost_of(plan, today.row.cell, today.max_loras);
  return fmt::format(
      "the choice takes {} less of what loads and slots cost the server, weighed at {} of its "
      "time a slot.",
      share_text(saved), share_text(plan.slot_worth_time));
}

}  // namespace loracle
