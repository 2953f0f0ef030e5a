#pragma once
/// The flags of subcommands that read a trace.

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "loracle/core/result.hpp"
#include "loracle/traces/read.hpp"
#include "loracle/traces/trace.hpp"

namespace loracle::app {

/// Flags every subcommand that reads a trace has.
struct TraceFlags {
  std::string path;
  ReadOptions read;
  std::string fold;
  std::string catalog;
  std::string lora_dtype = "bfloat16";

  void add_to(CLI::App& command);
  /// Reads, folds, adds the catalogue's facts. Rejected adapters and skipped lines are told on stderr.
  [[nodiscard]] Result<Trace> load() const;
};

/// Errors: kInvalid if bytes are to be counted and the trace says of no adapter how many it has.
[[nodiscard]] Result<Unit> check_sizes_known(const Trace& trace);
/// The rows of the names given by --pin. Errors: kNotFound.
[[nodiscard]] Result<std::vector<Row>> find_pins(const Trace& trace, const std::vector<std::string>& names);

}  // namespace loracle::app
