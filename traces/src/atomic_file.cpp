#include "loracle/traces/atomic_file.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

namespace loracle {
namespace {

/// The rights an ordinary creation would have given: mkstemp gives its owner alone any. An existing file
/// keeps its own.
[[nodiscard]] mode_t wanted_mode(const std::string& path) {
  struct stat facts {};
  if (::stat(path.c_str(), &facts) == 0) return facts.st_mode & 0777U;
  const mode_t mask = ::umask(0);
  ::umask(mask);
  return 0666U & ~mask;
}

}  // namespace

AtomicFile::AtomicFile(std::string path, std::string temporary, int fd)
    : path_(std::move(path)), temporary_(std::move(temporary)), fd_(fd) {}

AtomicFile::AtomicFile(AtomicFile&& other) noexcept
    : path_(std::move(other.path_)),
      temporary_(std::exchange(other.temporary_, {})),
      fd_(std::exchange(other.fd_, -1)) {}

AtomicFile::~AtomicFile() {
  if (fd_ >= 0) ::close(fd_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

Result<AtomicFile> AtomicFile::create(const std::string& path) {
  struct stat facts {};
  if (::stat(path.c_str(), &facts) == 0 && !S_ISREG(facts.st_mode)) {
    const int as_it_is = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
    if (as_it_is >= 0) return AtomicFile(path, {}, as_it_is);
    const int error = errno;
    return fail(Errc::kIo, fmt::format("{}: cannot write to it: {}", path, std::strerror(error)), error);
  }
  std::string temporary = path + ".partial-XXXXXX";
  const int fd = ::mkostemp(temporary.data(), O_CLOEXEC);
  if (fd < 0) {
    const int error = errno;
    return fail(Errc::kIo, fmt::format("{}: cannot write beside it: {}", path, std::strerror(error)), error);
  }
  return AtomicFile(path, std::move(temporary), fd);
}

Result<Unit> AtomicFile::write(std::span<const char> bytes) {
  while (!bytes.empty()) {
    // One call moves at most 2 GiB; smaller steps also let a signal in.
    const ssize_t put =
        ::write(fd_, bytes.data(), std::min<std::size_t>(bytes.size(), std::size_t{1} << 30U));
    if (put >= 0) {
      bytes = bytes.subspan(static_cast<std::size_t>(put));
    } else if (errno != EINTR) {
      return failed("cannot write", errno);
    }
  }
  return Unit{};
}

Result<Unit> AtomicFile::commit() {
  if (temporary_.empty()) {  // no regular file: nothing to put in place
    if (::close(std::exchange(fd_, -1)) != 0) return failed("cannot close it", errno);
    return Unit{};
  }
  if (::fchmod(fd_, wanted_mode(path_)) != 0) return failed("cannot set its rights", errno);
  if (::fsync(fd_) != 0) return failed("cannot flush it to the disk", errno);
  if (::close(std::exchange(fd_, -1)) != 0) return failed("cannot close it", errno);
  if (std::rename(temporary_.c_str(), path_.c_str()) != 0)
    return failed("cannot rename the finished file", errno);
  temporary_.clear();
  // The name itself lives in the folder. Some file systems cannot flush folders; the data is safe all the
  // same.
  const std::size_t slash = path_.rfind('/');
  const std::string folder = slash == std::string::npos ? "." : path_.substr(0, slash + 1);
  const int fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd >= 0) {
    ::fsync(fd);
    ::close(fd);
  }
  return Unit{};
}

tl::unexpected<Error> AtomicFile::failed(const char* what, int error) const {
  return fail(Errc::kIo, fmt::format("{}: {}: {}", path_, what, std::strerror(error)), error);
}

}  // namespace loracle
