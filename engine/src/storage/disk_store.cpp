#include "storage/disk_store.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <filesystem>
#include <system_error>
#include <thread>
#include <utility>

#include "loracle/engine/digest.hpp"
#include "storage/disk_fill.hpp"
#include "storage/disk_layout.hpp"

namespace loracle {
namespace {

namespace fs = std::filesystem;

constexpr const char* kLock = "lock";
/// Who deletes the directory faster than it can be made has no cache.
constexpr int kRemakesMax = 4;
/// The end of a lease must not wait for a process that hangs; what it leaves goes with the next scan.
constexpr std::uint32_t kLeaseEndWaitMs = 100;

std::uint64_t now_ns() {
  return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(
                                        std::chrono::system_clock::now().time_since_epoch())
                                        .count());
}

void set_time(int fd, std::int64_t ns) {
  const timespec time{ns / 1'000'000'000, ns % 1'000'000'000};
  const timespec times[2] = {time, time};
  static_cast<void>(::futimens(fd, times));  // only the order after a restart hangs on it
}

/// Whether the open file is the one that lies at `path`.
bool is_at(const UniqueFd& fd, const std::string& path) noexcept {
  struct stat opened {};
  struct stat found {};
  return ::fstat(fd.get(), &opened) == 0 && ::stat(path.c_str(), &found) == 0 &&
         opened.st_ino == found.st_ino && opened.st_dev == found.st_dev;
}

tl::unexpected<Error> locked_out(const std::string& lock, std::uint32_t wait_ms) {
  return fail(Errc::kBusy,
              fmt::format("{}: somebody else has held it for {} ms: does a process hang?", lock, wait_ms));
}

}  // namespace

/// A shared flock on the directory of an entry, and a hold of its row.
class DiskStore::Lease {
 public:
  Lease(std::shared_ptr<DiskStore> store, Row row, UniqueFd fd)
      : store_(std::move(store)), row_(row), fd_(std::move(fd)) {}
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;
  ~Lease() {
    fd_.reset();
    store_->end_lease(row_);
  }
  [[nodiscard]] int fd() const noexcept { return fd_.get(); }

 private:
  std::shared_ptr<DiskStore> store_;
  Row row_;
  UniqueFd fd_;
};

/// The row of a reservation, and its directory, whose flock says that we live.
class DiskStore::Fill final : public CacheFill {
 public:
  Fill(std::shared_ptr<DiskStore> store, Row row, UniqueFd fd, std::string directory, CacheContents contents)
      : store_(std::move(store)),
        row_(row),
        fd_(std::move(fd)),
        files_(std::move(directory), std::move(contents)) {}
  Fill(const Fill&) = delete;
  Fill& operator=(const Fill&) = delete;
  ~Fill() override {
    if (row_ == kNoRow) return;
    // What cannot be deleted now is left to whoever makes room next: its flock is gone by then.
    static_cast<void>(remove_tree(files_.directory()));
    const std::lock_guard lock(store_->mutex_);
    store_->give_up(row_);
  }

  [[nodiscard]] Result<Unit> create() { return files_.create(); }
  [[nodiscard]] std::span<const int> files() const noexcept override { return files_.descriptors(); }
  void set_digests(const std::vector<std::string>& sha256) override { files_.set_digests(sha256); }

  [[nodiscard]] Result<CachedCopy> publish(OnExisting on_existing) override {
    LORACLE_CHECK(row_ != kNoRow);
    if (on_existing == OnExisting::kKeep) {
      if (Result<CachedCopy> existing = store_->get(files_.contents().key, /*is_counted=*/false); existing)
        return existing;
    }
    if (Result<Unit> sealed = files_.seal(fd_.get()); !sealed) return fail(std::move(sealed.error()));
    Result<CachedCopy> copy =
        store_->publish(row_, std::move(fd_), std::make_shared<const CacheContents>(files_.contents()));
    if (copy) row_ = kNoRow;
    return copy;
  }

 private:
  std::shared_ptr<DiskStore> store_;
  Row row_;  // kNoRow: published
  UniqueFd fd_;
  StagedFiles files_;
};

DiskStore::DiskStore(CacheIndex index, const DiskCacheOptions& options)
    : root_(fs::absolute(options.cache_dir).lexically_normal().string()),
      create_dirs_(options.create_dirs),
      lock_timeout_ms_(options.lock_timeout_ms),
      index_(std::move(index)),
      places_(index_.rows()) {
  counts_.policy = options.policy;
}

std::string DiskStore::path_of(std::string_view name) const { return fmt::format("{}/{}", root_, name); }

