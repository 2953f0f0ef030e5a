#pragma once
/// A file that appears under its name only when it is complete: written as a temporary beside it, flushed to
/// the disk, renamed, the folder flushed. Dropped without `commit`, it leaves nothing. A path that is no
/// regular file (a device, a pipe) is written as it is, never replaced. Errors: kIo (detail =
/// errno), messages begin with the path. Threads: one owner.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "loracle/core/result.hpp"

namespace loracle {

class AtomicFile {
 public:
  [[nodiscard]] static Result<AtomicFile> create(const std::string& path);
  AtomicFile(AtomicFile&& other) noexcept;
  AtomicFile& operator=(AtomicFile&&) = delete;
  ~AtomicFile();

  [[nodiscard]] Result<Unit> write(std::span<const char> bytes);
  [[nodiscard]] Result<Unit> commit();

 private:
  AtomicFile(std::string path, std::string temporary, int fd);
  [[nodiscard]] tl::unexpected<Error> failed(const char* what, int error) const;

  std::string path_;
  std::string temporary_;  // empty once committed
  int fd_;
};

}  // namespace loracle
