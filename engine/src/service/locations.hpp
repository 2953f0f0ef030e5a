#pragma once
/// Small files beside an adapter's weights, wherever the adapter lies: a directory or a URI.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "loracle/core/result.hpp"
#include "loracle/engine/files.hpp"
#include "loracle/storage/provider.hpp"

namespace loracle::service {

/// A directory of this machine as a path; a URI of another scheme as it is.
struct Location {
  std::string place;
  bool is_remote = false;
};

/// Understands file:// URIs; drops trailing slashes. Errors: kInvalid.
[[nodiscard]] Result<Location> location_of(const std::string& text);

/// The provider that reads the location. Errors: kUnsupported.
[[nodiscard]] Result<StorageProvider*> storage_of(std::span<StorageProvider* const> storage,
                                                  const std::string& uri);

/// The whole of a small file. Errors: kNotFound, kTooLarge above `bytes_max`, those of files and storage.
[[nodiscard]] Result<std::string> read_beside(Files& files, std::span<StorageProvider* const> storage,
                                              const Location& location, std::string_view file,
                                              std::uint64_t bytes_max);

}  // namespace loracle::service
