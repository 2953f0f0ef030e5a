#include "model_modules.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>

namespace loracle {
namespace {

/// Where a module lies in the model's tree, as transformers names it.
std::string path_of(const ModelGeometry& model, const LinearModule& module, std::uint32_t layer) {
  const auto has = [&model](std::string_view name) {
    return std::any_of(model.modules.begin(), model.modules.end(),
                       [name](const LinearModule& other) { return other.name == name; });
  };
  const bool opt = has("fc1") && has("out_proj");
  const std::string_view root = opt ? "model.decoder.layers" : "model.layers";
  if (module.part == LinearModule::Part::kAttention)
    return fmt::format("{}.{}.self_attn.{}", root, layer, module.name);
  return opt ? fmt::format("{}.{}.{}", root, layer, module.name)
             : fmt::format("{}.{}.mlp.{}", root, layer, module.name);
}

}  // namespace

std::vector<LoraModule> modules_of(const ModelGeometry& model, std::span<const LinearModule> targets) {
  std::vector<LoraModule> modules;
  const auto add = [&modules](std::string name, const LinearModule& shape) {
    LoraModule module;
    module.name = std::move(name);
    module.rank = 1;
    module.in = static_cast<std::uint32_t>(shape.d_in);
    module.out = static_cast<std::uint32_t>(shape.d_out);
    modules.push_back(std::move(module));
  };
  for (const LinearModule& module : targets) {
    for (std::uint32_t layer = 0; layer < model.layers; ++layer) {
      if (module.part != LinearModule::Part::kExpert) {
        add(path_of(model, module, layer), module);
        continue;
      }
      for (std::uint32_t expert = 0; expert < model.experts; ++expert)
        add(fmt::format("model.layers.{}.mlp.experts.{}.{}", layer, expert, module.name), module);
    }
  }
  std::sort(modules.begin(), modules.end(),
            [](const LoraModule& a, const LoraModule& b) { return a.name < b.name; });
  return modules;
}

}  // namespace loracle
