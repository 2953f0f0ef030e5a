// The objective kCost: plan_costs.hpp.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <tuple>
#include <vector>

#include "loracle/core/parse_bytes.hpp"
#include "loracle/sim/regimes.hpp"
#include "plan_format.hpp"
#include "plan_money.hpp"

namespace loracle::detail {
namespace {

constexpr std::uint32_t kSimulationsMax = 128;

struct PricedPair {
  const GridCell* cell = nullptr;
  Money total{};
};

struct Priced {
  std::vector<PricedPair> pairs;           // the cheapest first; of equal ones, that of fewer slots
  Constraint binding = Constraint::kNone;  // why there are none
};

/// Every pair that is left before any is simulated.
Priced priced_pairs(const Plan& plan) {
  Priced found;
  bool meets_loads = false;
  for (const GridCell& cell : plan.grid.cells) {
    if (!cell.feasible || cell.max_cpu_loras < cell.max_loras || cell.max_cpu_loras > plan.host_limit ||
        cell.max_loras < plan.slots_floor || cell.max_loras > plan.slots_limit || !meets_target(plan, cell))
      continue;
    meets_loads = true;
    const MonthlyCost cost = monthly_cost(*plan.cost_options.prices, use_of(plan, cell));
    if (!cost.impossible) found.pairs.push_back({&cell, cost.total});
  }
  std::sort(found.pairs.begin(), found.pairs.end(), [](const PricedPair& a, const PricedPair& b) {
    return std::tuple(a.total, a.cell->max_loras, a.cell->max_cpu_loras) <
           std::tuple(b.total, b.cell->max_loras, b.cell->max_cpu_loras);
  });
  if (found.pairs.empty()) found.binding = meets_loads ? Constraint::kNothingLeft : Constraint::kDiskTarget;
  return found;
}

/// The share of requests that `part` counts, with its interval.
template <class Part>
ServiceLevel level_of(const EventOutcome& outcome, std::uint64_t total, double block_min, double limit,
                      Part part) {
  std::vector<std::uint64_t> parts;
  std::vector<std::uint64_t> wholes;
  for (const StretchCounts& stretch : outcome.stretches) {
    parts.push_back(part(stretch));
    wholes.push_back(stretch.requests);
  }
  ServiceLevel level;
  level.share = static_cast<double>(total) / static_cast<double>(outcome.requests);
  level.interval = block_interval(parts, wholes, block_min);
  level.limit = limit;
  return level;
}

/// How many times what is allowed there is.
double excess(const ServiceLevel& level) noexcept {
  if (level.share < 0 || level.is_met()) return 1;
  return level.limit > 0 ? level.upper() / level.limit : std::numeric_limits<double>::infinity();
}

struct Judged {
  const GridCell* cell = nullptr;
  ServiceLevel waits;
  ServiceLevel late;

