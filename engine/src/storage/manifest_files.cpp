#include "storage/manifest_files.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <utility>

namespace loracle {
namespace {

FileStat stat_of(const StoredObject& object) {
  FileStat stat;
  stat.kind = FileKind::kRegular;
  stat.size = object.size;
  stat.mtime_ns = object.modified_unix_s * 1'000'000'000;
  stat.ctime_ns = stat.mtime_ns;
  stat.inode = std::hash<std::string>{}(object.etag);
  return stat;
}

constexpr int kTriesMax = 4;

class ObjectFile final : public OpenFile {
 public:
  ObjectFile(StorageProvider& provider, std::string uri, const StoredObject& object)
      : provider_(provider), uri_(std::move(uri)), etag_(object.etag), stat_(stat_of(object)) {}

  [[nodiscard]] const FileStat& stat() const noexcept override { return stat_; }

  [[nodiscard]] Result<std::size_t> read_at(std::uint64_t offset, std::span<std::byte> into) override {
    if (offset >= stat_.size || into.empty()) return std::size_t{0};
    for (int tries = 1;; ++tries) {  // a range that was damaged on the way is sound, maybe, the next time
      Result<std::size_t> got = read_once(offset, into);
      if (got || got.error().code != Errc::kCorrupt || tries == kTriesMax) return got;
    }
  }

 private:
  [[nodiscard]] Result<std::size_t> read_once(std::uint64_t offset, std::span<std::byte> into) {
    const std::uint64_t length = std::min<std::uint64_t>(into.size(), stat_.size - offset);
    std::uint64_t expected = offset;
    const auto wrong = [this] {
      return fail(Errc::kCorrupt, fmt::format("{}: other bytes came than were asked for", uri_));
    };
    const Result<Unit> fetched =
        provider_.fetch(uri_, {offset, length, etag_, length == stat_.size},
                        [&](std::uint64_t at, std::span<const std::byte> bytes) -> Result<Unit> {
                          if (at != expected || bytes.size() > offset + length - at) return wrong();
                          expected += bytes.size();
                          std::memcpy(into.data() + (at - offset), bytes.data(), bytes.size());
                          return Unit{};
                        });
    if (!fetched) return fail(fetched.error());
    if (expected != offset + length) return wrong();
    return static_cast<std::size_t>(length);
  }

  StorageProvider& provider_;
  std::string uri_;
  std::string etag_;
  FileStat stat_;
};

}  // namespace

Result<const StoredObject*> ManifestFiles::find(const std::string& path) const {
  for (const StoredObject& file : manifest_.files)
    if (path.size() == uri_.size() + 1 + file.name.size() && path.starts_with(uri_) &&
        path[uri_.size()] == '/' && path.ends_with(file.name))
      return &file;
  return fail(Errc::kNotFound, fmt::format("{}: is not there", path));
}

Result<std::unique_ptr<OpenFile>> ManifestFiles::open(const std::string& path) {
  const Result<const StoredObject*> object = find(path);
  if (!object) return fail(object.error());
  return std::make_unique<ObjectFile>(provider_, path, **object);
}

Result<FileStat> ManifestFiles::stat(const std::string& path) {
  const Result<const StoredObject*> object = find(path);
  if (!object) return fail(object.error());
  return stat_of(**object);
}

Result<std::vector<DirectoryEntry>> ManifestFiles::list(const std::string& directory) {
  if (directory != uri_) return fail(Errc::kNotFound, fmt::format("{}: is not there", directory));
  std::vector<DirectoryEntry> entries;
  for (const StoredObject& file : manifest_.files) entries.push_back({file.name, FileKind::kRegular});
  return entries;
}

}  // namespace loracle