Result<std::shared_ptr<DiskStore>> DiskStore::open(const DiskCacheOptions& options) {
  if (options.cache_dir.empty()) return fail(Errc::kInvalid, "cache_dir: name a directory");
  Result<CacheIndex> index = CacheIndex::make(
      options.policy, cache_capacity(options.max_size_bytes, options.max_items, kDiskCacheEntriesMax));
  if (!index) return fail(std::move(index.error()));
  auto store = std::make_shared<DiskStore>(std::move(*index), options);
  if (Result<Unit> made = store->make_folders(); !made) return fail(std::move(made.error()));
  Result<DiskChange> change = store->begin_change(store->lock_timeout_ms_);
  if (!change) return fail(std::move(change.error()));
  if (Result<Unit> scanned = store->scan(*change); !scanned) return fail(std::move(scanned.error()));
  return store;
}

Result<Unit> DiskStore::make_folders() {
  std::error_code error;
  if (create_dirs_ && fs::create_directories(root_, error) && !error)
    fs::permissions(root_, fs::perms::owner_all, error);
  if (error) return io_failed(root_, "make the cache's directory", error.value());
  if (!fs::is_directory(root_, error)) {
    return fail(Errc::kNotFound,
                fmt::format("cache_dir {}: no such directory: make it, or set create_dirs", root_));
  }
  for (const std::string_view folder : {kEntries, kStaging}) {
    const std::string path = path_of(folder);
    if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST)
      return io_failed(path, "make the directory", errno);
  }
  Result<UniqueFd> entries = open_directory(path_of(kEntries));
  if (!entries) return fail(std::move(entries.error()));
  entries_ = std::move(*entries);
  const std::string lock_path = path_of(kLock);
  lock_file_.reset(::open(lock_path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!lock_file_.is_open()) return io_failed(lock_path, "open", errno);
  return Unit{};
}

bool DiskStore::is_in_place() const {
  return is_at(lock_file_, path_of(kLock)) && is_at(entries_, path_of(kEntries)) &&
         ::access(path_of(kStaging).c_str(), F_OK) == 0;
}

Result<DirectoryLock> DiskStore::lock_directory(std::uint32_t wait_ms) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(wait_ms);
  if (!turn_.take_until(deadline)) return locked_out(path_of(kLock), wait_ms);
  DirectoryLock lock(turn_, lock_file_);
  for (int remade = 0;; ++remade) {
    if (Result<Unit> locked = flock_file(deadline, wait_ms); !locked) return fail(std::move(locked.error()));
    if (remade == kRemakesMax || is_in_place()) return lock;
    // Somebody has deleted the directory: a lock on what is not there any more keeps nobody out.
    if (Result<Unit> made = make_folders(); !made) return fail(std::move(made.error()));
  }
}

Result<Unit> DiskStore::flock_file(std::chrono::steady_clock::time_point deadline, std::uint32_t wait_ms) {
  for (std::chrono::milliseconds pause(1);; pause = std::min(2 * pause, std::chrono::milliseconds(20))) {
    if (try_flock(lock_file_.get(), LOCK_EX)) return Unit{};
    if (errno != EWOULDBLOCK) return io_failed(path_of(kLock), "lock", errno);
    if (std::chrono::steady_clock::now() >= deadline) return locked_out(path_of(kLock), wait_ms);
    std::this_thread::sleep_for(pause);
  }
}

Result<DiskChange> DiskStore::begin_change(std::uint32_t wait_ms) {
  Result<DirectoryLock> directory = lock_directory(wait_ms);
  if (!directory) return fail(std::move(directory.error()));
  return DiskChange(std::move(*directory), mutex_);
}

std::uint64_t DiskStore::next_seq() {
  last_seq_ = std::max(now_ns(), last_seq_ + 1);
  return last_seq_;
}

// ------------------------------------------------------------------------------------------------- leases

/// Null if the entry is not there any more.
Result<std::shared_ptr<DiskStore::Lease>> DiskStore::lease_of(Row row) {
  const std::string path = path_of(at(row).name);
  std::shared_ptr<Lease> lease = at(row).lease.lock();
  if (lease == nullptr) {
    Result<UniqueFd> fd = open_directory(path);
    if (!fd && fd.error().code == Errc::kNotFound) return std::shared_ptr<Lease>();
    if (!fd) return fail(std::move(fd.error()));
    if (!try_flock(fd->get(), LOCK_SH)) return std::shared_ptr<Lease>();  // it is being deleted
    index_.tier().hold(row);
    lease = std::make_shared<Lease>(shared_from_this(), row, std::move(*fd));
    at(row).lease = lease;
  }
  return lease;
}

