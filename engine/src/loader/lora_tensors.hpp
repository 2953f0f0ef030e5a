#pragma once
/// From the tensors of a weights file to the modules of an adapter: names taken apart, A and B paired, shapes
/// compared with the config. Whatever is not a LoRA matrix is refused by name, because vLLM would refuse it,
/// or, worse, leave it out and serve something else than was trained.
/// Pure functions. Errors: kInvalid; messages do not hold the path.

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "loracle/core/result.hpp"
#include "loracle/engine/adapter_files.hpp"
#include "module_scales.hpp"
#include "tensor_table.hpp"

namespace loracle {

struct LoraTensorName {
  std::string_view module;  // without base_model.model.
  bool is_b = false;
};
/// Nothing unless it is [base_model.model.]MODULE.lora_A.weight or .lora_B.weight.
[[nodiscard]] std::optional<LoraTensorName> parse_lora_tensor_name(std::string_view name) noexcept;
/// Why a tensor of that name cannot be served. REQUIRES: parse_lora_tensor_name(name) is nothing.
[[nodiscard]] std::string_view why_not_lora(std::string_view name) noexcept;

/// The modules, ascending by name. `rank_max`: what a rank may be at most.
[[nodiscard]] Result<std::vector<LoraModule>> lora_modules(const TensorTable& table,
                                                           const ModuleScales& scales,
                                                           std::uint32_t rank_max);

}  // namespace loracle
