#pragma once
/// What every reader of a line-based format shares: the loop over lines, and what happens at a bad one.
/// A reader parses a line into a draft, completely, before it hands it to the builder: a bad line leaves no
/// trace.
/// Message: `file:line: what (byte N): what to do`, N the byte of the decompressed file where the mistake is.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "line_reader.hpp"
#include "loracle/core/result.hpp"
#include "loracle/traces/read.hpp"
#include "mapping.hpp"
#include "trace_builder.hpp"

namespace loracle {

/// A mistake in a line, `at` bytes from its start.
struct LineFault {
  std::size_t at = 0;
  std::string what;
  std::string advice;
};
using LineCheck = std::optional<LineFault>;

class TextReader {
 public:
  TextReader(ByteSource& source, const std::string& path, const ReadOptions& options, const Mapping& mapping);

  /// Steps to the next line that is not blank; false at the end, or when requests_max requests have been
  /// added. Handles lines that are too long.
  [[nodiscard]] Result<bool> next();
  [[nodiscard]] std::string_view line() const noexcept { return lines_.line(); }
  [[nodiscard]] std::uint64_t line_number() const noexcept { return lines_.number(); }

  /// Ends the line that `next` stepped to: nothing when it was good; the error, or one more skipped line,
  /// when not.
  [[nodiscard]] Result<Unit> settle(const LineCheck& check);
  /// For a line that cannot be skipped, such as the header.
  [[nodiscard]] tl::unexpected<Error> refuse(const LineFault& fault) const;

  /// Adds the draft, unless its arrival does not go with the earlier requests'.
  [[nodiscard]] LineCheck add(const RequestDraft& draft);
  /// `adapter` of a session or client mapping; with `session:adapters=N`, the adapter the session has drawn.
  [[nodiscard]] std::string_view adapter_of_session(std::string_view session);

  [[nodiscard]] TraceBuilder& builder() noexcept { return builder_; }
  [[nodiscard]] const Mapping& mapping() const noexcept { return mapping_; }
  [[nodiscard]] const ReadOptions& options() const noexcept { return options_; }
  [[nodiscard]] const std::string& path() const noexcept { return path_; }

  [[nodiscard]] Result<Trace> finish();

 private:
  const std::string& path_;
  const ReadOptions& options_;
  const Mapping& mapping_;
  LineReader lines_;
  TraceBuilder builder_;
  std::uint64_t skipped_ = 0;
  std::string first_skipped_;  // message of the first skipped line
  NameTable sessions_;
  std::vector<std::uint32_t> session_adapter_;  // [sessions_]: what each has drawn
  std::optional<ZipfDraws> session_draws_;
  std::string session_name_;
};

/// Whether `name` may name an adapter or a tenant: not empty, and UTF-8.
[[nodiscard]] LineCheck check_name(std::string_view name, std::string_view field, std::size_t at);
/// A token count: a whole number up to 4,294,967,295.
[[nodiscard]] LineCheck check_tokens(std::string_view text, std::string_view field, std::size_t at,
                                     std::optional<std::uint32_t>& out);
/// Seconds from 0 up.
[[nodiscard]] LineCheck check_seconds(std::string_view text, std::string_view field, std::size_t at,
                                      double& out);
/// The start of a text that is not to be repeated whole in a message; bytes outside ASCII print as '?'.
[[nodiscard]] std::string excerpt(std::string_view text);

}  // namespace loracle
