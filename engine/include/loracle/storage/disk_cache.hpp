#pragma once
/// The cache on disk: survives restarts and kill -9, and may be shared by processes of one machine.
///
/// Layout below `cache_dir`; whatever else lies there is left alone:
///   lock                        flock: held while directories are made, published or deleted
///   entries/HASH.BYTES.SEQ/     one entry: its files, and `.loracle` with key, metadata, sizes and SHA-256s.
///                               HASH is SHA-256 of the key; of two with one HASH the higher SEQ counts
///   staging/BYTES.SEQ/          what is being written, or deleted, by the process that holds its flock
/// The names alone say how much is taken, so there is no index that could disagree with the directory. Bytes
/// are those of all files, `.loracle` included, as `du --apparent-size` counts files.
///  - Publishing: all files are flushed, the directory is renamed, the renaming is flushed.
///  - A lease is a shared flock on the entry's directory: no process deletes what another one uses.
///  - What a dead process left in staging is deleted by the next one that opens the cache or makes room.
///  - An entry that this process did not write itself is compared with its SHA-256s when it is first used;
///    one that is damaged is dropped, and is a miss.
///  - A directory that was deleted, or a part of this layout, is made anew by the next call that needs it
///    (the root only with `create_dirs`); what lay there is a miss.
///  - The order of uses survives (the time of the entry's directory); what else a policy knew does not.
/// Processes that share a directory must be given the same bounds, run as one user, and see a file system
/// with flock (any local one; NFS from Linux 2.6.12 on).
/// Not limited by `max_items`, the number of entries ends at kDiskCacheEntriesMax.
/// Cost: making room lists both folders, O(entries); a miss does too. Threads, errors: cache.hpp.

#include <cstdint>
#include <memory>
#include <string>

#include "loracle/core/result.hpp"
#include "loracle/core/units.hpp"
#include "loracle/storage/cache.hpp"

namespace loracle {

inline constexpr std::uint64_t kDiskCacheEntriesMax = 1U << 15U;

struct DiskCacheOptions {
  std::string cache_dir;
  Bytes max_size_bytes{10'000'000'000};
  std::uint64_t max_items = 0;        // 0: as many as fit
  bool create_dirs = true;            // cache_dir and its parents
  bool preserve_permissions = false;  // of files that are put; else only this user reads them (0600)
  std::string policy = "lru";
  std::uint32_t lock_timeout_ms = 30'000;  // for another process to let go of the lock
};

/// Errors: kInvalid (names the setting), kNotFound (no such directory, and create_dirs is off), kIo, kBusy.
[[nodiscard]] Result<std::unique_ptr<CacheBackend>> make_disk_cache(const DiskCacheOptions& options);

}  // namespace loracle
