#pragma once
/// Steps through one JSON text (RFC 8259) a value at a time, without building a tree: a log line has a dozen
/// fields we want and perhaps a megabyte we do not. What is stepped over is checked as strictly as what is
/// read.
///   JsonCursor json(line, scratch);
///   if (json.enter_object())
///     while (json.next_key(key)) key == "adapter" ? json.read_string(name) : json.skip();
///   if (json.finish()) ...the whole line was one valid object
/// The first mistake stops everything: each call after it answers false, and `error_at` says where it was.
/// Strings without escapes are views into the text; others are decoded into `scratch`, which must outlive
/// them.
/// Cost: one pass, no allocation but scratch. Objects and arrays may nest kDepthMax deep. Threads: one owner.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace loracle {

enum class JsonKind : std::uint8_t { kObject, kArray, kString, kNumber, kBool, kNull, kNone };

class JsonCursor {
 public:
  static constexpr int kDepthMax = 64;

  JsonCursor(std::string_view text, std::string& scratch);

  /// What the next value is; kNone at a mistake.
  [[nodiscard]] JsonKind peek() noexcept;
  [[nodiscard]] bool enter_object() noexcept { return enter('{'); }
  [[nodiscard]] bool enter_array() noexcept { return enter('['); }
  /// The next key of the object that was entered last; false at its end, which is stepped over.
  [[nodiscard]] bool next_key(std::string_view& key);
  /// True when the array that was entered last has a further element; false at its end, which is stepped
  /// over.
  [[nodiscard]] bool next_element() noexcept;

  [[nodiscard]] bool read_string(std::string_view& value);
  /// The number as it is written.
  [[nodiscard]] bool read_number(std::string_view& digits) noexcept;
  bool skip();
  /// True when nothing but blanks is left and no mistake was met.
  [[nodiscard]] bool finish() noexcept;

  [[nodiscard]] bool failed() const noexcept { return error_ != nullptr; }
  [[nodiscard]] const char* error() const noexcept { return error_; }
  [[nodiscard]] std::size_t error_at() const noexcept { return at_; }
  /// Where the key that was read last begins.
  [[nodiscard]] std::size_t key_at() const noexcept { return key_at_; }
  /// Where the cursor stands: before a read, the next value begins here.
  [[nodiscard]] std::size_t at() noexcept;

 private:
  void skip_blanks() noexcept;
  bool mistake(const char* what) noexcept;
  [[nodiscard]] bool enter(char bracket) noexcept;
  [[nodiscard]] bool next_item(char closing) noexcept;
  [[nodiscard]] bool read_escape();
  [[nodiscard]] bool read_hex4(std::uint32_t& value) noexcept;
  [[nodiscard]] bool take_literal(std::string_view literal) noexcept;

  std::string_view text_;
  std::string* scratch_;
  std::size_t at_ = 0;
  std::size_t key_at_ = 0;
  int depth_ = 0;
  bool first_item_ = false;  // an object or array was just entered
  const char* error_ = nullptr;
};

}  // namespace loracle
