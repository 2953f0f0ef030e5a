#include "loracle/sim/fit_laws.hpp"

#include <fmt/format.h>

#include <Eigen/Dense>
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <utility>
#include <vector>

#include "loracle/core/check.hpp"

namespace loracle {
namespace {

constexpr int kNewtonStepsMax = 200;
constexpr double kAlphaMax = 20;
constexpr double kEuler = 0.57721566490153286;
constexpr double kPi = 3.14159265358979324;
constexpr double kChiSquare1At95 = 3.841458820694124;
constexpr double kShapeMin = 1e-6;
constexpr double kShapeMax = 1e9;

/// A root of a decreasing function within [low, high]: Newton's steps, halving where one would leave the
/// bracket. `value_and_slope(x)` gives both. Ends where the function has no root.
template <class F>
[[nodiscard]] double root_of_decreasing(double low, double high, double x, F value_and_slope) {
  for (int step = 0; step < kNewtonStepsMax; ++step) {
    const auto [value, slope] = value_and_slope(x);
    (value > 0 ? low : high) = x;
    double next = slope < 0 ? x - value / slope : low;
    if (!(next > low && next < high)) next = low + (high - low) / 2;
    if (std::abs(next - x) <= 1e-14 * std::abs(next) || high - low <= 1e-15 * std::abs(high)) return next;
    x = next;
  }
  return x;
}

/// Standard errors of (shape, scale) from the Fisher information of the whole sample.
void set_errors(GapLawFit& fit, const Eigen::Matrix2d& information) {
  const Eigen::Matrix2d covariance = information.inverse();
  fit.shape_se = std::sqrt(std::max(covariance(0, 0), 0.0));
  fit.scale_se = std::sqrt(std::max(covariance(1, 1), 0.0));
}

/// Regularised lower incomplete gamma function.
[[nodiscard]] double gamma_p(double a, double x) {
  if (!(x > 0)) return 0;
  if (std::isinf(x)) return 1;
  constexpr double kSeriesShapeMax = 1e4;
  if (a > kSeriesShapeMax) {  // where the series are long, Wilson and Hilferty's cube root is exact to 1e-7
    const double deviate = (std::cbrt(x / a) - 1 + 1 / (9 * a)) * 3 * std::sqrt(a);
    return std::erfc(-deviate / std::sqrt(2.0)) / 2;
  }
  const double front = std::exp(a * std::log(x) - x - std::lgamma(a));
  if (x < a + 1) {
    double term = 1 / a;
    double sum = term;
    for (double n = a + 1; std::abs(term) > std::abs(sum) * 1e-16; ++n) {
      term *= x / n;
      sum += term;
    }
    return std::min(front * sum, 1.0);
  }
  constexpr double kTiny = 1e-300;
  double b = x + 1 - a;
  double c = 1 / kTiny;
  double d = 1 / b;
  double fraction = d;
  for (int i = 1; i < 100'000; ++i) {
    const double factor = -i * (i - a);
    b += 2;
    d = factor * d + b;
    if (std::abs(d) < kTiny) d = kTiny;
    c = b + factor / c;
    if (std::abs(c) < kTiny) c = kTiny;
    d = 1 / d;
    const double change = d * c;
    fraction *= change;
    if (std::abs(change - 1) < 1e-15) break;
  }
  return std::clamp(1 - front * fraction, 0.0, 1.0);
}

/// Of a sorted sample against a distribution function. Equal values are one step.
template <class Cdf>
[[nodiscard]] double ks_distance(std::span<const double> sorted, Cdf cdf) {
  const auto n = static_cast<double>(sorted.size());
  double worst = 0;
  for (std::size_t i = 0; i < sorted.size();) {
    std::size_t end = i + 1;
    while (end < sorted.size() && sorted[end] == sorted[i]) ++end;
    const double at = cdf(sorted[i]);
    worst = std::max(
        {worst, std::abs(static_cast<double>(end) / n - at), std::abs(at - static_cast<double>(i) / n)});
    i = end;
  }
  return worst;
}

/// What the gap laws need of a sample; x are the gaps over their mean, so that powers stay in range.
struct GapSample {
  std::vector<double> x;   // [gaps] sorted
  std::vector<double> ln;  // [gaps]
  double mean_s = 0;
  double ln_mean = 0;  // mean of ln
};

[[nodiscard]] GapLawFit fit_exponential(const GapSample& sample) {
  const auto n = static_cast<double>(sample.x.size());
  GapLawFit fit;
  fit.scale = sample.mean_s;
  fit.scale_se = sample.mean_s / std::sqrt(n);
  fit.log_likelihood = -n * (1 + std::log(sample.mean_s));
  return fit;
}

[[nodiscard]] GapLawFit fit_gamma(const GapSample& sample) {
  const auto n = static_cast<double>(sample.x.size());
  const double spread = -sample.ln_mean;  // ln of the mean, which is 0 here, less the mean of ln; above 0
  const double guess = (3 - spread + std::sqrt((spread - 3) * (spread - 3) + 24 * spread)) / (12 * spread);
  GapLawFit fit;
  fit.shape = root_of_decreasing(
      kShapeMin, kShapeMax, std::clamp(guess, kShapeMin, kShapeMax),
      [&](double k) { return std::pair(std::log(k) - digamma(k) - spread, 1 / k - trigamma(k)); });
  fit.scale = sample.mean_s / fit.shape;
  fit.log_likelihood = n * ((fit.shape - 1) * sample.ln_mean - fit.shape + fit.shape * std::log(fit.shape) -
                            std::lgamma(fit.shape) - std::log(sample.mean_s));
  Eigen::Matrix2d information;
  information << trigamma(fit.shape), 1 / fit.scale, 1 / fit.scale, fit.shape / (fit.scale * fit.scale);
  set_errors(fit, n * information);
  return fit;
}

[[nodiscard]] GapLawFit fit_weibull(const GapSample& sample) {
  const auto n = static_cast<double>(sample.x.size());
  const double ln_max = sample.ln.back();
  // Powers relative to the largest: at large shapes x^k alone leaves the range of a double.
  const auto power_sums = [&](double k) {
    Eigen::Vector3d sums = Eigen::Vector3d::Zero();
    for (const double ln : sample.ln) {
      const double power = std::exp(k * (ln - ln_max));
      sums += Eigen::Vector3d(power, power * ln, power * ln * ln);
    }
    return sums;
  };
  GapLawFit fit;
  // The likelihood's slope in k has the sign of 1/k + mean ln x - (mean of ln x weighted by x^k).
  fit.shape = root_of_decreasing(1e-4, 1e6, 1, [&](double k) {
    const Eigen::Vector3d sums = power_sums(k);
    const double weighted = sums[1] / sums[0];
    return std::pair(1 / k + sample.ln_mean - weighted,
                     -1 / (k * k) - (sums[2] / sums[0] - weighted * weighted));
  });
  const double ln_scale = ln_max + std::log(power_sums(fit.shape)[0] / n) / fit.shape;
  fit.scale = std::exp(ln_scale) * sample.mean_s;
  fit.log_likelihood = n * (std::log(fit.shape) - fit.shape * ln_scale + (fit.shape - 1) * sample.ln_mean -
                            1 - std::log(sample.mean_s));
  const double k = fit.shape;
  Eigen::Matrix2d information;
  information << (kPi * kPi / 6 + (1 - kEuler) * (1 - kEuler)) / (k * k), -(1 - kEuler) / fit.scale,
      -(1 - kEuler) / fit.scale, k * k / (fit.scale * fit.scale);
  set_errors(fit, n * information);
  return fit;
}

}  // namespace

double digamma(double x) {
  double shifted = 0;
  for (; x < 10; ++x) shifted -= 1 / x;
  const double f = 1 / (x * x);
  return shifted + std::log(x) - 0.5 / x -
         f * (1.0 / 12 - f * (1.0 / 120 - f * (1.0 / 252 - f * (1.0 / 240 - f * (1.0 / 132)))));
}

double trigamma(double x) {
  double shifted = 0;
  for (; x < 10; ++x) shifted += 1 / (x * x);
  const double f = 1 / (x * x);
  return shifted + 1 / x + f / 2 +
         f / x * (1.0 / 6 - f * (1.0 / 30 - f * (1.0 / 42 - f * (1.0 / 30 - f * (5.0 / 66)))));
}

Result<ZipfFit> fit_zipf(std::span<const std::uint64_t> counts) {
  if (counts.size() < 2)
    return fail(
        Errc::kInvalid,
        fmt::format("{} ranks have no popularity law: two adapters or more are needed", counts.size()));
  ZipfFit fit;
  fit.ranks = counts.size();
  double log_sum = 0;
  std::vector<double> ln(counts.size());
  for (std::size_t k = 0; k < counts.size(); ++k) {
    ln[k] = std::log(static_cast<double>(k + 1));
    fit.draws += counts[k];
    log_sum += static_cast<double>(counts[k]) * ln[k];
  }
  if (fit.draws == 0) return fail(Errc::kInvalid, "no use, no popularity law: the trace names no adapter");
  const auto n = static_cast<double>(fit.draws);
  const auto moments = [&](double alpha) {
    Eigen::Vector3d sums = Eigen::Vector3d::Zero();
    for (const double l : ln) {
      const double weight = std::exp(-alpha * l);
      sums += weight * Eigen::Vector3d(1, l, l * l);
    }
    return sums;
  };
  const auto mean_and_variance = [&](double alpha) {
    const Eigen::Vector3d sums = moments(alpha);
    const double mean = sums[1] / sums[0];
    return std::pair(mean, sums[2] / sums[0] - mean * mean);
  };
  const double target = log_sum / n;
  if (target < mean_and_variance(0).first)
    fit.alpha = root_of_decreasing(0, kAlphaMax, 0.9, [&](double alpha) {
      const auto [mean, variance] = mean_and_variance(alpha);
      return std::pair(mean - target, -variance);
    });
  fit.alpha_se = 1 / std::sqrt(n * std::max(mean_and_variance(fit.alpha).second, 1e-300));
  const double total = moments(fit.alpha)[0];
  fit.log_likelihood = -fit.alpha * log_sum - n * std::log(total);
  double seen = 0;
  double expected = 0;
  for (std::size_t k = 0; k < counts.size(); ++k) {
    seen += static_cast<double>(counts[k]) / n;
    expected += std::exp(-fit.alpha * ln[k]) / total;
    fit.ks = std::max(fit.ks, std::abs(seen - expected));
  }
  return fit;
}

const char* name_of(GapFamily family) noexcept {
  switch (family) {
    case GapFamily::kExponential:
      return "exponential";
    case GapFamily::kGamma:
      return "gamma";
    case GapFamily::kWeibull:
      return "weibull";
  }
  return "exponential";
}

const GapLawFit& GapFit::law(GapFamily family) const noexcept {
  return family == GapFamily::kGamma ? gamma : family == GapFamily::kWeibull ? weibull : exponential;
}

double gap_cdf(GapFamily family, const GapLawFit& law, double x) {
  switch (family) {
    case GapFamily::kExponential:
      return -std::expm1(-x / law.scale);
    case GapFamily::kGamma:
      return gamma_p(law.shape, x / law.scale);
    case GapFamily::kWeibull:
      return -std::expm1(-std::pow(x / law.scale, law.shape));
  }
  return 0;
}

Result<GapFit> fit_gaps(std::span<const double> gaps_s, double least_s) {
  LORACLE_CHECK(least_s > 0);
  if (gaps_s.size() < 2)
    return fail(
        Errc::kInvalid,
        fmt::format("{} gaps between arrivals settle no law: 3 requests or more are needed", gaps_s.size()));
  GapFit fit;
  fit.gaps = gaps_s.size();
  std::vector<double> sorted(gaps_s.begin(), gaps_s.end());
  for (double& gap : sorted) {
    if (gap >= least_s) continue;
    gap = least_s;
    ++fit.raised;
  }
  std::sort(sorted.begin(), sorted.end());
  // Seconds at late times lose digits: gaps that differ by rounding alone are equal ones.
  if (sorted.back() - sorted.front() <= 1e-9 * sorted.back())
    return fail(Errc::kInvalid, fmt::format("all {} gaps between arrivals are {} s: a clock, not a law of "
                                            "chance",
                                            fit.gaps, sorted.front()));
  const auto n = static_cast<double>(fit.gaps);
  GapSample sample;
  for (const double gap : sorted) sample.mean_s += gap / n;
  for (const double gap : sorted) {
    sample.x.push_back(gap / sample.mean_s);
    sample.ln.push_back(std::log(sample.x.back()));
    sample.ln_mean += sample.ln.back() / n;
    fit.scv += (sample.x.back() - 1) * (sample.x.back() - 1) / (n - 1);
  }
  fit.mean_s = sample.mean_s;
  fit.exponential = fit_exponential(sample);
  fit.gamma = fit_gamma(sample);
  fit.weibull = fit_weibull(sample);
  const std::pair<GapFamily, GapLawFit*> laws[] = {{GapFamily::kExponential, &fit.exponential},
                                                   {GapFamily::kGamma, &fit.gamma},
                                                   {GapFamily::kWeibull, &fit.weibull}};
  for (const auto& [family, law] : laws)
    law->ks =
        ks_distance(sorted, [family = family, law = law](double x) { return gap_cdf(family, *law, x); });
  const GapFamily likelier =
      fit.gamma.log_likelihood >= fit.weibull.log_likelihood ? GapFamily::kGamma : GapFamily::kWeibull;
  const double gain = 2 * (fit.law(likelier).log_likelihood - fit.exponential.log_likelihood);
  fit.best = gain > kChiSquare1At95 ? likelier : GapFamily::kExponential;
  return fit;
}

Result<LogNormalFit> fit_lognormal(std::span<const double> values) {
  if (values.empty()) return fail(Errc::kInvalid, "no value above 0, no law of them");
  LogNormalFit fit;
  fit.samples = values.size();
  const auto n = static_cast<double>(values.size());
  std::vector<double> ln;
  ln.reserve(values.size());
  for (const double value : values) ln.push_back(std::log(value));
  std::sort(ln.begin(), ln.end());
  for (const double l : ln) fit.mu += l / n;
  double squares = 0;
  for (const double l : ln) squares += (l - fit.mu) * (l - fit.mu);
  if (ln.back() > ln.front()) fit.sigma = std::sqrt(squares / n);
  fit.mu_se = fit.sigma / std::sqrt(n);
  fit.sigma_se = fit.sigma / std::sqrt(2 * n);
  if (fit.sigma > 0)
    fit.ks =
        ks_distance(ln, [&](double l) { return std::erfc((fit.mu - l) / fit.sigma / std::sqrt(2.0)) / 2; });
  return fit;
}

void StretchedGaps::add(std::uint64_t gaps, double log_share_sum) {
  ++windows_by_gaps[gaps];
  log_shares += log_share_sum;
}

void StretchedGaps::add(const StretchedGaps& more) {
  for (const auto& [gaps, windows] : more.windows_by_gaps) windows_by_gaps[gaps] += windows;
  log_shares += more.log_shares;
}

Result<double> fit_stretched_shape(const StretchedGaps& gaps) {
  if (gaps.windows_by_gaps.empty()) return fail(Errc::kInvalid, "no window has an arrival: no shape");
  // Concave in the shape: the slope falls through 0 once at most.
  return root_of_decreasing(1e-3, 1e3, 1, [&](double k) {
    double slope = gaps.log_shares;
    double curvature = 0;
    for (const auto& [count, windows] : gaps.windows_by_gaps) {
      const auto m = static_cast<double>(count);
      const auto w = static_cast<double>(windows);
      slope += w * m * (digamma(m * k) - digamma(k));
      curvature += w * m * (m * trigamma(m * k) - trigamma(k));
    }
    return std::pair(slope, curvature);
  });
}

}  // namespace loracle
