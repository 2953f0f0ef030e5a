#include <algorithm>
#include <array>
#include <string>

#include "loracle/core/nearest.hpp"
#include "loracle/traces/json_cursor.hpp"
#include "parse_values.hpp"
#include "readers.hpp"

namespace loracle {
namespace {

bool ends_with(std::string_view text, std::string_view end) noexcept {
  return text.size() >= end.size() && text.substr(text.size() - end.size()) == end;
}

/// The file's name in lower case, without folders and without a compression's ending.
std::string base_name(std::string_view path) {
  const std::size_t slash = path.rfind('/');
  std::string name(slash == std::string_view::npos ? path : path.substr(slash + 1));
  for (char& c : name)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  for (const std::string_view end : {".gz", ".zst", ".xz"})
    if (ends_with(name, end)) name.resize(name.size() - end.size());
  return name;
}

/// The first line that is not blank; the head may end within it.
std::string_view first_line(std::string_view head) noexcept {
  constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
  if (head.substr(0, kByteOrderMark.size()) == kByteOrderMark) head.remove_prefix(kByteOrderMark.size());
  while (!head.empty()) {
    const std::size_t end = std::min(head.find('\n'), head.size());
    std::string_view line = head.substr(0, end);
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    if (!trim(line).empty()) return line;
    head.remove_prefix(std::min(end + 1, head.size()));
  }
  return {};
}

template <std::size_t n>
bool is_one_of(std::string_view text, const std::array<std::string_view, n>& names) noexcept {
  return std::any_of(names.begin(), names.end(),
                     [text](std::string_view name) { return equal_ignoring_case(text, name); });
}

/// By the keys of the first object; those of logs are common words, so ours and Mooncake's are looked for
/// first.
std::string_view json_format(std::string_view line) {
  constexpr std::array<std::string_view, 2> kMooncake = {"hash_ids", "input_length"};
  constexpr std::array<std::string_view, 6> kOurs = {"adapter",      "arrival_s",     "duration_s",
                                                     "input_tokens", "output_tokens", "tenant"};
  constexpr std::array<std::string_view, 7> kLog = {"model",    "lora_request", "lora_name",    "request",
                                                    "response", "body",         "prompt_tokens"};
  std::string scratch;
  JsonCursor json(line, scratch);
  bool mooncake = false;
  bool ours = false;
  bool log = false;
  bool has_our_time = false;  // no log calls it so
  std::string_view key;
  if (json.enter_object()) {
    while (json.next_key(key)) {
      mooncake = mooncake || is_one_of(key, kMooncake);
      // A slip of the pen is ours too: the reader says what was meant.
      ours = ours || is_one_of(key, kOurs) || !nearest_name(key, kOurs).empty();
      log = log || is_one_of(key, kLog);
      has_our_time = has_our_time || equal_ignoring_case(key, "arrival_s");
      json.skip();
    }
  }
  // A log's line may well have "tenant" or "input_tokens", but no "arrival_s". Ours never has "model".
  return mooncake ? "mooncake" : log && !has_our_time ? "openai" : ours ? "jsonl" : "";
}

std::string_view table_format(std::string_view line) {
  const auto has = [line](std::string_view column) {
    // A name counts as a column when it fills the space between two delimiters, quoted or not.
    std::size_t begin = 0;
    while (begin <= line.size()) {
      const std::size_t end = std::min(line.find_first_of(",;\t", begin), line.size());
      std::string_view cell = trim(line.substr(begin, end - begin));
      if (cell.size() >= 2 && cell.front() == '"' && cell.back() == '"')
        cell = cell.substr(1, cell.size() - 2);
      if (equal_ignoring_case(cell, column)) return true;
      begin = end + 1;
    }
    return false;
  };
  if (has("ContextTokens") && has("GeneratedTokens")) return "azure";
  if (has("Timestamp") && has("Request tokens")) return "burstgpt";
  if (has("loras") && has("exec_s")) return "gentd26";
  if (has("rate_rps") && has("pattern")) return "servegen";
  if (has("adapter") || has("arrival_s")) return "csv";
  return "";
}

bool is_text(std::string_view head) noexcept {
  return std::none_of(head.begin(), head.end(), [](char c) {
    return static_cast<unsigned char>(c) < 0x20 && c != '\n' && c != '\r' && c != '\t' && c != '\f';
  });
}

}  // namespace

std::string_view detect_format(std::string_view path, std::string_view head) {
  constexpr std::string_view kLtrMagic = "\x89LTR";
  const std::string name = base_name(path);
  if (head.substr(0, kLtrMagic.size()) == kLtrMagic || ends_with(name, ".ltr")) return "ltr";
  if (name.find("oraclegeneral") != std::string::npos) return "oracleGeneral";
  if (!is_text(head)) return ends_with(name, ".trace") ? "cache2k" : "";
  const std::string_view line = first_line(head);
  if (!line.empty() && trim(line).front() == '{') return json_format(line);
  const std::string_view table = table_format(line);
  if (!table.empty()) return table;
  return ends_with(name, ".csv") || ends_with(name, ".tsv") ? "csv" : "";
}

}  // namespace loracle
