#include "text_reader.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "loracle/traces/utf8.hpp"
#include "parse_values.hpp"

namespace loracle {
namespace {

bool is_blank(std::string_view line) noexcept { return trim(line).empty(); }

std::size_t line_limit(const ReadOptions& options) noexcept {
  constexpr std::uint64_t kLimitMax = std::uint64_t{1} << 30U;
  return static_cast<std::size_t>(std::min(options.line_bytes_max, kLimitMax));
}

}  // namespace

TextReader::TextReader(ByteSource& source, const std::string& path, const ReadOptions& options,
                       const Mapping& mapping)
    : path_(path), options_(options), mapping_(mapping), lines_(source, line_limit(options)) {
  if (mapping.kind == MappingKind::kSession && mapping.adapters > 0)
    session_draws_.emplace(mapping.adapters, mapping.alpha, mapping.seed);
}

Result<bool> TextReader::next() {
  if (options_.requests_max > 0 && builder_.requests() >= options_.requests_max) return false;
  for (;;) {
    const Result<bool> more = lines_.next();
    if (!more) {
      Error error = more.error();
      // The source knows the byte; only here is it known which line was being read.
      error.message = fmt::format("{} (in the line after {}:{})", error.message, path_, lines_.number());
      return fail(std::move(error));
    }
    if (!*more) return false;
    if (!lines_.too_long()) {
      if (is_blank(lines_.line())) continue;
      return true;
    }
    const Result<Unit> settled =
        settle(LineFault{lines_.line().size(), fmt::format("longer than {} bytes", lines_.line().size()),
                         "raise the line limit, or is this not the text format it was taken for?"});
    if (!settled) return fail(settled.error());
  }
}

tl::unexpected<Error> TextReader::refuse(const LineFault& fault) const {
  return fail(Errc::kCorrupt,
              fmt::format("{}:{}: {} (byte {}): {}", path_, std::max<std::uint64_t>(lines_.number(), 1),
                          fault.what, lines_.offset() + fault.at, fault.advice));
}

Result<Unit> TextReader::settle(const LineCheck& check) {
  if (!check) return Unit{};
  if (!options_.skip_bad_lines) {
    Error refused = refuse(*check).value();
    if (!options_.skip_flag.empty())
      refused.message +=
          fmt::format("{} over such lines with {}", refused.message.ends_with('?') ? " Or pass" : "; or pass",
                      options_.skip_flag);
    return fail(std::move(refused));
  }
  if (skipped_++ == 0) first_skipped_ = refuse(*check).value().message;
  return Unit{};
}

LineCheck TextReader::add(const RequestDraft& draft) {
  const std::optional<bool> expected = builder_.expects_arrival();
  if (expected && *expected != draft.arrival_s.has_value())
    return LineFault{0,
                     *expected ? "no arrival time, though the requests before have one"
                               : "an arrival time, though the requests before have none",
                     "give every request an arrival time, or none"};
  builder_.add(draft);
  return std::nullopt;
}

std::string_view TextReader::adapter_of_session(std::string_view session) {
  if (!session_draws_ || session.empty()) return session;
  const std::uint32_t id = sessions_.intern(session);
  if (id == session_adapter_.size()) session_adapter_.push_back(session_draws_->next());
  session_name_ = fmt::format("adapter-{:04}", session_adapter_[id]);
  return session_name_;
}

Result<Trace> TextReader::finish() {
  if (builder_.requests() == 0) {
    const std::uint64_t line = lines_.number();
    if (line == 0) return fail(Errc::kCorrupt, fmt::format("{}:1: the file is empty: give a trace", path_));
    if (skipped_ > 0)
      return fail(Errc::kCorrupt,
                  fmt::format("{}:{}: no request in {} lines, {} of them bad: is this another format? "
                              "The first: {}",
                              path_, line, line, skipped_, first_skipped_));
    return fail(Errc::kCorrupt,
                fmt::format("{}:{}: the file ends without a request: give a trace", path_, line));
  }
  Result<Trace> trace = builder_.finish();
  if (trace) trace->skipped_lines = skipped_;
  return trace;
}

LineCheck check_name(std::string_view name, std::string_view field, std::size_t at) {
  const auto bad = [&](std::string what, std::string advice) {
    return LineFault{at, fmt::format("{} {}", field, what), std::move(advice)};
  };
  if (name.empty()) return bad("is an empty name", "leave it out for the base model");
  if (!is_utf8(name)) return bad("is not UTF-8", "convert the file to UTF-8");
  return std::nullopt;
}

LineCheck check_tokens(std::string_view text, std::string_view field, std::size_t at,
                       std::optional<std::uint32_t>& out) {
  const std::optional<std::uint64_t> count = parse_count(text);
  if (!count || *count > std::numeric_limits<std::uint32_t>::max())
    return LineFault{at, fmt::format("{} is '{}'", field, excerpt(text)),
                     "give a whole number, 0 to 4294967295"};
  out = static_cast<std::uint32_t>(*count);
  return std::nullopt;
}

LineCheck check_seconds(std::string_view text, std::string_view field, std::size_t at, double& out) {
  const std::optional<double> value = parse_number(text);
  if (!value || *value < 0)
    return LineFault{
        at, fmt::format("{} is '{}'", field, excerpt(text)),
        field.ends_with("_ms") ? "give a number of milliseconds from 0" : "give a number of seconds from 0"};
  out = *value;
  return std::nullopt;
}

std::string excerpt(std::string_view text) {
  constexpr std::size_t kLength = 40;
  std::string out(text.substr(0, kLength));
  for (char& c : out)
    if (c < 0x20 || c > 0x7E) c = '?';
  return text.size() > kLength ? out + "..." : out;
}

}  // namespace loracle
