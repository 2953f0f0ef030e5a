// Any bytes as our JSONL: refused with path and line, or a trace that keeps every promise and survives being
// written and read again.

#include <cstdlib>
#include <span>
#include <string>

#include "loracle/traces/check_trace.hpp"
#include "loracle/traces/read.hpp"
#include "loracle/traces/write.hpp"
#include "memory_file.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const loracle::testing::MemoryFile file(data, size);
  loracle::ReadOptions options;
  options.format = "jsonl";
  options.skip_bad_lines = true;
  (void)loracle::read_trace(file.path(), options);
  options.skip_bad_lines = false;
  const auto trace = loracle::read_trace(file.path(), options);
  if (!trace) {
    if (trace.error().message.find(file.path()) != 0) std::abort();
    return 0;
  }
  if (!loracle::check_trace(*trace)) std::abort();
  std::string text;
  const auto append = [&](std::span<const char> bytes) -> loracle::Result<loracle::Unit> {
    text.append(bytes.data(), bytes.size());
    return loracle::Unit{};
  };
  if (!loracle::write_jsonl(*trace, append)) std::abort();
  const loracle::testing::MemoryFile copy(text);
  const auto again = loracle::read_trace(copy.path(), options);
  if (!again || again->requests != trace->requests || again->rows() != trace->rows()) std::abort();
  if (again->uses.size() != trace->uses.size()) std::abort();
  for (std::size_t i = 0; i < trace->uses.size(); ++i) {
    if (again->uses[i] != trace->uses[i]) std::abort();
  }
  return 0;
}
