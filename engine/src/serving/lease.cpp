#include <algorithm>
#include <bit>
#include <cmath>
#include <utility>

#include "loracle/engine/engine.hpp"
#include "serving/engine_core.hpp"

namespace loracle {

Lease::Lease(Lease&& other) noexcept
    : core_(std::exchange(other.core_, nullptr)),
      count_(std::exchange(other.count_, 0)),
      many_(std::move(other.many_)) {
  std::copy_n(other.few_, std::min(count_, kInline), few_);
}

Lease& Lease::operator=(Lease&& other) noexcept {
  if (this == &other) return *this;
  let_go();
  core_ = std::exchange(other.core_, nullptr);
  count_ = std::exchange(other.count_, 0);
  many_ = std::move(other.many_);
  std::copy_n(other.few_, std::min(count_, kInline), few_);
  return *this;
}

std::span<const LeasedAdapter> Lease::adapters() const noexcept {
  return {many_ == nullptr ? few_ : many_.get(), count_};
}

void Lease::let_go() noexcept {
  if (core_ == nullptr) return;
  std::exchange(core_, nullptr)->let_go(adapters());
  count_ = 0;
  many_ = nullptr;
}

void LatencyHistogram::add(std::uint64_t ns) noexcept {
  ++count;
  sum_ns += ns;
  ++buckets[ns == 0 ? 0 : std::bit_width(ns) - 1];
}

std::uint64_t LatencyHistogram::quantile_ns(double share) const noexcept {
  const auto wanted = static_cast<std::uint64_t>(std::ceil(share * static_cast<double>(count)));
  std::uint64_t seen = 0;
  for (std::size_t i = 0; i < 64; ++i) {
    seen += buckets[i];
    if (seen != 0 && seen >= wanted) return i == 63 ? ~std::uint64_t{0} : (std::uint64_t{2} << i) - 1;
  }
  return 0;
}

}  // namespace loracle
