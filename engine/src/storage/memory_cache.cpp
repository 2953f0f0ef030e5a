#include "loracle/storage/memory_cache.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <mutex>
#include <system_error>
#include <utility>
#include <vector>

#include "storage/cache_index.hpp"
#include "storage/cache_io.hpp"
#include "storage/cache_record.hpp"
#include "storage/disk_fill.hpp"
#include "storage/store_cache.hpp"

namespace loracle {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kFolderPrefix = "loracle-memory-";

/// Folders of links whose process is dead: nobody holds their flock.
void sweep(const fs::path& temporary) {
  std::error_code error;
  for (fs::directory_iterator it(temporary, error); !error && it != fs::directory_iterator();
       it.increment(error)) {
    if (!it->path().filename().string().starts_with(kFolderPrefix)) continue;
    Result<UniqueFd> fd = open_directory(it->path().string());
    struct stat found {};
    if (!fd || ::fstat(fd->get(), &found) != 0 || found.st_uid != ::geteuid()) continue;
    if (::flock(fd->get(), LOCK_EX | LOCK_NB) == 0) static_cast<void>(remove_tree(it->path().string()));
  }
}

class MemoryStore : public std::enable_shared_from_this<MemoryStore> {
 public:
  static constexpr std::string_view kType = "memory";

  MemoryStore(CacheIndex index, const MemoryCacheOptions& options)
      : index_(std::move(index)), places_(index_.rows()) {
    counts_.policy = options.policy;
  }
  MemoryStore(const MemoryStore&) = delete;
  MemoryStore& operator=(const MemoryStore&) = delete;
  ~MemoryStore() {
    if (folder_fd_.is_open()) static_cast<void>(remove_tree(folder_));
  }

  [[nodiscard]] Result<Unit> open();
  [[nodiscard]] const std::string& directory() const noexcept { return folder_; }
  [[nodiscard]] Result<CachedCopy> get(const std::string& key, bool is_counted);
  [[nodiscard]] Result<CachedCopy> known(const std::string& key) { return get(key, /*is_counted=*/false); }
  [[nodiscard]] Result<Unit> remove(const std::string& key);
  [[nodiscard]] Result<Unit> clear();
  [[nodiscard]] Result<CacheMetadata> metadata(const std::string& key);
  [[nodiscard]] Result<std::vector<CacheItem>> list();
  [[nodiscard]] CacheStats stats() const;
  [[nodiscard]] Result<std::unique_ptr<CacheFill>> begin(CacheContents contents);

 private:
  class Lease;
  class Fill;
  struct Place {
    std::string directory;        // of links; empty: not published yet
    std::vector<UniqueFd> files;  // [files]
    std::shared_ptr<const CacheContents> contents;
    bool is_retired = false;
  };

  [[nodiscard]] Place& at(Row row) { return places_[index_of(row)]; }
  void erase(Row row);
  void retire(Row row);
  [[nodiscard]] CachedCopy lease(Row row);
  [[nodiscard]] Result<std::string> link(const CacheContents& contents, std::span<const UniqueFd> files);

  std::string folder_;
  UniqueFd folder_fd_;  // its flock says that we live

  mutable std::mutex mutex_;
  CacheIndex index_;
  std::vector<Place> places_;  // [rows]
  std::uint64_t folders_made_ = 0;
  std::uint64_t reserved_bytes_ = 0;
  std::uint64_t leased_ = 0;
  CacheStats counts_;
};

/// Of one `get`: they nest.
class MemoryStore::Lease {
 public:
  Lease(std::shared_ptr<MemoryStore> store, Row row) : store_(std::move(store)), row_(row) {}
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;
  ~Lease() {
    const std::lock_guard lock(store_->mutex_);
    store_->index_.tier().let_go(row_);
    if (store_->index_.tier().held(row_)) return;
    --store_->leased_;
    if (!store_->at(row_).is_retired) return;
    store_->erase(row_);
    store_->index_.remove(row_);
  }

 private:
  std::shared_ptr<MemoryStore> store_;
  Row row_;
};

class MemoryStore::Fill final : public CacheFill {
 public:
  Fill(std::shared_ptr<MemoryStore> store, Row row, CacheContents contents)
      : store_(std::move(store)), row_(row), contents_(std::move(contents)) {}
  Fill(const Fill&) = delete;
  Fill& operator=(const Fill&) = delete;
  ~Fill() override {
    if (row_ == kNoRow) return;
    files_.clear();
    const std::lock_guard lock(store_->mutex_);
    store_->reserved_bytes_ -= store_->index_.size_of(row_).value;
    store_->index_.tier().let_go(row_);
    store_->index_.remove(row_);
  }

