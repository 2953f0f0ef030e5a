// Why a plan chose what it chose.
#include <fmt/format.h>

#include <string>

#include "loracle/core/parse_bytes.hpp"
#include "plan_format.hpp"
#include "plan_money.hpp"
#include "plan_rules.hpp"
#include "plan_sentences.hpp"

namespace loracle::detail {
namespace {

std::string slots_reason(const Plan& plan) {
  const std::uint32_t slots = plan.chosen.max_loras;
  const std::string may_wait = share_text(plan.max_wait_probability);
  switch (plan.chosen_from) {
    case SlotsBound::kEveryAdapter:
      return "every adapter has a slot";
    case SlotsBound::kGpuMemory:
      return fmt::format("{} are all that fit {}", counted(slots, "slot"),
                         human_bytes(plan.gpu_memory_limit));
    case SlotsBound::kHostMemory:
      return fmt::format("no more than {} fit host memory of {}, where those in slots are too",
                         counted(slots, "adapter"), human_bytes(plan.host_memory_limit));
    case SlotsBound::kAxisEnd:
      return fmt::format("{} are the most that were looked at", counted(slots, "slot"));
    case SlotsBound::kLargestRequest:
      return fmt::format("the largest request needs {} adapters at once", slots);
    case SlotsBound::kQuantile:
      return fmt::format(
          "with fewer than {} slots, more than {} of requests find more adapters in use than there are "
          "slots, "
          "and wait",
          slots, may_wait);
    case SlotsBound::kMean:
      return fmt::format(
          "with fewer than {} slots there are no more than the {:.3g} adapters in use on average, "
          "and requests pile up",
          slots, plan.active.mean);
    case SlotsBound::kSimulation:
      return fmt::format("simulated, with the next fewer slots more than {} of requests wait for one",
                         may_wait);
    case SlotsBound::kCost:  // has sentences of its own
    case SlotsBound::kWorth:
      break;
  }
  if (plan.span_s > 0)
    return fmt::format("past {} one more saves less than {} of the server's time", counted(slots, "slot"),
                       share_text(plan.slot_worth_time));
  return fmt::format("past {} one more saves fewer than {:.3g} loads per 100 uses", counted(slots, "slot"),
                     plan.slot_worth * 100);
}

/// Why no slots within the limits will do.
std::string infeasible_reason(const Plan& plan) {
  const std::string fit =
      plan.limit_from == SlotsBound::kHostMemory
          ? fmt::format("{} fit host memory of {}", counted(plan.host_limit, "adapter"),
                        human_bytes(plan.host_memory_limit))
          : fmt::format("{} fit {}", counted(plan.slots_limit, "slot"), human_bytes(plan.gpu_memory_limit));
  if (plan.floor_from == SlotsBound::kSimulation)
    return fmt::format("Simulated, even with {} {} of requests wait for one (at most {} may).",
                       counted(plan.slots_limit, "slot"), share_text(plan.waited),
                       share_text(plan.max_wait_probability));
  if (plan.floor_from == SlotsBound::kLargestRequest)
    return fmt::format("The largest request needs {} adapters at once, but only {}: it will be refused.",
                       plan.slots_floor, fit);
  if (plan.floor_from == SlotsBound::kMean)
    return fmt::format(
        "{:.3g} adapters are in use on average, but only {}: requests will pile up, whatever "
        "the hit ratio says.",
        plan.active.mean, fit);
  return fmt::format(
      "More than {} of requests find {} adapters or more in use, their own included ({:.3g} on average), but "
      "only {}: requests will wait for a slot, whatever the hit ratio says.",
      share_text(plan.max_wait_probability), plan.slots_floor, plan.active.mean, fit);
}

}  // namespace

std::string reason_of(const Plan& plan) {
  if (plan.costs.choice.asked) return cost_reason(plan);
  const std::string excess = share_text(excess_disk_loads(plan, plan.chosen));
  const std::string target = share_text(plan.target_disk_loads);
  const std::string kept = counted(plan.chosen.max_cpu_loras, "adapter");
  switch (plan.verdict) {
    case PlanVerdict::kInfeasible:
      if (meets_disk_target(plan, plan.chosen)) return infeasible_reason(plan);
      return fmt::format(
          "{} And if requests held nothing, disk loads beyond first uses would still be {} of uses (target "
          "{}), with {} in host memory.",
          infeasible_reason(plan), excess, target, kept);
    case PlanVerdict::kMissesTarget:
      return fmt::format(
          "No size within the limits keeps disk loads beyond first uses within {} of uses; the nearest "
          "is {}, with {} in host memory, and {}.",
          target, excess, kept, slots_reason(plan));
    case PlanVerdict::kMeetsTarget:
      break;
  }
  return fmt::format(
      "With {} in host memory, disk loads beyond first uses are {} of uses (target {}), and {}.", kept,
      excess, target, slots_reason(plan));
}

}  // namespace loracle::detail
