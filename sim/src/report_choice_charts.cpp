#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "loracle/sim/advice.hpp"
#include "plan_format.hpp"
#include "plan_sentences.hpp"
#include "report_charts.hpp"
#include "report_spec.hpp"

namespace loracle::detail {
namespace {

/// Bars from left to right, one a line of the data `bars`: from `a` to `b`, coloured by `c`.
Json bars_mark(double height) {
  return mark("rect", "bars",
              Json{{"y", scaled("y", "k")},
                   {"height", Json{{"scale", "y"}, {"band", height}}},
                   {"x", scaled("x", "a")},
                   {"x2", scaled("x", "b")},
                   {"fill", scaled("c", "c")},
                   {"tooltip", signal("datum.t")}});
}

Json band_scale(Json names) {
  return Json{
      {"name", "y"}, {"type", "band"}, {"domain", std::move(names)}, {"range", "height"}, {"padding", 0.25}};
}

}  // namespace

std::string knee_chart(const Plan& plan) {
  const bool timed = plan.span_s > 0;
  constexpr std::array<std::string_view, 3> kNames = {"both", "loads into slots", "worth of the slots"};
  const std::uint32_t last = std::min(plan.grid.max_loras.back(), std::max(16U, 4 * plan.chosen.max_loras));
  Json points = Json::array();
  double top = 0;
  for (std::size_t g = 0; g < plan.grid.max_loras.size() && plan.grid.max_loras[g] <= last; ++g) {
    const GridCell& cell = plan.grid.at(plan.grid.max_cpu_loras.size() - 1, g);
    if (!cell.feasible || cell.refused > 0) continue;
    const double both = running_cost(plan, static_cast<double>(cell.host_to_device_loads), cell.max_loras);
    const double slots = running_cost(plan, 0, cell.max_loras);
    top = std::max(top, both);
    for (const auto& [name, cost] :
         {std::pair(kNames[0], both), {kNames[1], both - slots}, {kNames[2], slots}})
      points.push_back(Json{{"n", cell.max_loras}, {"v", rounded(cost)}, {"c", name}});
  }
  if (points.size() < 6) return {};
  Json spec = base(260);
  spec["data"].push_back(data_of("points", std::move(points)));
  spec["scales"] = Json::array(
      {scale_of("x", "log", 1, last, "width"), scale_of("y", "linear", 0, top, "height"),
       ordinal_colours("c", Json(kNames), Json::array({signal("ink"), signal("blue"), kDiskColour}))});
  spec["axes"] = Json::array({size_axis("bottom", "x", "max_loras (GPU slots)", last, false),
                              axis_of("left", "y", timed ? "share of the server's time" : "loads per use",
                                      timed ? "~%" : "~g", true)});
  spec["legends"] = Json::array({legend_of("stroke", "c")});
  add_slots_rules(spec["marks"], plan, "x", last);
  const Json line = mark("line", "of",
                         Json{{"x", scaled("x", "n")},
                              {"y", scaled("y", "v")},
                              {"stroke", scaled("c", "c")},
                              {"strokeWidth", signal("datum.c === 'both' ? 2.6 : 1.6")},
                              {"strokeDash", signal("datum.c === 'worth of the slots' ? [5, 3] : [1, 0]")}});
  spec["marks"].push_back(
      Json{{"type", "group"},
           {"from", Json{{"facet", Json{{"name", "of"}, {"data", "points"}, {"groupby", "c"}}}}},
           {"marks", Json::array({line})}});
  return text_of(spec);
}

std::string what_if_chart(const Plan& plan) {
  if (plan.what_ifs.empty() || !plan.what_ifs.front().fits) return {};
  constexpr std::array<std::string_view, 2> kKinds = {"holds", "does not hold"};
  const double now = plan.what_ifs.front().delay_p99_s;
  Json names = Json::array();
  Json bars = Json::array();
  double slowest = now;
  for (std::size_t i = 1; i < plan.what_ifs.size(); ++i) {
    const WhatIf& row = plan.what_ifs[i];
    names.push_back(row.change);
    const bool holds = row.fits && !row.too_many_wait && row.meets_target;
    const double then = row.fits ? row.delay_p99_s : now;
    slowest = std::max(slowest, then);
    bars.push_back(
        Json{{"k", row.change},
             {"a", rounded(now)},
             {"b", rounded(then)},
             {"c", kKinds[holds ? 0 : 1]},
             {"l", row.fits ? fmt::format("{}, {} wait", seconds_text(then), share_text(row.waited))
                            : note_text(plan, row)},
             {"t", fmt::format("{}: {}", row.change, note_text(plan, row))}});
  }
  Json spec = base(34 * static_cast<double>(names.size()) + 40);
  spec["data"].push_back(data_of("bars", std::move(bars)));
  spec["scales"] = Json::array(
      {scale_of("x", "linear", 0, slowest > 0 ? 2.2 * slowest : 1, "width"), band_scale(std::move(names)),
       ordinal_colours("c", Json(kKinds), Json::array({signal("blue"), kDiskColour}))});
  spec["axes"] =
      Json::array({axis_of("bottom", "x", "p99 delay, seconds", "~r", true),
                   Json{{"orient", "left"}, {"scale", "y"}, {"title", "change"}, {"labelLimit", 170}}});
  spec["legends"] = Json::array({legend_of("fill", "c")});
  spec["marks"].push_back(bars_mark(1));
  // A bar without a length is seen all the same.
  spec["marks"].push_back(mark("symbol", "bars",
                               Json{{"y", Json{{"scale", "y"}, {"field", "k"}, {"band", 0.5}}},
                                    {"x", scaled("x", "b")},
                                    {"fill", scaled("c", "c")},
                                    {"shape", signal("datum.c === 'holds' ? 'circle' : 'cross'")},
                                    {"size", value(90)}}));
  spec["marks"].push_back(mark("text", "bars",
                               Json{{"y", Json{{"scale", "y"}, {"field", "k"}, {"band", 0.5}}},
                                    {"x", signal("scale('x', max(datum.a, datum.b))")},
                                    {"dx", value(9)},
                                    {"baseline", value("middle")},
                                    {"text", signal("width < 300 ? '' : datum.l")},
                                    {"fontSize", value(11)},
                                    {"fill", signal("ink")}}));
  add_size_rule(spec["marks"], "x", now, "", false, 0);
  return text_of(spec);
}

std::string gap_chart(const Plan& plan) {
  constexpr std::array<std::string_view, 2> kTiers = {"slots", "host memory"};
  Json names = Json::array();
  Json bars = Json::array();
  double lowest = 0;
  double highest = 0;
  for (const PolicyRow& row : plan.policies) {
    if (row.clairvoyant || row.policy == "lru") continue;
    names.push_back(row.policy);
    for (const bool on_device : {true, false}) {
      const PolicyGap& gap = on_device ? plan.device_gap : plan.host_gap;
      if (gap.lru <= gap.belady) continue;
      const auto missed = static_cast<double>(on_device ? row.device_misses : row.host_misses);
      const double closed =
          (static_cast<double>(gap.lru) - missed) / static_cast<double>(gap.lru - gap.belady);
      lowest = std::min(lowest, closed);
      highest = std::max(highest, closed);
      bars.push_back(
          Json{{"k", row.policy},
               {"a", 0},
               {"b", rounded(std::clamp(closed, -1.0, 1.2))},
               {"c", kTiers[on_device ? 0 : 1]},
               {"o", on_device ? 0 : 1},
               {"t", fmt::format("{} in {}: {} of the gap", row.policy, kTiers[on_device ? 0 : 1],
                                 closed_text(gap, on_device ? row.device_misses : row.host_misses))}});
    }
  }
  if (bars.empty()) return {};
  Json spec = base(std::max(360.0, 26 * static_cast<double>(names.size()) + 40));
  spec["data"].push_back(data_of("bars", std::move(bars)));
  spec["scales"] = Json::array(
      {scale_of("x", "linear", std::max(-1.0, std::min(lowest, 0.0)), std::clamp(highest, 1.0, 1.2), "width"),
       band_scale(std::move(names)),
       ordinal_colours("c", Json(kTiers), Json::array({signal("blue"), signal("host")}))});
  spec["axes"] = Json::array({axis_of("bottom", "x", "of the gap, LRU to Belady", "~%", true),
                              Json{{"orient", "left"}, {"scale", "y"}, {"title", "policy"}}});
  spec["legends"] = Json::array({legend_of("fill", "c")});
  Json bar = bars_mark(0.5);
  bar["encode"]["update"]["y"] = signal("scale('y', datum.k) + datum.o * bandwidth('y') / 2");
  spec["marks"].push_back(std::move(bar));
  return text_of(spec);
}

}  // namespace loracle::detail
