#include "loracle/sim/what_if.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "calibration_file.hpp"
#include "change_flags.hpp"
#include "commands.hpp"
#include "common.hpp"
#include "loracle/sim/plan.hpp"
#include "trace_json.hpp"

namespace loracle::app {
namespace {

struct WhatIfFlags {
  std::uint32_t adapters = 0;
  double alpha = 0.9;
  double rate = 0;
  std::string held;
  double gap_variation = 1;
  std::uint32_t max_loras = 0;
  std::uint32_t max_cpu_loras = 0;
  std::string max_wait_probability = "1%";
  std::string slot_load_time;
  std::string disk_load_time;
  std::string calibration;
  std::string adapter_size;
  ChangeFlags changes;
  Format format = Format::kText;
};

std::vector<double> zipf_rates(std::uint32_t adapters, double alpha, double total) {
  std::vector<double> rates;
  for (std::uint32_t i = 1; i <= adapters; ++i) rates.push_back(std::pow(static_cast<double>(i), -alpha));
  const double sum = std::accumulate(rates.begin(), rates.end(), 0.0);
  for (double& rate : rates) rate *= total / sum;
  return rates;
}

/// Where the model's load times are from.
struct LoadTimes {
  double slot_s = 0.008;  // as in a plan that was told nothing
  double disk_s = 0.1;
  LoadTimesFrom slot_from = LoadTimesFrom::kAssumed;
  LoadTimesFrom disk_from = LoadTimesFrom::kAssumed;
  std::string calibration;  // "calibrated 2026-11-22 on NVIDIA H200"; empty: none

