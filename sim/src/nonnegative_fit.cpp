#include "nonnegative_fit.hpp"

#include <Eigen/Dense>
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "loracle/core/check.hpp"

namespace loracle::detail {
namespace {

using Eigen::Index;
using Eigen::MatrixXd;
using Eigen::VectorXd;

double median_of(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  if (values.size() % 2 == 1) return *middle;
  return (*middle + *std::max_element(values.begin(), middle)) / 2;
}

/// Columns, in order, that do not follow from the ones kept before them.
std::vector<Index> independent_columns(const MatrixXd& x) {
  std::vector<Index> kept;
  std::vector<VectorXd> basis;
  for (Index column = 0; column < x.cols(); ++column) {
    VectorXd rest = x.col(column);
    const double length = rest.norm();
    for (int twice = 0; twice < 2; ++twice)
      for (const VectorXd& direction : basis) rest -= direction.dot(rest) * direction;
    if (!(length > 0) || rest.norm() < kTellApart * length) continue;
    kept.push_back(column);
    basis.push_back(rest.normalized());
  }
  return kept;
}

/// Of all supports the one whose least squares are positive everywhere and least: the solution of
/// non-negative least squares. `gram` is X'WX, `moment` X'Wy.
VectorXd solve_nonnegative(const MatrixXd& gram, const VectorXd& moment) {
  const Index columns = moment.size();
  // Columns of one length, so that a count of tokens and a constant can stand in one system.
  VectorXd length = gram.diagonal().cwiseSqrt();
  for (Index i = 0; i < columns; ++i)
    if (!(length[i] > 0)) length[i] = 1;
  VectorXd best = VectorXd::Zero(columns);
  double best_gain = 0;
  for (std::uint32_t support = 1; support < (1U << static_cast<unsigned>(columns)); ++support) {
    std::vector<Index> places;
    for (Index i = 0; i < columns; ++i)
      if ((support >> static_cast<unsigned>(i) & 1U) != 0) places.push_back(i);
    const auto size = static_cast<Index>(places.size());
    MatrixXd a(size, size);
    VectorXd b(size);
    for (Index i = 0; i < size; ++i) {
      const Index at = places[static_cast<std::size_t>(i)];
      b[i] = moment[at] / length[at];
      for (Index j = 0; j < size; ++j) {
        const Index other = places[static_cast<std::size_t>(j)];
        a(i, j) = gram(at, other) / (length[at] * length[other]);
      }
    }
    const VectorXd solution = a.ldlt().solve(b);
    const double gain = b.dot(solution);  // what it takes off the sum of squares
    if (!solution.allFinite() || (solution.array() <= 0).any() || !(gain > best_gain)) continue;
    best_gain = gain;
    best.setZero();
    for (Index i = 0; i < size; ++i)
      best[places[static_cast<std::size_t>(i)]] = solution[i] / length[places[static_cast<std::size_t>(i)]];
  }
  return best;
}

/// The fit under way: coefficients, and with them predictions and relative errors.
struct Fit {
  const MatrixXd& x;
  const VectorXd& y;
  double least;  // no prediction counts as smaller: a relative error needs something to relate to
  VectorXd value;
  VectorXd predicted;  // [rows]
  VectorXd error;      // [rows] relative

  Fit(const MatrixXd& design, const VectorXd& measured, double least_prediction)
      : x(design),
        y(measured),
        least(least_prediction),
        value(VectorXd::Zero(design.cols())),
        predicted(VectorXd::Constant(measured.size(), least_prediction * 1e3)),
        error((measured - predicted).cwiseQuotient(predicted)) {}

