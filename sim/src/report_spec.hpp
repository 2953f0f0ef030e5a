#pragma once
/// Pieces that the charts' Vega specifications are made of. Colours are the page's: the signals `ink`,
/// `soft`, `line`, `blue` (slots, LRU), `host` and `back`, which is behind everything.

#include <array>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "loracle/sim/plan.hpp"

namespace loracle::detail {

using Json = nlohmann::ordered_json;

// Okabe and Ito's colours, which the colour-blind can tell apart, and three more. Their blue is the signal
// `blue`: it is LRU's and the slots', and brighter on a dark page.
inline constexpr std::array<std::string_view, 8> kColours = {"#E69F00", "#009E73", "#CC79A7", "#D55E00",
                                                             "#A5673F", "#8E7CC3", "#8C8C1A", "#808080"};
inline constexpr std::string_view kDiskColour = "#D55E00";
inline constexpr std::string_view kGoodColour = "#009E73";

[[nodiscard]] Json signal(std::string_view expression);
[[nodiscard]] Json value(Json of);
[[nodiscard]] Json scaled(std::string_view scale, std::string_view field);
[[nodiscard]] Json at(std::string_view scale, double number);
[[nodiscard]] std::string text_of(const Json& json);
[[nodiscard]] double per_use(const Plan& plan, std::uint64_t count);
/// Four digits that matter: keeps the page small, and what it says the same.
[[nodiscard]] double rounded(double number);

/// A specification without scales, axes and marks. `height` in pixels; the page sets the width.
[[nodiscard]] Json base(double height);
[[nodiscard]] Json data_of(std::string_view name, Json values);
[[nodiscard]] Json mark(std::string_view type, std::string_view data, Json update);
/// "linear", "log", "sqrt", over this domain and the whole "width" or "height".
[[nodiscard]] Json scale_of(std::string_view name, std::string_view type, double low, double high,
                            std::string_view range);
[[nodiscard]] Json ordinal_colours(std::string_view name, Json domain, Json range);
[[nodiscard]] Json axis_of(std::string_view orient, std::string_view scale, std::string_view title,
                           std::string_view format, bool grid);
/// On top, from left to right; `property` is "fill" or "stroke".
[[nodiscard]] Json legend_of(std::string_view property, std::string_view scale);

/// A log axis labelled at powers of two, which is how people choose sizes.
[[nodiscard]] Json power_ticks(double last);
/// 1, 3, 10, 30, ...: counts that are not sizes.
[[nodiscard]] Json decade_ticks(double last);
[[nodiscard]] Json size_axis(std::string_view orient, std::string_view scale, std::string_view title,
                             double last, bool grid);

/// A vertical line with a name at `y` pixels from the top, at a size; the name on its left or right.
void add_size_rule(Json& marks, std::string_view scale, double size, std::string_view label, bool left,
                   double y);
/// A horizontal line with a name above it, at a value of the scale `y`; the name at its right or left end.
void add_level_rule(Json& marks, double level, std::string_view label, bool right);
/// Where the two chosen sizes lie on a size axis; one label if they are one.
void add_chosen_rules(Json& marks, const Plan& plan, std::string_view scale, double last);
/// The chosen slots, and today's if they are others.
void add_slots_rules(Json& marks, const Plan& plan, std::string_view scale, double last);
/// Where popularity changes, on the scale `x` of times in this unit.
void add_regime_rules(Json& marks, const Plan& plan, double unit);

/// The unit that a trace's times read well in: seconds in it and its name; of requests or uses, 1.
struct TimeUnit {
  double seconds = 1;
  std::string_view name = "s";
};
[[nodiscard]] TimeUnit time_unit(const Plan& plan);
/// "time from the first request, h", or `else_title` where there are no times.
[[nodiscard]] std::string time_title(const Plan& plan, std::string_view else_title);

}  // namespace loracle::detail
