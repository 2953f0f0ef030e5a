#include "loracle/storage/remote_origin.hpp"

#include <fmt/format.h>

#include <atomic>
#include <condition_variable>
#include <map>
#include <mutex>
#include <optional>
#include <utility>

#include "loracle/engine/digest.hpp"
#include "storage/fetch_files.hpp"
#include "storage/manifest_files.hpp"
#include "storage/retry.hpp"

namespace loracle {
namespace {

const std::string kUriDigest = "uri_sha256";
/// Contents that are remembered; the oldest asked go first.
constexpr std::size_t kUrisMax = 65'536;
constexpr std::uint32_t kRoomPauseMs = 50;

/// Nobody answered. One who says "no" has answered, and must not be overruled by what was once allowed.
bool is_out_of_reach(const Error& error) noexcept {
  if (error.code == Errc::kDeadline) return true;
  const bool refused =
      error.detail >= 400 && error.detail < 500 && error.detail != 408 && error.detail != 429;
  return error.code == Errc::kIo && !refused;
}

/// What the cache lacks, a directory say, must not be taken for the adapter.
Error error_of_cache(const std::string& uri, Error error) {
  if (error.code == Errc::kNotFound) error.code = Errc::kIo;
  error.message = fmt::format("{}: {}", uri, error.message);
  return error;
}

class CachedOrigin final : public RemoteOrigin {
 public:
  CachedOrigin(StorageProvider& provider, CacheBackend& cache, const RemoteOriginOptions& options)
      : provider_(provider), cache_(cache), options_(options) {
    options_.fetch.stopped = &stopped_;
    // What cannot be listed is merely not served stale. The last used comes last, and wins.
    if (const Result<std::vector<CacheItem>> items = cache_.list(); items)
      for (const CacheItem& item : *items)
        if (const auto uri = item.metadata.find(kUriDigest); uri != item.metadata.end())
          remember(uri->second, item.key);
  }

  [[nodiscard]] std::string_view scheme() const noexcept override { return provider_.scheme(); }

  [[nodiscard]] Result<LocalCopy> localize(const std::string& uri) override {
    return counted(serve(std::string(without_trailing_slashes(uri)), /*wanted=*/nullptr));
  }

  [[nodiscard]] Result<LocalCopy> localize_content(const std::string& uri,
                                                   const std::string& content) override {
    if (Result<CachedCopy> copy = cache_.get(content); copy) {
      count_hit();
      return counted(LocalCopy{std::move(copy->directory), content, std::move(copy->hold)});
    }
    return counted(serve(std::string(without_trailing_slashes(uri)), &content));
  }

  [[nodiscard]] Result<LocalCopy> local_copy(const std::string& content) override {
    Result<CachedCopy> copy = cache_.get_known(content);
    if (!copy) return fail(std::move(copy.error()));
    return LocalCopy{std::move(copy->directory), content, std::move(copy->hold)};
  }

  void stop() noexcept override {
    stopped_ = true;
    provider_.stop();
  }

  /// Of safetensors, whose header is read in two pieces; one of torch.save is read in hundreds, all over it.
  [[nodiscard]] Result<RemoteView> view(const std::string& given) override {
    std::string uri(without_trailing_slashes(given));
    Result<AdapterManifest> manifest = manifest_of(uri, sha256_hex(uri));
    if (!manifest) return fail(std::move(manifest.error()));
    if (!manifest->has(kAdapterSafetensors)) return Origin::view(uri);
    RemoteView view{manifest->content, nullptr};
    view.files = std::make_unique<ManifestFiles>(provider_, std::move(uri), std::move(*manifest));
    return view;
  }

  [[nodiscard]] RemoteOriginStats stats() const override {
    const std::lock_guard lock(mutex_);
    return counts_;
  }

 private:
  /// One download, and all who wait for it.
  struct Flight {
    std::condition_variable landed;
    std::optional<Result<LocalCopy>> result;
  };
  struct Known {
    std::string content;
    std::uint64_t order = 0;
  };

