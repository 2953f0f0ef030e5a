/// Our own text format, one JSON object a line; described in traces/README.md.
/// A key that is nearly one of ours is refused, since a misspelt "adapter" would silently make base-model
/// requests; so is a text called adapter_... or lora... in a request without an adapter. Any other foreign
/// key is stepped over.

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "json_fields.hpp"
#include "near_name.hpp"
#include "parse_values.hpp"
#include "readers.hpp"

namespace loracle {
namespace {

const std::vector<std::string>& known_keys() {
  static const std::vector<std::string> keys = {"type",          "adapter", "arrival_s",  "input_tokens",
                                                "output_tokens", "tenant",  "duration_s", "duration_ms",
                                                "bytes",         "rank"};
  return keys;
}

enum class LineType : std::uint8_t { kRequest, kAdapter, kTrace };

class JsonlLine {
 public:
  explicit JsonlLine(TextReader& reader) : reader_(&reader) {}

  /// Takes the reader's present line whole.
  [[nodiscard]] LineCheck take() {
    JsonCursor json(reader_->line(), scratch_);
    draft_.clear();
    type_ = LineType::kRequest;
    bytes_.reset();
    rank_.reset();
    facts_at_ = 0;
    has_adapter_ = false;
    likely_adapter_.clear();
    if (json.peek() != JsonKind::kObject && !json.failed())
      return LineFault{json.at(), "not a JSON object", "write one {...} a line"};
    std::string_view key;
    if (json.enter_object()) {
      while (json.next_key(key))
        if (LineCheck check = take_field(json, key)) return check;
    }
    if (!json.finish()) return json_fault(json);
    return deliver();
  }

 private:
  [[nodiscard]] LineCheck take_field(JsonCursor& json, std::string_view key) {
    if (key == "adapter") {
      has_adapter_ = true;
      return take_adapters(json);
    }
    if (key == "arrival_s") return read_seconds(json, key, draft_.arrival_s);
    if (key == "input_tokens") return read_tokens(json, key, draft_.input_tokens);
    if (key == "output_tokens") return read_tokens(json, key, draft_.output_tokens);
    if (key == "tenant") return read_name(json, key, draft_.tenant);
    if (key == "duration_s" || key == "duration_ms") {
      std::optional<double> seconds;
      if (LineCheck check = read_seconds(json, key, seconds)) return check;
      if (seconds) draft_.duration_s = static_cast<float>(key == "duration_ms" ? *seconds / 1e3 : *seconds);
      return std::nullopt;
    }
    if (key == "type") return take_type(json);
    if (key == "bytes" || key == "rank") return take_fact(json, key);
    if (std::find(foreign_keys_.begin(), foreign_keys_.end(), key) == foreign_keys_.end()) {
      const std::string_view nearest = nearest_of(key, known_keys());
      if (!nearest.empty())
        return LineFault{json.key_at(), fmt::format("unknown key '{}'", excerpt(key)),
                         fmt::format("did you mean '{}'?", nearest)};
      constexpr std::size_t kRememberedMax = 64;
      if (foreign_keys_.size() < kRememberedMax) foreign_keys_.emplace_back(key);
    }
    const bool may_name_one = key.starts_with("adapter") || key.starts_with("lora");
    if (may_name_one && json.peek() == JsonKind::kString && likely_adapter_.empty()) {
      likely_adapter_ = key;
      likely_at_ = json.key_at();
    }
    json.skip();
    return std::nullopt;  // a mistake in it shows at `finish`
  }

  [[nodiscard]] LineCheck take_adapters(JsonCursor& json) {
    draft_.adapters.clear();  // of a key given twice the last counts, as in most JSON readers
    std::string_view name;
    if (json.peek() != JsonKind::kArray) {
      if (LineCheck check = read_name(json, "adapter", name)) return check;
      if (!name.empty()) draft_.adapters.push_back(name);
      return std::nullopt;
    }
    if (!json.enter_array()) return json_fault(json);
    while (json.next_element()) {
      const std::size_t at = json.at();
      if (LineCheck check = read_name(json, "adapter", name)) return check;
      if (name.empty()) return LineFault{at, "adapter has null in its list", "leave it out of the list"};
      draft_.adapters.push_back(name);
    }
    return std::nullopt;
  }

