#include "report_charts.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <string_view>
#include <utility>
#include <vector>

#include "chart_data.hpp"
#include "plan_format.hpp"
#include "report_spec.hpp"

namespace loracle::detail {
namespace {

/// At most about `wanted` places of an axis, evenly spread in the logarithm, the ends and `keep` always.
std::vector<std::size_t> thinned(const std::vector<std::uint32_t>& sizes, std::size_t wanted,
                                 std::uint32_t keep) {
  std::vector<std::size_t> places;
  const double ratio =
      std::pow(static_cast<double>(sizes.back()) / sizes.front(), 1.0 / static_cast<double>(wanted));
  double next = sizes.front();
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    const bool must = i == 0 || i + 1 == sizes.size() || sizes[i] == keep;
    if (!must && sizes[i] < next) continue;
    places.push_back(i);
    next = std::max(next, sizes[i] * ratio * 0.999);
  }
  return places;
}

/// Edges half way, in the logarithm, between neighbours: cell i spans edges[i] .. edges[i + 1].
std::vector<double> edges_of(const std::vector<std::uint32_t>& sizes,
                             const std::vector<std::size_t>& places) {
  std::vector<double> edges;
  for (std::size_t i = 0; i + 1 < places.size(); ++i)
    edges.push_back(std::sqrt(static_cast<double>(sizes[places[i]]) * sizes[places[i + 1]]));
  const double first = sizes[places.front()];
  const double last = sizes[places.back()];
  edges.insert(edges.begin(), edges.empty() ? first / 1.3 : first * first / edges.front());
  edges.push_back(edges.size() == 1 ? last * 1.3 : last * last / edges.back());
  return edges;
}

double load_cost(const Plan& plan, const GridCell& cell) {
  const double host = per_use(plan, cell.host_to_device_loads - cell.disk_loads);
  return 100 * (host + kDiskWeight * excess_disk_loads(plan, cell));
}

bool over_memory(const Plan& plan, const GridCell& cell) {
  return cell.max_loras > plan.slots_limit || cell.max_cpu_loras > plan.host_limit;
}

/// Cells that are no answer. Where none is, only those that do not even fit.
bool faded(const Plan& plan, const GridCell& cell) {
  const bool below_floor = plan.verdict != PlanVerdict::kInfeasible && cell.max_loras < plan.slots_floor;
  return below_floor || over_memory(plan, cell);
}

/// The dearest cell that is not faded: the end of the colours.
double dearest(const Plan& plan) {
  double top = 0;
  for (const GridCell& cell : plan.grid.cells)
    if (cell.feasible && !faded(plan, cell)) top = std::max(top, load_cost(plan, cell));
  return top > 0 ? rounded(top) : 1;
}

Json grid_cells(const Plan& plan, const std::vector<std::size_t>& columns, const std::vector<double>& x,
                const std::vector<std::size_t>& rows, const std::vector<double>& y) {
  Json cells = Json::array();
  for (std::size_t r = 0; r < rows.size(); ++r) {
    for (std::size_t c = 0; c < columns.size(); ++c) {
      const GridCell& cell = plan.grid.at(rows[r], columns[c]);
      if (!cell.feasible) continue;
      const bool off = faded(plan, cell);
      const std::string tip = fmt::format(
          "max_loras {}, max_cpu_loras {}: GPU hit {}, disk beyond first uses {}{}", cell.max_loras,
          cell.max_cpu_loras, share_text(cell.gpu_hits, plan.uses), share_text(excess_disk_loads(plan, cell)),
          cell.max_loras < plan.slots_floor ? " - below the floor"
          : over_memory(plan, cell)         ? " - over a memory limit"
                                            : "");
      cells.push_back(Json{{"x", rounded(x[c])},
                           {"X", rounded(x[c + 1])},
                           {"y", rounded(y[r])},
                           {"Y", rounded(y[r + 1])},
                           {"v", rounded(load_cost(plan, cell))},
                           {"o", off ? 1 : 0},
                           {"t", tip}});
    }
  }
  return cells;
}

/// For each number of slots the least host memory that meets the target, as steps.
Json target_line(const Plan& plan, const std::vector<std::size_t>& columns, const std::vector<double>& x) {
  Json points = Json::array();
  const Grid& grid = plan.grid;
  for (std::size_t c = 0; c < columns.size(); ++c) {
    for (std::size_t r = 0; r < grid.max_cpu_loras.size(); ++r) {
      const GridCell& cell = grid.at(r, columns[c]);
      if (!cell.feasible || !meets_target(plan, cell)) continue;
      points.push_back(Json{{"x", x[c]}, {"y", cell.max_cpu_loras}});
      points.push_back(Json{{"x", x[c + 1]}, {"y", cell.max_cpu_loras}});
      break;
    }
  }
  return points;
}

/// Today's setting, at the edge of the map if it lies outside.
void add_today_ring(Json& marks, const Plan& plan, const std::vector<double>& x,
                    const std::vector<double>& y) {
  const GridCell& cell = plan.current.row.cell;
  for (const bool dark : {false, true})
    marks.push_back(Json{
        {"type", "symbol"},
        {"interactive", false},
        {"encode",
         Json{{"update", Json{{"x", at("x", std::clamp<double>(cell.max_loras, x.front(), x.back()))},
                              {"y", at("y", std::clamp<double>(cell.max_cpu_loras, y.front(), y.back()))},
                              {"shape", value("circle")},
                              {"size", value(130)},
                              {"stroke", value(dark ? "#111111" : "#ffffff")},
                              {"strokeWidth", value(dark ? 1.6 : 4.5)}}}}}});
}

}  // namespace

