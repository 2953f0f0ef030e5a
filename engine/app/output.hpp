#pragma once
/// What the subcommands print, and how: standard output and error, files, formats.

#include <CLI/CLI.hpp>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "loracle/core/result.hpp"

namespace loracle::app {

/// `--format text|json|csv|markdown`, or those of them that a subcommand has.
enum class Format : std::uint8_t { kText, kJson, kCsv, kMarkdown };
[[nodiscard]] std::string_view name_of(Format format) noexcept;
inline constexpr Format kAllFormats[] = {Format::kText, Format::kJson, Format::kCsv};
inline constexpr Format kPlanFormats[] = {Format::kText, Format::kJson, Format::kCsv, Format::kMarkdown};
inline constexpr Format kTextOrJson[] = {Format::kText, Format::kJson};
void add_format_flag(CLI::App& command, Format& format, std::span<const Format> formats = kAllFormats);

/// A CSV field, quoted where it must be.
[[nodiscard]] std::string csv_field(std::string_view text);

/// Writes a whole file or nothing: a temporary file beside it, renamed. `-` is stdout.
[[nodiscard]] Result<Unit> write_file(const std::string& path, std::string_view text);
/// Writes to stdout; what fails is remembered for finish_stdout.
void print(std::string_view text);
/// Flushes stdout. The exit code given, or that of a failed write; a closed pipe is no failure.
[[nodiscard]] int finish_stdout(int exit_code);
/// Writes to stderr; there is nobody to tell if that fails.
void say(std::string_view text);

}  // namespace loracle::app
