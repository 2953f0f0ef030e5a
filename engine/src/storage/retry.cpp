#include "storage/retry.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <chrono>
#include <thread>

namespace loracle {
namespace {

constexpr std::uint64_t kProgressBytes = 1U << 20U;
constexpr std::uint32_t kSleepSliceMs = 100;

}  // namespace

std::optional<std::uint32_t> Backoff::next_delay_ms(std::uint32_t at_least_ms) noexcept {
  if (attempts_ >= options_.attempts_max) return std::nullopt;
  const unsigned doublings = std::min(attempts_ - 1, 20U);
  const auto cap =
      std::min<std::uint64_t>(std::uint64_t{options_.first_delay_ms} << doublings, options_.delay_ms_max);
  ++attempts_;
  const std::uint32_t delay = rng_.below(static_cast<std::uint32_t>(cap) + 1);
  return std::max(delay, std::min(at_least_ms, options_.delay_ms_max));
}

void Backoff::progress(std::uint64_t bytes) noexcept {
  if (bytes >= kProgressBytes) attempts_ = 1;
}

std::uint64_t backoff_seed() noexcept {
  static std::atomic<std::uint64_t> calls{0};
  std::uint64_t state =
      static_cast<std::uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count());
  state ^= calls.fetch_add(1, std::memory_order_relaxed) << 40U;
  return splitmix64(state);
}

bool is_passing(const HttpOutcome& outcome) noexcept {
  if (outcome.error) return outcome.may_retry;
  switch (outcome.answer.status) {
    case 408:
    case 429:
    case 500:
    case 502:
    case 503:
    case 504:
      return true;
    case 400:  // S3's word for a request that came too slowly
      return outcome.answer.body.find("<Code>RequestTimeout</Code>") != std::string::npos;
    default:
      return false;
  }
}

std::uint32_t retry_after_ms(const HttpAnswer& answer) noexcept {
  for (const auto& [name, value] : answer.headers) {
    std::uint32_t seconds = 0;
    if (name != "retry-after") continue;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), seconds);
    if (error == std::errc{} && end == value.data() + value.size()) return std::min(seconds, 3'600U) * 1'000U;
  }
  return 0;
}

void sleep_ms(std::uint32_t ms, const std::atomic<bool>& stopped) {
  while (ms > 0 && !stopped) {
    const std::uint32_t slice = std::min(ms, kSleepSliceMs);
    std::this_thread::sleep_for(std::chrono::milliseconds(slice));
    ms -= slice;
  }
}

Error given_up(Error error, const HttpOutcome& outcome, const Backoff& backoff) {
  if (is_passing(outcome) && backoff.attempts() > 1)
    error.message += fmt::format(" (given up after {} attempts)", backoff.attempts());
  return error;
}

Result<Unit> check_retry(const RetryOptions& options) {
  if (options.attempts_max == 0 || options.attempts_max > 100)
    return fail(Errc::kInvalid, "storage: retry.attempts_max must be 1 to 100");
  if (options.delay_ms_max > 3'600'000)
    return fail(Errc::kInvalid, "storage: retry.delay_ms_max must be at most an hour, 3600000");
  return Unit{};
}

}  // namespace loracle
