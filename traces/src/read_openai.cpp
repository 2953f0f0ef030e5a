/// Request logs of vLLM and other OpenAI-compatible servers, as JSONL: one object a request, whose fields may
/// lie in `request`, `response` or `body` objects within it (so batch files and gateway logs read too). Of a
/// field found twice the outer one counts, of equals the first.
///   adapter   lora_request (a string, or its lora_name or name; null: base model), else lora_name, or model
///   arrival   created, timestamp, time, ts, arrival_time, start_time: epoch number, date, seconds from 0
///   tokens    usage.prompt_tokens, input_tokens, usage.completion_tokens, output_tokens; also outside usage
///   tenant    tenant, user, user_id
///   session   session_id, conversation_id
///   holding   duration_s, latency_s, latency_ms
/// `model` is an adapter in every request unless mapping `lora:base=NAME` says it is the base model.

#include <fmt/format.h>

#include <array>
#include <limits>

#include "json_fields.hpp"
#include "parse_values.hpp"
#include "readers.hpp"

namespace loracle {
namespace {

enum Field : std::size_t {
  kLoraRequest,
  kLoraName,
  kModel,
  kTime,
  kInput,
  kOutput,
  kTenant,
  kSession,
  kDurationS,
  kDurationMs,
  kFields
};

struct KeyFacts {
  std::string_view key;
  Field field;
};

constexpr std::array<KeyFacts, 23> kKeys = {{{"lora_request", kLoraRequest},
                                             {"lora_name", kLoraName},
                                             {"model", kModel},
                                             {"created", kTime},
                                             {"timestamp", kTime},
                                             {"time", kTime},
                                             {"ts", kTime},
                                             {"arrival_time", kTime},
                                             {"start_time", kTime},
                                             {"created_at", kTime},
                                             {"prompt_tokens", kInput},
                                             {"input_tokens", kInput},
                                             {"completion_tokens", kOutput},
                                             {"output_tokens", kOutput},
                                             {"tenant", kTenant},
                                             {"user", kTenant},
                                             {"user_id", kTenant},
                                             {"session_id", kSession},
                                             {"conversation_id", kSession},
                                             {"duration_s", kDurationS},
                                             {"latency_s", kDurationS},
                                             {"latency_ms", kDurationMs},
                                             {"duration_ms", kDurationMs}}};

struct Found {
  std::string_view text;
  std::size_t at = 0;
  int depth = std::numeric_limits<int>::max();  // of the object it was in; max: not found
  bool is_null = false;

  [[nodiscard]] bool given() const noexcept { return depth != std::numeric_limits<int>::max(); }
  [[nodiscard]] bool has_text() const noexcept { return given() && !is_null && !text.empty(); }
};

class OpenaiLine {
 public:
  explicit OpenaiLine(TextReader& reader) : reader_(&reader) {}

  [[nodiscard]] LineCheck take() {
    JsonCursor json(reader_->line(), scratch_);
    found_.fill(Found{});
    if (json.peek() != JsonKind::kObject && !json.failed())
      return LineFault{json.at(), "not a JSON object", "write one {...} a line"};
    if (LineCheck check = take_object(json, 0)) return check;
    if (!json.finish()) return json_fault(json);
    return deliver();
  }
  [[nodiscard]] bool is_absolute() const noexcept { return clock_.is_absolute(); }

 private:
  /// Fields of an object we know, and of the objects within it that wrap a request or an answer.
  [[nodiscard]] LineCheck take_object(JsonCursor& json, int depth) {
    if (!json.enter_object()) return json_fault(json);
    std::string_view key;
    while (json.next_key(key)) {
      const JsonKind kind = json.peek();
      const bool wraps = key == "request" || key == "response" || key == "body" || key == "usage";
      constexpr int kWrappersMax = 4;
      if (wraps && kind == JsonKind::kObject && depth < kWrappersMax) {
        if (LineCheck check = take_object(json, depth + 1)) return check;
        continue;
      }
      const Field field = field_of(key);
      const bool is_lora_object = field == kLoraRequest && kind == JsonKind::kObject;
      // Another product's field of the same name, or one left open.
      const bool is_foreign = kind == JsonKind::kObject || kind == JsonKind::kArray ||
                              kind == JsonKind::kBool ||
                              (kind == JsonKind::kNull && field != kLoraRequest && field != kLoraName);
      if (field == kFields || depth >= found_[field].depth || (is_foreign && !is_lora_object)) {
        json.skip();
      } else if (is_lora_object) {
        if (LineCheck check = take_lora_request(json, depth)) return check;
      } else {
        Found& found = found_[field];
        found.at = json.at();
        if (LineCheck check = read_scalar(json, key, found.text)) return check;
        found.depth = depth;
        found.is_null = kind == JsonKind::kNull;
      }
    }
    if (json.failed()) return json_fault(json);
    return std::nullopt;
  }

