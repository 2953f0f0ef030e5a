#pragma once
/// The state of a disk cache: the directory as this process last saw it, and who may leave it.
///
/// Two locks, in this order (disk_locks.hpp): the directory's, of whoever brings rows in, evicts, publishes
/// or deletes, between threads and processes; then `mutex_`, of all that is in memory. What may take long
/// (waiting for the directory, listing it, flushing, deleting trees, comparing digests) happens without the
/// mutex, so that what is known to be here is served while another process hangs or a disk is slow.
/// A lease must never be destroyed while either is held: its destructor takes both.

#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "loracle/core/result.hpp"
#include "loracle/storage/cache.hpp"
#include "loracle/storage/disk_cache.hpp"
#include "storage/cache_index.hpp"
#include "storage/cache_io.hpp"
#include "storage/cache_record.hpp"
#include "storage/disk_locks.hpp"

namespace loracle {

class DiskStore : public std::enable_shared_from_this<DiskStore> {
 public:
  static constexpr std::string_view kType = "disk";

  [[nodiscard]] static Result<std::shared_ptr<DiskStore>> open(const DiskCacheOptions& options);
  DiskStore(CacheIndex index, const DiskCacheOptions& options);

  [[nodiscard]] const std::string& directory() const noexcept { return root_; }
  [[nodiscard]] Result<CachedCopy> get(const std::string& key, bool is_counted);
  /// See CacheBackend::get_known.
  [[nodiscard]] Result<CachedCopy> known(const std::string& key);
  [[nodiscard]] Result<Unit> remove(const std::string& key);
  [[nodiscard]] Result<Unit> clear();
  [[nodiscard]] Result<CacheMetadata> metadata(const std::string& key);
  [[nodiscard]] Result<std::vector<CacheItem>> list();
  [[nodiscard]] CacheStats stats() const;
  [[nodiscard]] Result<std::unique_ptr<CacheFill>> begin(CacheContents contents);

 private:
  class Lease;
  class Fill;

  /// Where the row's bytes are, and what is known of them.
  struct Place {
    std::string name;  // "entries/..." or "staging/..."
    std::uint64_t seq = 0;
    std::int64_t used_ns = 0;  // time of the directory: of its last use, by whichever process
    std::uint64_t seen = 0;    // number of the last scan that found it
    bool is_staging = false;
    bool is_own = false;                            // staging of this process
    bool is_checked = false;                        // its bytes are those of its record
    bool is_retired = false;                        // hidden for good; goes when nobody uses it
    std::shared_ptr<const CacheContents> contents;  // null: the record was not read yet
    std::weak_ptr<Lease> lease;
  };
  /// An entry as it lies in the directory.
  struct Found {
    std::string name;
    std::string hash;
    std::uint64_t bytes = 0;
    std::uint64_t seq = 0;
    std::int64_t used_ns = 0;
  };
  struct Listing {
    std::vector<Found> entries;
    std::vector<std::string> staging;  // names below kStaging
  };

  [[nodiscard]] std::string path_of(std::string_view name) const;
  [[nodiscard]] Place& at(Row row) { return places_[index_of(row)]; }

  // With neither lock.
  [[nodiscard]] Result<DirectoryLock> lock_directory(std::uint32_t wait_ms);
  [[nodiscard]] Result<DiskChange> begin_change(std::uint32_t wait_ms);
  void end_lease(Row row);
  [[nodiscard]] Result<Unit> look_for(const std::string& hash);
  [[nodiscard]] Result<Unit> drop_damaged(Row row);

  // With the turn.
  [[nodiscard]] Result<Unit> flock_file(std::chrono::steady_clock::time_point deadline,
                                        std::uint32_t wait_ms);
  /// The root and all that lies directly in it, made where it is missing, and opened.
  [[nodiscard]] Result<Unit> make_folders();
  /// Nobody has deleted what we have open.
  [[nodiscard]] bool is_in_place() const;

  // With the directory's lock.
  [[nodiscard]] Result<Listing> look() const;

  // With both; they may let go of the mutex for a while, but entries only leave in the calls themselves (what
  // a Fill had not published may leave at any time).
  [[nodiscard]] Result<Row> find(const std::string& hash, DiskChange& change);
  [[nodiscard]] Result<Unit> scan(DiskChange& change);
  void scan_staging(const std::string& file, DiskChange& change);
  void drop_unseen(DiskChange& change);
  void admit(const Found& found, DiskChange& change);
  [[nodiscard]] Row reserve(const std::string& hash, std::uint64_t bytes, Admission& why, DiskChange& change);
  [[nodiscard]] bool erase(Row row, DiskChange& change);
  void retire(Row row, DiskChange& change);
  [[nodiscard]] Result<std::shared_ptr<const CacheContents>> contents_of(Row row, DiskChange& change);

  // With the mutex.
  [[nodiscard]] Result<std::shared_ptr<Lease>> lease_of(Row row);
  void give_up(Row row);
  [[nodiscard]] std::uint64_t next_seq();
  /// Now, as the time of the row's last use.
  [[nodiscard]] std::int64_t use(Row row);

  [[nodiscard]] Result<CacheContents> checked_contents(const std::string& directory,
                                                       const std::string& key) const;
  [[nodiscard]] Result<std::shared_ptr<const CacheContents>> recorded_contents(
      const std::string& directory) const;
  [[nodiscard]] tl::unexpected<Error> not_cached(const std::string& key) const;
  [[nodiscard]] Result<UniqueFd> make_staging(std::uint64_t bytes, std::string& name);
  [[nodiscard]] Result<CachedCopy> publish(Row row, UniqueFd directory,
                                           std::shared_ptr<const CacheContents> contents);

  const std::string root_;
  const bool create_dirs_;
  const std::uint32_t lock_timeout_ms_;
  DirectoryTurn turn_;
  UniqueFd lock_file_;  // with the turn
  UniqueFd entries_;    // with the turn

  mutable std::mutex mutex_;
  CacheIndex index_;
  std::vector<Place> places_;                     // [rows]
  std::unordered_map<std::string, Row> by_name_;  // of what is in the tier
  std::uint64_t scans_ = 0;
  std::uint64_t last_seq_ = 0;
  std::uint64_t excess_bytes_ = 0;  // on disk, and beyond what this cache may hold
  CacheStats counts_;
};

}  // namespace loracle
