#pragma once
/// SHA-256 of adapters' files: what tells bit rot and silent changes from an untouched file.
///
/// Written as 64 lower-case hex digits, as `sha256sum` and model hubs print them.
/// Cost: the file is read once from end to end through one buffer of 1 MiB. Threads: any.
/// Errors: those of Files; kCorrupt if the file ends before the size it was opened with.

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "loracle/core/result.hpp"
#include "loracle/engine/files.hpp"

namespace loracle {

struct FileDigest {
  std::string sha256;
  FileStat stat;  // of the file the bytes came from
};

/// One that is taken as the bytes come. Threads: one owner.
class RunningSha256 {
 public:
  RunningSha256();
  RunningSha256(RunningSha256&&) noexcept;
  RunningSha256& operator=(RunningSha256&&) noexcept;
  ~RunningSha256();
  void add(std::span<const std::byte> bytes);
  /// Once, after the last byte.
  [[nodiscard]] std::string hex();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

[[nodiscard]] Result<FileDigest> digest_file(Files& files, const std::string& path);
[[nodiscard]] std::string sha256_hex(std::span<const std::byte> bytes);
[[nodiscard]] inline std::string sha256_hex(std::string_view text) {
  return sha256_hex(std::as_bytes(std::span(text)));
}

}  // namespace loracle
