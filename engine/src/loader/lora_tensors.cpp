#include "lora_tensors.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <limits>
#include <utility>

namespace loracle {
namespace {

constexpr std::string_view kPrefix = "base_model.model.";
constexpr std::string_view kEndA = ".lora_A.weight";
constexpr std::string_view kEndB = ".lora_B.weight";
constexpr std::uint64_t kSideMax = std::numeric_limits<std::int32_t>::max();

struct Reason {
  std::string_view part;
  std::string_view why;
};
// The first part found in the name decides.
constexpr std::array kReasons = {
    Reason{"lora_magnitude_vector", "DoRA is not supported"},
    Reason{"lora_embedding_", "LoRA on an embedding is not supported"},
    Reason{"modules_to_save", "modules_to_save must be merged into the base model"},
    Reason{"base_layer", "it is a weight of the base model (save with save_embedding_layers=False)"},
    Reason{".lora_A.", "a LoRA matrix must end in .lora_A.weight (an adapter's name within it is not read)"},
    Reason{".lora_B.", "a LoRA matrix must end in .lora_B.weight (an adapter's name within it is not read)"},
    Reason{".bias", "biases are not supported"},
};

/// One tensor on its way to its module.
struct Part {
  LoraTensorName name;
  const TensorRow* row = nullptr;
};

bool before(const Part& a, const Part& b) noexcept {
  const int order = a.name.module.compare(b.name.module);
  return order != 0 ? order < 0 : !a.name.is_b && b.name.is_b;
}

tl::unexpected<Error> refuse(std::string_view module, std::string_view what) {
  return fail(Errc::kInvalid, fmt::format("module '{}': {}", module, what));
}

std::string shape_text(const TensorRow& row) {
  return fmt::format("[{}]", fmt::join(row.shape.begin(), row.shape.begin() + row.dimensions, ", "));
}

Result<std::vector<Part>> take_names_apart(const TensorTable& table) {
  std::vector<Part> parts;
  parts.reserve(table.rows.size());
  for (const TensorRow& row : table.rows) {
    const std::optional<LoraTensorName> name = parse_lora_tensor_name(row.name);
    if (!name)
      return fail(Errc::kInvalid,
                  fmt::format("tensor '{}' cannot be served: {}", row.name, why_not_lora(row.name)));
    if (row.dimensions != 2)
      return fail(Errc::kInvalid, fmt::format("tensor '{}' has shape {}: a LoRA matrix has two dimensions",
                                              row.name, shape_text(row)));
    parts.push_back({*name, &row});
  }
  // The usual writers sort by name, which also puts A before B.
  if (!std::is_sorted(parts.begin(), parts.end(), before)) std::sort(parts.begin(), parts.end(), before);
  return parts;
}

Result<LoraModule> join(const Part& a, const Part& b, const ModuleScales& scales, std::uint32_t rank_max) {
  const std::string_view name = a.name.module;
  const std::uint32_t rank = scales.rank_of(name);
  if (rank > rank_max) return refuse(name, fmt::format("rank {} is greater than {}", rank, rank_max));
  const bool fits = a.row->shape[0] == rank && b.row->shape[1] == rank;
  if (!fits)
    return refuse(name, fmt::format("A is {} and B is {}, but its rank by the config is {}",
                                    shape_text(*a.row), shape_text(*b.row), rank));
  const std::uint64_t in = a.row->shape[1];
  const std::uint64_t out = b.row->shape[0];
  if (in == 0 || out == 0 || in > kSideMax || out > kSideMax)
    return refuse(name, fmt::format("A is {} and B is {}: a side is empty or absurd", shape_text(*a.row),
                                    shape_text(*b.row)));
  LoraModule module;
  module.name = std::string(name);
  module.rank = rank;
  module.in = static_cast<std::uint32_t>(in);
  module.out = static_cast<std::uint32_t>(out);
  module.scaling = scales.scaling_of(name, rank);
  module.a = a.row->stored;
  module.b = b.row->stored;
  return module;
}

}  // namespace

std::optional<LoraTensorName> parse_lora_tensor_name(std::string_view name) noexcept {
  if (name.substr(0, kPrefix.size()) == kPrefix) name.remove_prefix(kPrefix.size());
  if (name.size() <= kEndA.size()) return std::nullopt;
  const std::string_view module = name.substr(0, name.size() - kEndA.size());
  const std::string_view end = name.substr(module.size());
  if (end != kEndA && end != kEndB) return std::nullopt;
  // A name that holds such a part and still ends well, such as x.base_layer.lora_A.weight, is a real module.
  if (module.find("modules_to_save") != std::string_view::npos) return std::nullopt;
  return LoraTensorName{module, end == kEndB};
}

std::string_view why_not_lora(std::string_view name) noexcept {
  for (const Reason& reason : kReasons)
    if (name.find(reason.part) != std::string_view::npos) return reason.why;
  return "it is not a LoRA matrix (.lora_A.weight or .lora_B.weight)";
}

Result<std::vector<LoraModule>> lora_modules(const TensorTable& table, const ModuleScales& scales,
                                             std::uint32_t rank_max) {
  Result<std::vector<Part>> parts = take_names_apart(table);
  if (!parts) return fail(std::move(parts.error()));
  if (parts->empty()) return fail(Errc::kInvalid, "there is no LoRA matrix in it");
  std::vector<LoraModule> modules;
  modules.reserve(parts->size() / 2);
  for (std::size_t i = 0; i < parts->size();) {
    const Part& a = (*parts)[i];
    const std::size_t left = parts->size() - i;
    const bool paired = left > 1 && (*parts)[i + 1].name.module == a.name.module;
    if (!paired)
      return refuse(a.name.module, a.name.is_b ? "B is there, A is missing" : "A is there, B is missing");
    const Part& b = (*parts)[i + 1];
    const bool third = left > 2 && (*parts)[i + 2].name.module == a.name.module;
    if (third || a.name.is_b == b.name.is_b)
      return refuse(a.name.module, "its A or B is there twice, with and without base_model.model.");
    Result<LoraModule> module = join(a, b, scales, rank_max);
    if (!module) return fail(std::move(module.error()));
    modules.push_back(std::move(*module));
    i += 2;
  }
  return modules;
}

}  // namespace loracle
