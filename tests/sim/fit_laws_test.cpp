#include "loracle/sim/fit_laws.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <functional>
#include <vector>

#include "loracle/core/rng.hpp"
#include "loracle/traces/generate.hpp"

namespace loracle {
namespace {

constexpr double kEuler = 0.57721566490153286;
constexpr double kPi = 3.14159265358979324;
constexpr int kSeeds = 60;

/// Uniform in (0, 1].
double positive(Rng& rng) { return 1 - rng.uniform(); }
double exponential(Rng& rng) { return -std::log(positive(rng)); }
/// A sum of exponentials: a Gamma variate of a whole shape, without the code under test.
double erlang(Rng& rng, int shape) {
  double sum = 0;
  for (int i = 0; i < shape; ++i) sum += exponential(rng);
  return sum;
}
/// Half a squared normal, by Box and Muller: Gamma of shape 1/2.
double half_gamma(Rng& rng) {
  const double cosine = std::cos(2 * kPi * rng.uniform());
  return exponential(rng) * cosine * cosine;
}

std::vector<double> sample(std::uint64_t seed, int n, const std::function<double(Rng&)>& draw) {
  Rng rng(seed);
  std::vector<double> values;
  for (int i = 0; i < n; ++i) values.push_back(draw(rng));
  return values;
}

GapFit gaps_of(const std::vector<double>& values) {
  const Result<GapFit> fit = fit_gaps(values, 1e-12);
  EXPECT_TRUE(fit) << fit.error().message;
  return fit.value_or(GapFit{});
}

/// Counts how many of kSeeds fits lie within so many standard errors of the truth. Of normal errors 95 % lie
/// within 1.96 and 99.73 % within 3.
struct Coverage {
  int within_2 = 0;
  int within_3 = 0;
  void add(double fitted, double se, double truth) {
    within_2 += std::abs(fitted - truth) <= 1.96 * se ? 1 : 0;
    within_3 += std::abs(fitted - truth) <= 3 * se ? 1 : 0;
  }
  /// 60 draws of 95 %: below 51 one time in a thousand. Of 99.73 %: below 58 one in a thousand.
  void expect_nominal(const char* what) const {
    EXPECT_GE(within_2, 51) << what;
    EXPECT_GE(within_3, 58) << what;
  }
};

// If this failed, the digits that every Gamma fit rests on would be wrong.
TEST(FitLaws, DigammaAndTrigammaMatchTheirClosedForms) {
  EXPECT_NEAR(digamma(1), -kEuler, 1e-13);
  EXPECT_NEAR(digamma(0.5), -kEuler - 2 * std::log(2.0), 1e-13);
  EXPECT_NEAR(digamma(5), -kEuler + 1 + 1.0 / 2 + 1.0 / 3 + 1.0 / 4, 1e-13);
  EXPECT_NEAR(trigamma(1), kPi * kPi / 6, 1e-13);
  EXPECT_NEAR(trigamma(0.5), kPi * kPi / 2, 1e-12);
  EXPECT_NEAR(trigamma(4), kPi * kPi / 6 - 1 - 1.0 / 4 - 1.0 / 9, 1e-13);
}

// If this failed, KS distances of Gamma laws would be wrong: whole shapes have a closed form.
TEST(FitLaws, TheGammaDistributionFunctionMatchesTheErlangSum) {
  for (const int shape : {1, 2, 5, 20}) {
    GapLawFit law;
    law.shape = shape;
    law.scale = 3;
    for (const double x : {0.0, 0.1, 2.0, 15.0, 60.0, 300.0}) {
      double term = std::exp(-x / 3);
      double tail = 0;
      for (int i = 0; i < shape; ++i) {
        tail += term;
        term *= x / 3 / (i + 1);
      }
      EXPECT_NEAR(gap_cdf(GapFamily::kGamma, law, x), 1 - tail, 1e-12) << shape << ' ' << x;
    }
  }
  GapLawFit half;  // of shape 1/2: an error function
  half.shape = 0.5;
  half.scale = 1;
  EXPECT_NEAR(gap_cdf(GapFamily::kGamma, half, 0.7), std::erf(std::sqrt(0.7)), 1e-13);
  GapLawFit sharp;  // of a shape that needs the cube root: by the central limit, within its skewness
  sharp.shape = 1e6;
  sharp.scale = 1;
  EXPECT_NEAR(gap_cdf(GapFamily::kGamma, sharp, 1e6), 0.5 + 1 / (3 * std::sqrt(2 * kPi * 1e6)), 1e-6);
}

// If this failed, popularity laws of real traces would be wrong. Two ranks have a closed form: the odds of
// the second are 2^-alpha.
TEST(FitZipf, TwoRanksGiveTheClosedForm) {
  const Result<ZipfFit> fit = fit_zipf(std::vector<std::uint64_t>{800, 200});
  ASSERT_TRUE(fit);
  EXPECT_NEAR(fit->alpha, 2, 1e-10);
  // The variance of ln(rank) is p (1 - p) ln(2)^2.
  EXPECT_NEAR(fit->alpha_se, 1 / std::sqrt(1000 * 0.2 * 0.8) / std::log(2.0), 1e-10);
  EXPECT_NEAR(fit->ks, 0, 1e-10);
  EXPECT_NEAR(fit->log_likelihood, 800 * std::log(0.8) + 200 * std::log(0.2), 1e-7);
}

// If this failed, a KS distance would not be the largest step between sample and law.
TEST(FitZipf, TheDistanceIsTheLargestStep) {
  // Alpha 0 by the likelihood: the middle rank has all. Uniform steps are 1/3, 2/3, 1 against 0, 1, 1.
  const Result<ZipfFit> fit = fit_zipf(std::vector<std::uint64_t>{0, 0, 9});
  ASSERT_TRUE(fit);
  EXPECT_EQ(fit->alpha, 0);
  EXPECT_NEAR(fit->ks, 2.0 / 3, 1e-12);
  const Result<ZipfFit> uniform = fit_zipf(std::vector<std::uint64_t>{7, 7, 7, 7});
  ASSERT_TRUE(uniform);
  EXPECT_NEAR(uniform->alpha, 0, 1e-9);
  EXPECT_NEAR(uniform->ks, 0, 1e-9);
}

// If this failed, exponents, or the confidence that goes with them, would be off. The exponent 0 is on the
// border of what is allowed, so half of its fits are 0 and none is below.
TEST(FitZipf, CoversTheExponentItWasDrawnWith) {
  for (const double alpha : {0.0, 0.6, 0.9, 1.3}) {
    Coverage coverage;
    for (std::uint64_t seed = 1; seed <= kSeeds; ++seed) {
      GenerateOptions options;
      options.adapters = 150;
      options.requests = 4000;
      options.alpha = alpha;
      options.seed = seed;
      const Result<Trace> trace = generate(options);
      ASSERT_TRUE(trace);
      std::vector<std::uint64_t> counts(options.adapters);
      for (const Row row : trace->uses.view()) {
        const std::string name(trace->adapters.name[index_of(row)]);
        ++counts[static_cast<std::size_t>(std::stoul(name.substr(name.find('-') + 1)))];
      }
      const Result<ZipfFit> fit = fit_zipf(counts);
      ASSERT_TRUE(fit);
      coverage.add(fit->alpha, fit->alpha_se, alpha);
    }
    coverage.expect_nominal("alpha");
  }
}

// If this failed, a sample without a law would get one, or crash the fit.
TEST(FitZipf, RefusesWhatHasNoLaw) {
  EXPECT_FALSE(fit_zipf({}));
  EXPECT_FALSE(fit_zipf(std::vector<std::uint64_t>{5}));
  EXPECT_FALSE(fit_zipf(std::vector<std::uint64_t>{0, 0}));
  const Result<ZipfFit> steepest = fit_zipf(std::vector<std::uint64_t>{5, 0, 0});
  ASSERT_TRUE(steepest);
  EXPECT_GT(steepest->alpha, 15) << "all of rank 1: as steep as may be";
}

// If this failed, burstiness would be read wrongly off real gaps.
TEST(FitGaps, CoverTheLawsTheyWereDrawnFrom) {
  Coverage gamma_shape, gamma_scale, half_shape, weibull_shape, weibull_scale, mean;
  int gamma_told = 0;
  int weibull_told = 0;
  int exponential_told = 0;
  for (std::uint64_t seed = 1; seed <= kSeeds; ++seed) {
    const GapFit erlang3 = gaps_of(sample(seed, 2000, [](Rng& rng) { return 0.4 * erlang(rng, 3); }));
    gamma_shape.add(erlang3.gamma.shape, erlang3.gamma.shape_se, 3);
    gamma_scale.add(erlang3.gamma.scale, erlang3.gamma.scale_se, 0.4);
    gamma_told += erlang3.best == GapFamily::kGamma ? 1 : 0;
    const GapFit half = gaps_of(sample(seed + 1000, 2000, half_gamma));
    half_shape.add(half.gamma.shape, half.gamma.shape_se, 0.5);
    const GapFit weibull =
        gaps_of(sample(seed + 2000, 2000, [](Rng& rng) { return 7 * std::pow(exponential(rng), 1 / 0.45); }));
    weibull_shape.add(weibull.weibull.shape, weibull.weibull.shape_se, 0.45);
    weibull_scale.add(weibull.weibull.scale, weibull.weibull.scale_se, 7);
    weibull_told += weibull.best == GapFamily::kWeibull ? 1 : 0;
    const GapFit plain = gaps_of(sample(seed + 3000, 2000, [](Rng& rng) { return 2 * exponential(rng); }));
    mean.add(plain.exponential.scale, plain.exponential.scale_se, 2);
    exponential_told += plain.best == GapFamily::kExponential ? 1 : 0;
  }
  gamma_shape.expect_nominal("Erlang 3, shape");
  gamma_scale.expect_nominal("Erlang 3, scale");
  half_shape.expect_nominal("Gamma 1/2, shape");
  weibull_shape.expect_nominal("Weibull 0.45, shape");
  weibull_scale.expect_nominal("Weibull 0.45, scale");
  mean.expect_nominal("exponential, mean");
  EXPECT_GE(gamma_told, 58);
  EXPECT_GE(weibull_told, 58);
  EXPECT_GE(exponential_told, 50) << "5 % in each of two directions are taken for another law";
}

// If this failed, the likelihood's maximum would not be one: any step away must lower it. The likelihoods
// here are written down a second time, from the densities.
TEST(FitGaps, NoOtherParametersAreLikelier) {
  const std::vector<double> gaps = {0.3, 2.5, 0.01, 9, 1.2, 0.7, 0.05, 4};
  const GapFit fit = gaps_of(gaps);
  const auto gamma = [&](double shape, double scale) {
    double sum = 0;
    for (const double x : gaps)
      sum += (shape - 1) * std::log(x) - x / scale - std::lgamma(shape) - shape * std::log(scale);
    return sum;
  };
  const auto weibull = [&](double shape, double scale) {
    double sum = 0;
    for (const double x : gaps)
      sum += std::log(shape / scale) + (shape - 1) * std::log(x / scale) - std::pow(x / scale, shape);
    return sum;
  };
  EXPECT_NEAR(fit.gamma.log_likelihood, gamma(fit.gamma.shape, fit.gamma.scale), 1e-9);
  EXPECT_NEAR(fit.weibull.log_likelihood, weibull(fit.weibull.shape, fit.weibull.scale), 1e-9);
  for (const double a : {0.99, 1.01})
    for (const double b : {0.99, 1.01}) {
      EXPECT_LT(gamma(fit.gamma.shape * a, fit.gamma.scale * b), fit.gamma.log_likelihood);
      EXPECT_LT(weibull(fit.weibull.shape * a, fit.weibull.scale * b), fit.weibull.log_likelihood);
    }
}

// If this failed, gaps of a clock would be given a law of chance, or zeros would send it to infinity.
TEST(FitGaps, SayWhatSettlesNothing) {
  EXPECT_FALSE(fit_gaps(std::vector<double>{}, 1e-6));
  EXPECT_FALSE(fit_gaps(std::vector<double>{1}, 1e-6));
  const Result<GapFit> constant = fit_gaps(std::vector<double>(50, 0.25), 1e-6);
  ASSERT_FALSE(constant);
  EXPECT_NE(constant.error().message.find("0.25"), std::string::npos) << constant.error().message;
  EXPECT_FALSE(fit_gaps(std::vector<double>(50, 0.0), 0.5)) << "all below the tick: all equal";
  const Result<GapFit> quantised = fit_gaps(std::vector<double>{0, 1, 0, 2, 0, 1}, 0.5);
  ASSERT_TRUE(quantised);
  EXPECT_EQ(quantised->raised, 3U);
  EXPECT_TRUE(std::isfinite(quantised->gamma.shape) && std::isfinite(quantised->weibull.log_likelihood));
  const Result<GapFit> regular = fit_gaps(std::vector<double>{1, 1.0001, 0.9999, 1.00005}, 1e-6);
  ASSERT_TRUE(regular);
  EXPECT_GT(regular->gamma.shape, 1e6);
  EXPECT_TRUE(std::isfinite(regular->weibull.ks));
}

// If this failed, holding times and token counts would be drawn from another law than they were fitted with.
TEST(FitLogNormal, MatchesTheClosedFormAndCovers) {
  const Result<LogNormalFit> three = fit_lognormal(std::vector<double>{1, std::exp(1.0), std::exp(2.0)});
  ASSERT_TRUE(three);
  EXPECT_NEAR(three->mu, 1, 1e-12);
  EXPECT_NEAR(three->sigma, std::sqrt(2.0 / 3), 1e-12);
  // The step at the least value is from 0 to 1/3, the law's value there Phi(-sqrt(3/2)); at the middle one
  // the law says 1/2 and the steps 1/3 and 2/3.
  EXPECT_NEAR(three->ks, 1.0 / 3 - std::erfc(std::sqrt(1.5) / std::sqrt(2.0)) / 2, 1e-12);
  const Result<LogNormalFit> one = fit_lognormal(std::vector<double>{5});
  ASSERT_TRUE(one);
  EXPECT_EQ(one->sigma, 0);
  EXPECT_FALSE(fit_lognormal({}));
  Coverage mu, sigma;
  for (std::uint64_t seed = 1; seed <= kSeeds; ++seed) {
    const Result<LogNormalFit> fit = fit_lognormal(sample(seed, 1000, [](Rng& rng) {
      return std::exp(1.5 + 0.8 * std::sqrt(2 * exponential(rng)) * std::cos(2 * kPi * rng.uniform()));
    }));
    ASSERT_TRUE(fit);
    mu.add(fit->mu, fit->mu_se, 1.5);
    sigma.add(fit->sigma, fit->sigma_se, 0.8);
  }
  mu.expect_nominal("mu");
  sigma.expect_nominal("sigma");
}

// If this failed, bursts within a window would be drawn with another shape than the source's.
TEST(FitStretchedShape, FindsTheShapeWithoutTheScale) {
  Rng rng(3);
  StretchedGaps gaps;
  for (int window = 0; window < 4000; ++window) {
    const std::size_t count = 2 + rng.below(5);
    std::vector<double> drawn(count);
    double sum = 0;
    for (double& gap : drawn) sum += gap = erlang(rng, 2);
    double log_shares = 0;
    for (const double gap : drawn) log_shares += std::log(gap / sum);
    gaps.add(count, log_shares);
  }
  EXPECT_NEAR(fit_stretched_shape(gaps).value_or(0), 2, 0.1) << "some 16,000 gaps: four standard errors";
  // Two gaps that are always equal: as regular as may be.
  StretchedGaps regular;
  for (int i = 0; i < 10; ++i) regular.add(2, 2 * std::log(0.5));
  EXPECT_GT(fit_stretched_shape(regular).value_or(0), 900);
  EXPECT_FALSE(fit_stretched_shape({}));
}

}  // namespace
}  // namespace loracle
