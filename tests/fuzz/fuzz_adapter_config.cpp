// Any bytes as an adapter_config.json (and, behind a line break, the name of a module): refused with its
// path, or a config whose two ways of answering for a module agree.

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "../../engine/src/loader/module_scales.hpp"
#include "loracle/engine/adapter_config.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const std::size_t line = text.rfind('\n');
  const std::string_view module =
      line == std::string_view::npos ? "model.layers.0.q_proj" : text.substr(line + 1);
  const auto config = loracle::parse_adapter_config(text.substr(0, line), "dir/adapter_config.json");
  if (!config) {
    if (config.error().message.find("dir/adapter_config.json: ") != 0) std::abort();
    return 0;
  }
  if (config->r == 0 || !std::isfinite(config->alpha)) std::abort();
  (void)loracle::check_adapter_config(*config, {}, "dir/adapter_config.json");
  const auto scales = loracle::ModuleScales::compile(*config);
  if (!scales) return 0;
  const std::uint32_t rank = scales->rank_of(module);
  if (rank == 0 || rank != config->rank_of(module)) std::abort();
  if (scales->scaling_of(module, rank) != config->scaling_of(module)) std::abort();
  return 0;
}
