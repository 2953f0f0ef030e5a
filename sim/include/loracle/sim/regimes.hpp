#pragma once
/// Where the popularity of adapters changes: a trace cut into regimes.
///
/// Uses within a regime are alike, so figures of one trace are as uncertain as its regimes are few, however
/// many its requests (confidence.hpp). Found from the bottom up: each stretch begins as a regime of its own;
/// of all neighbours the two whose adapters differ least are made one, again and again, until all that are
/// left differ by more than chance. Rows are counted in 32 groups by a fixed hash. Two neighbours differ by
/// the likelihood ratio of two multinomials, a chi-square variable where they are alike; the threshold is
/// the level that no two of all pairs of neighbouring spans exceed by chance, but in 1 % of traces.
/// So a change is found if it is a large one, or lasts for many requests: over 200 adapters, Zipf 0.9 dealt
/// out anew, some 500 requests. Bursts of requests for one adapter can pass for changes; changes of the
/// rate alone are not looked for (block_interval looks at what they do).
/// Deterministic. O(uses + stretches^2). Memory: about 150 bytes a stretch. Threads: none. Errors: none.
/// Sources: Keogh, Chu, Hart, Pazzani, "An online algorithm for segmenting time series", ICDM 2001 (bottom
/// up); Laurent, Massart, "Adaptive estimation of a quadratic functional by model selection", Annals of
/// Statistics 28(5), 2000, lemma 1 (the tail of chi-square).

#include <cstdint>
#include <vector>

#include "loracle/sim/tier_replay.hpp"

namespace loracle {

struct Regimes {
  std::uint32_t stretches = 0;       // 0: too few requests to look
  std::vector<std::uint32_t> begin;  // [regimes] first stretch of each; begin[0] = 0

  /// In stretches: of the regime that a request falls in, on average, so that long ones count for more.
  [[nodiscard]] double length_mean() const noexcept;
};

/// How many stretches so many requests are cut into: 0 for too few, some hundred requests each, not
/// thousands of stretches.
[[nodiscard]] std::uint32_t stretches_for(std::uint64_t requests) noexcept;

/// Of stretches_for(stream.requests()) stretches.
[[nodiscard]] Regimes find_regimes(const BatchStream& stream);

}  // namespace loracle
