#pragma once
/// A policy as a person writes it: `lru`, `slru:segments=2`, `chameleon:frequency=0.45:size=-0.45`.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "loracle/core/result.hpp"

namespace loracle {

struct PolicySpec {
  std::string name;  // canonical: aliases are resolved ("twoq" is "2q", "beladySize" is "belady-size")
  std::vector<std::pair<std::string, std::string>> parameters;  // as written, in order
};

/// Splits and checks the name. Errors: kNotFound (unknown name; names the nearest), kInvalid (no `=` in a
/// parameter).
[[nodiscard]] Result<PolicySpec> parse_policy_spec(std::string_view text);

/// One policy a tier.
struct TierPolicies {
  PolicySpec device;
  PolicySpec host;
};
/// `device/host`; one name means both. Errors: those of parse_policy_spec; kInvalid (more than one slash).
[[nodiscard]] Result<TierPolicies> parse_tier_policies(std::string_view text);

/// The names `parse_policy_spec` accepts, in the order help prints them.
[[nodiscard]] std::span<const std::string_view> policy_names() noexcept;

/// True if the policy must be told the future, which only a replay knows. REQUIRES: from parse_policy_spec.
[[nodiscard]] bool is_clairvoyant(const PolicySpec& spec) noexcept;

namespace detail {
[[nodiscard]] Result<Unit> parse_parameter(std::string_view policy, std::string_view key,
                                           std::string_view text, double& out);
[[nodiscard]] Result<Unit> parse_parameter(std::string_view policy, std::string_view key,
                                           std::string_view text, std::uint64_t& out);
[[nodiscard]] Result<Unit> parse_parameter(std::string_view policy, std::string_view key,
                                           std::string_view text, bool& out);
[[nodiscard]] tl::unexpected<Error> unknown_parameter(std::string_view policy, std::string_view key,
                                                      std::span<const std::string_view> known);
}  // namespace detail

/// The Config of policy P with the spec's parameters set. Errors: kInvalid (unknown parameter, or not a
/// number).
template <class P>
[[nodiscard]] Result<typename P::Config> configure(const PolicySpec& spec) {
  typename P::Config config{};
  for (const auto& parameter : spec.parameters) {
    const std::string& key = parameter.first;
    const std::string& text = parameter.second;
    bool found = false;
    Result<Unit> parsed = Unit{};
    std::vector<std::string_view> known;
    config.visit([&](std::string_view name, auto& field) {
      known.push_back(name);
      if (name != key) return;
      found = true;
      parsed = detail::parse_parameter(spec.name, name, text, field);
    });
    if (!found) return detail::unknown_parameter(spec.name, key, known);
    if (!parsed) return fail(std::move(parsed.error()));
  }
  return config;
}

}  // namespace loracle
