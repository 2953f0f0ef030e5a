// Any bytes as an .ltr file: refused, or a trace that keeps every promise and is written back as it was.

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>

#include "loracle/traces/check_trace.hpp"
#include "loracle/traces/ltr.hpp"
#include "loracle/traces/transform.hpp"
#include "memory_file.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const loracle::testing::MemoryFile file(data, size);
  (void)loracle::open_ltr(file.path());
  const auto trace = loracle::read_ltr(file.path());
  if (!trace) {
    if (trace.error().message.find(file.path()) != 0) std::abort();
    return 0;
  }
  if (!loracle::check_trace(*trace)) std::abort();
  if (!loracle::check_trace(loracle::head(*trace, trace->requests / 2))) std::abort();
  const std::string copy = std::filesystem::temp_directory_path() / "loracle-fuzz.ltr";
  if (!loracle::write_ltr(*trace, copy)) std::abort();
  std::ifstream in(copy, std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  // One trace has one form: whatever is accepted is what we would have written.
  if (bytes != std::string_view(reinterpret_cast<const char*>(data), size)) std::abort();
  std::filesystem::remove(copy);
  return 0;
}
