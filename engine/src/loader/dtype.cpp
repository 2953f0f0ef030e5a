#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string>

#include "loracle/core/nearest.hpp"
#include "loracle/engine/adapter_files.hpp"

namespace loracle {
namespace {

struct DtypeName {
  std::string_view name;
  Dtype dtype;
};

// Torch's own name of each comes first.
constexpr std::array kDtypeNames = {
    DtypeName{"float32", Dtype::kF32},
    DtypeName{"float16", Dtype::kF16},
    DtypeName{"bfloat16", Dtype::kBf16},
    DtypeName{"float8_e4m3fn", Dtype::kF8E4M3},
    DtypeName{"float8_e5m2", Dtype::kF8E5M2},
    DtypeName{"fp32", Dtype::kF32},
    DtypeName{"f32", Dtype::kF32},
    DtypeName{"fp16", Dtype::kF16},
    DtypeName{"f16", Dtype::kF16},
    DtypeName{"half", Dtype::kF16},
    DtypeName{"bf16", Dtype::kBf16},
};

}  // namespace

std::uint32_t bytes_of(Dtype dtype) noexcept {
  switch (dtype) {
    case Dtype::kF32:
      return 4;
    case Dtype::kF16:
    case Dtype::kBf16:
      return 2;
    case Dtype::kF8E4M3:
    case Dtype::kF8E5M2:
      return 1;
  }
  return 0;
}

std::string_view name_of(Dtype dtype) noexcept {
  const auto* found = std::find_if(kDtypeNames.begin(), kDtypeNames.end(),
                                   [dtype](const DtypeName& entry) { return entry.dtype == dtype; });
  return found == kDtypeNames.end() ? "unknown" : found->name;
}

Result<Dtype> parse_dtype(std::string_view name) {
  for (const DtypeName& entry : kDtypeNames)
    if (entry.name == name) return entry.dtype;
  std::array<std::string_view, kDtypeNames.size()> names;
  std::transform(kDtypeNames.begin(), kDtypeNames.end(), names.begin(),
                 [](const DtypeName& entry) { return entry.name; });
  return fail(Errc::kNotFound, unknown_name_message("dtype", name, names));
}

std::string_view name_of(WeightFormat format) noexcept {
  switch (format) {
    case WeightFormat::kSafetensors:
      return "safetensors";
    case WeightFormat::kTorchZip:
      return "torch_zip";
    case WeightFormat::kTorchLegacy:
      return "torch_legacy";
  }
  return "unknown";
}

}  // namespace loracle
