#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "loracle/core/parse_bytes.hpp"
#include "loracle/sim/advice.hpp"
#include "loracle/sim/report.hpp"
#include "plan_format.hpp"
#include "plan_money_report.hpp"
#include "plan_sentences.hpp"
#include "plan_tables.hpp"
#include "report_assets.hpp"
#include "report_charts.hpp"

namespace loracle {
namespace {

using detail::counted;
using detail::share_text;

/// Text as HTML content or as a quoted attribute. Bytes that are no UTF-8 are the browser's to replace.
std::string escaped(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

/// JSON inside a script element: without `<` nothing in it can end the element or open a comment.
std::string script_safe(std::string_view json) {
  std::string out;
  out.reserve(json.size());
  for (const char c : json) {
    if (c == '<') {
      out += "\\u003c";
    } else {
      out += c;
    }
  }
  return out;
}

void figure(std::string& out, const detail::ReportChart& chart) {
  out += fmt::format(
      "<figure>\n<h3 id=\"{0}-title\">{1}</h3>\n<figcaption id=\"{0}-caption\">{2}</figcaption>\n"
      "<div class=\"chart\" role=\"img\" aria-labelledby=\"{0}-title\" "
      "aria-describedby=\"{0}-caption\" data-chart=\"{0}\"></div>\n"
      "<script type=\"application/json\" id=\"{0}\">{3}</script>\n</figure>\n",
      chart.id, escaped(chart.title), escaped(chart.caption), script_safe(chart.spec));
}

void figures(std::string& out, const std::vector<detail::ReportChart>& charts, detail::ChartGroup group) {
  if (std::none_of(charts.begin(), charts.end(),
                   [group](const detail::ReportChart& chart) { return chart.group == group; }))
    return;
  out +=
      group == detail::ChartGroup::kTraffic ? "<div class=\"charts narrow\">\n" : "<div class=\"charts\">\n";
  for (const detail::ReportChart& chart : charts)
    if (chart.group == group) figure(out, chart);
  out += "</div>\n";
}

void tile(std::string& out, std::string_view number, std::string_view meaning) {
  out +=
      fmt::format("<div class=\"tile\"><b>{}</b><span>{}</span></div>\n", escaped(number), escaped(meaning));
}

void table_row(std::string& out, std::string_view cell, const detail::TableLine& line) {
  std::string classes = line.is_chosen ? "chosen" : line.is_off ? "off" : "";
  if (line.is_current) classes += classes.empty() ? "today" : " today";
  out += classes.empty() ? "<tr>" : fmt::format("<tr class=\"{}\">", classes);
  for (std::size_t i = 0; i < line.cells.size(); ++i) {
    const bool last = i + 1 == line.cells.size();
    out += fmt::format("<{}{}{}>{}</{}>", cell, cell == "th" ? " scope=\"col\"" : "",
                       last ? " class=\"text\"" : "", escaped(line.cells[i]), cell);
  }
  out += "</tr>\n";
}

/// Wide tables scroll in their card, by keyboard too.
void table(std::string& out, const detail::ReportTable& made) {
  if (made.lines.empty()) return;
  out += fmt::format(
      "<div class=\"card scroll\" role=\"region\" tabindex=\"0\" aria-label=\"{0}\">\n<table{1}>\n"
      "<caption><b>{0}</b> {2}</caption>\n<thead>\n",
      escaped(made.title), made.names_first ? " class=\"names\"" : "", escaped(made.note));
  table_row(out, "th", {made.header});
  out += "</thead><tbody>\n";
  for (const detail::TableLine& line : made.lines) table_row(out, "td", line);
  out += "</tbody></table>\n</div>\n";
}

void money(std::string& out, const Plan& plan) {
  out += "<h2>Memory and money</h2>\n<div class=\"card\">\n";
  for (const auto& [label, text] : detail::money_paragraphs(plan))
    out += fmt::format("<p>{}{}</p>\n", label.empty() ? "" : fmt::format("<b>{}</b> ", label), escaped(text));
  out += "</div>\n";
  table(out, detail::cost_table(plan));
}

void list(std::string& out, std::string_view title, const std::vector<std::string>& lines) {
  out += fmt::format("<div class=\"card\">\n<h3>{}</h3>\n<ul>\n", escaped(title));
  for (const std::string& line : lines) out += fmt::format("<li>{}</li>\n", escaped(line));
  out += "</ul>\n</div>\n";
}

void head(std::string& out, const Plan& plan) {
  out += "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n";
  // Nothing may be fetched, whatever the page holds. Vega compiles its expressions, hence unsafe-eval.
  out +=
      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
      "script-src 'unsafe-inline' 'unsafe-eval'; img-src data:\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n";
  out += fmt::format(
      "<title>loracle plan: {}</title>\n<style>\n{}</style>\n</head>\n<body>\n"
      "<a class=\"skip\" href=\"#decision\">To the decision</a>\n<main>\n",
      escaped(detail::base_name(plan.source)), detail::page_css());
  out += fmt::format(
      "<header><h1>Adapter plan for {}</h1>\n<p>{}</p>\n"
      "<p>How many adapters a server keeps in GPU memory (slots, --max-loras) and in host memory "
      "(--max-cpu-loras), so that at most {} of requests wait for a slot and at most {} of uses load an "
      "adapter from disk again.</p></header>\n",
      escaped(detail::base_name(plan.source)), escaped(detail::trace_text(plan)),
      share_text(plan.max_wait_probability), share_text(plan.target_disk_loads));
}

void tiles(std::string& out, const Plan& plan) {
  out += "<section class=\"tiles\" aria-label=\"Effect\">\n";
  const GridCell& served = detail::served_at_choice(plan);
  const Certainty& certainty = plan.certainty;
  const auto from = [&plan](const std::string& today) {
    return plan.current.known ? fmt::format("; today {}", today) : std::string();
  };
  const AdvisoryRow& today = plan.current.row;
  if (plan.waited >= 0)
    tile(out, share_text(plan.waited),
         "of requests wait for a slot" + detail::interval_text(certainty.waited) +
             from(share_text(today.waited)));
  if (const AdvisoryRow* const row = detail::row_of_choice(plan); row != nullptr && row->delay_p99_s >= 0)
    tile(out, detail::seconds_text(row->delay_p99_s),
         "p99 delay from slots and loads" + from(detail::seconds_text(today.delay_p99_s)));
  tile(out, share_text(served.gpu_hits, plan.uses),
       "of uses find their adapter in a slot" +
           detail::interval_text(detail::complement_of(certainty.misses)) +
           from(share_text(today.served.gpu_hits, plan.uses)) +
           (today.too_many_wait && today.served.gpu_hits > served.gpu_hits
                ? ", as requests for other adapters wait"
                : ""));
  tile(out, share_text(excess_disk_loads(plan, served)),
       fmt::format("load it from disk again; target {}{}", share_text(plan.target_disk_loads),
                   from(share_text(excess_disk_loads(plan, today.served)))));
  tile(out, share_text(plan.adapters, plan.uses), "are an adapter's first use: no size removes them");
  if (plan.slot_bytes.value > 0)
    tile(out, human_bytes(Bytes{plan.slot_bytes.value * plan.chosen.max_loras}),
         fmt::format("of GPU memory: {} of {}{}", counted(plan.chosen.max_loras, "slot"),
                     human_bytes(plan.slot_bytes), from(human_bytes(today.slot_memory))));
  if (plan.host_bytes_known)
    for (const AdvisoryRow& row : plan.by_host)
      if (row.chosen)
        tile(out, human_bytes(row.host_memory),
             fmt::format("of host memory at most, for {}{}", counted(plan.chosen.max_cpu_loras, "adapter"),
                         from(human_bytes(today.host_memory))));
  out += "</section>\n";
}

void point(std::string& out, std::string_view name, std::string_view text) {
  if (!text.empty()) out += fmt::format("<dt>{}</dt><dd>{}</dd>\n", name, escaped(text));
}

/// Each flag with its value on one line.
std::string in_spans(const std::string& flags) {
  std::string out = "<span>";
  for (const char c : escaped(flags)) {
    const bool begins = c == '-' && out.ends_with(' ');
    if (begins) out.insert(out.size() - 1, "</span>");
    out += begins ? "<span>-" : std::string(1, c);
  }
  return out + "</span>";
}

void decision(std::string& out, const Plan& plan) {
  const Advice advice = advice_of(plan);
  const bool is_doubtful = advice == Advice::kChange || advice == Advice::kNotEnoughData;
  out += fmt::format(
      "<section class=\"card\" id=\"decision\" tabindex=\"-1\" aria-label=\"Decision\">\n"
      "<p><span class=\"verdict {}\">{}</span> <span class=\"soft\">{}</span></p>\n"
      "<pre tabindex=\"0\" aria-label=\"Flags to paste\" data-flags=\"{}\">{}</pre>\n"
      "<dl>\n",
      is_doubtful && plan.verdict == PlanVerdict::kMeetsTarget ? "misses_target" : name_of(plan.verdict),
      escaped(detail::judgement_text(plan)), escaped(detail::confidence_text(plan)), escaped(plan.flags),
      in_spans(plan.flags));
  for (const std::string& caution : plan.cautions) point(out, "Caution", caution);
  point(out, "Today", advice_reason(plan));
  point(out, "Why", plan.reason);
  point(out, "Way out", detail::way_out_text(plan));
  point(out, "Memory", detail::memory_text(plan) + ".");
  point(out, "Monthly", detail::first_cost_text(plan));
  point(out, "Risk", detail::risk_text(plan));
  point(out, "Wrong if", detail::wrong_if_text(plan));
  out += "</dl>\n</section>\n";
  tiles(out, plan);
}

/// What draws the charts of the page.
void scripts(std::string& out) {
  out += "<script>\n/*\n";
  out += detail::vega_license();
  out += "*/\n";
  out += detail::vega_js();
  out += "</script>\n<script>\n";
  out += detail::page_js();
  out += "</script>\n</body>\n</html>\n";
}

void policies(std::string& out, const Plan& plan) {
  out += fmt::format("<h2>Does the policy matter?</h2>\n<p>{}{} {}</p>\n", detail::replay_note(plan),
                     escaped(detail::gap_text(plan, true)), escaped(detail::gap_text(plan, false)));
  if (plan.device_byte_gap.known)
    out += fmt::format("<p>{} {}</p>\n", escaped(detail::byte_gap_text(plan, true)),
                       escaped(detail::byte_gap_text(plan, false)));
  out += fmt::format("<p>{}</p>\n", escaped(detail::first_uses_text(plan)));
  out += fmt::format("<p>{}</p>\n", escaped(detail::replay_note(plan) + detail::vllm_text(plan)));
  table(out, detail::policies_table(plan));
  table(out, detail::policies_by_bytes_table(plan));
}

}  // namespace

std::string plan_html(const Plan& plan) {
  const std::vector<detail::ReportChart> charts = detail::report_charts(plan);
  std::string out;
  out.reserve(1U << 20U);
  head(out, plan);
  decision(out, plan);
  out += "<h2>Around the choice</h2>\n";
  table(out, detail::slots_table(plan));
  out +=
      "<noscript><p class=\"card\">The charts need JavaScript; everything else on this page does not, and "
      "their numbers are in the JSON output.</p></noscript>\n";
  figures(out, charts, detail::ChartGroup::kChoice);
  table(out, detail::host_table(plan));
  money(out, plan);
  table(out, detail::what_if_table(plan));
  if (plan.charts.delays.known) {
    out += "<h2>Who waits, and for what</h2>\n";
    figures(out, charts, detail::ChartGroup::kDelays);
    table(out, detail::worst_adapters_table(plan));
    table(out, detail::worst_tenants_table(plan));
  }
  policies(out, plan);
  figures(out, charts, detail::ChartGroup::kPolicy);
  out += "<h2>The traffic</h2>\n";
  figures(out, charts, detail::ChartGroup::kTraffic);
  out += "<h2>How far to trust this</h2>\n";
  out += fmt::format("<p>{}</p>\n", escaped(detail::certainty_text(plan)));
  figures(out, charts, detail::ChartGroup::kTrust);
  out += "<div class=\"two\">\n";
  list(out, "Assumed", plan.assumptions);
  list(out, "Limits", plan.limits);
  out += "</div>\n";
  if (!plan.reproduce.empty())
    out += fmt::format("<h2>Again</h2>\n<pre class=\"small\" tabindex=\"0\">{}</pre>\n",
                       escaped(plan.reproduce));
  out += "</main>\n";
  scripts(out);
  return out;
}

std::string plan_drawing_page(const Plan& plan, DrawnAs as) {
  std::string out = fmt::format(
      "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta "
      "charset=\"utf-8\">\n<title>charts</title>\n</head>\n"
      "<body data-export=\"{}\">\n",
      as == DrawnAs::kSvg ? "svg" : "png");
  for (const detail::ReportChart& chart : detail::report_charts(plan))
    out += fmt::format(
        "<pre data-chart=\"{0}\"></pre>\n<script type=\"application/json\" id=\"{0}\">{1}</script>\n",
        chart.id, script_safe(chart.spec));
  scripts(out);
  return out;
}

}  // namespace loracle
