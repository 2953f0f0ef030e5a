#pragma once
/// A CacheBackend that hands everything to a store (DiskStore, MemoryStore), which leases and fills share
/// with it, so that they may outlive the cache. Threads: those of the store.

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "loracle/storage/cache.hpp"

namespace loracle {

/// `Store::kType` is what type() says.
template <class Store>
class StoreCache final : public CacheBackend {
 public:
  StoreCache(std::shared_ptr<Store> store, bool preserve_permissions)
      : CacheBackend(preserve_permissions), store_(std::move(store)) {}

  [[nodiscard]] std::string_view type() const noexcept override { return Store::kType; }
  [[nodiscard]] std::string directory() const override { return store_->directory(); }
  [[nodiscard]] Result<CachedCopy> get(const std::string& key) override {
    return store_->get(key, /*is_counted=*/true);
  }
  [[nodiscard]] Result<CachedCopy> get_known(const std::string& key) override { return store_->known(key); }
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
  std::shared_ptr<Store> store_;
};

}  // namespace loracle
