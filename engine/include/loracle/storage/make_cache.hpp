#pragma once
/// A cache by the name of its type, as a configuration gives it. Errors: kInvalid (a type there is not), and
/// those of the caches themselves.

#include <memory>
#include <string>

#include "loracle/core/result.hpp"
#include "loracle/storage/cache.hpp"
#include "loracle/storage/disk_cache.hpp"
#include "loracle/storage/memory_cache.hpp"

namespace loracle {

struct CacheChoice {
  std::string type = "disk";  // or "memory"
  DiskCacheOptions disk;
  MemoryCacheOptions memory;
};

[[nodiscard]] Result<std::unique_ptr<CacheBackend>> make_cache(const CacheChoice& choice);

}  // namespace loracle
