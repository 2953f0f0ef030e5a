#pragma once
/// Every policy by name: the bridge from a `PolicySpec` to a type. Includes all policies; include it only
/// where a name has to become a policy.

#include <cstdint>
#include <tuple>
#include <type_traits>
#include <utility>

#include "loracle/core/check.hpp"
#include "loracle/policy/any_policy.hpp"
#include "loracle/policy/arc.hpp"
#include "loracle/policy/belady.hpp"
#include "loracle/policy/belady_size.hpp"
#include "loracle/policy/car.hpp"
#include "loracle/policy/chameleon.hpp"
#include "loracle/policy/clock.hpp"
#include "loracle/policy/fast_libra.hpp"
#include "loracle/policy/fifo.hpp"
#include "loracle/policy/gdsf.hpp"
#include "loracle/policy/greedy_dual.hpp"
#include "loracle/policy/hyperbolic.hpp"
#include "loracle/policy/lfu.hpp"
#include "loracle/policy/lfuda.hpp"
#include "loracle/policy/lhd.hpp"
#include "loracle/policy/lirs.hpp"
#include "loracle/policy/lru.hpp"
#include "loracle/policy/policy_spec.hpp"
#include "loracle/policy/random.hpp"
#include "loracle/policy/s3_fifo.hpp"
#include "loracle/policy/sieve.hpp"
#include "loracle/policy/size.hpp"
#include "loracle/policy/slru.hpp"
#include "loracle/policy/two_q.hpp"
#include "loracle/policy/w_tiny_lfu.hpp"

namespace loracle {

/// All policies, in the order of policy_names().
using AllPolicies =
    std::tuple<Lru, Fifo, Clock, Sieve, S3Fifo, Slru, TwoQ, Arc, Car, Lirs, Lfu, Lfuda, WTinyLfu, Gdsf,
               GreedyDual, Lhd, Hyperbolic, Chameleon, FastLibra, Random, LargestFirst, Belady, BeladySize>;

/// Calls visitor(std::type_identity<P>{}, config) for the policy the spec names; the visitor's Result is
/// returned. Errors: those of configure(). REQUIRES: the spec came from parse_policy_spec.
template <class R, class Visitor>
[[nodiscard]] Result<R> with_policy(const PolicySpec& spec, Visitor&& visitor) {
  Result<R> result = fail(Errc::kNotFound, "no policy is called '" + spec.name + "'");
  const auto attempt = [&]<class P>(std::type_identity<P> type) {
    if (P::kName != spec.name) return false;
    Result<typename P::Config> config = configure<P>(spec);
    if (config)
      result = visitor(type, *config);
    else
      result = fail(std::move(config.error()));
    return true;
  };
  [&]<class... P>(std::type_identity<std::tuple<P...>>) {
    static_cast<void>((attempt(std::type_identity<P>{}) || ...));
  }(std::type_identity<AllPolicies>{});
  return result;
}

/// A policy chosen at run time, built for `rows` adapters in a tier of `capacity`.
[[nodiscard]] Result<AnyPolicy> make_any_policy(const PolicySpec& spec, std::uint32_t rows,
                                                Capacity capacity);

}  // namespace loracle
