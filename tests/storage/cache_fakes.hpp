#pragma once
/// What tests of caches stand on: a provider in memory that fails on demand, and a look at directories.
///
/// FakeProvider's threads: any for calls of StorageProvider and put; everything else while none is under way.

#include <stdlib.h>  // setenv is POSIX, not in <cstdlib>'s promise
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <sstream>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "loracle/core/rng.hpp"
#include "loracle/storage/cache.hpp"
#include "loracle/storage/provider.hpp"

namespace loracle::testing {

class FakeProvider final : public StorageProvider {
 public:
  /// Creates or replaces an object: a new etag.
  void put(const std::string& uri, std::string content) {
    const std::lock_guard lock(mutex_);
    objects_[uri] = {std::make_shared<const std::string>(std::move(content)), "e" + std::to_string(++etags_)};
  }
  void remove(const std::string& uri) {
    const std::lock_guard lock(mutex_);
    objects_.erase(uri);
  }

  [[nodiscard]] std::string_view scheme() const noexcept override { return "fake"; }

  [[nodiscard]] Result<StoredListing> list(const std::string& uri, bool recursive) override {
    ++lists;
    if (!can_list) return fail(Errc::kUnsupported, uri + ": cannot list");
    if (on_call)
      if (std::optional<Error> error = on_call("list", uri)) return fail(std::move(*error));
    const std::lock_guard lock(mutex_);
    StoredListing listing;
    for (const auto& [name, object] : objects_) {
      if (!name.starts_with(uri + "/")) continue;
      const std::string rest = name.substr(uri.size() + 1);
      if (recursive || rest.find('/') == std::string::npos)
        listing.objects.push_back({rest, object.bytes->size(), has_etags ? object.etag : "", 0});
    }
    if (listing.objects.empty()) return fail(Errc::kNotFound, uri + ": nothing is there");
    return listing;
  }

  [[nodiscard]] Result<StoredObject> stat(const std::string& uri) override {
    ++stats;
    if (on_call)
      if (std::optional<Error> error = on_call("stat", uri)) return fail(std::move(*error));
    const std::lock_guard lock(mutex_);
    const auto found = objects_.find(uri);
    if (found == objects_.end()) return fail(Errc::kNotFound, uri + ": not there");
    return StoredObject{uri.substr(uri.rfind('/') + 1), found->second.bytes->size(), found->second.etag, 0};
  }

  [[nodiscard]] Result<Unit> fetch(const std::string& uri, const FetchRange& range,
                                   const ByteSink& sink) override {
    ++fetches;
    if (!knows_ranges && range.offset > 0) return fail(Errc::kUnsupported, uri + ": knows no ranges");
    if (on_call)
      if (std::optional<Error> error = on_call("fetch", uri)) return fail(std::move(*error));
    Object object;
    {
      const std::lock_guard lock(mutex_);
      const auto found = objects_.find(uri);
      if (found == objects_.end()) return fail(Errc::kNotFound, uri + ": not there");
      object = found->second;
    }
    if (!range.etag.empty() && range.etag != object.etag) return fail(Errc::kCorrupt, uri + ": has changed");
    if (range.offset + range.length > object.bytes->size()) return fail(Errc::kCorrupt, uri + ": too short");
    const std::uint64_t length = shorten ? shorten(range.length) : range.length;
    for (std::uint64_t done = 0; done < length;) {
      const std::uint64_t step = std::min<std::uint64_t>(chunk_bytes, length - done);
      const auto part = std::as_bytes(std::span(*object.bytes)).subspan(range.offset + done, step);
      if (Result<Unit> taken = sink(range.offset + done, part); !taken) return taken;
      bytes += step;
      done += step;
      if (on_bytes) on_bytes(uri, range.offset + done);
    }
    return Unit{};
  }

