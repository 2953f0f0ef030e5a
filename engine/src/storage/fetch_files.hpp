#pragma once
/// The files of a manifest into descriptors that are open for writing and have their full size.
/// Threads: starts up to parts_at_once - 1 of its own, all gone when it returns. Nothing is flushed.

#include <span>
#include <string>
#include <vector>

#include "loracle/core/result.hpp"
#include "loracle/storage/fetch_adapter.hpp"
#include "loracle/storage/provider.hpp"

namespace loracle {

/// [files] SHA-256 of what was written, taken on the way. Errors: the first that a part met; the others are
/// given up. REQUIRES: a descriptor for each file, open for reading too.
[[nodiscard]] Result<std::vector<std::string>> fetch_files(StorageProvider& provider, const std::string& uri,
                                                           const AdapterManifest& manifest,
                                                           std::span<const int> descriptors,
                                                           const FetchAdapterOptions& options);

}  // namespace loracle
