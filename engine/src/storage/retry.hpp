#pragma once
/// When to try again, and how long to wait before it: exponential, capped, with full jitter ("Exponential
/// Backoff And Jitter", AWS architecture blog), so that clients that failed together do not return together.
/// Threads: one owner. Cost: none but the wait.

#include <atomic>
#include <cstdint>
#include <optional>
#include <string>

#include "loracle/core/result.hpp"
#include "loracle/core/rng.hpp"
#include "loracle/storage/provider.hpp"
#include "storage/http_transport.hpp"

namespace loracle {

class Backoff {
 public:
  Backoff(const RetryOptions& options, std::uint64_t seed) noexcept : options_(options), rng_(seed) {}

  /// Milliseconds to wait before the next attempt, at least `at_least_ms` (a server's Retry-After) as far as
  /// delay_ms_max allows; nullopt once attempts_max were made.
  [[nodiscard]] std::optional<std::uint32_t> next_delay_ms(std::uint32_t at_least_ms = 0) noexcept;
  /// The last attempt brought so many bytes. Enough of them count as a success: a long object may lose its
  /// connection more often than a short one. Few do not, or a server could keep us for ever.
  void progress(std::uint64_t bytes) noexcept;
  [[nodiscard]] std::uint32_t attempts() const noexcept { return attempts_; }

 private:
  RetryOptions options_;
  Rng rng_;
  std::uint32_t attempts_ = 1;  // the first is under way
};

/// A seed that differs between processes and calls.
[[nodiscard]] std::uint64_t backoff_seed() noexcept;

/// Whether the outcome may be another one next time: resets, stalls, 5xx, throttling.
[[nodiscard]] bool is_passing(const HttpOutcome& outcome) noexcept;
/// What the answer's Retry-After asks for, in ms; 0 where it does not say.
[[nodiscard]] std::uint32_t retry_after_ms(const HttpAnswer& answer) noexcept;

/// Shorter once it is `stopped`.
void sleep_ms(std::uint32_t ms, const std::atomic<bool>& stopped);

/// Calls `attempt` until its outcome is no passing failure, or the attempts are used up: the last outcome.
/// Once it is `stopped` nothing is waited for; that the attempts end then is theirs to see to.
template <class Attempt>
[[nodiscard]] HttpOutcome with_retries(Backoff& backoff, const std::atomic<bool>& stopped,
                                       const Attempt& attempt) {
  while (true) {
    HttpOutcome outcome = attempt();
    if (!is_passing(outcome)) return outcome;
    const std::optional<std::uint32_t> delay = backoff.next_delay_ms(retry_after_ms(outcome.answer));
    if (!delay) return outcome;
    sleep_ms(*delay, stopped);
  }
}

/// The error of an outcome after all attempts; says how many they were.
[[nodiscard]] Error given_up(Error error, const HttpOutcome& outcome, const Backoff& backoff);

/// Errors: kInvalid, for limits that allow nothing.
[[nodiscard]] Result<Unit> check_retry(const RetryOptions& options);

}  // namespace loracle
