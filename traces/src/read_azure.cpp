/// Azure LLM inference traces 2023 and 2024 (CC-BY 4.0, Microsoft): TIMESTAMP,ContextTokens,GeneratedTokens.
/// They name no adapter, so the mapping is always a synthetic one. Arrival is counted from the earliest
/// stamp.

#include <fmt/format.h>

#include "csv_table.hpp"
#include "parse_values.hpp"
#include "readers.hpp"

namespace loracle {

Result<Trace> read_azure(ByteSource& source, const std::string& path, const ReadOptions& options,
                         const Mapping& mapping) {
  TextReader reader(source, path, options, mapping);
  CsvTable table(reader);
  const Result<Unit> header = table.read_first_line();
  if (!header) return fail(header.error());
  const Result<int> stamp = table.require("TIMESTAMP", "azure");
  if (!stamp) return fail(stamp.error());
  const Result<int> input = table.require("ContextTokens", "azure");
  if (!input) return fail(input.error());
  const Result<int> output = table.require("GeneratedTokens", "azure");
  if (!output) return fail(output.error());

  reader.builder().count_from_earliest();
  ArrivalClock clock;
  RequestDraft draft;
  const auto parse_row = [&]() -> LineCheck {
    draft.clear();
    if (LineCheck check =
            check_tokens(table[*input].text, "ContextTokens", table[*input].at, draft.input_tokens))
      return check;
    if (LineCheck check =
            check_tokens(table[*output].text, "GeneratedTokens", table[*output].at, draft.output_tokens))
      return check;
    draft.arrival_s = clock.seconds(table[*stamp].text);
    if (!draft.arrival_s)
      return LineFault{table[*stamp].at, fmt::format("TIMESTAMP is '{}'", excerpt(table[*stamp].text)),
                       "write it as 2023-11-16 18:15:46.6805900"};
    return reader.add(draft);
  };
  for (;;) {
    const Result<bool> more = table.next();
    if (!more) return fail(more.error());
    if (!*more) return reader.finish();
    const Result<Unit> settled = reader.settle(parse_row());
    if (!settled) return fail(settled.error());
  }
}

}  // namespace loracle
