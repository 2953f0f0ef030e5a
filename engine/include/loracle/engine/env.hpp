#pragma once
/// The one door from the engine to the world: clock, files, threads, device. Production passes the machine's
/// own; tests pass a seeded simulation in virtual time, and the engine above cannot tell.

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "loracle/engine/device.hpp"
#include "loracle/engine/files.hpp"
#include "loracle/engine/origin.hpp"

namespace loracle {

/// No deadline.
inline constexpr std::uint64_t kNoDeadline = 0xFFFF'FFFF'FFFF'FFFFULL;

class TimeSource {
 public:
  virtual ~TimeSource() = default;
  /// Nanoseconds from an arbitrary zero; never goes back.
  [[nodiscard]] virtual std::uint64_t now_ns() noexcept = 0;
  /// Seconds since 1970, for what is written into the catalog.
  [[nodiscard]] virtual std::int64_t unix_s() noexcept = 0;
};

/// Runs loads and copies. Tasks run in any order and in parallel, never inside `submit`. All that were
/// submitted have run, or been dropped unrun, when the destructor returns.
class Workers {
 public:
  virtual ~Workers() = default;
  virtual void submit(std::function<void()> task) = 0;
  /// Runs the task at `at_ns` on the clock, or soon after.
  virtual void submit_at(std::uint64_t at_ns, std::function<void()> task) = 0;
  /// Blocks the caller until `done` answers true, or until `deadline_ns`; `done`'s last answer. `lock` is
  /// held whenever `done` is asked, and on return.
  virtual bool wait(std::unique_lock<std::mutex>& lock, std::condition_variable& changed,
                    std::uint64_t deadline_ns, const std::function<bool()>& done) = 0;
};

/// Borrowed parts; whoever made them keeps them alive longer than the engine.
struct Env {
  TimeSource* clock = nullptr;
  Files* files = nullptr;
  Workers* workers = nullptr;
  DeviceMemory* device = nullptr;
  std::vector<Origin*> origins = {};  // beside paths and file://, which are always understood
};

/// The machine's own clock.
[[nodiscard]] TimeSource& posix_clock() noexcept;
/// `threads` workers and a timer; fewer where the system gives no more, null where it gives not even one.
[[nodiscard]] std::unique_ptr<Workers> make_thread_workers(unsigned threads);

}  // namespace loracle