void DiskStore::end_lease(Row row) {
  {
    const std::lock_guard lock(mutex_);
    index_.tier().let_go(row);
    if (!at(row).is_retired || index_.tier().held(row)) return;
  }
  Result<DiskChange> change = begin_change(kLeaseEndWaitMs);
  // Meanwhile it may have gone, and the row be another's.
  if (change && at(row).is_retired && !index_.tier().held(row) && erase(row, *change)) index_.remove(row);
}

std::int64_t DiskStore::use(Row row) {
  at(row).used_ns = static_cast<std::int64_t>(next_seq());
  return at(row).used_ns;
}

// ------------------------------------------------------------------------------------------- what it serves

/// Looks at the directory again if the key is not known. kNoRow if it is not there either.
Result<Row> DiskStore::find(const std::string& hash, DiskChange& change) {
  if (const Row row = index_.find(hash); row != kNoRow) return row;
  if (Result<Unit> scanned = scan(change); !scanned) return fail(std::move(scanned.error()));
  return index_.find(hash);
}

/// With neither lock: whether the directory has a key that is not known.
Result<Unit> DiskStore::look_for(const std::string& hash) {
  Result<DiskChange> change = begin_change(lock_timeout_ms_);
  if (!change) return fail(std::move(change.error()));
  if (const Result<Row> row = find(hash, *change); !row) return fail(row.error());
  return Unit{};
}

Result<CachedCopy> DiskStore::get(const std::string& key, bool is_counted) {
  const std::string hash = sha256_hex(key);
  for (int turn = 0; turn < 3; ++turn) {
    std::shared_ptr<Lease> lease;  // goes after the locks
    std::unique_lock lock(mutex_);
    Row row = index_.find(hash);
    // Who publishes has looked at the directory when he began.
    if (row == kNoRow && is_counted) {
      lock.unlock();
      if (Result<Unit> looked = look_for(hash); !looked) return fail(std::move(looked.error()));
      lock.lock();
      row = index_.find(hash);
    }
    if (row == kNoRow) break;
    Result<std::shared_ptr<Lease>> leased = lease_of(row);
    if (!leased) return fail(std::move(leased.error()));
    lease = std::move(*leased);
    const std::string directory = path_of(at(row).name);
    if (lease == nullptr || !has_record(directory)) {
      index_.hide(row);  // another process removed it
      at(row).is_retired = true;
      continue;
    }
    if (!at(row).is_checked) {
      lock.unlock();
      Result<CacheContents> contents = checked_contents(directory, key);
      if (!contents && (contents.error().detail == EMFILE || contents.error().detail == ENFILE))
        return fail(std::move(contents.error()));
      if (!contents) {
        if (Result<Unit> dropped = drop_damaged(row); !dropped) return fail(std::move(dropped.error()));
        continue;
      }
      lock.lock();
      at(row).is_checked = true;
      at(row).contents = std::make_shared<const CacheContents>(std::move(*contents));
    }
    index_.touch(row);
    if (is_counted) ++counts_.hits;
    CachedCopy copy{directory, at(row).contents, lease};
    const std::int64_t used_ns = use(row);
    lock.unlock();
    set_time(lease->fd(), used_ns);
    return copy;
  }
  const std::lock_guard lock(mutex_);
  if (is_counted) ++counts_.misses;
  return not_cached(key);
}

Result<CachedCopy> DiskStore::known(const std::string& key) {
  std::shared_ptr<Lease> lease;  // goes after the lock
  const std::lock_guard lock(mutex_);
  const Row row = index_.find(sha256_hex(key));
  if (row == kNoRow || !at(row).is_checked) return not_cached(key);
  Result<std::shared_ptr<Lease>> leased = lease_of(row);
  if (!leased) return fail(std::move(leased.error()));
  lease = std::move(*leased);
  const std::string directory = path_of(at(row).name);
  if (lease == nullptr || !has_record(directory)) return not_cached(key);  // another process removed it
  return CachedCopy{directory, at(row).contents, lease};
}

tl::unexpected<Error> DiskStore::not_cached(const std::string& key) const {
  return fail(Errc::kNotFound, fmt::format("{}: nothing is cached under '{}'", root_, key));
}

