// Any bytes as a file: decompressed to the same bytes whatever the step, or refused with the path; never more
// output than the format can hold, so no endless loop.

#include <cstdlib>
#include <string>

#include "../../traces/src/byte_source.hpp"
#include "memory_file.hpp"

namespace {

constexpr std::size_t kOutputMax = std::size_t{8} << 20U;  // a bomb is a long answer, not a wrong one

struct Outcome {
  std::string bytes;
  bool failed = false;
};

Outcome read_in_steps(const std::string& path, std::size_t step) {
  auto source = loracle::ByteSource::open(path);
  if (!source) return {"", true};
  Outcome outcome;
  std::string part(step, '\0');
  while (outcome.bytes.size() < kOutputMax) {
    const auto got = source->read(part);
    if (!got) {
      if (got.error().message.find(path) != 0 || source->read(part)) std::abort();
      outcome.failed = true;
      return outcome;
    }
    outcome.bytes.append(part, 0, *got);
    if (*got < step) break;
  }
  return outcome;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const loracle::testing::MemoryFile file(data, size);
  const Outcome whole = read_in_steps(file.path(), std::size_t{1} << 20U);
  const Outcome steps = read_in_steps(file.path(), 4099);
  if (whole.bytes.size() >= kOutputMax || steps.bytes.size() >= kOutputMax) return 0;
  if (whole.failed != steps.failed) std::abort();
  if (!whole.failed && whole.bytes != steps.bytes) std::abort();
  return 0;
}
