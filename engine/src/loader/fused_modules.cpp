#include "fused_modules.hpp"

#include <algorithm>
#include <array>

namespace loracle {
namespace {

struct Fused {
  std::string_view whole;
  std::array<std::string_view, 3> parts;  // an empty one ends them
};
constexpr std::array kFused = {
    Fused{"qkv_proj", {"q_proj", "k_proj", "v_proj"}},
    Fused{"gate_up_proj", {"gate_proj", "up_proj", ""}},
};

std::string with_last_part(std::string_view module, std::string_view last) {
  std::string name(module.substr(0, module.size() - last_part(module).size()));
  return name.append(last);
}

}  // namespace

std::string_view last_part(std::string_view module) noexcept {
  const std::size_t dot = module.rfind('.');
  return dot == std::string_view::npos ? module : module.substr(dot + 1);
}

std::vector<std::string> parts_of_fused(std::string_view module) {
  std::vector<std::string> names;
  const std::string_view last = last_part(module);
  const auto* fused =
      std::find_if(kFused.begin(), kFused.end(), [last](const Fused& entry) { return entry.whole == last; });
  if (fused == kFused.end()) return names;
  for (const std::string_view part : fused->parts)
    if (!part.empty()) names.push_back(with_last_part(module, part));
  return names;
}

std::string fused_of_part(std::string_view module) {
  const std::string_view last = last_part(module);
  for (const Fused& fused : kFused)
    if (std::find(fused.parts.begin(), fused.parts.end(), last) != fused.parts.end())
      return with_last_part(module, fused.whole);
  return {};
}

}  // namespace loracle
