#pragma once
/// Exact miss counts for many cache sizes in one pass over the uses.
///
/// LRU is a stack algorithm: a use hits in every cache at least as large as its stack distance (the number of
/// distinct adapters used since the last use of this one, itself included), so one histogram of distances is
/// the miss-ratio curve for all sizes. By bytes this holds for every capacity that is at least as large as
/// the largest adapter. FIFO is not a stack algorithm, but its state at one size is one counter a row.
///
/// Invariants: 1. Each number equals the replay's at that size. 2. Equal on every processor: `Simd` chooses
/// instructions, never answers. Threads: none; any number of calls may share a stream.
/// Errors: only lru_byte_curve has one. A size of 0 entries is a cache that always misses.
/// Source: Mattson et al., "Evaluation techniques for storage hierarchies", IBM Systems Journal 9(2), 1970;
/// Bennett and Kruskal, "LRU stack processing", IBM Journal of R&D 19(4), 1975 (counting over a compacted
/// time axis).

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "loracle/core/result.hpp"
#include "loracle/core/units.hpp"
#include "loracle/sim/replay.hpp"

namespace loracle {

/// Which instructions the vectorised loops use.
enum class Simd : std::uint8_t {
  kPortable,  // what every processor of this architecture has
  kAvx2,      // x86-64 with AVX2, BMI and POPCNT
  kAvx512,    // the same with AVX-512 F, BW, DQ and VL
};

/// The best this processor (and compiler) can do.
[[nodiscard]] Simd best_simd() noexcept;
[[nodiscard]] std::string_view name_of(Simd simd) noexcept;

/// LRU misses at every number of entries at once.
struct LruCurve {
  std::uint64_t requests = 0;
  std::uint64_t compulsory_misses = 0;          // = distinct adapters used
  std::vector<std::uint64_t> hits_at_distance;  // [distinct + 1] uses whose stack distance is d; [0] = 0
  std::vector<std::uint64_t> misses_at;  // [distinct + 1] by entries, 0 .. distinct; misses_at[0] = requests

  /// Misses of an LRU cache of `entries` adapters; entries may exceed distinct. O(1).
  [[nodiscard]] std::uint64_t misses(std::uint64_t entries) const noexcept;
};

/// O(uses x log32(rows)). Memory: 9 bytes a row; the curve itself is 16 bytes a distinct adapter. A `simd`
/// the processor lacks counts as the best it has.
[[nodiscard]] LruCurve lru_curve(const UseStream& stream, Simd simd = best_simd());

struct ByteCurvePoint {
  Bytes capacity{};
  std::uint64_t misses = 0;
  Bytes bytes_missed{};

  friend bool operator==(const ByteCurvePoint&, const ByteCurvePoint&) noexcept = default;
};

/// LRU at several byte capacities, in any order; the points come in the same order. O(uses x (log16(rows) +
/// log2(capacities))). Memory: 30 bytes a row.
/// Errors: kInvalid if a capacity is below the largest adapter that is used: there LRU is no stack algorithm
/// (what is too large bypasses), so such capacities have to be replayed.
[[nodiscard]] Result<std::vector<ByteCurvePoint>> lru_byte_curve(const UseStream& stream,
                                                                 std::span<const Bytes> capacities,
                                                                 Simd simd = best_simd());

/// LRU misses at several numbers of entries, in any order, by one boundary a size: cheaper than the whole
/// curve for few sizes. O(uses + sum of misses). Memory: 4 bytes a row and a bit a use.
[[nodiscard]] std::vector<std::uint64_t> lru_misses_at(const UseStream& stream,
                                                       std::span<const std::uint64_t> entries);

/// FIFO misses at several numbers of entries, in any order; 16 sizes a pass. Memory: 64 bytes a row. A `simd`
/// the processor lacks counts as the best it has.
[[nodiscard]] std::vector<std::uint64_t> fifo_misses_at(const UseStream& stream,
                                                        std::span<const std::uint64_t> entries,
                                                        Simd simd = best_simd());

}  // namespace loracle
