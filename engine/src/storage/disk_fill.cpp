#include "storage/disk_fill.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <cerrno>
#include <set>
#include <utility>

#include "loracle/engine/digest.hpp"
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

Result<Unit> StagedFiles::create() {
  for (const std::string& folder : folders_of(contents_.files)) {
    const std::string path = fmt::format("{}/{}", directory_, folder);
    if (::mkdir(path.c_str(), 0700) != 0) return io_failed(path, "make the directory", errno);
  }
  for (const CacheFile& file : contents_.files) {
    const std::string path = fmt::format("{}/{}", directory_, file.name);
    Result<UniqueFd> fd = create_file(path);
    if (!fd) return fail(std::move(fd.error()));
    if (Result<Unit> sized = allocate(fd->get(), path, file.size); !sized) return sized;
    descriptors_.push_back(fd->get());
    files_.push_back(std::move(*fd));
  }
  return Unit{};
}

Result<Unit> StagedFiles::seal(int directory_fd) {
  CacheRecord record{contents_, {}};
  for (std::size_t i = 0; i < files_.size(); ++i) {
    const CacheFile& file = contents_.files[i];
    const std::string path = fmt::format("{}/{}", directory_, file.name);
    if (Result<Unit> flushed = flush(files_[i].get(), path); !flushed) return flushed;
    Result<FileDigest> digest = digest_file(posix_files(), path);
    if (!digest) return fail(std::move(digest.error()));
    if (digest->stat.size != file.size) {
      return fail(Errc::kCorrupt,
                  fmt::format("{}: has {} bytes, {} were announced", path, digest->stat.size, file.size));
    }
    record.sha256.push_back(std::move(digest->sha256));
    if (::fchmod(files_[i].get(), file.mode) != 0) return io_failed(path, "set the permissions", errno);
  }
  descriptors_.clear();
  files_.clear();
  const std::string path = fmt::format("{}/{}", directory_, kRecordName);
  Result<UniqueFd> fd = create_file(path);
  if (!fd) return fail(std::move(fd.error()));
  const std::string text = write_record(record);
  if (Result<Unit> put = write_at(fd->get(), path, 0, std::as_bytes(std::span(text))); !put) return put;
  if (Result<Unit> flushed = flush(fd->get(), path); !flushed) return flushed;
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
