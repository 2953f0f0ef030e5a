#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <optional>
#include <utility>

#include "io_failed.hpp"
#include "loracle/core/check.hpp"
#include "loracle/storage/provider.hpp"
#include "rooted_files.hpp"
#include "storage/cache_io.hpp"
#include "storage/storage_uri.hpp"

namespace loracle {
namespace {

constexpr std::size_t kReadBytes = 1U << 20U;
constexpr std::size_t kListedMax = 5'000'000;
constexpr unsigned kDepthMax = 64;

/// ctime among it: whoever writes and sets mtime back is seen all the same.
std::string etag_of(const struct stat& found) {
  return fmt::format("{:x}-{:x}-{:x}-{:x}.{:x}-{:x}.{:x}", found.st_dev, found.st_ino, found.st_size,
                     found.st_mtim.tv_sec, found.st_mtim.tv_nsec, found.st_ctim.tv_sec,
                     found.st_ctim.tv_nsec);
}

StoredObject object_of(std::string name, const struct stat& found) {
  return {std::move(name), static_cast<std::uint64_t>(found.st_size), etag_of(found),
          std::int64_t{found.st_mtim.tv_sec}};
}

struct DirCloser {
  void operator()(DIR* directory) const noexcept { ::closedir(directory); }
};
using Dir = std::unique_ptr<DIR, DirCloser>;

tl::unexpected<Error> changed(const std::string& path) {
  return fail(Errc::kCorrupt,
              fmt::format("{}: changed while it was read: nothing of it is used; read it again", path));
}

class FileStorage final : public StorageProvider {
 public:
  explicit FileStorage(FileRoots roots) : roots_(std::move(roots)) {}

  [[nodiscard]] std::string_view scheme() const noexcept override { return "file"; }

  [[nodiscard]] Result<StoredListing> list(const std::string& uri, bool recursive) override {
    Result<std::string> path = path_of_file_uri(uri);
    if (!path) return fail(std::move(path.error()));
    Result<UniqueFd> located = roots_.locate(*path);
    if (!located) return fail(std::move(located.error()));
    Result<UniqueFd> directory = reopen_for_reading(*located, *path, O_DIRECTORY);
    if (!directory) return fail(std::move(directory.error()));
    StoredListing listing;
    Walk walk{*path, recursive, listing};
    if (Result<Unit> walked = add(std::move(*directory), "", 0, walk); !walked)
      return fail(std::move(walked.error()));
    std::sort(listing.objects.begin(), listing.objects.end(),
              [](const StoredObject& a, const StoredObject& b) { return a.name < b.name; });
    std::sort(listing.folders.begin(), listing.folders.end());
    return listing;
  }

  [[nodiscard]] Result<StoredObject> stat(const std::string& uri) override {
    Result<std::string> path = path_of_file_uri(uri);
    if (!path) return fail(std::move(path.error()));
    Result<UniqueFd> located = roots_.locate(*path);
    if (!located) return fail(std::move(located.error()));
    struct stat found {};
    if (Result<Unit> regular = check_regular(*located, *path, found); !regular)
      return fail(std::move(regular.error()));
    const std::size_t slash = path->rfind('/');
    return object_of(slash == std::string::npos ? *path : path->substr(slash + 1), found);
  }

  [[nodiscard]] Result<Unit> fetch(const std::string& uri, const FetchRange& range,
                                   const ByteSink& sink) override {
    LORACLE_CHECK(range.length > 0);
    Result<std::string> path = path_of_file_uri(uri);
    if (!path) return fail(std::move(path.error()));
    Result<UniqueFd> located = roots_.locate(*path);
    if (!located) return fail(std::move(located.error()));
    struct stat before {};
    if (Result<Unit> regular = check_regular(*located, *path, before); !regular) return regular;
    const std::string etag = etag_of(before);
    if (!range.etag.empty() && range.etag != etag) return changed(*path);
    const auto size = static_cast<std::uint64_t>(before.st_size);
    if (range.offset > size || range.length > size - range.offset) {
      return fail(Errc::kInvalid, fmt::format("{}: has {} bytes, none at {} and the {} from there on", *path,
                                              size, range.offset, range.length));
    }
    Result<UniqueFd> file = reopen_for_reading(*located, *path, 0);
    if (!file) return fail(std::move(file.error()));
    if (Result<Unit> read = read_range(*file, *path, range, sink); !read) return read;
    struct stat after {};
    if (::fstat(file->get(), &after) != 0) return io_failed(*path, "examine", errno);
    if (etag_of(after) != etag) return changed(*path);
    return Unit{};
  }

 private:
  struct Walk {
    const std::string& path;
    bool recursive;
    StoredListing& listing;
  };

