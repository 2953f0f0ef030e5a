#include "peft_pattern.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>

namespace loracle {
namespace {

constexpr std::uint32_t kNowhere = 0xFFFF'FFFFU;
constexpr int kGroupDepthMax = 32;

bool is_plain_byte(char c) noexcept {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' ||
         c == '.';
}

bool is_plain_key(std::string_view key) noexcept {
  return std::all_of(key.begin(), key.end(), is_plain_byte);
}

/// The key's characters against the end of the module, where a dot stands for anything but a line's end.
bool plain_matches(std::string_view key, std::string_view module) noexcept {
  if (module.size() < key.size()) return false;
  const std::size_t begin = module.size() - key.size();
  if (begin > 0 && module[begin - 1] != '.') return false;
  for (std::size_t i = key.size(); i-- > 0;)
    if (key[i] != module[begin + i] && (key[i] != '.' || module[begin + i] == '\n')) return false;
  return module.substr(0, begin).find('\n') == std::string_view::npos;
}

using ByteSet = std::bitset<256>;

void set_range(ByteSet& set, unsigned first, unsigned last) {
  for (unsigned byte = first; byte <= last; ++byte) set.set(byte);
}

/// \d \w \s and, in upper case, their opposites.
std::optional<ByteSet> class_of_escape(char c) {
  ByteSet set;
  switch (c) {
    case 'd':
    case 'D':
      set_range(set, '0', '9');
      break;
    case 'w':
    case 'W':
      set_range(set, 'a', 'z');
      set_range(set, 'A', 'Z');
      set_range(set, '0', '9');
      set.set('_');
      break;
    case 's':
    case 'S':
      for (const char blank : {' ', '\t', '\n', '\r', '\f', '\v'}) set.set(static_cast<unsigned char>(blank));
      break;
    default:
      return std::nullopt;
  }
  return c < 'a' ? ~set : set;
}

bool is_punctuation(char c) noexcept {
  return c > ' ' && c < 0x7F && !(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z') && !(c >= '0' && c <= '9');
}

}  // namespace

/// Recursive descent over the key; each piece of the automaton has one entry and a list of loose ends.
class PatternParser {
 public:
  PatternParser(std::string_view key, PeftPattern& pattern) : key_(key), pattern_(pattern) {}

  [[nodiscard]] Result<Unit> parse() {
    Piece whole;
    if (!alternatives(whole, 0)) return refuse();
    if (at_ < key_.size()) {
      mistake("an unopened ')'");
      return refuse();
    }
    // (.*\.)? in front: any bytes that end in a dot, or none.
    const std::uint32_t any = step(Step::Kind::kByte, add_set(any_byte()));
    const std::uint32_t dot = step(Step::Kind::kByte, add_set(ByteSet().set('.')));
    const std::uint32_t loop = step(Step::Kind::kSplit, 0, any, dot);
    const std::uint32_t start = step(Step::Kind::kSplit, 0, whole.entry, loop);
    pattern_.program_[any].next[0] = loop;
    pattern_.program_[dot].next[0] = whole.entry;
    const std::uint32_t end = step(Step::Kind::kEnd, 0);
    join(whole, end);
    pattern_.program_[end].next[0] = step(Step::Kind::kMatch, 0);
    pattern_.start_ = start;
    return Unit{};
  }

 private:
  using Step = PeftPattern::Step;
  struct LooseEnd {
    std::uint32_t step = 0;
    std::uint32_t which = 0;
  };
  struct Piece {
    std::uint32_t entry = kNowhere;
    std::vector<LooseEnd> ends;
  };

