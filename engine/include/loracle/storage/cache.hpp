#pragma once
/// A cache of adapters' files on this machine, in memory or on disk, behind one interface.
///
/// An entry is a directory of files under a key, and a few words about it (metadata). It is served in place:
/// `get` leases it, and while the lease (`hold`) lives, the directory stays as it is. Who goes when room is
/// needed is decided by a policy of loracle/policy, in the same Tier as everywhere.
/// Invariants:
///  1. Bytes and entries never exceed the bounds, what is still being written included: room is made before
///     the first byte comes.
///  2. An entry is visible only when it is whole.
///  3. A leased entry is never evicted. One that is removed, replaced or cleared while it is leased is hidden
///     at once and goes when its last lease does.
///  4. What fails changes nothing but counters, and what was evicted to make room.
/// Cost: get of a leased or checked entry: a few system calls. put: one copy, one reading for the digest.
/// Threads: any, several at once. A lease may outlive its cache. Neither may be used after fork: open anew.
/// Errors: kNotFound, kInvalid (a key, a name, a setting), kTooLarge (larger than the whole cache),
/// kAllPinned (all that could make room is leased), kBusy (another process does not let go of the lock),
/// kCorrupt (changed while it was copied), kIo (detail: errno; a full disk says ENOSPC).

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "loracle/core/result.hpp"

namespace loracle {

using CacheMetadata = std::map<std::string, std::string>;

inline constexpr std::size_t kCacheKeyBytesMax = 4096;
inline constexpr std::size_t kCacheMetadataBytesMax = 64U << 10U;
inline constexpr std::size_t kCacheFilesMax = 256;  // of one entry

struct CacheFile {
  std::string name;  // below the entry, '/' between folders
  std::uint64_t size = 0;
  std::uint32_t mode = 0600;  // permission bits; the owner can always read
};

/// Text is UTF-8.
struct CacheContents {
  std::string key;
  std::vector<CacheFile> files;
  CacheMetadata metadata;
};

/// A leased entry.
struct CachedCopy {
  std::string directory;
  std::shared_ptr<const CacheContents> contents;
  std::shared_ptr<const void> hold;
};

struct CacheItem {
  std::string key;
  CacheMetadata metadata;
  std::uint64_t bytes = 0;
};

struct CacheStats {
  std::uint64_t entries = 0;      // now, those that are being written included
  std::uint64_t entries_max = 0;  // 2^64 - 1: not limited
  std::uint64_t bytes = 0;        // now, likewise
  std::uint64_t bytes_max = 0;
  std::uint64_t reserved_bytes = 0;  // the part of `bytes` that is being written
  std::uint64_t leased = 0;          // entries, now, by this process
  std::uint64_t hits = 0;
  std::uint64_t misses = 0;
  std::uint64_t published = 0;
  std::uint64_t evictions = 0;
  std::uint64_t damaged = 0;  // found so when first used after a restart, and dropped
  std::uint64_t refused = 0;  // for want of room
  std::string policy;
};

enum class OnExisting : std::uint8_t {
  kReplace,
  kKeep,  // what was written is dropped for what is there: of use where equal keys mean equal bytes
};

/// An entry that is being written. Destroyed unpublished, it leaves nothing behind.
class CacheFill {
 public:
  virtual ~CacheFill() = default;
  /// [files] Descriptors to write to and to read from, in the order of the contents; each file has its full
  /// size already.
  /// They are the fill's, which closes them.
  [[nodiscard]] virtual std::span<const int> files() const noexcept = 0;
  /// [files] SHA-256, in hex, of what was written, if the caller took them: it is not read again for them.
  virtual void set_digests(const std::vector<std::string>& /*sha256*/) {}
  /// Makes the entry visible, and leases it. Once.
  [[nodiscard]] virtual Result<CachedCopy> publish(OnExisting on_existing) = 0;
};

class CacheBackend {
 public:
  /// `preserve_permissions`: of what `put` copies.
  explicit CacheBackend(bool preserve_permissions = false) : preserve_permissions_(preserve_permissions) {}
  virtual ~CacheBackend() = default;
  /// "memory" or "disk".
  [[nodiscard]] virtual std::string_view type() const noexcept = 0;
  /// All that it hands out lies below it.
  [[nodiscard]] virtual std::string directory() const = 0;
  /// Copies the file, or the directory with all that is in it, at `path`. Replaces what the key had.
  [[nodiscard]] Result<Unit> put(const std::string& key, const std::string& path,
                                 const CacheMetadata& metadata = {});
  /// Counts as a use.
  [[nodiscard]] virtual Result<CachedCopy> get(const std::string& key) = 0;
  /// What this process has put or got before and still has: no disk is searched, nothing is checked again,
  /// and it counts as neither a hit nor a miss. kNotFound.
  [[nodiscard]] virtual Result<CachedCopy> get_known(const std::string& key) = 0;
  [[nodiscard]] virtual Result<Unit> remove(const std::string& key) = 0;
  [[nodiscard]] virtual Result<Unit> clear() = 0;
  [[nodiscard]] virtual Result<CacheMetadata> metadata(const std::string& key) = 0;
  /// What is visible, the one whose last use is oldest first.
  [[nodiscard]] virtual Result<std::vector<CacheItem>> list() = 0;
  [[nodiscard]] virtual CacheStats stats() const = 0;
  /// Makes room for an entry of exactly these files, and files to write them to.
  [[nodiscard]] virtual Result<std::unique_ptr<CacheFill>> begin(CacheContents contents) = 0;

 private:
  bool preserve_permissions_;
};

}  // namespace loracle
