#include "service/watch.hpp"

#include <fmt/format.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <set>
#include <system_error>

namespace loracle::service {
namespace {

constexpr std::uint32_t kEvents = IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_CLOSE_WRITE |
                                  IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR;

/// File systems that take a watch and then say nothing of what other machines do. statfs(2) lists them.
bool is_network(const std::string& directory) {
  static constexpr std::array<std::uint32_t, 8> kNetworks = {0x6969,       // NFS
                                                             0x517B,       // SMB
                                                             0xFF534D42,   // CIFS
                                                             0xFE534D42,   // SMB2
                                                             0x65735546,   // FUSE: s3fs, sshfs, ...
                                                             0x00C36400,   // Ceph
                                                             0x0BD00BD0,   // Lustre
                                                             0x01021997};  // 9P
  struct statfs found {};
  if (::statfs(directory.c_str(), &found) != 0) return false;
  return std::find(kNetworks.begin(), kNetworks.end(), static_cast<std::uint32_t>(found.f_type)) !=
         kNetworks.end();
}

std::string reason_of(int error) {
  if (error == ENOSPC) return "the system's limit of watches is reached: raise fs.inotify.max_user_watches";
  if (error == EMFILE)
    return "the system's limit of watchers is reached: raise fs.inotify.max_user_instances";
  return std::generic_category().message(error);
}

}  // namespace

DirectoryWatch::DirectoryWatch(bool use_inotify)
    : changes_(use_inotify ? ::inotify_init1(IN_NONBLOCK | IN_CLOEXEC) : -1),
      error_(use_inotify && changes_ < 0 ? errno : 0) {
  asked_ = ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
}

DirectoryWatch::~DirectoryWatch() {
  if (changes_ >= 0) ::close(changes_);
  if (asked_ >= 0) ::close(asked_);
}

std::vector<std::string> DirectoryWatch::watch(const std::vector<std::string>& directories) {
  std::vector<std::string> failures;
  if (changes_ < 0) {
    if (error_ != 0)
      for (const std::string& directory : directories)
        failures.push_back(fmt::format("{}: cannot be watched: {}", directory, reason_of(error_)));
    return failures;
  }
  std::map<std::string, int> now;
  std::set<int> kept;
  for (const std::string& directory : directories) {
    if (is_network(directory)) {
      failures.push_back(
          fmt::format("{}: is on a network file system, which does not tell what other machines "
                      "change: it is looked at every interval",
                      directory));
      continue;
    }
    // For a directory that is watched already this answers its number; for another in its place, a new one.
    const int number = ::inotify_add_watch(changes_, directory.c_str(), kEvents);
    if (number < 0) {
      failures.push_back(fmt::format("{}: cannot be watched: {}", directory, reason_of(errno)));
      continue;
    }
    now[directory] = number;
    kept.insert(number);
  }
  for (const auto& [directory, number] : watched_)
    if (!kept.contains(number)) static_cast<void>(::inotify_rm_watch(changes_, number));
  watched_ = std::move(now);
  return failures;
}

Woken DirectoryWatch::wait(std::uint64_t timeout_ms) {
  std::array<pollfd, 2> ready = {{{asked_, POLLIN, 0}, {changes_, POLLIN, 0}}};  // a negative one is skipped
  const int timeout =
      timeout_ms == kWaitForEver ? -1 : static_cast<int>(std::min<std::uint64_t>(timeout_ms, INT_MAX));
  const int count = ::poll(ready.data(), ready.size(), timeout);
  if (count <= 0) return Woken::kTimeout;  // or a signal: the caller looks at the time itself
  if ((ready[0].revents & POLLIN) != 0) {
    std::uint64_t times = 0;
    static_cast<void>(!::read(asked_, &times, sizeof times));
    return Woken::kAsked;
  }
  // What changed does not matter: a round looks at everything. IN_IGNORED, which a watch's end tells, is no
  // change.
  bool changed = false;
  alignas(inotify_event) std::array<char, 16U << 10U> events{};
  for (ssize_t got = ::read(changes_, events.data(), events.size()); got > 0;
       got = ::read(changes_, events.data(), events.size())) {
    for (ssize_t at = 0; at < got;) {
      const auto* const event = reinterpret_cast<const inotify_event*>(events.data() + at);
      changed = changed || (event->mask & ~std::uint32_t{IN_IGNORED}) != 0;
      at += static_cast<ssize_t>(sizeof(inotify_event) + event->len);
    }
  }
  return changed ? Woken::kChanged : Woken::kTimeout;
}

void DirectoryWatch::wake() const noexcept {
  const std::uint64_t one = 1;
  static_cast<void>(!::write(asked_, &one, sizeof one));
}

}  // namespace loracle::service