std::string grid_chart(const Plan& plan) {
  const auto columns = thinned(plan.grid.max_loras, 40, plan.chosen.max_loras);
  const auto rows = thinned(plan.grid.max_cpu_loras, 44, plan.chosen.max_cpu_loras);
  const auto x = edges_of(plan.grid.max_loras, columns);
  const auto y = edges_of(plan.grid.max_cpu_loras, rows);

  Json spec = base(400);
  spec["data"].push_back(Json{{"name", "cells"}, {"values", grid_cells(plan, columns, x, rows, y)}});
  spec["data"].push_back(Json{{"name", "target"}, {"values", target_line(plan, columns, x)}});
  spec["scales"] = Json::array(
      {Json{{"name", "x"}, {"type", "log"}, {"domain", {x.front(), x.back()}}, {"range", "width"}},
       Json{{"name", "y"}, {"type", "log"}, {"domain", {y.front(), y.back()}}, {"range", "height"}},
       Json{{"name", "v"},
            {"type", "sqrt"},
            {"domain", Json::array({0, dearest(plan)})},
            {"clamp", true},
            {"zero", true},
            {"range", Json{{"scheme", "viridis"}}}}});
  spec["axes"] =
      Json::array({size_axis("bottom", "x", "max_loras (GPU slots)", x.back(), false),
                   size_axis("left", "y", "max_cpu_loras (adapters in host memory)", y.back(), false)});
  spec["legends"] = Json::array({Json{{"fill", "v"},
                                      {"title", "weighted loads per 100 uses"},
                                      {"type", "gradient"},
                                      {"direction", "horizontal"},
                                      {"orient", "top"},
                                      {"gradientLength", 220},
                                      {"gradientThickness", 10},
                                      {"format", "~s"},
                                      {"tickCount", 4}}});
  Json& marks = spec["marks"];
  marks.push_back(Json{{"type", "rect"},
                       {"from", Json{{"data", "cells"}}},
                       {"encode", Json{{"update", Json{{"x", scaled("x", "x")},
                                                       {"x2", scaled("x", "X")},
                                                       {"y", scaled("y", "y")},
                                                       {"y2", scaled("y", "Y")},
                                                       {"fill", scaled("v", "v")},
                                                       {"stroke", scaled("v", "v")},
                                                       {"strokeWidth", value(0.4)},
                                                       {"opacity", signal("datum.o ? 0.22 : 1")},
                                                       {"tooltip", signal("datum.t")}}}}}});
  // Dark dashes on a light line: seen on every colour of the map.
  for (const bool dashes : {false, true}) {
    Json look = {{"x", scaled("x", "x")},
                 {"y", scaled("y", "y")},
                 {"stroke", value(dashes ? "#111111" : "#ffffff")},
                 {"strokeWidth", value(dashes ? 1.5 : 3.5)},
                 {"strokeOpacity", value(dashes ? 1.0 : 0.8)}};
    if (dashes) look["strokeDash"] = value(Json::array({6, 4}));
    marks.push_back(Json{{"type", "line"},
                         {"interactive", false},
                         {"from", Json{{"data", "target"}}},
                         {"encode", Json{{"update", std::move(look)}}}});
  }
  marks.push_back(
      Json{{"type", "symbol"},
           {"interactive", false},
           {"encode", Json{{"update", Json{{"x", at("x", plan.chosen.max_loras)},
                                           {"y", at("y", plan.chosen.max_cpu_loras)},
                                           {"shape", value("M0,-1L0.225,-0.309L0.951,-0.309L0.363,0.118"
                                                           "L0.588,0.809L0,0.382L-0.588,0.809L-0.363,0.118"
                                                           "L-0.951,-0.309L-0.225,-0.309Z")},
                                           {"size", value(420)},
                                           {"fill", value("#ffffff")},
                                           {"stroke", value("#111111")},
                                           {"strokeWidth", value(1.4)}}}}}});
  if (plan.current.known && !(plan.current.row.cell == plan.chosen)) add_today_ring(marks, plan, x, y);
  return text_of(spec);
}