  bool mistake(std::string_view what) {
    if (what_.empty()) what_ = fmt::format("{} at character {}", what, at_);
    return false;
  }
  [[nodiscard]] tl::unexpected<Error> refuse() const {
    return fail(Errc::kUnsupported,
                fmt::format("the pattern key '{}' has {}; understood are characters, . [] () | * + ? ^ $ and "
                            "\\d \\w \\s",
                            key_, what_));
  }
  static ByteSet any_byte() {
    ByteSet set;
    set.set();
    set.reset('\n');
    return set;
  }
  std::uint32_t add_set(const ByteSet& set) {
    pattern_.sets_.push_back(set);
    return static_cast<std::uint32_t>(pattern_.sets_.size() - 1);
  }
  std::uint32_t step(Step::Kind kind, std::uint32_t set, std::uint32_t next = kNowhere,
                     std::uint32_t other = kNowhere) {
    pattern_.program_.push_back(Step{kind, set, {next, other}});
    return static_cast<std::uint32_t>(pattern_.program_.size() - 1);
  }
  void join(const Piece& piece, std::uint32_t to) {
    for (const LooseEnd& end : piece.ends) pattern_.program_[end.step].next[end.which] = to;
  }
  /// A piece that consumes nothing: a split that goes one way.
  Piece nothing() {
    const std::uint32_t at = step(Step::Kind::kSplit, 0);
    return {at, {{at, 0}}};
  }
  [[nodiscard]] bool more() const noexcept { return at_ < key_.size(); }
  [[nodiscard]] bool take(char c) noexcept {
    if (!more() || key_[at_] != c) return false;
    ++at_;
    return true;
  }

  bool alternatives(Piece& out, int depth) {
    if (!sequence(out, depth)) return false;
    while (take('|')) {
      Piece other;
      if (!sequence(other, depth)) return false;
      out.entry = step(Step::Kind::kSplit, 0, out.entry, other.entry);
      out.ends.insert(out.ends.end(), other.ends.begin(), other.ends.end());
    }
    return true;
  }

  bool sequence(Piece& out, int depth) {
    out = nothing();
    while (more() && key_[at_] != '|' && key_[at_] != ')') {
      Piece next;
      if (!repeated(next, depth)) return false;
      join(out, next.entry);
      out.ends = std::move(next.ends);
    }
    return true;
  }

  bool repeated(Piece& out, int depth) {
    const bool is_anchor = key_[at_] == '^' || key_[at_] == '$';
    if (!single(out, depth)) return false;
    if (!more()) return true;
    const char c = key_[at_];
    if (c == '{') return mistake("a count {}");
    if (c != '*' && c != '+' && c != '?') return true;
    if (is_anchor) return mistake("nothing to repeat");
    ++at_;
    (void)take('?');  // lazy: matches the same names
    const std::uint32_t split = step(Step::Kind::kSplit, 0, out.entry);
    if (c == '?') {
      out.ends.push_back({split, 1});
      out.entry = split;
    } else {
      join(out, split);
      out.ends = {{split, 1}};
      if (c == '*') out.entry = split;
    }
    if (more() && (key_[at_] == '*' || key_[at_] == '+' || key_[at_] == '?'))
      return mistake("a repeated repetition");
    return true;
  }

  bool one_of(Piece& out, const ByteSet& set) {
    out.entry = step(Step::Kind::kByte, add_set(set));
    out.ends = {{out.entry, 0}};
    return true;
  }
  bool anchor(Piece& out, Step::Kind kind) {
    out.entry = step(kind, 0);
    out.ends = {{out.entry, 0}};
    return true;
  }

  bool single(Piece& out, int depth) {
    const char c = key_[at_++];
    switch (c) {
      case '(':
        return group(out, depth);
      case '[':
        return byte_class(out);
      case '.':
        return one_of(out, any_byte());
      case '^':
        return anchor(out, Step::Kind::kBegin);
      case '$':
        return anchor(out, Step::Kind::kEnd);
      case '\\': {
        ByteSet set;
        return escape(set) && one_of(out, set);
      }
      case '*':
      case '+':
      case '?':
      case '{':
        return mistake("nothing to repeat");
      default:
        break;
    }
    if (static_cast<unsigned char>(c) > 0x7F) return mistake("a byte that is not ASCII");
    return one_of(out, ByteSet().set(static_cast<unsigned char>(c)));
  }

  bool group(Piece& out, int depth) {
    if (depth == kGroupDepthMax) return mistake("too many nested groups");
    if (take('?') && !take(':')) return mistake("a group of an unknown kind");
    if (!alternatives(out, depth + 1)) return false;
    return take(')') || mistake("a group without its ')'");
  }

  /// REQUIRES: at_ stands behind a backslash.
  bool escape(ByteSet& set) {
    if (!more()) return mistake("a backslash at its end");
    const char c = key_[at_++];
    if (const std::optional<ByteSet> named = class_of_escape(c)) {
      set |= *named;
      return true;
    }
    if (!is_punctuation(c)) return mistake(fmt::format("the escape \\{}", c));
    set.set(static_cast<unsigned char>(c));
    return true;
  }

