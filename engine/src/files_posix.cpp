#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <string_view>
#include <system_error>
#include <utility>

#include "loracle/engine/files.hpp"

namespace loracle {
namespace {

tl::unexpected<Error> failed(const std::string& path, std::string_view what, int error) {
  const bool absent = error == ENOENT || error == ENOTDIR;
  return fail(absent ? Errc::kNotFound : Errc::kIo,
              fmt::format("{}: cannot {}: {}", path, what, std::generic_category().message(error)), error);
}

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
  PosixFile(int fd, const FileStat& stat, std::string path) : fd_(fd), stat_(stat), path_(std::move(path)) {}
  PosixFile(const PosixFile&) = delete;
  PosixFile& operator=(const PosixFile&) = delete;
  ~PosixFile() override { ::close(fd_); }

  [[nodiscard]] const FileStat& stat() const noexcept override { return stat_; }

  [[nodiscard]] Result<std::size_t> read_at(std::uint64_t offset, std::span<std::byte> into) override {
    for (;;) {
      const ssize_t got = ::pread(fd_, into.data(), into.size(), static_cast<off_t>(offset));
      if (got >= 0) return static_cast<std::size_t>(got);
      if (errno != EINTR) return failed(path_, "read", errno);
    }
  }

 private:
  int fd_;
  FileStat stat_;
  std::string path_;
};

class PosixFiles final : public Files {
 public:
  PosixFiles(std::vector<std::string> roots, const std::string& memory_files) : roots_(std::move(roots)) {
    if (!memory_files.empty()) memory_file_ = "/memfd:" + memory_files + " (deleted)";
  }

  [[nodiscard]] Result<std::unique_ptr<OpenFile>> open(const std::string& path) override {
    // Not blocking: a pipe of that name must not hang its opener. It is refused below.
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return failed(path, "open", errno);
    struct stat found {};
    if (::fstat(fd, &found) != 0) {
      const int error = errno;
      ::close(fd);
      return failed(path, "examine", error);
    }
    if (!S_ISREG(found.st_mode)) {
      ::close(fd);
      return fail(Errc::kIo, fmt::format("{}: cannot read: it is not a regular file", path), EINVAL);
    }
    if (Result<Unit> inside = check_inside(fd, path); !inside) {
      ::close(fd);
      return fail(std::move(inside.error()));
    }
    return std::make_unique<PosixFile>(fd, stat_of(found), path);
  }

  [[nodiscard]] Result<FileStat> stat(const std::string& path) override {
    struct stat found {};
    if (!is_bound()) {
      if (::stat(path.c_str(), &found) != 0) return failed(path, "examine", errno);
      return stat_of(found);
    }
    const int fd = ::open(path.c_str(), O_PATH | O_CLOEXEC);
    if (fd < 0) return failed(path, "examine", errno);
    Result<Unit> inside = check_inside(fd, path);
    const int error = inside && ::fstat(fd, &found) != 0 ? errno : 0;
    ::close(fd);
    if (!inside) return fail(std::move(inside.error()));
    if (error != 0) return failed(path, "examine", error);
    return stat_of(found);
  }

  [[nodiscard]] Result<std::vector<DirectoryEntry>> list(const std::string& directory) override {
    DIR* const handle = ::opendir(directory.c_str());
    if (handle == nullptr) return failed(directory, "list", errno);
    if (Result<Unit> inside = check_inside(::dirfd(handle), directory); !inside) {
      ::closedir(handle);
      return fail(std::move(inside.error()));
    }
    std::vector<DirectoryEntry> entries;
    int error = 0;
    for (;;) {
      errno = 0;
      const dirent* const entry = ::readdir(handle);
      if (entry == nullptr) {
        error = errno;
        break;
      }
      const std::string_view name(entry->d_name);
      if (name == "." || name == "..") continue;
      entries.push_back({std::string(name), kind(*handle, *entry)});
    }
    ::closedir(handle);
    if (error != 0) return failed(directory, "list", error);
    std::sort(entries.begin(), entries.end(),
              [](const DirectoryEntry& a, const DirectoryEntry& b) { return a.name < b.name; });
    return entries;
  }

 private:
  [[nodiscard]] bool is_bound() const noexcept { return !roots_.empty() || !memory_file_.empty(); }

  /// Where an open file really is, as the kernel knows it.
  [[nodiscard]] Result<Unit> check_inside(int fd, const std::string& path) const {
    if (!is_bound()) return Unit{};
    std::array<char, PATH_MAX> place{};
    const ssize_t length =
        ::readlink(fmt::format("/proc/self/fd/{}", fd).c_str(), place.data(), place.size());
    if (length < 0) return failed(path, "tell where it lies", errno);
    const std::string_view real(place.data(), static_cast<std::size_t>(length));
    if (!memory_file_.empty() && real == memory_file_) return Unit{};
    for (const std::string& root : roots_) {
      if (root == "/" || real == root) return Unit{};
      if (real.size() > root.size() && real.starts_with(root) && real[root.size()] == '/') return Unit{};
    }
    return fail(Errc::kInvalid, fmt::format("{}: lies outside the allowed directories, at {}", path, real));
  }

  static FileKind kind(DIR& handle, const dirent& entry) noexcept {
    if (entry.d_type == DT_REG) return FileKind::kRegular;
    if (entry.d_type == DT_DIR) return FileKind::kDirectory;
    struct stat found {};  // a link, or a file system that does not say
    if (::fstatat(::dirfd(&handle), entry.d_name, &found, 0) != 0) return FileKind::kOther;
    return kind_of(found.st_mode);
  }

  std::string memory_file_;         // as /proc names one; empty: none
  std::vector<std::string> roots_;  // without links or trailing slashes
};

}  // namespace

Files& posix_files() noexcept {
  static PosixFiles files({}, {});
  return files;
}

Result<std::unique_ptr<Files>> make_rooted_files(std::span<const std::string> roots,
                                                 const std::string& memory_files) {
  if (roots.empty() && memory_files.empty())
    return fail(Errc::kInvalid, "allowed directories: give at least one");
  std::vector<std::string> real;
  for (const std::string& root : roots) {
    char* const found = ::realpath(root.c_str(), nullptr);
    if (found == nullptr) return failed(root, "use as an allowed directory", errno);
    real.emplace_back(found);
    std::free(found);
  }
  return std::make_unique<PosixFiles>(std::move(real), memory_files);
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
