#pragma once
/// Adapter facts from a directory of adapters as PEFT saves them: one folder an adapter, its name the
/// adapter's, with `adapter_config.json` (`r`) beside `adapter_model.safetensors` or `adapter_model.bin` (its
/// size). Folders that are not adapters are passed over; an adapter whose files are damaged is listed, never
/// fatal.

#include <string>
#include <vector>

#include "loracle/core/result.hpp"
#include "loracle/traces/trace.hpp"

namespace loracle {

struct AdapterDirectoryReport {
  std::uint64_t found = 0;               // adapters in the directory
  std::uint64_t matched = 0;             // of the trace's adapters, how many got facts from it
  std::vector<std::string> rejected;     // `name: reason`, sorted
};

/// Fills `trace.adapters.bytes` and `.rank` for the adapters found in `directory`; others keep what they had.
/// Errors: kNotFound, kIo (the directory itself).
[[nodiscard]] Result<AdapterDirectoryReport> add_adapter_facts(Trace& trace, const std::string& directory);

}  // namespace loracle