  [[nodiscard]] Result<LocalCopy> counted(Result<LocalCopy> copy) {
    const std::lock_guard lock(mutex_);
    ++counts_.requests;
    if (!copy) ++counts_.failed;
    return copy;
  }
  void count_hit() {
    const std::lock_guard lock(mutex_);
    ++counts_.hits;
  }

  /// `wanted`: no other content is of use; null: whatever lies there.
  [[nodiscard]] Result<LocalCopy> serve(const std::string& uri, const std::string* wanted) {
    const std::string uri_digest = sha256_hex(uri);
    for (std::uint32_t restarts = 0;; ++restarts) {
      if (stopped_) return fail(Errc::kCancelled, fmt::format("{}: storage is being stopped", uri));
      Result<AdapterManifest> manifest = manifest_of(uri, uri_digest);
      if (!manifest) {
        if (wanted == nullptr && is_out_of_reach(manifest.error()))
          if (std::optional<LocalCopy> stale = last_known(uri_digest); stale) return std::move(*stale);
        if (manifest.error().code == Errc::kNotFound) forget(uri_digest);
        return fail(std::move(manifest.error()));
      }
      if (wanted != nullptr && manifest->content != *wanted)
        return fail(Errc::kCorrupt,
                    fmt::format("{}: has changed since it was catalogued: add it again", uri));
      Result<LocalCopy> copy = bring(uri, uri_digest, *manifest);
      if (copy || copy.error().code != Errc::kCorrupt || restarts >= options_.restarts_max) return copy;
      const std::lock_guard lock(mutex_);
      ++counts_.restarts;
    }
  }

  [[nodiscard]] Result<AdapterManifest> manifest_of(const std::string& uri, const std::string& uri_digest) {
    Result<AdapterManifest> manifest = adapter_manifest(provider_, uri);
    const std::lock_guard lock(mutex_);
    ++counts_.manifests;
    if (manifest) remember(uri_digest, manifest->content);
    return manifest;
  }

  void remember(const std::string& uri_digest, const std::string& content) {
    Known& known = known_[uri_digest];
    if (known.order != 0) by_order_.erase(known.order);
    known.order = ++orders_;
    known.content = content;
    by_order_.emplace(known.order, uri_digest);
    if (by_order_.size() > kUrisMax) {
      known_.erase(by_order_.begin()->second);
      by_order_.erase(by_order_.begin());
    }
  }

  /// What was deleted is not served when its provider is out of reach later, not even by a later process,
  /// which would remember it by what lies in the cache.
  void forget(const std::string& uri_digest) {
    {
      const std::lock_guard lock(mutex_);
      const auto known = known_.find(uri_digest);
      if (known == known_.end()) return;
      by_order_.erase(known->second.order);
      known_.erase(known);
    }
    const Result<std::vector<CacheItem>> items = cache_.list();
    if (!items) return;
    for (const CacheItem& item : *items)
      if (const auto uri = item.metadata.find(kUriDigest);
          uri != item.metadata.end() && uri->second == uri_digest)
        static_cast<void>(cache_.remove(item.key));
  }

  [[nodiscard]] std::optional<LocalCopy> last_known(const std::string& uri_digest) {
    std::string content;
    {
      const std::lock_guard lock(mutex_);
      const auto known = known_.find(uri_digest);
      if (known == known_.end()) return std::nullopt;
      content = known->second.content;
    }
    Result<CachedCopy> copy = cache_.get(content);
    if (!copy) return std::nullopt;
    const std::lock_guard lock(mutex_);
    ++counts_.served_stale;
    return LocalCopy{std::move(copy->directory), std::move(content), std::move(copy->hold), true};
  }

