#pragma once
/// Bytes as a file with a path, without a disk: the code under test opens and maps paths, and thousands of
/// small files that are each rewritten once would make the disk the slowest part. Threads: one owner.

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

namespace loracle::testing {

class MemoryFile {
 public:
  explicit MemoryFile(std::string_view bytes) : fd_(::memfd_create("input", MFD_CLOEXEC)) {
    // Not to be mistaken for a finding: without the file there is nothing to test.
    if (fd_ < 0 || ::write(fd_, bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size()))
      std::abort();
  }
  MemoryFile(const std::uint8_t* data, std::size_t size)
      : MemoryFile(std::string_view(reinterpret_cast<const char*>(data), size)) {}
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;
  ~MemoryFile() { ::close(fd_); }

  [[nodiscard]] std::string path() const { return "/proc/self/fd/" + std::to_string(fd_); }

 private:
  int fd_;
};

}  // namespace loracle::testing
