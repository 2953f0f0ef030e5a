#include "loracle/storage/cache.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <system_error>
#include <utility>
#include <vector>

#include "loracle/storage/make_cache.hpp"
#include "storage/cache_io.hpp"

namespace loracle {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kCopyBytes = std::size_t{1} << 20U;

/// A file to be copied, open, so that what is read is what was examined.
struct Source {
  std::string path;
  std::string name;
  UniqueFd fd;
  struct stat stat {};
};

Result<Source> open_source(const std::string& path, std::string name) {
  Source source{path, std::move(name), UniqueFd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)), {}};
  if (!source.fd.is_open()) return io_failed(path, "open", errno);
  if (::fstat(source.fd.get(), &source.stat) != 0) return io_failed(path, "examine", errno);
  if (!S_ISREG(source.stat.st_mode))
    return fail(Errc::kInvalid, fmt::format("{}: not a regular file: only those can be cached", path));
  return source;
}

/// Links to files are followed, links to folders are refused: they could lead round in circles.
Result<std::vector<Source>> sources_at(const std::string& path) {
  std::vector<Source> sources;
  std::error_code error;
  if (!fs::is_directory(path, error)) {
    Result<Source> source = open_source(path, fs::path(path).filename().string());
    if (!source) return fail(std::move(source.error()));
    sources.push_back(std::move(*source));
    return sources;
  }
  for (fs::recursive_directory_iterator it(path, error); !error && it != fs::recursive_directory_iterator();
       it.increment(error)) {
    if (it->is_directory(error) && !it->is_symlink(error)) continue;
    if (sources.size() == kCacheFilesMax)
      return fail(Errc::kTooLarge, fmt::format("{}: more than {} files", path, kCacheFilesMax));
    Result<Source> source =
        open_source(it->path().string(), it->path().lexically_relative(path).generic_string());
    if (!source) return fail(std::move(source.error()));
    sources.push_back(std::move(*source));
  }
  if (error) return io_failed(path, "list", error.value());
  if (sources.empty()) return fail(Errc::kNotFound, fmt::format("{}: there is no file in it", path));
  std::sort(sources.begin(), sources.end(), [](const Source& a, const Source& b) { return a.name < b.name; });
  return sources;
}

Result<Unit> copy(const Source& source, int into, std::vector<std::byte>& buffer) {
  const auto size = static_cast<std::uint64_t>(source.stat.st_size);
  for (std::uint64_t offset = 0; offset < size;) {
    const std::size_t wanted = std::min<std::uint64_t>(buffer.size(), size - offset);
    const Result<std::size_t> got =
        read_at(source.fd.get(), source.path, offset, std::span(buffer).first(wanted));
    if (!got) return fail(got.error());
    if (*got == 0)
      return fail(Errc::kCorrupt, fmt::format("{}: became shorter while it was copied", source.path));
    const std::span<const std::byte> part = std::span(buffer).first(*got);
    if (Result<Unit> put = write_at(into, source.path, offset, part); !put) return put;
    offset += part.size();
  }
  struct stat now {};
  if (::fstat(source.fd.get(), &now) != 0) return io_failed(source.path, "examine", errno);
  const bool is_same = now.st_size == source.stat.st_size &&
                       now.st_mtim.tv_sec == source.stat.st_mtim.tv_sec &&
                       now.st_mtim.tv_nsec == source.stat.st_mtim.tv_nsec;
  if (!is_same)
    return fail(Errc::kCorrupt, fmt::format("{}: changed while it was copied: try again", source.path));
  return Unit{};
}

}  // namespace

Result<Unit> CacheBackend::put(const std::string& key, const std::string& path,
                               const CacheMetadata& metadata) {
  Result<std::vector<Source>> sources = sources_at(path);
  if (!sources) return fail(std::move(sources.error()));
  CacheContents contents{key, {}, metadata};
  for (const Source& source : *sources) {
    const std::uint32_t mode = preserve_permissions_ ? source.stat.st_mode & 0777U : 0600U;
    contents.files.push_back({source.name, static_cast<std::uint64_t>(source.stat.st_size), mode});
  }
  Result<std::unique_ptr<CacheFill>> fill = begin(std::move(contents));
  if (!fill) return fail(std::move(fill.error()));
  std::vector<std::byte> buffer(kCopyBytes);
  for (std::size_t i = 0; i < sources->size(); ++i)
    if (Result<Unit> copied = copy((*sources)[i], (*fill)->files()[i], buffer); !copied) return copied;
  Result<CachedCopy> published = (*fill)->publish(OnExisting::kReplace);
  if (!published) return fail(std::move(published.error()));
  return Unit{};
}

Result<std::unique_ptr<CacheBackend>> make_cache(const CacheChoice& choice) {
  if (choice.type == "disk") return make_disk_cache(choice.disk);
  if (choice.type == "memory") return make_memory_cache(choice.memory);
  return fail(Errc::kInvalid, fmt::format("cache type '{}': use disk or memory", choice.type));
}

}  // namespace loracle
