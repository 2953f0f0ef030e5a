/// Mooncake traces (Qin et al., FAST'25; Apache-2.0), JSONL: timestamp (ms), input_length, output_length,
/// hash_ids (one a 512-token block, each standing for the whole prefix up to it).
/// Sessions: requests that share a block other than the first of their lists are one session. As a block
/// stands for its prefix, sharing a later block implies sharing the second, so the second alone tells; a
/// request of one block or none is a session of its own. (The first does not tell: all requests of the
/// published traces share the system prompt.)

#include <fmt/format.h>

#include "json_fields.hpp"
#include "parse_values.hpp"
#include "readers.hpp"

namespace loracle {
namespace {

class MooncakeLine {
 public:
  explicit MooncakeLine(TextReader& reader) : reader_(&reader) {}

  [[nodiscard]] LineCheck take() {
    JsonCursor json(reader_->line(), scratch_);
    draft_.clear();
    second_block_ = {};
    if (json.peek() != JsonKind::kObject && !json.failed())
      return LineFault{json.at(), "not a JSON object", "write one {...} a line"};
    std::string_view key;
    if (json.enter_object()) {
      while (json.next_key(key))
        if (LineCheck check = take_field(json, key)) return check;
    }
    if (!json.finish()) return json_fault(json);
    if (!draft_.arrival_s) return LineFault{0, "no timestamp", "is this a file of format mooncake?"};
    if (reader_->mapping().kind != MappingKind::kSession) return reader_->add(draft_);

    const std::string session = second_block_.empty()
                                    ? fmt::format("session-alone-{}", reader_->line_number())
                                    : fmt::format("session-{}", second_block_);
    draft_.adapters.push_back(reader_->adapter_of_session(session));
    return reader_->add(draft_);
  }

 private:
  [[nodiscard]] LineCheck take_field(JsonCursor& json, std::string_view key) {
    if (key == "timestamp") {
      std::optional<double> milliseconds;
      if (LineCheck check = read_seconds(json, key, milliseconds)) return check;
      if (milliseconds) draft_.arrival_s = *milliseconds / 1e3;
      return std::nullopt;
    }
    if (key == "input_length") return read_tokens(json, key, draft_.input_tokens);
    if (key == "output_length") return read_tokens(json, key, draft_.output_tokens);
    if (key != "hash_ids" || json.peek() != JsonKind::kArray) {
      json.skip();
      return std::nullopt;  // a mistake in it shows at `finish`
    }
    if (!json.enter_array()) return json_fault(json);
    std::string_view block;
    for (std::size_t i = 0; json.next_element(); ++i) {
      if (LineCheck check = read_name(json, "hash_ids", block)) return check;
      if (i == 1) second_block_ = block;
    }
    return std::nullopt;
  }

  TextReader* reader_;
  RequestDraft draft_;
  std::string_view second_block_;
  std::string scratch_;
};

}  // namespace

Result<Trace> read_mooncake(ByteSource& source, const std::string& path, const ReadOptions& options,
                            const Mapping& mapping) {
  TextReader reader(source, path, options, mapping);
  MooncakeLine line(reader);
  for (;;) {
    const Result<bool> more = reader.next();
    if (!more) return fail(more.error());
    if (!*more) return reader.finish();
    const Result<Unit> settled = reader.settle(line.take());
    if (!settled) return fail(settled.error());
  }
}

}  // namespace loracle
