#pragma once
/// The facts a policy may ask about adapters: one column a fact, indexed by row. Filled by whoever drives the
/// policies (replay, hierarchy, engine); policies only read it. Allocated once, by its owner.
/// An empty column means the fact is the same for all: size 1, reload cost 1, next use unknown (kNever).

#include <cstdint>
#include <vector>

#include "loracle/core/units.hpp"

namespace loracle {

struct AdapterTable {
  std::vector<Bytes> size;         // [rows] or empty: bytes in the tier; 1 where objects are counted
  std::vector<float> reload_cost;  // [rows] or empty: cost to bring it back, any one unit (seconds, say)
  std::vector<Tick> next_use;      // [rows] or empty: tick of the next use, for clairvoyant policies

  [[nodiscard]] Bytes size_of(Row row) const noexcept {
    return size.empty() ? Bytes{1} : size[index_of(row)];
  }
  [[nodiscard]] float reload_cost_of(Row row) const noexcept {
    return reload_cost.empty() ? 1.0F : reload_cost[index_of(row)];
  }
  [[nodiscard]] Tick next_use_of(Row row) const noexcept {
    return next_use.empty() ? kNever : next_use[index_of(row)];
  }
};

}  // namespace loracle
