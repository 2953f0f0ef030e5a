#include "loracle/traces/read.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <iterator>
#include <system_error>
#include <utility>

#include "byte_source.hpp"
#include "loracle/traces/ltr.hpp"
#include "loracle/traces/transform.hpp"
#include "mapping.hpp"
#include "near_name.hpp"
#include "parse_values.hpp"
#include "readers.hpp"

namespace loracle {
namespace {

constexpr unsigned bit(MappingKind kind) noexcept { return 1U << static_cast<unsigned>(kind); }
constexpr unsigned kSynthetic = bit(MappingKind::kZipf) | bit(MappingKind::kPower);
constexpr unsigned kLora = bit(MappingKind::kLora);
constexpr unsigned kTenant = bit(MappingKind::kTenant);
constexpr unsigned kClient = bit(MappingKind::kClient);
constexpr unsigned kSession = bit(MappingKind::kSession);

struct Format {
  std::string_view name;
  std::string_view mapping;  // the default
  unsigned mappings;         // those its source can answer
  TextFormatReader* read;    // null: ltr and oracleGeneral, which take other arguments
};

constexpr std::string_view kZipfDefault = "zipf:adapters=100:alpha=0.9";

constexpr std::array<Format, 11> kFormats = {
    {{"jsonl", "lora", kLora | kTenant | kSynthetic, read_jsonl},
     {"ltr", "lora", kLora | kTenant | kSynthetic, nullptr},
     {"oracleGeneral", "lora", kLora | kSynthetic, nullptr},
     {"csv", "lora", kLora | kTenant | kClient | kSession | kSynthetic, read_csv},
     {"azure", kZipfDefault, kSynthetic, read_azure},
     {"burstgpt", kZipfDefault, kLora | kSession | kSynthetic, read_burstgpt},
     {"mooncake", "session", kSession | kSynthetic, read_mooncake},
     {"openai", "lora", kLora | kTenant | kClient | kSession | kSynthetic, read_openai},
     {"gentd26", "lora", kLora | kTenant | kSynthetic, read_gentd26},
     {"servegen", "client", kClient | kTenant | kSynthetic, read_servegen},
     {"cache2k", "lora", kLora | kSynthetic, read_cache2k}}};

const Format* find_format(std::string_view name) noexcept {
  const auto found = std::find_if(kFormats.begin(), kFormats.end(), [name](const Format& format) {
    return equal_ignoring_case(format.name, name);
  });
  return found == kFormats.end() ? nullptr : found;
}

Result<const Format*> told_by_content(const std::string& path) {
  std::error_code ignored;
  const std::filesystem::file_status status = std::filesystem::status(path, ignored);
  // Telling reads the start of the file, which a pipe gives only once.
  if (std::filesystem::exists(status) && !std::filesystem::is_regular_file(status) &&
      !std::filesystem::is_directory(status))
    return fail(Errc::kInvalid,
                fmt::format("{}: cannot tell the format of what is no regular file: name the format, "
                            "one of {}",
                            path, join_names(trace_format_names())));
  Result<ByteSource> source = ByteSource::open(path);
  if (!source) return fail(source.error());
  std::string head(64U << 10U, '\0');
  std::size_t size = 0;
  while (size < head.size()) {
    const Result<std::size_t> got = source->read(std::span<char>(head).subspan(size));
    if (!got && size == 0) return fail(got.error());
    if (!got || *got == 0) break;  // a later error is the reader's to meet, with its position
    size += *got;
  }
  head.resize(size);
  if (size == 0) return fail(Errc::kCorrupt, fmt::format("{}:1: the file is empty: give a trace", path));
  const Format* format = find_format(detect_format(path, head));
  if (format != nullptr) return format;
  if (head.find("lora_request=") != std::string::npos || head.find("lora_request: ") != std::string::npos)
    return fail(
        Errc::kUnsupported,
        fmt::format("{}:1: vLLM's text log does not say how long requests took: log requests as JSON "
                    "lines with model, arrival time and latency, and read those (format openai or jsonl)",
                    path));
  return fail(Errc::kCorrupt,
              fmt::format("{}:1: neither name nor content tells the format: name it, one of {}", path,
                          join_names(trace_format_names())));
}

/// Whether the content is surely no table. What cannot be looked into may be one.
bool is_no_table(const std::string& path) {
  const Result<const Format*> told = told_by_content(path);
  if (!told) return false;
  const std::string_view name = (*told)->name;
  return name == "jsonl" || name == "ltr" || name == "openai" || name == "mooncake" || name == "cache2k";
}

Result<const Format*> choose_format(const std::string& path, const ReadOptions& options) {
  if (options.format.empty() || options.format == "auto") {
    if (!options.columns.empty()) {
      if (is_no_table(path))
        return fail(
            Errc::kInvalid,
            fmt::format("{}: is no table, and columns '{}' are for tables: leave them out, or name the "
                        "format",
                        path, options.columns));
      return find_format("csv");  // a column map is for nothing else
    }
    return told_by_content(path);
  }
  const Format* format = find_format(options.format);
  if (format != nullptr) return format;
  return fail(Errc::kInvalid, fmt::format("format '{}': no such trace format{}: give one of {}",
                                          options.format, did_you_mean(options.format, trace_format_names()),
                                          join_names(trace_format_names())));
}

Result<Mapping> choose_mapping(const Format& format, const ReadOptions& options) {
  Result<Mapping> mapping =
      parse_mapping(options.mapping.empty() ? format.mapping : options.mapping, options.seed);
  if (!mapping) return mapping;
  if ((format.mappings & bit(mapping->kind)) == 0) {
    std::string possible;
    for (std::size_t kind = 0; kind < trace_mapping_names().size(); ++kind)
      if ((format.mappings & (1U << kind)) != 0)
        possible += (possible.empty() ? "" : ", ") + trace_mapping_names()[kind];
    return fail(Errc::kInvalid, fmt::format("mapping '{}': {} traces have no such field: give one of {}",
                                            options.mapping, format.name, possible));
  }
  if (mapping->kind == MappingKind::kClient && format.name != "servegen") {
    if (mapping->rate != 1 || mapping->from_s > 0 || std::isfinite(mapping->to_s))
      return fail(Errc::kInvalid,
                  fmt::format("mapping '{}': rate, from_s and to_s are for servegen, whose requests "
                              "are drawn: leave them out",
                              options.mapping));
    mapping->draws = false;
  }
  return mapping;
}

/// Reads the file by its format; uses are as the source has them.
Result<Trace> read_source(const Format& format, const std::string& path, const ReadOptions& options,
                          const Mapping& mapping) {
  if (format.name == "ltr") {
    Result<Trace> trace = read_ltr(path);
    if (trace && options.requests_max > 0) return head(*trace, options.requests_max);
    return trace;
  }
  Result<ByteSource> source = ByteSource::open(path);
  if (!source) return fail(source.error());
  return format.read == nullptr ? read_oracle_general(*source, path, options)
                                : format.read(*source, path, options, mapping);
}

}  // namespace

const std::vector<std::string>& trace_format_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> all;
    all.reserve(std::size(kFormats));
    for (const Format& format : kFormats) all.emplace_back(format.name);
    return all;
  }();
  return names;
}

