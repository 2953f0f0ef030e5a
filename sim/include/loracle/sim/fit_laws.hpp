#pragma once
/// Laws fitted to samples by maximum likelihood, with standard errors and the Kolmogorov-Smirnov distance.
///
/// Standard errors are those of large samples: roots of the diagonal of the inverse Fisher information. `ks`
/// is the largest difference between the sample's distribution function and the fitted law's; parameters were
/// fitted to the same sample, so tables of the Kolmogorov distribution make it look better than it is.
/// Deterministic up to the last digits of libm. Threads: pure functions.
/// Errors: kInvalid; the message says why such a sample settles nothing, and what would.
/// Sources: Clauset, Shalizi, Newman, "Power-law distributions in empirical data", SIAM Review 51(4), 2009
/// (discrete power laws by likelihood, not by a line through a log-log plot); Minka, "Estimating a Gamma
/// distribution", 2002; Press et al., Numerical Recipes, section 6.2 (incomplete gamma function).

#include <cstdint>
#include <map>
#include <span>

#include "loracle/core/result.hpp"

namespace loracle {

/// P(rank k) ~ k^-alpha over the ranks 1 .. `ranks`.
struct ZipfFit {
  double alpha = 0;  // 0 (uniform) .. 20; samples that fall towards rank 1 give 0
  double alpha_se = 0;
  std::uint64_t ranks = 0;
  std::uint64_t draws = 0;
  double ks = 0;
  double log_likelihood = 0;
};

/// `counts[k]` draws had rank k + 1; ranks that were never drawn count as ranks. Where ranks are told from
/// the counts themselves (most used first), chance puts more into the low ones and alpha comes out too
/// large: by little where counts are large. Errors: fewer than two ranks, no draw.
[[nodiscard]] Result<ZipfFit> fit_zipf(std::span<const std::uint64_t> counts);

enum class GapFamily : std::uint8_t { kExponential, kGamma, kWeibull };
[[nodiscard]] const char* name_of(GapFamily family) noexcept;

/// Density of x > 0, by family: Gamma x^(shape-1) e^(-x/scale), Weibull x^(shape-1) e^(-(x/scale)^shape).
/// Both are exponential at shape 1.
struct GapLawFit {
  double shape = 1;
  double shape_se = 0;
  double scale = 0;
  double scale_se = 0;
  double ks = 0;
  double log_likelihood = 0;
};

struct GapFit {
  std::uint64_t gaps = 0;
  std::uint64_t raised = 0;  // gaps that were below the least one told apart, and were taken for it
  double mean_s = 0;
  double scv = 0;  // squared coefficient of variation: 1 for the exponential law, more for bursts
  GapLawFit exponential;
  GapLawFit gamma;
  GapLawFit weibull;
  /// The likelier of Gamma and Weibull, or exponential where neither is likelier than it by more than chance
  /// allows (a likelihood ratio of 5 %).
  GapFamily best = GapFamily::kExponential;

  [[nodiscard]] const GapLawFit& law(GapFamily family) const noexcept;
};

/// Clocks tick: gaps below `least_s` (0 too) are taken for it. REQUIRES: gaps are 0 or more and finite,
/// least_s is above 0. Errors: fewer than two gaps; all gaps equal (regular to the last digit: no law of
/// these).
[[nodiscard]] Result<GapFit> fit_gaps(std::span<const double> gaps_s, double least_s);

/// ln(x) is normal.
struct LogNormalFit {
  std::uint64_t samples = 0;
  double mu = 0;
  double mu_se = 0;
  double sigma = 0;
  double sigma_se = 0;
  double ks = 0;
};

/// REQUIRES: values are above 0 and finite. One value, or equal ones, give sigma 0. Errors: no value.
[[nodiscard]] Result<LogNormalFit> fit_lognormal(std::span<const double> values);

/// Windows, each filled by gaps that were stretched to add up to it: what is known of the gaps' shape.
struct StretchedGaps {
  std::map<std::uint64_t, std::uint64_t> windows_by_gaps;  // gaps in a window (2 or more) -> windows
  double log_shares = 0;                                   // sum over all gaps of ln(gap / window)

  void add(std::uint64_t gaps, double log_share_sum);
  void add(const StretchedGaps& more);
};

/// Shape of the Gamma law that the gaps follow: once stretched, they are a symmetric Dirichlet variable with
/// that concentration, whose likelihood needs no scale. Within 1e-3 .. 1e3. Errors: no window.
[[nodiscard]] Result<double> fit_stretched_shape(const StretchedGaps& gaps);

/// Distribution functions, for charts and tests. REQUIRES: x >= 0, shape and scale above 0.
[[nodiscard]] double gap_cdf(GapFamily family, const GapLawFit& law, double x);
[[nodiscard]] double digamma(double x);   // x > 0
[[nodiscard]] double trigamma(double x);  // x > 0

}  // namespace loracle
