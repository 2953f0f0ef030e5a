#pragma once
/// The locks of a disk cache, and the order they are taken in: the directory's, then the mutex.
///
/// The directory's lock is a turn among the threads of this process (a flock is the process's, not a
/// thread's), then the flock of the file `lock` among processes. Both are waited for only so long.
/// Threads: any may wait; what was locked has one owner.

#include <sys/file.h>

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <utility>

#include "storage/unique_fd.hpp"

namespace loracle {

/// One thread at a time. No std::timed_mutex: the thread sanitizer of gcc 12 does not see its timed wait.
class DirectoryTurn {
 public:
  [[nodiscard]] bool take_until(std::chrono::steady_clock::time_point deadline) {
    std::unique_lock lock(mutex_);
    if (!is_free_.wait_until(lock, deadline, [this] { return !is_taken_; })) return false;
    is_taken_ = true;
    return true;
  }
  void give_back() {
    {
      const std::lock_guard lock(mutex_);
      is_taken_ = false;
    }
    is_free_.notify_one();
  }

 private:
  std::mutex mutex_;
  std::condition_variable is_free_;
  bool is_taken_ = false;
};

/// The turn, and any flock of the open file; both end with this.
class DirectoryLock {
 public:
  /// REQUIRES: the caller has taken the turn. The file may be opened anew meanwhile.
  DirectoryLock(DirectoryTurn& turn, const UniqueFd& file) noexcept : turn_(&turn), file_(&file) {}
  DirectoryLock(DirectoryLock&& other) noexcept
      : turn_(std::exchange(other.turn_, nullptr)), file_(other.file_) {}
  DirectoryLock& operator=(DirectoryLock&&) = delete;
  ~DirectoryLock() {
    if (turn_ == nullptr) return;
    ::flock(file_->get(), LOCK_UN);
    turn_->give_back();
  }

 private:
  DirectoryTurn* turn_;
  const UniqueFd* file_;
};

/// Both locks: whoever has them is the only one to bring rows in, to evict and to delete entries. (What was
/// staged and is given up is deleted by its Fill, which nobody else knows.)
class DiskChange {
 public:
  DiskChange(DirectoryLock directory, std::mutex& mutex) : directory_(std::move(directory)), memory_(mutex) {}

  /// Runs what may take long, and touches nothing in memory, with the directory's lock alone.
  template <class Work>
  [[nodiscard]] auto without_mutex(Work&& work) {
    memory_.unlock();
    auto result = work();
    memory_.lock();
    return result;
  }

 private:
  DirectoryLock directory_;
  std::unique_lock<std::mutex> memory_;  // goes first
};

}  // namespace loracle
