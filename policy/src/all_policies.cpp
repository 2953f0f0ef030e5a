#include "loracle/policy/all_policies.hpp"

namespace loracle {

bool is_clairvoyant(const PolicySpec& spec) noexcept {
  return []<class... P>(std::string_view name, std::type_identity<std::tuple<P...>>) {
    return ((P::kName == name && P::kClairvoyant) || ...);
  }(spec.name, std::type_identity<AllPolicies>{});
}

Result<AnyPolicy> make_any_policy(const PolicySpec& spec, std::uint32_t rows, Capacity capacity) {
  return with_policy<AnyPolicy>(spec, [&]<class P>(std::type_identity<P>, const typename P::Config& config) {
    return Result<AnyPolicy>(AnyPolicy(P(rows, capacity, config)));
  });
}

}  // namespace loracle
