#pragma once
/// Draws an index with given weights in O(1): the alias method (Walker 1977; Vose 1991), in integers
/// throughout, so that a table and its draws are equal on every platform.
/// Layout: one 8-byte cell an index, so that a draw touches one cache line. A probability is off by at most
/// 2^-32 of 1/n. Threads: any number may draw, each with its own Rng.

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "loracle/core/check.hpp"
#include "loracle/core/rng.hpp"

namespace loracle {

__extension__ using Uint128 = unsigned __int128;

class AliasTable {
 public:
  /// REQUIRES: 1 .. 2^32 - 1 weights, their sum in 1 .. 2^63.
  explicit AliasTable(std::span<const std::uint64_t> weights) : cells_(weights.size()) {
    LORACLE_CHECK(!weights.empty() && weights.size() <= 0xFFFF'FFFFU);
    const std::uint64_t n = weights.size();
    std::uint64_t total = 0;
    for (const std::uint64_t weight : weights) total += weight;
    LORACLE_CHECK(total > 0 && total <= std::uint64_t{1} << 63U);
    // Every index has weight * n to give, every cell holds `total`: the poor fill up from the rich.
    std::vector<Uint128> left(n);
    std::vector<std::uint32_t> poor;
    std::vector<std::uint32_t> rich;
    for (std::uint32_t i = 0; i < n; ++i) {
      cells_[i] = {0, i};
      left[i] = Uint128{weights[i]} * n;
      (left[i] < total ? poor : rich).push_back(i);
    }
    while (!poor.empty() && !rich.empty()) {
      const std::uint32_t taker = poor.back();
      poor.pop_back();
      const std::uint32_t giver = rich.back();
      cells_[taker] = {static_cast<std::uint32_t>((left[taker] << 32U) / total), giver};
      left[giver] -= total - left[taker];
      if (left[giver] >= total) continue;
      rich.pop_back();
      poor.push_back(giver);
    }
    // The sums are exact, so whoever is left has exactly one cell full: itself, as set above.
  }

  [[nodiscard]] std::uint32_t draw(Rng& rng) const noexcept {
    // The product's high word is the cell, and what is below it is the coin: one random word does both.
    const Uint128 product = Uint128{rng.next()} * cells_.size();
    const auto cell = static_cast<std::uint32_t>(product >> 64U);
    const auto coin = static_cast<std::uint32_t>(static_cast<std::uint64_t>(product) >> 32U);
    return coin < cells_[cell].keep_below ? cell : cells_[cell].alias;
  }

 private:
  struct Cell {  // always read together
    std::uint32_t keep_below;
    std::uint32_t alias;
  };
  std::vector<Cell> cells_;
};

/// Exponential with mean 1, in units of 2^-32 (von Neumann 1951): a run of falling uniforms has odd length
/// with probability e^-u, u its first. About 6 draws, comparisons only: no logarithm whose last bit could
/// differ.
[[nodiscard]] inline std::uint64_t draw_exponential(Rng& rng) noexcept {
  for (std::uint64_t whole = 0;; ++whole) {
    const std::uint64_t first = rng.next() >> 32U;
    std::uint64_t last = first;
    bool odd = true;
    for (std::uint64_t next = rng.next() >> 32U; next < last; next = rng.next() >> 32U) {
      last = next;
      odd = !odd;
    }
    if (odd) return (whole << 32U) | first;
  }
}

}  // namespace loracle
