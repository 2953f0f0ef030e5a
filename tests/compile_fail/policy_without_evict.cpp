// If the bad half compiled, a policy that cannot choose a victim would be taken for one, and the mistake
// would surface deep inside a template instead of at its own static_assert. The halves differ in `evict`
// alone.

#include <cstdint>
#include <string_view>

#include "loracle/policy/eviction_policy.hpp"

namespace loracle {

class Forgetful {
 public:
  using Config = NoConfig;
  static constexpr std::string_view kName = "forgetful";
  static constexpr bool kClairvoyant = false;

  Forgetful(std::uint32_t, Capacity, const Config&) {}

  [[nodiscard]] bool contains(Row) const noexcept { return false; }
  [[nodiscard]] bool admit(Row, Tick, const AdapterTable&) noexcept { return false; }
  void on_insert(Row, Tick, const AdapterTable&) noexcept {}
  void on_access(Row, Tick, const AdapterTable&) noexcept {}
  void on_remove(Row) noexcept {}

#ifndef LORACLE_BAD_HALF
  template <class Guard>
  [[nodiscard]] Row evict(Row incoming, Tick, const AdapterTable&, const Guard&) noexcept {
    return incoming;
  }
#endif
};
static_assert(EvictionPolicy<Forgetful>);

}  // namespace loracle