/// REQUIRES: the caller has leased the row.
Result<Unit> DiskStore::drop_damaged(Row row) {
  Result<DiskChange> change = begin_change(lock_timeout_ms_);
  if (!change) return fail(std::move(change.error()));
  if (!at(row).is_retired) ++counts_.damaged;
  retire(row, *change);
  return Unit{};
}

/// The record and the files of an entry, compared byte by byte with what was once written.
Result<CacheContents> DiskStore::checked_contents(const std::string& directory,
                                                  const std::string& key) const {
  const std::string path = fmt::format("{}/{}", directory, kRecordName);
  Result<std::string> text = read_text(posix_files(), path, kRecordBytesMax);
  if (!text) return fail(std::move(text.error()));
  Result<CacheRecord> record = read_record(path, *text);
  if (!record) return fail(std::move(record.error()));
  if (record->contents.key != key)
    return fail(Errc::kCorrupt, fmt::format("{}: the entry of '{}'", path, record->contents.key));
  for (std::size_t i = 0; i < record->sha256.size(); ++i) {
    const CacheFile& file = record->contents.files[i];
    const std::string name = fmt::format("{}/{}", directory, file.name);
    Result<FileDigest> digest = digest_file(posix_files(), name);
    if (!digest) return fail(std::move(digest.error()));
    if (digest->stat.size != file.size || digest->sha256 != record->sha256[i])
      return fail(Errc::kCorrupt, fmt::format("{}: not the bytes that were cached", name));
  }
  return std::move(record->contents);
}

/// What the record of an entry says, unchecked.
Result<std::shared_ptr<const CacheContents>> DiskStore::recorded_contents(
    const std::string& directory) const {
  const std::string path = fmt::format("{}/{}", directory, kRecordName);
  Result<std::string> text = read_text(posix_files(), path, kRecordBytesMax);
  if (!text) return fail(std::move(text.error()));
  Result<CacheRecord> record = read_record(path, *text);
  if (!record) return fail(std::move(record.error()));
  return std::make_shared<const CacheContents>(std::move(record->contents));
}

Result<std::shared_ptr<const CacheContents>> DiskStore::contents_of(Row row, DiskChange& change) {
  if (at(row).contents == nullptr) {
    const std::string directory = path_of(at(row).name);
    auto contents = change.without_mutex([&] { return recorded_contents(directory); });
    if (!contents) return contents;
    at(row).contents = std::move(*contents);
  }
  return at(row).contents;
}

Result<CacheMetadata> DiskStore::metadata(const std::string& key) {
  const std::string hash = sha256_hex(key);
  {
    const std::lock_guard lock(mutex_);
    if (const Row row = index_.find(hash); row != kNoRow && at(row).contents != nullptr)
      return at(row).contents->metadata;
  }
  Result<DiskChange> change = begin_change(lock_timeout_ms_);
  if (!change) return fail(std::move(change.error()));
  const Result<Row> row = find(hash, *change);
  if (!row) return fail(row.error());
  if (*row == kNoRow) return not_cached(key);
  const Result<std::shared_ptr<const CacheContents>> contents = contents_of(*row, *change);
  if (!contents) return fail(contents.error());
  return (*contents)->metadata;
}

Result<std::vector<CacheItem>> DiskStore::list() {
  Result<DiskChange> change = begin_change(lock_timeout_ms_);
  if (!change) return fail(std::move(change.error()));
  if (Result<Unit> scanned = scan(*change); !scanned) return fail(std::move(scanned.error()));
  std::vector<CacheItem> items;
  for (const Row row : index_.tier().by_last_use()) {
    if (index_.find(index_.key_of(row)) != row) continue;
    // One that cannot be read is dropped when it is used.
    if (const Result<std::shared_ptr<const CacheContents>> contents = contents_of(row, *change); contents)
      items.push_back({(*contents)->key, (*contents)->metadata, index_.size_of(row).value});
  }
  return items;
}

Result<Unit> DiskStore::remove(const std::string& key) {
  Result<DiskChange> change = begin_change(lock_timeout_ms_);
  if (!change) return fail(std::move(change.error()));
  const Result<Row> row = find(sha256_hex(key), *change);
  if (!row) return fail(row.error());
  if (*row == kNoRow) return not_cached(key);
  retire(*row, *change);
  return Unit{};
}

Result<Unit> DiskStore::clear() {
  Result<DiskChange> change = begin_change(lock_timeout_ms_);
  if (!change) return fail(std::move(change.error()));
  if (Result<Unit> scanned = scan(*change); !scanned) return fail(std::move(scanned.error()));
  for (const Row row : index_.tier().by_last_use())
    if (index_.find(index_.key_of(row)) == row) retire(row, *change);
  return Unit{};
}

