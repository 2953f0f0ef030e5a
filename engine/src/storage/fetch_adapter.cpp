#include "loracle/storage/fetch_adapter.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <limits>
#include <mutex>
#include <optional>
#include <system_error>
#include <thread>
#include <utility>

#include "loracle/core/check.hpp"
#include "loracle/engine/digest.hpp"
#include "loracle/engine/origin.hpp"
#include "storage/cache_io.hpp"
#include "storage/fetch_files.hpp"
#include "storage/part_digests.hpp"
#include "storage/storage_uri.hpp"

namespace loracle {
namespace {

constexpr std::string_view kConfig = "adapter_config.json";
constexpr std::string_view kTorch = "adapter_model.bin";
constexpr std::string_view kEmbeddings = "new_embeddings.safetensors";

/// As a size of parts: a server that knows no ranges sends with each part all that lies before it, too.
constexpr std::uint64_t kWholeFiles = std::numeric_limits<std::uint64_t>::max();

std::string object_uri(const std::string& uri, std::string_view name) {
  return fmt::format("{}/{}", without_trailing_slashes(uri), name);
}

/// The files we care for.
struct Found {
  std::vector<StoredObject> files;
  bool is_forbidden = false;  // one was refused with 403: absent, or not for us
};

/// What a provider that can list says lies there.
Result<Found> listed(StorageProvider& provider, const std::string& uri) {
  Result<StoredListing> listing =
      provider.list(std::string(without_trailing_slashes(uri)), /*recursive=*/false);
  if (!listing) return fail(std::move(listing.error()));
  Found found;
  for (const std::string_view name : {kConfig, kAdapterSafetensors, kTorch, kEmbeddings})
    for (StoredObject& object : listing->objects)
      if (object.name == name) found.files.push_back(std::move(object));
  return found;
}

/// One that cannot list is asked for each. Many servers say "forbidden" of what is not there; of one that has
/// given the config, that is what it means.
Result<Found> asked(StorageProvider& provider, const std::string& uri) {
  Found found;
  std::vector<StoredObject>& files = found.files;
  for (const std::string_view name : {kConfig, kAdapterSafetensors, kTorch, kEmbeddings}) {
    if (name == kTorch && files.back().name == kAdapterSafetensors) continue;
    Result<StoredObject> object = provider.stat(object_uri(uri, name));
    if (object) {
      object->name = name;
      files.push_back(std::move(*object));
      continue;
    }
    const bool is_forbidden = object.error().detail == 403;
    if (name == kConfig || (object.error().code != Errc::kNotFound && !is_forbidden))
      return fail(std::move(object.error()));
    found.is_forbidden = found.is_forbidden || is_forbidden;
  }
  return found;
}

bool holds(const std::vector<StoredObject>& files, std::string_view name) noexcept {
  return std::any_of(files.begin(), files.end(), [&](const StoredObject& file) { return file.name == name; });
}

/// Lengths go in front of texts, so that no two manifests have one text.
std::string content_of(std::string_view uri, const std::vector<StoredObject>& files) {
  std::string text = fmt::format("loracle adapter 1\n{}:{}\n", uri.size(), uri);
  for (const StoredObject& file : files)
    text +=
        fmt::format("{}:{} {} {}:{}\n", file.name.size(), file.name, file.size, file.etag.size(), file.etag);
  return sha256_hex(text);
}

std::vector<FilePart> parts_of(const AdapterManifest& manifest, std::uint64_t part_bytes) {
  std::vector<FilePart> parts;
  for (std::size_t file = 0; file < manifest.files.size(); ++file)
    for (std::uint64_t offset = 0; offset < manifest.files[file].size; offset += part_bytes)
      parts.push_back({file, offset, std::min(part_bytes, manifest.files[file].size - offset)});
  return parts;
}

/// Bytes that come in small pieces, one after the other, written in larger ones: a page cache takes those for
/// less than half the time.
class GatheringWriter {
 public:
  GatheringWriter(int fd, const std::string& path, std::uint64_t offset, std::vector<std::byte>& buffer)
      : fd_(fd), path_(path), offset_(offset), buffer_(buffer) {
    buffer_.clear();
    buffer_.reserve(kGatheredBytes);
  }

  [[nodiscard]] Result<Unit> add(std::span<const std::byte> bytes) {
    if (buffer_.size() + bytes.size() > kGatheredBytes)
      if (Result<Unit> written = write(); !written) return written;
    if (bytes.size() <= kGatheredBytes) {
      buffer_.insert(buffer_.end(), bytes.begin(), bytes.end());
      return Unit{};
    }
    const std::uint64_t offset = std::exchange(offset_, offset_ + bytes.size());
    return write_at(fd_, path_, offset, bytes);
  }

