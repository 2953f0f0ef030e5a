#pragma once
/// An adapter from a storage provider into a directory of this machine, whole.
///
/// What belongs to it: adapter_config.json; adapter_model.safetensors or, if that is absent,
/// adapter_model.bin; new_embeddings.safetensors if it is there. Nothing else is fetched.
/// Files are fetched in parts, several at once; from a server that knows no ranges, each file in one. Every
/// part names the etag of the manifest: an adapter that changes on the way ends in kCorrupt, and never
/// becomes a mixture.
/// Errors: those of the provider; kNotFound (no config, or no weights), kTooLarge, kUnsupported (a file
/// without an etag), kInvalid (an http(s) URL with a query or fragment). Where the provider cannot list, 403
/// of another file than the config means that it is absent.

#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "loracle/core/result.hpp"
#include "loracle/storage/provider.hpp"

namespace loracle {

inline constexpr std::string_view kAdapterSafetensors = "adapter_model.safetensors";

struct AdapterManifest {
  std::vector<StoredObject> files;  // ascending by name
  std::uint64_t bytes = 0;          // of all files
  std::string content;              // hex digest of the URI, names, sizes and etags

  [[nodiscard]] bool has(std::string_view name) const noexcept;
};

[[nodiscard]] Result<AdapterManifest> adapter_manifest(StorageProvider& provider, const std::string& uri);

struct FetchAdapterOptions {
  std::uint64_t part_bytes = 16U << 20U;
  std::uint32_t parts_at_once = 4;
  std::uint64_t file_bytes_max = 64ULL << 30U;
  const std::atomic<bool>* stopped = nullptr;  // once true, a fetch ends in kCancelled
};

/// REQUIRES: `directory` exists and has none of the files. All that was written is on the disk (fsync) when
/// this succeeds; when it fails, files of unknown content may be left there.
[[nodiscard]] Result<Unit> fetch_adapter(StorageProvider& provider, const std::string& uri,
                                         const AdapterManifest& manifest, const std::string& directory,
                                         const FetchAdapterOptions& options = {});

}  // namespace loracle
