#include "report_spec.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

namespace loracle::detail {

Json signal(std::string_view expression) { return Json{{"signal", expression}}; }
Json value(Json of) { return Json{{"value", std::move(of)}}; }
Json scaled(std::string_view scale, std::string_view field) {
  return Json{{"scale", scale}, {"field", field}};
}
Json at(std::string_view scale, double number) { return Json{{"scale", scale}, {"value", number}}; }

std::string text_of(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

double per_use(const Plan& plan, std::uint64_t count) {
  return plan.uses == 0 ? 0.0 : static_cast<double>(count) / static_cast<double>(plan.uses);
}

double rounded(double number) {
  if (number == 0) return 0;
  const double unit = std::pow(10.0, std::floor(std::log10(std::abs(number))) - 3);
  return std::round(number / unit) * unit;
}

Json base(double height) {
  return Json{{"padding", 2},
              {"height", height},
              {"autosize", Json{{"type", "fit-x"}, {"contains", "padding"}}},
              {"signals", Json::array()},
              {"data", Json::array()},
              {"scales", Json::array()},
              {"axes", Json::array()},
              {"marks", Json::array()}};
}

Json data_of(std::string_view name, Json values) {
  return Json{{"name", name}, {"values", std::move(values)}};
}

Json mark(std::string_view type, std::string_view data, Json update) {
  return Json{
      {"type", type}, {"from", Json{{"data", data}}}, {"encode", Json{{"update", std::move(update)}}}};
}

Json scale_of(std::string_view name, std::string_view type, double low, double high, std::string_view range) {
  return Json{{"name", name}, {"type", type}, {"domain", Json::array({low, high})}, {"range", range}};
}

Json ordinal_colours(std::string_view name, Json domain, Json range) {
  return Json{
      {"name", name}, {"type", "ordinal"}, {"domain", std::move(domain)}, {"range", std::move(range)}};
}

Json axis_of(std::string_view orient, std::string_view scale, std::string_view title, std::string_view format,
             bool grid) {
  Json axis{{"orient", orient}, {"scale", scale}, {"title", title},          {"format", format},
            {"tickCount", 6},   {"grid", grid},   {"labelOverlap", "greedy"}};
  if (orient == "bottom") axis["labelFlush"] = 12;  // px; else a last label sticks out of a narrow page
  return axis;
}

Json legend_of(std::string_view property, std::string_view scale) {
  return Json{{property, scale},
              {"orient", "top"},
              {"direction", "horizontal"},
              {"symbolType", property == "stroke" ? "stroke" : "square"},
              {"columns", signal("width < 260 ? 1 : width < 360 ? 2 : 4")},
              {"symbolStrokeWidth", property == "stroke" ? 3 : 0}};
}

Json power_ticks(double last) {
  Json ticks = Json::array();
  for (double tick = 1; tick <= last; tick *= last > 2048 ? 4 : 2) ticks.push_back(tick);
  return ticks;
}

Json decade_ticks(double last) {
  Json ticks = Json::array();
  for (double tick = 1; tick <= last; tick *= 10) {
    ticks.push_back(tick);
    ticks.push_back(tick * 3);
  }
  return ticks;
}

Json size_axis(std::string_view orient, std::string_view scale, std::string_view title, double last,
               bool grid) {
  return Json{{"orient", orient}, {"scale", scale},           {"title", title}, {"values", power_ticks(last)},
              {"format", "d"},    {"labelOverlap", "greedy"}, {"grid", grid}};
}

void add_size_rule(Json& marks, std::string_view scale, double size, std::string_view label, bool left,
                   double y) {
  marks.push_back(Json{{"type", "rule"},
                       {"encode", Json{{"update", Json{{"x", at(scale, size)},
                                                       {"y", value(0)},
                                                       {"y2", signal("height")},
                                                       {"stroke", signal("ink")},
                                                       {"strokeOpacity", value(0.55)},
                                                       {"strokeDash", value(Json::array({2, 3}))}}}}}});
  marks.push_back(Json{{"type", "text"},
                       {"encode", Json{{"update", Json{{"x", at(scale, size)},
                                                       {"dx", value(left ? -5 : 5)},
                                                       {"y", value(y)},
                                                       {"text", value(label)},
                                                       {"align", value(left ? "right" : "left")},
                                                       {"baseline", value("top")},
                                                       {"fontSize", value(11.5)},
                                                       {"fill", signal("ink")}}}}}});
}

void add_chosen_rules(Json& marks, const Plan& plan, std::string_view scale, double last) {
  const double slots = plan.chosen.max_loras;
  const double host = plan.chosen.max_cpu_loras;
  if (plan.chosen.max_loras == plan.chosen.max_cpu_loras) {
    add_size_rule(marks, scale, slots, fmt::format("both {}", slots), slots > std::sqrt(last), 2);
    return;
  }
  add_size_rule(marks, scale, slots, fmt::format("max_loras {}", slots), slots > std::sqrt(last), 2);
  add_size_rule(marks, scale, host, fmt::format("max_cpu_loras {}", host), host > std::sqrt(last), 18);
}

void add_level_rule(Json& marks, double level, std::string_view label, bool right) {
  marks.push_back(Json{{"type", "rule"},
                       {"encode", Json{{"update", Json{{"x", value(0)},
                                                       {"x2", signal("width")},
                                                       {"y", at("y", level)},
                                                       {"stroke", signal("ink")},
                                                       {"strokeOpacity", value(0.55)},
                                                       {"strokeDash", value(Json::array({2, 3}))}}}}}});
  marks.push_back(Json{{"type", "text"},
                       {"encode", Json{{"update", Json{{"x", right ? signal("width") : value(5)},
                                                       {"y", at("y", level)},
                                                       {"dy", value(-3)},
                                                       {"text", value(label)},
                                                       {"align", value(right ? "right" : "left")},
                                                       {"baseline", value("bottom")},
                                                       {"fontSize", value(11.5)},
                                                       {"fill", signal("ink")}}}}}});
}

void add_slots_rules(Json& marks, const Plan& plan, std::string_view scale, double last) {
  const double slots = plan.chosen.max_loras;
  add_size_rule(marks, scale, slots, fmt::format("chosen {}", slots), slots > std::sqrt(last), 2);
  if (!plan.current.known || plan.current.row.cell.max_loras == plan.chosen.max_loras) return;
  const double today = plan.current.row.cell.max_loras;
  add_size_rule(marks, scale, today, fmt::format("today {}", today), today > std::sqrt(last), 18);
}

void add_regime_rules(Json& marks, const Plan& plan, double unit) {
  constexpr std::size_t kManyRegimes = 60;  // lines that would hide what they mark
  if (plan.certainty.changes.empty()) return;
  Json changes = Json::array();
  for (const double begin : plan.certainty.changes) changes.push_back(Json{{"x", rounded(begin / unit)}});
  marks.push_back(Json{
      {"type", "group"},
      {"data", Json::array({data_of("changes", std::move(changes))})},
      {"marks", Json::array({mark(
                    "rule", "changes",
                    Json{{"x", scaled("x", "x")},
                         {"y", value(0)},
                         {"y2", signal("height")},
                         {"stroke", signal("ink")},
                         {"strokeOpacity", value(plan.certainty.changes.size() > kManyRegimes ? 0.12 : 0.3)},
                         {"strokeWidth", value(1)}})})}});
}

TimeUnit time_unit(const Plan& plan) {
  if (!(plan.span_s > 300)) return {};
  if (plan.span_s > 3 * 86400) return {86400, "days"};
  return plan.span_s > 3 * 3600 ? TimeUnit{3600, "h"} : TimeUnit{60, "min"};
}

std::string time_title(const Plan& plan, std::string_view else_title) {
  if (!(plan.span_s > 0)) return std::string(else_title);
  return fmt::format("time from the first request, {}", time_unit(plan).name);
}

}  // namespace loracle::detail
