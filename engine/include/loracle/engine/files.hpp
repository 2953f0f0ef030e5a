#pragma once
/// The door to files: what the engine reads adapters through, so that a seeded simulation can take its place.
///
/// Paths are the system's own bytes. Reads are positional and may be short; a short read that is not the end
/// of the file is not an error (read_exactly loops). Nothing here writes.
/// Threads: a Files may be used by any number at once; an OpenFile too, because reads name their offset.
/// Errors: kNotFound, kIo (detail = errno); messages begin with the path.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "loracle/core/result.hpp"

namespace loracle {

enum class FileKind : std::uint8_t { kRegular, kDirectory, kOther };

/// Enough to tell whether a file is still the one that was read.
struct FileStat {
  FileKind kind = FileKind::kOther;
  std::uint64_t size = 0;     // bytes
  std::int64_t mtime_ns = 0;  // of the content, since 1970
  std::int64_t ctime_ns = 0;  // of the inode: changes even when mtime is set back
  std::uint64_t inode = 0;
  std::uint64_t device = 0;

  friend bool operator==(const FileStat&, const FileStat&) = default;
};

struct DirectoryEntry {
  std::string name;
  FileKind kind = FileKind::kOther;  // symbolic links are followed

  friend bool operator==(const DirectoryEntry&, const DirectoryEntry&) = default;
};

class OpenFile {
 public:
  virtual ~OpenFile() = default;
  /// As it was when the file was opened.
  [[nodiscard]] virtual const FileStat& stat() const noexcept = 0;
  /// Bytes read into the front of `into`; 0 at the end of the file.
  [[nodiscard]] virtual Result<std::size_t> read_at(std::uint64_t offset, std::span<std::byte> into) = 0;
};

class Files {
 public:
  virtual ~Files() = default;
  /// A regular file; anything else is kIo.
  [[nodiscard]] virtual Result<std::unique_ptr<OpenFile>> open(const std::string& path) = 0;
  /// Follows symbolic links.
  [[nodiscard]] virtual Result<FileStat> stat(const std::string& path) = 0;
  /// Sorted by name, without "." and "..".
  [[nodiscard]] virtual Result<std::vector<DirectoryEntry>> list(const std::string& directory) = 0;
};

/// The machine's own files.
[[nodiscard]] Files& posix_files() noexcept;

/// The machine's own files, and of these only what lies under one of the roots (directories), links followed:
/// anything else is kInvalid with detail EACCES, whatever path leads there, and whether or not something is
/// there. Checked on the file that was opened: nobody can swap it in between. Memory files (memfd_create) of
/// the name `memory_files` are inside too, unless it is empty: those that a cache in memory hands out.
/// Errors: those of the roots themselves.
[[nodiscard]] Result<std::unique_ptr<Files>> make_rooted_files(std::span<const std::string> roots,
                                                               const std::string& memory_files = {});

/// Fills `into`, or kCorrupt if the file ends before it is full. `path` is for the message.
[[nodiscard]] Result<Unit> read_exactly(OpenFile& file, const std::string& path, std::uint64_t offset,
                                        std::span<std::byte> into);
/// A small file whole. Errors: also kTooLarge above `bytes_max`.
[[nodiscard]] Result<std::string> read_text(Files& files, const std::string& path, std::uint64_t bytes_max);

}  // namespace loracle
