/// The LRU curve by bytes: as curves_lru.cpp, but a place weighs what its row does. A use hits in a cache of
/// C bytes exactly if the rows used since its row's last use, and that row, weigh at most C together.
/// (Evicting from the old end until the newcomer fits drops a row at the first moment when the rows above it,
/// the newcomer and it exceed C; that weight only grows until its next use. A newcomer larger than C would
/// bypass instead: hence the refusal.) Stepping one boundary a capacity, as curves_markers.cpp does, was 2
/// times slower at 18 capacities: how many rows make room for one newcomer is a branch nobody can predict.

#include <string>

#include "curves_vectors.hpp"
#include "prefix_tree.hpp"

namespace loracle {
namespace {

constexpr std::size_t kGroup = 8;        // places weighed together: one cache line
constexpr std::size_t kAheadPlace = 32;  // uses between the prefetch of a row's place and its use
constexpr std::size_t kAheadGroup = 16;  // the same for that place's group and its node

struct alignas(64) Group {
  std::array<std::uint64_t, kGroup> weight{};  // bytes of the row that holds the place; 0: not held
};

/// kGroup times all ones, then kGroup noughts: read from kGroup - g, it masks the places before g.
constexpr std::array<std::uint64_t, 2 * kGroup> kBefore = [] {
  std::array<std::uint64_t, 2 * kGroup> mask{};
  for (std::size_t i = 0; i < kGroup; ++i) mask[i] = ~std::uint64_t{0};
  return mask;
}();

struct Weighing {
  std::span<const Row> uses;
  std::span<const Bytes> size;                // [rows]
  std::span<const std::uint64_t> capacities;  // ascending, not empty
  std::size_t next = 0;                       // the use to weigh next
  AxisPlace end = 0;                          // the first place never held
  std::uint64_t total = 0;                    // bytes of all rows used so far
  std::uint64_t largest = 0;                  // of them
  std::vector<AxisPlace> place;               // [rows] of the last use, or kNoAxisPlace
  std::vector<std::uint64_t> fits;  // [capacities + 1] uses that fit from that capacity on; last: in none
  std::vector<std::uint64_t> fits_bytes;  // [capacities + 1] the same, in bytes
  AxisPlace places = 0;                   // on the axis, a multiple of kGroup
  std::vector<Row> row_at;                // [places] who took the place
  std::vector<Group> groups;              // [places / kGroup]
  PrefixTree<std::uint64_t> held;         // [places / kGroup] bytes, by group

  Weighing(const UseStream& stream, std::span<const std::uint64_t> ascending, AxisPlace axis)
      : uses(stream.uses.view()),
        size(stream.size),
        capacities(ascending),
        place(stream.rows, kNoAxisPlace),
        fits(ascending.size() + 1, 0),
        fits_bytes(ascending.size() + 1, 0),
        places(axis),
        row_at(axis),
        groups(axis / kGroup),
        held(axis / kGroup) {}

  void open(std::size_t group) noexcept {
    std::uint64_t sum = 0;
    if (group != 0)
      for (const std::uint64_t weight : groups[group - 1].weight) sum += weight;
    held.open(group, sum);
  }