  /// What was added and is not written yet.
  [[nodiscard]] Result<Unit> write() {
    const std::uint64_t offset = std::exchange(offset_, offset_ + buffer_.size());
    Result<Unit> written = write_at(fd_, path_, offset, buffer_);
    buffer_.clear();
    return written;
  }

 private:
  static constexpr std::size_t kGatheredBytes = 256U << 10U;

  int fd_;
  const std::string& path_;
  std::uint64_t offset_;  // of the buffer's first byte
  std::vector<std::byte>& buffer_;
};

class PartFetch {
 public:
  PartFetch(StorageProvider& provider, const std::string& uri, const AdapterManifest& manifest,
            std::span<const int> descriptors, std::uint64_t part_bytes, const std::atomic<bool>* cancelled)
      : provider_(provider),
        uri_(uri),
        manifest_(manifest),
        descriptors_(descriptors),
        parts_(parts_of(manifest, part_bytes)),
        digests_(descriptors, parts_),
        cancelled_(cancelled) {}

  /// The files' digests.
  [[nodiscard]] Result<std::vector<std::string>> run(std::uint32_t threads_max) {
    const std::size_t threads = std::min<std::size_t>(threads_max, parts_.size());
    std::vector<std::thread> others;
    others.reserve(threads);
    try {
      while (others.size() + 1 < threads) others.emplace_back([this] { work(); });
    } catch (const std::system_error&) {  // no more threads to be had: fewer do the same work
    }
    work();
    for (std::thread& other : others) other.join();
    if (error_) return fail(std::move(*error_));
    return digests_.finish();
  }

 private:
  void work() {
    std::vector<std::byte> buffer;
    while (!stopped_.load(std::memory_order_relaxed)) {
      const std::size_t next = next_.fetch_add(1, std::memory_order_relaxed);
      if (next >= parts_.size()) return;
      if (Result<Unit> done = fetch(parts_[next], buffer); !done) {
        const std::lock_guard lock(mutex_);
        // Those that end because another one has failed do not say why.
        if (!stopped_.exchange(true)) error_ = std::move(done.error());
        return;
      }
      digests_.came(next);
    }
  }

  [[nodiscard]] bool is_cancelled() const noexcept { return cancelled_ != nullptr && *cancelled_; }

  [[nodiscard]] Result<Unit> fetch(const FilePart& part, std::vector<std::byte>& buffer) {
    const StoredObject& file = manifest_.files[part.file];
    const std::string uri = object_uri(uri_, file.name);
    if (is_cancelled()) return fail(Errc::kCancelled, uri + ": storage is being stopped");
    GatheringWriter writer(descriptors_[part.file], file.name, part.offset, buffer);
    std::uint64_t expected = part.offset;
    const std::uint64_t end = part.offset + part.length;
    const auto sink = [&](std::uint64_t offset, std::span<const std::byte> bytes) -> Result<Unit> {
      if (is_cancelled()) return fail(Errc::kCancelled, uri + ": storage is being stopped");
      if (stopped_.load(std::memory_order_relaxed))
        return fail(Errc::kCancelled, uri + ": another part failed");
      if (offset != expected || bytes.size() > end - expected) {
        return fail(Errc::kCorrupt, fmt::format("{}: bytes from {} were sent, {} to {} were due", uri, offset,
                                                expected, end));
      }
      expected += bytes.size();
      return writer.add(bytes);
    };
    const FetchRange range{part.offset, part.length, file.etag, part.length == file.size};
    Result<Unit> fetched = provider_.fetch(uri, range, sink);
    if (fetched && expected != end) {
      return fail(Errc::kCorrupt,
                  fmt::format("{}: ended at byte {}, {} bytes early", uri, expected, end - expected));
    }
    if (fetched) fetched = writer.write();
    if (fetched) begin_flush(descriptors_[part.file], part.offset, part.length);
    return fetched;
  }

