#include <fmt/format.h>

#include "plan_format.hpp"
#include "plan_tables.hpp"

namespace loracle::detail {
namespace {

ReportTable worst_table(const Plan& plan, const WorstServed& served, std::string_view one) {
  const double all = plan.charts.delays.delay_times.p99;
  ReportTable table;
  table.title = fmt::format("{}{}s that wait longest", static_cast<char>(one[0] - 'a' + 'A'), one.substr(1));
  table.note = fmt::format(
      "of {} the {} with the longest p99 delay, among those with {} or more; simulated "
      "at the chosen sizes",
      count_text(served.groups), served.worst.size(), counted(served.requests_min, "request"));
  table.header = {std::string(one), "requests",   "share of uses", "p99 delay",    "wait for a slot",
                  "GPU hit",        "disk loads", "evictions",     "beside others"};
  table.names_first = true;
  for (const ServedGroup& group : served.worst) {
    TableLine line;
    line.cells = {group.name,
                  count_text(group.requests),
                  share_text(group.uses, plan.uses),
                  seconds_text(group.delay_p99_s),
                  share_text(group.waited, group.requests),
                  share_text(group.gpu_hits, group.uses),
                  count_text(group.disk_loads),
                  share_text(group.evictions, served.evictions),
                  all > 0 ? fmt::format("{:.3g} times the p99 of all", group.delay_p99_s / all) : ""};
    table.lines.push_back(std::move(line));
  }
  return table;
}

}  // namespace

ReportTable worst_adapters_table(const Plan& plan) {
  return worst_table(plan, plan.charts.adapters, "adapter");
}

ReportTable worst_tenants_table(const Plan& plan) { return worst_table(plan, plan.charts.tenants, "tenant"); }

}  // namespace loracle::detail
