#pragma once
/// Gaps between arrivals, Gamma or Weibull distributed, rescaled to fill a window; equal seeds give equal
/// gaps everywhere (exact_math.hpp).
/// A scale parameter would cancel in the rescaling, so there is none. Everything is drawn as a
/// logarithm first: with the
/// shapes real clients have (0.01 and below) the gaps themselves leave the range of a double.
/// Cost: O(n), n + 1 doubles. Threads: pure functions.
/// Source: G. Marsaglia and W. W. Tsang, "A simple method for generating gamma variables", ACM TOMS 26(3),
/// 2000, also for the step below shape 1; normals by G. Marsaglia's polar method, SIAM Review 6(3), 1964.

#include <cstdint>
#include <vector>

#include "loracle/core/rng.hpp"

namespace loracle {

enum class GapLaw : std::uint8_t { kGamma, kWeibull };

/// log2 of a Gamma(shape, 1) variate. REQUIRES: shape > 0.
[[nodiscard]] double draw_log2_gamma(Rng& rng, double shape) noexcept;
/// log2 of a Weibull(shape, 1) variate. REQUIRES: shape > 0.
[[nodiscard]] double draw_log2_weibull(Rng& rng, double shape) noexcept;

/// REQUIRES: shape and scale are above 0.
[[nodiscard]] double draw_gamma(Rng& rng, double shape, double scale) noexcept;
/// exp of a normal variate with this mean and standard deviation; infinity where that leaves a double.
[[nodiscard]] double draw_lognormal(Rng& rng, double mu, double sigma) noexcept;

/// `count` arrivals in [0, window_s), ascending: count + 1 gaps are drawn and stretched to add up to
/// window_s, so that the first and the last arrival keep a gap from the window's ends.
[[nodiscard]] std::vector<double> draw_arrivals(Rng& rng, GapLaw law, double shape, std::uint64_t count,
                                                double window_s);

}  // namespace loracle
