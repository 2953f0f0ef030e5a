#pragma once
/// The state of a disk cache: the directory as this process last saw it, and who may leave it.
///
/// `mutex_` guards everything in memory; the flock of `lock` everything in the directory that another process
/// could disagree about, and is only taken while the mutex is held. Copying, flushing and comparing digests
/// happen without either.
/// A lease must never be destroyed while the mutex is held: its destructor takes it.

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

namespace loracle {

class DiskStore : public std::enable_shared_from_this<DiskStore> {
 public:
  static constexpr std::string_view kType = "disk";

  [[nodiscard]] static Result<std::shared_ptr<DiskStore>> open(const DiskCacheOptions& options);
  DiskStore(CacheIndex index, const DiskCacheOptions& options);

  [[nodiscard]] const std::string& directory() const noexcept { return root_; }
  [[nodiscard]] Result<CachedCopy> get(const std::string& key, bool is_counted);
  [[nodiscard]] Result<Unit> remove(const std::string& key);
  [[nodiscard]] Result<Unit> clear();
  [[nodiscard]] Result<CacheMetadata> metadata(const std::string& key);
  [[nodiscard]] Result<std::vector<CacheItem>> list();
  [[nodiscard]] CacheStats stats() const;
  [[nodiscard]] Result<std::unique_ptr<CacheFill>> begin(CacheContents contents);

 private:
  class Lease;
  class Fill;
  class DirectoryLock;

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
  /// What a scan found and did not know.
  struct Found {
    std::string name;
    std::string hash;
    std::uint64_t bytes = 0;
    std::uint64_t seq = 0;
    std::int64_t used_ns = 0;
  };

  [[nodiscard]] std::string path_of(std::string_view name) const;
  [[nodiscard]] Place& at(Row row) { return places_[index_of(row)]; }
  [[nodiscard]] Result<DirectoryLock> lock_directory();
  [[nodiscard]] Result<DirectoryLock> lock_open_file();
  /// The root and all that lies directly in it, made where it is missing, and opened.
  [[nodiscard]] Result<Unit> make_folders();
  /// Nobody has deleted what we have open.
  [[nodiscard]] bool is_in_place() const;

  // All of these: with the mutex; those that change the directory, with its lock too.
  [[nodiscard]] Result<Row> find(const std::string& key);
  [[nodiscard]] Result<Unit> scan();
  void scan_entry(const std::string& file, std::vector<Found>& found);
  void scan_staging(const std::string& file);
  void drop_unseen();
  void admit(const Found& found);
  [[nodiscard]] Row reserve(const std::string& hash, std::uint64_t bytes, Admission& why);
  [[nodiscard]] bool erase(Row row);
  void retire(Row row);
  [[nodiscard]] Result<std::shared_ptr<Lease>> lease_of(Row row);
  void end_lease(Row row);
  void give_up(Row row);
  /// The time of its last use, on the disk.
  void stamp(Row row, int fd);
  [[nodiscard]] Result<std::shared_ptr<const CacheContents>> contents_of(Row row);
  [[nodiscard]] std::uint64_t next_seq();

  [[nodiscard]] Result<CacheContents> checked_contents(const std::string& directory,
                                                       const std::string& key) const;
  [[nodiscard]] Result<UniqueFd> make_staging(std::uint64_t bytes, std::string& name);
  [[nodiscard]] Result<CachedCopy> publish(Row row, UniqueFd directory,
                                           std::shared_ptr<const CacheContents> contents);

  const std::string root_;
  const bool create_dirs_;
  const std::uint32_t lock_timeout_ms_;
  UniqueFd lock_file_;
  UniqueFd entries_;

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