std::string popularity_chart(const Plan& plan) {
  Json points = Json::array();
  for (const RankCount& rank : plan.popularity) {
    points.push_back(Json{{"r", rank.rank},
                          {"n", rank.uses},
                          {"t", fmt::format("rank {}: {} ({})", count_text(rank.rank),
                                            counted(rank.uses, "use"), share_text(rank.uses, plan.uses))}});
  }
  const double most = plan.popularity.empty() ? 2 : static_cast<double>(plan.popularity.front().uses);
  Json spec = base(260);
  spec["data"].push_back(Json{{"name", "points"}, {"values", std::move(points)}});
  spec["scales"] = Json::array({Json{{"name", "x"},
                                     {"type", "log"},
                                     {"domain", {1, std::max<std::uint64_t>(2, plan.adapters)}},
                                     {"range", "width"}},
                                Json{{"name", "y"},
                                     {"type", "log"},
                                     {"domain", {1, std::max(2.0, most)}},
                                     {"range", "height"},
                                     {"nice", true}}});
  spec["axes"] = Json::array({Json{{"orient", "bottom"},
                                   {"scale", "x"},
                                   {"title", "adapter, by popularity rank"},
                                   {"format", "~s"},
                                   {"values", decade_ticks(static_cast<double>(plan.adapters))},
                                   {"labelOverlap", "greedy"}},
                              Json{{"orient", "left"},
                                   {"scale", "y"},
                                   {"title", "uses"},
                                   {"format", "~s"},
                                   {"values", decade_ticks(most)},
                                   {"grid", true},
                                   {"labelOverlap", "greedy"}}});
  spec["marks"].push_back(Json{{"type", "line"},
                               {"from", Json{{"data", "points"}}},
                               {"encode", Json{{"update", Json{{"x", scaled("x", "r")},
                                                               {"y", scaled("y", "n")},
                                                               {"stroke", signal("blue")},
                                                               {"strokeWidth", value(1.6)}}}}}});
  spec["marks"].push_back(Json{{"type", "symbol"},
                               {"from", Json{{"data", "points"}}},
                               {"encode", Json{{"update", Json{{"x", scaled("x", "r")},
                                                               {"y", scaled("y", "n")},
                                                               {"fill", signal("blue")},
                                                               {"size", value(14)},
                                                               {"tooltip", signal("datum.t")}}}}}});
  if (!plan.charts.zipf) return text_of(spec);
  Json law = Json::array();
  const ZipfFit& fit = *plan.charts.zipf;
  const double first = zipf_uses(fit, 1);
  for (const auto rank : {1.0, static_cast<double>(fit.ranks)})
    law.push_back(Json{{"r", rank}, {"n", first * std::pow(rank, -fit.alpha)}});
  spec["data"].push_back(data_of("law", std::move(law)));
  Json line = mark("line", "law",
                   Json{{"x", scaled("x", "r")},
                        {"y", scaled("y", "n")},
                        {"stroke", signal("ink")},
                        {"strokeWidth", value(1.4)},
                        {"strokeDash", value(Json::array({6, 4}))}});
  line["clip"] = true;
  spec["marks"].push_back(std::move(line));
  return text_of(spec);
}

