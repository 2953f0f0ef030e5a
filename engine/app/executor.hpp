#pragma once
/// Work on several threads, and what a terminal is told of it.

#include <cstddef>
#include <functional>
#include <memory>
#include <string>

#include "loracle/sim/executor.hpp"

namespace loracle::app {

/// Says on a terminal what is being done once it has taken two seconds; silent in a pipe.
class Progress {
 public:
  explicit Progress(std::string what);
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  ~Progress();
  /// From any thread: `done` of `total` steps are finished.
  void step(std::size_t done, std::size_t total) noexcept;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Runs tasks on threads, in the order of their numbers as threads come free.
class ThreadExecutor final : public Executor {
 public:
  ThreadExecutor(unsigned threads, std::string what);
  void run(std::size_t count, const std::function<void(std::size_t)>& task) override;
  [[nodiscard]] double now_s() override;

 private:
  unsigned threads_;
  std::string what_;
};

}  // namespace loracle::app