  [[nodiscard]] LoadTimesFrom from() const noexcept { return std::min(slot_from, disk_from); }
};

Result<LoadTimes> load_times(const WhatIfFlags& flags) {
  Bytes size{};
  if (!flags.adapter_size.empty()) {
    const Result<Bytes> given = parse_bytes(flags.adapter_size);
    if (!given) return fail(given.error());
    size = *given;
  }
  const Result<std::optional<Calibration>> calibration = load_calibration(flags.calibration);
  if (!calibration) return fail(calibration.error());
  LoadTimes times;
  if (*calibration) times.calibration = calibration_name(**calibration);
  const auto take = [&](const std::string& given, std::optional<LoadFit> Calibration::*way, double& seconds,
                        LoadTimesFrom& from) -> Result<Unit> {
    if (!given.empty()) {
      const Result<double> read = parse_load_time(given);
      if (!read) return fail(read.error());
      seconds = *read;
      from = LoadTimesFrom::kGiven;
    } else if (*calibration && ((**calibration).*way).has_value()) {
      seconds = load_time_s(*((**calibration).*way), static_cast<double>(size.value));
      from = LoadTimesFrom::kCalibrated;
    }
    return Unit{};
  };
  if (auto done = take(flags.slot_load_time, &Calibration::slot, times.slot_s, times.slot_from); !done)
    return fail(done.error());
  if (auto done = take(flags.disk_load_time, &Calibration::disk, times.disk_s, times.disk_from); !done)
    return fail(done.error());
  return times;
}

Result<WhatIfModel> model_of(const WhatIfFlags& flags, const LoadTimes& times, double may_wait) {
  for (const auto& [name, value] : {std::pair{"--alpha", flags.alpha}, {"--rate", flags.rate}})
    if (!std::isfinite(value)) return fail(Errc::kInvalid, fmt::format("{} {}: give a number", name, value));
  WhatIfModel model;
  model.rates = zipf_rates(flags.adapters, flags.alpha, flags.rate);
  model.gap_scv = flags.gap_variation;
  const Result<double> held = parse_seconds(flags.held);
  if (!held) return fail(held.error());
  model.held_s = *held;
  model.slot_load_s = times.slot_s;
  model.disk_load_s = times.disk_s;
  model.slots = flags.max_loras != 0 ? flags.max_loras : slots_needed(model, may_wait);
  model.host = flags.max_cpu_loras != 0 ? flags.max_cpu_loras : model.slots;
  if (model.host < model.slots)
    return fail(Errc::kInvalid, fmt::format("--max-cpu-loras {} is below --max-loras {}: vLLM refuses that",
                                            model.host, model.slots));
  return model;
}

std::string limit_text(double limit, double may_wait) {
  const std::string within = fmt::format("waits within {:g} %", may_wait * 100);
  if (limit == 0) return fmt::format("No traffic to speak of leaves {}.\n", within);
  if (std::isinf(limit)) return fmt::format("Even 64 times this traffic leaves {}.\n", within);
  return fmt::format("Up to {:.3g} times this traffic leaves {}.\n", limit, within);
}

std::string load_times_text(const LoadTimes& times) {
  const auto shown = [&](double seconds, LoadTimesFrom from) {
    return fmt::format("{:.3g} ms{}", seconds * 1e3,
                       from == times.from()              ? ""
                       : from == LoadTimesFrom::kAssumed ? " (a guess)"
                       : from == LoadTimesFrom::kGiven   ? " (as given)"
                                                         : " (" + times.calibration + ")");
  };
  const std::string head = times.from() == LoadTimesFrom::kCalibrated ? times.calibration
                           : times.from() == LoadTimesFrom::kGiven    ? "UNCALIBRATED, load times as given"
                                                                   : "UNCALIBRATED, load times are guesses";
  return fmt::format("{}: {} into a slot, {} more from disk\n", head, shown(times.slot_s, times.slot_from),
                     shown(times.disk_s, times.disk_from));
}

std::string as_text(const WhatIfFlags& flags, const LoadTimes& times, const WhatIfModel& today,
                    const ChangeOptions& options, double limit, double may_wait) {
  std::string text =
      fmt::format("{} adapters (Zipf {:g}), {:g} requests/s that hold theirs {}: a model, no trace\n",
                  flags.adapters, flags.alpha, flags.rate, flags.held);
  text += fmt::format("  --max-loras {}{}\n", today.slots,
                      flags.max_loras != 0
                          ? ""
                          : fmt::format("   the fewest slots that keep waits within {:g} %", may_wait * 100));
  text += fmt::format("  --max-cpu-loras {}{}\n", today.host,
                      flags.max_cpu_loras != 0 ? "" : "   not given: as many; more save disk loads");
  text += limit_text(limit, may_wait);
  text += load_times_text(times);
  text += fmt::format("{:>8} {:>10} {:>9} {:>8} {:>11} {:>12}  if\n", "in use", "p99 in use", "wait",
                      "GPU hit", "disk loads", "load delay");
  const std::vector<WhatIfModel> changes = what_if_changes(today, options);
  for (std::size_t i = 0; i < changes.size(); ++i) {
    const TrafficAnswer found = answer(changes[i]);
    text += fmt::format("{:>8.1f} {:>10} {:>9} {:>6.1f} % {:>9.2f} % {:>9.1f} ms  {}\n", found.in_use_mean,
                        found.in_use_p99,
                        found.piles_up ? "piles up" : fmt::format("{:.2f} %", found.waits * 100),
                        found.gpu_hits * 100, found.disk_loads * 100, found.load_delay_s * 1e3,
                        change_text(Change{static_cast<std::uint8_t>(i)}, options));
  }
  return text +
         "wait: arrivals that find all slots busy; they make others wait, so waits that are not rare are "
         "longer\n"
         "2x the adapters alone: they share the traffic of today\n" +
         fmt::format("bursts: the requests of each {:g} s within its first {:g}; from S3: {:g} s a load\n",
                     kBurstPeriodS, kBurstPeriodS / kBurst, options.store_load_s);
}

nlohmann::ordered_json as_json(const LoadTimes& times, const WhatIfModel& today, const ChangeOptions& options,
                               double limit) {
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  const std::vector<WhatIfModel> changes = what_if_changes(today, options);
  for (std::size_t i = 0; i < changes.size(); ++i) {
    const TrafficAnswer found = answer(changes[i]);
    rows.push_back(
        {{"change", change_text(Change{static_cast<std::uint8_t>(i)}, options)},
         {"in_use_mean", found.in_use_mean},
         {"in_use_p99", found.in_use_p99},
         {"piles_up", found.piles_up},
         {"waits", found.piles_up ? nlohmann::ordered_json() : nlohmann::ordered_json(found.waits)},
         {"gpu_hits_per_use", found.gpu_hits},
         {"disk_loads_per_use", found.disk_loads},
         {"load_delay_mean_s", found.load_delay_s}});
  }
  return {{"max_loras", today.slots},
          {"max_cpu_loras", today.host},
          {"traffic_limit", std::isinf(limit) ? nlohmann::ordered_json() : nlohmann::ordered_json(limit)},
          {"calibration", name_of(times.from())},
          {"slot_load_s", times.slot_s},
          {"slot_load_from", name_of(times.slot_from)},
          {"disk_load_s", times.disk_s},
          {"disk_load_from", name_of(times.disk_from)},
          {"what_if", std::move(rows)}};
}

int run_what_if(const WhatIfFlags& flags) {
  const Result<double> may_wait = parse_share(flags.max_wait_probability);
  if (!may_wait) return report_usage(may_wait.error());
  const Result<LoadTimes> times = load_times(flags);
  if (!times)
    return times.error().code == Errc::kInvalid ? report_usage(times.error()) : report_input(times.error());
  const Result<WhatIfModel> today = model_of(flags, *times, *may_wait);
  if (!today) return report_usage(today.error());
  const Result<ChangeOptions> changes = flags.changes.options();
  if (!changes) return report_usage(changes.error());
  const double limit = traffic_limit(*today, *may_wait);
  print(flags.format == Format::kJson ? dump(as_json(*times, *today, *changes, limit))
                                      : as_text(flags, *times, *today, *changes, limit, *may_wait));
  return kExitOk;
}

}  // namespace

void add_what_if_command(CLI::App& app, int& exit_code) {
  auto flags = std::make_shared<WhatIfFlags>();
  CLI::App* command =
      app.add_subcommand("what-if", "Slots, waits and hits from a model, where there is no trace");
  command->add_option("--adapters", flags->adapters, "How many adapters there are")
      ->required()
      ->check(in_range(1, 100'000));
  command->add_option("--alpha", flags->alpha, "Zipf exponent of their popularity")
      ->check(in_range(0, 20))
      ->capture_default_str();
  command->add_option("--rate", flags->rate, "Requests a second")->required()->check(in_range(1e-9, 1e9));
  command
      ->add_option("--held", flags->held,
                   "How long a request holds its adapter on average: 6s, 500ms; seconds without a unit")
      ->required();
  command
      ->add_option(
          "--gap-variation", flags->gap_variation,
          "How much the gaps between an adapter's requests vary: squared coefficient of variation, 1 for "
          "Poisson. Of hits alone: waits are as for 1")
      ->check(in_range(1, 1e6))
      ->capture_default_str();
  command->add_option("--max-loras", flags->max_loras, "Slots (default: the fewest that keep waits rare)")
      ->check(in_range(1, 1'000'000));
  command->add_option("--max-cpu-loras", flags->max_cpu_loras, "Adapters in host memory (default: as many)")
      ->check(in_range(1, 1'000'000));
  command
      ->add_option("--max-wait-probability", flags->max_wait_probability, "Requests that may wait for a slot")
      ->capture_default_str();
  command->add_option("--slot-load-time", flags->slot_load_time,
                      "From host memory into a slot: 8ms (default: a guess, 8ms)");
  command->add_option("--disk-load-time", flags->disk_load_time,
                      "From disk, before that: 100ms (default: a guess, 100ms)");
  command->add_option("--calibration", flags->calibration, "What `loracle calibrate` wrote: load times");
  command->add_option("--adapter-size", flags->adapter_size,
                      "With --calibration: how large an adapter is, 84MB (default: as those measured)");
  flags->changes.add_to(*command);
  add_format_flag(*command, flags->format, kTextOrJson);
  command->footer(
      "Examples:\n"
      "  loracle what-if --adapters 200 --rate 4 --held 6s --max-cpu-loras 128\n"
      "  loracle what-if --adapters 1000 --alpha 1.1 --rate 20 --held 3s --max-loras 64 --max-cpu-loras "
      "500\n\n"
      "Adapters are asked for independently, and as often next week as today: with a trace, `loracle plan` "
      "knows "
      "better.");
  command->callback([flags, &exit_code] { exit_code = run_what_if(*flags); });
}

}  // namespace loracle::app
