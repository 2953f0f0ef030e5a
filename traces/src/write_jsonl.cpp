#include <fmt/format.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <utility>

#include "loracle/traces/atomic_file.hpp"
#include "loracle/traces/check_trace.hpp"
#include "loracle/traces/utf8.hpp"
#include "loracle/traces/write.hpp"

namespace loracle {
namespace {

constexpr std::size_t kBufferBytes = std::size_t{256} * 1024;

[[nodiscard]] Result<Unit> check_utf8(std::string_view what, const NameColumn& names) {
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (is_utf8(names[i])) continue;
    return fail(
        Errc::kInvalid,
        fmt::format("the name of {} {} is not UTF-8, which JSON needs: write .ltr, or rename it", what, i));
  }
  return Unit{};
}

/// Lines on their way to the sink.
class LineWriter {
 public:
  explicit LineWriter(const ByteSink& sink) : sink_(sink) { buffer_.reserve(kBufferBytes + 4096); }

  void begin_line() { separator_ = '{'; }
  [[nodiscard]] Result<Unit> end_line() {
    buffer_ += separator_ == '{' ? "{}\n" : "}\n";
    return buffer_.size() < kBufferBytes ? Result<Unit>(Unit{}) : flush();
  }
  [[nodiscard]] Result<Unit> flush() {
    auto done = buffer_.empty() ? Result<Unit>(Unit{}) : sink_(buffer_);
    buffer_.clear();
    return done;
  }

  void key(std::string_view name) {
    buffer_ += separator_;
    separator_ = ',';
    buffer_ += '"';
    buffer_ += name;
    buffer_ += "\":";
  }
  template <class Number>
  void number(std::string_view name, Number value) {
    key(name);
    std::array<char, 32> digits;
    const auto written = std::to_chars(digits.data(), digits.data() + digits.size(), value);
    buffer_.append(digits.data(), written.ptr);
  }
  void text(std::string_view name, std::string_view value) {
    key(name);
    quoted(value);
  }
  void texts(std::string_view name, std::span<const Row> rows, const NameColumn& names) {
    key(name);
    char before = '[';
    for (const Row row : rows) {
      buffer_ += std::exchange(before, ',');
      quoted(names[index_of(row)]);
    }
    buffer_ += ']';
  }

 private:
  void quoted(std::string_view value) {
    buffer_ += '"';
    for (const char c : value) {
      if (c == '"' || c == '\\') {
        buffer_ += '\\';
        buffer_ += c;
      } else if (static_cast<unsigned char>(c) < 0x20) {
        fmt::format_to(std::back_inserter(buffer_), "\\u{:04x}", static_cast<unsigned>(c));
      } else {
        buffer_ += c;
      }
    }
    buffer_ += '"';
  }

  const ByteSink& sink_;
  std::string buffer_;
  char separator_ = '{';
};

[[nodiscard]] Result<Unit> write_adapters(const AdapterFacts& adapters, LineWriter& line) {
  for (std::size_t row = 0; row < adapters.name.size(); ++row) {
    line.begin_line();
    line.text("type", "adapter");
    line.text("adapter", adapters.name[row]);
    if (!adapters.bytes.empty() && adapters.bytes[row] != 0) line.number("bytes", adapters.bytes[row]);
    if (!adapters.rank.empty() && adapters.rank[row] != 0) line.number("rank", adapters.rank[row]);
    if (auto done = line.end_line(); !done) return done;
  }
  return Unit{};
}

[[nodiscard]] Result<Unit> write_requests(const Trace& trace, LineWriter& line) {
  for (std::uint64_t i = 0; i < trace.requests; ++i) {
    line.begin_line();
    if (!trace.arrival_s.empty()) line.number("arrival_s", trace.arrival_s[i]);
    const std::span<const Row> batch = trace.batch(i);
    if (batch.size() == 1) line.text("adapter", trace.adapters.name[index_of(batch[0])]);
    if (batch.size() > 1) line.texts("adapter", batch, trace.adapters.name);
    if (!trace.input_tokens.empty()) line.number("input_tokens", trace.input_tokens[i]);
    if (!trace.output_tokens.empty()) line.number("output_tokens", trace.output_tokens[i]);
    if (!trace.tenant.empty() && trace.tenant[i] != kNoTenant)
      line.text("tenant", trace.tenant_name[trace.tenant[i]]);
    if (!trace.duration_s.empty()) line.number("duration_s", trace.duration_s[i]);
    if (auto done = line.end_line(); !done) return done;
  }
  return Unit{};
}

}  // namespace

Result<Unit> write_jsonl(const Trace& trace, const ByteSink& sink) {
  if (auto sound = check_trace(trace); !sound) return sound;
  if (auto sound = check_utf8("adapter", trace.adapters.name); !sound) return sound;
  if (auto sound = check_utf8("tenant", trace.tenant_name); !sound) return sound;
  LineWriter line(sink);
  if (auto done = write_adapters(trace.adapters, line); !done) return done;
  if (auto done = write_requests(trace, line); !done) return done;
  return line.flush();
}

Result<Unit> write_jsonl(const Trace& trace, std::FILE* file) {
  const auto failed = [](int error) {
    return fail(Errc::kIo, fmt::format("cannot write the trace: {}", std::strerror(error)), error);
  };
  auto done = write_jsonl(trace, [&](std::span<const char> bytes) -> Result<Unit> {
    if (std::fwrite(bytes.data(), 1, bytes.size(), file) != bytes.size()) return failed(errno);
    return Unit{};
  });
  if (done && std::fflush(file) != 0) return failed(errno);
  return done;
}

Result<Unit> write_jsonl(const Trace& trace, const std::string& path) {
  Result<AtomicFile> file = AtomicFile::create(path);
  if (!file) return fail(file.error());
  auto done = write_jsonl(trace, [&](std::span<const char> bytes) { return file->write(bytes); });
  return done ? file->commit() : done;
}

}  // namespace loracle
