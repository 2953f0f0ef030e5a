#include "executor.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <mutex>
#include <thread>
#include <utility>

#include "loracle/engine/run_on_threads.hpp"
#include "output.hpp"
#include "parse_flags.hpp"

namespace loracle::app {

struct Progress::State {
  std::string what;
  std::mutex mutex;
  std::condition_variable stop_requested;
  bool stop = false;
  std::atomic<std::size_t> done{0};
  std::atomic<std::size_t> total{0};
  std::thread painter;

  void paint() {
    const auto start = std::chrono::steady_clock::now();
    std::unique_lock lock(mutex);
    auto wait = std::chrono::milliseconds(2000);
    bool painted = false;
    while (!stop_requested.wait_for(lock, wait, [&] { return stop; })) {
      const auto elapsed = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      const std::size_t all = total.load();
      if (all == 0) {
        say(fmt::format("\r\033[K{} ... {:.0f} s", what, elapsed));
      } else {
        constexpr std::size_t kWidth = 30;
        const std::size_t filled = done.load() * kWidth / all;
        say(fmt::format("\r\033[K{} [{:#<{}}{:.<{}}] {} of {}, {:.0f} s", what, "", filled, "",
                        kWidth - filled, done.load(), all, elapsed));
      }
      std::fflush(stderr);
      painted = true;
      wait = std::chrono::milliseconds(200);
    }
    if (painted) say("\r\033[K");
  }
};

Progress::Progress(std::string what) {
  if (isatty(STDERR_FILENO) == 0) return;
  state_ = std::make_unique<State>();
  state_->what = std::move(what);
  state_->painter = std::thread([state = state_.get()] { state->paint(); });
}

Progress::~Progress() {
  if (!state_) return;
  {
    const std::lock_guard lock(state_->mutex);
    state_->stop = true;
  }
  state_->stop_requested.notify_all();
  state_->painter.join();
}

void Progress::step(std::size_t done, std::size_t total) noexcept {
  if (!state_) return;
  state_->done.store(done);
  state_->total.store(total);
}

ThreadExecutor::ThreadExecutor(unsigned threads, std::string what)
    : threads_(threads_meant(threads)), what_(std::move(what)) {}

void ThreadExecutor::run(std::size_t count, const std::function<void(std::size_t)>& task) {
  Progress progress(what_);
  std::atomic<std::size_t> done{0};
  run_on_threads(count, threads_, [&](std::size_t i) {
    task(i);
    progress.step(done.fetch_add(1) + 1, count);
  });
}

double ThreadExecutor::now_s() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace loracle::app
