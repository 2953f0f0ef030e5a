#pragma once
/// Files in memory that misbehave on request: reads that come back short, and an error at the nth call.
/// Threads: one owner.

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "loracle/engine/files.hpp"

namespace loracle::testing {

class MemoryFiles final : public Files {
 public:
  /// Path to bytes; a directory is what lies in front of a slash.
  std::map<std::string, std::string> files;
  std::size_t read_bytes_max = ~std::size_t{0};  // of one read_at
  std::uint64_t fail_call = 0;                   // counted from 1 over open, stat and read_at; 0: never
  std::uint64_t calls = 0;
  std::uint64_t reads = 0;

  /// Changes a file the way a rewrite does: other bytes, another time.
  void rewrite(const std::string& path, std::string bytes) {
    files[path] = std::move(bytes);
    ++changes_[path];
  }

  [[nodiscard]] Result<std::unique_ptr<OpenFile>> open(const std::string& path) override {
    const Result<FileStat> found = stat(path);
    if (!found) return fail(found.error());
    return std::make_unique<File>(*this, path, *found);
  }

  [[nodiscard]] Result<FileStat> stat(const std::string& path) override {
    if (++calls == fail_call) return fail(Errc::kIo, path + ": injected", EIO);
    const auto found = files.find(path);
    if (found == files.end()) return fail(Errc::kNotFound, path + ": no such file", ENOENT);
    FileStat stat;
    stat.kind = FileKind::kRegular;
    stat.size = found->second.size();
    stat.mtime_ns = changes_[path];
    return stat;
  }

  [[nodiscard]] Result<std::vector<DirectoryEntry>> list(const std::string& directory) override {
    std::vector<DirectoryEntry> entries;
    for (const auto& [path, bytes] : files)
      if (path.compare(0, directory.size() + 1, directory + "/") == 0)
        entries.push_back({path.substr(directory.size() + 1), FileKind::kRegular});
    return entries;
  }

 private:
  class File final : public OpenFile {
   public:
    File(MemoryFiles& files, std::string path, const FileStat& stat)
        : files_(files), path_(std::move(path)), stat_(stat) {}
    [[nodiscard]] const FileStat& stat() const noexcept override { return stat_; }
    [[nodiscard]] Result<std::size_t> read_at(std::uint64_t offset, std::span<std::byte> into) override {
      ++files_.reads;
      if (++files_.calls == files_.fail_call) return fail(Errc::kIo, path_ + ": injected", EIO);
      const std::string& bytes = files_.files[path_];
      if (offset >= bytes.size()) return std::size_t{0};
      const std::size_t count = std::min({into.size(), bytes.size() - offset, files_.read_bytes_max});
      std::memcpy(into.data(), bytes.data() + offset, count);
      return count;
    }

   private:
    MemoryFiles& files_;
    std::string path_;
    FileStat stat_;
  };

  std::map<std::string, std::int64_t> changes_;
};

}  // namespace loracle::testing
