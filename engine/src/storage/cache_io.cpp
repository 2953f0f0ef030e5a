#include "storage/cache_io.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <filesystem>
#include <system_error>

namespace loracle {

Result<Unit> allocate(int fd, const std::string& path, std::uint64_t size) {
  if (size == 0) return Unit{};
  const auto length = static_cast<off_t>(size);
  for (;;) {
    if (::fallocate(fd, 0, 0, length) == 0) return Unit{};
    if (errno == EINTR) continue;
    if (errno != EOPNOTSUPP && errno != ENOSYS) return io_failed(path, "make room for it", errno);
    if (::ftruncate(fd, length) != 0) return io_failed(path, "give it its size", errno);
    return Unit{};
  }
}

Result<Unit> write_at(int fd, const std::string& path, std::uint64_t offset,
                      std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t put = ::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (put < 0) {
      if (errno == EINTR) continue;
      return io_failed(path, "write", errno);
    }
    offset += static_cast<std::uint64_t>(put);
    bytes = bytes.subspan(static_cast<std::size_t>(put));
  }
  return Unit{};
}

Result<std::size_t> read_at(int fd, const std::string& path, std::uint64_t offset,
                            std::span<std::byte> into) {
  for (;;) {
    const ssize_t got = ::pread(fd, into.data(), into.size(), static_cast<off_t>(offset));
    if (got >= 0) return static_cast<std::size_t>(got);
    if (errno != EINTR) return io_failed(path, "read", errno);
  }
}

void begin_flush(int fd, std::uint64_t offset, std::uint64_t length) noexcept {
  static_cast<void>(
      ::sync_file_range(fd, static_cast<off_t>(offset), static_cast<off_t>(length), SYNC_FILE_RANGE_WRITE));
}

Result<Unit> flush(int fd, const std::string& path) {
  // Not tried again: after a failed fsync the kernel has forgotten what it could not write.
  if (::fsync(fd) != 0) return io_failed(path, "flush", errno);
  return Unit{};
}

Result<UniqueFd> open_directory(const std::string& path) {
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.is_open()) return io_failed(path, "open the directory", errno);
  return fd;
}

Result<UniqueFd> create_file(const std::string& path) {
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!fd.is_open()) return io_failed(path, "create", errno);
  return fd;
}

Result<Unit> remove_tree(const std::string& path) {
  std::error_code error;
  std::filesystem::remove_all(path, error);
  if (error) return io_failed(path, "delete", error.value());
  return Unit{};
}

}  // namespace loracle
