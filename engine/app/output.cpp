#include "output.hpp"

#include <fmt/format.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>
#include <vector>

#include "exit_codes.hpp"
#include "loracle/traces/atomic_file.hpp"
#include "parse_flags.hpp"

namespace loracle::app {

namespace {

int stdout_error = 0;  // errno of the first write to stdout that failed

}  // namespace

std::string_view name_of(Format format) noexcept {
  switch (format) {
    case Format::kText:
      return "text";
    case Format::kJson:
      return "json";
    case Format::kCsv:
      return "csv";
    case Format::kMarkdown:
      break;
  }
  return "markdown";
}

void add_format_flag(CLI::App& command, Format& format, std::span<const Format> formats) {
  std::vector<std::pair<std::string, Format>> names;
  for (const Format one : formats) names.emplace_back(name_of(one), one);
  command.add_option("--format", format, "Output format")->transform(one_of(names));
}

std::string csv_field(std::string_view text) {
  if (text.find_first_of(",\"\n\r") == std::string_view::npos) return std::string(text);
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"') quoted += '"';
    quoted += c;
  }
  return quoted + '"';
}

Result<Unit> write_file(const std::string& path, std::string_view text) {
  if (path == "-") {
    print(text);
    return Unit{};
  }
  Result<AtomicFile> file = AtomicFile::create(path);
  if (!file) return fail(std::move(file.error()));
  if (Result<Unit> ok = file->write({text.data(), text.size()}); !ok) return ok;
  return file->commit();
}

void print(std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() && stdout_error == 0)
    stdout_error = errno;
}

int finish_stdout(int exit_code) {
  if (std::fflush(stdout) != 0 && stdout_error == 0) stdout_error = errno;
  if (stdout_error == 0 || stdout_error == EPIPE) return exit_code;
  return report(
      {Errc::kIo, fmt::format("stdout: cannot write: {}", std::strerror(stdout_error)), stdout_error},
      kExitInput);
}

void say(std::string_view text) { static_cast<void>(std::fwrite(text.data(), 1, text.size(), stderr)); }

}  // namespace loracle::app
