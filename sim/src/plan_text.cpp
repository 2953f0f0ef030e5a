#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "loracle/core/parse_bytes.hpp"
#include "loracle/sim/advice.hpp"
#include "loracle/sim/plan.hpp"
#include "plan_format.hpp"
#include "plan_money_report.hpp"
#include "plan_sentences.hpp"
#include "plan_tables.hpp"

namespace loracle {
namespace {

using detail::count_text;
using detail::counted;
using detail::share_text;

constexpr std::size_t kColumns = 100;

bool holds_unit(std::string_view rest) {
  return rest.front() == '%' || (rest.size() >= 3 && rest.substr(1, 2) == "iB");
}

/// `label`, then the words of `text` in lines of at most kColumns, indented below the first word.
void paragraph(std::string& out, std::string_view label, std::string_view text) {
  constexpr std::size_t kIndent = 10;
  std::string line = fmt::format("{:<{}}", label, kIndent);
  std::size_t words = 0;
  for (std::size_t at = 0; at < text.size();) {
    // A number and its unit stay on one line.
    std::size_t end = std::min(text.find(' ', at), text.size());
    while (end + 1 < text.size() && holds_unit(text.substr(end + 1)))
      end = std::min(text.find(' ', end + 1), text.size());
    const std::string_view word = text.substr(at, end - at);
    at = end + 1;
    if (word.empty()) continue;
    if (words > 0 && line.size() + 1 + word.size() > kColumns) {
      out += line + '\n';
      line.assign(kIndent, ' ');
      words = 0;
    }
    if (words++ > 0) line += ' ';
    line += word;
  }
  while (!line.empty() && line.back() == ' ') line.pop_back();
  out += line + '\n';
}

/// Cells in columns as wide as they need; the first and the last to the left, the rest to the right.
std::string table(const std::vector<std::vector<std::string>>& rows) {
  std::vector<std::size_t> width;
  for (const auto& row : rows) {
    width.resize(std::max(width.size(), row.size()), 0);
    for (std::size_t i = 0; i < row.size(); ++i) width[i] = std::max(width[i], row[i].size());
  }
  std::string out;
  for (const auto& row : rows) {
    std::string line;
    for (std::size_t i = 0; i < row.size(); ++i) {
      const bool left = i + 1 == width.size();
      line += left ? fmt::format("  {:<{}}", row[i], width[i]) : fmt::format("  {:>{}}", row[i], width[i]);
    }
    while (line.back() == ' ') line.pop_back();
    out += line + '\n';
  }
  return out;
}

std::string advisory(const Plan& plan, const std::vector<const AdvisoryRow*>& rows, bool by_slots) {
  std::vector<std::vector<std::string>> cells;
  if (by_slots)
    cells.push_back(
        {"max_loras", "wait", "p99 delay", "GPU hit", "slot loads", "disk loads", "memory", "note"});
  else
    cells.push_back(
        {"max_cpu_loras", "GPU hit", "slot loads", "disk loads", "beyond first", "memory", "note"});
  for (const AdvisoryRow* const each : rows) {
    const AdvisoryRow& row = *each;
    const Bytes memory = by_slots ? row.slot_memory : row.host_memory;
    const std::string size = count_text(by_slots ? detail::slots_of(plan, row) : row.cell.max_cpu_loras);
    const std::string hit = share_text(row.served.gpu_hits, plan.uses);
    const std::string slot_loads = count_text(row.served.host_to_device_loads);
    const std::string disk_loads = count_text(row.served.disk_loads);
    const std::string weight = memory.value == 0 ? "-" : human_bytes(memory);
    const std::string note = (row.chosen ? "<- " : row.current ? "*  " : "") + detail::note_text(plan, row);
    if (by_slots)
      cells.push_back({size, row.waited < 0 ? "-" : share_text(row.waited),
                       row.delay_p99_s < 0 ? "-" : detail::seconds_text(row.delay_p99_s), hit, slot_loads,
                       disk_loads, weight, note});
    else
      cells.push_back(
          {size, hit, slot_loads, disk_loads, share_text(excess_disk_loads(plan, row.cell)), weight, note});
  }
  return table(cells);
}

std::string what_ifs(const Plan& plan) {
  std::vector<std::vector<std::string>> cells;
  cells.push_back({"wait", "p99 delay", "GPU hit", "beyond first", "note", "if"});
  for (const WhatIf& row : plan.what_ifs) {
    if (row.fits)
      cells.push_back({share_text(row.waited), detail::seconds_text(row.delay_p99_s),
                       share_text(row.gpu_hits), share_text(row.disk_loads), detail::note_text(plan, row),
                       row.change});
    else
      cells.push_back({"-", "-", "-", "-", detail::note_text(plan, row), row.change});
  }
  return table(cells);
}

std::string policies(const Plan& plan) {
  std::vector<std::vector<std::string>> cells;
  cells.push_back({"policy", fmt::format("misses, {}", counted(plan.device_gap.entries, "slot")),
                   "gap closed", fmt::format("misses, {} in host", count_text(plan.host_gap.entries)),
                   "gap closed", ""});
  for (const PolicyRow& row : plan.policies) {
    cells.push_back(
        {row.policy, share_text(row.device_misses, plan.uses),
         detail::closed_text(plan.device_gap, row.device_misses), share_text(row.host_misses, plan.uses),
         detail::closed_text(plan.host_gap, row.host_misses), detail::policy_note(row, row.refuses)});
  }
  return table(cells);
}

std::string policies_by_bytes(const Plan& plan) {
  const ByteGap& device = plan.device_byte_gap;
  const ByteGap& host = plan.host_byte_gap;
  std::vector<std::vector<std::string>> cells;
  cells.push_back(
      {"policy", fmt::format("loads into {}", counted(plan.chosen.max_loras, "slot")), "gap closed",
       host.known ? fmt::format("into {} in host", human_bytes(host.capacity)) : "into host memory",
       "gap closed", ""});
  for (const PolicyRow& row : plan.policies) {
    cells.push_back({row.policy, detail::loaded_text(device, row.device_bytes),
                     detail::closed_text(device, row.device_bytes), detail::loaded_text(host, row.host_bytes),
                     detail::closed_text(host, row.host_bytes),
                     detail::policy_note(row, row.refuses_by_bytes)});
  }
  cells.push_back({"bound", detail::loaded_text(device, device.bound),
                   detail::closed_text(device, device.bound), detail::loaded_text(host, host.bound),
                   detail::closed_text(host, host.bound), "for every policy"});
  return table(cells);
}

}  // namespace

std::string plan_text(const Plan& plan) {
  std::string out;
  paragraph(out, "VERDICT", detail::headline_text(plan));
  out += fmt::format("  {}\n\n", plan.flags);
  for (const std::string& caution : plan.cautions) paragraph(out, "CAUTION", caution);
  if (plan.current.known) paragraph(out, "TODAY", advice_reason(plan));
  paragraph(out, "WHY", plan.reason);
  if (const std::string text = detail::way_out_text(plan); !text.empty()) paragraph(out, "WAY OUT", text);
  if (plan.current.known) paragraph(out, "CHANGE", detail::change_text(plan));
  paragraph(out, "MEMORY", detail::memory_text(plan));
  if (const std::string text = detail::first_cost_text(plan); !text.empty()) paragraph(out, "MONTHLY", text);
  paragraph(out, "EFFECT", detail::effect_text(plan));
  paragraph(out, "RISK", detail::risk_text(plan));
  paragraph(out, "WRONG IF", detail::wrong_if_text(plan));

  out += fmt::format("\nSlots, with max_cpu_loras = {} (or max_loras where that is more)\n",
                     plan.chosen.max_cpu_loras);
  out += advisory(plan, detail::slots_rows(plan), true);
  const bool simulated = detail::is_simulated(plan);
  if (plan.active.known)
    out +=
        "  wait: requests that waited for a slot, simulated; p99 delay: 99 % start sooner after they "
        "arrive,\n"
        "  slots and loads waited for; below floor: few waited, but the adapters in use at once ask for\n"
        "  more slots\n";
  if (simulated)
    out +=
        "  hits and loads: simulated too; slots in use are not evicted. Where many wait, requests for one\n"
        "  adapter are served one after the other: hits are high, and say nothing\n";
  out += '\n';
  paragraph(out, "TRUST", detail::certainty_text(plan));
  for (const auto& [label, text] : detail::money_paragraphs(plan)) paragraph(out, label, text);
  paragraph(out, "COLD", detail::first_uses_text(plan));
  paragraph(out, "POLICY", detail::replay_note(plan) + detail::gap_text(plan, true));
  paragraph(out, "", detail::gap_text(plan, false));
  for (const bool on_device : {true, false})
    if (const std::string text = detail::byte_gap_text(plan, on_device); !text.empty())
      paragraph(out, "", text);
  paragraph(out, "VLLM", detail::replay_note(plan) + detail::vllm_text(plan));
  paragraph(out, "TRACE", detail::trace_text(plan));
  out += fmt::format("\nHost memory, with max_loras = {}{}\n", plan.chosen.max_loras,
                     simulated ? " (not simulated: requests hold nothing)" : "");
  std::vector<const AdvisoryRow*> by_host;
  for (const AdvisoryRow& row : plan.by_host) by_host.push_back(&row);
  out += advisory(plan, by_host, false);
  if (const detail::ReportTable costs = detail::cost_table(plan); !costs.lines.empty()) {
    std::vector<std::vector<std::string>> rows = {costs.header};
    for (const detail::TableLine& line : costs.lines) rows.push_back(line.cells);
    out += fmt::format("\n{}: {}\n{}", costs.title, costs.note, table(rows));
  }
  if (!plan.what_ifs.empty()) {
    out += fmt::format("\nWhat if, with max_loras = {} and max_cpu_loras = {} (simulated{})\n{}",
                       plan.chosen.max_loras, plan.chosen.max_cpu_loras, simulated ? "" : ", as lru/lru",
                       what_ifs(plan));
    paragraph(out, "", detail::what_if_note(plan));
  }
  out += fmt::format("\nPolicies, each ruling one tier of that size alone{}\n",
                     simulated ? " (not simulated: use by use, holding nothing)" : "");
  out += policies(plan);
  if (plan.device_byte_gap.known) out += "\nThe same by bytes loaded\n" + policies_by_bytes(plan);
  out += '\n';
  for (std::size_t i = 0; i < plan.assumptions.size(); ++i)
    paragraph(out, i == 0 ? "ASSUMED" : "", plan.assumptions[i]);
  for (std::size_t i = 0; i < plan.limits.size(); ++i) paragraph(out, i == 0 ? "LIMITS" : "", plan.limits[i]);
  if (!plan.reproduce.empty()) paragraph(out, "AGAIN", plan.reproduce);
  return out;
}

}  // namespace loracle
