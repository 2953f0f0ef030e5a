#include "zip_archive.hpp"

#include <fmt/format.h>
#include <zip.h>

#include <algorithm>
#include <array>
#include <utility>

#include "tensor_table.hpp"
#include "zip_directory.hpp"

namespace loracle {
namespace {

struct CloseArchive {
  void operator()(zip_t* archive) const noexcept { zip_discard(archive); }
};
struct CloseEntry {
  void operator()(zip_file_t* entry) const noexcept { (void)zip_fclose(entry); }
};

/// libzip's view of the file. An error of reading is kept, because libzip's own codes have no room for it.
struct FileSource {
  OpenFile* file = nullptr;
  std::uint64_t at = 0;
  std::optional<Error> error;
  zip_error_t zip_error{};

  zip_int64_t failed(int code) noexcept {
    zip_error_set(&zip_error, code, 0);
    return -1;
  }

  zip_int64_t read(void* data, zip_uint64_t length) {
    Result<std::size_t> got =
        file->read_at(at, {static_cast<std::byte*>(data), static_cast<std::size_t>(length)});
    if (!got) {
      error = std::move(got.error());
      return failed(ZIP_ER_READ);
    }
    at += *got;
    return static_cast<zip_int64_t>(*got);
  }

  zip_int64_t seek(void* data, zip_uint64_t length) noexcept {
    const zip_int64_t offset =
        zip_source_seek_compute_offset(at, file->stat().size, data, length, &zip_error);
    if (offset < 0) return -1;
    at = static_cast<std::uint64_t>(offset);
    return 0;
  }

  static zip_int64_t callback(void* self_pointer, void* data, zip_uint64_t length, zip_source_cmd_t command) {
    auto* const self = static_cast<FileSource*>(self_pointer);
    switch (command) {
      case ZIP_SOURCE_OPEN:
        self->at = 0;
        return 0;
      case ZIP_SOURCE_READ:
        return self->read(data, length);
      case ZIP_SOURCE_SEEK:
        return self->seek(data, length);
      case ZIP_SOURCE_TELL:
        return static_cast<zip_int64_t>(self->at);
      case ZIP_SOURCE_CLOSE:
      case ZIP_SOURCE_FREE:
        return 0;
      case ZIP_SOURCE_STAT: {
        auto* const stat = static_cast<zip_stat_t*>(data);
        zip_stat_init(stat);
        stat->size = self->file->stat().size;
        stat->valid |= ZIP_STAT_SIZE;
        return sizeof(zip_stat_t);
      }
      case ZIP_SOURCE_ERROR:
        return zip_error_to_data(&self->zip_error, data, length);
      case ZIP_SOURCE_SUPPORTS:
        return ZIP_SOURCE_SUPPORTS_SEEKABLE;
      default:
        return self->failed(ZIP_ER_OPNOTSUPP);
    }
  }
};

}  // namespace

struct ZipArchive::State {
  OpenFile& file;
  std::string path;
  std::vector<ZipEntry> entries;
  FileSource source;  // outlives the archive
  std::unique_ptr<zip_t, CloseArchive> archive;
  std::unique_ptr<zip_file_t, CloseEntry> open_entry;
  std::uint32_t open_index = 0;
  std::uint64_t open_at = 0;  // inflated bytes taken from it

  State(OpenFile& opened, std::string name) : file(opened), path(std::move(name)) { source.file = &opened; }

  [[nodiscard]] tl::unexpected<Error> wrong(std::string_view what) const {
    return fail(Errc::kCorrupt, fmt::format("{}: not a sound zip archive: {}", path, what));
  }
  /// The error of reading behind libzip's failure, or libzip's.
  [[nodiscard]] tl::unexpected<Error> failed(std::string_view what) {
    if (source.error) return fail(*std::exchange(source.error, std::nullopt));
    return wrong(what);
  }

  Result<Unit> open_archive() {
    zip_error_t error;
    zip_error_init(&error);
    zip_source_t* const made = zip_source_function_create(&FileSource::callback, &source, &error);
    if (made != nullptr) archive.reset(zip_open_from_source(made, ZIP_RDONLY, &error));
    const std::string what = archive ? std::string() : zip_error_strerror(&error);
    if (made != nullptr && !archive) zip_source_free(made);
    zip_error_fini(&error);
    if (!archive) return failed(what);
    return Unit{};
  }

