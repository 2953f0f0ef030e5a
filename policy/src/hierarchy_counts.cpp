#include "loracle/policy/hierarchy.hpp"

namespace loracle {

HierarchyCounts since(HierarchyCounts now, const HierarchyCounts& before) noexcept {
  for (const NamedCount& named : kTwoTierCounts) now.*named.count -= before.*named.count;
  for (const NamedCount& named : kDiskTierCounts) now.*named.count -= before.*named.count;
  return now;
}

}  // namespace loracle
