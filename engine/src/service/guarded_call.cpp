#include "service/guarded_call.hpp"

#include <fmt/format.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <exception>
#include <limits>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>

namespace loracle::service {
namespace {

constexpr std::uint64_t kLookMs = 50;  // between two looks at `cancelled`
constexpr std::size_t kFaultStackBytes = 64U << 10U;
constexpr std::array<int, 5> kFaults = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};

enum class State : std::uint8_t { kRunning, kAnswered, kGivenUp, kCrashed };

/// Shared by the caller and the call's thread; whoever goes last frees it.
struct Call {
  Call() : ended(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;
  ~Call() {
    if (ended >= 0) ::close(ended);
  }

  /// True for the first who says how the call ended.
  bool end(State how) noexcept {
    State running = State::kRunning;
    return state.compare_exchange_strong(running, how);
  }
  void wake() const noexcept {
    const std::uint64_t one = 1;
    static_cast<void>(!::write(ended, &one, sizeof one));  // async-signal-safe; it cannot fail at 1
  }

  int ended;
  std::atomic<State> state = State::kRunning;
  Result<std::string> answer = std::string();
  std::unique_ptr<std::byte[]> fault_stack;  // a stack that overflowed cannot be used to say so
};
static_assert(std::atomic<State>::is_always_lock_free, "it is set in a signal handler");

thread_local Call* running_call = nullptr;         // the guarded call of this thread
thread_local Call* volatile faults_end = nullptr;  // it, while its faults are its own

struct sigaction former_actions[kFaults.size()];

void on_fault(int signal, siginfo_t* info, void*) {
  Call* const call = faults_end;
  if (call != nullptr) {
    if (call->end(State::kCrashed)) call->wake();
    for (;;) ::pause();
  }
  const auto at = std::find(kFaults.begin(), kFaults.end(), signal);
  ::sigaction(signal, &former_actions[at - kFaults.begin()], nullptr);
  // A faulting instruction faults again on return; what was sent has to be sent again.
  if (info->si_code <= 0) ::raise(signal);
}

Result<std::string> answer_of(const std::function<Result<std::string>()>& call) {
  try {
    return call();
  } catch (const std::exception& exception) {
    return fail(Errc::kIo, fmt::format("threw an exception: {}", exception.what()));
  } catch (...) {
    return fail(Errc::kIo, "threw something that is no std::exception");
  }
}

}  // namespace

CallOutcome call_guarded(TimeSource& clock, std::uint64_t timeout_ns,
                         std::function<Result<std::string>()> call, std::function<void()> late,
                         const std::atomic<bool>& cancelled) {
  const std::uint64_t now_ns = clock.now_ns();
  const std::uint64_t deadline_ns = timeout_ns > kNoDeadline - now_ns ? kNoDeadline : now_ns + timeout_ns;
  auto shared = std::make_shared<Call>();
  if (shared->ended < 0) return {CallEnd::kNoThread, std::string()};
  try {
    std::thread([shared, call = std::move(call), late = std::move(late)]() mutable {
      running_call = shared.get();
      Result<std::string> answer = answer_of(call);
      call = nullptr;  // what it held is let go before anybody hears of the end
      running_call = nullptr;
      shared->answer = std::move(answer);
      if (shared->end(State::kAnswered))
        shared->wake();
      else
        late();
    }).detach();
  } catch (const std::system_error&) {
    return {CallEnd::kNoThread, std::string()};
  }
  while (shared->state == State::kRunning) {
    const std::uint64_t at_ns = clock.now_ns();
    if (at_ns >= deadline_ns && shared->end(State::kGivenUp)) return {CallEnd::kTimedOut, std::string()};
    if (cancelled && shared->end(State::kGivenUp)) return {CallEnd::kCancelled, std::string()};
    const std::uint64_t left_ms = at_ns >= deadline_ns ? 0 : (deadline_ns - at_ns) / 1'000'000 + 1;
    pollfd ready{shared->ended, POLLIN, 0};
    static_cast<void>(::poll(&ready, 1, static_cast<int>(std::min(left_ms, kLookMs))));
  }
  if (shared->state == State::kCrashed) return {CallEnd::kCrashed, std::string()};
  return {CallEnd::kAnswered, std::move(shared->answer)};
}

FaultsAreMine::FaultsAreMine() noexcept {
  if (running_call == nullptr) return;
  running_call->fault_stack = std::make_unique<std::byte[]>(kFaultStackBytes);
  stack_t stack{};
  stack.ss_sp = running_call->fault_stack.get();
  stack.ss_size = kFaultStackBytes;
  ::sigaltstack(&stack, &former_stack_);
  faults_end = running_call;
}

FaultsAreMine::~FaultsAreMine() {
  if (faults_end == nullptr) return;
  faults_end = nullptr;
  ::sigaltstack(&former_stack_, nullptr);  // sanitizers have one of their own, and free what they find here
}

void catch_faults() {
  static std::once_flag once;
  std::call_once(once, [] {
    for (std::size_t i = 0; i < kFaults.size(); ++i) {
      struct sigaction action {};
      action.sa_sigaction = &on_fault;
      action.sa_flags = SA_SIGINFO | SA_ONSTACK;
      ::sigemptyset(&action.sa_mask);
      ::sigaction(kFaults[i], &action, &former_actions[i]);
    }
  });
}

}  // namespace loracle::service
