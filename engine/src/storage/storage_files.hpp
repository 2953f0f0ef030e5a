#pragma once
/// What a storage provider has, as files: to read an adapter's headers where it lies, a piece at a time.
/// Paths are URIs. A file's stat is made of its object's size, time and etag; every read names the etag it
/// was opened with. Threads, errors: those of the provider.

#include <memory>
#include <string>
#include <vector>

#include "loracle/engine/files.hpp"
#include "loracle/storage/provider.hpp"

namespace loracle {

class StorageFiles final : public Files {
 public:
  /// The provider must outlive it, and every file it has opened.
  explicit StorageFiles(StorageProvider& provider) : provider_(provider) {}
  [[nodiscard]] Result<std::unique_ptr<OpenFile>> open(const std::string& path) override;
  [[nodiscard]] Result<FileStat> stat(const std::string& path) override;
  [[nodiscard]] Result<std::vector<DirectoryEntry>> list(const std::string& directory) override;

 private:
  StorageProvider& provider_;
};

}  // namespace loracle