CacheStats DiskStore::stats() const {
  const std::lock_guard lock(mutex_);
  CacheStats stats = counts_;
  index_.add_to(stats);
  stats.bytes += excess_bytes_;
  for (const auto& [name, row] : by_name_) {
    const Place& place = places_[index_of(row)];
    if (place.is_staging) stats.reserved_bytes += index_.size_of(row).value;
    if (!place.lease.expired()) ++stats.leased;
  }
  return stats;
}

// ------------------------------------------------------------------------------------------ what comes in

Result<std::unique_ptr<CacheFill>> DiskStore::begin(CacheContents contents) {
  for (CacheFile& file : contents.files) file.mode |= 0400U;
  if (Result<Unit> ok = check_contents(contents); !ok) return fail(std::move(ok.error()));
  const std::uint64_t bytes = bytes_of(contents.files) + record_bytes(contents);
  std::unique_ptr<Fill> fill;
  {
    Result<DiskChange> change = begin_change(lock_timeout_ms_);
    if (!change) return fail(std::move(change.error()));
    if (Result<Unit> scanned = scan(*change); !scanned) return fail(std::move(scanned.error()));
    Admission why = Admission::kAllHeld;
    const Row row = excess_bytes_ == 0 ? reserve(sha256_hex(contents.key), bytes, why, *change) : kNoRow;
    if (row == kNoRow) {
      ++counts_.refused;
      return no_room(root_, contents.key, Bytes{bytes}, index_.tier().capacity(), why);
    }
    std::string name;
    Result<UniqueFd> staging = make_staging(bytes, name);
    if (!staging) {
      index_.tier().let_go(row);
      index_.remove(row);
      return fail(std::move(staging.error()));
    }
    at(row) = Place{};
    at(row).name = name;
    at(row).is_staging = at(row).is_own = true;
    by_name_.emplace(name, row);
    fill = std::make_unique<Fill>(shared_from_this(), row, std::move(*staging), path_of(name),
                                  std::move(contents));
  }
  if (Result<Unit> created = fill->create(); !created) return fail(std::move(created.error()));
  return fill;
}

Result<UniqueFd> DiskStore::make_staging(std::uint64_t bytes, std::string& name) {
  for (;;) {
    name = staging_name(bytes, next_seq());
    const std::string path = path_of(name);
    if (::mkdir(path.c_str(), 0700) == 0) {
      Result<UniqueFd> fd = open_directory(path);
      if (fd && !try_flock(fd->get(), LOCK_EX)) fd = io_failed(path, "lock", errno);
      if (!fd) ::rmdir(path.c_str());
      return fd;
    }
    if (errno != EEXIST) return io_failed(path, "make the directory", errno);
  }
}

Result<CachedCopy> DiskStore::publish(Row row, UniqueFd directory,
                                      std::shared_ptr<const CacheContents> contents) {
  Result<DirectoryLock> locked = lock_directory(lock_timeout_ms_);
  if (!locked) return fail(std::move(locked.error()));
  std::string staged;
  std::string name;
  std::uint64_t seq = 0;
  {
    const std::lock_guard lock(mutex_);
    seq = next_seq();
    staged = path_of(at(row).name);
    name = fmt::format("{}{}.{}.{:016x}", kEntries, index_.key_of(row), index_.size_of(row).value, seq);
  }
  const std::string path = path_of(name);
  if (::rename(staged.c_str(), path.c_str()) != 0) return io_failed(path, "publish", errno);
  if (Result<Unit> flushed = flush(entries_.get(), path_of(kEntries)); !flushed) {
    static_cast<void>(::rename(path.c_str(), staged.c_str()));
    return fail(std::move(flushed.error()));
  }
  // Not atomic, but nobody deletes entries without the lock that we hold.
  static_cast<void>(try_flock(directory.get(), LOCK_SH));
  DiskChange change(std::move(*locked), mutex_);
  by_name_.erase(at(row).name);
  by_name_.emplace(name, row);
  at(row).name = name;
  at(row).seq = seq;
  at(row).is_staging = at(row).is_own = false;
  at(row).is_checked = true;
  at(row).contents = contents;
  set_time(directory.get(), use(row));
  auto lease = std::make_shared<Lease>(shared_from_this(), row, std::move(directory));
  at(row).lease = lease;
  if (const Row before = index_.publish(row); before != kNoRow) retire(before, change);
  ++counts_.published;
  return CachedCopy{path, std::move(contents), std::move(lease)};
}

}  // namespace loracle
