#include "loracle/sim/bounds.hpp"

#include <algorithm>
#include <cmath>

#include "loracle/core/check.hpp"

namespace loracle {
namespace {

__extension__ using Uint128 = unsigned __int128;  // size x uses between, summed

/// A use that could hit: room per cost saved, and which use began to keep the adapter for it.
struct Hit {
  double price = 0;
  std::uint32_t kept_from = 0;
};

class Bounds {
 public:
  /// `miss_cost` empty: every miss costs 1.
  Bounds(const UseStream& stream, SizeUnit unit, std::span<const std::uint64_t> miss_cost)
      : stream_(stream), unit_(unit), miss_cost_(miss_cost) {
    LORACLE_CHECK(stream.next_use.size() == stream.uses.size());
    LORACLE_CHECK(miss_cost.empty() || miss_cost.size() == stream.rows);
    hits_.reserve(stream.uses.size());
    for (std::uint32_t use = 0; use < stream.uses.size(); ++use) {
      total_ += cost_of(use);
      if (stream.next_use[use] == UseStream::kNoNextUse || cost_of(use) == 0) continue;
      hits_.push_back({static_cast<double>(room_of(use)) / static_cast<double>(cost_of(use)), use});
    }
    std::sort(hits_.begin(), hits_.end(), [](const Hit& a, const Hit& b) {
      return a.price != b.price ? a.price < b.price : a.kept_from < b.kept_from;
    });
  }

  /// What misses cost at the least.
  [[nodiscard]] std::uint64_t at(std::uint64_t capacity) const noexcept {
    Uint128 room = room_in(capacity);
    std::uint64_t saved = 0;
    for (const Hit& hit : hits_) {
      if (size_of(hit.kept_from) > capacity) continue;
      const Uint128 wanted = room_of(hit.kept_from);
      if (wanted > room) {
        if (!miss_cost_.empty()) saved += part_of(cost_of(hit.kept_from), room, wanted);
        break;
      }
      room -= wanted;
      saved += cost_of(hit.kept_from);
    }
    return total_ - saved;
  }

 private:
  [[nodiscard]] std::uint64_t size_of(std::uint64_t use) const noexcept {
    return unit_ == SizeUnit::kObjects ? 1 : stream_.size[index_of(stream_.uses[use])].value;
  }
  /// An adapter costs the same at each of its uses, so it does not matter which one is asked.
  [[nodiscard]] std::uint64_t cost_of(std::uint64_t use) const noexcept {
    return miss_cost_.empty() ? 1 : miss_cost_[index_of(stream_.uses[use])];
  }
  [[nodiscard]] Uint128 room_of(std::uint64_t use) const noexcept {
    return Uint128{size_of(use)} * (stream_.next_use[use] - use);
  }

  /// Rounded up, and never all of it: the bound must not exceed the truth.
  static std::uint64_t part_of(std::uint64_t cost, Uint128 room, Uint128 wanted) noexcept {
    const double part = static_cast<double>(room) / static_cast<double>(wanted);
    const double saved = std::ceil(static_cast<double>(cost) * part);
    return saved < static_cast<double>(cost) ? static_cast<std::uint64_t>(saved) : cost;
  }

  /// After each use, what adapters that were used and will be used again could take of the capacity.
  [[nodiscard]] Uint128 room_in(std::uint64_t capacity) const {
    std::vector<bool> is_wanted(stream_.rows, false);
    std::uint64_t wanted = 0;
    Uint128 room = 0;
    for (std::uint64_t use = 0; use < stream_.uses.size(); ++use) {
      const std::size_t row = index_of(stream_.uses[use]);
      const bool is_last = stream_.next_use[use] == UseStream::kNoNextUse;
      const std::uint64_t size = size_of(use);
      if (size <= capacity && is_wanted[row] == is_last) {
        wanted = is_last ? wanted - size : wanted + size;
        is_wanted[row] = !is_last;
      }
      room += std::min(wanted, capacity);
    }
    return room;
  }

  const UseStream& stream_;
  SizeUnit unit_;
  std::span<const std::uint64_t> miss_cost_;
  std::vector<Hit> hits_;  // the cheapest first
  std::uint64_t total_ = 0;
};

std::vector<std::uint64_t> bounds_at(const Bounds& bounds, std::span<const std::uint64_t> capacities) {
  std::vector<std::uint64_t> at;
  at.reserve(capacities.size());
  for (const std::uint64_t capacity : capacities) at.push_back(bounds.at(capacity));
  return at;
}

}  // namespace

std::vector<std::uint64_t> miss_bounds(const UseStream& stream, SizeUnit unit,
                                       std::span<const std::uint64_t> capacities) {
  return bounds_at(Bounds(stream, unit, {}), capacities);
}

std::vector<std::uint64_t> cost_bounds(const UseStream& stream, SizeUnit unit,
                                       std::span<const std::uint64_t> miss_cost,
                                       std::span<const std::uint64_t> capacities) {
  // No costs at all would read as one a miss.
  if (stream.uses.empty()) return std::vector<std::uint64_t>(capacities.size(), 0);
  return bounds_at(Bounds(stream, unit, miss_cost), capacities);
}

}  // namespace loracle
