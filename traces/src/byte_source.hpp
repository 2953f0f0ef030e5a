#pragma once
/// The bytes of a trace file, decompressed on the way: plain, gzip, zstd or xz, told by the first bytes and
/// never by the name. Memory: one 256 KiB window (and what the decompressor keeps), whatever the file's size.
/// Errors: kNotFound, kIo (detail = errno), kCorrupt (truncated or damaged; says after how many bytes),
/// kTooLarge (the compression needs more than 1 GiB of history).
/// Threads: one owner.

#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "loracle/core/result.hpp"

namespace loracle {

class ByteSource {
 public:
  [[nodiscard]] static Result<ByteSource> open(const std::string& path);
  ByteSource(ByteSource&&) noexcept;
  ByteSource& operator=(ByteSource&&) noexcept;
  ~ByteSource();

  /// Fills as much of `out` as there is; 0 at the end of the file. A truncated stream is an error, never a
  /// short end.
  [[nodiscard]] Result<std::size_t> read(std::span<char> out);
  /// The whole file, mapped, if it is a plain uncompressed regular file; empty otherwise. Valid as long as
  /// the returned owner lives.
  struct Mapping {
    std::shared_ptr<const void> owner;
    std::span<const char> bytes;
  };
  [[nodiscard]] Mapping mapping() const;
  /// "plain", "gzip", "zstd" or "xz".
  [[nodiscard]] const char* compression() const noexcept;

 private:
  struct State;
  explicit ByteSource(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace loracle