  [[nodiscard]] Result<Unit> create() {
    for (const CacheFile& file : contents_.files) {
      UniqueFd fd(::memfd_create(kMemoryCacheFileName, MFD_CLOEXEC | MFD_ALLOW_SEALING));
      if (!fd.is_open()) return io_failed(file.name, "keep in memory", errno);
      if (Result<Unit> sized = allocate(fd.get(), file.name, file.size); !sized) return sized;
      descriptors_.push_back(fd.get());
      files_.push_back(std::move(fd));
    }
    return Unit{};
  }
  [[nodiscard]] std::span<const int> files() const noexcept override { return descriptors_; }

  [[nodiscard]] Result<CachedCopy> publish(OnExisting on_existing) override {
    LORACLE_CHECK(row_ != kNoRow);
    if (on_existing == OnExisting::kKeep) {
      if (Result<CachedCopy> existing = store_->get(contents_.key, /*is_counted=*/false); existing)
        return existing;
    }
    for (std::size_t i = 0; i < files_.size(); ++i) {
      const CacheFile& file = contents_.files[i];
      struct stat now {};
      if (::fstat(files_[i].get(), &now) != 0) return io_failed(file.name, "examine", errno);
      if (static_cast<std::uint64_t>(now.st_size) != file.size)
        return fail(Errc::kCorrupt,
                    fmt::format("{}: has {} bytes, {} were announced", file.name, now.st_size, file.size));
      constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL;
      if (::fchmod(files_[i].get(), file.mode) != 0 || ::fcntl(files_[i].get(), F_ADD_SEALS, kSeals) != 0)
        return io_failed(file.name, "seal", errno);
    }
    const std::lock_guard lock(store_->mutex_);
    Result<std::string> directory = store_->link(contents_, files_);
    if (!directory) return fail(std::move(directory.error()));
    Place& place = store_->at(row_);
    place.directory = std::move(*directory);
    place.files = std::move(files_);
    place.contents = std::make_shared<const CacheContents>(std::move(contents_));
    place.is_retired = false;
    store_->reserved_bytes_ -= store_->index_.size_of(row_).value;
    const Row before = store_->index_.publish(row_);
    store_->index_.tier().let_go(row_);
    CachedCopy copy = store_->lease(std::exchange(row_, kNoRow));
    if (before != kNoRow) store_->retire(before);
    ++store_->counts_.published;
    return copy;
  }

