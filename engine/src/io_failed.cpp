#include "io_failed.hpp"

#include <fmt/format.h>

#include <cerrno>
#include <system_error>

namespace loracle {
namespace {

std::string_view cure_of(int error) noexcept {
  switch (error) {
    case ENOSPC:
    case EDQUOT:
      return ": free space on that disk, or give the cache a lower bound than the disk has room";
    case EFBIG:
      return ": files may not grow so large here: see ulimit -f";
    case EMFILE:
    case ENFILE:
      return ": too many open files: see ulimit -n";
    case EROFS:
    case EACCES:
    case EPERM:
      return ": give this user the right to, or name another place";
    default:
      return "";
  }
}

}  // namespace

tl::unexpected<Error> io_failed(const std::string& path, std::string_view what, int error) {
  const bool absent = error == ENOENT || error == ENOTDIR;
  return fail(
      absent ? Errc::kNotFound : Errc::kIo,
      fmt::format("{}: cannot {}: {}{}", path, what, std::generic_category().message(error), cure_of(error)),
      error);
}

}  // namespace loracle
