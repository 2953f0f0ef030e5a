/// LRU at a few sizes at once: what an LRU cache holds is the rows last used at or after some moment, its
/// boundary. A use whose row was last used before the boundary is a miss, and moves the boundary up to drop
/// the oldest rows. Boundaries are ordered as the sizes are (the larger cache holds all that the smaller
/// does), so a use is compared with them from the smallest size on until the first hit.
/// A set bit of `live` marks a time that is some row's last use. Stepping a boundary finds the next set bit,
/// so it walks a bitmap forwards; in a linked list of rows each step is a jump through memory (measured: 2.4
/// times slower).

#include <bit>

#include "curves_vectors.hpp"
#include "loracle/core/check.hpp"

namespace loracle {
namespace {

using Time = std::uint32_t;  // the 1-based index of a use; 0: never

constexpr std::size_t kAheadTime = 32;  // uses between the prefetch of a row's last time and its use
constexpr std::size_t kAheadLive = 16;  // the same for that time's word of `live`

/// When each row was last used, and which times those are.
class Recency {
 public:
  explicit Recency(const UseStream& stream)
      : uses_(stream.uses.view()), last_(stream.rows, 0), live_(uses_.size() / 64 + 1, 0) {
    LORACLE_CHECK(uses_.size() < std::numeric_limits<Time>::max());
  }

  /// Records the use at `now` (1-based); answers when its row was used before, 0 if never.
  [[nodiscard]] Time use(Time now) noexcept {
    const std::size_t i = now - 1U;
    __builtin_prefetch(&last_[row_ahead(uses_, i, kAheadTime)], 1);
    __builtin_prefetch(&live_[last_[row_ahead(uses_, i, kAheadLive)] / 64U], 1);
    Time& last = last_[index_of(uses_[i])];
    const Time before = last;
    last = now;
    live_[before / 64U] &= ~(std::uint64_t{1} << (before % 64U));
    live_[now / 64U] |= std::uint64_t{1} << (now % 64U);
    return before;
  }

  /// The first time at or after `from` that is some row's last use. REQUIRES: there is one.
  [[nodiscard]] Time next_live(Time from) const noexcept {
    std::size_t word = from / 64U;
    std::uint64_t bits = live_[word] & (~std::uint64_t{0} << (from % 64U));
    while (bits == 0) bits = live_[++word];
    return static_cast<Time>(word * 64 + static_cast<std::size_t>(std::countr_zero(bits)));
  }

 private:
  std::span<const Row> uses_;
  std::vector<Time> last_;           // [rows]
  std::vector<std::uint64_t> live_;  // [uses / 64 + 1] bit t
};

}  // namespace

std::vector<std::uint64_t> lru_misses_at(const UseStream& stream, std::span<const std::uint64_t> entries) {
  const std::vector<std::size_t> order = ascending_order(entries);
  const std::size_t sizes = order.size();
  std::vector<Time> boundary(sizes + 1, 0);  // the last one is never passed
  std::vector<std::uint64_t> missed_first(sizes + 1,
                                          0);  // [n] uses that evicted in exactly the n smallest caches
  std::uint64_t distinct = 0;
  std::size_t full = 0;  // caches that hold their number of entries, or more than that is wanted of them
  const auto fill = [&] {
    for (; full < sizes && entries[order[full]] <= distinct; ++full) boundary[full] = 1;
  };
  fill();
  Recency recency(stream);
  const Time uses = static_cast<Time>(stream.uses.size());
  for (Time now = 1; now <= uses; ++now) {
    const Time before = recency.use(now);
    std::size_t missed = 0;
    for (; boundary[missed] > before; ++missed) boundary[missed] = recency.next_live(boundary[missed]) + 1U;
    ++missed_first[missed];
    if (before == 0) {
      ++distinct;
      fill();
    }
  }
  std::vector<std::uint64_t> result(sizes, 0);
  std::uint64_t evictions = 0;
  for (std::size_t k = sizes; k-- > 0;) {
    evictions += missed_first[k + 1];
    result[order[k]] =
        evictions + std::min(entries[order[k]], distinct);  // a miss evicts, or fills free space
  }
  return result;
}

}  // namespace loracle