  /// Asked before every call: "list", "stat" or "fetch". What it answers is that call's error.
  std::function<std::optional<Error>(std::string_view call, const std::string& uri)> on_call;
  /// Told after every piece that a sink took.
  std::function<void(const std::string& uri, std::uint64_t until)> on_bytes;
  /// How much of a range is sent, without a word about the rest.
  std::function<std::uint64_t(std::uint64_t length)> shorten;
  bool can_list = true;
  bool has_etags = true;     // in listings
  bool knows_ranges = true;  // false: only from the beginning on
  std::uint64_t chunk_bytes = 1000;
  std::atomic<std::uint64_t> lists = 0;
  std::atomic<std::uint64_t> stats = 0;
  std::atomic<std::uint64_t> fetches = 0;
  std::atomic<std::uint64_t> bytes = 0;

 private:
  struct Object {
    std::shared_ptr<const std::string> bytes;
    std::string etag;
  };
  std::mutex mutex_;
  std::map<std::string, Object> objects_;
  std::uint64_t etags_ = 0;
};

/// While it lives, new temporary folders lie in memory where there is such a file system: thousands of fsyncs
/// cost nothing there. For tests that are not about what survives.
class FoldersInMemory {
 public:
  FoldersInMemory() {
    if (const char* usual = ::getenv("TMPDIR")) usual_ = usual;
    if (::access("/dev/shm", W_OK) == 0) ::setenv("TMPDIR", "/dev/shm", 1);
  }
  ~FoldersInMemory() {
    if (usual_)
      ::setenv("TMPDIR", usual_->c_str(), 1);
    else
      ::unsetenv("TMPDIR");
  }
  FoldersInMemory(const FoldersInMemory&) = delete;
  FoldersInMemory& operator=(const FoldersInMemory&) = delete;

 private:
  std::optional<std::string> usual_;
};

inline std::string random_text(Rng& rng, std::size_t size) {
  std::string text(size, '\0');
  for (char& c : text) c = static_cast<char>(rng.next());
  return text;
}

inline std::string text_of(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  return std::move(text).str();
}

/// Names below a directory and what is in them.
inline std::map<std::string, std::string> files_in(const std::filesystem::path& directory) {
  std::map<std::string, std::string> files;
  std::error_code error;
  for (std::filesystem::recursive_directory_iterator it(directory, error), end; !error && it != end;
       it.increment(error))
    if (it->is_regular_file(error) && it->path().filename() != ".loracle")
      files[it->path().lexically_relative(directory).string()] = text_of(it->path());
  return files;
}

/// Sum of the sizes of all files below a directory, temporary ones included. Files that go meanwhile count 0.
inline std::uint64_t bytes_below(const std::filesystem::path& directory) {
  std::uint64_t sum = 0;
  std::error_code error;
  for (std::filesystem::recursive_directory_iterator it(directory, error), end; !error && it != end;
       it.increment(error)) {
    std::error_code gone;
    if (const std::uintmax_t size = it->is_regular_file(gone) ? it->file_size(gone) : 0; !gone) sum += size;
  }
  return sum;
}

inline std::size_t entries_in(const std::filesystem::path& directory) {
  std::error_code error;
  std::size_t count = 0;
  for (std::filesystem::directory_iterator it(directory, error), end; !error && it != end;
       it.increment(error))
    ++count;
  return count;
}

inline std::size_t open_descriptors() { return entries_in("/proc/self/fd"); }

/// Writes an entry whose files are given as name and bytes.
inline Result<Unit> put_files(CacheBackend& cache, const std::string& key,
                              const std::map<std::string, std::string>& files,
                              const CacheMetadata& metadata = {}) {
  CacheContents contents{key, {}, metadata};
  for (const auto& [name, bytes] : files) contents.files.push_back({name, bytes.size()});
  Result<std::unique_ptr<CacheFill>> fill = cache.begin(std::move(contents));
  if (!fill) return fail(std::move(fill.error()));
  std::size_t i = 0;
  for (const auto& [name, bytes] : files) {
    if (::pwrite((*fill)->files()[i++], bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size()))
      return fail(Errc::kIo, name + ": not written");
  }
  Result<CachedCopy> published = (*fill)->publish(OnExisting::kReplace);
  if (!published) return fail(std::move(published.error()));
  return Unit{};
}

}  // namespace loracle::testing
