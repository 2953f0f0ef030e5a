#include "loracle/sim/what_if.hpp"

#include <fmt/format.h>

#include <cmath>
#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

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
  std::string slot_load_time = "8ms";
  std::string disk_load_time = "100ms";
  Format format = Format::kText;
};

/// The traffic, and what serves it.
struct Setting {
  std::string change;
  std::vector<double> rates;  // uses a second
  double held_s = 0;
  double gap_scv = 1;
  std::uint32_t slots = 0;
  std::uint32_t host = 0;
  double slot_load_s = 0;
  double disk_load_s = 0;
};

struct Answer {
  double in_use_mean = 0;
  std::uint32_t in_use_p99 = 0;
  double waits = 0;
  bool piles_up = false;  // more are in use on average than there are slots
  double gpu_hits = 0;
  double disk_loads = 0;
  double load_delay_s = 0;
};

std::vector<double> zipf_rates(std::uint32_t adapters, double alpha, double total) {
  std::vector<double> rates;
  for (std::uint32_t i = 1; i <= adapters; ++i) rates.push_back(std::pow(static_cast<double>(i), -alpha));
  const double sum = std::accumulate(rates.begin(), rates.end(), 0.0);
  for (double& rate : rates) rate *= total / sum;
  return rates;
}

Answer answer_of(const Setting& setting) {
  const BusySlots busy(setting.rates, setting.held_s);
  Answer answer;
  answer.in_use_mean = busy.mean();
  answer.in_use_p99 = busy.quantile(0.99);
  answer.waits = busy.waits(setting.slots);
  answer.piles_up = busy.mean() >= setting.slots;
  answer.gpu_hits = 1 - lru_miss_ratio(setting.rates, setting.slots, setting.gap_scv);
  answer.disk_loads = lru_miss_ratio(setting.rates, setting.host, setting.gap_scv);
  answer.load_delay_s = delayed_hit_mean(setting.rates, setting.slots, setting.slot_load_s, setting.gap_scv) +
                        delayed_hit_mean(setting.rates, setting.host, setting.disk_load_s, setting.gap_scv);
  return answer;
}

std::vector<double> times(std::vector<double> rates, double factor) {
  for (double& rate : rates) rate *= factor;
  return rates;
}

/// Each `step`-th adapter once more.
std::vector<double> with_doubles(std::vector<double> rates, std::size_t step) {
  const std::size_t count = rates.size();
  for (std::size_t i = 0; i < count; i += step) rates.push_back(rates[i]);
  return rates;
}

std::vector<Setting> changes_of(const Setting& today) {
  std::vector<Setting> all(6, today);
  all[0].change = "nothing changes";
  all[1].change = "twice the traffic";
  all[1].rates = times(today.rates, 2);
  all[2].change = "twice the adapters";
  all[2].rates = with_doubles(times(today.rates, 0.5), 1);
  all[3].change = "half as many adapters more";
  all[3].rates = with_doubles(today.rates, 2);
  all[4].change = "adapters of twice the rank";
  all[4].slot_load_s *= 2;
  all[4].disk_load_s *= 2;
  all[5].change = "a disk four times as slow";
  all[5].disk_load_s *= 4;
  return all;
}

/// The fewest slots that leave so few waiting.
std::uint32_t slots_for(const Setting& setting, double may_wait) {
  const BusySlots busy(setting.rates, setting.held_s);
  std::uint32_t slots = 1;
  while (slots < setting.rates.size() && busy.waits(slots) > may_wait) ++slots;
  return slots;
}

/// Up to how many times the traffic few enough wait; by bisection.
double traffic_limit(const Setting& setting, double may_wait) {
  const auto holds = [&](double factor) {
    return BusySlots(times(setting.rates, factor), setting.held_s).waits(setting.slots) <= may_wait;
  };
  double low = 1.0 / 64;
  double high = 64;
  if (!holds(low)) return 0;
  if (holds(high)) return high;
  while (high / low > 1.001) {
    const double middle = std::sqrt(low * high);
    (holds(middle) ? low : high) = middle;
  }
  return low;
}

Result<double> load_time(const std::string& text) {
  const Result<double> seconds = parse_seconds(text);
  if (seconds && text.find_first_not_of("0123456789.") != std::string::npos) return seconds;
  return fail(
      Errc::kInvalid,
      fmt::format("'{}' is no time of a load: write it with its unit, for example 8ms or 0.5s", text));
}

