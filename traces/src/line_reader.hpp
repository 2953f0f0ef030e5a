#pragma once
/// The lines of a text trace, over a ByteSource, with their numbers and byte positions.
/// A line ends at "\n" or "\r\n" (neither is part of it) or at the end of the file; a UTF-8 byte order mark
/// at the start of the file is dropped. A line longer than `line_bytes_max` is handed over cut and marked
/// `too_long`; its rest is passed over, so that reading can go on behind it.
/// Memory: one buffer of 64 KiB that grows to `line_bytes_max` at most. Positions count decompressed bytes.
/// Errors: those of ByteSource. Threads: one owner. A line stays valid until the next call of `next`.

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "byte_source.hpp"
#include "loracle/core/result.hpp"

namespace loracle {

class LineReader {
 public:
  LineReader(ByteSource& source, std::size_t line_bytes_max);

  /// Steps to the next line; false at the end of the file.
  [[nodiscard]] Result<bool> next();

  [[nodiscard]] std::string_view line() const noexcept { return line_; }
  /// 1 for the first line; 0 before it.
  [[nodiscard]] std::uint64_t number() const noexcept { return number_; }
  /// Where the line begins in the decompressed file.
  [[nodiscard]] std::uint64_t offset() const noexcept { return offset_; }
  [[nodiscard]] bool too_long() const noexcept { return too_long_; }

 private:
  [[nodiscard]] Result<bool> fill();
  [[nodiscard]] Result<Unit> pass_over_rest();

  ByteSource* source_;
  std::size_t line_bytes_max_;
  std::vector<char> buffer_;  // bytes [begin_, end_) are read and not yet handed over
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
  std::uint64_t buffer_offset_ = 0;  // position of buffer_[0] in the file
  bool at_end_ = false;              // the source has no more

  std::string_view line_;
  std::uint64_t number_ = 0;
  std::uint64_t offset_ = 0;
  bool too_long_ = false;
  bool rest_pending_ = false;  // the line handed over was cut; what follows it up to "\n" is to be dropped
};

}  // namespace loracle