  [[nodiscard]] bool is_met() const noexcept { return excess(waits) <= 1 && excess(late) <= 1; }
  [[nodiscard]] double worst() const noexcept { return std::max(excess(waits), excess(late)); }
};

Judged judge(const Plan& plan, const GridCell& cell, const EventOutcome& outcome, double block_min) {
  Judged judged;
  judged.cell = &cell;
  judged.waits = level_of(outcome, outcome.waited_for_slot, block_min, plan.max_wait_probability,
                          [](const StretchCounts& stretch) { return stretch.waited_for_slot; });
  if (std::isfinite(plan.cost_options.slo_s))
    judged.late = level_of(outcome, outcome.late, block_min, plan.cost_options.max_slo_misses,
                           [](const StretchCounts& stretch) { return stretch.late; });
  return judged;
}

/// Whether a pair that failed has as many slots and as much host memory.
bool is_hopeless(const GridCell& cell, const std::vector<const GridCell*>& failed) noexcept {
  return std::any_of(failed.begin(), failed.end(), [&cell](const GridCell* other) {
    return cell.max_loras <= other->max_loras && cell.max_cpu_loras <= other->max_cpu_loras;
  });
}

void take(Plan& plan, const Judged& judged) {
  CostChoice& choice = plan.costs.choice;
  plan.chosen = *judged.cell;
  plan.chosen_from = SlotsBound::kCost;
  plan.verdict = judged.is_met() ? PlanVerdict::kMeetsTarget : PlanVerdict::kMissesTarget;
  plan.waited = judged.waits.share;
  choice.waits = judged.waits;
  choice.late = judged.late;
  if (!judged.is_met() && choice.binding == Constraint::kNone)
    choice.binding = excess(judged.late) > excess(judged.waits) ? Constraint::kSlo : Constraint::kWaits;
}

std::string level_text(const ServiceLevel& level) {
  if (level.interval.confidence > 0)
    return fmt::format("{}, at most {} with {:g} % confidence", share_text(level.share),
                       share_text(level.upper()), level.interval.confidence * 100);
  return fmt::format("{} (the share itself: too little data for an interval)", share_text(level.share));
}

/// What the pair does against the constraints.
std::string levels_text(const Plan& plan) {
  const CostChoice& choice = plan.costs.choice;
  std::string text;
  if (choice.waits.share >= 0)
    text = fmt::format("{} of requests wait for a slot; {} may", level_text(choice.waits),
                       share_text(choice.waits.limit));
  if (choice.late.share >= 0)
    text += fmt::format("; {} are delayed by slots and loads for longer than the SLO of {}; {} may",
                        level_text(choice.late), seconds_text(plan.cost_options.slo_s),
                        share_text(choice.late.limit));
  return text;
}

std::string pair_text(const GridCell& cell) {
  return fmt::format("max_loras {} and max_cpu_loras {}", cell.max_loras, cell.max_cpu_loras);
}

}  // namespace

Result<Unit> choose_by_cost(Plan& plan, const BatchStream& stream, WaitSimulator& waits, Executor& executor) {
  CostChoice& choice = plan.costs.choice;
  choice.asked = true;
  const Priced priced = plan.verdict == PlanVerdict::kInfeasible ? Priced{} : priced_pairs(plan);
  choice.options = priced.pairs.size();
  const double block_min = kBlockRegimes * find_regimes(stream).length_mean();
  const auto judged_at = [&](const GridCell& cell) -> Result<Judged> {
    if (auto done = waits.simulate({&cell, 1}, executor); !done) return fail(std::move(done.error()));
    ++choice.simulated;
    return judge(plan, cell, waits.at(cell), block_min);
  };
  if (priced.pairs.empty()) {
    choice.binding = plan.verdict != PlanVerdict::kInfeasible     ? priced.binding
                     : plan.limit_from == SlotsBound::kHostMemory ? Constraint::kHostMemory
                                                                  : Constraint::kGpuMemory;
    const PlanVerdict verdict = plan.verdict;
    const GridCell nearest = plan.chosen;
    const Result<Judged> judged = judged_at(nearest);
    if (!judged) return fail(judged.error());
    const SlotsBound from = plan.chosen_from;
    take(plan, *judged);
    plan.chosen_from = from;
    plan.verdict = verdict == PlanVerdict::kInfeasible ? verdict : PlanVerdict::kMissesTarget;
    return Unit{};
  }
  std::vector<const GridCell*> failed;
  std::optional<Judged> nearest;
  for (const PricedPair& pair : priced.pairs) {
    if (is_hopeless(*pair.cell, failed)) continue;
    if (choice.simulated == kSimulationsMax) {
      choice.binding = Constraint::kSearch;
      break;
    }
    const Result<Judged> judged = judged_at(*pair.cell);
    if (!judged) return fail(judged.error());
    if (!nearest || judged->worst() < nearest->worst()) nearest = *judged;
    if (judged->is_met()) break;
    failed.push_back(pair.cell);
  }
  take(plan, *nearest);
  return Unit{};
}

std::string cost_reason(const Plan& plan) {
  const CostChoice& choice = plan.costs.choice;
  const std::string pair = pair_text(plan.chosen);
  switch (choice.binding) {
    case Constraint::kNone:
      return fmt::format(
          "Of {} that fit memory and the target of disk loads, with the {} that are in use at once or more, "
          "{} is the cheapest that meets every constraint: {}.",
          counted(choice.options, "pair"), counted(plan.slots_floor, "slot"), pair, levels_text(plan));
    case Constraint::kGpuMemory:
    case Constraint::kHostMemory:
      return fmt::format(
          "{} memory binds: requests need {} at once, {} fit. Nothing meets the constraints; "
          "nearest is {}: {}.",
          choice.binding == Constraint::kHostMemory ? "Host" : "GPU", counted(plan.slots_floor, "slot"),
          plan.slots_limit, pair, levels_text(plan));
    case Constraint::kDiskTarget:
      return fmt::format(
          "The target of disk loads binds: no pair that fits keeps them within {} of uses; "
          "nearest is {} with {}.",
          share_text(plan.target_disk_loads), pair, share_text(excess_disk_loads(plan, plan.chosen)));
    case Constraint::kNothingLeft:
      return fmt::format(
          "With every pair that fits, slots take the whole KV cache or loads take all of the "
          "time: nothing is left to serve with. Nearest is {}.",
          pair);
    case Constraint::kWaits:
      return fmt::format("Waits for slots bind: none of {} meets every constraint. Nearest is {}: {}.",
                         counted(choice.options, "pair"), pair, levels_text(plan));
    case Constraint::kSlo:
      return fmt::format("The SLO binds: none of {} meets every constraint. Nearest is {}: {}.",
                         counted(choice.options, "pair"), pair, levels_text(plan));
    case Constraint::kSearch:
      break;
  }
  return fmt::format(
      "The search was given up after {} of {}, none of which meets every constraint. Nearest "
      "is {}: {}.",
      counted(choice.simulated, "simulation"), counted(choice.options, "pair"), pair, levels_text(plan));
}

}  // namespace loracle::detail
