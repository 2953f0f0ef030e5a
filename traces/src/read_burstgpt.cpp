/// BurstGPT (Wang et al., "BurstGPT: a real-world workload dataset", CC-BY 4.0): Timestamp,[Session
/// ID,Elapsed time,]Model, Request tokens,Response tokens,Total tokens,Log Type. Timestamp and Elapsed time
/// are seconds; requests with 0 response tokens failed and count all the same. Under mapping lora the model
/// is the adapter; session needs its column.

#include <fmt/format.h>

#include "csv_table.hpp"
#include "readers.hpp"

namespace loracle {
namespace {

struct Columns {
  int timestamp = -1;
  int input = -1;
  int output = -1;
  int elapsed = -1;
  int adapter = -1;  // Model or Session ID, as the mapping wants
};

LineCheck parse_row(const CsvTable& table, const Columns& columns, TextReader& reader, RequestDraft& draft) {
  draft.clear();
  const CsvField timestamp = table[columns.timestamp];
  double seconds = 0;
  if (LineCheck check = check_seconds(timestamp.text, "Timestamp", timestamp.at, seconds)) return check;
  draft.arrival_s = seconds;
  const CsvField input = table[columns.input];
  if (LineCheck check = check_tokens(input.text, "Request tokens", input.at, draft.input_tokens))
    return check;
  const CsvField output = table[columns.output];
  if (LineCheck check = check_tokens(output.text, "Response tokens", output.at, draft.output_tokens))
    return check;
  const CsvField elapsed = table[columns.elapsed];
  if (!elapsed.text.empty()) {
    if (LineCheck check = check_seconds(elapsed.text, "Elapsed time", elapsed.at, seconds)) return check;
    draft.duration_s = static_cast<float>(seconds);
  }
  const CsvField adapter = table[columns.adapter];
  if (!adapter.text.empty()) {  // requests made through the API have no session
    if (LineCheck check = check_name(adapter.text, "the adapter's column", adapter.at)) return check;
    const bool by_session = reader.mapping().kind == MappingKind::kSession;
    draft.adapters.push_back(by_session ? reader.adapter_of_session(adapter.text) : adapter.text);
  }
  return reader.add(draft);
}

}  // namespace

Result<Trace> read_burstgpt(ByteSource& source, const std::string& path, const ReadOptions& options,
                            const Mapping& mapping) {
  TextReader reader(source, path, options, mapping);
  CsvTable table(reader);
  const Result<Unit> header = table.read_first_line();
  if (!header) return fail(header.error());
  Columns columns;
  const auto require = [&](const char* name, int& column) -> Result<Unit> {
    const Result<int> found = table.require(name, "burstgpt");
    if (!found) return fail(found.error());
    column = *found;
    return Unit{};
  };
  for (const auto& [name, column] : {std::pair<const char*, int*>{"Timestamp", &columns.timestamp},
                                     {"Request tokens", &columns.input},
                                     {"Response tokens", &columns.output}}) {
    const Result<Unit> found = require(name, *column);
    if (!found) return fail(found.error());
  }
  columns.elapsed = table.find("Elapsed time");
  if (mapping.kind == MappingKind::kLora || mapping.kind == MappingKind::kSession) {
    const Result<Unit> found =
        require(mapping.kind == MappingKind::kLora ? "Model" : "Session ID", columns.adapter);
    if (!found) return fail(found.error());
  }
  RequestDraft draft;
  for (;;) {
    const Result<bool> more = table.next();
    if (!more) return fail(more.error());
    if (!*more) return reader.finish();
    const Result<Unit> settled = reader.settle(parse_row(table, columns, reader, draft));
    if (!settled) return fail(settled.error());
  }
}

}  // namespace loracle
