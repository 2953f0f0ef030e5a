#include <fmt/format.h>

#include <string>
#include <string_view>
#include <vector>

#include "loracle/core/parse_bytes.hpp"
#include "loracle/sim/report.hpp"
#include "plan_format.hpp"
#include "plan_money_report.hpp"
#include "plan_sentences.hpp"
#include "report_assets.hpp"
#include "report_charts.hpp"

namespace loracle {
namespace {

using detail::count_text;
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

void figure(std::string& out, std::string_view id, std::string_view title, std::string_view caption,
            std::string_view spec) {
  out += fmt::format(
      "<figure>\n<h3>{}</h3>\n<figcaption>{}</figcaption>\n<div class=\"chart\" data-chart=\"{}\"></div>\n"
      "<script type=\"application/json\" id=\"{}\">{}</script>\n</figure>\n",
      escaped(title), escaped(caption), id, id, script_safe(spec));
}

void tile(std::string& out, std::string_view number, std::string_view meaning) {
  out +=
      fmt::format("<div class=\"tile\"><b>{}</b><span>{}</span></div>\n", escaped(number), escaped(meaning));
}

void table_row(std::string& out, std::string_view cell, std::string_view row_class,
               const std::vector<std::string>& texts) {
  out += row_class.empty() ? "<tr>" : fmt::format("<tr class=\"{}\">", row_class);
  for (std::size_t i = 0; i < texts.size(); ++i) {
    const bool last = i + 1 == texts.size();
    out += fmt::format("<{0}{1}>{2}</{0}>", cell, last ? " class=\"text\"" : "", escaped(texts[i]));
  }
  out += "</tr>\n";
}

void advisory(std::string& out, const Plan& plan, const std::vector<AdvisoryRow>& rows, bool by_slots) {
  const bool simulated = !plan.by_slots.empty() && plan.by_slots.front().simulated;
  out += "<div class=\"card scroll\">\n";
  out += fmt::format("<h3>{}</h3>\n<p class=\"soft\">{}</p>\n<table><thead>\n",
                     by_slots ? "More or fewer slots" : "More or less host memory",
                     by_slots ? fmt::format("with max_cpu_loras = {}, or max_loras where that is more{}",
                                            plan.chosen.max_cpu_loras,
                                            simulated ? "; waits, hits and loads are simulated" : "")
                              : fmt::format("with max_loras = {}{}", plan.chosen.max_loras,
                                            simulated ? "; not simulated: requests hold nothing" : ""));
  std::vector<std::string> cells = {
      by_slots ? "max_loras" : "max_cpu_loras", "GPU hit", "slot loads", "disk loads", "beyond first uses",
      by_slots ? "slot memory" : "host memory", ""};
  if (by_slots) cells.insert(cells.begin() + 1, {"wait for a slot", "p99 delay"});
  table_row(out, "th", "", cells);
  out += "</thead><tbody>\n";
  for (const AdvisoryRow& row : rows) {
    const Bytes memory = by_slots ? row.slot_memory : row.host_memory;
    const std::string_view row_class = row.chosen ? "chosen" : row.below_floor || row.over_limit ? "off" : "";
    cells = {count_text(by_slots ? row.cell.max_loras : row.cell.max_cpu_loras),
             share_text(row.served.gpu_hits, plan.uses),
             count_text(row.served.host_to_device_loads),
             count_text(row.served.disk_loads),
             share_text(excess_disk_loads(plan, row.served)),
             memory.value == 0 ? "-" : human_bytes(memory),
             detail::note_text(row)};
    if (by_slots)
      cells.insert(cells.begin() + 1, {row.waited < 0 ? "-" : share_text(row.waited),
                                       row.delay_p99_s < 0 ? "-" : detail::seconds_text(row.delay_p99_s)});
    table_row(out, "td", row_class, cells);
  }
  out += "</tbody></table>\n</div>\n";
}

void what_ifs(std::string& out, const Plan& plan) {
  if (plan.what_ifs.empty()) return;
  out += "<h2>What if</h2>\n<div class=\"card scroll\">\n<table class=\"names\"><thead>\n";
  table_row(out, "th", "",
            {"if", "requests that wait", "p99 delay", "GPU hit", "disk loads beyond first", ""});
  out += "</thead><tbody>\n";
  for (const WhatIf& row : plan.what_ifs) {
    table_row(
        out, "td", &row == plan.what_ifs.data() ? "chosen" : "",
        {row.change, row.fits ? share_text(row.waited) : "-",
         row.fits ? detail::seconds_text(row.delay_p99_s) : "-", row.fits ? share_text(row.gpu_hits) : "-",
         row.fits ? share_text(row.disk_loads) : "-", detail::note_text(plan, row)});
  }
  out += fmt::format("</tbody></table>\n<p>{}.</p>\n</div>\n", escaped(detail::what_if_note()));
}

void policies(std::string& out, const Plan& plan) {
  out += "<div class=\"card scroll\">\n<table class=\"names\"><thead>\n";
  table_row(
      out, "th", "",
      {"policy", fmt::format("misses with {}", counted(plan.device_gap.entries, "slot")), "of the gap closed",
       fmt::format("misses with {} in host memory", count_text(plan.host_gap.entries)), "of the gap closed",
       ""});
  out += "</thead><tbody>\n";
  for (const PolicyRow& row : plan.policies) {
    table_row(out, "td", row.policy == "lru" ? "chosen" : "",
              {row.policy, share_text(row.device_misses, plan.uses),
               detail::closed_text(plan.device_gap, row.device_misses),
               share_text(row.host_misses, plan.uses), detail::closed_text(plan.host_gap, row.host_misses),
               row.policy == "lru" ? "what vLLM does" : detail::policy_note(row, row.refuses)});
  }
  out += "</tbody></table>\n</div>\n";
}

void policies_by_bytes(std::string& out, const Plan& plan) {
  const ByteGap& device = plan.device_byte_gap;
  const ByteGap& host = plan.host_byte_gap;
  if (!device.known) return;
  out += "<div class=\"card scroll\">\n<h3>The same by bytes loaded</h3>\n<table class=\"names\"><thead>\n";
  table_row(
      out, "th", "",
      {"policy", fmt::format("loads into {}", counted(plan.chosen.max_loras, "slot")), "of the gap closed",
       host.known ? fmt::format("loads into {} of host memory", human_bytes(host.capacity))
                  : "loads into host memory",
       "of the gap closed", ""});
  out += "</thead><tbody>\n";
  for (const PolicyRow& row : plan.policies) {
    table_row(out, "td", row.policy == "lru" ? "chosen" : "",
              {row.policy, detail::loaded_text(device, row.device_bytes),
               detail::closed_text(device, row.device_bytes), detail::loaded_text(host, row.host_bytes),
               detail::closed_text(host, row.host_bytes),
               row.policy == "lru" ? "what vLLM does" : detail::policy_note(row, row.refuses_by_bytes)});
  }
  table_row(
      out, "td", "",
      {"bound", detail::loaded_text(device, device.bound), detail::closed_text(device, device.bound),
       detail::loaded_text(host, host.bound), detail::closed_text(host, host.bound), "for every policy"});
  out += "</tbody></table>\n</div>\n";
}

void money(std::string& out, const Plan& plan) {
  out += "<h2>Memory and money</h2>\n<div class=\"card\">\n";
  for (const auto& [label, text] : detail::money_paragraphs(plan))
    out += fmt::format("<p>{}{}</p>\n", label.empty() ? "" : fmt::format("<b>{}</b> ", label), escaped(text));
  out += "</div>\n";
  const auto rows = detail::cost_table(plan);
  if (rows.empty()) return;
  out += fmt::format(
      "<div class=\"card scroll\">\n<h3>Cost a month, in {} (GPU and disk are the same in every row; loads "
      "as in the grid)</h3>\n<table>"
      "<thead>\n",
      escaped(plan.cost_options.prices->currency));
  table_row(out, "th", "", rows.front());
  out += "</thead><tbody>\n";
  for (std::size_t i = 1; i < rows.size(); ++i)
    table_row(out, "td", rows[i].back().rfind("<- ", 0) == 0 ? "chosen" : "", rows[i]);
  out += "</tbody></table>\n</div>\n";
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
  out += fmt::format("<title>loracle plan: {}</title>\n<style>\n{}</style>\n</head>\n<body>\n<main>\n",
                     escaped(detail::base_name(plan.source)), detail::page_css());
  out += fmt::format("<header><h1>Adapter plan for {}</h1>\n<p>{}</p></header>\n",
                     escaped(detail::base_name(plan.source)), escaped(detail::trace_text(plan)));
}

void decision(std::string& out, const Plan& plan) {
  out += fmt::format("<section class=\"card\">\n<span class=\"verdict {}\">{}</span>\n<pre>{}</pre>\n",
                     name_of(plan.verdict), escaped(detail::verdict_text(plan)), escaped(plan.flags));
  for (const std::string& caution : plan.cautions)
    out += fmt::format("<p class=\"why\"><b>Caution.</b> {}</p>\n", escaped(caution));
  out += fmt::format(
      "<p class=\"why\">{}</p>\n<p class=\"why\">Holds {}</p>\n<p class=\"why\">{}</p>\n</section>\n"
      "<section class=\"tiles\">\n",
      escaped(plan.reason), escaped(detail::headroom_text(plan)), escaped(detail::certainty_text(plan)));
  const GridCell& served = detail::served_at_choice(plan);
  const Certainty& certainty = plan.certainty;
  if (plan.waited >= 0)
    tile(out, share_text(plan.waited),
         "of requests wait for a slot" + detail::interval_text(certainty.waited));
  tile(out, share_text(served.gpu_hits, plan.uses),
       "of uses find their adapter in a slot" +
           detail::interval_text(detail::complement_of(certainty.misses)));
  tile(out, share_text(served.host_to_device_loads - served.disk_loads, plan.uses),
       "load it from host memory");
  tile(out, share_text(excess_disk_loads(plan, plan.chosen)),
       fmt::format("load it from disk again; target {}", share_text(plan.target_disk_loads)));
  tile(out, share_text(plan.adapters, plan.uses), "are an adapter's first use: no size removes them");
  if (plan.slot_bytes.value > 0) {
    tile(out, human_bytes(Bytes{plan.slot_bytes.value * plan.chosen.max_loras}),
         fmt::format("of GPU memory: {} of {}", counted(plan.chosen.max_loras, "slot"),
                     human_bytes(plan.slot_bytes)));
  }
  if (plan.host_bytes_known && !plan.by_host.empty()) {
    for (const AdvisoryRow& row : plan.by_host)
      if (row.chosen)
        tile(out, human_bytes(row.host_memory),
             fmt::format("of host memory at most, for {}", counted(plan.chosen.max_cpu_loras, "adapter")));
  }
  out += "</section>\n";
}

void charts(std::string& out, const Plan& plan) {
  out +=
      "<h2>Where the choice lies</h2>\n<noscript><p class=\"card\">The charts need JavaScript; everything "
      "else "
      "on this page does not, and their numbers are in the JSON output.</p></noscript>\n<div "
      "class=\"charts\">\n";
  figure(out, "grid", "Every pair of sizes",
         fmt::format(
             "The star is the choice. Dark is good: loads from host memory per 100 uses, plus {:.0f} times "
             "those from disk beyond first uses. Above the dashed line the disk target is met. {}",
             detail::kDiskWeight,
             plan.verdict == PlanVerdict::kInfeasible && plan.floor_from == SlotsBound::kSimulation
                 ? "Faded cells are over a memory limit; with the slots of the others too many requests wait."
             : plan.verdict == PlanVerdict::kInfeasible
                 ? fmt::format(
                       "Faded cells are over a memory limit; of the others none has the {} that requests "
                       "need at once.",
                       counted(plan.slots_floor, "slot"))
                 : fmt::format("Faded cells lie below the slots floor ({}) or over a memory limit.",
                               plan.slots_floor)),
         detail::grid_chart(plan));
  figure(
      out, "curves", "Misses by policy and size",
      "Each policy ruling one cache alone. Dashed is Belady, which knows the future: no policy that takes in "
      "every adapter can be below it. "
      "Where the curves lie together, the policy does not matter; where they are steep, the size does.",
      detail::curves_chart(plan));
  out += "</div>\n";
}

void traffic(std::string& out, const Plan& plan) {
  out += "<h2>The traffic</h2>\n<div class=\"charts narrow\">\n";
  figure(out, "distances", "Reuse distances",
         fmt::format(
             "Distinct adapters used since the last use of the same one, coloured by where LRU of the chosen "
             "sizes finds it. First uses ({} of uses) have no distance and are not shown.",
             share_text(plan.adapters, plan.uses)),
         detail::distances_chart(plan));
  figure(out, "working-set", "Working set over time",
         plan.span_s > 0 ? "Distinct adapters used in each window of time."
                         : "Distinct adapters in each stretch of uses; the trace has no times.",
         detail::working_set_chart(plan));
  const std::uint64_t top = plan.popularity.empty() ? 0 : plan.popularity.front().uses;
  figure(
      out, "popularity", "Popularity",
      fmt::format(
          "Uses of each adapter, the most used first; both axes logarithmic. The first has {} of all uses.",
          share_text(top, plan.uses)),
      detail::popularity_chart(plan));
  out += "</div>\n";
}

}  // namespace

std::string plan_html(const Plan& plan) {
  std::string out;
  out.reserve(1U << 20U);
  head(out, plan);
  decision(out, plan);
  charts(out, plan);
  out += "<h2>Around the choice</h2>\n";
  advisory(out, plan, plan.by_slots, true);
  advisory(out, plan, plan.by_host, false);
  money(out, plan);
  what_ifs(out, plan);
  out += fmt::format("<h2>Does the policy matter?</h2>\n<p>{}{} {}</p>\n", detail::replay_note(plan),
                     escaped(detail::gap_text(plan, true)), escaped(detail::gap_text(plan, false)));
  if (plan.device_byte_gap.known)
    out += fmt::format("<p>{} {}</p>\n", escaped(detail::byte_gap_text(plan, true)),
                       escaped(detail::byte_gap_text(plan, false)));
  out += fmt::format("<p>{}</p>\n", escaped(detail::first_uses_text(plan)));
  out += fmt::format("<p>{}</p>\n", escaped(detail::replay_note(plan) + detail::vllm_text(plan)));
  policies(out, plan);
  policies_by_bytes(out, plan);
  traffic(out, plan);
  out += "<h2>How far to trust this</h2>\n<div class=\"two\">\n";
  list(out, "Assumed", plan.assumptions);
  list(out, "Limits", plan.limits);
  out += "</div>\n";
  if (!plan.reproduce.empty())
    out += fmt::format("<h2>Again</h2>\n<pre class=\"small\">{}</pre>\n", escaped(plan.reproduce));
  out += "</main>\n<script>\n/*\n";
  out += detail::vega_license();
  out += "*/\n";
  out += detail::vega_js();
  out += "</script>\n<script>\n";
  out += detail::page_js();
  out += "</script>\n</body>\n</html>\n";
  return out;
}

}  // namespace loracle