 private:
  std::shared_ptr<MemoryStore> store_;
  Row row_;  // kNoRow: published
  CacheContents contents_;
  std::vector<UniqueFd> files_;
  std::vector<int> descriptors_;
};

Result<Unit> MemoryStore::open() {
  std::error_code error;
  if (!fs::exists("/proc/self/fd", error))
    return fail(Errc::kUnsupported, "memory cache: /proc is not mounted here: use the disk cache");
  const fs::path temporary = fs::temp_directory_path(error);
  if (error) return io_failed("TMPDIR", "find a temporary directory", error.value());
  sweep(temporary);
  // Between its making and its flock another process may sweep it.
  for (int attempt = 0; attempt < 8; ++attempt) {
    std::string name = (temporary / (std::string(kFolderPrefix) + "XXXXXX")).string();
    if (::mkdtemp(name.data()) == nullptr) return io_failed(name, "make the directory", errno);
    Result<UniqueFd> fd = open_directory(name);
    if (!fd && fd.error().code == Errc::kNotFound) continue;
    if (!fd) return fail(std::move(fd.error()));
    if (::flock(fd->get(), LOCK_EX | LOCK_NB) != 0 || !fs::exists(name, error)) continue;
    folder_ = std::move(name);
    folder_fd_ = std::move(*fd);
    return Unit{};
  }
  return fail(Errc::kBusy, fmt::format("{}: cannot keep a directory of mine there", temporary.string()));
}

/// A directory in which the names of the files lead to their memory.
Result<std::string> MemoryStore::link(const CacheContents& contents, std::span<const UniqueFd> files) {
  const std::string directory = fmt::format("{}/{}", folder_, ++folders_made_);
  const auto make_all = [&]() -> Result<Unit> {
    if (::mkdir(directory.c_str(), 0700) != 0) return io_failed(directory, "make the directory", errno);
    for (const std::string& folder : folders_of(contents.files)) {
      const std::string path = fmt::format("{}/{}", directory, folder);
      if (::mkdir(path.c_str(), 0700) != 0) return io_failed(path, "make the directory", errno);
    }
    for (std::size_t i = 0; i < files.size(); ++i) {
      const std::string path = fmt::format("{}/{}", directory, contents.files[i].name);
      // Not /proc/self: another process would find a file of its own under that number.
      const std::string target = fmt::format("/proc/{}/fd/{}", ::getpid(), files[i].get());
      if (::symlink(target.c_str(), path.c_str()) != 0) return io_failed(path, "make the link", errno);
    }
    return Unit{};
  };
  if (Result<Unit> made = make_all(); !made) {
    static_cast<void>(remove_tree(directory));
    return fail(std::move(made.error()));
  }
  return directory;
}

/// What the row holds, which nobody uses. The links go with the process if they cannot go now.
void MemoryStore::erase(Row row) {
  static_cast<void>(remove_tree(at(row).directory));
  at(row) = Place{};
}

void MemoryStore::retire(Row row) {
  index_.hide(row);
  at(row).is_retired = true;
  if (index_.tier().held(row)) return;
  erase(row);
  index_.remove(row);
}

CachedCopy MemoryStore::lease(Row row) {
  if (!index_.tier().held(row)) ++leased_;
  index_.tier().hold(row);
  return {at(row).directory, at(row).contents, std::make_shared<const Lease>(shared_from_this(), row)};
}

Result<CachedCopy> MemoryStore::get(const std::string& key, bool is_counted) {
  const std::lock_guard lock(mutex_);
  const Row row = index_.find(key);
  if (row == kNoRow) {
    if (is_counted) ++counts_.misses;
    return fail(Errc::kNotFound, fmt::format("memory cache: nothing is cached under '{}'", key));
  }
  index_.touch(row);
  if (is_counted) ++counts_.hits;
  return lease(row);
}

Result<Unit> MemoryStore::remove(const std::string& key) {
  const std::lock_guard lock(mutex_);
  const Row row = index_.find(key);
  if (row == kNoRow)
    return fail(Errc::kNotFound, fmt::format("memory cache: nothing is cached under '{}'", key));
  retire(row);
  return Unit{};
}

Result<Unit> MemoryStore::clear() {
  const std::lock_guard lock(mutex_);
  for (const Row row : index_.tier().by_last_use())
    if (index_.find(index_.key_of(row)) == row) retire(row);
  return Unit{};
}

Result<CacheMetadata> MemoryStore::metadata(const std::string& key) {
  const std::lock_guard lock(mutex_);
  const Row row = index_.find(key);
  if (row == kNoRow)
    return fail(Errc::kNotFound, fmt::format("memory cache: nothing is cached under '{}'", key));
  return at(row).contents->metadata;
}

Result<std::vector<CacheItem>> MemoryStore::list() {
  const std::lock_guard lock(mutex_);
  std::vector<CacheItem> items;
  for (const Row row : index_.tier().by_last_use())
    if (index_.find(index_.key_of(row)) == row)
      items.push_back({at(row).contents->key, at(row).contents->metadata, index_.size_of(row).value});
  return items;
}

CacheStats MemoryStore::stats() const {
  const std::lock_guard lock(mutex_);
  CacheStats stats = counts_;
  index_.add_to(stats);
  stats.reserved_bytes = reserved_bytes_;
  stats.leased = leased_;
  return stats;
}

Result<std::unique_ptr<CacheFill>> MemoryStore::begin(CacheContents contents) {
  for (CacheFile& file : contents.files) file.mode |= 0400U;
  if (Result<Unit> ok = check_contents(contents); !ok) return fail(std::move(ok.error()));
  std::unique_ptr<Fill> fill;
  {
    const std::lock_guard lock(mutex_);
    const Bytes bytes{bytes_of(contents.files)};
    Admission why{};
    const Row row = index_.reserve(contents.key, bytes, why, [this](Row victim) {
      erase(victim);
      return true;
    });
    if (row == kNoRow) {
      ++counts_.refused;
      return no_room("memory cache", contents.key, bytes, index_.tier().capacity(), why);
    }
    reserved_bytes_ += bytes.value;
    fill = std::make_unique<Fill>(shared_from_this(), row, std::move(contents));
  }
  if (Result<Unit> created = fill->create(); !created) return fail(std::move(created.error()));
  return fill;
}

}  // namespace

Result<std::unique_ptr<CacheBackend>> make_memory_cache(const MemoryCacheOptions& options) {
  Result<CacheIndex> index = CacheIndex::make(
      options.policy, cache_capacity(options.max_size_bytes, options.max_items, kMemoryCacheEntriesMax));
  if (!index) return fail(std::move(index.error()));
  auto store = std::make_shared<MemoryStore>(std::move(*index), options);
  if (Result<Unit> opened = store->open(); !opened) return fail(std::move(opened.error()));
  return std::make_unique<StoreCache<MemoryStore>>(std::move(store), options.preserve_permissions);
}

}  // namespace loracle
