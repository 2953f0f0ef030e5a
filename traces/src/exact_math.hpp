#pragma once
/// Logarithm and power that give equal bits on every platform, so that equal seeds give equal traces.
/// libm's results may differ in the last bit from one library to the next, and compilers may fuse a*b + c on
/// machines that can. Here every addition of a product is an explicit fma (which is exactly rounded by
/// definition), so nothing is left to fuse and nothing to the library. Error: a few units in the last place.
/// 100-200 ns: for tables, not loops.

#include <cmath>
#include <limits>

namespace loracle::exact {

/// log2(x). REQUIRES: x > 0 and finite.
[[nodiscard]] inline double log2(double x) noexcept {
  int exponent = 0;
  double mantissa = std::frexp(x, &exponent);  // [0.5, 1)
  if (mantissa < 0x1.6A09E667F3BCDp-1) {       // below sqrt(1/2): keep |log2(mantissa)| within 1/2
    mantissa *= 2;
    --exponent;
  }
  const double s = (mantissa - 1) / (mantissa + 1);  // |s| < 0.172; ln(mantissa) = 2 atanh(s)
  const double square = s * s;
  double sum = 0;
  for (int odd = 25; odd >= 1; odd -= 2) sum = std::fma(sum, square, 1.0 / odd);
  constexpr double kTwoOverLn2 = 0x1.71547652B82FEp+1;
  const double factor = s * kTwoOverLn2;
  return std::fma(factor, sum, static_cast<double>(exponent));
}

/// 2^x; 0 below the normal range.
[[nodiscard]] inline double exp2(double x) noexcept {
  if (x < -1000) return 0;
  if (x > 1023) return std::numeric_limits<double>::infinity();
  const double whole = std::nearbyint(x);
  const double y = (x - whole) * 0x1.62E42FEFA39EFp-1;  // exact difference; |y| <= ln(2)/2
  double sum = 1;
  for (int n = 14; n >= 1; --n) sum = std::fma(sum, y / n, 1.0);
  return std::ldexp(sum, static_cast<int>(whole));
}

/// x^y for x > 0; 0 for x = 0 (with y > 0).
[[nodiscard]] inline double power(double x, double y) noexcept {
  if (x == 0) return 0;
  // Not written as exp2(y * log2(x)): inlined, that product could fuse with exp2's subtraction.
  const volatile double exponent = y * log2(x);
  return exp2(exponent);
}

}  // namespace loracle::exact