  /// Joins the download of this content, or makes one.
  [[nodiscard]] Result<LocalCopy> bring(const std::string& uri, const std::string& uri_digest,
                                        const AdapterManifest& manifest) {
    std::shared_ptr<Flight> flight;
    {
      std::unique_lock lock(mutex_);
      const auto [place, is_mine] = flights_.try_emplace(manifest.content);
      if (is_mine) place->second = std::make_shared<Flight>();
      flight = place->second;
      if (!is_mine) {
        ++counts_.shared;
        flight->landed.wait(lock, [&] { return flight->result.has_value(); });
        return *flight->result;
      }
    }
    Result<LocalCopy> copy = lease_or_fetch(uri, uri_digest, manifest);
    const std::lock_guard lock(mutex_);
    flight->result = copy;
    flights_.erase(manifest.content);
    flight->landed.notify_all();
    return copy;
  }

  [[nodiscard]] Result<LocalCopy> lease_or_fetch(const std::string& uri, const std::string& uri_digest,
                                                 const AdapterManifest& manifest) {
    Result<CachedCopy> cached = cache_.get(manifest.content);
    if (!cached && cached.error().code != Errc::kNotFound) return fail(std::move(cached.error()));
    if (cached) {
      count_hit();
    } else {
      cached = fetch(uri, uri_digest, manifest);
      if (!cached) return fail(std::move(cached.error()));
    }
    return LocalCopy{std::move(cached->directory), manifest.content, std::move(cached->hold)};
  }

  [[nodiscard]] Result<CachedCopy> fetch(const std::string& uri, const std::string& uri_digest,
                                         const AdapterManifest& manifest) {
    CacheContents contents{manifest.content, {}, {{kUriDigest, uri_digest}}};
    for (const StoredObject& file : manifest.files) {
      if (file.size > options_.fetch.file_bytes_max) {
        return fail(Errc::kTooLarge, fmt::format("{}/{}: {} bytes, at most {} are fetched", uri, file.name,
                                                 file.size, options_.fetch.file_bytes_max));
      }
      contents.files.push_back({file.name, file.size});
    }
    Result<std::unique_ptr<CacheFill>> fill = room_for(contents);
    if (!fill) return fail(error_of_cache(uri, std::move(fill.error())));
    {
      const std::lock_guard lock(mutex_);
      ++counts_.downloads;
    }
    Result<std::vector<std::string>> sha256 =
        fetch_files(provider_, uri, manifest, (*fill)->files(), options_.fetch);
    if (!sha256) return fail(std::move(sha256.error()));
    (*fill)->set_digests(*sha256);
    {
      const std::lock_guard lock(mutex_);
      counts_.downloaded_bytes += manifest.bytes;
    }
    Result<CachedCopy> copy = (*fill)->publish(OnExisting::kKeep);
    if (!copy) return fail(error_of_cache(uri, std::move(copy.error())));
    return copy;
  }

  /// Loads let go of their entries when they have read them: what is all leased now need not be for long.
  [[nodiscard]] Result<std::unique_ptr<CacheFill>> room_for(const CacheContents& contents) {
    for (std::uint32_t waited_ms = 0;; waited_ms += kRoomPauseMs) {
      Result<std::unique_ptr<CacheFill>> fill = cache_.begin(contents);
      if (fill || fill.error().code != Errc::kAllPinned) return fill;
      if (waited_ms >= options_.room_wait_ms) {
        return fail(Errc::kBusy,
                    fmt::format("no room came free in {} ms: {}", waited_ms, fill.error().message));
      }
      if (stopped_) return fail(Errc::kCancelled, "stopped while room was waited for");
      sleep_ms(kRoomPauseMs, stopped_);
    }
  }

  StorageProvider& provider_;
  CacheBackend& cache_;
  RemoteOriginOptions options_;
  std::atomic<bool> stopped_ = false;

  mutable std::mutex mutex_;
  std::map<std::string, std::shared_ptr<Flight>> flights_;  // by content
  std::map<std::string, Known> known_;                      // by digest of the URI
  std::map<std::uint64_t, std::string> by_order_;
  std::uint64_t orders_ = 0;
  RemoteOriginStats counts_;
};

}  // namespace

std::unique_ptr<RemoteOrigin> make_remote_origin(StorageProvider& provider, CacheBackend& cache,
                                                 const RemoteOriginOptions& options) {
  return std::make_unique<CachedOrigin>(provider, cache, options);
}

}  // namespace loracle
