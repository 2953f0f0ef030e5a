#include <fmt/format.h>

#include <tuple>
#include <utility>

#include "plan_format.hpp"
#include "plan_sentences.hpp"
#include "report_charts.hpp"

namespace loracle::detail {
namespace {

std::string grid_caption(const Plan& plan) {
  const std::string faded =
      plan.verdict == PlanVerdict::kInfeasible && plan.floor_from == SlotsBound::kSimulation
          ? "Faded cells are over a memory limit; with the slots of the others too many requests wait."
      : plan.verdict == PlanVerdict::kInfeasible
          ? fmt::format(
                "Faded cells are over a memory limit; of the others none has the {} that requests need "
                "at once.",
                counted(plan.slots_floor, "slot"))
          : fmt::format("Faded cells lie below the slots floor ({}) or over a memory limit.",
                        plan.slots_floor);
  return fmt::format(
      "The star is the choice{}. Dark is good: loads from host memory per 100 uses, plus {:.0f} times those "
      "from "
      "disk beyond first uses. Above the dashed line the disk target is met. {}",
      plan.current.known ? ", the ring today's setting" : "", kDiskWeight, faded);
}

std::string regimes_caption(const Plan& plan) {
  if (plan.certainty.changes.empty()) return "";
  return fmt::format(" Upright lines: popularity changes ({} regimes).", count_text(plan.certainty.regimes));
}

void add_choice(std::vector<ReportChart>& charts, const Plan& plan) {
  charts.push_back(
      {"grid", ChartGroup::kChoice, "Every pair of sizes", grid_caption(plan), grid_chart(plan)});
  charts.push_back(
      {"waits", ChartGroup::kChoice, "Why not fewer slots",
       "The line: requests that find all slots busy, if nobody had to wait. Diamonds: requests that wait, "
       "simulated; who waits makes others wait.",
       waits_chart(plan)});
  charts.push_back(
      {"knee", ChartGroup::kChoice, "Why not more slots",
       "With every adapter in host memory: the time that loads into slots take, what the slots are "
       "worth, and both together. Slots left of the floor are not asked.",
       knee_chart(plan)});
  charts.push_back(
      {"tradeoff", ChartGroup::kChoice, "What memory buys",
       "Each row of the slots' table, labelled max_loras/max_cpu_loras. Grey: another takes no more "
       "memory and no more time.",
       tradeoff_chart(plan)});
  charts.push_back(
      {"pareto", ChartGroup::kChoice, "What money buys", pareto_caption(plan), pareto_chart(plan)});
  charts.push_back(
      {"what-if", ChartGroup::kChoice, "What breaks it",
       "The p99 delay from slots and loads at the chosen sizes, from today's traffic (the dotted line) "
       "to the changed one.",
       what_if_chart(plan)});
}

void add_delays(std::vector<ReportChart>& charts, const Plan& plan) {
  charts.push_back(
      {"delays", ChartGroup::kDelays, "Where the time goes", delays_caption(plan), delays_chart(plan)});
  charts.push_back({"load-times", ChartGroup::kDelays, "How long adapters take", load_times_caption(plan),
                    load_times_chart(plan)});
  for (const auto& [id, title, served] :
       {std::tuple("worst-adapters", "Adapters that wait longest", &plan.charts.adapters),
        std::tuple("worst-tenants", "Tenants that wait longest", &plan.charts.tenants)})
    charts.push_back(
        {id, ChartGroup::kDelays, title, worst_caption(plan, *served), worst_chart(plan, *served)});
}

void add_policies(std::vector<ReportChart>& charts, const Plan& plan) {
  charts.push_back(
      {"curves", ChartGroup::kPolicy, "Misses by policy and size", curves_caption(plan), curves_chart(plan)});
  charts.push_back(
      {"gap", ChartGroup::kPolicy, "What another policy would close",
       "Of the gap from LRU's misses to Belady's, at the chosen sizes. Left of zero: worse than LRU.",
       gap_chart(plan)});
  charts.push_back(
      {"bytes", ChartGroup::kPolicy, "Bytes loaded by host memory", bytes_caption(plan), bytes_chart(plan)});
}

void add_traffic(std::vector<ReportChart>& charts, const Plan& plan) {
  charts.push_back({"served", ChartGroup::kTraffic, "Where uses find their adapter",
                    "At the chosen sizes, over the trace, which starts cold." + regimes_caption(plan),
                    served_chart(plan)});
  charts.push_back(
      {"active", ChartGroup::kTraffic, "Adapters in use at once",
       fmt::format("As arriving requests find it, their own included: median {}, p99 {}, p99.9 {}, at "
                   "most {}.",
                   plan.active.p50, plan.active.p99, plan.active.p999, plan.active.max),
       active_chart(plan)});
  charts.push_back(
      {"distances", ChartGroup::kTraffic, "Reuse distances",
       fmt::format("Distinct adapters used since the last use of the same one, coloured by where LRU of "
                   "the chosen sizes finds it. First uses ({} of uses) have no distance and are not "
                   "shown.",
                   share_text(plan.adapters, plan.uses)),
       distances_chart(plan)});
  charts.push_back({"distance-map", ChartGroup::kTraffic, "Reuse distances over time",
                    distance_map_caption(plan), distance_map_chart(plan)});
  charts.push_back(
      {"working-set", ChartGroup::kTraffic, "Working set over time",
       (plan.span_s > 0 ? "Distinct adapters used in each window of time." + regimes_caption(plan)
                        : "Distinct adapters in each stretch of uses; the trace has no times."),
       working_set_chart(plan)});
  charts.push_back(
      {"popularity", ChartGroup::kTraffic, "Popularity", popularity_caption(plan), popularity_chart(plan)});
}

}  // namespace

std::vector<ReportChart> report_charts(const Plan& plan) {
  std::vector<ReportChart> charts;
  add_choice(charts, plan);
  add_delays(charts, plan);
  add_policies(charts, plan);
  add_traffic(charts, plan);
  charts.push_back({"calibration", ChartGroup::kTrust, "Predicted and measured", calibration_caption(plan),
                    calibration_chart(plan)});
  std::erase_if(charts, [](const ReportChart& chart) { return chart.spec.empty(); });
  return charts;
}

}  // namespace loracle::detail
