#pragma once
/// What no policy can beat: lower bounds on misses, and on what misses cost, also where sizes differ.
///
/// Belady's rule is optimal where all adapters weigh and cost the same; else finding the optimum is NP-hard,
/// and this bound (PFOO-L) stands in for it. A hit needs its adapter kept from the last use to this one. That
/// takes room: its size x the uses from one to the other. A cache has capacity x uses of it. Whoever may
/// spend so much, but at any moment, buys the hits that are cheapest for what they save until it is all
/// spent; no cache that must keep to its capacity at every moment does better.
/// Invariants: 1. No replay at this capacity misses less or pays less, whatever its policy knows or refuses;
/// nor does a tier that serves batches and refuses none. 2. Never below the compulsory misses, nor above
/// everything. 3. A larger capacity has no larger bound.
/// Capacities are adapters (kObjects) or bytes (kBytes), in any order; the bounds come in the same order. 0
/// holds nothing; an adapter that is larger than the capacity always misses.
/// Cost: O(uses x (log(uses) + capacities)). Memory: 16 bytes a use. Threads: none; any may share a stream.
/// REQUIRES: next uses are known (compute_next_uses). Errors: none.
/// Source: Berger, Beckmann, Harchol-Balter, "Practical Bounds on Optimal Caching with Variable Object
/// Sizes", Proc. ACM Meas. Anal. Comput. Syst. 2(2), 2018 (PFOO-L). Differences: room that nothing could
/// take, because too few adapters have been used yet or will be used again, is not counted; of the hit that
/// the last room is too small for, costs count the part that fits, misses nothing.

#include <cstdint>
#include <span>
#include <vector>

#include "loracle/sim/replay.hpp"

namespace loracle {

[[nodiscard]] std::vector<std::uint64_t> miss_bounds(const UseStream& stream, SizeUnit unit,
                                                     std::span<const std::uint64_t> capacities);

/// Of what all misses cost together. `miss_cost`: [rows], of one miss: its bytes, its nanoseconds.
/// REQUIRES: all uses together cost less than 2^64.
[[nodiscard]] std::vector<std::uint64_t> cost_bounds(const UseStream& stream, SizeUnit unit,
                                                     std::span<const std::uint64_t> miss_cost,
                                                     std::span<const std::uint64_t> capacities);

}  // namespace loracle
