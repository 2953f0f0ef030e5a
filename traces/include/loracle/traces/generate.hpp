#pragma once
/// Synthetic traces with known laws, for tests, benchmarks and comparison with papers.
///   zipf          each request draws its adapter on its own, P(adapter k) ~ 1 / (k + 1)^alpha
///   s-lora-power  each request draws floor(N * U^(1/alpha)): the adapter choice of S-LoRA's benchmark;
///                 alpha 1 is uniform, a smaller alpha favours low numbers (density ~ k^(alpha - 1))
///   regimes       zipf, but every `regime_s` seconds popularity is dealt out anew at random and a share
///                 `churn` of the adapters is replaced by adapters never seen before
/// The first two draw independently and so lack the temporal locality of real traffic: policies rank
/// differently on them than on recorded traces. `regimes` shows how fast a policy forgets.
/// Arrivals are Poisson (`rate_rps`), in whole microseconds; a request uses one adapter; token counts (at
/// least 1) and durations are exponential about their means, and their column is absent when the mean is 0.
/// Adapter k is named "adapter-<k>", four digits at least; its rank is drawn from `ranks` by seed and number
/// alone, and its bytes are rank x bytes_per_rank. All adapters of the catalog are in the trace, used or not.
/// Equal options give equal traces, bit for bit, on every platform: draws are in integers, and the popularity
/// tables come from exactly rounded operations (no libm, nothing to contract). Each kind of draw has its own
/// stream, so that, say, another mean duration leaves arrivals and adapters as they were.
/// Cost: O(1) a request, O(adapters) to begin with and at each regime. Threads: any.
/// Errors: kInvalid, naming the field and what it may be.
/// Sources: S-LoRA (MLSys 2024), benchmarks/trace.py; exponential draws: J. von Neumann, "Various techniques
/// used in connection with random digits" (1951), by comparisons alone; discrete draws: A. J. Walker (1977)
/// and M. D. Vose (1991), the alias method.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "loracle/core/result.hpp"
#include "loracle/traces/trace.hpp"

namespace loracle {

struct GenerateOptions {
  std::string generator = "zipf";
  std::uint32_t adapters = 100;    // 1 .. 10,000,000
  std::uint64_t requests = 10000;  // 1 .. 4,000,000,000
  double rate_rps = 10;            // mean requests a second
  double alpha = 0.9;              // zipf, regimes: exponent, 0 .. 20; s-lora-power: 0.001 .. 20
  double duration_s_mean = 0;      // how long a request holds its adapter
  double input_tokens_mean = 0;
  double output_tokens_mean = 0;
  std::vector<std::uint16_t> ranks = {8, 16, 32, 64};
  std::uint64_t bytes_per_rank = 5'242'880;  // Llama-3.1-8B, all linear layers, bf16
  double regime_s = 600;                     // regimes only
  double churn = 0.2;                        // regimes only, 0 .. 1
  std::uint64_t seed = 1;
};

/// `source` is the options as `generator_text` writes them, `format` "generated", `mapping` the generator's
/// name.
[[nodiscard]] Result<Trace> generate(const GenerateOptions& options);

/// Reads `zipf:adapters=200:alpha=0.9:requests=100000:rate=10:duration=0:input_tokens=0:output_tokens=0:
/// ranks=8,16:bytes_per_rank=5242880:seed=1`, for regimes also `:regime_s=600:churn=0.2`. What is left out
/// keeps its default (alpha 0.1 for s-lora-power).
[[nodiscard]] Result<GenerateOptions> parse_generator(std::string_view text);

/// Every parameter, in the form `parse_generator` reads.
[[nodiscard]] std::string generator_text(const GenerateOptions& options);

/// For help and for "did you mean".
[[nodiscard]] const std::vector<std::string>& generator_names();

}  // namespace loracle
