#pragma once
/// Waits until directories change, as far as the system tells; and for being woken.
///
/// A directory is watched for entries that come, go or are written to the end; not what lies below them.
/// Threads: one waits and watches; `wake` from any.

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace loracle::service {

enum class Woken : std::uint8_t { kTimeout, kChanged, kAsked };

inline constexpr std::uint64_t kWaitForEver = 0xFFFF'FFFF'FFFF'FFFFULL;

class DirectoryWatch {
 public:
  /// Without `use_inotify`, or where there is none, nothing ever changes.
  explicit DirectoryWatch(bool use_inotify);
  DirectoryWatch(const DirectoryWatch&) = delete;
  DirectoryWatch& operator=(const DirectoryWatch&) = delete;
  ~DirectoryWatch();

  /// These from now on, and no others. What cannot be watched is answered, "directory: reason" each.
  [[nodiscard]] std::vector<std::string> watch(const std::vector<std::string>& directories);
  /// A change is told once.
  [[nodiscard]] Woken wait(std::uint64_t timeout_ms);
  void wake() const noexcept;

 private:
  int changes_ = -1;  // inotify
  int asked_ = -1;    // eventfd
  int error_ = 0;     // errno of inotify
  std::map<std::string, int> watched_;
};

}  // namespace loracle::service