  /// Position of the first capacity that is at least `bytes`; their number if none is. No branch to
  /// mispredict.
  [[nodiscard, gnu::always_inline]] std::size_t first_that_holds(std::uint64_t bytes) const noexcept {
    const std::uint64_t* base = capacities.data();
    std::size_t left = capacities.size();
    while (left > 1) {
      const std::size_t half = left / 2;
      base += base[half - 1] < bytes ? half : 0;
      left -= half;
    }
    return static_cast<std::size_t>(base - capacities.data()) + (*base < bytes ? 1U : 0U);
  }
};

/// Bytes held before `place`.
template <std::size_t kWidth>
[[gnu::always_inline]] inline std::uint64_t weight_before(const Weighing& state, AxisPlace place) noexcept {
  using Vector = typename VectorOf<std::uint64_t, kWidth>::Aligned;
  using Unaligned = typename VectorOf<std::uint64_t, kWidth>::Unaligned;
  constexpr std::size_t kLanes = kWidth / sizeof(std::uint64_t);
  const std::uint64_t* const weight = state.groups[place / kGroup].weight.data();
  const std::uint64_t* const mask = &kBefore[kGroup - place % kGroup];
  Vector sums{};
  for (std::size_t i = 0; i < kGroup; i += kLanes)
    sums += *reinterpret_cast<const Vector*>(weight + i) & *reinterpret_cast<const Unaligned*>(mask + i);
  std::uint64_t sum = state.held.before(place / kGroup);
  for (std::size_t lane = 0; lane < kLanes; ++lane) sum += sums[lane];
  return sum;
}

/// Weighs uses until none are left or the axis is used up.
template <std::size_t kWidth>
[[gnu::always_inline]] inline void weigh_uses(Weighing& state) noexcept {
  const std::span<const Row> uses = state.uses;
  std::size_t i = state.next;
  AxisPlace now = state.end;
  for (; i < uses.size() && now < state.places; ++i, ++now) {
    if (now % kGroup == 0) state.open(now / kGroup);
    const std::size_t far = row_ahead(uses, i, kAheadPlace);
    __builtin_prefetch(&state.place[far], 1);
    __builtin_prefetch(&state.size[far]);
    const AxisPlace soon = std::min(state.place[row_ahead(uses, i, kAheadGroup)], state.places - 1U);
    __builtin_prefetch(&state.groups[soon / kGroup], 1);
    state.held.prefetch(soon / kGroup);
    const Row row = uses[i];
    const std::uint64_t size = state.size[index_of(row)].value;
    AxisPlace& place = state.place[index_of(row)];
    const AxisPlace old = place;
    place = now;
    state.row_at[now] = row;
    std::size_t fits = state.capacities.size();
    if (old == kNoAxisPlace) {
      state.total += size;
      state.largest = std::max(state.largest, size);
    } else {
      fits = state.first_that_holds(state.total - weight_before<kWidth>(state, old));
      state.groups[old / kGroup].weight[old % kGroup] = 0;
      state.held.take<kWidth>(old / kGroup, size);
    }
    ++state.fits[fits];
    state.fits_bytes[fits] += size;
    state.groups[now / kGroup].weight[now % kGroup] = size;
  }
  state.next = i;
  state.end = now;
}

/// Moves the held places to the front of the axis, in order.
void compact(Weighing& state) noexcept {
  AxisPlace kept = 0;
  for (AxisPlace from = 0; from < state.end; ++from) {
    const Row row = state.row_at[from];
    if (state.place[index_of(row)] != from) continue;
    state.place[index_of(row)] = kept;
    state.row_at[kept] = row;
    state.groups[kept / kGroup].weight[kept % kGroup] = state.size[index_of(row)].value;
    ++kept;
  }
  for (AxisPlace gone = kept; gone < state.end; ++gone) state.groups[gone / kGroup].weight[gone % kGroup] = 0;
  state.end = kept;
  for (std::size_t group = 0; group * kGroup < kept; ++group) state.open(group);
}

template <std::size_t kWidth>
[[gnu::always_inline]] inline void weigh_all(Weighing& state) noexcept {
  for (;;) {
    weigh_uses<kWidth>(state);
    if (state.next == state.uses.size()) return;
    compact(state);
  }
}

void weigh_all_portable(Weighing& state) noexcept { weigh_all<16>(state); }
#if defined(__x86_64__)
[[gnu::target(LORACLE_TARGET_AVX2)]] void weigh_all_avx2(Weighing& state) noexcept { weigh_all<32>(state); }
[[gnu::target(LORACLE_TARGET_AVX512)]] void weigh_all_avx512(Weighing& state) noexcept {
  weigh_all<64>(state);
}
#endif

}  // namespace

Result<std::vector<ByteCurvePoint>> lru_byte_curve(const UseStream& stream, std::span<const Bytes> capacities,
                                                   Simd simd) {
  std::vector<ByteCurvePoint> points(capacities.size());
  if (capacities.empty()) return points;
  const std::vector<std::size_t> order = ascending_order(capacities);
  std::vector<std::uint64_t> ascending;
  ascending.reserve(order.size());
  for (const std::size_t k : order) ascending.push_back(capacities[k].value);
  Weighing state(stream, ascending, axis_length(stream.rows, stream.uses.size()));
  if (!state.uses.empty()) {
    switch (usable(simd)) {
#if defined(__x86_64__)
      case Simd::kAvx512:
        weigh_all_avx512(state);
        break;
      case Simd::kAvx2:
        weigh_all_avx2(state);
        break;
#endif
      default:
        weigh_all_portable(state);
        break;
    }
  }
  if (ascending.front() < state.largest) {
    return fail(Errc::kInvalid, "capacity of " + std::to_string(ascending.front()) +
                                    " bytes is below the largest adapter, " + std::to_string(state.largest) +
                                    " bytes: replay that capacity instead");
  }
  std::uint64_t misses = 0;
  std::uint64_t bytes_missed = 0;
  for (std::size_t k = order.size(); k-- > 0;) {
    misses += state.fits[k + 1];
    bytes_missed += state.fits_bytes[k + 1];
    points[order[k]] = {capacities[order[k]], misses, Bytes{bytes_missed}};
  }
  return points;
}

}  // namespace loracle
