#pragma once
/// The files of a manifest, read where they lie, a piece at a time: to examine an adapter's headers. No call
/// but a read asks the provider, and every read names the manifest's etag.
/// Paths are URI/NAME. A file's stat is made of its object's size, time and etag. Threads: any. Errors:
/// kNotFound (not in the manifest), kCorrupt (has changed), those of the provider.

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "loracle/engine/files.hpp"
#include "loracle/storage/fetch_adapter.hpp"
#include "loracle/storage/provider.hpp"

namespace loracle {

class ManifestFiles final : public Files {
 public:
  /// The provider must outlive it, and every file it has opened. `uri` has no slash at its end.
  ManifestFiles(StorageProvider& provider, std::string uri, AdapterManifest manifest)
      : provider_(provider), uri_(std::move(uri)), manifest_(std::move(manifest)) {}
  [[nodiscard]] Result<std::unique_ptr<OpenFile>> open(const std::string& path) override;
  [[nodiscard]] Result<FileStat> stat(const std::string& path) override;
  [[nodiscard]] Result<std::vector<DirectoryEntry>> list(const std::string& directory) override;

 private:
  [[nodiscard]] Result<const StoredObject*> find(const std::string& path) const;

  StorageProvider& provider_;
  const std::string uri_;
  const AdapterManifest manifest_;
};

}  // namespace loracle