Result<Trace> read_trace(const std::string& path, const ReadOptions& options) {
  if (!options.columns.empty() && !options.format.empty() && options.format != "auto" &&
      options.format != "csv")
    return fail(Errc::kInvalid, fmt::format("columns '{}': a column map is for csv, not {}: leave it out",
                                            options.columns, options.format));
  const Result<const Format*> format = choose_format(path, options);
  if (!format) return fail(format.error());
  const Result<Mapping> mapping = choose_mapping(**format, options);
  if (!mapping) return fail(mapping.error());

  Result<Trace> trace = read_source(**format, path, options, *mapping);
  if (!trace) return trace;
  trace->source = path;
  // An .ltr remembers the format and mapping it was made with.
  const bool remembered = (*format)->name == "ltr" && options.mapping.empty();
  if (!remembered || trace->format.empty()) trace->format = (*format)->name;
  if (!remembered || trace->mapping.empty()) trace->mapping = mapping->text();
  trace = apply_mapping(std::move(*trace), *mapping);
  if (!trace || options.fold_period_s == 0) return trace;

  Result<Trace> folded = fold(*trace, options.fold_period_s);
  if (folded) return folded;
  Error error = folded.error();
  error.message = fmt::format("{}: {}", path, error.message);
  return fail(std::move(error));
}

}  // namespace loracle
