#pragma once
/// Reads request traces of every supported format into a `Trace`.
///
/// Formats (by `--trace-format`, else told by name and content): jsonl (our own, documented in
/// traces/README.md), ltr (our binary), oracleGeneral, csv (with a column map), azure, burstgpt, mooncake,
/// openai (vLLM/OpenAI request log, JSONL), gentd26, servegen (client rates, realised with a seed), cache2k.
/// Each but ltr also gzip, zstd or xz compressed, told by content. Reading streams: memory is bounded by the
/// columns of the result.
/// Errors: kNotFound, kIo, kCorrupt (truncated or damaged compression or binary), kInvalid (a bad line; the
/// message reads `file:line: what (byte N): what to do`, N counted in the decompressed file). Never throws,
/// never prints.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "loracle/core/result.hpp"
#include "loracle/traces/trace.hpp"

namespace loracle {

struct ReadOptions {
  std::string format = "auto";
  /// lora | tenant | client | session | zipf | s-lora-power; empty: the format's own default. Parameters
  /// follow after colons: `zipf:adapters=200:alpha=0.9` (all of them: traces/README.md).
  std::string mapping;
  /// csv only: `adapter=2,arrival_s=0,input_tokens=in_tok`: our field = 0-based column number or header name.
  std::string columns;
  /// cache2k only: keys are 4-byte integers in this order.
  bool big_endian = false;
  bool skip_bad_lines = false;
  std::string_view
      skip_flag;             // by which the user can set that; errors of lines offer it. Empty: there is none
  std::uint64_t seed = 1;    // for mappings and realisations that draw
  double fold_period_s = 0;  // > 0: arrival time modulo the period, stable order (see transform.hpp)
  std::uint64_t requests_max = 0;            // > 0: read no more than this
  std::uint64_t line_bytes_max = 1U << 20U;  // text formats: a longer line is a bad line
};

[[nodiscard]] Result<Trace> read_trace(const std::string& path, const ReadOptions& options);

/// The names `--trace-format` and `--map` accept, for help and for "did you mean".
[[nodiscard]] const std::vector<std::string>& trace_format_names();
[[nodiscard]] const std::vector<std::string>& trace_mapping_names();

}  // namespace loracle
