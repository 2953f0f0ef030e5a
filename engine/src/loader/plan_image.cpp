#include <fmt/format.h>

#include <algorithm>
#include <unordered_map>
#include <utility>
#include <vector>

#include "element_type.hpp"
#include "fused_modules.hpp"
#include "loracle/engine/image.hpp"

namespace loracle {
namespace {

using SliceIndex = std::unordered_map<std::string_view, std::uint32_t>;

struct Planner {
  const AdapterFiles& adapter;
  const SlotLayout& layout;
  SliceIndex slices;
  std::vector<ImageTensor> tensors;

  [[nodiscard]] tl::unexpected<Error> refuse(Errc code, const LoraModule& module,
                                             std::string_view what) const {
    return fail(code, fmt::format("{}: module '{}' {}", adapter.directory, module.name, what));
  }

  Result<Unit> fill(const LoraModule& module, std::uint32_t slice, std::uint32_t out) {
    const SlotSlice& into = layout.slices[slice];
    if (into.in != module.in || into.out != out)
      return refuse(Errc::kInvalid, module,
                    fmt::format("is {} -> {}, the served model's '{}' is {} -> {}", module.in, out,
                                into.module, into.in, into.out));
    ImageTensor tensor;
    tensor.slice = slice;
    tensor.rank = module.rank;
    tensors.push_back(tensor);
    return Unit{};
  }

  Result<Unit> add(const LoraModule& module) {
    if (module.rank > layout.max_rank)
      return refuse(Errc::kTooLarge, module,
                    fmt::format("has rank {}, the slots hold up to {}", module.rank, layout.max_rank));
    if (const auto found = slices.find(module.name); found != slices.end())
      return fill(module, found->second, module.out);
    std::uint64_t rows = 0;
    const std::vector<std::string> parts = parts_of_fused(module.name);
    for (const std::string& part : parts) {
      const auto found = slices.find(part);
      if (found == slices.end()) return refuse(Errc::kInvalid, module, "is not in the served model's layout");
      const std::uint32_t out = layout.slices[found->second].out;
      if (auto filled = fill(module, found->second, out); !filled) return filled;
      rows += out;
    }
    if (parts.empty()) return refuse(Errc::kInvalid, module, "is not in the served model's layout");
    if (rows != module.out)
      return refuse(Errc::kInvalid, module,
                    fmt::format("has {} rows, its parts in the layout have {}", module.out, rows));
    return Unit{};
  }
};

}  // namespace

Result<ImageManifest> plan_image(const AdapterFiles& adapter, const SlotLayout& layout) {
  if (!is_serving_dtype(layout.dtype))
    return fail(Errc::kUnsupported, fmt::format("adapters cannot be served as {}: use float32, float16 or "
                                                "bfloat16",
                                                name_of(layout.dtype)));
  Planner planner{adapter, layout, {}, {}};
  planner.slices.reserve(layout.slices.size());
  for (std::uint32_t i = 0; i < layout.slices.size(); ++i) planner.slices.emplace(layout.slices[i].module, i);
  planner.tensors.reserve(adapter.modules.size());
  for (const LoraModule& module : adapter.modules)
    if (auto added = planner.add(module); !added) return fail(std::move(added.error()));

  ImageManifest manifest;
  manifest.tensors = std::move(planner.tensors);
  const auto by_slice = [](const ImageTensor& a, const ImageTensor& b) { return a.slice < b.slice; };
  std::sort(manifest.tensors.begin(), manifest.tensors.end(), by_slice);
  for (ImageTensor& tensor : manifest.tensors) {
    const SlotSlice& slice = layout.slices[tensor.slice];
    tensor.a_offset = manifest.elements;
    tensor.b_offset = tensor.a_offset + std::uint64_t{tensor.rank} * slice.in;
    manifest.elements = tensor.b_offset + std::uint64_t{tensor.rank} * slice.out;
  }
  const auto same_slice = [](const ImageTensor& a, const ImageTensor& b) { return a.slice == b.slice; };
  const auto twice = std::adjacent_find(manifest.tensors.begin(), manifest.tensors.end(), same_slice);
  if (twice != manifest.tensors.end())
    return fail(Errc::kInvalid,
                fmt::format("{}: '{}' is filled twice, by a module of its own and by a fused one",
                            adapter.directory, layout.slices[twice->slice].module));
  return manifest;
}

}  // namespace loracle
