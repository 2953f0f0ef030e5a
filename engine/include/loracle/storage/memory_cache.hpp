#pragma once
/// The cache in memory: the fastest, gone with the process.
///
/// Contents lie in anonymous memory files (memfd), sealed when they are published: nobody can write them any
/// more. What `get` answers is a directory of links to them, below a temporary folder, so that whatever reads
/// files reads these; the links lead there from any process of this user while this one lives. (Files bound
/// to roots need both: directory() as a root, and kMemoryCacheFileName, for what lies under none.)
/// Bytes are those of the files. One descriptor a file for as long as the entry is there: `ulimit -n` bounds
/// the number of entries, too. Folders of links that a killed process left are deleted by the next cache.
/// Threads, errors: cache.hpp; kUnsupported (no /proc).

#include <cstdint>
#include <memory>
#include <string>

#include "loracle/core/result.hpp"
#include "loracle/core/units.hpp"
#include "loracle/storage/cache.hpp"

namespace loracle {

inline constexpr std::uint64_t kMemoryCacheEntriesMax = 1U << 15U;
inline constexpr const char* kMemoryCacheFileName = "loracle";  // of its memory files

struct MemoryCacheOptions {
  Bytes max_size_bytes{1'000'000'000};
  std::uint64_t max_items = 0;  // 0: as many as fit
  bool preserve_permissions = false;
  std::string policy = "lru";
};

/// Errors: kInvalid (names the setting), kIo, kUnsupported.
[[nodiscard]] Result<std::unique_ptr<CacheBackend>> make_memory_cache(const MemoryCacheOptions& options);

}  // namespace loracle
