#include "loracle/storage/disk_cache.hpp"

#include <utility>

#include "storage/disk_store.hpp"
#include "storage/store_cache.hpp"

namespace loracle {

Result<std::unique_ptr<CacheBackend>> make_disk_cache(const DiskCacheOptions& options) {
  Result<std::shared_ptr<DiskStore>> store = DiskStore::open(options);
  if (!store) return fail(std::move(store.error()));
  return std::make_unique<StoreCache<DiskStore>>(std::move(*store), options.preserve_permissions);
}

}  // namespace loracle
