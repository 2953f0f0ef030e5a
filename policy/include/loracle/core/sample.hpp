#pragma once
/// Victims by score when the score changes with time, so that no order can be kept: compare all members, or a
/// random few. What a random few miss is known: the victim is, with probability 1 - (1 - q)^samples, among
/// the worst fraction q (64 samples: 96 % within the worst 5 %).
/// Cost: O(min(size, scan_max)) or O(samples); O(size) where all that was drawn is blocked. No allocation.
/// Source: Psounis and Prabhakar, "A randomized Web-cache replacement scheme", INFOCOM 2001.

#include <cstdint>
#include <span>

#include "loracle/core/dense_map.hpp"
#include "loracle/core/rng.hpp"
#include "loracle/core/units.hpp"

namespace loracle {

struct Sampling {
  std::uint64_t samples = 64;   // members drawn, with replacement
  std::uint64_t scan_max = 64;  // up to so many members, all are compared and nothing is drawn
};

/// Calls visit(member) for each candidate the guard does not block: all members, or those drawn.
template <class T, class Guard, class Visit>
void for_each_candidate(const DenseMap<T>& map, const Sampling& sampling, Rng& rng, const Guard& guard,
                        Visit&& visit) noexcept {
  const std::span<const typename DenseMap<T>::Member> members = map.members();
  bool any = false;
  if (members.size() > sampling.scan_max) {
    for (std::uint64_t i = 0; i < sampling.samples; ++i) {
      const auto& member = members[rng.below(map.size())];
      if (guard.blocks(member.row)) continue;
      any = true;
      visit(member);
    }
  }
  if (any) return;
  for (const auto& member : members)
    if (!guard.blocks(member.row)) visit(member);
}

/// The candidate of least score(value, row), the first one found where scores are equal; kNoRow if all are
/// blocked. Scores are finite.
template <class T, class Guard, class Score>
[[nodiscard]] Row least_candidate(const DenseMap<T>& map, const Sampling& sampling, Rng& rng,
                                  const Guard& guard, Score&& score) noexcept {
  Row least = kNoRow;
  double least_score = 0;
  for_each_candidate(map, sampling, rng, guard, [&](const typename DenseMap<T>::Member& member) {
    const double candidate = score(member.value, member.row);
    if (least != kNoRow && candidate >= least_score) return;
    least = member.row;
    least_score = candidate;
  });
  return least;
}

}  // namespace loracle
