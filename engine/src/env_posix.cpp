#include <algorithm>
#include <chrono>
#include <deque>
#include <queue>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "loracle/engine/env.hpp"

namespace loracle {
namespace {

using Nanoseconds = std::chrono::nanoseconds;
using SteadyTime = std::chrono::steady_clock::time_point;

SteadyTime time_at(std::uint64_t ns) { return SteadyTime(Nanoseconds(static_cast<std::int64_t>(ns))); }

class PosixClock final : public TimeSource {
 public:
  [[nodiscard]] std::uint64_t now_ns() noexcept override {
    return static_cast<std::uint64_t>(
        std::chrono::duration_cast<Nanoseconds>(std::chrono::steady_clock::now().time_since_epoch()).count());
  }
  [[nodiscard]] std::int64_t unix_s() noexcept override {
    return std::chrono::duration_cast<std::chrono::seconds>(
               std::chrono::system_clock::now().time_since_epoch())
        .count();
  }
};

class ThreadWorkers final : public Workers {
 public:
  /// Where the system gives fewer threads than asked for, it does with those.
  explicit ThreadWorkers(unsigned threads) {
    threads_.reserve(std::size_t{threads} + 2);
    try {
      threads_.emplace_back([this] { keep_time(); });
      for (unsigned i = 0; i < std::max(threads, 1U); ++i) threads_.emplace_back([this] { work(); });
    } catch (const std::system_error&) {  // no more threads to be had
    }
  }
  /// A timekeeper and one that works, at least.
  [[nodiscard]] bool can_work() const noexcept { return threads_.size() >= 2; }
  ThreadWorkers(const ThreadWorkers&) = delete;
  ThreadWorkers& operator=(const ThreadWorkers&) = delete;

  ~ThreadWorkers() override {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    task_ready_.notify_all();
    timer_changed_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  void submit(std::function<void()> task) override {
    {
      const std::lock_guard lock(mutex_);
      tasks_.push_back(std::move(task));
    }
    task_ready_.notify_one();
  }

  void submit_at(std::uint64_t at_ns, std::function<void()> task) override {
    {
      const std::lock_guard lock(mutex_);
      timers_.push({at_ns, std::move(task)});
    }
    timer_changed_.notify_one();
  }

  bool wait(std::unique_lock<std::mutex>& lock, std::condition_variable& changed, std::uint64_t deadline_ns,
            const std::function<bool()>& done) override {
    if (deadline_ns == kNoDeadline) {
      changed.wait(lock, done);
      return true;
    }
    return changed.wait_until(lock, time_at(deadline_ns), done);
  }

 private:
  struct Timer {
    std::uint64_t at_ns = 0;
    std::function<void()> task;
    friend bool operator<(const Timer& a, const Timer& b) noexcept { return a.at_ns > b.at_ns; }
  };

  /// Tasks that were submitted before the end are still run: whoever waits for them must hear of them.
  void work() {
    std::unique_lock lock(mutex_);
    for (;;) {
      task_ready_.wait(lock, [this] { return stopping_ || !tasks_.empty(); });
      if (tasks_.empty()) return;
      std::function<void()> task = std::move(tasks_.front());
      tasks_.pop_front();
      lock.unlock();
      task();
      task = nullptr;
      lock.lock();
    }
  }

  void keep_time() {
    std::unique_lock lock(mutex_);
    while (!stopping_) {
      if (timers_.empty()) {
        timer_changed_.wait(lock);
        continue;
      }
      const std::uint64_t at_ns = timers_.top().at_ns;
      if (posix_clock().now_ns() < at_ns) {
        timer_changed_.wait_until(lock, time_at(at_ns));
        continue;
      }
      tasks_.push_back(timers_.top().task);
      timers_.pop();
      task_ready_.notify_one();
    }
  }

  std::mutex mutex_;
  std::condition_variable task_ready_;
  std::condition_variable timer_changed_;
  std::deque<std::function<void()>> tasks_;
  std::priority_queue<Timer> timers_;
  bool stopping_ = false;
  std::vector<std::thread> threads_;  // the last keeps the time
};

}  // namespace

TimeSource& posix_clock() noexcept {
  static PosixClock clock;
  return clock;
}

std::unique_ptr<Workers> make_thread_workers(unsigned threads) {
  auto workers = std::make_unique<ThreadWorkers>(threads);
  if (!workers->can_work()) return nullptr;
  return workers;
}

}  // namespace loracle
