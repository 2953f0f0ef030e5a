#include "service/work_pool.hpp"

#include <sys/resource.h>

#include <algorithm>
#include <system_error>
#include <utility>

namespace loracle::service {

WorkPool::WorkPool(unsigned threads, std::size_t queue_max, int niceness)
    : queue_max_(queue_max), niceness_(niceness) {
  try {
    for (unsigned i = 0; i < std::max(threads, 1U); ++i) threads_.emplace_back([this] { run(); });
  } catch (const std::system_error&) {
    if (threads_.empty()) throw;  // else those that there are do the work
  }
}

void WorkPool::end() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

bool WorkPool::submit(std::function<void()> task) {
  {
    const std::lock_guard lock(mutex_);
    if (ending_ || queue_.size() >= queue_max_) return false;
    queue_.push_back(std::move(task));
  }
  changed_.notify_one();
  return true;
}

void WorkPool::submit_always(std::function<void()> task) {
  {
    const std::lock_guard lock(mutex_);
    queue_.push_back(std::move(task));
  }
  changed_.notify_one();
}

std::size_t WorkPool::waiting() const {
  const std::lock_guard lock(mutex_);
  return queue_.size();
}

void WorkPool::run() {
  // Of this thread alone, on Linux. Where it is refused, they run as the others do.
  if (niceness_ != 0) static_cast<void>(::setpriority(PRIO_PROCESS, 0, niceness_));
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [&] { return ending_ || !queue_.empty(); });
    if (queue_.empty()) return;
    std::function<void()> task = std::move(queue_.front());
    queue_.pop_front();
    lock.unlock();
    task();
    task = nullptr;  // what it holds ends without the lock
    lock.lock();
  }
}

}  // namespace loracle::service
