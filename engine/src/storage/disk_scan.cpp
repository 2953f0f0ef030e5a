/// The directory of a disk cache as it is: what a scan finds there, and what it deletes.

#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <filesystem>
#include <system_error>
#include <utility>

#include "storage/disk_layout.hpp"
#include "storage/disk_store.hpp"

namespace loracle {
namespace {

namespace fs = std::filesystem;

std::int64_t mtime_ns(const struct stat& found) noexcept {
  return std::int64_t{found.st_mtim.tv_sec} * 1'000'000'000 + found.st_mtim.tv_nsec;
}

bool parse(std::string_view text, int base, std::uint64_t& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  return error == std::errc{} && end == text.data() + text.size();
}

Result<std::vector<std::string>> names_in(const std::string& directory) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator it(directory, error); !error && it != fs::directory_iterator();
       it.increment(error))
    names.push_back(it->path().filename().string());
  if (error) return io_failed(directory, "list", error.value());
  return names;
}

}  // namespace

bool parse_staging(std::string_view text, std::uint64_t& bytes, std::uint64_t& seq) {
  const std::size_t dot = text.find('.');
  return dot != std::string_view::npos && text.size() == dot + 1 + kSeqLength &&
         parse(text.substr(0, dot), 10, bytes) && parse(text.substr(dot + 1), 16, seq);
}

std::string staging_name(std::uint64_t bytes, std::uint64_t seq) {
  return fmt::format("{}{}.{:016x}", kStaging, bytes, seq);
}

bool try_flock(int fd, int kind) noexcept {
  while (::flock(fd, kind | LOCK_NB) != 0)
    if (errno != EINTR) return false;
  return true;
}