  static Result<Unit> check_regular(const UniqueFd& located, const std::string& path, struct stat& found) {
    if (::fstat(located.get(), &found) != 0) return io_failed(path, "examine", errno);
    if (S_ISREG(found.st_mode)) return Unit{};
    // To S3 a folder is no object either.
    if (S_ISDIR(found.st_mode))
      return fail(Errc::kNotFound, fmt::format("{}: is a directory, and a file was asked for", path), EISDIR);
    return fail(Errc::kInvalid, fmt::format("{}: is not a regular file", path), EINVAL);
  }

  static Result<Unit> read_range(const UniqueFd& file, const std::string& path, const FetchRange& range,
                                 const ByteSink& sink) {
    std::vector<std::byte> buffer(std::min<std::uint64_t>(kReadBytes, range.length));
    std::uint64_t reached = 0;
    while (reached < range.length) {
      const std::size_t wanted = std::min<std::uint64_t>(buffer.size(), range.length - reached);
      const Result<std::size_t> got =
          read_at(file.get(), path, range.offset + reached, std::span(buffer).first(wanted));
      if (!got) return fail(got.error());
      if (*got == 0) return changed(path);  // it was longer a moment ago
      const auto bytes = std::span<const std::byte>(buffer).first(*got);
      if (Result<Unit> taken = sink(range.offset + reached, bytes); !taken) return taken;
      reached += bytes.size();
    }
    return Unit{};
  }

  /// Adds what lies in `fd`, whose names begin with `prefix`.
  [[nodiscard]] Result<Unit> add(UniqueFd fd, const std::string& prefix, unsigned depth, Walk& walk) const {
    // fdopendir takes the descriptor over, but only if it succeeds.
    const int own = ::fcntl(fd.get(), F_DUPFD_CLOEXEC, 0);
    const Dir directory(own < 0 ? nullptr : ::fdopendir(own));
    if (directory == nullptr) {
      const int error = errno;
      if (own >= 0) ::close(own);
      return io_failed(walk.path + "/" + prefix, "list", error);
    }
    while (true) {
      errno = 0;
      const dirent* const entry = ::readdir(directory.get());
      if (entry == nullptr) {
        if (errno != 0) return io_failed(walk.path + "/" + prefix, "list", errno);
        return Unit{};
      }
      const std::string_view name(entry->d_name);
      if (name == "." || name == "..") continue;
      if (walk.listing.objects.size() + walk.listing.folders.size() >= kListedMax) {
        return fail(Errc::kTooLarge,
                    fmt::format("{}: more than {} files: list something below it", walk.path, kListedMax));
      }
      if (Result<Unit> added = add_entry(fd, prefix, name, depth, walk); !added) return added;
    }
  }

  [[nodiscard]] Result<Unit> add_entry(const UniqueFd& directory, const std::string& prefix,
                                       std::string_view name, unsigned depth, Walk& walk) const {
    const std::string below = prefix + std::string(name);
    struct stat found {};
    // Gone since it was named: it is not there.
    if (::fstatat(directory.get(), std::string(name).c_str(), &found, AT_SYMLINK_NOFOLLOW) != 0)
      return Unit{};
    const bool link = S_ISLNK(found.st_mode);
    if (link) {
      // What leads nowhere, or outside, is not listed: nothing could be fetched through it.
      const Result<UniqueFd> target = roots_.locate(walk.path + "/" + below);
      if (!target || ::fstat(target->get(), &found) != 0) return Unit{};
    }
    if (S_ISREG(found.st_mode)) {
      walk.listing.objects.push_back(object_of(below, found));
    } else if (S_ISDIR(found.st_mode) && !walk.recursive) {
      walk.listing.folders.push_back(below);
    } else if (S_ISDIR(found.st_mode) && !link) {  // a linked folder could lead in circles
      if (depth == kDepthMax)
        return fail(Errc::kTooLarge,
                    fmt::format("{}/{}: more than {} folders deep", walk.path, below, kDepthMax));
      UniqueFd fd(::openat(directory.get(), std::string(name).c_str(),
                           O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
      if (fd.is_open()) return add(std::move(fd), below + "/", depth + 1, walk);
      if (errno != ENOENT && errno != ENOTDIR && errno != ELOOP)
        return io_failed(walk.path + "/" + below, "list", errno);
    }
    return Unit{};
  }

  FileRoots roots_;
};

}  // namespace

Result<std::unique_ptr<StorageProvider>> make_file_storage(const FileStorageOptions& options) {
  Result<FileRoots> roots = FileRoots::make(options);
  if (!roots) return fail(std::move(roots.error()));
  return std::make_unique<FileStorage>(std::move(*roots));
}

}  // namespace loracle
