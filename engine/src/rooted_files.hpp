#pragma once
/// Opening files below a few directories and nowhere else, whatever path or link leads there.
///
/// The kernel decides, not a comparison of text: openat2 with RESOLVE_BENEATH from the directory that is held
/// open, or, for a link that is absolute or leads to another of the directories, the place of the file that
/// was opened. So nobody can swap a folder for a link between a check and its use. Nothing is opened for
/// reading, and so no pipe or device is touched, before its place is known.
/// Threads: any. Errors: kInvalid with detail EACCES (leads outside, whether or not something is there: who
/// may not read it must not learn it either), kNotFound, kIo (detail: errno).

#include <string>
#include <string_view>
#include <vector>

#include "loracle/core/result.hpp"
#include "loracle/storage/provider.hpp"
#include "storage/unique_fd.hpp"

namespace loracle {

class FileRoots {
 public:
  /// Without allowed paths: everything may be opened; unless `memory_files` is the name of memory files
  /// (memfd_create), which may be opened wherever a link to them lies.
  /// Errors: an allowed path that is missing, or none.
  [[nodiscard]] static Result<FileRoots> make(const FileStorageOptions& options,
                                              const std::string& memory_files = {});

  /// A handle on what lies at `path`, links followed, that cannot be read from yet.
  [[nodiscard]] Result<UniqueFd> locate(const std::string& path) const;

 private:
  struct Root {
    std::string named;  // as configured, absolute
    std::string real;   // without links
    UniqueFd directory;
  };
  [[nodiscard]] bool is_bound() const noexcept { return !roots_.empty() || !memory_file_.empty(); }

  std::vector<Root> roots_;
  std::string memory_file_;  // as the kernel names one; empty: none
};

/// The same file for reading (`flags`: O_DIRECTORY for a folder).
[[nodiscard]] Result<UniqueFd> reopen_for_reading(const UniqueFd& located, const std::string& path,
                                                  int flags);

}  // namespace loracle
