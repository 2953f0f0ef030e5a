#pragma once
/// How requests are mapped to adapters, a choice with a name that every output repeats.
///   lora          what the source names as adapters. `first`: only a request's first; `base=NAME,NAME`
///                 (takes the rest of the text): these names are the base model
///   tenant        each tenant is an adapter; a request without one uses the base model
///   client        each API client is an adapter. servegen: `rate=F` thins or thickens the arrivals,
///                 `from_s=`, `to_s=` cut a span of time, `seed=`
///   session       each session is an adapter; with `adapters=N` (and `alpha=`, `seed=`) each session draws
///                 one of N by Zipf, for its life
///   zipf          each request draws from `adapters=N` (100) by Zipf, P(k) ~ 1/(k+1)^alpha (0.9), `seed=`
///   s-lora-power  each request draws floor(N * U^(1/alpha)), N `adapters=` (100), `alpha=` (0.1), `seed=`;
///                 the generator of S-LoRA's benchmark: alpha 1 is uniform, Zipf exponent about 1 - alpha
/// The two last draw independently and so have none of the temporal locality of real traffic: for comparison
/// only. `text()` writes every parameter out, in a form `parse_mapping` reads back. Threads: values.
/// Errors: kInvalid, "mapping 'x': what: what to do". Source: S-LoRA (MLSys 2024), benchmarks/trace.py for
/// the formula.

#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "loracle/core/result.hpp"
#include "loracle/core/rng.hpp"
#include "loracle/traces/trace.hpp"

namespace loracle {

enum class MappingKind : std::uint8_t { kLora, kTenant, kClient, kSession, kZipf, kPower };

struct Mapping {
  static constexpr std::uint32_t kAdaptersMax = 10'000'000;

  MappingKind kind = MappingKind::kLora;
  bool first_only = false;               // lora
  std::vector<std::string> base_models;  // lora
  std::uint32_t adapters = 0;            // zipf, s-lora-power: N; session: N, or 0 for one adapter a session
  double alpha = 0;                      // zipf, s-lora-power, session with N
  double rate = 1;                       // client
  double from_s = 0;                     // client
  double to_s = std::numeric_limits<double>::infinity();
  std::uint64_t seed = 0;
  bool draws = false;  // the seed matters

  [[nodiscard]] bool is_base_model(std::string_view name) const noexcept;
  [[nodiscard]] std::string text() const;
};

[[nodiscard]] std::string_view name_of(MappingKind kind) noexcept;

/// `seed` is used unless the text has its own.
[[nodiscard]] Result<Mapping> parse_mapping(std::string_view text, std::uint64_t seed);

/// Ranks 0..n-1 with P(k) ~ 1/(k+1)^alpha, by inversion on a table of n doubles; O(log n) a draw.
class ZipfDraws {
 public:
  /// REQUIRES: n > 0.
  ZipfDraws(std::uint32_t n, double alpha, std::uint64_t seed);
  [[nodiscard]] std::uint32_t next() noexcept;

 private:
  std::vector<double> cumulative_;  // [n]
  Rng rng_;
};

/// Replaces the uses by what tenant, zipf and s-lora-power say, and applies lora's parameters; client and
/// session are the readers' work and change nothing here. Adapters are then named by tenant, or
/// "adapter-<rank>" (four digits at least); only adapters that are used get a row.
/// Errors: kInvalid when the trace has no tenants to map by.
[[nodiscard]] Result<Trace> apply_mapping(Trace trace, const Mapping& mapping);

}  // namespace loracle
