#pragma once
/// Puts the right checksums on the bytes of an .ltr file, whatever was changed in them: what then is accepted
/// must be sound without help from a checksum. Layout: see loracle/traces/ltr.hpp.

#include <xxhash.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>

namespace loracle::testing {

[[nodiscard]] inline std::string ltr_sealed(std::string bytes) {
  constexpr std::size_t kHeader = 64;
  constexpr std::size_t kEntry = 32;
  std::uint32_t sections = 0;
  if (bytes.size() < kHeader) return bytes;
  std::memcpy(&sections, bytes.data() + 12, 4);
  if (sections > (bytes.size() - kHeader) / kEntry) return bytes;
  for (std::size_t i = 0; i < sections; ++i) {
    char* const entry = bytes.data() + kHeader + kEntry * i;
    std::uint32_t width = 0;
    std::uint64_t offset = 0;
    std::uint64_t elements = 0;
    std::memcpy(&width, entry + 4, 4);
    std::memcpy(&offset, entry + 8, 8);
    std::memcpy(&elements, entry + 16, 8);
    if (offset > bytes.size() || elements > (bytes.size() - offset) / std::max(width, 1U)) continue;
    const std::uint64_t sum = XXH3_64bits(bytes.data() + offset, elements * width);
    std::memcpy(entry + 24, &sum, 8);
  }
  const std::string sealed = bytes.substr(0, 56) + bytes.substr(kHeader, kEntry * sections);
  const std::uint64_t sum = XXH3_64bits(sealed.data(), sealed.size());
  std::memcpy(bytes.data() + 56, &sum, 8);
  return bytes;
}

}  // namespace loracle::testing
