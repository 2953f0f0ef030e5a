#include "module_scales.hpp"

#include <cmath>
#include <utility>

namespace loracle {
namespace {

/// More keys that are not plain than this make even a linear match slow for hundreds of modules.
constexpr std::size_t kExpressionsMax = 256;

template <class Value>
Result<std::vector<std::pair<PeftPattern, Value>>> compile_keys(
    const std::vector<std::pair<std::string, Value>>& keys) {
  std::vector<std::pair<PeftPattern, Value>> compiled;
  compiled.reserve(keys.size());
  std::size_t expressions = 0;
  for (const auto& [key, value] : keys) {
    Result<PeftPattern> pattern = PeftPattern::compile(key);
    if (!pattern) return fail(std::move(pattern.error()));
    if (!pattern->is_plain() && ++expressions > kExpressionsMax)
      return fail(Errc::kUnsupported, "more than 256 pattern keys are regular expressions");
    compiled.emplace_back(std::move(*pattern), value);
  }
  return compiled;
}

template <class Value>
Value first_match(const std::vector<std::pair<PeftPattern, Value>>& keys, std::string_view module,
                  Value otherwise) {
  for (const auto& [pattern, value] : keys)
    if (pattern.matches(module)) return value;
  return otherwise;
}

}  // namespace

double lora_scaling(double alpha, std::uint32_t rank, bool use_rslora) noexcept {
  const auto divisor = static_cast<double>(rank);
  return alpha / (use_rslora ? std::sqrt(divisor) : divisor);
}

Result<ModuleScales> ModuleScales::compile(const AdapterConfig& config) {
  ModuleScales scales;
  scales.r_ = config.r;
  scales.alpha_ = config.alpha;
  scales.use_rslora_ = config.use_rslora;
  auto ranks = compile_keys(config.rank_pattern);
  if (!ranks) return fail(std::move(ranks.error()));
  auto alphas = compile_keys(config.alpha_pattern);
  if (!alphas) return fail(std::move(alphas.error()));
  scales.ranks_ = std::move(*ranks);
  scales.alphas_ = std::move(*alphas);
  return scales;
}

std::uint32_t ModuleScales::rank_of(std::string_view module) const { return first_match(ranks_, module, r_); }

double ModuleScales::scaling_of(std::string_view module, std::uint32_t rank) const {
  return lora_scaling(first_match(alphas_, module, alpha_), rank, use_rslora_);
}

}  // namespace loracle
