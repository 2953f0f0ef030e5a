// Any bytes as an .ltr file, as they are and with their checksums put right: refused, or a trace that keeps
// every promise and is written back as it was.

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "loracle/traces/check_trace.hpp"
#include "loracle/traces/ltr.hpp"
#include "loracle/traces/transform.hpp"
#include "ltr_seal.hpp"
#include "memory_file.hpp"

namespace {

void read_and_write(const std::string& bytes) {
  const loracle::testing::MemoryFile file(bytes);
  (void)loracle::open_ltr(file.path());
  const auto trace = loracle::read_ltr(file.path());
  if (!trace) {
    if (trace.error().message.find(file.path()) != 0) std::abort();
    return;
  }
  if (!loracle::check_trace(*trace)) std::abort();
  if (!loracle::check_trace(loracle::head(*trace, trace->requests / 2))) std::abort();
  const std::string name = "loracle-fuzz-" + std::to_string(::getpid()) + ".ltr";
  const std::string copy = (std::filesystem::temp_directory_path() / name).string();
  if (!loracle::write_ltr(*trace, copy)) std::abort();
  std::ifstream in(copy, std::ios::binary);
  const std::string written((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  std::filesystem::remove(copy);
  // One trace has one form: whatever is accepted is what we would have written.
  if (written != bytes) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string bytes(reinterpret_cast<const char*>(data), size);
  read_and_write(bytes);
  read_and_write(loracle::testing::ltr_sealed(bytes));
  return 0;
}