  StorageProvider& provider_;
  const std::string& uri_;
  const AdapterManifest& manifest_;
  std::span<const int> descriptors_;
  std::vector<FilePart> parts_;
  PartDigests digests_;
  const std::atomic<bool>* cancelled_;  // by the caller; may be null
  std::atomic<std::size_t> next_ = 0;
  std::atomic<bool> stopped_ = false;
  std::mutex mutex_;
  std::optional<Error> error_;
};

}  // namespace

bool AdapterManifest::has(std::string_view name) const noexcept { return holds(files, name); }

Result<AdapterManifest> adapter_manifest(StorageProvider& provider, const std::string& uri) {
  const std::string_view scheme = scheme_of(uri);
  if ((scheme == "https" || scheme == "http") && uri.find_first_of("?#") != std::string::npos) {
    return fail(Errc::kInvalid, fmt::format("{}: an adapter's URL names a folder, its files lie below it: "
                                            "leave out what begins with ? or #",
                                            shown_uri(uri)));
  }
  Result<Found> found = listed(provider, uri);
  if (!found && found.error().code == Errc::kUnsupported) found = asked(provider, uri);
  if (!found) return fail(std::move(found.error()));
  std::vector<StoredObject>& files = found->files;
  if (!holds(files, kConfig))
    return fail(Errc::kNotFound, fmt::format("{}: has no {}: is it an adapter?", uri, kConfig));
  if (holds(files, kAdapterSafetensors)) {
    std::erase_if(files, [](const StoredObject& file) { return file.name == kTorch; });
  } else if (!holds(files, kTorch)) {
    return fail(Errc::kNotFound,
                fmt::format("{}: has neither {} nor {}{}", uri, kAdapterSafetensors, kTorch,
                            found->is_forbidden ? ", or they are not for us: the server answers 403" : ""));
  }
  AdapterManifest manifest{std::move(files), 0, {}};
  std::sort(manifest.files.begin(), manifest.files.end(),
            [](const StoredObject& a, const StoredObject& b) { return a.name < b.name; });
  for (const StoredObject& file : manifest.files) {
    if (file.etag.empty()) {
      return fail(Errc::kUnsupported,
                  fmt::format("{}/{}: the store names no version (ETag) of it, so that nobody could tell "
                              "whether its parts belong together",
                              uri, file.name));
    }
    if (file.size > UINT64_MAX - manifest.bytes)
      return fail(Errc::kCorrupt, fmt::format("{}: sizes that no files have", uri));
    manifest.bytes += file.size;
  }
  manifest.content = content_of(without_trailing_slashes(uri), manifest.files);
  return manifest;
}

Result<std::vector<std::string>> fetch_files(StorageProvider& provider, const std::string& uri,
                                             const AdapterManifest& manifest,
                                             std::span<const int> descriptors,
                                             const FetchAdapterOptions& options) {
  LORACLE_CHECK(descriptors.size() == manifest.files.size());
  if (options.part_bytes == 0 || options.parts_at_once == 0)
    return fail(Errc::kInvalid, "part_bytes and parts_at_once: 0 fetches nothing: give 1 or more");
  for (const StoredObject& file : manifest.files) {
    if (file.size > options.file_bytes_max) {
      return fail(Errc::kTooLarge, fmt::format("{}/{}: {} bytes, at most {} are fetched", uri, file.name,
                                               file.size, options.file_bytes_max));
    }
  }
  const auto fetch = [&](std::uint64_t part_bytes) {
    return PartFetch(provider, uri, manifest, descriptors, part_bytes, options.stopped)
        .run(options.parts_at_once);
  };
  Result<std::vector<std::string>> done = fetch(options.part_bytes);
  if (!done && done.error().code == Errc::kUnsupported) done = fetch(kWholeFiles);
  return done;
}

Result<Unit> fetch_adapter(StorageProvider& provider, const std::string& uri, const AdapterManifest& manifest,
                           const std::string& directory, const FetchAdapterOptions& options) {
  std::vector<UniqueFd> files;
  std::vector<int> descriptors;
  for (const StoredObject& file : manifest.files) {
    const std::string path = fmt::format("{}/{}", directory, file.name);
    Result<UniqueFd> fd = create_file(path);
    if (!fd) return fail(std::move(fd.error()));
    // Refused before the disk is asked for room.
    if (file.size <= options.file_bytes_max)
      if (Result<Unit> sized = allocate(fd->get(), path, file.size); !sized) return sized;
    descriptors.push_back(fd->get());
    files.push_back(std::move(*fd));
  }
  const Result<std::vector<std::string>> got = fetch_files(provider, uri, manifest, descriptors, options);
  if (!got) return fail(got.error());
  for (std::size_t i = 0; i < files.size(); ++i)
    if (Result<Unit> flushed = flush(files[i].get(), manifest.files[i].name); !flushed) return flushed;
  Result<UniqueFd> folder = open_directory(directory);
  if (!folder) return fail(std::move(folder.error()));
  return flush(folder->get(), directory);
}

}  // namespace loracle
