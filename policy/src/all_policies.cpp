#include "loracle/policy/all_policies.hpp"

namespace loracle {

Result<AnyPolicy> make_any_policy(const PolicySpec& spec, std::uint32_t rows, Capacity capacity) {
  return with_policy<AnyPolicy>(spec, [&]<class P>(std::type_identity<P>, const typename P::Config& config) {
    return Result<AnyPolicy>(AnyPolicy(P(rows, capacity, config)));
  });
}

}  // namespace loracle
