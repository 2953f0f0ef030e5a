#include "loracle/traces/ltr.hpp"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "byte_source.hpp"
#include "loracle/traces/atomic_file.hpp"
#include "loracle/traces/check_trace.hpp"
#include "loracle/traces/transform.hpp"
#include "readers.hpp"

namespace loracle {
namespace {

static_assert(std::endian::native == std::endian::little, "columns are used as they lie in the file");

constexpr std::array<char, 8> kMagic = {'\x89', 'L', 'T', 'R', '\r', '\n', '\x1A', '\n'};
constexpr std::uint32_t kVersion = 1;
constexpr std::uint64_t kAlignment = 64;

enum class Kind : std::uint32_t {
  kSource = 1,
  kFormat,
  kMapping,
  kUses,
  kUseBegin,
  kArrival,
  kInputTokens,
  kOutputTokens,
  kTenant,
  kDuration,
  kAdapterNameBegin,
  kAdapterNameText,
  kAdapterBytes,
  kAdapterRank,
  kTenantNameBegin,
  kTenantNameText,
};
constexpr std::uint32_t kKinds = 16;
constexpr std::array<std::uint32_t, kKinds + 1> kElementBytes = {0, 1, 1, 1, 4, 8, 8, 4, 4,
                                                                 4, 4, 8, 1, 8, 2, 8, 1};

struct Header {
  std::array<char, 8> magic = kMagic;
  std::uint32_t version = kVersion;
  std::uint32_t sections = 0;
  std::uint64_t file_bytes = 0;
  std::uint64_t requests = 0;
  std::uint64_t skipped_lines = 0;
  std::array<std::uint64_t, 2> zero = {0, 0};
  std::uint64_t checksum = 0;
};
static_assert(sizeof(Header) == 64 && offsetof(Header, checksum) == 56);

struct Section {
  std::uint32_t kind = 0;
  std::uint32_t element_bytes = 0;
  std::uint64_t offset = 0;
  std::uint64_t elements = 0;
  std::uint64_t checksum = 0;
};
static_assert(sizeof(Section) == 32);

[[nodiscard]] constexpr std::uint64_t aligned(std::uint64_t at) {
  return (at + kAlignment - 1) / kAlignment * kAlignment;
}

[[nodiscard]] std::uint64_t header_checksum(const Header& header, std::span<const Section> table) {
  std::array<char, 56 + sizeof(Section) * kKinds> bytes{};
  std::memcpy(bytes.data(), &header, 56);
  if (!table.empty()) std::memcpy(bytes.data() + 56, table.data(), table.size_bytes());
  return XXH3_64bits(bytes.data(), 56 + table.size_bytes());
}

[[nodiscard]] tl::unexpected<Error> corrupt(const std::string& path, std::string_view what) {
  return fail(Errc::kCorrupt, fmt::format("{}: {}: write it again from its source", path, what));
}

/// A mapped file whose header and section table are sound.
struct LtrFile {
  ByteSource::Mapping mapping;
  Header header;
  std::vector<Section> table;