Result<DiskStore::Listing> DiskStore::look() const {
  Result<std::vector<std::string>> entries = names_in(path_of(kEntries));
  if (!entries) return fail(std::move(entries.error()));
  Result<std::vector<std::string>> staging = names_in(path_of(kStaging));
  if (!staging) return fail(std::move(staging.error()));
  Listing listing{{}, std::move(*staging)};
  for (const std::string& file : *entries) {
    Found entry;
    if (file.size() < kHashLength || file[kHashLength] != '.' ||
        !parse_staging(std::string_view(file).substr(kHashLength + 1), entry.bytes, entry.seq))
      continue;
    struct stat now {};
    if (::fstatat(entries_.get(), file.c_str(), &now, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISDIR(now.st_mode))
      continue;
    entry.name = fmt::format("{}{}", kEntries, file);
    entry.hash = file.substr(0, kHashLength);
    entry.used_ns = mtime_ns(now);
    listing.entries.push_back(std::move(entry));
  }
  // The oldest first, so that a policy sees the uses in their order.
  std::sort(listing.entries.begin(), listing.entries.end(), [](const Found& a, const Found& b) {
    return std::pair(a.used_ns, a.seq) < std::pair(b.used_ns, b.seq);
  });
  return listing;
}

Result<Unit> DiskStore::scan(DiskChange& change) {
  Result<Listing> listing = change.without_mutex([this] { return look(); });
  if (!listing) return fail(std::move(listing.error()));
  ++scans_;
  excess_bytes_ = 0;
  std::vector<const Found*> found;  // and not known
  for (const Found& entry : listing->entries) {
    const auto known = by_name_.find(entry.name);
    if (known == by_name_.end()) {
      last_seq_ = std::max(last_seq_, entry.seq);
      found.push_back(&entry);
      continue;
    }
    const Row row = known->second;
    at(row).seen = scans_;
    if (entry.used_ns > at(row).used_ns) {  // by another process
      at(row).used_ns = entry.used_ns;
      index_.touch(row);
    }
  }
  drop_unseen(change);
  for (const std::string& file : listing->staging) scan_staging(file, change);
  for (const Found* const entry : found) admit(*entry, change);
  return Unit{};
}

void DiskStore::scan_staging(const std::string& file, DiskChange& change) {
  std::uint64_t bytes = 0;
  std::uint64_t seq = 0;
  if (!parse_staging(file, bytes, seq)) return;
  last_seq_ = std::max(last_seq_, seq);
  const std::string name = fmt::format("{}{}", kStaging, file);
  const auto known = by_name_.find(name);
  const Row row = known == by_name_.end() ? kNoRow : known->second;
  if (row != kNoRow && at(row).is_own) return;
  const std::string path = path_of(name);
  const bool is_gone = change.without_mutex([&] {
    Result<UniqueFd> fd = open_directory(path);
    if (!fd) return fd.error().code == Errc::kNotFound;
    // Nobody holds it: its process is dead.
    return try_flock(fd->get(), LOCK_EX) && remove_tree(path).has_value();
  });
  if (row != kNoRow) {
    at(row).seen = scans_;
    if (is_gone) give_up(row);
    return;
  }
  if (is_gone) return;
  Admission why{};
  const Row reserved = reserve({}, bytes, why, change);
  if (reserved == kNoRow) {
    excess_bytes_ += bytes;
    return;
  }
  at(reserved) = Place{};
  at(reserved).name = name;
  at(reserved).seen = scans_;
  at(reserved).is_staging = true;
  by_name_.emplace(name, reserved);
}

void DiskStore::drop_unseen(DiskChange& change) {
  std::vector<Row> gone;
  std::vector<Row> retired;
  for (const auto& [name, row] : by_name_) {
    if (at(row).is_staging) {
      std::error_code ignored;
      if (!at(row).is_own && !fs::exists(path_of(name), ignored)) gone.push_back(row);
    } else if (at(row).seen != scans_ && !index_.tier().held(row)) {
      gone.push_back(row);
    } else if (at(row).is_retired && !index_.tier().held(row)) {
      retired.push_back(row);
    }
  }
  for (const Row row : gone) give_up(row);
  for (const Row row : retired)
    if (erase(row, change)) index_.remove(row);
}

void DiskStore::admit(const Found& found, DiskChange& change) {
  const std::string path = path_of(found.name);
  Admission why{};
  const Row row = reserve(found.hash, found.bytes, why, change);
  if (row == kNoRow) {
    // Larger than all there may be, or in use beside all the others: by a process with other bounds.
    const bool is_gone = change.without_mutex([&] {
      Result<UniqueFd> fd = open_directory(path);
      return fd && try_flock(fd->get(), LOCK_EX) && remove_tree(path);
    });
    if (!is_gone) excess_bytes_ += found.bytes;
    return;
  }
  index_.tier().let_go(row);
  at(row) = Place{};
  at(row).name = found.name;
  at(row).seq = found.seq;
  at(row).used_ns = found.used_ns;
  at(row).seen = scans_;
  by_name_.emplace(found.name, row);
  if (!has_record(path)) {
    retire(row, change);  // removed while it was in use, or never whole
    return;
  }
  const Row before = index_.publish(row);
  if (before == kNoRow) return;
  if (at(before).seq > found.seq) {
    static_cast<void>(index_.publish(before));
    retire(row, change);
  } else {
    retire(before, change);
  }
}

Row DiskStore::reserve(const std::string& hash, std::uint64_t bytes, Admission& why, DiskChange& change) {
  return index_.reserve(hash, Bytes{bytes}, why, [&](Row victim) { return erase(victim, change); });
}

/// The bytes of a row that nobody uses; the row itself is still in the tier, or was just evicted from it.
bool DiskStore::erase(Row row, DiskChange& change) {
  const std::string path = path_of(at(row).name);
  Result<UniqueFd> fd = open_directory(path);
  bool is_gone = !fd && fd.error().code == Errc::kNotFound;
  if (fd && try_flock(fd->get(), LOCK_EX)) {
    // Out of sight first: half an entry must never be taken for a whole one.
    const std::string doomed = path_of(staging_name(index_.size_of(row).value, next_seq()));
    if (::rename(path.c_str(), doomed.c_str()) == 0) {
      is_gone = change.without_mutex([&] {
        // Its record before all else: should the rest not go, what is put back is no entry, to any process.
        static_cast<void>(::unlink(fmt::format("{}/{}", doomed, kRecordName).c_str()));
        if (remove_tree(doomed)) return true;
        static_cast<void>(::rename(doomed.c_str(), path.c_str()));
        return false;
      });
      if (!is_gone) {
        index_.hide(row);
        at(row).is_retired = true;
      }
    }
  }
  if (!is_gone) return false;
  by_name_.erase(at(row).name);
  at(row) = Place{};
  return true;
}

/// Hides an entry for ever, after a restart and from other processes too, and deletes it once it is unused.
void DiskStore::retire(Row row, DiskChange& change) {
  index_.hide(row);
  at(row).is_retired = true;
  static_cast<void>(::unlink(fmt::format("{}/{}", path_of(at(row).name), kRecordName).c_str()));
  if (!index_.tier().held(row) && erase(row, change)) index_.remove(row);
}

/// A row whose bytes are gone.
void DiskStore::give_up(Row row) {
  if (at(row).is_staging) index_.tier().let_go(row);
  by_name_.erase(at(row).name);
  at(row) = Place{};
  index_.remove(row);
}

}  // namespace loracle
