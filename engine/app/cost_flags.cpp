#include "cost_flags.hpp"

#include <fmt/format.h>

#include <utility>

#include "common.hpp"
#include "loracle/sim/costs.hpp"

namespace loracle::app {
namespace {

Result<Unit> read_sizes(const CostFlags& flags, CostOptions& options) {
  for (const auto& [text, target] : {std::pair{&flags.gpu_memory, &options.gpu_memory},
                                     std::pair{&flags.model_weights, &options.model_weights}}) {
    if (text->empty()) continue;
    const Result<Bytes> bytes = parse_bytes(*text);
    if (!bytes) return fail(bytes.error());
    if (bytes->value == 0) return fail(Errc::kInvalid, fmt::format("'{}' of memory holds nothing", *text));
    *target = *bytes;
  }
  for (const auto& [text, target] : {std::pair{&flags.max_slo_misses, &options.max_slo_misses},
                                     std::pair{&flags.gpu_utilization, &options.gpu_utilization}}) {
    const Result<double> share = parse_share(*text);
    if (!share) return fail(share.error());
    *target = *share;
  }
  return Unit{};
}

}  // namespace

void CostFlags::add_to(CLI::App& command) {
  command.add_option("--prices", prices, "JSON file of prices: the plan then says what it costs a month");
  command
      .add_option(
          "--objective", objective,
          "hits: past the knee no slot is worth it; cost: the cheapest sizes that meet every constraint")
      ->capture_default_str();
  command.add_option("--slo", slo,
                     "Longest delay by slots and loads, on top of prefill, for --objective cost: 200ms");
  command.add_option("--max-slo-misses", max_slo_misses, "Requests that may be delayed for longer: 1%")
      ->capture_default_str();
  command.add_option("--gpu-memory", gpu_memory,
                     "Memory of the server's GPUs together: says what slots take from the KV cache: 80GiB");
  command.add_option("--gpu-memory-utilization", gpu_utilization, "Share of it that vLLM uses")
      ->capture_default_str();
  command.add_option("--model-weights", model_weights,
                     "GPU memory of the base model (default: its layers, 2 bytes an element): 15GiB");
  command.add_option("--kv-dtype", kv_dtype, "Type of the KV cache: auto, bf16, fp16, fp32, fp8")
      ->capture_default_str();
  command.add_option(
      "--engines", engines,
      "Other engines whose settings are shown: sglang, tensorrt-llm, lorax, nim (default: all)");
}

Result<CostOptions> CostFlags::options(bool has_model) const {
  CostOptions made;
  if (objective != "hits" && objective != "cost")
    return fail(Errc::kInvalid, fmt::format("--objective '{}': write hits or cost", objective));
  made.objective = objective == "cost" ? Objective::kCost : Objective::kHits;
  if (!slo.empty()) {
    const Result<double> seconds = parse_load_time(slo);
    if (!seconds) return fail(Errc::kInvalid, fmt::format("--slo: {}", seconds.error().message));
    made.slo_s = *seconds;
  }
  if (auto ok = read_sizes(*this, made); !ok) return fail(std::move(ok.error()));
  if (const Result<std::uint32_t> bytes = kv_dtype_bytes(kv_dtype); !bytes) return fail(bytes.error());
  made.kv_dtype = kv_dtype;
  made.engines = split_commas(engines);
  if (!prices.empty()) {
    Result<Prices> read = load_prices(prices);
    if (!read) return fail(std::move(read.error()));
    made.prices = std::move(*read);
  }
  if (auto ok = check_cost_options(made, has_model); !ok) return fail(std::move(ok.error()));
  return made;
}

}  // namespace loracle::app
