/// What is paid against the delay that it buys: in memory, and in money.

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <limits>
#include <utility>

#include "loracle/core/parse_bytes.hpp"
#include "plan_format.hpp"
#include "plan_tables.hpp"
#include "report_charts.hpp"
#include "report_spec.hpp"

namespace loracle::detail {
namespace {

constexpr double kLeastS = 1e-3;  // what the log axis shows no delay as

/// A row of the slots' table.
struct Offer {
  const AdvisoryRow* row = nullptr;
  double price = 0;
};

bool is_dominated(const Offer& offer, std::span<const Offer> offers) {
  return std::any_of(offers.begin(), offers.end(), [&](const Offer& other) {
    return other.price <= offer.price && other.row->delay_p99_s <= offer.row->delay_p99_s &&
           (other.price < offer.price || other.row->delay_p99_s < offer.row->delay_p99_s);
  });
}

std::string pair_of(const AdvisoryRow& row) {
  return fmt::format("{}/{}", row.cell.max_loras, row.cell.max_cpu_loras);
}

/// All but the scale and the axis `x`. `price_text` is shown on pointing at an offer.
template <class PriceText>
Json front_spec(std::vector<Offer> offers, std::string_view best_name, PriceText price_text) {
  const std::array<std::string_view, 4> kinds = {"chosen", "today", best_name, "dominated"};
  const std::array<Json, 4> colours = {kGoodColour, kDiskColour, signal("blue"), signal("soft")};
  std::array<bool, 4> is_there{};
  // Drawn last, so on top.
  std::stable_partition(offers.begin(), offers.end(),
                        [](const Offer& offer) { return !offer.row->chosen && !offer.row->current; });
  Json points = Json::array();
  std::vector<std::pair<double, double>> front;
  double slowest = 0;
  double fastest = std::numeric_limits<double>::max();
  for (const Offer& offer : offers) {
    const AdvisoryRow& row = *offer.row;
    const double delay = std::max(row.delay_p99_s, kLeastS);
    const bool dominated = is_dominated(offer, offers);
    if (!dominated) front.emplace_back(offer.price, delay);
    slowest = std::max(slowest, delay);
    fastest = std::min(fastest, delay);
    const std::size_t kind = row.chosen ? 0 : row.current ? 1 : dominated ? 3 : 2;
    is_there[kind] = true;
    points.push_back(Json{{"x", offer.price},
                          {"y", rounded(delay)},
                          {"c", kinds[kind]},
                          {"l", pair_of(row)},
                          {"t", fmt::format("max_loras/max_cpu_loras {}: {}, p99 delay {}", pair_of(row),
                                            price_text(offer), seconds_text(row.delay_p99_s))}});
  }
  Json shown = Json::array();  // in the legend: no more than there is to see
  Json shown_colours = Json::array();
  for (std::size_t kind = 0; kind < kinds.size(); ++kind) {
    if (!is_there[kind]) continue;
    shown.push_back(kinds[kind]);
    shown_colours.push_back(colours[kind]);
  }
  std::sort(front.begin(), front.end());
  Json line = Json::array();
  for (const auto& [price, delay] : front) line.push_back(Json{{"x", price}, {"y", rounded(delay)}});
  Json spec = base(260);
  spec["data"] = Json::array({data_of("points", std::move(points)), data_of("front", std::move(line))});
  spec["scales"] = Json::array({scale_of("y", "log", fastest / 1.6, slowest * 1.6, "height"),
                                ordinal_colours("c", std::move(shown), std::move(shown_colours))});
  spec["axes"] = Json::array({axis_of("left", "y", "p99 delay, seconds (0.001: none)", "~r", true)});
  spec["legends"] = Json::array({legend_of("fill", "c")});
  spec["marks"].push_back(mark("line", "front",
                               Json{{"x", scaled("x", "x")},
                                    {"y", scaled("y", "y")},
                                    {"interpolate", value("step-after")},
                                    {"stroke", signal("blue")},
                                    {"strokeOpacity", value(0.5)},
                                    {"strokeWidth", value(1.4)}}));
  spec["marks"].push_back(
      mark("symbol", "points",
           Json{{"x", scaled("x", "x")},
                {"y", scaled("y", "y")},
                {"fill", scaled("c", "c")},
                {"shape", signal("datum.c === 'chosen' ? 'diamond' : datum.c === 'today' ? "
                                 "'square' : 'circle'")},
                {"size", value(80)},
                {"tooltip", signal("datum.t")}}));
  spec["marks"].push_back(mark("text", "points",
                               Json{{"x", scaled("x", "x")},
                                    {"y", scaled("y", "y")},
                                    {"dx", signal("scale('x', datum.x) > 0.6 * width ? -6 : 6")},
                                    {"align", signal("scale('x', datum.x) > 0.6 * width ? 'right' : 'left'")},
                                    {"dy", value(-6)},
                                    {"text", signal("datum.c === 'dominated' ? '' : datum.l")},
                                    {"fontSize", value(10.5)},
                                    {"fill", signal("ink")}}));
  return spec;
}

/// The lowest and the highest price.
std::pair<double, double> range_of(std::span<const Offer> offers) {
  const auto [low, high] = std::minmax_element(
      offers.begin(), offers.end(), [](const Offer& a, const Offer& b) { return a.price < b.price; });
  return {low->price, high->price};
}

/// What has a price, can be had and was simulated.
std::vector<Offer> priced_offers(const Plan& plan) {
  std::vector<Offer> offers;
  if (!plan.cost_options.prices) return offers;
  for (const AdvisoryRow* row : slots_rows(plan))
    if (row->delay_p99_s >= 0 && row->cost && !row->cost->impossible && (!row->over_limit || row->current))
      offers.push_back({row, static_cast<double>(row->cost->total.value) / 1e6});
  return offers;
}

}  // namespace

std::string tradeoff_chart(const Plan& plan) {
  if (plan.slot_bytes.value == 0 || !plan.active.known) return {};
  constexpr double kGiB = 1024.0 * 1024.0 * 1024.0;
  std::vector<Offer> offers;
  for (const AdvisoryRow* row : slots_rows(plan))
    if (row->delay_p99_s >= 0)
      offers.push_back(
          {row, rounded(static_cast<double>(row->slot_memory.value + row->host_memory.value) / kGiB)});
  if (offers.size() < 2) return {};
  Json spec = front_spec(offers, "best for its memory", [](const Offer& offer) {
    return human_bytes(offer.row->slot_memory + offer.row->host_memory);
  });
  const auto [least, most] = range_of(offers);
  spec["scales"].push_back(scale_of("x", "log", least / 1.15, most * 1.3, "width"));
  spec["axes"].push_back(axis_of("bottom", "x", "memory of slots and host, GiB", "~r", false));
  return text_of(spec);
}

std::string pareto_chart(const Plan& plan) {
  const std::vector<Offer> offers = priced_offers(plan);
  if (offers.size() < 2) return {};
  const auto [least, most] = range_of(offers);
  if (!(most > least)) return {};
  const std::string& currency = plan.cost_options.prices->currency;
  Json spec = front_spec(offers, "best for its price", [&currency](const Offer& offer) {
    return fmt::format("{} {} a month", money_text(offer.row->cost->total), currency);
  });
  constexpr double kFarApart = 4;  // times: a setting that reloads all day costs many times the others
  const double margin = (most - least) * 0.06;
  const bool is_log = least > 0 && most / least > kFarApart;
  spec["scales"].push_back(
      is_log ? scale_of("x", "log", least / 1.15, most * 1.15, "width")
             : scale_of("x", "linear", std::max(0.0, least - margin), most + margin, "width"));
  spec["axes"].push_back(axis_of("bottom", "x", fmt::format("{} a month and server", currency),
                                 is_log              ? "~s"
                                 : most - least < 10 ? ",.2f"
                                                     : ",.0f",
                                 false));
  return text_of(spec);
}

std::string pareto_caption(const Plan& plan) {
  std::string text =
      "Each row of the slots' table that fits the memory, labelled max_loras/max_cpu_loras. On the line "
      "nothing costs less without more delay; grey: another costs no more and delays no more.";
  const std::vector<Offer> offers = priced_offers(plan);
  const auto chosen =
      std::find_if(offers.begin(), offers.end(), [](const Offer& offer) { return offer.row->chosen; });
  if (chosen == offers.end()) return text;
  if (!is_dominated(*chosen, offers)) return text + " The choice lies on the line: less delay costs more.";
  const Offer* best = nullptr;
  for (const Offer& offer : offers)
    if (!offer.row->chosen && offer.price <= chosen->price &&
        offer.row->delay_p99_s <= chosen->row->delay_p99_s &&
        (best == nullptr ||
         std::pair(offer.price, offer.row->delay_p99_s) < std::pair(best->price, best->row->delay_p99_s)))
      best = &offer;
  if (best == nullptr) return text;
  if (best->price == chosen->price)
    return text + fmt::format(" {} delays less than the choice and costs the same.", pair_of(*best->row));
  const std::string& currency = plan.cost_options.prices->currency;
  return text + fmt::format(
                    " {} costs {} {} a month less than the choice and delays no more: the objective "
                    "'cost' would weigh that.",
                    pair_of(*best->row), money_text(chosen->row->cost->total - best->row->cost->total),
                    currency);
}

}  // namespace loracle::detail