std::string popularity_caption(const Plan& plan) {
  constexpr double kAt95 = 1.96;
  constexpr double kCloseKs = 0.05;
  const std::uint64_t top = plan.popularity.empty() ? 0 : plan.popularity.front().uses;
  std::string text = fmt::format(
      "Uses of each adapter, the most used first; both axes logarithmic. The first has {} of all uses.",
      share_text(top, plan.uses));
  if (!plan.charts.zipf) return text;
  const ZipfFit& fit = *plan.charts.zipf;
  text += fmt::format(
      " Dashed: Zipf's law by maximum likelihood, alpha {:.3f} [{:.3f}, {:.3f}] (95 %, uses drawn one by "
      "one), "
      "KS {:.3f}. ",
      fit.alpha, std::max(0.0, fit.alpha - kAt95 * fit.alpha_se), fit.alpha + kAt95 * fit.alpha_se, fit.ks);
  if (fit.ks > kCloseKs)
    return text + "The law does not describe this trace: what a model of it says (what-if) is rough.";
  return text + (fit.alpha > 0.5
                     ? "The law fits, and few adapters have most uses: those are worth their slots."
                     : "The law fits, and uses are spread evenly: a cache that is smaller than the "
                       "set of adapters helps little.");
}

std::string distances_chart(const Plan& plan) {
  // Each bar is cut where a tier ends: LRU of n adapters hits exactly the uses whose distance is at most n.
  const auto hits_within = [&plan](std::uint64_t distance) {
    const std::uint64_t place = std::min<std::uint64_t>(distance, plan.lru_misses.size() - 1);
    return plan.lru_misses.front() - plan.lru_misses[place];
  };
  const std::array<std::pair<std::uint64_t, std::string_view>, 3> tiers = {
      std::pair<std::uint64_t, std::string_view>{plan.chosen.max_loras, "slot hit"},
      {plan.chosen.max_cpu_loras, "host hit"},
      {plan.adapters, "disk load"}};
  Json bars = Json::array();
  double top = 0;
  for (const DistanceBin& bin : plan.distances) {
    std::uint64_t from = bin.low - 1;
    double below = 0;
    for (const auto& [reach, name] : tiers) {
      const std::uint64_t to = std::min(bin.high, reach);
      if (to <= from) continue;
      const std::uint64_t uses = hits_within(to) - hits_within(from);
      const double share = per_use(plan, uses);
      bars.push_back(Json{{"x", static_cast<double>(bin.low) - (bin.low == 1 ? 0.3 : 0.5)},
                          {"X", static_cast<double>(bin.high) + 0.5},
                          {"y", below},
                          {"Y", below + share},
                          {"c", name},
                          {"t", fmt::format("distance {}{}: {} of uses, {}", bin.low,
                                            bin.low == bin.high ? "" : fmt::format(" to {}", bin.high),
                                            share_text(share), name)}});
      below += share;
      from = to;
    }
    top = std::max(top, below);
  }
  Json spec = base(260);
  spec["data"].push_back(Json{{"name", "bars"}, {"values", std::move(bars)}});
  const double last = static_cast<double>(plan.adapters) + 0.5;
  spec["scales"] =
      Json::array({Json{{"name", "x"}, {"type", "log"}, {"domain", {0.7, last}}, {"range", "width"}},
                   Json{{"name", "y"},
                        {"type", "linear"},
                        {"domain", {0, top > 0 ? top : 1}},
                        {"nice", true},
                        {"range", "height"}},
                   Json{{"name", "c"},
                        {"type", "ordinal"},
                        {"domain", {"slot hit", "host hit", "disk load"}},
                        {"range", Json::array({signal("blue"), signal("host"), kDiskColour})}}});
  spec["axes"] = Json::array(
      {size_axis("bottom", "x", "reuse distance, adapters", last, false), Json{{"orient", "left"},
                                                                               {"scale", "y"},
                                                                               {"title", "share of uses"},
                                                                               {"format", "~%"},
                                                                               {"tickCount", 5},
                                                                               {"grid", true}}});
  spec["legends"] = Json::array({Json{{"fill", "c"},
                                      {"orient", "top"},
                                      {"direction", "horizontal"},
                                      {"symbolType", "square"},
                                      {"symbolStrokeWidth", 0}}});
  spec["marks"].push_back(
      Json{{"type", "rect"},
           {"from", Json{{"data", "bars"}}},
           {"encode", Json{{"update", Json{{"x", scaled("x", "x")},
                                           {"x2", Json{{"scale", "x"}, {"field", "X"}, {"offset", -1}}},
                                           {"y", scaled("y", "y")},
                                           {"y2", scaled("y", "Y")},
                                           {"fill", scaled("c", "c")},
                                           {"tooltip", signal("datum.t")}}}}}});
  return text_of(spec);
}

