#include "storage/disk_fill.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <cerrno>
#include <set>
#include <utility>

#include "loracle/core/check.hpp"
#include "loracle/engine/digest.hpp"
#include "loracle/engine/run_on_threads.hpp"
#include "storage/cache_record.hpp"

namespace loracle {

std::vector<std::string> folders_of(std::span<const CacheFile> files) {
  std::set<std::string> folders;
  for (const CacheFile& file : files)
    for (std::size_t slash = file.name.find('/'); slash != std::string::npos;
         slash = file.name.find('/', slash + 1))
      folders.insert(file.name.substr(0, slash));
  return {folders.begin(), folders.end()};
}

std::string StagedFiles::path_of(const CacheFile& file) const {
  return fmt::format("{}/{}", directory_, file.name);
}

Result<Unit> StagedFiles::create() {
  for (const std::string& folder : folders_of(contents_.files)) {
    const std::string path = fmt::format("{}/{}", directory_, folder);
    if (::mkdir(path.c_str(), 0700) != 0) return io_failed(path, "make the directory", errno);
  }
  for (const CacheFile& file : contents_.files) {
    const std::string path = path_of(file);
    Result<UniqueFd> fd = create_file(path);
    if (!fd) return fail(std::move(fd.error()));
    if (Result<Unit> sized = allocate(fd->get(), path, file.size); !sized) return sized;
    descriptors_.push_back(fd->get());
    files_.push_back(std::move(*fd));
  }
  return Unit{};
}

Result<Unit> StagedFiles::flush_files() const {
  for (std::size_t i = 0; i < files_.size(); ++i)
    if (Result<Unit> flushed = flush(files_[i].get(), path_of(contents_.files[i])); !flushed) return flushed;
  return Unit{};
}

Result<std::vector<std::string>> StagedFiles::digests() const {
  LORACLE_CHECK(sha256_.empty() || sha256_.size() == contents_.files.size());
  if (!sha256_.empty()) return sha256_;
  std::vector<std::string> sha256;
  for (const CacheFile& file : contents_.files) {
    Result<FileDigest> digest = digest_file(posix_files(), path_of(file));
    if (!digest) return fail(std::move(digest.error()));
    if (digest->stat.size != file.size) {
      return fail(Errc::kCorrupt, fmt::format("{}: has {} bytes, {} were announced", path_of(file),
                                              digest->stat.size, file.size));
    }
    sha256.push_back(std::move(digest->sha256));
  }
  return sha256;
}

Result<Unit> StagedFiles::seal(int directory_fd) {
  Result<Unit> flushed = Unit{};
  Result<std::vector<std::string>> sha256 = std::vector<std::string>();
  // One waits for the disk, the other for the processor.
  run_on_threads(2, 2, [&](std::size_t task) {
    if (task == 0)
      flushed = flush_files();
    else
      sha256 = digests();
  });
  if (!flushed) return flushed;
  if (!sha256) return fail(std::move(sha256.error()));
  for (std::size_t i = 0; i < files_.size(); ++i)
    if (::fchmod(files_[i].get(), contents_.files[i].mode) != 0)
      return io_failed(path_of(contents_.files[i]), "set the permissions", errno);
  const CacheRecord record{contents_, std::move(*sha256)};
  descriptors_.clear();
  files_.clear();
  const std::string path = fmt::format("{}/{}", directory_, kRecordName);
  Result<UniqueFd> fd = create_file(path);
  if (!fd) return fail(std::move(fd.error()));
  const std::string text = write_record(record);
  if (Result<Unit> put = write_at(fd->get(), path, 0, std::as_bytes(std::span(text))); !put) return put;
  if (flushed = flush(fd->get(), path); !flushed) return flushed;
  return flush_folders(directory_fd);
}

Result<Unit> StagedFiles::flush_folders(int directory_fd) const {
  for (const std::string& folder : folders_of(contents_.files)) {
    const std::string path = fmt::format("{}/{}", directory_, folder);
    Result<UniqueFd> fd = open_directory(path);
    if (!fd) return fail(std::move(fd.error()));
    if (Result<Unit> flushed = flush(fd->get(), path); !flushed) return flushed;
  }
  return flush(directory_fd, directory_);
}

}  // namespace loracle
