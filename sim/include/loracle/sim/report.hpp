#pragma once
/// The plan as one self-contained page: no network, light and dark, under 3 MB; the text and the tables read
/// without JavaScript, the charts are drawn by Vega, which is embedded at build time. The same as Markdown,
/// without the charts; and the charts as files, drawn by a browser that the caller runs.
/// Pure and deterministic: equal plans, equal bytes; no date, no timing.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "loracle/core/result.hpp"
#include "loracle/sim/plan.hpp"

namespace loracle {

[[nodiscard]] std::string plan_html(const Plan& plan);

/// GitHub's Markdown: at most a table is wider than its reader likes.
[[nodiscard]] std::string plan_markdown(const Plan& plan);

enum class DrawnAs : std::uint8_t { kSvg, kPng };

/// A page that, opened by a browser, holds its charts as base64 in its own elements: what `drawn_charts`
/// reads out of the document that the browser gives back. Light colours, 640 pixels wide; a PNG has twice as
/// many.
[[nodiscard]] std::string plan_drawing_page(const Plan& plan, DrawnAs as);

struct DrawnChart {
  std::string name;   // "grid", "curves", ...
  std::string bytes;  // of the file
};

/// Errors: kCorrupt: the page holds no charts, or one that could not be drawn.
[[nodiscard]] Result<std::vector<DrawnChart>> drawn_charts(std::string_view document);

}  // namespace loracle
