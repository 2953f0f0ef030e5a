#include "line_reader.hpp"

#include <algorithm>
#include <cstring>
#include <span>

namespace loracle {
namespace {

constexpr std::size_t kBufferBytes = 64U << 10U;
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

}  // namespace

LineReader::LineReader(ByteSource& source, std::size_t line_bytes_max)
    : source_(&source), line_bytes_max_(std::max<std::size_t>(line_bytes_max, 1)), buffer_(kBufferBytes) {}

/// Brings more bytes into the buffer: moves what is unread to its front, and grows it when it is full.
/// REQUIRES: fewer than line_bytes_max_ + 2 bytes are unread. False when the source has no more.
Result<bool> LineReader::fill() {
  if (at_end_) return false;
  if (begin_ > 0) {
    std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
    buffer_offset_ += begin_;
    end_ -= begin_;
    begin_ = 0;
  }
  // Two bytes more than the longest line: room for its "\r\n".
  if (end_ == buffer_.size())
    buffer_.resize(std::max(std::min(buffer_.size() * 2, line_bytes_max_ + 2), buffer_.size() + 1));
  const Result<std::size_t> got = source_->read(std::span<char>(buffer_).subspan(end_));
  if (!got) return fail(got.error());
  if (*got == 0) at_end_ = true;
  end_ += *got;
  return *got > 0;
}

/// Drops bytes up to and with the next "\n".
Result<Unit> LineReader::pass_over_rest() {
  for (;;) {
    const void* found = std::memchr(buffer_.data() + begin_, '\n', end_ - begin_);
    if (found != nullptr) {
      begin_ = static_cast<std::size_t>(static_cast<const char*>(found) - buffer_.data()) + 1;
      return Unit{};
    }
    begin_ = end_;
    const Result<bool> more = fill();
    if (!more) return fail(more.error());
    if (!*more) return Unit{};
  }
}

Result<bool> LineReader::next() {
  too_long_ = false;
  if (rest_pending_) {
    rest_pending_ = false;
    const Result<Unit> passed = pass_over_rest();
    if (!passed) return fail(passed.error());
  }
  std::size_t searched = 0;  // bytes after begin_ known to hold no "\n"
  for (;;) {
    const char* from = buffer_.data() + begin_ + searched;
    const void* found = std::memchr(from, '\n', end_ - begin_ - searched);
    const bool whole = found != nullptr;
    std::size_t length =
        whole ? static_cast<std::size_t>(static_cast<const char*>(found) - buffer_.data()) - begin_
              : end_ - begin_;
    searched = length;
    if (!whole && length < line_bytes_max_ + 2) {
      const Result<bool> more = fill();
      if (!more) return fail(more.error());
      if (*more) continue;
      if (length == 0) return false;
    }
    offset_ = buffer_offset_ + begin_;
    line_ = {buffer_.data() + begin_, length};
    ++number_;
    begin_ += length + (whole ? 1U : 0U);
    if (number_ == 1 && line_.substr(0, kByteOrderMark.size()) == kByteOrderMark) {
      line_.remove_prefix(kByteOrderMark.size());
      offset_ += kByteOrderMark.size();
    }
    if (!line_.empty() && line_.back() == '\r') line_.remove_suffix(1);
    if (line_.size() > line_bytes_max_) {
      line_ = line_.substr(0, line_bytes_max_);
      too_long_ = true;
      rest_pending_ = !whole;
    }
    return true;
  }
}

}  // namespace loracle
