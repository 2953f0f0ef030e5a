#include <fmt/format.h>

#include <string>
#include <string_view>
#include <vector>

#include "loracle/sim/advice.hpp"
#include "loracle/sim/report.hpp"
#include "plan_format.hpp"
#include "plan_money_report.hpp"
#include "plan_sentences.hpp"
#include "plan_tables.hpp"

namespace loracle {
namespace {

/// Text of which nothing is markup, also where names come from outside.
std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '\n' || c == '\r') {
      out += ' ';
      continue;
    }
    if (c == '<') {
      out += "&lt;";
      continue;
    }
    if (c == '\\' || c == '|' || c == '`' || c == '*' || c == '_' || c == '[' || c == ']' || c == '#' ||
        c == '~' || c == '!')
      out += '\\';
    out += c;
  }
  return out;
}

/// A fence that is longer than any run of backticks in the text.
void code(std::string& out, std::string_view text) {
  std::string fence = "```";
  while (text.find(fence) != std::string_view::npos) fence += '`';
  out += fmt::format("{0}sh\n{1}\n{0}\n\n", fence, text);
}

void point(std::string& out, std::string_view name, std::string_view text) {
  if (!text.empty()) out += fmt::format("**{}.** {}\n\n", name, escaped(text));
}

void table(std::string& out, const detail::ReportTable& made) {
  if (made.lines.empty()) return;
  out += fmt::format("### {}\n\n", escaped(made.title));
  if (!made.note.empty()) out += escaped(made.note) + "\n\n";
  std::string rule = "|";
  out += '|';
  for (std::size_t i = 0; i < made.header.size(); ++i) {
    const bool is_text = i + 1 == made.header.size() || (i == 0 && made.names_first);
    out += fmt::format(" {} |", escaped(made.header[i]));
    rule += is_text ? " --- |" : " ---: |";
  }
  out += '\n' + rule + '\n';
  for (const detail::TableLine& line : made.lines) {
    out += '|';
    for (const std::string& cell : line.cells)
      out += cell.empty()                        ? "  |"
             : line.is_chosen || line.is_current ? fmt::format(" **{}** |", escaped(cell))
                                                 : fmt::format(" {} |", escaped(cell));
    out += '\n';
  }
  out += '\n';
}

void list(std::string& out, std::string_view title, const std::vector<std::string>& lines) {
  out += fmt::format("## {}\n\n", title);
  for (const std::string& line : lines) out += fmt::format("- {}\n", escaped(line));
  out += '\n';
}

}  // namespace

std::string plan_markdown(const Plan& plan) {
  std::string out =
      fmt::format("# Adapter plan for {}\n\n**{}**\n\n", escaped(detail::base_name(plan.source)),
                  escaped(detail::headline_text(plan)));
  code(out, plan.flags);
  for (const std::string& caution : plan.cautions) point(out, "Caution", caution);
  point(out, "Today", advice_reason(plan));
  point(out, "Why", plan.reason);
  point(out, "Way out", detail::way_out_text(plan));
  point(out, "Change", detail::change_text(plan));
  point(out, "Memory", detail::memory_text(plan));
  point(out, "Monthly", detail::first_cost_text(plan));
  point(out, "Effect", detail::effect_text(plan));
  point(out, "Risk", detail::risk_text(plan));
  point(out, "Wrong if", detail::wrong_if_text(plan));
  table(out, detail::slots_table(plan));
  table(out, detail::host_table(plan));
  for (const auto& [label, text] : detail::money_paragraphs(plan))
    point(out, label.empty() ? "Also" : label, text);
  table(out, detail::cost_table(plan));
  table(out, detail::what_if_table(plan));
  table(out, detail::worst_adapters_table(plan));
  table(out, detail::worst_tenants_table(plan));
  point(out, "Trust", detail::certainty_text(plan));
  point(out, "Cold", detail::first_uses_text(plan));
  point(out, "Policy",
        detail::replay_note(plan) + detail::gap_text(plan, true) + " " + detail::gap_text(plan, false));
  if (plan.device_byte_gap.known)
    point(out, "By bytes", detail::byte_gap_text(plan, true) + " " + detail::byte_gap_text(plan, false));
  point(out, "vLLM", detail::replay_note(plan) + detail::vllm_text(plan));
  table(out, detail::policies_table(plan));
  table(out, detail::policies_by_bytes_table(plan));
  point(out, "Trace", detail::trace_text(plan));
  list(out, "Assumed", plan.assumptions);
  list(out, "Limits", plan.limits);
  if (!plan.reproduce.empty()) {
    out += "## Again\n\n";
    code(out, plan.reproduce);
  }
  return out;
}

}  // namespace loracle
