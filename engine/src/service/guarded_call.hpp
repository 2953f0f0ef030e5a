#pragma once
/// A call of foreign code on a thread of its own: with a deadline, and with its faults kept to itself.
///
/// A call that is not back in time is given up: its thread goes on, and what it answers is dropped. A thread
/// that faults (SIGSEGV, SIGBUS, SIGFPE, SIGILL, abort) while `FaultsAreMine` lives on it is put to sleep for
/// ever, and its call has crashed: unwinding it would run code over broken data. Its memory and its locks are
/// lost with it; that is the price, and it is less than the server.
/// Threads: any. Cost: a thread and an eventfd a call.

#include <atomic>
#include <csignal>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "loracle/core/result.hpp"
#include "loracle/engine/env.hpp"

namespace loracle::service {

enum class CallEnd : std::uint8_t { kAnswered, kTimedOut, kCancelled, kCrashed, kNoThread };

struct CallOutcome {
  CallEnd end = CallEnd::kAnswered;
  Result<std::string> answer = std::string();  // of kAnswered
};

/// Runs `call` and waits for it, until it is late or `cancelled` is seen to be true (soon). `late` is called
/// by the call's thread if it comes back after it was given up. What the two hold must be kept alive by them.
[[nodiscard]] CallOutcome call_guarded(TimeSource& clock, std::uint64_t timeout_ns,
                                       std::function<Result<std::string>()> call, std::function<void()> late,
                                       const std::atomic<bool>& cancelled);

/// While it lives, faults of this thread end the guarded call it runs. Without such a call it does nothing.
class FaultsAreMine {
 public:
  FaultsAreMine() noexcept;
  FaultsAreMine(const FaultsAreMine&) = delete;
  FaultsAreMine& operator=(const FaultsAreMine&) = delete;
  ~FaultsAreMine();

 private:
  stack_t former_stack_{};
};

/// Catches faults from now on; those of threads that have not asked for it go to whoever had them before.
void catch_faults();

}  // namespace loracle::service
