#pragma once
/// What a plan's advice is called in other engines: SGLang, TensorRT-LLM, LoRAX, NIM.
///
/// Each counts in its own unit (slots, cache rows, a share of memory), so values are computed from the chosen
/// sizes, the rank and the model; where an engine has no such setting, a note says so. What is not known (a
/// model, the GPU's memory) leaves a setting out, with a note on what to give.
/// Pure functions. Sources: SGLang's LoRA server arguments; TensorRT-LLM's LoraConfig and PeftCacheConfig
/// (cache rows: one of rank 1 in one layer's module); LoRAX's launcher; NIM's PEFT variables.

#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "loracle/core/result.hpp"
#include "loracle/sim/plan.hpp"

namespace loracle {

struct EngineKnobs {
  std::string engine;
  std::string settings;                                     // to paste
  std::vector<std::pair<std::string, std::string>> values;  // setting, value
  std::vector<std::string> notes;                           // sentences
};

/// "sglang", "tensorrt-llm", "lorax", "nim".
[[nodiscard]] std::span<const std::string_view> engine_names() noexcept;
/// Of every engine, in that order.
[[nodiscard]] std::vector<EngineKnobs> engine_knobs(const Plan& plan);

}  // namespace loracle
