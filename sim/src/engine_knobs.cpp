#include "loracle/sim/engine_knobs.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

namespace loracle {
namespace {

constexpr std::array<std::string_view, 4> kNames = {"sglang", "tensorrt-llm", "lorax", "nim"};

/// `--name value` for each.
std::string flags_text(const EngineKnobs& knobs) {
  std::string text;
  for (const auto& [name, value] : knobs.values) text += fmt::format(" {} {}", name, value);
  return text;
}

EngineKnobs sglang(const Plan& plan) {
  EngineKnobs knobs;
  knobs.engine = kNames[0];
  const bool serves_base = plan.requests > plan.requests_with_adapter;
  const std::uint32_t slots = plan.chosen.max_loras + (serves_base ? 1 : 0);
  const std::uint32_t host = std::max(plan.chosen.max_cpu_loras, slots);
  knobs.values = {{"--max-loras-per-batch", std::to_string(slots)},
                  {"--max-loaded-loras", std::to_string(host)},
                  {"--max-lora-rank", std::to_string(plan.max_lora_rank)}};
  knobs.settings = "--enable-lora" + flags_text(knobs);
  if (serves_base) knobs.notes.emplace_back("One slot more: requests without an adapter take one too.");
  knobs.notes.emplace_back(
      "In versions that do not reload by themselves, max-loaded-loras bounds what can be "
      "registered too.");
  return knobs;
}

EngineKnobs tensorrt_llm(const Plan& plan) {
  EngineKnobs knobs;
  knobs.engine = kNames[1];
  knobs.values = {{"max_loras", std::to_string(plan.chosen.max_loras)},
                  {"max_cpu_loras", std::to_string(plan.chosen.max_cpu_loras)},
                  {"max_lora_rank", std::to_string(plan.max_lora_rank)}};
  knobs.settings = fmt::format("LoraConfig(max_loras={}, max_cpu_loras={}, max_lora_rank={})",
                               plan.chosen.max_loras, plan.chosen.max_cpu_loras, plan.max_lora_rank);
  if (!plan.has_model) {
    knobs.notes.emplace_back("The cache rows of its C++ runtime are not known without --model.");
    return knobs;
  }
  std::uint64_t modules = 0;
  for (const LinearModule& module : plan.modules) modules += module.count;
  const std::uint64_t rows = modules * plan.max_lora_rank;
  const std::string device = std::to_string(rows * plan.chosen.max_loras);
  const std::string host = std::to_string(rows * plan.chosen.max_cpu_loras);
  knobs.values.emplace_back("num_device_module_layer", device);
  knobs.values.emplace_back("num_host_module_layer", host);
  knobs.settings += fmt::format(
      "; C++: PeftCacheConfig(num_device_module_layer={}, num_host_module_layer={})", device, host);
  knobs.notes.emplace_back("Its caches count rows, not adapters: smaller ranks take fewer, so more fit.");
  return knobs;
}

EngineKnobs lorax(const Plan& plan) {
  constexpr double kDigits = 1e4;
  EngineKnobs knobs;
  knobs.engine = kNames[2];
  const Bytes gpu = plan.cost_options.gpu_memory;
  if (plan.slot_bytes.value > 0 && gpu.value > 0) {
    const double share =
        static_cast<double>(plan.slot_bytes.value * plan.chosen.max_loras) / static_cast<double>(gpu.value);
    knobs.values.emplace_back("--adapter-memory-fraction",
                              fmt::format("{:.4f}", std::ceil(share * kDigits) / kDigits));
  } else {
    knobs.notes.emplace_back(
        "--adapter-memory-fraction, a share of GPU memory, needs --model and --gpu-memory.");
  }
  knobs.values.emplace_back("--max-active-adapters", std::to_string(plan.chosen.max_loras));
  knobs.settings = flags_text(knobs).substr(1);
  knobs.notes.emplace_back(
      "It has no max_cpu_loras: host memory is the kernel's page cache; leave that much "
      "free.");
  knobs.notes.emplace_back("It has no max_lora_rank: each adapter takes its own bytes.");
  return knobs;
}

EngineKnobs nim(const Plan& plan) {
  EngineKnobs knobs;
  knobs.engine = kNames[3];
  knobs.values = {{"NIM_MAX_GPU_LORAS", std::to_string(plan.chosen.max_loras)},
                  {"NIM_MAX_CPU_LORAS", std::to_string(plan.chosen.max_cpu_loras)},
                  {"NIM_MAX_LORA_RANK", std::to_string(plan.max_lora_rank)}};
  for (const auto& [name, value] : knobs.values)
    knobs.settings += fmt::format("{}{}={}", knobs.settings.empty() ? "" : " ", name, value);
  return knobs;
}

}  // namespace

std::span<const std::string_view> engine_names() noexcept { return kNames; }

std::vector<EngineKnobs> engine_knobs(const Plan& plan) {
  return {sglang(plan), tensorrt_llm(plan), lorax(plan), nim(plan)};
}

}  // namespace loracle
