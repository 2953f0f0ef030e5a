#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

#include "plan_format.hpp"
#include "report_charts.hpp"
#include "report_spec.hpp"

namespace loracle::detail {
namespace {

constexpr std::string_view kFirst = "first use";

std::string bin_name(const DistanceBin& bin) {
  return bin.low == bin.high ? std::to_string(bin.low) : fmt::format("{}-{}", bin.low, bin.high);
}

/// A tier's size as a line across the rows, where LRU of that size ends; its name above or below.
void add_size_line(Json& marks, const Plan& plan, std::uint32_t size, std::string_view label, bool above) {
  const auto bin = std::find_if(plan.distances.begin(), plan.distances.end(),
                                [size](const DistanceBin& one) { return size <= one.high; });
  if (bin == plan.distances.end()) return;  // every reuse hits
  const double part =
      static_cast<double>(size - bin->low + 1) / static_cast<double>(bin->high - bin->low + 1);
  const Json y = signal(fmt::format("scale('y', '{}') + bandwidth('y') * {:.4g}", bin_name(*bin), 1 - part));
  // Light below dark: seen on every colour of the map.
  for (const bool dark : {false, true})
    marks.push_back(Json{
        {"type", "rule"},
        {"interactive", false},
        {"encode",
         Json{{"update", Json{{"x", value(0)},
                              {"x2", signal("width")},
                              {"y", y},
                              {"stroke", value(dark ? "#111111" : "#ffffff")},
                              {"strokeWidth", value(dark ? 1.2 : 3)},
                              {"strokeDash", value(dark ? Json::array({5, 4}) : Json::array({1, 0}))}}}}}});
  // The name in ink on a rim of the page's colour.
  for (const double rim : {4.0, 0.0})
    marks.push_back(Json{{"type", "text"},
                         {"interactive", false},
                         {"encode", Json{{"update", Json{{"x", signal("width")},
                                                         {"dx", value(-5)},
                                                         {"y", y},
                                                         {"dy", value(above ? -4 : 4)},
                                                         {"text", value(fmt::format("{} {}", label, size))},
                                                         {"align", value("right")},
                                                         {"baseline", value(above ? "bottom" : "top")},
                                                         {"fontSize", value(11.5)},
                                                         {"fill", signal("ink")},
                                                         {"stroke", signal("back")},
                                                         {"strokeWidth", value(rim)}}}}}});
}

}  // namespace

std::string distance_map_chart(const Plan& plan) {
  const DistanceMap& map = plan.charts.distances;
  if (map.stretches() < 2) return {};
  const std::size_t bins = plan.distances.size();
  const double unit = plan.span_s > 0 ? time_unit(plan).seconds : 1;
  Json names = {kFirst};
  for (std::size_t bin = bins; bin-- > 0;) names.push_back(bin_name(plan.distances[bin]));
  Json cells = Json::array();
  double top = 0;
  for (std::size_t stretch = 0; stretch < map.stretches(); ++stretch) {
    const std::uint64_t* const counts = map.uses.data() + stretch * bins;
    std::uint64_t uses = map.first_uses[stretch];
    for (std::size_t bin = 0; bin < bins; ++bin) uses += counts[bin];
    const double begin = map.begin[stretch] / unit;
    const double end = (stretch + 1 < map.stretches() ? map.begin[stretch + 1] : map.end) / unit;
    const auto add = [&](std::string_view name, std::uint64_t count) {
      if (count == 0) return;
      const double share = static_cast<double>(count) / static_cast<double>(uses);
      top = std::max(top, share);
      cells.push_back(Json{{"x", rounded(begin)}, {"X", rounded(end)}, {"b", name}, {"v", rounded(share)}});
    };
    add(kFirst, map.first_uses[stretch]);
    for (std::size_t bin = 0; bin < bins; ++bin) add(bin_name(plan.distances[bin]), counts[bin]);
  }
  Json spec = base(300);
  spec["data"].push_back(data_of("cells", std::move(cells)));
  Json colour = scale_of("v", "sqrt", 0, top > 0 ? top : 1, "width");
  colour["range"] = Json{{"scheme", "viridis"}};
  spec["scales"] =
      Json::array({scale_of("x", "linear", 0, rounded(map.end / unit), "width"),
                   Json{{"name", "y"}, {"type", "band"}, {"domain", std::move(names)}, {"range", "height"}},
                   std::move(colour)});
  spec["axes"] = Json::array({axis_of("bottom", "x", time_title(plan, "requests"), "~s", false),
                              Json{{"orient", "left"},
                                   {"scale", "y"},
                                   {"title", "reuse distance, adapters"},
                                   {"labelOverlap", "greedy"}}});
  spec["legends"] = Json::array({Json{{"fill", "v"},
                                      {"title", "share of the uses of that time"},
                                      {"type", "gradient"},
                                      {"direction", "horizontal"},
                                      {"orient", "top"},
                                      {"gradientLength", 160},
                                      {"gradientThickness", 10},
                                      {"format", "~%"},
                                      {"tickCount", 4}}});
  Json& marks = spec["marks"];
  marks.push_back(mark("rect", "cells",
                       Json{{"x", scaled("x", "x")},
                            {"x2", scaled("x", "X")},
                            {"y", scaled("y", "b")},
                            {"height", Json{{"scale", "y"}, {"band", 1}}},
                            {"fill", scaled("v", "v")},
                            {"stroke", scaled("v", "v")},
                            {"strokeWidth", value(0.4)},
                            {"tooltip", signal("datum.b + ': ' + format(datum.v, '.3~p') + ' of uses'")}}));
  add_size_line(marks, plan, plan.chosen.max_loras, "max_loras", false);
  if (plan.chosen.max_cpu_loras != plan.chosen.max_loras)
    add_size_line(marks, plan, plan.chosen.max_cpu_loras, "max_cpu_loras", true);
  return text_of(spec);
}

std::string distance_map_caption(const Plan& plan) {
  const DistanceMap& map = plan.charts.distances;
  if (map.stretches() < 2) return {};
  // By the halves of the trace: what comes new, and what the chosen slots do not reach.
  const std::size_t bins = plan.distances.size();
  std::array<double, 2> fresh{};
  std::array<double, 2> all{};
  for (std::size_t stretch = 0; stretch < map.stretches(); ++stretch) {
    const std::size_t half = 2 * stretch < map.stretches() ? 0 : 1;
    fresh[half] += static_cast<double>(map.first_uses[stretch]);
    all[half] += static_cast<double>(map.first_uses[stretch]);
    for (std::size_t bin = 0; bin < bins; ++bin)
      all[half] += static_cast<double>(map.uses[stretch * bins + bin]);
  }
  const double late = all[1] > 0 ? fresh[1] / all[1] : 0;
  return fmt::format(
      "Each column: equally many requests; bright: many of its uses have that distance. LRU of a size hits "
      "what lies below its line; colour that drifts up over it is traffic that outgrows the size. In the "
      "second half {} of uses are an adapter's first: {}.",
      share_text(late), late > 0.01 ? "no size saves those loads" : "what misses is a question of size");
}

}  // namespace loracle::detail
