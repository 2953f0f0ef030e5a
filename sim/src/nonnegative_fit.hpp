#pragma once
/// A robust linear fit without negative coefficients, by relative errors.
///
/// Minimises the sum of rho(error / predicted), rho Tukey's biweight (bend at 4.685 standard deviations,
/// 95 % as good as least squares without outliers), started from least absolute errors, whose scatter also
/// sets the scale. Errors are relative because what takes ten times as long also scatters ten times as much.
/// With fewer than kFewRows rows nothing tells an outlier from the rest: there it is least squares of
/// relative errors.
/// Columns that follow from those before them (to kTellApart of their length) are left out and get 0.
/// Standard errors are those of a sandwich estimate, of the coefficients above 0, the others held there.
/// Cost: O(rows x columns^2) a step, some fifty steps. Rows beyond kRowsMax are thinned out evenly.
/// Sources: Huber and Ronchetti, Robust Statistics, 2009 (M-estimates, sandwich); Yohai, Ann. Stat. 15, 1987
/// (start and scale); Lawson and Hanson, Solving Least Squares Problems, 1974 (of the few columns here every
/// support is tried).

#include <cstddef>
#include <span>
#include <vector>

namespace loracle::detail {

inline constexpr std::size_t kColumnsMax = 5;
inline constexpr std::size_t kFewRows = 10;
inline constexpr std::size_t kRowsMax = 100'000;
inline constexpr double kTellApart = 1e-3;

struct NonnegativeFit {
  std::vector<double> value;     // [columns] 0 or more
  std::vector<double> error;     // [columns] standard error; < 0: the value is held at 0
  std::vector<bool> told_apart;  // [columns] false: it follows from those before it, or never varies
  double scale = 0;              // robust standard deviation of the relative errors
};

/// `design` is (rows, columns), row-major, finite and 0 or more; `measured` [rows], above 0.
/// REQUIRES: 1 <= columns <= kColumnsMax, rows > columns.
[[nodiscard]] NonnegativeFit fit_nonnegative(std::span<const double> design,
                                             std::span<const double> measured);

/// Errors beyond this many scales have no weight in the fit.
inline constexpr double kSetAside = 4.685;

}  // namespace loracle::detail