  /// {"lora_name": "x", "lora_int_id": 1, ...}
  [[nodiscard]] LineCheck take_lora_request(JsonCursor& json, int depth) {
    Found& found = found_[kLoraRequest];
    found = Found{{}, json.at(), depth, false};
    if (!json.enter_object()) return json_fault(json);
    std::string_view key;
    while (json.next_key(key)) {
      if (key == "lora_name" || (key == "name" && found.text.empty())) {
        found.at = json.at();
        if (LineCheck check = read_scalar(json, key, found.text)) return check;
      } else {
        json.skip();
      }
    }
    if (json.failed()) return json_fault(json);
    return std::nullopt;
  }

  [[nodiscard]] static Field field_of(std::string_view key) noexcept {
    for (const KeyFacts& known : kKeys)
      if (known.key == key) return known.field;
    return kFields;
  }

  [[nodiscard]] LineCheck deliver() {
    draft_.clear();
    if (!found_[kModel].has_text() && !found_[kLoraName].has_text() && !found_[kLoraRequest].given())
      return LineFault{0, "no model and no lora_name", "is this line a request?"};
    if (LineCheck check = take_adapter()) return check;
    const Found& time = found_[kTime];
    if (time.has_text()) {
      draft_.arrival_s = clock_.seconds(time.text);
      if (!draft_.arrival_s)
        return LineFault{
            time.at, fmt::format("the time is '{}'", excerpt(time.text)),
            "give epoch seconds (or ms, us, ns), a date, or seconds from 0, of one kind throughout"};
    }
    for (const auto& [field, tokens] :
         {std::pair<Field, std::optional<std::uint32_t>*>{kInput, &draft_.input_tokens},
          {kOutput, &draft_.output_tokens}}) {
      const Found& found = found_[field];
      if (!found.has_text()) continue;
      if (LineCheck check = check_tokens(found.text, field == kInput ? "prompt_tokens" : "completion_tokens",
                                         found.at, *tokens))
        return check;
    }
    const Found& tenant = found_[kTenant];
    if (tenant.has_text()) {
      if (LineCheck check = check_name(tenant.text, "tenant", tenant.at)) return check;
      draft_.tenant = tenant.text;
    }
    for (const Field field : {kDurationMs, kDurationS}) {
      const Found& found = found_[field];
      if (!found.has_text()) continue;
      double value = 0;
      if (LineCheck check = check_seconds(found.text, "the duration", found.at, value)) return check;
      draft_.duration_s = static_cast<float>(field == kDurationMs ? value / 1e3 : value);
    }
    return reader_->add(draft_);
  }

  [[nodiscard]] LineCheck take_adapter() {
    const Found* found = nullptr;
    switch (reader_->mapping().kind) {
      case MappingKind::kLora:
        found = found_[kLoraRequest].given() ? &found_[kLoraRequest]
                : found_[kLoraName].given()  ? &found_[kLoraName]
                                             : &found_[kModel];
        break;
      case MappingKind::kClient:
        found = &found_[kTenant];
        break;
      case MappingKind::kSession:
        found = &found_[kSession];
        break;
      case MappingKind::kTenant:
      case MappingKind::kZipf:
      case MappingKind::kPower:
        return std::nullopt;
    }
    if (!found->has_text()) return std::nullopt;
    if (LineCheck check = check_name(found->text, "the adapter", found->at)) return check;
    const bool by_session = reader_->mapping().kind == MappingKind::kSession;
    draft_.adapters.push_back(by_session ? reader_->adapter_of_session(found->text) : found->text);
    return std::nullopt;
  }

  TextReader* reader_;
  std::array<Found, kFields> found_;
  ArrivalClock clock_;
  RequestDraft draft_;
  std::string scratch_;
};

}  // namespace

Result<Trace> read_openai(ByteSource& source, const std::string& path, const ReadOptions& options,
                          const Mapping& mapping) {
  TextReader reader(source, path, options, mapping);
  OpenaiLine line(reader);
  for (;;) {
    const Result<bool> more = reader.next();
    if (!more) return fail(more.error());
    if (!*more) break;
    const Result<Unit> settled = reader.settle(line.take());
    if (!settled) return fail(settled.error());
  }
  if (line.is_absolute()) reader.builder().count_from_earliest();
  return reader.finish();
}

}  // namespace loracle