  /// Solves with these weights of the relative errors; true while coefficients still move.
  bool step(const VectorXd& weight) {
    const VectorXd w = weight.cwiseQuotient(predicted.cwiseAbs2());
    const VectorXd next =
        solve_nonnegative(x.transpose() * w.asDiagonal() * x, x.transpose() * w.asDiagonal() * y);
    const VectorXd before = x * value;
    value = next;
    const VectorXd now = x * value;
    predicted = now.cwiseMax(least);
    error = (y - now).cwiseQuotient(predicted);
    return (now - before).cwiseAbs().cwiseQuotient(predicted).maxCoeff() > 1e-10;
  }
};

/// Least absolute errors: first of all rows alike, then relative to the predictions.
void fit_absolute(Fit& fit) {
  constexpr int kSteps = 60;
  const double flat = fit.least * 1e3;
  for (int i = 0; i < kSteps; ++i) {
    const VectorXd size = i < kSteps / 3 ? VectorXd(fit.error.cwiseProduct(fit.predicted).cwiseAbs() / flat)
                                         : VectorXd(fit.error.cwiseAbs());
    VectorXd weight = size.cwiseMax(1e-6).cwiseInverse();
    if (i < kSteps / 3) weight = weight.cwiseProduct(fit.predicted.cwiseAbs2()) / (flat * flat);
    if (!fit.step(weight) && i > kSteps / 3) return;
  }
}

/// Of the errors that a fit of so many columns could not have made 0.
double scale_of(const VectorXd& error, std::size_t columns) {
  constexpr double kOfNormal = 1.4826;  // standard deviation over median of absolute values
  constexpr double kFinest = 1e-4;      // of clocks; keeps the scale above 0
  std::vector<double> sizes(static_cast<std::size_t>(error.size()));
  for (std::size_t i = 0; i < sizes.size(); ++i) sizes[i] = std::abs(error[static_cast<Index>(i)]);
  std::sort(sizes.begin(), sizes.end());
  sizes.erase(sizes.begin(), sizes.begin() + static_cast<std::ptrdiff_t>(columns));
  return std::max(kFinest, kOfNormal * median_of(std::move(sizes)));
}

void fit_biweight(Fit& fit, double scale) {
  constexpr int kSteps = 60;
  for (int i = 0; i < kSteps; ++i) {
    const Eigen::ArrayXd t = (fit.error.array() / (kSetAside * scale)).abs().min(1.0);
    if (!fit.step((1 - t.square()).square().matrix())) return;
  }
}

/// Sandwich standard errors of the coefficients above 0; -1 for the others.
VectorXd standard_errors(const Fit& fit, double scale) {
  const Index rows = fit.x.rows();
  std::vector<Index> places;
  for (Index i = 0; i < fit.value.size(); ++i)
    if (fit.value[i] > 0) places.push_back(i);
  VectorXd errors = VectorXd::Constant(fit.value.size(), -1);
  const auto size = static_cast<Index>(places.size());
  if (size == 0 || rows <= size) return errors;
  MatrixXd z(rows, size);
  VectorXd length(size);
  for (Index i = 0; i < size; ++i) {
    z.col(i) = fit.x.col(places[static_cast<std::size_t>(i)]).cwiseQuotient(fit.predicted);
    length[i] = z.col(i).norm();
    z.col(i) /= length[i];
  }
  const bool is_robust = static_cast<std::size_t>(rows) >= kFewRows;
  VectorXd psi = fit.error;
  double slope = 1;  // mean of psi'
  if (is_robust) {
    const Eigen::ArrayXd t = (fit.error.array() / (kSetAside * scale)).abs().min(1.0);
    psi = (fit.error.array() * (1 - t.square()).square()).matrix();
    slope = std::max(0.1, ((1 - t.square()) * (1 - 5 * t.square())).mean());
  }
  const MatrixXd bread = (z.transpose() * z).ldlt().solve(MatrixXd::Identity(size, size)) / slope;
  const MatrixXd meat = z.transpose() * psi.cwiseAbs2().asDiagonal() * z;
  const MatrixXd covariance =
      bread * meat * bread * (static_cast<double>(rows) / static_cast<double>(rows - size));
  for (Index i = 0; i < size; ++i)
    errors[places[static_cast<std::size_t>(i)]] = std::sqrt(std::max(0.0, covariance(i, i))) / length[i];
  return errors;
}

}  // namespace

NonnegativeFit fit_nonnegative(std::span<const double> design, std::span<const double> measured) {
  const std::size_t columns = measured.empty() ? 0 : design.size() / measured.size();
  LORACLE_CHECK(columns >= 1 && columns <= kColumnsMax && design.size() == columns * measured.size());
  LORACLE_CHECK(measured.size() > columns);
  const std::size_t every = (measured.size() + kRowsMax - 1) / kRowsMax;
  const std::size_t rows = (measured.size() + every - 1) / every;
  MatrixXd all(rows, columns);
  VectorXd y(rows);
  for (std::size_t i = 0; i < rows; ++i) {
    y[static_cast<Index>(i)] = measured[i * every];
    for (std::size_t j = 0; j < columns; ++j)
      all(static_cast<Index>(i), static_cast<Index>(j)) = design[i * every * columns + j];
  }
  const std::vector<Index> kept = independent_columns(all);
  NonnegativeFit found;
  found.value.assign(columns, 0);
  found.error.assign(columns, -1);
  found.told_apart.assign(columns, false);
  if (kept.empty()) return found;
  MatrixXd x(rows, kept.size());
  for (std::size_t i = 0; i < kept.size(); ++i) x.col(static_cast<Index>(i)) = all.col(kept[i]);
  Fit fit(x, y, median_of({measured.begin(), measured.end()}) * 1e-3);
  fit_absolute(fit);
  found.scale = scale_of(fit.error, kept.size());
  if (rows >= kFewRows) {
    fit_biweight(fit, found.scale);
  } else {
    const VectorXd alike = VectorXd::Ones(static_cast<Index>(rows));
    for (int i = 0; i < 20 && fit.step(alike); ++i) continue;
  }
  const VectorXd errors = standard_errors(fit, found.scale);
  for (std::size_t i = 0; i < kept.size(); ++i) {
    const auto column = static_cast<std::size_t>(kept[i]);
    found.told_apart[column] = true;
    found.value[column] = fit.value[static_cast<Index>(i)];
    found.error[column] = errors[static_cast<Index>(i)];
  }
  return found;
}

}  // namespace loracle::detail
