#include "zip_directory.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>
#include <span>
#include <string_view>
#include <utility>

namespace loracle {
namespace {

constexpr std::uint32_t kLocalSignature = 0x0403'4B50;
constexpr std::uint32_t kEntrySignature = 0x0201'4B50;
constexpr std::uint32_t kEndSignature = 0x0605'4B50;
constexpr std::uint32_t kEnd64Signature = 0x0606'4B50;
constexpr std::uint32_t kEnd64LocatorSignature = 0x0706'4B50;
constexpr std::size_t kLocalBytes = 30;
constexpr std::size_t kEntryBytes = 46;
constexpr std::size_t kEndBytes = 22;
constexpr std::size_t kEnd64LocatorBytes = 20;
constexpr std::size_t kEnd64Bytes = 56;
constexpr std::uint32_t kIn64 = 0xFFFF'FFFFU;  // "the real value is in the zip64 part"

std::uint64_t number_at(std::span<const std::byte> bytes, std::size_t at, std::size_t width) noexcept {
  std::uint64_t value = 0;
  for (std::size_t i = width; i-- > 0;) value = value << 8U | std::to_integer<std::uint64_t>(bytes[at + i]);
  return value;
}

/// Where the directory is and what it should hold.
struct DirectoryPlace {
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
  std::uint64_t entries = 0;
};

class DirectoryReader {
 public:
  DirectoryReader(OpenFile& file, const std::string& path) : file_(file), path_(path) {}

  Result<std::vector<ZipEntry>> read() {
    const Result<DirectoryPlace> place = find();
    if (!place) return fail(place.error());
    const std::uint64_t file_bytes = file_.stat().size;
    if (place->bytes > kZipDirectoryBytesMax || place->offset > file_bytes ||
        place->bytes > file_bytes - place->offset)
      return wrong("its directory reaches out of the file");
    std::vector<std::byte> bytes(place->bytes);
    if (auto read = read_exactly(file_, path_, place->offset, bytes); !read)
      return fail(std::move(read.error()));
    std::vector<ZipEntry> entries;
    std::span<const std::byte> rest(bytes);
    while (!rest.empty()) {
      if (auto read = read_entry(rest, place->offset, entries); !read) return fail(std::move(read.error()));
    }
    if (entries.size() != place->entries) return wrong("its directory does not hold the entries it counts");
    return entries;
  }

 private:
  [[nodiscard]] tl::unexpected<Error> wrong(std::string_view what) const {
    return fail(Errc::kCorrupt, fmt::format("{}: not a sound zip archive: {}", path_, what));
  }

  /// The end record is the last thing in the file but for a comment, whose length it tells.
  Result<DirectoryPlace> find() {
    constexpr std::size_t kCommentMax = 0xFFFF;
    const std::uint64_t file_bytes = file_.stat().size;
    const auto tail_bytes = static_cast<std::size_t>(std::min<std::uint64_t>(file_bytes, kEndBytes));
    std::vector<std::byte> tail(tail_bytes);
    const auto read_tail = [&](std::size_t wanted) {
      tail.resize(static_cast<std::size_t>(std::min<std::uint64_t>(file_bytes, wanted)));
      return read_exactly(file_, path_, file_bytes - tail.size(), tail);
    };
    for (const std::size_t wanted : {kEndBytes, kEndBytes + kCommentMax}) {  // torch writes no comment
      if (auto read = read_tail(wanted); !read) return fail(std::move(read.error()));
      for (std::size_t at = tail.size() < kEndBytes ? 0 : tail.size() - kEndBytes + 1; at-- > 0;) {
        if (number_at(tail, at, 4) != kEndSignature) continue;
        if (number_at(tail, at + 20, 2) != tail.size() - at - kEndBytes) continue;
        return place_of(std::span<const std::byte>(tail).subspan(at, kEndBytes),
                        file_bytes - tail.size() + at);
      }
    }
    return wrong("it has no directory; was it cut short?");
  }

  Result<DirectoryPlace> place_of(std::span<const std::byte> end, std::uint64_t end_offset) {
    DirectoryPlace place{number_at(end, 16, 4), number_at(end, 12, 4), number_at(end, 10, 2)};
    const bool one_disk = number_at(end, 4, 2) == 0 && number_at(end, 6, 2) == 0;
    const bool in64 = place.offset == kIn64 || place.bytes == kIn64 || place.entries == 0xFFFF;
    if (!in64) return one_disk ? Result<DirectoryPlace>(place) : wrong("it is one of several disks");
    if (end_offset < kEnd64LocatorBytes) return wrong("its zip64 record is missing");
    std::array<std::byte, kEnd64LocatorBytes> locator{};
    if (auto read = read_exactly(file_, path_, end_offset - kEnd64LocatorBytes, locator); !read)
      return fail(std::move(read.error()));
    const std::uint64_t at = number_at(locator, 8, 8);
    const std::uint64_t space = end_offset - kEnd64LocatorBytes;
    if (number_at(locator, 0, 4) != kEnd64LocatorSignature || space < kEnd64Bytes || at > space - kEnd64Bytes)
      return wrong("its zip64 record is missing");
    std::array<std::byte, kEnd64Bytes> end64{};
    if (auto read = read_exactly(file_, path_, at, end64); !read) return fail(std::move(read.error()));
    if (number_at(end64, 0, 4) != kEnd64Signature) return wrong("its zip64 record is missing");
    return DirectoryPlace{number_at(end64, 48, 8), number_at(end64, 40, 8), number_at(end64, 32, 8)};
  }