  /// libzip's reading of the directory against ours, and the sums against the file.
  Result<Unit> check_entries() {
    const zip_int64_t count = zip_get_num_entries(archive.get(), 0);
    if (count < 0 || static_cast<std::uint64_t>(count) != entries.size())
      return wrong("two readings of its directory disagree");
    if (entries.size() > kTensorsMax) return wrong(fmt::format("more than {} entries", kTensorsMax));
    const std::uint64_t file_bytes = file.stat().size;
    std::uint64_t stored = 0;
    std::uint64_t inflated = 0;
    for (std::size_t i = 0; i < entries.size(); ++i) {
      const ZipEntry& entry = entries[i];
      zip_stat_t stat;
      if (zip_stat_index(archive.get(), i, ZIP_FL_ENC_RAW, &stat) != 0 || entry.name != stat.name ||
          stat.size != entry.bytes || stat.comp_size != entry.stored_bytes ||
          (stat.comp_method == ZIP_CM_DEFLATE) != entry.deflated)
        return wrong(fmt::format("two readings of its entry '{}' disagree", entry.name));
      // Each is below the file's size or checked right after, so that the sums cannot wrap.
      stored += entry.stored_bytes;
      if (stored > file_bytes) return wrong("its entries overlap");
      if (entry.bytes > kInflatedBytesMax) return wrong(fmt::format("'{}' is absurdly large", entry.name));
      inflated += entry.bytes;
      if (inflated > kInflatedBytesMax || inflated > file_bytes * kInflationMax)
        return wrong("it inflates to many times its size");
    }
    return Unit{};
  }

  Result<Unit> start(std::uint32_t entry) {
    open_entry.reset(zip_fopen_index(archive.get(), entry, 0));
    open_index = entry;
    open_at = 0;
    if (!open_entry) return failed(fmt::format("'{}' cannot be opened", entries[entry].name));
    return Unit{};
  }

  Result<Unit> inflate(std::span<std::byte> into) {
    while (!into.empty()) {
      const zip_int64_t got = zip_fread(open_entry.get(), into.data(), into.size());
      if (got <= 0) {
        const std::string name = entries[open_index].name;
        open_entry.reset();
        return failed(fmt::format("'{}' is damaged or ends early", name));
      }
      into = into.subspan(static_cast<std::size_t>(got));
      open_at += static_cast<std::uint64_t>(got);
    }
    return Unit{};
  }

  /// Behind the last byte of an entry: nothing follows, and the checksum is right (libzip compares it here).
  Result<Unit> finish() {
    std::byte beyond{};
    const zip_int64_t more = zip_fread(open_entry.get(), &beyond, 1);
    open_entry.reset();
    if (more != 0) return failed(fmt::format("'{}' is damaged", entries[open_index].name));
    return Unit{};
  }
};

ZipArchive::ZipArchive(std::unique_ptr<State> state) : state_(std::move(state)) {}
ZipArchive::ZipArchive(ZipArchive&& other) noexcept = default;
ZipArchive::~ZipArchive() = default;

std::span<const ZipEntry> ZipArchive::entries() const noexcept { return state_->entries; }

Result<ZipArchive> ZipArchive::open(OpenFile& file, const std::string& path) {
  auto state = std::make_unique<State>(file, path);
  Result<std::vector<ZipEntry>> entries = read_zip_directory(file, path);
  if (!entries) return fail(std::move(entries.error()));
  state->entries = std::move(*entries);
  if (auto opened = state->open_archive(); !opened) return fail(std::move(opened.error()));
  if (auto checked = state->check_entries(); !checked) return fail(std::move(checked.error()));
  return ZipArchive(std::move(state));
}

Result<std::uint64_t> ZipArchive::data_offset(std::uint32_t entry) {
  return zip_data_offset(state_->file, state_->path, state_->entries[entry]);
}

Result<std::vector<char>> ZipArchive::read_whole(std::uint32_t entry, std::uint64_t bytes_max) {
  const ZipEntry& wanted = state_->entries[entry];
  if (wanted.bytes > bytes_max)
    return state_->wrong(
        fmt::format("'{}' has {} bytes, at most {} are read", wanted.name, wanted.bytes, bytes_max));
  if (auto started = state_->start(entry); !started) return fail(std::move(started.error()));
  std::vector<char> bytes(wanted.bytes);
  if (auto read = state_->inflate(std::as_writable_bytes(std::span(bytes))); !read)
    return fail(std::move(read.error()));
  if (auto finished = state_->finish(); !finished) return fail(std::move(finished.error()));
  return bytes;
}

Result<Unit> ZipArchive::read_at(std::uint32_t entry, std::uint64_t offset, std::span<std::byte> into) {
  if (entry >= state_->entries.size()) return state_->wrong("an entry is gone");
  const bool goes_on = state_->open_entry && state_->open_index == entry && state_->open_at <= offset;
  if (!goes_on)
    if (auto started = state_->start(entry); !started) return started;
  std::array<std::byte, 4096> skipped{};
  while (state_->open_at < offset) {
    const auto count =
        static_cast<std::size_t>(std::min<std::uint64_t>(skipped.size(), offset - state_->open_at));
    if (auto read = state_->inflate(std::span(skipped).first(count)); !read) return read;
  }
  if (auto read = state_->inflate(into); !read) return read;
  return state_->open_at == state_->entries[entry].bytes ? state_->finish() : Unit{};
}

}  // namespace loracle