  [[nodiscard]] LineCheck take_type(JsonCursor& json) {
    const std::size_t at = json.at();
    std::string_view type;
    if (LineCheck check = read_scalar(json, "type", type)) return check;
    if (type == "adapter") {
      type_ = LineType::kAdapter;
    } else if (type == "trace") {
      type_ = LineType::kTrace;
    } else if (type == "request" || type.empty()) {
      type_ = LineType::kRequest;
    } else {
      return LineFault{at, fmt::format("type is '{}'", excerpt(type)),
                       "give request, adapter or trace, or leave it out"};
    }
    return std::nullopt;
  }

  [[nodiscard]] LineCheck take_fact(JsonCursor& json, std::string_view key) {
    const std::size_t at = json.at();
    const JsonKind kind = json.peek();
    std::string_view text;
    if (LineCheck check = read_scalar(json, key, text)) return check;
    if (kind == JsonKind::kNull) return std::nullopt;
    const bool is_rank = key == "rank";
    const std::uint64_t limit =
        is_rank ? std::numeric_limits<std::uint16_t>::max() : std::numeric_limits<std::uint64_t>::max();
    const std::optional<std::uint64_t> value = kind == JsonKind::kNumber ? parse_count(text) : std::nullopt;
    if (!value || *value > limit)
      return LineFault{at, fmt::format("{} is '{}'", key, excerpt(text)),
                       fmt::format("give a whole number, 0 to {}", limit)};
    (is_rank ? rank_ : bytes_) = value;
    facts_at_ = at;
    return std::nullopt;
  }

  /// The line is whole and valid: hands it on.
  [[nodiscard]] LineCheck deliver() {
    switch (type_) {
      case LineType::kTrace:
        return std::nullopt;
      case LineType::kAdapter:
        if (draft_.adapters.size() != 1)
          return LineFault{0, fmt::format("an adapter line with {} adapters", draft_.adapters.size()),
                           R"(write {"type":"adapter","adapter":"NAME","bytes":N,"rank":N})"};
        reader_->builder().describe(draft_.adapters[0], bytes_.value_or(0),
                                    static_cast<std::uint16_t>(rank_.value_or(0)));
        return std::nullopt;
      case LineType::kRequest:
        break;
    }
    if (bytes_ || rank_)
      return LineFault{facts_at_, "bytes or rank in a request", R"(give them in a line of "type":"adapter")"};
    if (!has_adapter_ && !likely_adapter_.empty()) {
      return LineFault{likely_at_,
                       fmt::format("a request without an adapter, but with '{}'", excerpt(likely_adapter_)),
                       R"(call it "adapter"; a request of the base model has "adapter": null beside it)"};
    }
    return reader_->add(draft_);
  }

  TextReader* reader_;
  RequestDraft draft_;
  LineType type_ = LineType::kRequest;
  std::optional<std::uint64_t> bytes_;
  std::optional<std::uint64_t> rank_;
  std::size_t facts_at_ = 0;
  bool has_adapter_ = false;
  std::string likely_adapter_;  // the key of a text that may be an adapter's name; empty: none
  std::size_t likely_at_ = 0;
  std::string scratch_;
  std::vector<std::string> foreign_keys_;  // met before and found harmless
};

}  // namespace

Result<Trace> read_jsonl(ByteSource& source, const std::string& path, const ReadOptions& options,
                         const Mapping& mapping) {
  TextReader reader(source, path, options, mapping);
  JsonlLine line(reader);
  for (;;) {
    const Result<bool> more = reader.next();
    if (!more) return fail(more.error());
    if (!*more) return reader.finish();
    const Result<Unit> settled = reader.settle(line.take());
    if (!settled) return fail(settled.error());
  }
}

}  // namespace loracle
