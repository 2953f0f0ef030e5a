#pragma once
/// Where parallel work runs. `sim` starts no thread and reads no clock: the app hands one of these in.

#include <cstddef>
#include <functional>

namespace loracle {

class Executor {
 public:
  virtual ~Executor() = default;
  /// Calls task(0) .. task(count - 1), each once, in any order and on any thread; returns when all have
  /// returned.
  virtual void run(std::size_t count, const std::function<void(std::size_t)>& task) = 0;
  /// Seconds since some fixed point, for the timings in results; 0 always where timings are not wanted.
  [[nodiscard]] virtual double now_s() { return 0; }
};

/// Runs everything in the calling thread; has no clock.
class InlineExecutor final : public Executor {
 public:
  void run(std::size_t count, const std::function<void(std::size_t)>& task) override {
    for (std::size_t i = 0; i < count; ++i) task(i);
  }
};

}  // namespace loracle
