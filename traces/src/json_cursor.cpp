#include "loracle/traces/json_cursor.hpp"

#include <cstring>

#include "loracle/traces/utf8.hpp"

namespace loracle {
namespace {

constexpr bool is_digit(char c) noexcept { return c >= '0' && c <= '9'; }
constexpr bool is_blank(char c) noexcept { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

void append_utf8(std::string& out, std::uint32_t code) {
  const auto put = [&out](std::uint32_t byte) { out.push_back(static_cast<char>(byte)); };
  if (code < 0x80) {
    put(code);
  } else if (code < 0x800) {
    put(0xC0U | (code >> 6U));
    put(0x80U | (code & 0x3FU));
  } else if (code < 0x10000) {
    put(0xE0U | (code >> 12U));
    put(0x80U | ((code >> 6U) & 0x3FU));
    put(0x80U | (code & 0x3FU));
  } else {
    put(0xF0U | (code >> 18U));
    put(0x80U | ((code >> 12U) & 0x3FU));
    put(0x80U | ((code >> 6U) & 0x3FU));
    put(0x80U | (code & 0x3FU));
  }
}

/// The next place, from `at` on, of a byte that ends a run of a string's own: a quote, a backslash or a
/// control character. Eight bytes a step; the step that has one is searched byte by byte. Clears `ascii` if a
/// byte on the way is not.
std::size_t skip_run(std::string_view text, std::size_t at, bool& ascii) noexcept {
  constexpr std::uint64_t kOnes = 0x0101'0101'0101'0101U;
  constexpr std::uint64_t kTops = 0x80 * kOnes;
  std::uint64_t seen = 0;
  for (; at + 8 <= text.size(); at += 8) {
    std::uint64_t word = 0;
    std::memcpy(&word, text.data() + at, 8);
    const std::uint64_t quote = word ^ ('"' * kOnes);
    const std::uint64_t backslash = word ^ ('\\' * kOnes);
    // A top bit of (x - n) & ~x is set where a byte of x is below n, and perhaps above such a byte.
    const std::uint64_t ends =
        ((word - 0x20 * kOnes) & ~word) | ((quote - kOnes) & ~quote) | ((backslash - kOnes) & ~backslash);
    if ((ends & kTops) != 0) break;
    seen |= word;
  }
  for (; at < text.size(); ++at) {
    const auto c = static_cast<unsigned char>(text[at]);
    if (c == '"' || c == '\\' || c < 0x20) break;
    seen |= c;
  }
  if ((seen & kTops) != 0) ascii = false;
  return at;
}

}  // namespace

JsonCursor::JsonCursor(std::string_view text, std::string& scratch) : text_(text), scratch_(&scratch) {
  scratch_->clear();
}

bool JsonCursor::mistake(const char* what) noexcept {
  if (error_ == nullptr) error_ = what;
  return false;
}

/// Most values follow what is before them at once, so that is asked first, and in line.
inline void JsonCursor::skip_blanks() noexcept {
  if (at_ < text_.size() && text_[at_] > ' ') return;
  while (at_ < text_.size() && is_blank(text_[at_])) ++at_;
}

std::size_t JsonCursor::at() noexcept {
  if (!failed()) skip_blanks();
  return at_;
}

JsonKind JsonCursor::peek() noexcept {
  if (failed()) return JsonKind::kNone;
  skip_blanks();
  if (at_ == text_.size()) {
    mistake("the line ends where a value should be");
    return JsonKind::kNone;
  }
  switch (text_[at_]) {
    case '{':
      return JsonKind::kObject;
    case '[':
      return JsonKind::kArray;
    case '"':
      return JsonKind::kString;
    case 't':
    case 'f':
      return JsonKind::kBool;
    case 'n':
      return JsonKind::kNull;
    default:
      break;
  }
  if (text_[at_] == '-' || is_digit(text_[at_])) return JsonKind::kNumber;
  mistake("no JSON value begins like this");
  return JsonKind::kNone;
}

bool JsonCursor::enter(char bracket) noexcept {
  if (failed()) return false;
  skip_blanks();
  if (at_ == text_.size() || text_[at_] != bracket)
    return mistake(bracket == '{' ? "an object should begin here" : "an array should begin here");
  if (depth_ == kDepthMax) return mistake("nested deeper than 64 levels");
  ++at_;
  ++depth_;
  first_item_ = true;
  return true;
}

bool JsonCursor::next_item(char closing) noexcept {
  if (failed()) return false;
  skip_blanks();
  const bool first = first_item_;
  first_item_ = false;
  if (at_ == text_.size()) return mistake("the line ends inside an object or array");
  if (text_[at_] == closing) {
    ++at_;
    --depth_;
    return false;
  }
  if (first) return true;
  if (text_[at_] != ',') return mistake("a comma or the closing bracket should be here");
  ++at_;
  skip_blanks();
  return true;
}

bool JsonCursor::next_element() noexcept { return next_item(']'); }

bool JsonCursor::next_key(std::string_view& key) {
  if (!next_item('}')) return false;
  if (at_ == text_.size() || text_[at_] != '"') return mistake("a key in double quotes should be here");
  key_at_ = at_;
  if (!read_string(key)) return false;
  skip_blanks();
  if (at_ == text_.size() || text_[at_] != ':') return mistake("a colon should be here");
  ++at_;
  return true;
}

bool JsonCursor::read_hex4(std::uint32_t& value) noexcept {
  value = 0;
  for (int i = 0; i < 4; ++i, ++at_) {
    if (at_ == text_.size()) return mistake("the line ends inside an escape");
    const char c = text_[at_];
    const std::uint32_t digit = is_digit(c)            ? static_cast<std::uint32_t>(c - '0')
                                : c >= 'a' && c <= 'f' ? static_cast<std::uint32_t>(c - 'a' + 10)
                                : c >= 'A' && c <= 'F' ? static_cast<std::uint32_t>(c - 'A' + 10)
                                                       : 16U;
    if (digit == 16U) return mistake("four hexadecimal digits should follow \\u");
    value = value * 16 + digit;
  }
  return true;
}

/// REQUIRES: at_ stands behind a backslash.
bool JsonCursor::read_escape() {
  if (at_ == text_.size()) return mistake("the line ends inside a string");
  const char c = text_[at_];
  switch (c) {
    case '"':
    case '\\':
    case '/':
      scratch_->push_back(c);
      break;
    case 'b':
      scratch_->push_back('\b');
      break;
    case 'f':
      scratch_->push_back('\f');
      break;
    case 'n':
      scratch_->push_back('\n');
      break;
    case 'r':
      scratch_->push_back('\r');
      break;
    case 't':
      scratch_->push_back('\t');
      break;
    case 'u': {
      ++at_;
      std::uint32_t code = 0;
      if (!read_hex4(code)) return false;
      if (code >= 0xDC00 && code <= 0xDFFF) return mistake("half of a surrogate pair");
      if (code >= 0xD800 && code <= 0xDBFF) {
        std::uint32_t low = 0;
        if (text_.substr(at_, 2) != "\\u") return mistake("half of a surrogate pair");
        at_ += 2;
        if (!read_hex4(low)) return false;
        if (low < 0xDC00 || low > 0xDFFF) return mistake("half of a surrogate pair");
        code = 0x10000 + ((code - 0xD800) << 10U) + (low - 0xDC00);
      }
      append_utf8(*scratch_, code);
      return true;
    }
    default:
      return mistake("no such escape");
  }
  ++at_;
  return true;
}

bool JsonCursor::read_string(std::string_view& value) {
  if (failed()) return false;
  skip_blanks();
  if (at_ == text_.size() || text_[at_] != '"') return mistake("a string should begin here");
  const std::size_t begin = ++at_;
  const std::size_t scratch_begin = scratch_->size();
  std::size_t plain_begin = begin;  // what is not yet copied to scratch, once there was an escape
  bool escaped = false;
  bool ascii = true;
  for (;;) {
    at_ = skip_run(text_, at_, ascii);
    if (at_ == text_.size()) return mistake("the line ends inside a string");
    const char c = text_[at_];
    if (c == '"') break;
    if (c != '\\') return mistake("a control character inside a string");
    // A decoded string is never longer than its source, so with this room no view into scratch ever moves.
    if (scratch_->empty()) scratch_->reserve(text_.size());
    ++at_;
    scratch_->append(text_.substr(plain_begin, at_ - 1 - plain_begin));
    escaped = true;
    if (!read_escape()) return false;
    plain_begin = at_;
  }
  const std::string_view tail = text_.substr(plain_begin, at_ - plain_begin);
  if (!ascii && !is_utf8(text_.substr(begin, at_ - begin)))
    return mistake("a string that is not UTF-8 ends here");
  ++at_;
  if (!escaped) {
    value = tail;
    return true;
  }
  scratch_->append(tail);
  value = std::string_view(*scratch_).substr(scratch_begin);
  return true;
}

bool JsonCursor::read_number(std::string_view& digits) noexcept {
  if (failed()) return false;
  skip_blanks();
  const std::size_t begin = at_;
  const auto here = [this] { return at_ < text_.size() ? text_[at_] : '\0'; };
  const auto take_digits = [&] {
    if (!is_digit(here())) return mistake("a digit should be here");
    while (is_digit(here())) ++at_;
    return true;
  };
  if (here() == '-') ++at_;
  if (here() == '0') {
    ++at_;
    if (is_digit(here())) return mistake("a number with a leading zero");
  } else if (!take_digits()) {
    return false;
  }
  if (here() == '.') {
    ++at_;
    if (!take_digits()) return false;
  }
  if (here() == 'e' || here() == 'E') {
    ++at_;
    if (here() == '+' || here() == '-') ++at_;
    if (!take_digits()) return false;
  }
  digits = text_.substr(begin, at_ - begin);
  return true;
}

bool JsonCursor::take_literal(std::string_view literal) noexcept {
  if (text_.substr(at_, literal.size()) != literal) return mistake("no JSON value begins like this");
  at_ += literal.size();
  return true;
}

bool JsonCursor::skip() {
  std::string_view ignored;
  switch (peek()) {
    case JsonKind::kObject:
      if (!enter_object()) return false;
      while (next_key(ignored))
        if (!skip()) return false;
      return !failed();
    case JsonKind::kArray:
      if (!enter_array()) return false;
      while (next_element())
        if (!skip()) return false;
      return !failed();
    case JsonKind::kString:
      return read_string(ignored);
    case JsonKind::kNumber:
      return read_number(ignored);
    case JsonKind::kBool:
      return take_literal(text_[at_] == 't' ? "true" : "false");
    case JsonKind::kNull:
      return take_literal("null");
    case JsonKind::kNone:
      break;
  }
  return false;
}

bool JsonCursor::finish() noexcept {
  if (failed()) return false;
  skip_blanks();
  return at_ == text_.size() || mistake("something follows the value");
}

}  // namespace loracle
