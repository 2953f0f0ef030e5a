#include "rooted_files.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <filesystem>
#include <system_error>

#include "io_failed.hpp"

namespace loracle {
namespace {

/// What of `path` lies below `root`: "." for itself; empty if nothing does.
std::string_view below(std::string_view path, std::string_view root) noexcept {
  if (!path.starts_with(root)) return {};
  path.remove_prefix(root.size());
  if (!root.ends_with('/') && !path.empty() && path.front() != '/') return {};
  while (path.starts_with('/')) path.remove_prefix(1);
  return path.empty() ? "." : path;
}

std::string absolute(const std::string& path) {
  if (path.starts_with('/')) return path;
  std::error_code error;
  const std::filesystem::path here = std::filesystem::current_path(error);
  return error ? path : (here / path).string();
}

/// openat2 has no wrapper in glibc.
int open_beneath(int directory, std::string_view path) {
  open_how how{};
  how.flags = O_PATH | O_CLOEXEC;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS;
  const std::string text(path);
  int fd = -1;
  // EAGAIN: something was renamed while ".." was followed. Who renames all the time may keep us out, not in.
  for (int attempt = 0; attempt < 8; ++attempt) {
    fd = static_cast<int>(::syscall(SYS_openat2, directory, text.c_str(), &how, sizeof how));
    if (fd >= 0 || (errno != EAGAIN && errno != EINTR)) break;
  }
  return fd;
}

/// Where an open file lies, as the kernel knows it.
Result<std::string> place_of(const UniqueFd& fd, const std::string& path) {
  std::array<char, PATH_MAX> place{};
  const std::string link = fmt::format("/proc/self/fd/{}", fd.get());
  const ssize_t length = ::readlink(link.c_str(), place.data(), place.size());
  if (length < 0) return io_failed(path, "tell where it lies", errno);
  return std::string(place.data(), static_cast<std::size_t>(length));
}

tl::unexpected<Error> outside(const std::string& path) {
  return fail(Errc::kInvalid,
              fmt::format("{}: lies outside the allowed directories: add its directory to allowed_paths "
                          "(serve: --file-storage-allowed-paths)",
                          path),
              EACCES);
}

}  // namespace

Result<FileRoots> FileRoots::make(const FileStorageOptions& options, const std::string& memory_files) {
  FileRoots roots;
  if (!memory_files.empty()) roots.memory_file_ = fmt::format("/memfd:{} (deleted)", memory_files);
  for (const std::string& given : options.allowed_paths) {
    if (given.empty()) return fail(Errc::kInvalid, "allowed_paths: an empty path: name a directory");
    Root root{absolute(given), {}, {}};
    while (root.named.size() > 1 && root.named.ends_with('/')) root.named.pop_back();
    if (options.create_dirs) {
      std::error_code error;
      std::filesystem::create_directories(root.named, error);
      if (error) return io_failed(given, "create this allowed directory", error.value());
    }
    root.directory = UniqueFd(::open(root.named.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!root.directory.is_open()) {
      const int error = errno;
      if (error != ENOENT) return io_failed(given, "use as an allowed directory", error);
      return fail(Errc::kNotFound,
                  fmt::format("{}: this allowed directory does not exist: make it, or set "
                              "create_dirs",
                              given),
                  error);
    }
    if (options.verify_permissions &&
        ::faccessat(AT_FDCWD, root.named.c_str(), R_OK | X_OK, AT_EACCESS) != 0) {
      return fail(
          Errc::kIo,
          fmt::format("{}: this allowed directory cannot be listed by user {}: give it read and execute "
                      "permission, or unset verify_permissions",
                      given, ::geteuid()),
          errno);
    }
    Result<std::string> real = place_of(root.directory, given);
    if (!real) return fail(std::move(real.error()));
    root.real = std::move(*real);
    roots.roots_.push_back(std::move(root));
  }
  return roots;
}

Result<UniqueFd> FileRoots::locate(const std::string& path) const {
  const std::string whole = absolute(path);
  bool named_inside = false;
  for (const Root& root : roots_) {
    for (const std::string* const prefix : {&root.named, &root.real}) {
      const std::string_view rest = below(whole, *prefix);
      if (rest.empty()) continue;
      UniqueFd fd(open_beneath(root.directory.get(), rest));
      if (fd.is_open()) return fd;
      // EXDEV: a link leads out of this root, maybe into another, or only looks like it. ENOENT: not there,
      // or the root was deleted and made anew. The others: a kernel, or a sandbox, without openat2.
      if (errno != EXDEV && errno != ENOENT && errno != ENOSYS && errno != EPERM && errno != EINVAL)
        return io_failed(path, "open", errno);
      named_inside = named_inside || errno != EXDEV;
      break;
    }
  }
  UniqueFd fd(::open(whole.c_str(), O_PATH | O_CLOEXEC));
  if (!fd.is_open()) {
    const int error = errno;
    // Whether something outside exists is not for us to tell.
    if (is_bound() && !named_inside) return outside(path);
    return io_failed(path, "open", error);
  }
  if (!is_bound()) return fd;
  Result<std::string> place = place_of(fd, path);
  if (!place) return fail(std::move(place.error()));
  if (!memory_file_.empty() && *place == memory_file_) return fd;
  for (const Root& root : roots_)
    if (!below(*place, root.real).empty()) return fd;
  return outside(path);
}

Result<UniqueFd> reopen_for_reading(const UniqueFd& located, const std::string& path, int flags) {
  const std::string link = fmt::format("/proc/self/fd/{}", located.get());
  UniqueFd fd(::open(link.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | flags));
  if (!fd.is_open()) return io_failed(path, "read", errno);
  return fd;
}

}  // namespace loracle
