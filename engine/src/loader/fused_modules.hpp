#pragma once
/// Modules that some adapters have in one piece and some in parts: qkv_proj is q, k and v by rows of B,
/// gate_up_proj is gate and up (vLLM's packed_modules_mapping). Pure functions; threads: any.

#include <string>
#include <string_view>
#include <vector>

namespace loracle {

/// "model.layers.0.self_attn.q_proj" -> "q_proj".
[[nodiscard]] std::string_view last_part(std::string_view module) noexcept;
/// The full names of a fused module's parts, in the order of their rows; empty if it is not fused.
[[nodiscard]] std::vector<std::string> parts_of_fused(std::string_view module);
/// The full name of the fused module a part belongs to; empty if there is none.
[[nodiscard]] std::string fused_of_part(std::string_view module);

}  // namespace loracle
