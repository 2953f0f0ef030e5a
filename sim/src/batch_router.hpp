#pragma once
/// Chooses the replica of a request (Router in batch_sim.hpp). Replicas must be advanced to the request's
/// arrival unless the router is kRoundRobin. O(replicas), with consistent hashing also O(log points).
/// Threads: one owner.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "loracle/core/rng.hpp"
#include "loracle/sim/batch_sim.hpp"

namespace loracle::detail {

/// R has `outstanding()` and `has(Row)`, as BatchReplica.
template <class R>
class BatchRouter {
 public:
  explicit BatchRouter(const BatchOptions& options)
      : router_(options.router), replicas_(options.replicas), load_bound_(options.load_bound) {
    if (router_ == Router::kConsistentHash) make_ring();
  }

  /// `replica(i)` is the i-th.
  template <class ReplicaAt>
  [[nodiscard]] std::uint32_t choose(std::span<const Row> rows, const ReplicaAt& replica) {
    if (replicas_ == 1) return 0;
    if (router_ == Router::kRoundRobin) return std::exchange(next_, (next_ + 1) % replicas_);
    std::uint64_t total = 0;
    for (std::uint32_t i = 0; i < replicas_; ++i) total += replica(i).outstanding();
    const double mean = static_cast<double>(total + 1) / static_cast<double>(replicas_);
    outstanding_max_ = static_cast<std::uint64_t>(std::ceil(load_bound_ * mean));
    if (router_ == Router::kLeastLoaded || rows.empty()) return least_loaded(replica, {});
    if (router_ == Router::kConsistentHash) return on_ring(rows.front(), replica);
    const std::uint32_t with_adapters = least_loaded(replica, rows);
    return with_adapters != replicas_ ? with_adapters : least_loaded(replica, {});
  }

 private:
  static constexpr std::uint32_t kPointsEach = 64;

  struct Point {
    std::uint64_t at = 0;
    std::uint32_t replica = 0;
  };

  static std::uint64_t hash_of(std::uint64_t what, std::uint64_t of) noexcept {
    std::uint64_t state = what << 32U | of;
    return splitmix64(state);
  }

  void make_ring() {
    for (std::uint32_t replica = 0; replica < replicas_; ++replica)
      for (std::uint32_t i = 0; i < kPointsEach; ++i)
        ring_.push_back({hash_of(std::uint64_t{replica} + 1, i), replica});
    std::sort(ring_.begin(), ring_.end(), [](const Point& a, const Point& b) { return a.at < b.at; });
  }

  template <class Replica>
  [[nodiscard]] bool has_room(const Replica& one) const noexcept {
    return one.outstanding() < outstanding_max_;
  }

  /// Of all; or of those that have the rows and are not overloaded: replicas_ if there is none.
  template <class ReplicaAt>
  [[nodiscard]] std::uint32_t least_loaded(const ReplicaAt& replica, std::span<const Row> rows) const {
    std::uint32_t best = replicas_;
    for (std::uint32_t i = 0; i < replicas_; ++i) {
      const R& one = replica(i);
      const bool may = rows.empty() || (has_room(one) && std::all_of(rows.begin(), rows.end(),
                                                                     [&](Row row) { return one.has(row); }));
      if (may && (best == replicas_ || one.outstanding() < replica(best).outstanding())) best = i;
    }
    return best;
  }

  /// Somebody has room: the bound is at least the mean, rounded up.
  template <class ReplicaAt>
  [[nodiscard]] std::uint32_t on_ring(Row row, const ReplicaAt& replica) const {
    const auto first = std::lower_bound(ring_.begin(), ring_.end(), hash_of(0, index_of(row)),
                                        [](const Point& point, std::uint64_t at) { return point.at < at; });
    auto place = static_cast<std::size_t>(first - ring_.begin()) % ring_.size();
    while (!has_room(replica(ring_[place].replica))) place = (place + 1) % ring_.size();
    return ring_[place].replica;
  }

  Router router_;
  std::uint32_t replicas_;
  double load_bound_;
  std::uint32_t next_ = 0;
  std::uint64_t outstanding_max_ = 0;  // beyond which one more overloads
  std::vector<Point> ring_;            // sorted
};

}  // namespace loracle::detail
