#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <limits>
#include <utility>

#include "plan_format.hpp"
#include "report_charts.hpp"
#include "report_spec.hpp"

namespace loracle::detail {
namespace {

struct NamedSpread {
  std::string name;
  const Spread* spread = nullptr;
};

double share_above_zero(const Spread& spread) {
  return spread.count == 0 ? 0 : static_cast<double>(spread.positive) / static_cast<double>(spread.count);
}

/// The ends of a log axis: four decades at most, and what lies below them stands at its beginning.
std::pair<double, double> ends_of(std::span<const NamedSpread> lines) {
  double low = std::numeric_limits<double>::max();
  double high = 0;
  for (const NamedSpread& line : lines) {
    if (line.spread->at_s.empty()) continue;
    low = std::min(low, static_cast<double>(line.spread->at_s.front()));
    high = std::max(high, static_cast<double>(line.spread->at_s.back()));
  }
  return {std::max(low / 1.5, high / 1e4), high * 1.5};
}

/// A line a spread: the share within (or, `beyond`, above) so many seconds.
Json points_of(std::span<const NamedSpread> lines, double low, double high, bool beyond) {
  Json points = Json::array();
  for (const NamedSpread& line : lines) {
    const Spread* const spread = line.spread;
    if (spread->count == 0) continue;
    const double above = share_above_zero(*spread);
    const auto add = [&](double seconds, double share_above) {
      const double share = beyond ? share_above : 1 - share_above;
      points.push_back(Json{{"c", line.name}, {"x", rounded(std::max(seconds, low))}, {"y", rounded(share)}});
    };
    add(low, above);
    for (std::size_t i = 0; i < spread->at_s.size(); ++i)
      add(static_cast<double>(spread->at_s[i]), above * (1 - spread_levels()[i]));
    add(high, 0);
  }
  return points;
}

/// All but the axes; shares up to `top`.
Json spread_spec(std::span<const NamedSpread> lines, bool beyond, double top, Json colours) {
  const auto [low, high] = ends_of(lines);
  Json names = Json::array();
  for (const NamedSpread& line : lines) names.push_back(line.name);
  Json spec = base(300);
  spec["data"].push_back(data_of("points", points_of(lines, low, high, beyond)));
  spec["scales"] = Json::array({scale_of("x", "log", rounded(low), rounded(high), "width"),
                                scale_of("y", beyond ? "sqrt" : "linear", 0, rounded(top), "height"),
                                ordinal_colours("c", std::move(names), std::move(colours))});
  spec["legends"] = Json::array({legend_of("stroke", "c")});
  return spec;
}

void add_lines(Json& marks, std::string_view bold) {
  const Json line = mark("line", "of",
                         Json{{"x", scaled("x", "x")},
                              {"y", scaled("y", "y")},
                              {"stroke", scaled("c", "c")},
                              {"strokeWidth", signal(fmt::format("datum.c === '{}' ? 5 : 1.8", bold))}});
  marks.push_back(
      Json{{"type", "group"},
           {"clip", true},
           {"encode", Json{{"update", Json{{"width", signal("width")}, {"height", signal("height")}}}}},
           {"from", Json{{"facet", Json{{"name", "of"}, {"data", "points"}, {"groupby", "c"}}}}},
           {"marks", Json::array({line})}});
}

}  // namespace

std::string delays_chart(const Plan& plan) {
  const DelayCauses& delays = plan.charts.delays;
  if (!delays.known || delays.delay.positive == 0) return {};
  // Drawn in this order: where one cause is all, its line lies upon the broad one of both.
  const std::array<NamedSpread, 3> lines = {
      NamedSpread{"both", &delays.delay}, {"for slots", &delays.slot_wait}, {"for loads", &delays.load_wait}};
  const double top = std::clamp(1.2 * share_above_zero(delays.delay), 0.02, 1.0);
  Json spec = spread_spec(lines, true, top, Json::array({signal("ink"), signal("blue"), kDiskColour}));
  Json y_axis = axis_of("left", "y", "share of requests delayed longer", "~%", true);
  y_axis["values"] = Json::array();
  for (const double share : {0.01, 0.05, 0.1, 0.2, 0.5, 1.0})
    if (share <= top) y_axis["values"].push_back(share);
  spec["axes"] = Json::array({axis_of("bottom", "x", "delay, seconds", "~r", false), std::move(y_axis)});
  add_level_rule(spec["marks"], 0.01, "1 %: p99", true);
  add_lines(spec["marks"], "both");
  return text_of(spec);
}

std::string delays_caption(const Plan& plan) {
  const DelayCauses& delays = plan.charts.delays;
  std::string text = fmt::format(
      "Simulated at the chosen sizes: the share of requests delayed for longer than that, by waiting for a "
      "slot, by loads, and by both. Where a line crosses 1 % is its p99: {} for slots, {} for loads, {} for "
      "both.",
      seconds_text(delays.slot_times.p99), seconds_text(delays.load_times.p99),
      seconds_text(delays.delay_times.p99));
  if (!(delays.delay_times.mean > 0)) return text;
  const double slots = delays.slot_times.mean / delays.delay_times.mean;
  text += fmt::format(" Of all the time lost, {} is waiting for slots and {} loading: ", share_text(slots),
                      share_text(delays.load_times.mean / delays.delay_times.mean));
  return text + (slots > 0.5 ? "more slots would shorten it, faster loads hardly."
                             : "faster loads or fewer of them would shorten it, more slots only where they "
                               "save loads.");
}

std::string load_times_chart(const Plan& plan) {
  const DelayCauses& delays = plan.charts.delays;
  if (!delays.known || std::all_of(delays.load.begin(), delays.load.end(),
                                   [](const Spread& spread) { return spread.positive == 0; }))
    return {};
  constexpr std::array<std::string_view, 3> kTiers = {"in a slot", "in host memory", "on disk"};
  std::vector<NamedSpread> lines;
  Json colours = Json::array();
  for (std::size_t tier = 0; tier < kTiers.size(); ++tier) {
    if (delays.load[tier].count == 0) continue;
    lines.push_back({std::string(kTiers[tier]), &delays.load[tier]});
    colours.push_back(tier == 0 ? signal("blue") : tier == 1 ? signal("host") : Json(kDiskColour));
  }
  Json spec = spread_spec(lines, false, 1, std::move(colours));
  spec["axes"] = Json::array({axis_of("bottom", "x", "until the adapter is there, seconds", "~r", false),
                              axis_of("left", "y", "share of uses within", "~%", true)});
  add_lines(spec["marks"], "");
  return text_of(spec);
}

std::string load_times_caption(const Plan& plan) {
  const std::array<Spread, 3>& load = plan.charts.delays.load;
  constexpr std::array<std::string_view, 3> kTiers = {"in a slot", "in host memory", "on disk"};
  std::uint64_t uses = 0;
  for (const Spread& spread : load) uses += spread.count;
  std::string found;
  std::string queues;
  for (std::size_t tier = 0; tier < load.size(); ++tier) {
    if (load[tier].count == 0) continue;
    found +=
        fmt::format("{}{} {}", found.empty() ? "" : ", ", share_text(load[tier].count, uses), kTiers[tier]);
    if (tier == 0 || load[tier].at_s.empty()) continue;
    const auto place = [&](double level) {
      return static_cast<double>(load[tier].at_s[static_cast<std::size_t>(
          std::find(spread_levels().begin(), spread_levels().end(), level) - spread_levels().begin())]);
    };
    const double median = place(0.5);
    const double p99 = place(0.99);
    queues += fmt::format(" From {}: median {}, p99 {}{}.", tier == 1 ? "host memory" : "disk",
                          seconds_text(median), seconds_text(p99),
                          p99 > 1.5 * median ? ", for loads queue behind one another or sizes differ" : "");
  }
  return fmt::format(
      "Simulated at the chosen sizes: the share of uses whose adapter is in its slot within that time, by "
      "where it was found ({}). Who finds it in a slot waits only for a load that is still under way.{} An "
      "upright line is a load that waits for no other; a slope says that the way is busy.",
      found, queues);
}

std::string worst_chart(const Plan& plan, const WorstServed& served) {
  if (served.worst.empty() || !(served.worst.front().delay_p99_s > 0)) return {};
  constexpr std::array<std::string_view, 2> kKinds = {"all requests", "waits longest"};
  const double all = plan.charts.delays.delay_times.p99;
  Json names = {"all requests"};
  Json bars = Json::array(
      {Json{{"k", "all requests"}, {"b", rounded(all)}, {"c", kKinds[0]}, {"l", seconds_text(all)}}});
  for (const ServedGroup& group : served.worst) {
    // A name that is there already would share its bar.
    std::string name = group.name;
    while (std::find(names.begin(), names.end(), Json(name)) != names.end()) name += ' ';
    names.push_back(name);
    const std::string hits = share_text(group.gpu_hits, group.uses);
    bars.push_back(
        Json{{"k", name},
             {"b", rounded(group.delay_p99_s)},
             {"c", kKinds[1]},
             {"l", fmt::format("{}, hits {}", seconds_text(group.delay_p99_s), hits)},
             {"t", fmt::format("{}: {}, {} of uses, GPU hit {}, {} wait for a slot", group.name,
                               counted(group.requests, "request"), share_text(group.uses, plan.uses), hits,
                               share_text(group.waited, group.requests))}});
  }
  const double longest = std::max(all, served.worst.front().delay_p99_s);
  Json spec = base(34 * static_cast<double>(names.size()) + 40);
  spec["data"].push_back(data_of("bars", std::move(bars)));
  spec["scales"] =
      Json::array({scale_of("x", "linear", 0, rounded(2.2 * longest), "width"),
                   Json{{"name", "y"},
                        {"type", "band"},
                        {"domain", std::move(names)},
                        {"range", "height"},
                        {"padding", 0.25}},
                   ordinal_colours("c", Json(kKinds), Json::array({signal("soft"), kDiskColour}))});
  spec["axes"] = Json::array({axis_of("bottom", "x", "p99 delay, seconds", "~r", true),
                              Json{{"orient", "left"},
                                   {"scale", "y"},
                                   {"title", &served == &plan.charts.tenants ? "tenant" : "adapter"},
                                   {"labelLimit", 130}}});
  spec["legends"] = Json::array({legend_of("fill", "c")});
  spec["marks"].push_back(mark("rect", "bars",
                               Json{{"y", scaled("y", "k")},
                                    {"height", Json{{"scale", "y"}, {"band", 1}}},
                                    {"x", at("x", 0)},
                                    {"x2", scaled("x", "b")},
                                    {"fill", scaled("c", "c")},
                                    {"tooltip", signal("datum.t")}}));
  spec["marks"].push_back(mark("text", "bars",
                               Json{{"y", Json{{"scale", "y"}, {"field", "k"}, {"band", 0.5}}},
                                    {"x", scaled("x", "b")},
                                    {"dx", value(7)},
                                    {"baseline", value("middle")},
                                    {"text", signal("width < 300 ? '' : datum.l")},
                                    {"fontSize", value(11)},
                                    {"fill", signal("ink")}}));
  return text_of(spec);
}

std::string worst_caption(const Plan& plan, const WorstServed& served) {
  const bool is_tenants = &served == &plan.charts.tenants;
  const std::string_view one = is_tenants ? "tenant" : "adapter";
  std::string text = fmt::format(
      "The {}s whose requests wait longest for slots and loads, of those with {} or more, beside all "
      "requests; simulated at the chosen sizes.",
      one, counted(served.requests_min, "request"));
  if (served.worst.empty()) return text;
  const ServedGroup& worst = served.worst.front();
  const double all = plan.charts.delays.delay_times.p99;
  if (!(all > 0)) return text + " Of all requests not one in a hundred is delayed.";
  if (worst.delay_p99_s > 1.5 * all)
    return text + fmt::format(
                      " The longest is {:.3g} times that of all; {} of its requests wait for a slot, "
                      "{} of its uses are found on disk{}.",
                      worst.delay_p99_s / all, share_text(worst.waited, worst.requests),
                      share_text(worst.disk_loads, worst.uses),
                      worst.waited < worst.disk_loads ? ": more host memory, or a pin, would help" : "");
  return text + fmt::format(" None waits much longer than all: no {} is treated badly.", one);
}

}  // namespace loracle::detail
