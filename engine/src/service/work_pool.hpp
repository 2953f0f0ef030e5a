#pragma once
/// Threads behind a bounded queue. At the limit `submit` says no, at once; `submit_always` is for what ends
/// work that was let in before.
/// Threads: any may submit. Tasks that wait when the pool ends are run first.

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace loracle::service {

class WorkPool {
 public:
  /// `niceness` of its threads, as in nice(2): above 0 they give way to others.
  WorkPool(unsigned threads, std::size_t queue_max, int niceness = 0);
  WorkPool(const WorkPool&) = delete;
  WorkPool& operator=(const WorkPool&) = delete;
  ~WorkPool() { end(); }
  /// Runs what waits and ends the threads; nothing that is submitted from then on is run.
  void end();

  [[nodiscard]] bool submit(std::function<void()> task);
  void submit_always(std::function<void()> task);
  [[nodiscard]] std::size_t waiting() const;

 private:
  void run();

  std::size_t queue_max_;
  int niceness_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> queue_;
  bool ending_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace loracle::service
