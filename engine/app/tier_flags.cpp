#include "tier_flags.hpp"

#include <fmt/format.h>

#include <tuple>
#include <utility>

#include "loracle/core/parse_bytes.hpp"
#include "trace_flags.hpp"

namespace loracle::app {

std::vector<CLI::Option*> TierFlags::add_to(CLI::App& command) {
  return {command.add_option("--gpu-memory-for-loras", gpu_memory,
                             "Byte limit of the device tier, beside --max-loras"),
          command.add_option("--max-cpu-memory", cpu_memory,
                             "Byte limit of the host tier, beside --max-cpu-loras"),
          command.add_flag("--exclusive", exclusive, "An adapter in a GPU slot is not in host memory too"),
          command.add_option("--pin", pins, "Keep this adapter in both tiers; may be repeated")
              ->expected(1)
              ->take_all()};
}

Result<Unit> TierFlags::set_limits(TierOptions& options) const {
  options.boundary = exclusive ? Boundary::kExclusive : Boundary::kInclusive;
  for (const auto& [flag, text, target] :
       {std::tuple{"--gpu-memory-for-loras", &gpu_memory, &options.gpu_memory},
        std::tuple{"--max-cpu-memory", &cpu_memory, &options.cpu_memory}}) {
    if (text->empty()) continue;
    const Result<Bytes> bytes = parse_bytes(*text);
    if (!bytes) return fail(Errc::kInvalid, fmt::format("{}: {}", flag, bytes.error().message));
    *target = *bytes;
  }
  return check_tier_options(options);
}

Result<Unit> TierFlags::set_pins(TierOptions& options, const Trace& trace) const {
  if (!gpu_memory.empty() || !cpu_memory.empty())
    if (Result<Unit> known = check_sizes_known(trace); !known) return known;
  Result<std::vector<Row>> rows = find_pins(trace, pins);
  if (!rows) return fail(std::move(rows.error()));
  options.pins = std::move(*rows);
  return Unit{};
}

}  // namespace loracle::app
