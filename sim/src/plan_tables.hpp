#pragma once
/// The tables that the page and the Markdown share, as texts.

#include <string>
#include <vector>

#include "loracle/sim/plan.hpp"

namespace loracle::detail {

struct TableLine {
  std::vector<std::string> cells;
  bool is_chosen = false;
  bool is_current = false;
  bool is_off = false;  // no answer: below the floor, or over a memory limit
};

struct ReportTable {
  std::string title;
  std::string note;                 // what the figures are; may be empty
  std::vector<std::string> header;  // the last column is text, the first too if `names_first`
  bool names_first = false;
  std::vector<TableLine> lines;
};

/// The slots' table, today's setting among it. Pointers into the plan.
[[nodiscard]] std::vector<const AdvisoryRow*> slots_rows(const Plan& plan);

[[nodiscard]] ReportTable slots_table(const Plan& plan);
[[nodiscard]] ReportTable host_table(const Plan& plan);
/// Without lines where nothing was simulated.
[[nodiscard]] ReportTable what_if_table(const Plan& plan);
/// Without lines where nothing was simulated, or there are no two to compare.
[[nodiscard]] ReportTable worst_adapters_table(const Plan& plan);
[[nodiscard]] ReportTable worst_tenants_table(const Plan& plan);
[[nodiscard]] ReportTable policies_table(const Plan& plan);
/// Without lines where sizes are unknown or equal.
[[nodiscard]] ReportTable policies_by_bytes_table(const Plan& plan);

}  // namespace loracle::detail