  [[nodiscard]] std::span<const char> bytes_of(const Section& section) const {
    return mapping.bytes.subspan(section.offset, section.elements * section.element_bytes);
  }
  [[nodiscard]] const Section* find(Kind kind) const {
    for (const Section& section : table)
      if (section.kind == static_cast<std::uint32_t>(kind)) return &section;
    return nullptr;
  }
  /// The section as a column that keeps the mapping alive; sections are 64-byte aligned in a page-aligned
  /// mapping.
  template <class T>
  [[nodiscard]] Column<T> column(Kind kind) const {
    static_assert(std::is_trivially_copyable_v<T>);
    const Section* const section = find(kind);
    if (section == nullptr) return {};
    const auto* const data = reinterpret_cast<const T*>(mapping.bytes.data() + section->offset);
    return Column<T>(mapping.owner, std::span<const T>(data, section->elements));
  }
  [[nodiscard]] std::string text(Kind kind) const {
    const Section* const section = find(kind);
    if (section == nullptr) return {};
    const std::span<const char> bytes = bytes_of(*section);
    return std::string(bytes.data(), bytes.size());
  }
};

[[nodiscard]] Result<Unit> check_table(const LtrFile& file, const std::string& path) {
  std::uint64_t end = sizeof(Header) + file.table.size() * sizeof(Section);
  std::uint32_t kind_before = 0;
  for (const Section& section : file.table) {
    if (section.kind > kKinds) {
      return fail(
          Errc::kUnsupported,
          fmt::format("{}: section of unknown kind {}: this file needs a later loracle", path, section.kind));
    }
    if (section.kind <= kind_before || section.element_bytes != kElementBytes[section.kind]) {
      return corrupt(path, fmt::format("section of kind {} is out of order or has the wrong element size",
                                       section.kind));
    }
    kind_before = section.kind;
    const std::uint64_t file_bytes = file.header.file_bytes;
    if (section.offset != aligned(end) || section.offset > file_bytes || section.elements == 0 ||
        section.elements > (file_bytes - section.offset) / section.element_bytes) {
      return corrupt(path, fmt::format("section of kind {} does not lie where it should", section.kind));
    }
    end = section.offset + section.elements * section.element_bytes;
  }
  if (end != file.header.file_bytes) return corrupt(path, "the sections do not end where the file ends");
  return Unit{};
}

[[nodiscard]] Result<LtrFile> map_file(const std::string& path) {
  Result<ByteSource> source = ByteSource::open(path);
  if (!source) return fail(source.error());
  LtrFile file;
  file.mapping = source->mapping();
  const std::span<const char> bytes = file.mapping.bytes;
  if (bytes.empty()) {
    return fail(Errc::kCorrupt,
                fmt::format("{}: empty, compressed, or not a regular file; an .ltr is mapped as it "
                            "is: decompress it first",
                            path));
  }
  if (std::memcmp(bytes.data(), kMagic.data(), std::min(bytes.size(), kMagic.size())) != 0) {
    return fail(Errc::kCorrupt,
                fmt::format("{}: not an .ltr file: name its format with --trace-format", path));
  }
  if (bytes.size() < sizeof(Header)) {
    return corrupt(path, fmt::format("truncated: {} bytes are less than a header", bytes.size()));
  }
  Header& header = file.header;
  std::memcpy(&header, bytes.data(), sizeof header);
  if (header.version != kVersion) {
    return fail(Errc::kUnsupported,
                fmt::format("{}: .ltr version {}, and this loracle reads version {}: write it "
                            "again with this loracle, or use a later one",
                            path, header.version, kVersion));
  }
  if (header.file_bytes != bytes.size()) {
    return corrupt(path, fmt::format("{} bytes long, but it was written with {}: truncated or appended to",
                                     bytes.size(), header.file_bytes));
  }
  if (header.sections > kKinds || sizeof(Header) + header.sections * sizeof(Section) > bytes.size()) {
    return corrupt(path, fmt::format("damaged header: {} sections", header.sections));
  }
  file.table.resize(header.sections);
  if (!file.table.empty()) {
    std::memcpy(file.table.data(), bytes.data() + sizeof(Header), file.table.size() * sizeof(Section));
  }
  if (header.checksum != header_checksum(header, file.table)) {
    return corrupt(path, "damaged header: its checksum does not match");
  }
  if (header.zero != std::array<std::uint64_t, 2>{0, 0})
    return corrupt(path, "reserved header bytes are not zero");
  if (auto sound = check_table(file, path); !sound) return fail(sound.error());
  return file;
}

[[nodiscard]] Result<Trace> trace_of(const LtrFile& file, const std::string& path) {
  Trace trace;
  trace.source = file.text(Kind::kSource);
  trace.format = file.text(Kind::kFormat);
  trace.mapping = file.text(Kind::kMapping);
  trace.requests = file.header.requests;
  trace.skipped_lines = file.header.skipped_lines;
  trace.uses = file.column<Row>(Kind::kUses);
  trace.use_begin = file.column<std::uint64_t>(Kind::kUseBegin);
  trace.arrival_s = file.column<double>(Kind::kArrival);
  trace.input_tokens = file.column<std::uint32_t>(Kind::kInputTokens);
  trace.output_tokens = file.column<std::uint32_t>(Kind::kOutputTokens);
  trace.tenant = file.column<std::uint32_t>(Kind::kTenant);
  trace.duration_s = file.column<float>(Kind::kDuration);
  trace.adapters.name.begin = file.column<std::uint64_t>(Kind::kAdapterNameBegin);
  trace.adapters.name.text = file.column<char>(Kind::kAdapterNameText);
  trace.adapters.bytes = file.column<std::uint64_t>(Kind::kAdapterBytes);
  trace.adapters.rank = file.column<std::uint16_t>(Kind::kAdapterRank);
  trace.tenant_name.begin = file.column<std::uint64_t>(Kind::kTenantNameBegin);
  trace.tenant_name.text = file.column<char>(Kind::kTenantNameText);
  if (auto sound = check_trace_lengths(trace); !sound) return corrupt(path, sound.error().message);
  return trace;
}

[[nodiscard]] Result<Unit> check_contents(const LtrFile& file, const std::string& path) {
  std::uint64_t end = sizeof(Header) + file.table.size() * sizeof(Section);
  for (const Section& section : file.table) {
    for (const char gap : file.mapping.bytes.subspan(end, section.offset - end)) {
      if (gap != 0)
        return corrupt(path, fmt::format("damaged between sections, before byte {}", section.offset));
    }
    const std::span<const char> bytes = file.bytes_of(section);
    if (XXH3_64bits(bytes.data(), bytes.size()) != section.checksum) {
      return corrupt(path,
                     fmt::format("damaged: the checksum of section kind {} (bytes {} to {}) does not match",
                                 section.kind, section.offset, section.offset + bytes.size()));
    }
    end = section.offset + bytes.size();
  }
  return Unit{};
}

/// One section to be written.
struct Part {
  Kind kind;
  std::span<const char> bytes;
};

template <class T>
[[nodiscard]] std::span<const char> bytes_of(std::span<const T> values) {
  return {reinterpret_cast<const char*>(values.data()), values.size_bytes()};
}
template <class T>
[[nodiscard]] std::span<const char> bytes_of(const Column<T>& column) {
  return bytes_of(column.view());
}
[[nodiscard]] std::span<const char> bytes_of(const std::string& text) { return {text.data(), text.size()}; }

[[nodiscard]] std::vector<Part> parts_of(const Trace& trace) {
  std::vector<Part> parts = {
      {Kind::kSource, bytes_of(trace.source)},
      {Kind::kFormat, bytes_of(trace.format)},
      {Kind::kMapping, bytes_of(trace.mapping)},
      {Kind::kUses, bytes_of(trace.uses)},
      {Kind::kUseBegin, bytes_of(trace.use_begin)},
      {Kind::kArrival, bytes_of(trace.arrival_s)},
      {Kind::kInputTokens, bytes_of(trace.input_tokens)},
      {Kind::kOutputTokens, bytes_of(trace.output_tokens)},
      {Kind::kTenant, bytes_of(trace.tenant)},
      {Kind::kDuration, bytes_of(trace.duration_s)},
      {Kind::kAdapterNameBegin, bytes_of(trace.adapters.name.begin)},
      {Kind::kAdapterNameText, bytes_of(trace.adapters.name.text)},
      {Kind::kAdapterBytes, bytes_of(trace.adapters.bytes)},
      {Kind::kAdapterRank, bytes_of(trace.adapters.rank)},
      {Kind::kTenantNameBegin, bytes_of(trace.tenant_name.begin)},
      {Kind::kTenantNameText, bytes_of(trace.tenant_name.text)},
  };
  parts.erase(std::remove_if(parts.begin(), parts.end(), [](const Part& part) { return part.bytes.empty(); }),
              parts.end());
  return parts;
}

[[nodiscard]] Result<Unit> write_parts(AtomicFile& file, const Header& header, std::span<const Section> table,
                                       std::span<const Part> parts) {
  constexpr std::array<char, kAlignment> kZeros{};
  if (auto done = file.write(bytes_of(std::span<const Header>(&header, 1))); !done) return done;
  if (auto done = file.write(bytes_of(table)); !done) return done;
  std::uint64_t end = sizeof header + table.size_bytes();
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const std::span<const char> gap(kZeros.data(), static_cast<std::size_t>(table[i].offset - end));
    if (auto done = file.write(gap); !done) return done;
    if (auto done = file.write(parts[i].bytes); !done) return done;
    end = table[i].offset + parts[i].bytes.size();
  }
  return file.commit();
}

}  // namespace

