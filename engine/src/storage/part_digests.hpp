#pragma once
/// SHA-256 of files whose parts come in any order, taken while others still come: a file's bytes must be
/// hashed from its first to its last, and are read again for that, out of the page cache.
/// Threads: `came` from any; whoever finds the next part there hashes it, one thread at a time.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "loracle/core/result.hpp"
#include "loracle/engine/digest.hpp"

namespace loracle {

/// A range of one file, the unit in which files are fetched.
struct FilePart {
  std::size_t file = 0;
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
};

class PartDigests {
 public:
  /// `descriptors`: of the files, open for reading too. `parts`: of all of them, in the order of files and
  /// offsets, without gaps. Both outlive this.
  PartDigests(std::span<const int> descriptors, std::span<const FilePart> parts);
  /// The part is written. May hash for a while.
  void came(std::size_t part);
  /// [files] as 64 hex digits. Once; hashes what is left. REQUIRES: every part came.
  [[nodiscard]] Result<std::vector<std::string>> finish();

 private:
  void hash_what_is_there();
  [[nodiscard]] Result<Unit> hash(const FilePart& part);

  std::span<const int> descriptors_;
  std::span<const FilePart> parts_;
  std::vector<std::atomic<bool>> came_;  // [parts]

  std::mutex mutex_;  // guards the rest
  std::size_t next_ = 0;
  std::vector<RunningSha256> digests_;  // [files]
  std::vector<std::byte> buffer_;
  std::optional<Error> error_;
};

}  // namespace loracle
