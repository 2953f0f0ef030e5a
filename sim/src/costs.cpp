#include "loracle/sim/costs.hpp"

#include <fmt/format.h>

#include <bit>
#include <string>

namespace loracle {
namespace {

constexpr std::uint64_t kGib = 1ULL << 30U;
constexpr std::uint64_t kCountable = 1ULL << 60U;  // seven lines of it still add up

constexpr std::array<CostItem, kCostItems> kItems = {CostItem::kGpu,  CostItem::kKvCache, CostItem::kLoading,
                                                     CostItem::kHost, CostItem::kDisk,    CostItem::kEgress,
                                                     CostItem::kGets};

CostLine impossible() { return {CostState::kImpossible, Money{}}; }

CostLine known(std::optional<std::uint64_t> amount) {
  return amount ? CostLine{CostState::kKnown, Money{*amount}} : impossible();
}

/// What must be bought beside `base` so that as much is left as `base` was, where `taken` of `whole` is not.
CostLine made_up(const CostLine& base, std::uint64_t taken, std::uint64_t whole) {
  if (taken >= whole) return impossible();
  return known(scaled(base.amount.value, taken, whole - taken));
}

/// An amount at its price. `per`: units that the price is for.
CostLine priced(const Price& price, std::optional<std::uint64_t> amount, std::uint64_t per) {
  if (!price.known) return {CostState::kNoPrice, Money{}};
  if (!amount) return {CostState::kNoAmount, Money{}};
  return known(scaled(*amount, price.amount.value, per));
}

std::optional<std::uint64_t> value_of(const std::optional<Bytes>& bytes) {
  return bytes ? std::optional(bytes->value) : std::nullopt;
}

CostLine kv_cache_line(const CostLine& gpu, const MonthlyUse& use) {
  if (gpu.state != CostState::kKnown) return gpu;
  if (!use.slots || use.kv_pool.value == 0) return {CostState::kNoAmount, Money{}};
  return made_up(gpu, use.slots->value, use.kv_pool.value);
}

CostLine loading_line(const CostLine& gpu, const CostLine& kv_cache, const MonthlyUse& use) {
  if (gpu.state != CostState::kKnown) return gpu;
  if (use.span_us == 0) return {CostState::kNoAmount, Money{}};
  return made_up({CostState::kKnown, gpu.amount + kv_cache.amount}, use.loading_us, use.span_us);
}

}  // namespace

Result<std::uint32_t> kv_dtype_bytes(std::string_view dtype) {
  if (dtype == "fp8" || dtype == "fp8_e4m3" || dtype == "fp8_e5m2") return 1;
  Result<std::uint32_t> bytes = dtype_bytes(dtype);
  if (bytes) return bytes;
  return fail(Errc::kInvalid,
              fmt::format("unknown dtype '{}' of the KV cache: use auto, bf16, fp16, fp32 or fp8", dtype));
}

Bytes kv_token_bytes(const ModelGeometry& model, std::uint32_t element_bytes) noexcept {
  return Bytes{std::uint64_t{2} * model.layers * model.kv_heads * model.head_dim * element_bytes};
}

Bytes weight_bytes(const ModelGeometry& model, std::uint32_t element_bytes) noexcept {
  std::uint64_t elements = 0;
  for (const LinearModule& module : model.modules) elements += module.d_in * module.d_out * module.count;
  return Bytes{elements * element_bytes};
}

Bytes pinned_bytes(std::span<const LinearModule> modules, std::uint32_t rank,
                   std::uint32_t element_bytes) noexcept {
  const std::uint64_t row = std::uint64_t{rank} * element_bytes;
  std::uint64_t bytes = 0;
  for (const LinearModule& module : modules)
    bytes += (std::bit_ceil(module.d_in * row) + std::bit_ceil(module.d_out * row)) * module.count;
  return Bytes{bytes};
}

const char* name_of(CostItem item) noexcept {
  switch (item) {
    case CostItem::kGpu:
      return "gpu";
    case CostItem::kKvCache:
      return "kv_cache";
    case CostItem::kLoading:
      return "loading";
    case CostItem::kHost:
      return "host";
    case CostItem::kDisk:
      return "disk";
    case CostItem::kEgress:
      return "egress";
    case CostItem::kGets:
      break;
  }
  return "gets";
}

PriceInput price_of(CostItem item) noexcept {
  switch (item) {
    case CostItem::kHost:
      return PriceInput::kHostGibMonth;
    case CostItem::kDisk:
      return PriceInput::kDiskGibMonth;
    case CostItem::kEgress:
      return PriceInput::kEgressGib;
    case CostItem::kGets:
      return PriceInput::kGets1000;
    case CostItem::kGpu:
    case CostItem::kKvCache:
    case CostItem::kLoading:
      break;
  }
  return PriceInput::kGpuHour;
}

Money MonthlyCost::of(PriceInput input) const noexcept {
  Money sum{};
  for (const CostItem item : kItems)
    if (price_of(item) == input) sum += of(item).amount;
  return sum;
}

MonthlyCost monthly_cost(const Prices& prices, const MonthlyUse& use) noexcept {
  MonthlyCost cost;
  const auto line = [&cost](CostItem item) -> CostLine& {
    return cost.lines[static_cast<std::size_t>(item)];
  };
  const CostLine gpu = priced(prices.of(PriceInput::kGpuHour), kMonthHours, 1);
  line(CostItem::kGpu) = gpu;
  line(CostItem::kKvCache) = kv_cache_line(gpu, use);
  line(CostItem::kLoading) = loading_line(gpu, line(CostItem::kKvCache), use);
  line(CostItem::kHost) = priced(prices.of(PriceInput::kHostGibMonth), value_of(use.host), kGib);
  line(CostItem::kDisk) = priced(prices.of(PriceInput::kDiskGibMonth), value_of(use.disk), kGib);
  line(CostItem::kEgress) = priced(prices.of(PriceInput::kEgressGib), value_of(use.loaded), kGib);
  line(CostItem::kGets) = priced(prices.of(PriceInput::kGets1000), use.loads, 1000 / kFilesPerLoad);
  cost.complete = true;
  for (const CostLine& one : cost.lines) {
    cost.total += one.amount;
    cost.complete = cost.complete && one.state == CostState::kKnown;
    cost.impossible = cost.impossible || one.state == CostState::kImpossible;
  }
  return cost;
}

std::optional<std::uint64_t> scaled(std::uint64_t a, std::uint64_t b, std::uint64_t c) noexcept {
  __extension__ using Wide = unsigned __int128;
  if (c == 0) return std::nullopt;
  const Wide result = (Wide{a} * b + c / 2) / c;
  return result < kCountable ? std::optional(static_cast<std::uint64_t>(result)) : std::nullopt;
}

Prices with_price(const Prices& prices, PriceInput input, std::uint32_t percent) {
  Prices changed = prices;
  Money& amount = changed.all[static_cast<std::size_t>(input)].amount;
  amount = Money{(amount.value * percent + 50) / 100};
  return changed;
}

}  // namespace loracle
