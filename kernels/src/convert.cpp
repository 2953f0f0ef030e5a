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

constexpr std::size_t kByteValues = 256;

/// A byte has 256 values: each is converted once, then looked up. Faster than arithmetic on any processor.
template <class Stored>
void convert_bytes(const std::byte* from, std::byte* into, std::size_t count, Convert convert,
                   float scale) noexcept {
  std::array<std::byte, kByteValues> values{};
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<std::byte>(i);
  std::array<Stored, kByteValues> table{};
  convert(values.data(), reinterpret_cast<std::byte*>(table.data()), values.size(), scale);
  for (std::size_t i = 0; i < count; ++i)
    std::memcpy(into + i * sizeof(Stored), &table[std::to_integer<std::size_t>(from[i])], sizeof(Stored));
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

void convert_elements(std::span<const std::byte> from, ElementType from_type, std::span<std::byte> into,
                      ElementType to, float scale, CpuPath path) noexcept {
  const std::size_t count = std::min(from.size() / bytes_of(from_type), into.size() / bytes_of(to));
  const CpuPath usable = std::min(path, best_cpu_path());
  if (bytes_of(from_type) == 1 && usable != CpuPath::kScalar) {
    const Convert convert = scalar_conversion(from_type, to);
    if (to == ElementType::kF32)
      convert_bytes<std::uint32_t>(from.data(), into.data(), count, convert, scale);
    else
      convert_bytes<std::uint16_t>(from.data(), into.data(), count, convert, scale);
    return;
  }
  conversion_of(usable, from_type, to)(from.data(), into.data(), count, scale);
}

}  // namespace loracle
