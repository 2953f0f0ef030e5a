#pragma once
/// Rank and scaling of every module of one adapter: its config with the pattern keys compiled once, because
/// a config can have a key for every module, and there are hundreds of modules. Threads: immutable.
/// Errors: kUnsupported (a key; see peft_pattern.hpp).

#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "loracle/core/result.hpp"
#include "loracle/engine/adapter_config.hpp"
#include "peft_pattern.hpp"

namespace loracle {

class ModuleScales {
 public:
  [[nodiscard]] static Result<ModuleScales> compile(const AdapterConfig& config);

  [[nodiscard]] std::uint32_t rank_of(std::string_view module) const;
  /// REQUIRES: rank == rank_of(module).
  [[nodiscard]] double scaling_of(std::string_view module, std::uint32_t rank) const;

 private:
  std::uint32_t r_ = 0;
  double alpha_ = 0;
  bool use_rslora_ = false;
  std::vector<std::pair<PeftPattern, std::uint32_t>> ranks_;
  std::vector<std::pair<PeftPattern, double>> alphas_;
};

/// alpha / rank, or alpha / sqrt(rank) with rsLoRA.
[[nodiscard]] double lora_scaling(double alpha, std::uint32_t rank, bool use_rslora) noexcept;

}  // namespace loracle
