#include "loracle/storage/disk_cache.hpp"

#include <utility>

#include "storage/disk_store.hpp"

namespace loracle {
namespace {

/// Leases and fills share the store, so that they may outlive the cache.
class DiskCache final : public CacheBackend {
 public:
  DiskCache(std::shared_ptr<DiskStore> store, bool preserve_permissions) : store_(std::move(store)) {
    preserve_permissions_ = preserve_permissions;
  }

  [[nodiscard]] std::string_view type() const noexcept override { return "disk"; }
  [[nodiscard]] Result<CachedCopy> get(const std::string& key) override {
    return store_->get(key, /*is_counted=*/true);
  }
  [[nodiscard]] Result<Unit> remove(const std::string& key) override { return store_->remove(key); }
  [[nodiscard]] Result<Unit> clear() override { return store_->clear(); }
  [[nodiscard]] Result<CacheMetadata> metadata(const std::string& key) override {
    return store_->metadata(key);
  }
  [[nodiscard]] Result<std::vector<CacheItem>> list() override { return store_->list(); }
  [[nodiscard]] CacheStats stats() const override { return store_->stats(); }
  [[nodiscard]] Result<std::unique_ptr<CacheFill>> begin(CacheContents contents) override {
    return store_->begin(std::move(contents));
  }

 private:
  std::shared_ptr<DiskStore> store_;
};

}  // namespace

Result<std::unique_ptr<CacheBackend>> make_disk_cache(const DiskCacheOptions& options) {
  Result<std::shared_ptr<DiskStore>> store = DiskStore::open(options);
  if (!store) return fail(std::move(store.error()));
  return std::make_unique<DiskCache>(std::move(*store), options.preserve_permissions);
}

}  // namespace loracle
