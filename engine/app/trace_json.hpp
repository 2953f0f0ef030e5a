#pragma once
/// How a trace is described at the head of every output: source, format, mapping, counts.

#include <nlohmann/json.hpp>
#include <string>

#include "loracle/sim/replay.hpp"
#include "loracle/traces/trace.hpp"

namespace loracle::app {

[[nodiscard]] inline nlohmann::ordered_json describe(const Trace& trace) {
  return {{"source", trace.source},
          {"format", trace.format},
          {"mapping", trace.mapping},
          {"requests", trace.requests},
          {"uses", trace.uses.size()},
          {"adapters", trace.rows()},
          {"skipped_lines", trace.skipped_lines}};
}

/// JSON for printing: a name that is not UTF-8 is shown with replacement characters, never a failure.
[[nodiscard]] inline std::string dump(const nlohmann::ordered_json& json) {
  return json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace loracle::app