std::string working_set_chart(const Plan& plan) {
  const bool timed = plan.span_s > 0;
  const double unit = time_unit(plan).seconds;
  Json points = Json::array();
  std::uint64_t most = 1;
  for (const WorkingSetPoint& point : plan.working_set) {
    most = std::max(most, point.distinct);
    points.push_back(
        Json{{"x", rounded(point.begin / unit)},
             {"n", point.distinct},
             {"t", fmt::format("{} in {}", counted(point.distinct, "adapter"), counted(point.uses, "use"))}});
  }
  // The step of the last window needs an end.
  const double end = static_cast<double>(plan.working_set.size()) * plan.window / unit;
  points.push_back(
      Json{{"x", rounded(end)}, {"n", plan.working_set.empty() ? 0 : plan.working_set.back().distinct}});

  Json spec = base(260);
  spec["data"].push_back(Json{{"name", "points"}, {"values", std::move(points)}});
  spec["scales"] = Json::array(
      {Json{{"name", "x"}, {"type", "linear"}, {"domain", {0, rounded(end)}}, {"range", "width"}},
       Json{{"name", "y"}, {"type", "linear"}, {"domain", {0, most}}, {"nice", true}, {"range", "height"}}});
  spec["axes"] = Json::array(
      {Json{{"orient", "bottom"},
            {"scale", "x"},
            {"title", time_title(plan, "uses")},
            {"format", "~s"},
            {"tickCount", 8},
            {"labelOverlap", "greedy"}},
       Json{{"orient", "left"},
            {"scale", "y"},
            {"title", timed ? fmt::format("distinct adapters per {}", seconds_text(plan.window))
                            : fmt::format("distinct adapters per {}",
                                          counted(static_cast<std::uint64_t>(plan.window), "use"))},
            {"format", "~s"},
            {"tickCount", 5},
            {"grid", true}}});
  const Json area = {{"x", scaled("x", "x")},    {"y", scaled("y", "n")},
                     {"y2", at("y", 0)},         {"interpolate", value("step-after")},
                     {"fill", signal("blue")},   {"fillOpacity", value(0.35)},
                     {"stroke", signal("blue")}, {"strokeWidth", value(1.2)}};
  spec["marks"].push_back(
      Json{{"type", "area"}, {"from", Json{{"data", "points"}}}, {"encode", Json{{"update", area}}}});
  // Regimes are found among requests; without times the axis counts uses, where they do not fit.
  if (timed) add_regime_rules(spec["marks"], plan, unit);
  const auto add_level = [&](std::uint32_t size, std::string_view label) {
    if (size <= 1.1 * static_cast<double>(most))
      add_level_rule(spec["marks"], size, fmt::format("{} {}", label, size), true);
  };
  add_level(plan.chosen.max_loras, "max_loras");
  if (plan.chosen.max_cpu_loras != plan.chosen.max_loras)
    add_level(plan.chosen.max_cpu_loras, "max_cpu_loras");
  return text_of(spec);
}

}  // namespace loracle::detail