Result<Trace> open_ltr(const std::string& path) {
  const Result<LtrFile> file = map_file(path);
  if (!file) return fail(file.error());
  return trace_of(*file, path);
}

Result<Trace> read_ltr(const std::string& path) {
  const Result<LtrFile> file = map_file(path);
  if (!file) return fail(file.error());
  Result<Trace> trace = trace_of(*file, path);
  if (!trace) return trace;
  if (auto sound = check_contents(*file, path); !sound) return fail(sound.error());
  if (auto sound = check_trace(*trace); !sound) return corrupt(path, sound.error().message);
  return trace;
}

Result<Trace> read_ltr(const std::string& path, const ReadOptions& options) {
  Result<Trace> trace = read_ltr(path);
  if (!trace || options.requests_max == 0) return trace;
  return head(*trace, options.requests_max);
}

Result<Unit> verify_ltr(const std::string& path) {
  const Result<Trace> trace = read_ltr(path);
  if (!trace) return fail(trace.error());
  return Unit{};
}

Result<Unit> write_ltr(const Trace& trace, const std::string& path) {
  if (auto sound = check_trace(trace); !sound) {
    return fail(Errc::kInvalid, fmt::format("{}: cannot write this trace: {}", path, sound.error().message));
  }
  const std::vector<Part> parts = parts_of(trace);
  std::vector<Section> table;
  std::uint64_t end = sizeof(Header) + parts.size() * sizeof(Section);
  for (const Part& part : parts) {
    const std::uint32_t element = kElementBytes[static_cast<std::uint32_t>(part.kind)];
    table.push_back({.kind = static_cast<std::uint32_t>(part.kind),
                     .element_bytes = element,
                     .offset = aligned(end),
                     .elements = part.bytes.size() / element,
                     .checksum = XXH3_64bits(part.bytes.data(), part.bytes.size())});
    end = table.back().offset + part.bytes.size();
  }
  Header header{.sections = static_cast<std::uint32_t>(table.size()),
                .file_bytes = end,
                .requests = trace.requests,
                .skipped_lines = trace.skipped_lines};
  header.checksum = header_checksum(header, table);
  Result<AtomicFile> file = AtomicFile::create(path);
  if (!file) return fail(file.error());
  return write_parts(*file, header, table, parts);
}

}  // namespace loracle
