#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>
#include <optional>
#include <tuple>
#include <unordered_map>
#include <utility>

#include "element_type.hpp"
#include "fused_modules.hpp"
#include "loracle/engine/image.hpp"

namespace loracle {
namespace {

constexpr std::uint32_t kNoLayer = std::numeric_limits<std::uint32_t>::max();
constexpr std::array<std::string_view, 7> kKindOrder = {"q_proj",    "k_proj",  "v_proj",   "o_proj",
                                                        "gate_proj", "up_proj", "down_proj"};

/// The first part of the name that is a number; without one a module stands behind all layers.
std::uint32_t layer_of(std::string_view module) noexcept {
  while (!module.empty()) {
    const std::string_view part = module.substr(0, module.find('.'));
    std::uint32_t number = 0;
    const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), number);
    if (error == std::errc{} && end == part.data() + part.size()) return number;
    module.remove_prefix(std::min(part.size() + 1, module.size()));
  }
  return kNoLayer;
}

std::size_t kind_of(std::string_view module) noexcept {
  const std::string_view last = last_part(module);
  return static_cast<std::size_t>(std::find(kKindOrder.begin(), kKindOrder.end(), last) - kKindOrder.begin());
}

struct Shape {
  std::uint32_t in = 0;
  std::uint32_t out = 0;
  const AdapterFiles* of = nullptr;  // the first adapter that has the module
};
using Shapes = std::unordered_map<std::string_view, Shape>;

Result<Shapes> all_shapes(std::span<const AdapterFiles* const> adapters) {
  Shapes shapes;
  for (const AdapterFiles* const adapter : adapters) {
    for (const LoraModule& module : adapter->modules) {
      const auto [at, added] = shapes.try_emplace(module.name, Shape{module.in, module.out, adapter});
      const Shape& known = at->second;
      if (added || (known.in == module.in && known.out == module.out)) continue;
      return fail(Errc::kInvalid,
                  fmt::format("{}: module '{}' is {} -> {}, but in {} it is {} -> {}: they are "
                              "not adapters of one model",
                              adapter->directory, module.name, module.in, module.out, known.of->directory,
                              known.in, known.out));
    }
  }
  return shapes;
}

/// True if the module's parts are slices and make it up; false if none of them is one.
Result<bool> is_cut(std::string_view module, const Shape& whole, const Shapes& shapes) {
  std::uint64_t out = 0;
  std::size_t found = 0;
  std::size_t parts = 0;
  bool same_input = true;
  for (const std::string& part : parts_of_fused(module)) {
    ++parts;
    const auto at = shapes.find(part);
    if (at == shapes.end()) continue;
    ++found;
    out += at->second.out;
    same_input = same_input && at->second.in == whole.in;
  }
  if (found == 0) return false;
  if (found == parts && out == whole.out && same_input) return true;
  return fail(Errc::kInvalid,
              fmt::format("{}: module '{}' ({} -> {}) does not fit its parts in other adapters, which "
                          "have {} of {} with {} rows in all",
                          whole.of->directory, module, whole.in, whole.out, found, parts, out));
}

}  // namespace

std::uint64_t SlotLayout::slot_bytes() const noexcept {
  std::uint64_t width = 0;
  for (const SlotSlice& slice : slices) width += std::uint64_t{slice.in} + slice.out;
  return width * max_rank * bytes_of(dtype);
}

Result<SlotLayout> layout_for(std::span<const AdapterFiles* const> adapters, std::uint32_t max_rank,
                              Dtype dtype) {
  if (!is_serving_dtype(dtype))
    return fail(
        Errc::kUnsupported,
        fmt::format("adapters cannot be served as {}: use float32, float16 or bfloat16", name_of(dtype)));
  const Result<Shapes> shapes = all_shapes(adapters);
  if (!shapes) return fail(shapes.error());
  SlotLayout layout;
  layout.max_rank = max_rank;
  layout.dtype = dtype;
  for (const auto& [module, shape] : *shapes) {
    const Result<bool> cut = is_cut(module, shape, *shapes);
    if (!cut) return fail(cut.error());
    if (!*cut) layout.slices.push_back({std::string(module), shape.in, shape.out});
  }
  std::sort(layout.slices.begin(), layout.slices.end(), [](const SlotSlice& a, const SlotSlice& b) {
    return std::tuple(layer_of(a.module), kind_of(a.module), std::string_view(a.module)) <
           std::tuple(layer_of(b.module), kind_of(b.module), std::string_view(b.module));
  });
  return layout;
}

}  // namespace loracle
