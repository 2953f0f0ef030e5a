#pragma once
/// One key of PEFT's rank_pattern or alpha_pattern, matched as PEFT matches it:
///   re.match(rf"(.*\.)?({key})$", module)
/// Understood: characters, `.`, classes `[a-z_]` and `[^0-9]`, \d \w \s and their opposites, escaped
/// punctuation, groups `( )` and `(?: )`, `|`, `* + ?` (greedy or lazy, which is the same to a whole match),
/// `^` and `$`. Anything else (counts, look-around, references, bytes above 127) is refused: kUnsupported.
/// A key of characters and dots alone is compared in place; any other becomes a nondeterministic automaton
/// whose states are stepped together, so no key can make a match slow: O(key x module), never exponential.
/// `.` and `[^...]` stand for one byte. Why not std::regex: it throws, and overruns the stack on long input.
/// Threads: immutable once built. Source: PEFT v0.17, peft/utils/other.py, get_pattern_key; Python's re.
/// (Before v0.14 PEFT looked both patterns up under the one key that matched first in either.)

#include <array>
#include <bitset>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "loracle/core/result.hpp"

namespace loracle {

class PeftPattern {
 public:
  static constexpr std::size_t kKeyBytesMax = 1024;

  /// Errors: kUnsupported; the message says what in the key was not understood.
  [[nodiscard]] static Result<PeftPattern> compile(std::string_view key);
  [[nodiscard]] bool matches(std::string_view module) const;
  /// False: one that costs more than comparing characters.
  [[nodiscard]] bool is_plain() const noexcept { return program_.empty(); }

 private:
  friend class PatternParser;

  /// A step of the automaton; kByte consumes one, the others branch or look.
  struct Step {
    enum class Kind : std::uint8_t { kByte, kSplit, kBegin, kEnd, kMatch };
    Kind kind = Kind::kMatch;
    std::uint32_t set = 0;                // kByte: index into sets_
    std::array<std::uint32_t, 2> next{};  // the second is for kSplit
  };

  struct Run;
  void add(std::uint32_t step, std::size_t at, Run& run) const;

  std::string key_;  // when plain
  std::vector<std::bitset<256>> sets_;
  std::vector<Step> program_;  // empty: plain
  std::uint32_t start_ = 0;
};

/// compile(key) matches module; false for a key that cannot be compiled.
[[nodiscard]] bool peft_key_matches(std::string_view key, std::string_view module);

}  // namespace loracle
