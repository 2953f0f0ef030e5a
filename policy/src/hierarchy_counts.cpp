#include "loracle/policy/hierarchy.hpp"

namespace loracle {

HierarchyCounts since(HierarchyCounts now, const HierarchyCounts& before) noexcept {
  now.uses -= before.uses;
  now.gpu_hits -= before.gpu_hits;
  now.host_to_device_loads -= before.host_to_device_loads;
  now.disk_loads -= before.disk_loads;
  now.origin_loads -= before.origin_loads;
  now.gpu_evictions -= before.gpu_evictions;
  now.gpu_invalidations -= before.gpu_invalidations;
  now.host_evictions -= before.host_evictions;
  now.disk_evictions -= before.disk_evictions;
  now.refused_requests -= before.refused_requests;
  now.refused_uses -= before.refused_uses;
  return now;
}

}  // namespace loracle
