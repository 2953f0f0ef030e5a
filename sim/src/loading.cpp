#include "loading.hpp"

#include <fmt/format.h>

#include "loracle/policy/policy_spec.hpp"
#include "loracle/sim/tier_replay.hpp"

namespace loracle::detail {

Result<Unit> check_channels(const LoadChannel& disk, const LoadChannel& slot) {
  for (const LoadChannel& way : {disk, slot})
    if (!(way.latency_s >= 0 && way.bytes_per_s > 0))
      return fail(Errc::kInvalid, "a load takes 0 seconds or more, at more than 0 bytes a second");
  return Unit{};
}

Result<TierPolicies> policies_in_time(const TierOptions& options) {
  if (options.tiers == "vllm")
    return fail(Errc::kInvalid, "vllm's own cache knows no leases: take lru/lru with loads that stall");
  Result<TierPolicies> policies = parse_tier_policies(options.tiers);
  if (!policies) return policies;
  for (const PolicySpec& policy : {policies->device, policies->host})
    if (is_clairvoyant(policy))
      return fail(Errc::kInvalid,
                  fmt::format("policy {}: knows the order of arrivals, not that of starts", policy.name));
  return policies;
}

WaitTimes times_of(std::span<float> waits) {
  WaitTimes times;
  if (waits.empty()) return times;
  double sum = 0;
  for (const float wait : waits) sum += static_cast<double>(wait);
  times.mean = sum / static_cast<double>(waits.size());
  // Often most have not waited: those are in order as they are. What lies before one quantile need not be
  // looked at for the next.
  auto begin = std::partition(waits.begin(), waits.end(), [](float wait) { return !(wait > 0); });
  const auto quantile = [waits, &begin](double share) {
    const auto place =
        waits.begin() + static_cast<std::ptrdiff_t>(share * static_cast<double>(waits.size() - 1));
    if (place < begin) return 0.0;
    std::nth_element(begin, place, waits.end());
    begin = place;
    return static_cast<double>(*place);
  };
  times.p50 = quantile(0.5);
  times.p99 = quantile(0.99);
  times.max = begin == waits.end() ? 0.0 : static_cast<double>(*std::max_element(begin, waits.end()));
  return times;
}

}  // namespace loracle::detail
