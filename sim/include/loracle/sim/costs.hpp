#pragma once
/// What a choice of max_loras and max_cpu_loras takes of memory, and what it costs a month.
///
/// Memory. Slots lie in the same GPU memory as the KV cache, so every slot takes tokens from it. A decoding
/// batch is bounded by the tokens that fit the KV cache, so the share of it that slots take is taken to be
/// the share of decode throughput that they cost; where the cache is not what bounds the batch, they cost
/// less. The pool they share is GPU memory x utilisation - weights: activations are not taken off, so the
/// share is a little more in truth. Host memory: vLLM pins every tensor of every adapter it keeps, and
/// PyTorch's allocator rounds each up to a power of two.
///
/// Money, of one server, a month of 730 hours, in millionths of the currency. Lines (they add up to the
/// total; each rounded half up):
///   gpu       gpu_hour x 730
///   kv_cache  gpu x slots / (pool - slots): what makes up for the throughput that the slots cost
///   loading   (gpu + kv_cache) x loading / (span - loading): likewise for the time in which loads run, since
///             vLLM decodes nothing then
///   host      host_gib_month x GiB of host memory
///   disk      disk_gib_month x GiB of all adapters
///   egress    egress_gib x GiB loaded a month;  gets  gets_1000 x loads a month x 2 files / 1000
/// A line is unknown where its price or its amount is: then the total is that of the others, and says so. It
/// is impossible where slots take the whole pool, loads the whole time, or the sum cannot be counted.
/// Laws: lines add up; the lines of a price are proportional to it, to rounding; no load, no egress.
/// Pure functions, integers only: equal inputs, equal amounts on every machine.

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "loracle/core/result.hpp"
#include "loracle/core/units.hpp"
#include "loracle/sim/model_geometry.hpp"
#include "loracle/sim/prices.hpp"

namespace loracle {

inline constexpr std::uint64_t kMonthHours = 730;  // 365 x 24 / 12
inline constexpr std::uint64_t kFilesPerLoad = 2;  // adapter_config.json, adapter_model.safetensors

/// Bytes of an element of the KV cache: `auto` (2), `bf16`, `fp16`, `fp32`, `fp8` (also fp8_e4m3, fp8_e5m2).
/// Errors: kInvalid.
[[nodiscard]] Result<std::uint32_t> kv_dtype_bytes(std::string_view dtype);
/// Keys and values of one token in every layer, all of which are taken to look back without limit.
[[nodiscard]] Bytes kv_token_bytes(const ModelGeometry& model, std::uint32_t element_bytes) noexcept;
/// Of the base model's linear layers and embeddings (both, even where a model ties them).
[[nodiscard]] Bytes weight_bytes(const ModelGeometry& model, std::uint32_t element_bytes) noexcept;
/// Host memory that vLLM pins for an adapter: each A and each B rounded up to a power of two.
[[nodiscard]] Bytes pinned_bytes(std::span<const LinearModule> modules, std::uint32_t rank,
                                 std::uint32_t element_bytes) noexcept;

/// What one server with one choice of sizes uses. Empty, or 0 where said: unknown.
struct MonthlyUse {
  std::optional<Bytes> slots;    // all of them
  Bytes kv_pool{};               // KV cache and slots together; 0: unknown
  std::uint64_t loading_us = 0;  // that loads run, of span_us
  std::uint64_t span_us = 0;     // 0: unknown
  std::optional<Bytes> host;
  std::optional<Bytes> disk;           // all adapters
  std::optional<std::uint64_t> loads;  // a month, from where the adapters lie
  std::optional<Bytes> loaded;         // by them
};

enum class CostItem : std::uint8_t { kGpu, kKvCache, kLoading, kHost, kDisk, kEgress, kGets };
inline constexpr std::size_t kCostItems = 7;
/// "gpu", "kv_cache", "loading", "host", "disk", "egress", "gets".
[[nodiscard]] const char* name_of(CostItem item) noexcept;
[[nodiscard]] PriceInput price_of(CostItem item) noexcept;

enum class CostState : std::uint8_t {
  kKnown,
  kNoPrice,
  kNoAmount,    // of what is priced
  kImpossible,  // nothing would be left to serve with; or too much to count
};

struct CostLine {
  CostState state = CostState::kNoPrice;
  Money amount{};  // 0 unless known
};

struct MonthlyCost {
  std::array<CostLine, kCostItems> lines;  // by CostItem
  Money total{};                           // of the lines that are known
  bool complete = false;                   // all are
  bool impossible = false;                 // at least one is

  [[nodiscard]] const CostLine& of(CostItem item) const noexcept {
    return lines[static_cast<std::size_t>(item)];
  }
  /// Of the lines that this price is in.
  [[nodiscard]] Money of(PriceInput input) const noexcept;
};

[[nodiscard]] MonthlyCost monthly_cost(const Prices& prices, const MonthlyUse& use) noexcept;

/// a x b / c, rounded half up; empty from 2^60 on, or where c is 0.
[[nodiscard]] std::optional<std::uint64_t> scaled(std::uint64_t a, std::uint64_t b, std::uint64_t c) noexcept;

/// One price less or more, by this many per cent. REQUIRES: 0 <= percent.
[[nodiscard]] Prices with_price(const Prices& prices, PriceInput input, std::uint32_t percent);

}  // namespace loracle
