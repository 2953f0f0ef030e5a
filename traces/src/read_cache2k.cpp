/// Key access streams of the cache2k benchmarks (headissue GmbH, CC BY 4.0): 4-byte integers and nothing
/// else. Each key is an adapter, named by its signed decimal. The wrong byte order is not noticed: it renames
/// the keys, and every count of hits and misses stays the same.

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "readers.hpp"
#include "trace_builder.hpp"

namespace loracle {
namespace {

constexpr std::size_t kKeyBytes = 4;

std::int32_t key_at(const char* bytes, bool big_endian) noexcept {
  std::array<unsigned char, kKeyBytes> b;
  std::memcpy(b.data(), bytes, kKeyBytes);
  if (big_endian) std::reverse(b.begin(), b.end());
  const std::uint32_t value = static_cast<std::uint32_t>(b[0]) | static_cast<std::uint32_t>(b[1]) << 8U |
                              static_cast<std::uint32_t>(b[2]) << 16U |
                              static_cast<std::uint32_t>(b[3]) << 24U;
  return static_cast<std::int32_t>(value);
}

}  // namespace

Result<Trace> read_cache2k(ByteSource& source, const std::string& path, const ReadOptions& options,
                           const Mapping&) {
  TraceBuilder builder;
  std::vector<char> buffer(64U << 10U);
  std::size_t held = 0;     // bytes of a key that is not whole yet
  std::uint64_t whole = 0;  // bytes read before them
  for (;;) {
    const Result<std::size_t> got = source.read(std::span<char>(buffer).subspan(held));
    if (!got) return fail(got.error());
    if (*got == 0) break;
    const std::size_t bytes = held + *got;
    const std::size_t keys = bytes / kKeyBytes;
    for (std::size_t i = 0; i < keys; ++i) {
      if (options.requests_max > 0 && builder.requests() == options.requests_max) return builder.finish();
      char name[16];
      const auto written =
          fmt::format_to_n(name, sizeof name, "{}", key_at(&buffer[i * kKeyBytes], options.big_endian));
      builder.add_use({name, written.size});
    }
    held = bytes - keys * kKeyBytes;
    whole += keys * kKeyBytes;
    std::memmove(buffer.data(), buffer.data() + keys * kKeyBytes, held);
  }
  if (held > 0)
    return fail(Errc::kCorrupt,
                fmt::format("{}: {} bytes, no multiple of the 4 of a key: is the file cut off, or not "
                            "a cache2k stream?",
                            path, whole + held));
  if (builder.requests() == 0)
    return fail(Errc::kCorrupt, fmt::format("{}: the file is empty: give a trace", path));
  return builder.finish();
}

}  // namespace loracle