Result<Setting> setting_of(const WhatIfFlags& flags, double may_wait) {
  Setting setting;
  setting.rates = zipf_rates(flags.adapters, flags.alpha, flags.rate);
  setting.gap_scv = flags.gap_variation;
  for (const auto& [read, target] : {std::pair{parse_seconds(flags.held), &setting.held_s},
                                     {load_time(flags.slot_load_time), &setting.slot_load_s},
                                     {load_time(flags.disk_load_time), &setting.disk_load_s}}) {
    if (!read) return fail(read.error());
    *target = *read;
  }
  setting.slots = flags.max_loras != 0 ? flags.max_loras : slots_for(setting, may_wait);
  setting.host = flags.max_cpu_loras != 0 ? flags.max_cpu_loras : setting.slots;
  if (setting.host < setting.slots)
    return fail(Errc::kInvalid, fmt::format("--max-cpu-loras {} is below --max-loras {}: vLLM refuses that",
                                            setting.host, setting.slots));
  return setting;
}

int run_what_if(const WhatIfFlags& flags) {
  const Result<double> may_wait = parse_share(flags.max_wait_probability);
  if (!may_wait) return report_usage(may_wait.error());
  const Result<Setting> setting = setting_of(flags, *may_wait);
  if (!setting) return report_usage(setting.error());
  const double limit = traffic_limit(*setting, *may_wait);
  std::string text = fmt::format(
      "{} adapters (Zipf {:g}), {:g} requests/s that hold their adapter {}: a model, no trace\n"
      "  --max-loras {} --max-cpu-loras {}{}\n",
      flags.adapters, flags.alpha, flags.rate, flags.held, setting->slots, setting->host,
      flags.max_loras != 0
          ? ""
          : fmt::format("   (the fewest slots that keep waits within {:g} %)", *may_wait * 100));
  text += limit == 0 ? "Too many wait at any traffic.\n"
                     : fmt::format("Waits stay within {:g} % up to {:.3g} times this traffic.\n",
                                   *may_wait * 100, limit);
  text += fmt::format("{:>9} {:>10} {:>8} {:>9} {:>11} {:>12}  if\n", "in use", "p99 in use", "wait",
                      "GPU hit", "disk loads", "load delay");
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  for (const Setting& change : changes_of(*setting)) {
    const Answer answer = answer_of(change);
    text += fmt::format(
        "{:>9.1f} {:>10} {:>8} {:>8.1f}% {:>10.2f}% {:>9.1f} ms  {}\n", answer.in_use_mean, answer.in_use_p99,
        answer.piles_up ? "piles up" : fmt::format("{:.2f}%", answer.waits * 100), answer.gpu_hits * 100,
        answer.disk_loads * 100, answer.load_delay_s * 1e3, change.change);
    rows.push_back(
        {{"change", change.change},
         {"in_use_mean", answer.in_use_mean},
         {"in_use_p99", answer.in_use_p99},
         {"waits", answer.piles_up ? nlohmann::ordered_json() : nlohmann::ordered_json(answer.waits)},
         {"piles_up", answer.piles_up},
         {"gpu_hits_per_use", answer.gpu_hits},
         {"disk_loads_per_use", answer.disk_loads},
         {"load_delay_mean_s", answer.load_delay_s}});
  }
  if (flags.format == Format::kText) {
    print(text +
          "wait: arrivals that find all slots busy; they make others wait, so waits that are not rare are "
          "longer\n");
    return kExitOk;
  }
  print(dump({{"max_loras", setting->slots},
              {"max_cpu_loras", setting->host},
              {"traffic_limit", limit},
              {"what_if", std::move(rows)}}));
  return kExitOk;
}

}  // namespace

void add_what_if_command(CLI::App& app, int& exit_code) {
  auto flags = std::make_shared<WhatIfFlags>();
  CLI::App* command =
      app.add_subcommand("what-if", "Slots, waits and hits from a model, where there is no trace");
  command->add_option("--adapters", flags->adapters, "How many adapters there are")
      ->required()
      ->check(CLI::Range(1U, 100'000U));
  command->add_option("--alpha", flags->alpha, "Zipf exponent of their popularity")
      ->check(CLI::Range(0.0, 20.0))
      ->capture_default_str();
  command->add_option("--rate", flags->rate, "Requests a second")->required()->check(CLI::Range(1e-9, 1e9));
  command->add_option("--held", flags->held, "How long a request holds its adapter on average: 6s")
      ->required();
  command
      ->add_option("--gap-variation", flags->gap_variation,
                   "Squared coefficient of variation of the gaps between an adapter's requests; 1: Poisson")
      ->check(CLI::Range(1.0, 1e6))
      ->capture_default_str();
  command->add_option("--max-loras", flags->max_loras, "Slots (default: the fewest that keep waits rare)")
      ->check(CLI::Range(1U, 1'000'000U));
  command->add_option("--max-cpu-loras", flags->max_cpu_loras, "Adapters in host memory (default: as many)")
      ->check(CLI::Range(1U, 1'000'000U));
  command
      ->add_option("--max-wait-probability", flags->max_wait_probability, "Requests that may wait for a slot")
      ->capture_default_str();
  command->add_option("--slot-load-time", flags->slot_load_time, "From host memory into a slot")
      ->capture_default_str();
  command->add_option("--disk-load-time", flags->disk_load_time, "From disk, before that")
      ->capture_default_str();
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
