#include "gap_draws.hpp"

#include <algorithm>
#include <cmath>

#include "exact_math.hpp"

// Fused multiply-adds would change last digits on the machines that have them. GCC fuses none in strict C++.
#ifdef __clang__
#pragma STDC FP_CONTRACT OFF
#endif

namespace loracle {
namespace {

double ln(double x) noexcept {
  constexpr double kLn2 = 0x1.62E42FEFA39EFp-1;
  return exact::log2(x) * kLn2;
}

/// Uniform in (0, 1]: its logarithm is finite.
double draw_positive(Rng& rng) noexcept { return 1.0 - rng.uniform(); }

double draw_normal(Rng& rng) noexcept {
  for (;;) {
    const double x = 2 * rng.uniform() - 1;
    const double y = 2 * rng.uniform() - 1;
    const double s = x * x + y * y;
    if (s > 0 && s < 1) return x * std::sqrt(-2 * ln(s) / s);
  }
}

}  // namespace

double draw_log2_gamma(Rng& rng, double shape) noexcept {
  // Below 1 the method does not work: Gamma(a) is Gamma(a + 1) times U^(1/a).
  if (shape < 1) return draw_log2_gamma(rng, shape + 1) + exact::log2(draw_positive(rng)) / shape;
  const double d = shape - 1.0 / 3.0;
  const double c = 1 / std::sqrt(9 * d);
  for (;;) {
    const double x = draw_normal(rng);
    const double root = 1 + c * x;
    if (root <= 0) continue;
    const double v = root * root * root;
    if (ln(draw_positive(rng)) < 0.5 * x * x + d - d * v + d * ln(v)) return exact::log2(d * v);
  }
}

double draw_log2_weibull(Rng& rng, double shape) noexcept {
  // -ln U is 0 for U = 1; the least U below 1 bounds it instead.
  const double exponential = std::max(-ln(draw_positive(rng)), 0x1p-54);
  return exact::log2(exponential) / shape;
}

double draw_gamma(Rng& rng, double shape, double scale) noexcept {
  return exact::exp2(draw_log2_gamma(rng, shape)) * scale;
}

double draw_lognormal(Rng& rng, double mu, double sigma) noexcept {
  constexpr double kLog2E = 0x1.71547652B82FEp+0;
  return exact::exp2((mu + sigma * draw_normal(rng)) * kLog2E);
}

std::vector<double> draw_arrivals(Rng& rng, GapLaw law, double shape, std::uint64_t count, double window_s) {
  std::vector<double> gaps(count + 1);
  for (double& gap : gaps)
    gap = law == GapLaw::kGamma ? draw_log2_gamma(rng, shape) : draw_log2_weibull(rng, shape);
  const double largest = *std::max_element(gaps.begin(), gaps.end());
  double sum = 0;
  for (double& gap : gaps) {
    gap = exact::exp2(gap - largest);  // the largest becomes 1, so the sum is never 0
    sum += gap;
  }
  double at = 0;
  for (std::uint64_t i = 0; i < count; ++i) {
    at += gaps[i];
    // Rounding must not push the last arrival into the next window.
    gaps[i] = std::min(at / sum * window_s, std::nextafter(window_s, 0.0));
  }
  gaps.pop_back();
  return gaps;
}

}  // namespace loracle
