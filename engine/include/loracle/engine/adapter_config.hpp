#pragma once
/// A PEFT `adapter_config.json`, and the rules an adapter must keep to be served.
///
/// vLLM's rules (its PEFTHelper): r, lora_alpha and target_modules are required; r > 0; modules_to_save,
/// DoRA and bias are refused; r <= max_lora_rank. Beyond vLLM, which ignores these keys and then serves wrong
/// weights: rank_pattern and alpha_pattern are honoured, fan_in_fan_out is honoured, peft_type must be LORA,
/// and base_model_name_or_path must be the served model or an alias of it, where one is given.
/// Patterns follow PEFT: a key matches a module when the module's name is the key or ends in "." + key, the
/// key read as a regular expression; of several keys the first wins. Of regular expressions the part people
/// use is understood (characters . [] () | * + ? ^ $ \d \w \s); a key outside it is refused.
/// Pure functions. Errors: kCorrupt (not JSON, a field of the wrong type), kInvalid (a rule is broken),
/// kUnsupported (a pattern key). Parsing stops at the first field it cannot read, but names all that are
/// missing; checking names every broken rule in one message. Messages begin with the path.
/// Source: vLLM main of 2026-08-07, vllm/lora/peft_helper.py; PEFT's LoraConfig.

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "loracle/core/result.hpp"

namespace loracle {

struct AdapterConfig {
  std::uint32_t r = 0;
  double alpha = 0;
  bool use_rslora = false;
  bool fan_in_fan_out = false;  // the base layer is stored transposed (GPT-2's Conv1D); LoRA itself is not
  bool use_dora = false;
  bool has_modules_to_save = false;
  std::string bias = "none";
  std::string peft_type;                    // empty: not given
  std::string base_model;                   // base_model_name_or_path; empty: not given
  std::vector<std::string> target_modules;  // as written; one entry when it was a string
  std::vector<std::pair<std::string, std::uint32_t>> rank_pattern;  // in the file's order
  std::vector<std::pair<std::string, double>> alpha_pattern;

  /// Rank of a module by its full name ("model.layers.0.self_attn.q_proj").
  [[nodiscard]] std::uint32_t rank_of(std::string_view module) const;
  /// alpha / rank, or alpha / sqrt(rank) with rsLoRA, patterns applied.
  [[nodiscard]] double scaling_of(std::string_view module) const;
};

struct AdapterRules {
  std::uint32_t max_lora_rank = 0;       // 0: any, up to kLoraRankMax
  std::vector<std::string> base_models;  // accepted base_model_name_or_path; empty: any
};
inline constexpr std::uint32_t kLoraRankMax = 512;
/// What a rank may be at most under these rules.
[[nodiscard]] constexpr std::uint32_t lora_rank_max(const AdapterRules& rules) noexcept {
  const bool lower = rules.max_lora_rank > 0 && rules.max_lora_rank < kLoraRankMax;
  return lower ? rules.max_lora_rank : kLoraRankMax;
}
inline constexpr std::uint64_t kAdapterConfigBytesMax = 1U << 20U;

[[nodiscard]] Result<AdapterConfig> parse_adapter_config(std::string_view text, const std::string& path);
[[nodiscard]] Result<Unit> check_adapter_config(const AdapterConfig& config, const AdapterRules& rules,
                                                const std::string& path);

}  // namespace loracle
