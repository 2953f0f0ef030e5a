#pragma once
/// The flags of `plan` about memory, money and other engines.

#include <CLI/CLI.hpp>
#include <string>

#include "loracle/core/result.hpp"
#include "loracle/sim/plan_costs.hpp"

namespace loracle::app {

struct CostFlags {
  std::string prices;
  std::string objective = "hits";
  std::string slo;
  std::string max_slo_misses = "1%";
  std::string gpu_memory;
  std::string gpu_utilization = "0.9";
  std::string model_weights;
  std::string kv_dtype = "auto";
  std::string engines;

  void add_to(CLI::App& command);
  /// Reads the price file too. Errors: kInvalid, kNotFound, those of load_prices.
  [[nodiscard]] Result<CostOptions> options(bool has_model) const;
};

}  // namespace loracle::app
