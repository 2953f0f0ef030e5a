#include "loracle/policy/policy_spec.hpp"

#include <array>
#include <charconv>
#include <cmath>

#include "loracle/core/nearest.hpp"

namespace loracle {
namespace {

constexpr std::array<std::string_view, 23> kNames = {
    "lru",        "fifo",      "clock",     "sieve",  "s3fifo",   "slru",   "2q",         "arc",
    "car",        "lirs",      "lfu",       "lfuda",  "wtinylfu", "gdsf",   "greedydual", "lhd",
    "hyperbolic", "chameleon", "fastlibra", "random", "size",     "belady", "belady-size"};

struct Alias {
  std::string_view written;
  std::string_view canonical;
};
constexpr std::array<Alias, 7> kAliases = {{{"twoq", "2q"},
                                            {"s3-fifo", "s3fifo"},
                                            {"beladySize", "belady-size"},
                                            {"beladysize", "belady-size"},
                                            {"w-tinylfu", "wtinylfu"},
                                            {"greedy-dual", "greedydual"},
                                            {"opt", "belady"}}};

tl::unexpected<Error> not_a_value(std::string_view policy, std::string_view key, std::string_view text,
                                  std::string_view wanted) {
  return fail(Errc::kInvalid, std::string(policy) + ": parameter '" + std::string(key) + "' is '" +
                                  std::string(text) + "': write " + std::string(wanted));
}

template <class Number>
bool parse_whole(std::string_view text, Number& out) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  return error == std::errc{} && end == text.data() + text.size();
}

}  // namespace

Result<TierPolicies> parse_tier_policies(std::string_view text) {
  const std::size_t slash = text.find('/');
  if (slash != std::string_view::npos && text.find('/', slash + 1) != std::string_view::npos)
    return fail(Errc::kInvalid,
                "policies '" + std::string(text) + "': write device/host, for example sieve/gdsf");
  Result<PolicySpec> device = parse_policy_spec(text.substr(0, slash));
  if (!device) return fail(std::move(device.error()));
  Result<PolicySpec> host =
      slash == std::string_view::npos ? device : parse_policy_spec(text.substr(slash + 1));
  if (!host) return fail(std::move(host.error()));
  return TierPolicies{std::move(*device), std::move(*host)};
}

std::span<const std::string_view> policy_names() noexcept { return kNames; }

Result<PolicySpec> parse_policy_spec(std::string_view text) {
  PolicySpec spec;
  const std::size_t name_end = text.find(':');
  std::string_view name = text.substr(0, name_end);
  for (const Alias& alias : kAliases)
    if (name == alias.written) name = alias.canonical;
  bool known = false;
  for (const std::string_view candidate : kNames) known = known || candidate == name;
  if (!known) return fail(Errc::kNotFound, unknown_name_message("policy", name, kNames));
  spec.name = name;
  while (text.find(':') != std::string_view::npos) {
    text.remove_prefix(text.find(':') + 1);
    const std::string_view parameter = text.substr(0, text.find(':'));
    const std::size_t equals = parameter.find('=');
    if (equals == std::string_view::npos || equals == 0)
      return fail(Errc::kInvalid, spec.name + ": '" + std::string(parameter) +
                                      "' is not a parameter: write " + spec.name + ":name=value");
    spec.parameters.emplace_back(parameter.substr(0, equals), parameter.substr(equals + 1));
  }
  return spec;
}

namespace detail {

Result<Unit> parse_parameter(std::string_view policy, std::string_view key, std::string_view text,
                             double& out) {
  if (!parse_whole(text, out) || !std::isfinite(out))
    return not_a_value(policy, key, text, "a finite number");
  return Unit{};
}

Result<Unit> parse_parameter(std::string_view policy, std::string_view key, std::string_view text,
                             std::uint64_t& out) {
  if (!parse_whole(text, out)) return not_a_value(policy, key, text, "a whole number, 0 or more");
  return Unit{};
}

Result<Unit> parse_parameter(std::string_view policy, std::string_view key, std::string_view text,
                             bool& out) {
  if (text != "true" && text != "false" && text != "1" && text != "0")
    return not_a_value(policy, key, text, "true or false");
  out = text == "true" || text == "1";
  return Unit{};
}

tl::unexpected<Error> unknown_parameter(std::string_view policy, std::string_view key,
                                        std::span<const std::string_view> known) {
  if (known.empty())
    return fail(Errc::kInvalid,
                std::string(policy) + " has no parameters; '" + std::string(key) + "' was given");
  return fail(Errc::kInvalid, std::string(policy) + ": " + unknown_name_message("parameter", key, known));
}

}  // namespace detail
}  // namespace loracle
