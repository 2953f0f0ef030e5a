/// FIFO at many sizes: a cache of C entries holds what it inserted last, so a row is resident exactly while
/// fewer than C rows were inserted after it. Per row and size one number suffices: which insertion brought it
/// in.

#include "curves_vectors.hpp"

namespace loracle {
namespace {

constexpr std::size_t kLanes = 16;  // sizes a pass; one cache line a row
constexpr std::size_t kAhead = 24;  // uses between the prefetch of a row's line and its use

struct alignas(64) Lanes {
  std::array<std::uint32_t, kLanes> lane{};
};

/// inserted[row].lane[k]: the number, from 1, of the insertion that last brought the row into cache k; 0:
/// never. Misses equal insertions, and there are fewer than 2^32 of them, so no number wraps.
template <std::size_t kWidth>
[[gnu::always_inline]] inline void fifo_pass(std::span<const Row> uses, Lanes* inserted, const Lanes& sizes,
                                             Lanes& misses) noexcept {
  using Vector = typename VectorOf<std::uint32_t, kWidth>::Aligned;
  constexpr std::size_t kVectors = sizeof(Lanes) / kWidth;
  Vector count[kVectors];
  Vector limit[kVectors];
  for (std::size_t v = 0; v < kVectors; ++v) {
    count[v] = Vector{};
    limit[v] = reinterpret_cast<const Vector*>(&sizes)[v];
  }
  for (std::size_t i = 0; i < uses.size(); ++i) {
    __builtin_prefetch(&inserted[row_ahead(uses, i, kAhead)], 1);
    Vector* const mine = reinterpret_cast<Vector*>(&inserted[index_of(uses[i])]);
    for (std::size_t v = 0; v < kVectors; ++v) {
      const Vector number = mine[v];
      const Vector miss = reinterpret_cast<Vector>((count[v] - number >= limit[v]) | (number == 0));
      count[v] -= miss;  // a lane that missed is all ones: minus one
      mine[v] = (count[v] & miss) | (number & ~miss);
    }
  }
  for (std::size_t v = 0; v < kVectors; ++v) reinterpret_cast<Vector*>(&misses)[v] = count[v];
}

void fifo_pass_portable(std::span<const Row> uses, Lanes* inserted, const Lanes& sizes,
                        Lanes& misses) noexcept {
  fifo_pass<16>(uses, inserted, sizes, misses);
}
#if defined(__x86_64__)
[[gnu::target(LORACLE_TARGET_AVX2)]] void fifo_pass_avx2(std::span<const Row> uses, Lanes* inserted,
                                                         const Lanes& sizes, Lanes& misses) noexcept {
  fifo_pass<32>(uses, inserted, sizes, misses);
}
[[gnu::target(LORACLE_TARGET_AVX512)]] void fifo_pass_avx512(std::span<const Row> uses, Lanes* inserted,
                                                             const Lanes& sizes, Lanes& misses) noexcept {
  fifo_pass<64>(uses, inserted, sizes, misses);
}
#endif

}  // namespace

std::vector<std::uint64_t> fifo_misses_at(const UseStream& stream, std::span<const std::uint64_t> entries,
                                          Simd simd) {
  std::vector<std::uint64_t> result(entries.size(), 0);
  const std::span<const Row> uses = stream.uses.view();
  if (uses.empty()) return result;
  for (std::size_t begin = 0; begin < entries.size(); begin += kLanes) {
    const std::size_t lanes = std::min(kLanes, entries.size() - begin);
    Lanes sizes;
    Lanes misses;
    for (std::size_t k = 0; k < lanes; ++k)  // a cache that holds every row is as good as a larger one
      sizes.lane[k] = static_cast<std::uint32_t>(std::min<std::uint64_t>(entries[begin + k], stream.rows));
    std::vector<Lanes> inserted(stream.rows);
    switch (usable(simd)) {
#if defined(__x86_64__)
      case Simd::kAvx512:
        fifo_pass_avx512(uses, inserted.data(), sizes, misses);
        break;
      case Simd::kAvx2:
        fifo_pass_avx2(uses, inserted.data(), sizes, misses);
        break;
#endif
      default:
        fifo_pass_portable(uses, inserted.data(), sizes, misses);
        break;
    }
    for (std::size_t k = 0; k < lanes; ++k) result[begin + k] = misses.lane[k];
  }
  return result;
}

}  // namespace loracle
