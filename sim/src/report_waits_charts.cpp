#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "plan_format.hpp"
#include "plan_tables.hpp"
#include "report_charts.hpp"
#include "report_spec.hpp"

namespace loracle::detail {
namespace {

/// Slots at which hardly anybody waits any more, and beyond the choice: the end of the axis.
std::uint32_t last_slots(const Plan& plan) {
  const auto largest = static_cast<std::uint32_t>(plan.activity.waits_at.size());
  const std::uint32_t shown = std::max({plan.chosen.max_loras * 2, std::min(largest, plan.slots_floor * 2),
                                        plan.current.known ? plan.current.row.cell.max_loras : 0U, 4U});
  return std::min(shown, std::max(4U, static_cast<std::uint32_t>(plan.adapters)));
}

}  // namespace

std::string waits_chart(const Plan& plan) {
  if (!plan.active.known) return {};
  const std::uint32_t last = last_slots(plan);
  const auto requests = static_cast<double>(plan.activity.requests);
  Json line = Json::array();
  double next = 1;
  for (std::uint32_t slots = 1; slots <= last; ++slots) {
    if (slots < next && slots != last) continue;
    next = slots * 1.02;
    line.push_back(
        Json{{"n", slots}, {"w", rounded(static_cast<double>(plan.activity.waits(slots)) / requests)}});
  }
  Json points = Json::array();
  for (const AdvisoryRow* row : slots_rows(plan)) {
    if (row->waited < 0 || row->cell.max_loras > last) continue;
    points.push_back(Json{{"n", row->cell.max_loras},
                          {"w", rounded(row->waited)},
                          {"t", fmt::format("{}: {} of requests wait; 99 % start within {}",
                                            counted(row->cell.max_loras, "slot"), share_text(row->waited),
                                            seconds_text(row->delay_p99_s))}});
  }
  Json spec = base(400);
  spec["data"] = Json::array({data_of("line", std::move(line)), data_of("points", std::move(points))});
  spec["scales"] =
      Json::array({scale_of("x", "log", 1, last, "width"), scale_of("y", "sqrt", 0, 1, "height")});
  Json y_axis = axis_of("left", "y", "share of requests", "~%", true);
  y_axis["values"] = Json::array({0.01, 0.05, 0.2, 0.5, 1});
  spec["axes"] = Json::array({size_axis("bottom", "x", "max_loras (GPU slots)", last, false), y_axis});
  Json& marks = spec["marks"];
  add_level_rule(marks, plan.max_wait_probability,
                 fmt::format("{} may wait", share_text(plan.max_wait_probability)), false);
  add_slots_rules(marks, plan, "x", last);
  marks.push_back(mark("line", "line",
                       Json{{"x", scaled("x", "n")},
                            {"y", scaled("y", "w")},
                            {"stroke", signal("blue")},
                            {"strokeWidth", value(2)}}));
  marks.push_back(mark("symbol", "points",
                       Json{{"x", scaled("x", "n")},
                            {"y", scaled("y", "w")},
                            {"fill", value(kDiskColour)},
                            {"shape", value("diamond")},
                            {"size", value(60)},
                            {"tooltip", signal("datum.t")}}));
  return text_of(spec);
}

std::string active_chart(const Plan& plan) {
  if (!plan.active.known) return {};
  constexpr std::size_t kBars = 160;
  const std::vector<std::uint64_t>& arrivals = plan.activity.arrivals_at;
  const std::size_t last = std::max<std::size_t>(arrivals.size(), plan.chosen.max_loras + 1);
  const std::size_t width = (last + kBars - 1) / kBars;
  Json bars = Json::array();
  double top = 0;
  for (std::size_t from = 0; from < arrivals.size(); from += width) {
    std::uint64_t requests = 0;
    const std::size_t to = std::min(from + width, arrivals.size());
    for (std::size_t n = from; n < to; ++n) requests += arrivals[n];
    if (requests == 0) continue;
    const double share = static_cast<double>(requests) / static_cast<double>(plan.activity.requests);
    top = std::max(top, share);
    bars.push_back(
        Json{{"x", static_cast<double>(from) - 0.5},
             {"X", static_cast<double>(to) - 0.5},
             {"y", rounded(share)},
             {"t", fmt::format("{}{} in use: {} of requests", from,
                               to - from > 1 ? fmt::format(" to {}", to - 1) : "", share_text(share))}});
  }
  Json spec = base(260);
  spec["data"].push_back(data_of("bars", std::move(bars)));
  spec["scales"] = Json::array({scale_of("x", "linear", -0.5, static_cast<double>(last) + 0.5, "width"),
                                scale_of("y", "linear", 0, top > 0 ? 1.25 * top : 1, "height")});
  spec["axes"] = Json::array({axis_of("bottom", "x", "distinct adapters in use at once", "d", false),
                              axis_of("left", "y", "share of arriving requests", "~%", true)});
  Json& marks = spec["marks"];
  marks.push_back(mark("rect", "bars",
                       Json{{"x", scaled("x", "x")},
                            {"x2", Json{{"scale", "x"}, {"field", "X"}, {"offset", -0.5}}},
                            {"y", scaled("y", "y")},
                            {"y2", at("y", 0)},
                            {"fill", signal("host")},
                            {"tooltip", signal("datum.t")}}));
  const double middle = static_cast<double>(last) / 2;
  add_size_rule(marks, "x", plan.active.p99, fmt::format("p99 {}", plan.active.p99), plan.active.p99 > middle,
                18);
  add_size_rule(marks, "x", plan.chosen.max_loras, fmt::format("max_loras {}", plan.chosen.max_loras),
                plan.chosen.max_loras > middle, 2);
  return text_of(spec);
}

std::string served_chart(const Plan& plan) {
  if (plan.served.size() < 2) return {};
  const bool timed = plan.span_s > 0;
  const double unit = time_unit(plan).seconds;
  constexpr std::array<std::string_view, 3> kNames = {"slot hit", "from host memory", "from disk"};
  Json points = Json::array();
  const double end =
      (timed ? plan.span_s : static_cast<double>(plan.requests_with_adapter)) / (timed ? unit : 1);
  const auto add = [&](double x, const StretchCounts& counts) {
    const double uses = std::max<double>(1, static_cast<double>(counts.uses));
    const double hits = static_cast<double>(counts.gpu_hits) / uses;
    const double host =
        hits + static_cast<double>(counts.uses - counts.gpu_hits -
                                   std::min(counts.disk_loads, counts.uses - counts.gpu_hits)) /
                   uses;
    const std::array<double, 4> levels = {0, hits, host, 1};
    for (std::size_t i = 0; i < kNames.size(); ++i)
      points.push_back(Json{
          {"x", rounded(x)}, {"y", rounded(levels[i])}, {"Y", rounded(levels[i + 1])}, {"c", kNames[i]}});
  };
  for (const ServedStretch& stretch : plan.served) add(stretch.begin / (timed ? unit : 1), stretch.counts);
  add(end, plan.served.back().counts);
  Json spec = base(260);
  spec["data"].push_back(data_of("points", std::move(points)));
  spec["scales"] = Json::array(
      {scale_of("x", "linear", 0, rounded(end), "width"), scale_of("y", "linear", 0, 1, "height"),
       ordinal_colours("c", Json(kNames), Json::array({signal("blue"), signal("host"), kDiskColour}))});
  spec["axes"] = Json::array({axis_of("bottom", "x", time_title(plan, "requests"), "~s", false),
                              axis_of("left", "y", "share of uses", "~%", false)});
  spec["legends"] = Json::array({legend_of("fill", "c")});
  const Json area = mark("area", "of",
                         Json{{"x", scaled("x", "x")},
                              {"y", scaled("y", "Y")},
                              {"y2", scaled("y", "y")},
                              {"interpolate", value("step-after")},
                              {"fill", scaled("c", "c")}});
  spec["marks"].push_back(
      Json{{"type", "group"},
           {"from", Json{{"facet", Json{{"name", "of"}, {"data", "points"}, {"groupby", "c"}}}}},
           {"marks", Json::array({area})}});
  add_regime_rules(spec["marks"], plan, timed ? unit : 1);
  return text_of(spec);
}

}  // namespace loracle::detail