  /// Takes one entry off the front of `rest`.
  Result<Unit> read_entry(std::span<const std::byte>& rest, std::uint64_t data_end,
                          std::vector<ZipEntry>& entries) {
    if (rest.size() < kEntryBytes || number_at(rest, 0, 4) != kEntrySignature)
      return wrong("its directory holds something else than entries");
    const auto name_bytes = static_cast<std::size_t>(number_at(rest, 28, 2));
    const auto extra_bytes = static_cast<std::size_t>(number_at(rest, 30, 2));
    const std::size_t bytes = kEntryBytes + name_bytes + extra_bytes + number_at(rest, 32, 2);
    if (rest.size() < bytes) return wrong("its directory ends within an entry");
    const std::span<const std::byte> name = rest.subspan(kEntryBytes, name_bytes);
    ZipEntry entry;
    entry.name.assign(reinterpret_cast<const char*>(name.data()), name.size());
    entry.stored_bytes = number_at(rest, 20, 4);
    entry.bytes = number_at(rest, 24, 4);
    entry.header_offset = number_at(rest, 42, 4);
    const std::uint64_t method = number_at(rest, 10, 2);
    const bool encrypted = (number_at(rest, 8, 2) & 1U) != 0;
    if (encrypted || (method != 0 && method != 8))
      return fail(Errc::kUnsupported,
                  fmt::format("{}: entry '{}' is encrypted or packed by method {}; only stored "
                              "and deflated entries are read",
                              path_, entry.name, method));
    entry.deflated = method == 8;
    if (!take_zip64(rest.subspan(kEntryBytes + name_bytes, extra_bytes), entry))
      return wrong("an entry's zip64 part is damaged");
    const bool placed =
        entry.header_offset <= data_end && entry.stored_bytes <= data_end - entry.header_offset;
    if (!placed || (!entry.deflated && entry.bytes != entry.stored_bytes))
      return wrong("an entry's size or place is impossible");
    entries.push_back(std::move(entry));
    rest = rest.subspan(bytes);
    return Unit{};
  }

  /// Sizes and place that did not fit 32 bits, in this order, each only if its field says so.
  static bool take_zip64(std::span<const std::byte> extra, ZipEntry& entry) noexcept {
    const auto wanted = {&entry.bytes, &entry.stored_bytes, &entry.header_offset};
    if (std::none_of(wanted.begin(), wanted.end(),
                     [](const std::uint64_t* field) { return *field == kIn64; }))
      return true;
    while (extra.size() >= 4) {
      const std::uint64_t tag = number_at(extra, 0, 2);
      const auto length = static_cast<std::size_t>(number_at(extra, 2, 2));
      if (length > extra.size() - 4) return false;
      std::span<const std::byte> data = extra.subspan(4, length);
      extra = extra.subspan(4 + length);
      if (tag != 1) continue;
      for (std::uint64_t* const field : wanted) {
        if (*field != kIn64) continue;
        if (data.size() < 8) return false;
        *field = number_at(data, 0, 8);
        data = data.subspan(8);
      }
      return true;
    }
    return false;
  }

  OpenFile& file_;
  const std::string& path_;
};

}  // namespace

Result<std::vector<ZipEntry>> read_zip_directory(OpenFile& file, const std::string& path) {
  return DirectoryReader(file, path).read();
}

Result<std::uint64_t> zip_data_offset(OpenFile& file, const std::string& path, const ZipEntry& entry) {
  std::array<std::byte, kLocalBytes> header{};
  if (auto read = read_exactly(file, path, entry.header_offset, header); !read)
    return fail(std::move(read.error()));
  // The name and the extra field may differ in length from the directory's: torch pads here, to align.
  const std::uint64_t offset =
      entry.header_offset + kLocalBytes + number_at(header, 26, 2) + number_at(header, 28, 2);
  const std::uint64_t file_bytes = file.stat().size;
  const bool same_method = (number_at(header, 8, 2) == 8) == entry.deflated;
  if (number_at(header, 0, 4) != kLocalSignature || !same_method || offset > file_bytes ||
      entry.stored_bytes > file_bytes - offset)
    return fail(
        Errc::kCorrupt,
        fmt::format("{}: not a sound zip archive: '{}' is not where its directory says", path, entry.name));
  return offset;
}

}  // namespace loracle
