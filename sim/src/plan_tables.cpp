#include "plan_tables.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "loracle/core/parse_bytes.hpp"
#include "plan_format.hpp"
#include "plan_sentences.hpp"

namespace loracle::detail {
namespace {

std::string memory_cell(Bytes memory) { return memory.value == 0 ? "-" : human_bytes(memory); }

TableLine advisory_line(const Plan& plan, const AdvisoryRow& row, bool by_slots) {
  TableLine line;
  line.is_chosen = row.chosen;
  line.is_current = row.current;
  line.is_off = row.below_floor || row.over_limit;
  line.cells.push_back(count_text(by_slots ? slots_of(plan, row) : row.cell.max_cpu_loras));
  if (by_slots) {
    line.cells.push_back(row.waited < 0 ? "-" : share_text(row.waited));
    line.cells.push_back(row.delay_p99_s < 0 ? "-" : seconds_text(row.delay_p99_s));
  }
  line.cells.push_back(share_text(row.served.gpu_hits, plan.uses));
  line.cells.push_back(count_text(row.served.host_to_device_loads));
  line.cells.push_back(count_text(row.served.disk_loads));
  line.cells.push_back(share_text(excess_disk_loads(plan, row.served)));
  line.cells.push_back(memory_cell(by_slots ? row.slot_memory : row.host_memory));
  line.cells.push_back(note_text(plan, row));
  return line;
}

}  // namespace

std::vector<const AdvisoryRow*> slots_rows(const Plan& plan) {
  std::vector<const AdvisoryRow*> rows;
  bool has_current = false;
  for (const AdvisoryRow& row : plan.by_slots) {
    rows.push_back(&row);
    has_current = has_current || row.current;
  }
  if (!plan.current.known || has_current) return rows;
  const auto larger = std::find_if(rows.begin(), rows.end(), [&](const AdvisoryRow* row) {
    return row->cell.max_loras > plan.current.max_loras;
  });
  rows.insert(larger, &plan.current.row);
  return rows;
}

ReportTable slots_table(const Plan& plan) {
  ReportTable table;
  table.title = "More or fewer slots";
  table.note = fmt::format(
      "with max_cpu_loras = {}, or max_loras where that is more{}", plan.chosen.max_cpu_loras,
      is_simulated(plan) ? "; waits, hits and loads are simulated. Where many wait, high hits say nothing"
                         : "");
  table.header = {"max_loras",  "wait for a slot",   "p99 delay",   "GPU hit", "slot loads",
                  "disk loads", "beyond first uses", "slot memory", "note"};
  for (const AdvisoryRow* row : slots_rows(plan)) table.lines.push_back(advisory_line(plan, *row, true));
  return table;
}

ReportTable host_table(const Plan& plan) {
  ReportTable table;
  table.title = "More or less host memory";
  table.note = fmt::format("with max_loras = {}{}", plan.chosen.max_loras,
                           is_simulated(plan) ? "; not simulated: requests hold nothing" : "");
  table.header = {"max_cpu_loras",     "GPU hit",     "slot loads", "disk loads",
                  "beyond first uses", "host memory", "note"};
  for (const AdvisoryRow& row : plan.by_host) table.lines.push_back(advisory_line(plan, row, false));
  return table;
}

ReportTable what_if_table(const Plan& plan) {
  ReportTable table;
  table.title = "What if";
  table.note = what_if_note(plan);
  table.header = {"if", "requests that wait", "p99 delay", "GPU hit", "disk loads beyond first", "note"};
  table.names_first = true;
  for (const WhatIf& row : plan.what_ifs) {
    TableLine line;
    line.is_chosen = &row == plan.what_ifs.data();
    line.cells = {row.change,
                  row.fits ? share_text(row.waited) : "-",
                  row.fits ? seconds_text(row.delay_p99_s) : "-",
                  row.fits ? share_text(row.gpu_hits) : "-",
                  row.fits ? share_text(row.disk_loads) : "-",
                  note_text(plan, row)};
    table.lines.push_back(std::move(line));
  }
  return table;
}

ReportTable policies_table(const Plan& plan) {
  ReportTable table;
  table.title = "Policies";
  table.note = "each ruling one tier of that size alone";
  table.header = {"policy",
                  fmt::format("misses with {}", counted(plan.device_gap.entries, "slot")),
                  "of the gap closed",
                  fmt::format("misses with {} in host memory", count_text(plan.host_gap.entries)),
                  "of the gap closed",
                  "note"};
  table.names_first = true;
  for (const PolicyRow& row : plan.policies) {
    TableLine line;
    line.is_chosen = row.policy == "lru";
    line.cells = {row.policy,
                  share_text(row.device_misses, plan.uses),
                  closed_text(plan.device_gap, row.device_misses),
                  share_text(row.host_misses, plan.uses),
                  closed_text(plan.host_gap, row.host_misses),
                  line.is_chosen ? "what vLLM does" : policy_note(row, row.refuses)};
    table.lines.push_back(std::move(line));
  }
  return table;
}

ReportTable policies_by_bytes_table(const Plan& plan) {
  const ByteGap& device = plan.device_byte_gap;
  const ByteGap& host = plan.host_byte_gap;
  ReportTable table;
  table.title = "The same by bytes loaded";
  table.header = {"policy",
                  fmt::format("loads into {}", counted(plan.chosen.max_loras, "slot")),
                  "of the gap closed",
                  host.known ? fmt::format("loads into {} of host memory", human_bytes(host.capacity))
                             : "loads into host memory",
                  "of the gap closed",
                  "note"};
  table.names_first = true;
  if (!device.known) return table;
  for (const PolicyRow& row : plan.policies) {
    TableLine line;
    line.is_chosen = row.policy == "lru";
    line.cells = {row.policy,
                  loaded_text(device, row.device_bytes),
                  closed_text(device, row.device_bytes),
                  loaded_text(host, row.host_bytes),
                  closed_text(host, row.host_bytes),
                  line.is_chosen ? "what vLLM does" : policy_note(row, row.refuses_by_bytes)};
    table.lines.push_back(std::move(line));
  }
  TableLine bound;
  bound.cells = {"bound",
                 loaded_text(device, device.bound),
                 closed_text(device, device.bound),
                 loaded_text(host, host.bound),
                 closed_text(host, host.bound),
                 "for every policy"};
  table.lines.push_back(std::move(bound));
  return table;
}

}  // namespace loracle::detail
