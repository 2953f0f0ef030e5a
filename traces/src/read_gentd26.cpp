/// GenTD26 (Alibaba, cluster-trace-v2026-GenAI; Lin et al., SoCC'25), as joined and renumbered in one table:
/// seq,t_s,group,task,base,loras,prompt_chars,neg_chars,n_images,steps,exec_s,status. Columns are found by
/// name; loras is needed, t_s, group and exec_s are used where they are. Every status counts: a failed
/// request needed its LoRAs too.

#include <fmt/format.h>

#include <algorithm>

#include "csv_table.hpp"
#include "parse_values.hpp"
#include "readers.hpp"

namespace loracle {
namespace {

/// "L0003:0.8|L0017:1": names in order, scales checked and dropped.
LineCheck parse_loras(const CsvField& field, RequestDraft& draft) {
  std::size_t begin = 0;
  while (begin < field.text.size()) {
    const std::size_t end = std::min(field.text.find('|', begin), field.text.size());
    std::string_view name = field.text.substr(begin, end - begin);
    const std::size_t colon = name.rfind(':');
    if (colon != std::string_view::npos) {
      if (!parse_number(name.substr(colon + 1)))
        return LineFault{field.at + begin + colon + 1,
                         fmt::format("the scale of '{}' is no number", excerpt(name)),
                         "write loras as NAME:SCALE|NAME:SCALE"};
      name = name.substr(0, colon);
    }
    if (LineCheck check = check_name(name, "a name in loras", field.at + begin)) return check;
    draft.adapters.push_back(name);
    begin = end + 1;
  }
  if (!field.text.empty() && field.text.back() == '|')
    return LineFault{field.at + field.text.size() - 1, "loras ends with '|'",
                     "write loras as NAME:SCALE|NAME:SCALE"};
  return std::nullopt;
}

struct Columns {
  int t_s = -1;
  int group = -1;
  int loras = -1;
  int exec_s = -1;
};

LineCheck parse_row(const CsvTable& table, const Columns& columns, RequestDraft& draft) {
  const CsvField t_s = table[columns.t_s];
  if (!t_s.text.empty()) {
    double arrival_s = 0;
    if (LineCheck check = check_seconds(t_s.text, "t_s", t_s.at, arrival_s)) return check;
    draft.arrival_s = arrival_s;
  }
  const CsvField exec_s = table[columns.exec_s];
  if (!exec_s.text.empty()) {
    double duration_s = 0;
    if (LineCheck check = check_seconds(exec_s.text, "exec_s", exec_s.at, duration_s)) return check;
    draft.duration_s = static_cast<float>(duration_s);
  }
  const CsvField group = table[columns.group];
  if (!group.text.empty()) {
    if (LineCheck check = check_name(group.text, "group", group.at)) return check;
    draft.tenant = group.text;
  }
  return parse_loras(table[columns.loras], draft);
}

}  // namespace

Result<Trace> read_gentd26(ByteSource& source, const std::string& path, const ReadOptions& options,
                           const Mapping& mapping) {
  TextReader reader(source, path, options, mapping);
  CsvTable table(reader);
  const Result<Unit> header = table.read_first_line();
  if (!header) return fail(header.error());
  const Result<int> loras = table.require("loras", "gentd26");
  if (!loras) return fail(loras.error());
  const Columns columns{table.find("t_s"), table.find("group"), *loras, table.find("exec_s")};
  RequestDraft draft;
  for (;;) {
    const Result<bool> more = table.next();
    if (!more) return fail(more.error());
    if (!*more) return reader.finish();
    draft.clear();
    LineCheck check = parse_row(table, columns, draft);
    if (!check) check = reader.add(draft);
    const Result<Unit> settled = reader.settle(check);
    if (!settled) return fail(settled.error());
  }
}

}  // namespace loracle