  bool byte_class(Piece& out) {
    const bool opposite = take('^');
    ByteSet set;
    for (bool first = true;; first = false) {
      if (!more()) return mistake("a '[' without its ']'");
      const char c = key_[at_++];
      if (c == ']' && !first) break;
      if (static_cast<unsigned char>(c) > 0x7F) return mistake("a byte that is not ASCII");
      const bool range = c != '\\' && at_ + 1 < key_.size() && key_[at_] == '-' && key_[at_ + 1] != ']';
      if (c == '\\') {
        if (!escape(set)) return false;
      } else if (range) {
        const char last = key_[at_ + 1];
        at_ += 2;
        if (last == '\\' || last < c) return mistake("a range that is none");
        set_range(set, static_cast<unsigned char>(c), static_cast<unsigned char>(last));
      } else {
        set.set(static_cast<unsigned char>(c));
      }
    }
    return one_of(out, opposite ? ~set : set);
  }

  std::string_view key_;
  PeftPattern& pattern_;
  std::size_t at_ = 0;
  std::string what_;
};

Result<PeftPattern> PeftPattern::compile(std::string_view key) {
  PeftPattern pattern;
  if (key.size() > kKeyBytesMax)
    return fail(Errc::kUnsupported,
                fmt::format("a pattern key of {} bytes; {} are allowed", key.size(), kKeyBytesMax));
  if (is_plain_key(key)) {
    pattern.key_ = std::string(key);
    return pattern;
  }
  if (Result<Unit> parsed = PatternParser(key, pattern).parse(); !parsed)
    return fail(std::move(parsed.error()));
  return pattern;
}

/// The steps a match stands on, before and after a byte.
struct PeftPattern::Run {
  std::size_t length = 0;          // of the module
  std::vector<std::uint32_t> now;  // kByte and kMatch steps only
  std::vector<std::uint32_t> then;
  std::vector<std::uint32_t> open;   // of `add`: a stack, because programs are long
  std::vector<std::size_t> seen_at;  // [program]  one more than the place a step was last added at
};

/// Adds to `then` a step, or what it leads to without consuming a byte.
void PeftPattern::add(std::uint32_t step, std::size_t at, Run& run) const {
  run.open.push_back(step);
  while (!run.open.empty()) {
    const std::uint32_t here = run.open.back();
    run.open.pop_back();
    if (here == kNowhere || run.seen_at[here] == at + 1) continue;
    run.seen_at[here] = at + 1;
    const Step& found = program_[here];
    switch (found.kind) {
      case Step::Kind::kByte:
      case Step::Kind::kMatch:
        run.then.push_back(here);
        break;
      case Step::Kind::kSplit:
        run.open.push_back(found.next[1]);
        run.open.push_back(found.next[0]);
        break;
      case Step::Kind::kBegin:
        if (at == 0) run.open.push_back(found.next[0]);
        break;
      case Step::Kind::kEnd:
        if (at == run.length) run.open.push_back(found.next[0]);
        break;
    }
  }
}

bool PeftPattern::matches(std::string_view module) const {
  if (is_plain()) return plain_matches(key_, module);
  Run run;
  run.length = module.size();
  run.seen_at.assign(program_.size(), 0);
  add(start_, 0, run);
  run.now.swap(run.then);
  for (std::size_t at = 0; at < module.size() && !run.now.empty(); ++at) {
    const auto byte = static_cast<unsigned char>(module[at]);
    run.then.clear();
    for (const std::uint32_t step : run.now) {
      if (program_[step].kind == Step::Kind::kByte && sets_[program_[step].set].test(byte))
        add(program_[step].next[0], at + 1, run);
    }
    run.now.swap(run.then);
  }
  return std::any_of(run.now.begin(), run.now.end(),
                     [this](std::uint32_t step) { return program_[step].kind == Step::Kind::kMatch; });
}

bool peft_key_matches(std::string_view key, std::string_view module) {
  const bool plain = key.size() <= PeftPattern::kKeyBytesMax && is_plain_key(key);
  if (plain) return plain_matches(key, module);
  const Result<PeftPattern> pattern = PeftPattern::compile(key);
  return pattern && pattern->matches(module);
}

}  // namespace loracle
