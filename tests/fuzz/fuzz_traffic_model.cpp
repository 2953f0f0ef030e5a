// Any bytes as the JSON of a fit: refused with the file's name, or a model that is sound, reads back equal
// once written, and whose traces keep every promise.

#include <cstdlib>
#include <string>
#include <string_view>

#include "loracle/traces/check_trace.hpp"
#include "loracle/traces/synthesize.hpp"
#include "loracle/traces/traffic_model.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto model = loracle::parse_traffic_model(text, "fit.json");
  if (!model) {
    if (model.error().message.find("fit.json: ") != 0) std::abort();
    return 0;
  }
  if (!loracle::check_traffic_model(*model)) std::abort();
  const std::string json = R"({"schema":"loracle.traffic/1","model":)" + loracle::to_json(*model) + "}";
  const auto again = loracle::parse_traffic_model(json, "fit.json");
  if (!again || !(*again == *model)) std::abort();
  double requests = 0;
  for (const std::uint32_t count : model->cell_count) requests += count;
  if (requests > 1e5) return 0;
  const auto trace = loracle::synthesize(*model, {});
  if (trace && !loracle::check_trace(*trace)) std::abort();
  return 0;
}
