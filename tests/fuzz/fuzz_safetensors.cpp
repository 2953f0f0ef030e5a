// Any bytes as the header of a .safetensors file (the first two say how much data follows it): refused, or a
// table whose tensors tile the data, and modules that lie within it.

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <set>
#include <string_view>
#include <utility>
#include <vector>

#include "../../engine/src/loader/lora_tensors.hpp"
#include "../../engine/src/loader/safetensors.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  const std::uint64_t data_bytes = data[0] + 256U * data[1];
  std::vector<char> header(data + 2, data + size);
  const std::uint64_t data_begin = 8 + header.size();
  const auto table = loracle::parse_safetensors_header(std::move(header), data_begin + data_bytes);
  if (!table) return 0;
  std::set<std::string_view> names;
  std::uint64_t total = 0;
  for (const loracle::TensorRow& row : table->rows) {
    if (!names.insert(row.name).second) std::abort();
    std::uint64_t bytes = loracle::bytes_of(row.stored.dtype);
    for (std::uint32_t i = 0; i < row.dimensions; ++i) bytes *= row.shape[i];
    if (row.stored.offset < data_begin || row.stored.offset + bytes > data_begin + data_bytes) std::abort();
    total += bytes;
  }
  if (total != data_bytes) std::abort();
  loracle::AdapterConfig config;
  config.r = 2;
  config.alpha = 1;
  const auto scales = loracle::ModuleScales::compile(config);
  if (!scales) std::abort();
  const auto modules = loracle::lora_modules(*table, *scales, loracle::kLoraRankMax);
  if (!modules) return 0;
  for (const loracle::LoraModule& module : *modules) {
    if (module.rank != 2 || module.in == 0 || module.out == 0) std::abort();
    if (module.a.offset + 2 * std::uint64_t{module.in} * loracle::bytes_of(module.a.dtype) >
        data_begin + data_bytes)
      std::abort();
  }
  return 0;
}
