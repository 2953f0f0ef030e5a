#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>

#include "io_failed.hpp"
#include "loracle/engine/files.hpp"
#include "rooted_files.hpp"

namespace loracle {
namespace {

FileKind kind_of(mode_t mode) noexcept {
  if (S_ISREG(mode)) return FileKind::kRegular;
  return S_ISDIR(mode) ? FileKind::kDirectory : FileKind::kOther;
}

std::int64_t nanoseconds(const timespec& time) noexcept {
  return std::int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

FileStat stat_of(const struct stat& found) noexcept {
  return {kind_of(found.st_mode),
          static_cast<std::uint64_t>(found.st_size),
          nanoseconds(found.st_mtim),
          nanoseconds(found.st_ctim),
          found.st_ino,
          found.st_dev};
}

class PosixFile final : public OpenFile {
 public:
  PosixFile(UniqueFd fd, const FileStat& stat, std::string path)
      : fd_(std::move(fd)), stat_(stat), path_(std::move(path)) {}

  [[nodiscard]] const FileStat& stat() const noexcept override { return stat_; }

  [[nodiscard]] Result<std::size_t> read_at(std::uint64_t offset, std::span<std::byte> into) override {
    for (;;) {
      const ssize_t got = ::pread(fd_.get(), into.data(), into.size(), static_cast<off_t>(offset));
      if (got >= 0) return static_cast<std::size_t>(got);
      if (errno != EINTR) return io_failed(path_, "read", errno);
    }
  }

 private:
  UniqueFd fd_;
  FileStat stat_;
  std::string path_;
};

struct DirCloser {
  void operator()(DIR* directory) const noexcept { ::closedir(directory); }
};
using Dir = std::unique_ptr<DIR, DirCloser>;

class PosixFiles final : public Files {
 public:
  /// nullopt: whatever this process may read.
  explicit PosixFiles(std::optional<FileRoots> roots) : roots_(std::move(roots)) {}

  [[nodiscard]] Result<std::unique_ptr<OpenFile>> open(const std::string& path) override {
    Result<UniqueFd> fd = opened(path, 0);
    if (!fd) return fail(std::move(fd.error()));
    struct stat found {};
    if (::fstat(fd->get(), &found) != 0) return io_failed(path, "examine", errno);
    if (!S_ISREG(found.st_mode))
      return fail(Errc::kIo, fmt::format("{}: cannot read: it is not a regular file", path), EINVAL);
    return std::make_unique<PosixFile>(std::move(*fd), stat_of(found), path);
  }

  [[nodiscard]] Result<FileStat> stat(const std::string& path) override {
    struct stat found {};
    if (!roots_) {
      if (::stat(path.c_str(), &found) != 0) return io_failed(path, "examine", errno);
      return stat_of(found);
    }
    const Result<UniqueFd> located = roots_->locate(path);
    if (!located) return fail(located.error());
    if (::fstat(located->get(), &found) != 0) return io_failed(path, "examine", errno);
    return stat_of(found);
  }

  [[nodiscard]] Result<std::vector<DirectoryEntry>> list(const std::string& directory) override {
    const Result<UniqueFd> fd = opened(directory, O_DIRECTORY);
    if (!fd) return fail(fd.error());
    // fdopendir takes the descriptor over, but only if it succeeds.
    UniqueFd own(::fcntl(fd->get(), F_DUPFD_CLOEXEC, 0));
    const Dir handle(own.is_open() ? ::fdopendir(own.get()) : nullptr);
    if (handle == nullptr) return io_failed(directory, "list", errno);
    static_cast<void>(own.release());
    std::vector<DirectoryEntry> entries;
    for (;;) {
      errno = 0;
      const dirent* const entry = ::readdir(handle.get());
      if (entry == nullptr && errno != 0) return io_failed(directory, "list", errno);
      if (entry == nullptr) break;
      const std::string_view name(entry->d_name);
      if (name == "." || name == "..") continue;
      entries.push_back({std::string(name), kind(*handle, *entry)});
    }
    std::sort(entries.begin(), entries.end(),
              [](const DirectoryEntry& a, const DirectoryEntry& b) { return a.name < b.name; });
    return entries;
  }

 private:
  /// For reading, without blocking: a pipe of that name must not hang its opener.
  [[nodiscard]] Result<UniqueFd> opened(const std::string& path, int flags) const {
    if (roots_) {
      const Result<UniqueFd> located = roots_->locate(path);
      if (!located) return fail(located.error());
      return reopen_for_reading(*located, path, flags);
    }
    UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | flags));
    if (!fd.is_open()) return io_failed(path, "open", errno);
    return fd;
  }

  static FileKind kind(DIR& handle, const dirent& entry) noexcept {
    if (entry.d_type == DT_REG) return FileKind::kRegular;
    if (entry.d_type == DT_DIR) return FileKind::kDirectory;
    struct stat found {};  // a link, or a file system that does not say
    if (::fstatat(::dirfd(&handle), entry.d_name, &found, 0) != 0) return FileKind::kOther;
    return kind_of(found.st_mode);
  }

  std::optional<FileRoots> roots_;
};

}  // namespace

Files& posix_files() noexcept {
  static PosixFiles files(std::nullopt);
  return files;
}

Result<std::unique_ptr<Files>> make_rooted_files(std::span<const std::string> roots,
                                                 const std::string& memory_files) {
  if (roots.empty() && memory_files.empty())
    return fail(Errc::kInvalid, "allowed directories: give at least one");
  FileStorageOptions options;
  options.allowed_paths.assign(roots.begin(), roots.end());
  options.verify_permissions = false;
  Result<FileRoots> made = FileRoots::make(options, memory_files);
  if (!made) return fail(std::move(made.error()));
  return std::make_unique<PosixFiles>(std::move(*made));
}

Result<Unit> read_exactly(OpenFile& file, const std::string& path, std::uint64_t offset,
                          std::span<std::byte> into) {
  while (!into.empty()) {
    Result<std::size_t> got = file.read_at(offset, into);
    if (!got) return fail(std::move(got.error()));
    if (*got == 0) {
      return fail(Errc::kCorrupt, fmt::format("{}: ends at byte {}, {} bytes early: was it changed or cut "
                                              "while it was read?",
                                              path, offset, into.size()));
    }
    offset += *got;
    into = into.subspan(*got);
  }
  return Unit{};
}

Result<std::string> read_text(Files& files, const std::string& path, std::uint64_t bytes_max) {
  Result<std::unique_ptr<OpenFile>> file = files.open(path);
  if (!file) return fail(std::move(file.error()));
  const std::uint64_t size = (*file)->stat().size;
  if (size > bytes_max) {
    return fail(Errc::kTooLarge, fmt::format("{}: {} bytes, at most {} are read", path, size, bytes_max));
  }
  std::string text(size, '\0');
  if (auto read = read_exactly(**file, path, 0, std::as_writable_bytes(std::span(text))); !read)
    return fail(std::move(read.error()));
  return text;
}

}  // namespace loracle
