/// Misses by the size of a cache: by count for every policy, and by bytes for LRU.

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>
#include <vector>

#include "loracle/core/parse_bytes.hpp"
#include "plan_format.hpp"
#include "plan_sentences.hpp"
#include "report_charts.hpp"
#include "report_spec.hpp"

namespace loracle::detail {
namespace {

constexpr double kGiB = 1024.0 * 1024.0 * 1024.0;

/// What the chosen pair misses, simulated if it was, and how far that can be trusted.
void add_interval(Json& marks, const Plan& plan) {
  const Interval& interval = plan.certainty.misses;
  const Json x = at("x", plan.chosen.max_loras);
  if (interval.blocks > 0)
    marks.push_back(Json{{"type", "rule"},
                         {"encode", Json{{"update", Json{{"x", x},
                                                         {"y", at("y", interval.low)},
                                                         {"y2", at("y", interval.high)},
                                                         {"stroke", signal("ink")},
                                                         {"strokeWidth", value(5)},
                                                         {"strokeOpacity", value(0.45)}}}}}});
  const double misses = 1 - per_use(plan, served_at_choice(plan).gpu_hits);
  marks.push_back(Json{{"type", "symbol"},
                       {"encode", Json{{"update", Json{{"x", x},
                                                       {"y", at("y", misses)},
                                                       {"shape", value("diamond")},
                                                       {"size", value(90)},
                                                       {"fill", value(kGoodColour)},
                                                       {"stroke", signal("back")},
                                                       {"strokeWidth", value(1)}}}}}});
}

/// Today's sizes, where they are others than the chosen ones.
void add_today_rules(Json& marks, const Plan& plan, double last) {
  if (!plan.current.known) return;
  const GridCell& today = plan.current.row.cell;
  const auto add = [&](std::uint32_t size, std::string_view name, double y) {
    add_size_rule(marks, "x", size, fmt::format("today {}{}", name, size), size > std::sqrt(last), y);
  };
  if (today.max_loras == today.max_cpu_loras) {
    if (today.max_loras != plan.chosen.max_loras) add(today.max_loras, "both ", 34);
    return;
  }
  if (today.max_loras != plan.chosen.max_loras) add(today.max_loras, "slots ", 34);
  if (today.max_cpu_loras != plan.chosen.max_cpu_loras) add(today.max_cpu_loras, "host ", 50);
}

/// A ring on LRU's curve, where one more slot stops being worth its loads.
void add_knee(Json& marks, const Plan& plan) {
  const std::uint32_t knee = plan.charts.knee;
  if (knee == 0 || knee >= plan.lru_misses.size()) return;
  const bool is_left = knee > std::sqrt(static_cast<double>(plan.adapters));
  const Json x = at("x", knee);
  const Json y = at("y", per_use(plan, plan.lru_misses[knee]));
  marks.push_back(Json{{"type", "symbol"},
                       {"encode", Json{{"update", Json{{"x", x},
                                                       {"y", y},
                                                       {"shape", value("circle")},
                                                       {"size", value(150)},
                                                       {"fill", value("transparent")},
                                                       {"stroke", signal("ink")},
                                                       {"strokeWidth", value(2)}}}}}});
  marks.push_back(Json{{"type", "text"},
                       {"encode", Json{{"update", Json{{"x", x},
                                                       {"y", y},
                                                       {"dx", value(is_left ? -10 : 10)},
                                                       {"align", value(is_left ? "right" : "left")},
                                                       {"dy", value(is_left ? 16 : -8)},
                                                       {"text", value(fmt::format("knee {}", knee))},
                                                       {"fontSize", value(11.5)},
                                                       {"fill", signal("ink")}}}}}});
}

}  // namespace

std::string curves_chart(const Plan& plan) {
  const auto adapters = static_cast<double>(plan.adapters);
  Json points = Json::array();
  Json names = Json::array();
  Json colours = Json::array();
  std::size_t next_colour = 0;
  // LRU and Belady are what the others are compared with: drawn last, so on top.
  std::vector<PolicyCurve> curves = plan.curves;
  std::stable_partition(curves.begin(), curves.end(),
                        [](const PolicyCurve& c) { return c.policy != "lru" && c.policy != "belady"; });
  for (const PolicyCurve& curve : curves) {
    names.push_back(curve.policy);
    if (curve.policy == "lru") {
      colours.push_back(signal("blue"));
    } else if (curve.policy == "belady") {
      colours.push_back(signal("ink"));
    } else {
      colours.push_back(kColours[std::min(next_colour++, kColours.size() - 1)]);
    }
    for (std::size_t i = 0; i < plan.curve_entries.size(); ++i) {
      points.push_back(
          Json{{"p", curve.policy},
               {"n", plan.curve_entries[i]},
               {"m", rounded(per_use(plan, curve.misses[i]))},
               {"t", fmt::format("{}, {} adapters: {} misses", curve.policy, plan.curve_entries[i],
                                 share_text(curve.misses[i], plan.uses))}});
    }
  }
  Json spec = base(400);
  spec["data"].push_back(Json{{"name", "points"}, {"values", std::move(points)}});
  spec["scales"] = Json::array(
      {Json{{"name", "x"}, {"type", "log"}, {"domain", {1, std::max(2.0, adapters)}}, {"range", "width"}},
       Json{{"name", "y"}, {"type", "linear"}, {"domain", {0, 1}}, {"range", "height"}},
       Json{{"name", "c"}, {"type", "ordinal"}, {"domain", names}, {"range", colours}}});
  Json y_axis = {{"orient", "left"}, {"scale", "y"},   {"title", "misses, share of uses"},
                 {"format", ".0%"},  {"tickCount", 6}, {"grid", true}};
  spec["axes"] = Json::array(
      {size_axis("bottom", "x", "adapters held", std::max(2.0, adapters), false), std::move(y_axis)});
  spec["legends"] = Json::array({Json{{"stroke", "c"},
                                      {"orient", "top"},
                                      {"direction", "horizontal"},
                                      {"columns", signal("width < 330 ? 3 : 5")},
                                      {"symbolType", "stroke"},
                                      {"symbolSize", 160}}});
  Json& marks = spec["marks"];
  marks.push_back(Json{{"type", "rule"},
                       {"encode", Json{{"update", Json{{"x", value(0)},
                                                       {"x2", signal("width")},
                                                       {"y", at("y", per_use(plan, plan.adapters))},
                                                       {"stroke", signal("soft")},
                                                       {"strokeDash", value(Json::array({1, 3}))},
                                                       {"strokeWidth", value(1.4)}}}}}});
  marks.push_back(Json{{"type", "text"},
                       {"encode", Json{{"update", Json{{"x", value(5)},
                                                       {"y", at("y", per_use(plan, plan.adapters))},
                                                       {"dy", value(-4)},
                                                       {"text", value("first uses: no size removes them")},
                                                       {"baseline", value("bottom")},
                                                       {"fontSize", value(11.5)},
                                                       {"fill", signal("soft")}}}}}});
  add_chosen_rules(marks, plan, "x", adapters);
  add_today_rules(marks, plan, adapters);
  const Json line = {
      {"type", "line"},
      {"from", Json{{"data", "of"}}},
      {"encode", Json{{"update", Json{{"x", scaled("x", "n")},
                                      {"y", scaled("y", "m")},
                                      {"stroke", scaled("c", "p")},
                                      {"strokeWidth",
                                       signal("datum.p === 'lru' ? 2.8 : datum.p === 'belady' ? 2.2 : 1.5")},
                                      {"strokeDash", signal("datum.p === 'belady' ? [6, 4] : [1, 0]")}}}}}};
  const Json dots = {{"type", "symbol"},
                     {"from", Json{{"data", "of"}}},
                     {"encode", Json{{"update", Json{{"x", scaled("x", "n")},
                                                     {"y", scaled("y", "m")},
                                                     {"fill", scaled("c", "p")},
                                                     {"size", value(18)},
                                                     {"tooltip", signal("datum.t")}}}}}};
  marks.push_back(Json{{"type", "group"},
                       {"from", Json{{"facet", Json{{"name", "of"}, {"data", "points"}, {"groupby", "p"}}}}},
                       {"marks", Json::array({line, dots})}});
  add_knee(marks, plan);
  add_interval(marks, plan);
  return text_of(spec);
}

std::string curves_caption(const Plan& plan) {
  std::string text =
      "Each policy ruling one cache alone. Dashed is Belady, which knows the future: no policy that takes in "
      "every adapter can be below it. Where the curves lie together, the policy does not matter; where they "
      "are steep, the size does.";
  const bool is_for_waits = plan.chosen_from == SlotsBound::kQuantile ||
                            plan.chosen_from == SlotsBound::kMean ||
                            plan.chosen_from == SlotsBound::kSimulation;
  if (plan.charts.knee > 0)
    text += fmt::format(" The ring is the knee: beyond {} another one costs more than the loads it saves{}.",
                        counted(plan.charts.knee, "slot"),
                        plan.chosen.max_loras <= plan.charts.knee ? ""
                        : is_for_waits ? "; the choice lies beyond it, for requests "
                                         "would wait for a slot"
                                       : "; the choice lies beyond it");
  const Interval& interval = plan.certainty.misses;
  text += fmt::format(" The diamond: what the chosen slots miss{}", is_simulated(plan) ? ", simulated" : "");
  if (interval.confidence > 0)
    return text + fmt::format("; the bar its {:.0f} % interval: a curve that lies within it is no better.",
                              100 * interval.confidence);
  if (interval.blocks > 0)
    return text + "; the bar the range of equal parts of the trace, which is too short for an interval.";
  return text + ".";
}

std::string bytes_chart(const Plan& plan) {
  const std::vector<ByteCurvePoint>& curve = plan.charts.bytes;
  if (curve.size() < 2 || plan.bytes_used.value == 0) return {};
  const auto share = [&plan](Bytes bytes) {
    return static_cast<double>(bytes.value) / static_cast<double>(plan.bytes_used.value);
  };
  Json points = Json::array();
  for (const ByteCurvePoint& point : curve)
    points.push_back(Json{{"x", rounded(static_cast<double>(point.capacity.value) / kGiB)},
                          {"y", rounded(share(point.bytes_missed))},
                          {"t", fmt::format("{}: loads {} of the bytes used", human_bytes(point.capacity),
                                            share_text(share(point.bytes_missed)))}});
  const ByteGap& gap = plan.host_byte_gap;
  const auto capacity = static_cast<double>(gap.capacity.value) / kGiB;
  Json names = {"LRU"};
  Json colours = Json::array({signal("blue")});
  Json dots = Json::array();
  const auto add_dot = [&](std::string name, Json colour, Bytes loaded) {
    dots.push_back(Json{{"y", rounded(share(loaded))}, {"c", name}});
    names.push_back(std::move(name));
    colours.push_back(std::move(colour));
  };
  if (gap.known) {
    if (gap.best_policy != "lru") add_dot("best: " + gap.best_policy, kGoodColour, gap.best);
    add_dot("bound for every policy", signal("ink"), gap.bound);
  }
  const double first = static_cast<double>(curve.front().capacity.value) / kGiB;
  const double last = static_cast<double>(curve.back().capacity.value) / kGiB;
  Json spec = base(300);
  spec["data"] = Json::array({data_of("points", std::move(points)), data_of("dots", std::move(dots))});
  spec["scales"] = Json::array({scale_of("x", "log", rounded(first), rounded(last), "width"),
                                scale_of("y", "linear", 0, 1, "height"),
                                ordinal_colours("c", std::move(names), std::move(colours))});
  spec["axes"] = Json::array({axis_of("bottom", "x", "host memory for adapters, GiB", "~r", false),
                              axis_of("left", "y", "bytes loaded, share of bytes used", "~%", true)});
  spec["legends"] = Json::array({legend_of("fill", "c")});
  Json& marks = spec["marks"];
  add_level_rule(marks, share(plan.device_byte_gap.first_uses), "first uses: no size removes them", false);
  if (gap.known)
    add_size_rule(marks, "x", capacity, fmt::format("max_cpu_loras {}", plan.chosen.max_cpu_loras),
                  capacity > std::sqrt(first * last), 2);
  marks.push_back(mark("line", "points",
                       Json{{"x", scaled("x", "x")},
                            {"y", scaled("y", "y")},
                            {"stroke", signal("blue")},
                            {"strokeWidth", value(2.4)}}));
  marks.push_back(mark("symbol", "points",
                       Json{{"x", scaled("x", "x")},
                            {"y", scaled("y", "y")},
                            {"fill", signal("blue")},
                            {"size", value(18)},
                            {"tooltip", signal("datum.t")}}));
  if (gap.known)
    marks.push_back(mark("symbol", "dots",
                         Json{{"x", at("x", capacity)},
                              {"y", scaled("y", "y")},
                              {"fill", scaled("c", "c")},
                              {"shape", value("diamond")},
                              {"size", value(90)}}));
  return text_of(spec);
}

std::string bytes_caption(const Plan& plan) {
  std::string text =
      "LRU in host memory that counts bytes: how many of the bytes that uses ask for are loaded from disk. ";
  const ByteGap& gap = plan.host_byte_gap;
  if (!gap.known)
    return text + "At the chosen max_cpu_loras all adapters fit, and only first uses are loaded.";
  const auto& curve = plan.charts.bytes;
  const auto at_twice = std::find_if(curve.begin(), curve.end(), [&gap](const ByteCurvePoint& point) {
    return point.capacity.value >= 2 * gap.capacity.value;
  });
  const Bytes twice = at_twice == curve.end() ? gap.first_uses : at_twice->bytes_missed;
  const double saved = static_cast<double>(gap.lru.value - std::min(gap.lru, twice).value) /
                       static_cast<double>(plan.bytes_used.value);
  return text +
         fmt::format(
             "In {}, which the chosen max_cpu_loras adapters take at most, that is {}, and at least {} "
             "whatever the policy. Twice the memory would save {} of the bytes used: {}.",
             human_bytes(gap.capacity), share_text(gap.lru.value, plan.bytes_used.value),
             share_text(gap.bound.value, plan.bytes_used.value), share_text(saved),
             saved < 0.01 ? "the curve is flat there" : "there is still something to gain");
}

}  // namespace loracle::detail
