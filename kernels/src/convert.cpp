#include "loracle/kernels/convert.hpp"

#include <algorithm>
#include <array>
#include <cstring>

#include "convert_paths.hpp"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace loracle {
namespace {

template <std::size_t kWidth>
void look_up(const std::byte* table, const std::byte* from, std::byte* into, std::size_t count) noexcept {
  for (std::size_t i = 0; i < count; ++i)
    std::memcpy(into + i * kWidth, table + std::to_integer<std::size_t>(from[i]) * kWidth, kWidth);
}

Convert conversion_of(CpuPath path, ElementType from, ElementType to) noexcept {
  switch (path) {
    case CpuPath::kScalar:
      return scalar_conversion(from, to);
#if defined(__x86_64__)
    case CpuPath::kAvx512:
      return avx512_conversion(from, to);
    case CpuPath::kAvx2:
      return avx2_conversion(from, to);
#endif
    default:
      return portable_conversion(from, to);
  }
}

}  // namespace

CpuPath best_cpu_path() noexcept {
#if defined(__x86_64__)
  static const CpuPath best = [] {
    __builtin_cpu_init();
    unsigned a = 0;
    unsigned b = 0;
    unsigned c = 0;
    unsigned d = 0;
    const bool f16c = __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
    if (!f16c || !__builtin_cpu_supports("avx2")) return CpuPath::kPortable;
    const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    return avx512 ? CpuPath::kAvx512 : CpuPath::kAvx2;
  }();
  return best;
#else
  return CpuPath::kPortable;
#endif
}

std::string_view name_of(CpuPath path) noexcept {
  switch (path) {
    case CpuPath::kScalar:
      return "scalar";
    case CpuPath::kPortable:
      return "portable";
    case CpuPath::kAvx2:
      return "avx2";
    case CpuPath::kAvx512:
      return "avx512";
  }
  return "unknown";
}

// NOLINTNEXTLINE(cppcoreguidelines-pro-type-member-init): the table is large, and most need none
Converter::Converter(ElementType from, ElementType to, float scale, CpuPath path) noexcept
    : scale_(scale), width_(bytes_of(to)) {
  const CpuPath usable = std::min(path, best_cpu_path());
  if (bytes_of(from) != 1 || usable == CpuPath::kScalar) {
    convert_ = conversion_of(usable, from, to);
    return;
  }
  std::array<std::byte, kByteValues> values{};
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<std::byte>(i);
  scalar_conversion(from, to)(values.data(), table_.data(), values.size(), scale);
}

void Converter::operator()(const std::byte* from, std::byte* into, std::size_t count) const noexcept {
  if (convert_ != nullptr)
    convert_(from, into, count, scale_);
  else if (width_ == 4)
    look_up<4>(table_.data(), from, into, count);
  else
    look_up<2>(table_.data(), from, into, count);
}

void convert_elements(std::span<const std::byte> from, ElementType from_type, std::span<std::byte> into,
                      ElementType to, float scale, CpuPath path) noexcept {
  const std::size_t count = std::min(from.size() / bytes_of(from_type), into.size() / bytes_of(to));
  Converter(from_type, to, scale, path)(from.data(), into.data(), count);
}

}  // namespace loracle
