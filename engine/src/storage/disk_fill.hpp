#pragma once
/// The files of an entry while they are written: made at their full size, then sealed with a record of what
/// they hold. Threads: one owner; the descriptors may be written from any.

#include <span>
#include <string>
#include <vector>

#include "loracle/core/result.hpp"
#include "loracle/storage/cache.hpp"
#include "storage/cache_io.hpp"

namespace loracle {

class StagedFiles {
 public:
  /// REQUIRES: check_contents is content; the directory is empty.
  StagedFiles(std::string directory, CacheContents contents)
      : directory_(std::move(directory)), contents_(std::move(contents)) {}

  [[nodiscard]] const std::string& directory() const noexcept { return directory_; }
  [[nodiscard]] const CacheContents& contents() const noexcept { return contents_; }
  [[nodiscard]] std::span<const int> descriptors() const noexcept { return descriptors_; }

  [[nodiscard]] Result<Unit> create();
  /// [files] Of what was written; they are taken by `seal` otherwise.
  void set_digests(const std::vector<std::string>& sha256) { sha256_ = sha256; }
  /// Flushes all, takes the digests that were not set, sets the modes, and writes the record.
  /// `directory_fd`: of the directory.
  [[nodiscard]] Result<Unit> seal(int directory_fd);

 private:
  [[nodiscard]] std::string path_of(const CacheFile& file) const;
  [[nodiscard]] Result<Unit> flush_files() const;
  [[nodiscard]] Result<std::vector<std::string>> digests() const;  // [files]
  [[nodiscard]] Result<Unit> flush_folders(int directory_fd) const;

  std::string directory_;
  CacheContents contents_;
  std::vector<UniqueFd> files_;      // [files]
  std::vector<int> descriptors_;     // [files]
  std::vector<std::string> sha256_;  // [files] or empty: not known yet
};

/// The folders that the names need, parents first.
[[nodiscard]] std::vector<std::string> folders_of(std::span<const CacheFile> files);

}  // namespace loracle
