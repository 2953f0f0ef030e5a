#pragma once
/// What a fetch brought, and its error.

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "loracle/storage/provider.hpp"

namespace loracle::testing {

struct Fetched {
  std::string bytes;
  std::optional<Error> error;
};

/// Expects the bytes to come in order, without a gap.
inline Fetched fetch(StorageProvider& provider, const std::string& uri, const FetchRange& range) {
  Fetched fetched;
  const auto done = provider.fetch(uri, range, [&](std::uint64_t offset, std::span<const std::byte> bytes) {
    EXPECT_EQ(offset, range.offset + fetched.bytes.size());
    fetched.bytes.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    return Result<Unit>(Unit{});
  });
  if (!done) fetched.error = done.error();
  return fetched;
}

}  // namespace loracle::testing
