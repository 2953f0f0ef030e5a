#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "loracle/core/parse_bytes.hpp"
#include "plan_format.hpp"
#include "report_charts.hpp"
#include "report_spec.hpp"

namespace loracle::detail {
namespace {

struct Part {
  std::string_view name;
  const FitQuality* quality = nullptr;
  bool is_load = true;
};

std::vector<Part> parts_of(const Plan& plan) {
  std::vector<Part> parts;
  if (!plan.calibration) return parts;
  if (plan.calibration->slot) parts.push_back({"load into a slot", &plan.calibration->slot->quality});
  if (plan.calibration->disk) parts.push_back({"load from disk", &plan.calibration->disk->quality});
  if (plan.calibration->step) parts.push_back({"engine step", &plan.calibration->step->quality, false});
  std::erase_if(parts, [](const Part& part) { return part.quality->groups.empty(); });
  return parts;
}

}  // namespace

std::string calibration_chart(const Plan& plan) {
  const std::vector<Part> parts = parts_of(plan);
  Json points = Json::array();
  Json names = Json::array();
  double low = std::numeric_limits<double>::max();
  double high = 0;
  for (const Part& part : parts) {
    names.push_back(part.name);
    for (const CheckedGroup& group : part.quality->groups) {
      if (!(group.measured_s > 0 && group.predicted_s > 0)) continue;
      low = std::min({low, group.measured_s, group.predicted_s});
      high = std::max({high, group.measured_s, group.predicted_s});
      const std::string size = part.is_load ? human_bytes(Bytes{static_cast<std::uint64_t>(group.size)})
                                            : fmt::format("{:.3g} tokens and sequences", group.size);
      points.push_back(Json{{"x", rounded(group.measured_s)},
                            {"y", rounded(group.predicted_s)},
                            {"c", part.name},
                            {"t", fmt::format("{} of about {}: measured {}, predicted {} (median of {})",
                                              part.name, size, seconds_text(group.measured_s),
                                              seconds_text(group.predicted_s), count_text(group.count))}});
    }
  }
  if (points.empty()) return {};
  low = rounded(low / 1.5);
  high = rounded(high * 1.5);
  Json edges = Json::array();
  for (const double x : {low, high}) edges.push_back(Json{{"x", x}});
  Json spec = base(320);
  spec["data"] = Json::array({data_of("points", std::move(points)), data_of("edges", std::move(edges))});
  spec["scales"] = Json::array(
      {scale_of("x", "log", low, high, "width"), scale_of("y", "log", low, high, "height"),
       ordinal_colours("c", std::move(names), Json::array({signal("blue"), kDiskColour, kGoodColour}))});
  spec["axes"] = Json::array({axis_of("bottom", "x", "measured, seconds", "~r", false),
                              axis_of("left", "y", "predicted, seconds", "~r", false)});
  spec["legends"] = Json::array({legend_of("fill", "c")});
  Json bands = Json::array();
  for (const double band : {0.2, 0.1})
    bands.push_back(mark("area", "edges",
                         Json{{"x", scaled("x", "x")},
                              {"y", signal(fmt::format("scale('y', datum.x * {})", 1 + band))},
                              {"y2", signal(fmt::format("scale('y', datum.x * {})", 1 - band))},
                              {"fill", signal("soft")},
                              {"fillOpacity", value(0.16)}}));
  bands.push_back(mark("line", "edges",
                       Json{{"x", scaled("x", "x")},
                            {"y", scaled("y", "x")},
                            {"stroke", signal("ink")},
                            {"strokeOpacity", value(0.6)},
                            {"strokeWidth", value(1)}}));
  spec["marks"].push_back(
      Json{{"type", "group"},
           {"clip", true},
           {"encode", Json{{"update", Json{{"width", signal("width")}, {"height", signal("height")}}}}},
           {"marks", std::move(bands)}});
  spec["marks"].push_back(mark("symbol", "points",
                               Json{{"x", scaled("x", "x")},
                                    {"y", scaled("y", "y")},
                                    {"fill", scaled("c", "c")},
                                    {"size", value(70)},
                                    {"tooltip", signal("datum.t")}}));
  return text_of(spec);
}

std::string calibration_caption(const Plan& plan) {
  if (!plan.calibration) return {};
  std::string text = fmt::format(
      "Medians of measurements of about one size, {}. On the line the model is right; the bands are 10 % and "
      "20 % off.",
      calibration_name(*plan.calibration));
  double worst = 1;
  bool is_judged = false;
  for (const Part& part : parts_of(plan)) {
    const FitQuality& quality = *part.quality;
    if (!has_prediction(quality)) {
      text += fmt::format(" {}: n = {}, nothing to hold a prediction against.", part.name,
                          count_text(quality.count));
      continue;
    }
    is_judged = true;
    worst = std::min(worst, quality.within_20);
    text +=
        fmt::format(" {}: n = {}, {} within 10 %, {} within 20 %{}.", part.name, count_text(quality.count),
                    share_text(quality.within_10), share_text(quality.within_20),
                    quality.is_held_out ? "" : " (of those it was fitted to)");
  }
  if (!is_judged) return text;
  return text + (worst >= 0.9   ? " Delays of loads can be read as they stand."
                 : worst >= 0.5 ? " Read delays as right to some 20 %, and see which sizes lie outside."
                                : " Too many lie outside: measure again on an idle server before the delays "
                                  "are trusted.");
}

}  // namespace loracle::detail
