#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <memory>
#include <numeric>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "calibration_file.hpp"
#include "commands.hpp"
#include "common.hpp"
#include "loracle/core/nearest.hpp"
#include "loracle/sim/batch_sim.hpp"
#include "tier_flags.hpp"
#include "trace_json.hpp"

namespace loracle::app {
namespace {

/// How long steps and loads take where nothing else says so: of the order of an 8B model on one large GPU.
constexpr StepTimes kUsualStep = {.base_s = 8e-3,
                                  .prefill_token_s = 0.03e-3,
                                  .sequence_s = 0.02e-3,
                                  .adapter_s = 0.02e-3,
                                  .adapter_rank_s = 0};
constexpr LoadChannel kUsualDisk = {.latency_s = 0.1};
constexpr LoadChannel kUsualSlot = {.latency_s = 8e-3};

/// As written; empty: not given.
struct ServiceFlags {
  std::string calibration;
  std::string step_base;
  std::string step_prefill_token;
  std::string step_sequence;
  std::string step_adapter;
  std::string step_adapter_rank;
  std::string slot_load_time;
  std::string disk_load_time;
  std::string slot_load_rate;
  std::string disk_load_rate;
};

struct SimulateFlags {
  TraceFlags trace;
  ServiceFlags service;
  BatchOptions options;
  Format format = Format::kText;
  TierFlags limits;
  std::vector<std::string> priorities;
};

/// None, or as parse_load_time has it.
Result<double> parse_part_time(const char* flag, const std::string& text) {
  if (text == "0") return 0.0;
  Result<double> seconds = parse_load_time(text);
  if (seconds) return seconds;
  return fail(Errc::kInvalid,
              fmt::format("{} '{}': write 0, or a time with its unit: 8ms or 0.5s", flag, text));
}

/// Of every adapter that is used. What has none counts as one byte, which loads in no time.
bool knows_sizes(const Trace& trace) {
  const auto bytes = trace.adapters.bytes.view();
  const auto uses = trace.uses.view();
  return std::all_of(uses.begin(), uses.end(),
                     [&](Row row) { return index_of(row) < bytes.size() && bytes[index_of(row)] > 0; });
}

/// What was measured in place of the usual, and what a flag says in place of both.
Result<ServiceModel> service_of(const ServiceFlags& flags, const Trace& trace) {
  ServiceModel model{"UNCALIBRATED: built-in times", kUsualStep, kUsualDisk, kUsualSlot};
  const Result<std::optional<Calibration>> calibration = load_calibration(flags.calibration);
  if (!calibration) return fail(calibration.error());
  const bool has_sizes = knows_sizes(trace);
  if (*calibration) {
    model = service_model(**calibration, model);
    for (const auto& [fit, way] :
         {std::pair{&(*calibration)->slot, &model.slot}, {&(*calibration)->disk, &model.disk}})
      if (*fit && !has_sizes) *way = {.latency_s = load_time_s(**fit, 0)};
    if (!has_sizes) model.source += ", loads of the median size measured";
  }
  bool is_given = false;
  for (const auto& [name, text, target] :
       {std::tuple{"--step-base", &flags.step_base, &model.step.base_s},
        {"--step-prefill-token", &flags.step_prefill_token, &model.step.prefill_token_s},
        {"--step-sequence", &flags.step_sequence, &model.step.sequence_s},
        {"--step-adapter", &flags.step_adapter, &model.step.adapter_s},
        {"--step-adapter-rank", &flags.step_adapter_rank, &model.step.adapter_rank_s},
        {"--slot-load-time", &flags.slot_load_time, &model.slot.latency_s},
        {"--disk-load-time", &flags.disk_load_time, &model.disk.latency_s}}) {
    if (text->empty()) continue;
    const Result<double> seconds = parse_part_time(name, *text);
    if (!seconds) return fail(seconds.error());
    *target = *seconds;
    is_given = true;
  }
  for (const auto& [name, text, target] :
       {std::tuple{"--slot-load-rate", &flags.slot_load_rate, &model.slot.bytes_per_s},
        {"--disk-load-rate", &flags.disk_load_rate, &model.disk.bytes_per_s}}) {
    if (text->empty()) continue;
    const Result<double> rate = parse_rate(name, *text);
    if (!rate) return fail(rate.error());
    if (!has_sizes)
      return fail(Errc::kInvalid,
                  fmt::format("{} {}: {} does not say of every adapter how many bytes it has: give their "
                              "directory (--catalog), or times of loads instead of rates",
                              name, *text, trace.source));
    *target = *rate;
    is_given = true;
  }
  if (is_given) model.source += ", and flags";
  return model;
}

/// `NAME=-1` each.
Result<std::vector<std::int32_t>> find_priorities(const Trace& trace, const std::vector<std::string>& asked) {
  if (asked.empty()) return std::vector<std::int32_t>{};
  std::vector<std::string_view> names;
  for (std::size_t i = 0; i < trace.tenant_name.size(); ++i) names.push_back(trace.tenant_name[i]);
  if (names.empty())
    return fail(Errc::kInvalid, fmt::format("{}: names no tenants: drop --priority", trace.source));
  std::vector<std::int32_t> priorities(names.size(), 0);
  for (const std::string& one : asked) {
    const std::size_t equals = one.rfind('=');
    std::int32_t priority = 0;
    const char* const end = one.data() + one.size();
    const bool is_number = equals != std::string::npos &&
                           std::from_chars(one.data() + equals + 1, end, priority).ptr == end &&
                           equals + 1 < one.size();
    if (!is_number)
      return fail(Errc::kInvalid,
                  fmt::format("--priority '{}': write TENANT=NUMBER, the lower goes first", one));
    const std::string_view name = std::string_view(one).substr(0, equals);
    const auto found = std::find(names.begin(), names.end(), name);
    if (found == names.end())
      return fail(Errc::kNotFound, "--priority: " + unknown_name_message("tenant", name, names));
    priorities[static_cast<std::size_t>(found - names.begin())] = priority;
  }
  return priorities;
}

nlohmann::ordered_json times_json(const WaitTimes& times) {
  return {{"mean", times.mean}, {"p50", times.p50}, {"p99", times.p99}, {"max", times.max}};
}

nlohmann::ordered_json moved_json(const Moved& moved) {
  return {{"loads", moved.loads}, {"bytes", moved.bytes.value}};
}

nlohmann::ordered_json replica_json(const ReplicaOutcome& one) {
  nlohmann::ordered_json json = {{"requests", one.requests},
                                 {"refused", one.refused},
                                 {"waited_for_slot", one.waited_for_slot},
                                 {"waited_for_seat", one.waited_for_seat},
                                 {"waited_for_load", one.waited_for_load},
                                 {"shared_loads", one.shared_loads},
                                 {"waiting_max", one.waiting_max},
                                 {"steps", one.steps},
                                 {"prefill_tokens", one.prefill_tokens},
                                 {"output_tokens", one.output_tokens},
                                 {"first_token_s", times_json(one.first_token)},
                                 {"latency_s", times_json(one.latency)},
                                 {"slot_wait_s", times_json(one.slot_wait)},
                                 {"load_wait_s", times_json(one.load_wait)},
                                 {"token_gap_s",
                                  {{"count", one.gaps.count},
                                   {"stalled", one.gaps.stalled},
                                   {"mean", one.gaps.mean},
                                   {"p50", one.gaps.p50},
                                   {"p99", one.gaps.p99},
                                   {"max", one.gaps.max}}},
                                 {"busy_s", one.busy_s},
                                 {"stalled_s", one.stalled_s},
                                 {"running_mean", one.running_mean},
                                 {"adapters_mean", one.adapters_mean},
                                 {"disk", moved_json(one.disk)},
                                 {"slot", moved_json(one.slot)},
                                 {"prefetched", moved_json(one.prefetched)}};
  for (const NamedCount& named : kTwoTierCounts) json[named.name] = one.counts.*named.count;
  json["decision_log_hash"] = fmt::format("{:016x}", one.decision_log_hash);
  return json;
}

nlohmann::ordered_json groups_json(const NameColumn& names, const std::vector<GroupOutcome>& groups) {
  nlohmann::ordered_json json = nlohmann::ordered_json::array();
  for (std::size_t i = 0; i < groups.size(); ++i) {
    const GroupOutcome& group = groups[i];
    json.push_back({{"name", std::string(names[i])},
                    {"requests", group.requests},
                    {"refused", group.refused},
                    {"output_tokens", group.output_tokens},
                    {"disk", moved_json(group.disk)},
                    {"slot", moved_json(group.slot)},
                    {"first_token_s", times_json(group.first_token)}});
  }
  return json;
}

nlohmann::ordered_json channel_json(const LoadChannel& way) {
  const bool all_latency = std::isinf(way.bytes_per_s);
  return {{"latency_s", way.latency_s},
          {"bytes_per_s", all_latency ? nlohmann::ordered_json() : nlohmann::ordered_json(way.bytes_per_s)}};
}

/// How long a request holds its adapters, in seconds on average: in the simulation, for loads and tokens, and
/// by the trace's durations, which the simulation does not read.
struct HeldTimes {
  double simulated = 0;
  std::optional<double> of_trace;
};

HeldTimes held_times(const Trace& trace, const BatchOutcome& outcome) {
  HeldTimes held{outcome.total.latency.mean - outcome.total.slot_wait.mean, std::nullopt};
  double sum = 0;
  std::uint64_t count = 0;
  for (const float duration_s : trace.duration_s.view()) {
    if (!(duration_s > 0)) continue;
    sum += static_cast<double>(duration_s);
    ++count;
  }
  if (count > 0) held.of_trace = sum / static_cast<double>(count);
  return held;
}

std::string simulate_json(const Trace& trace, const BatchOptions& options, const BatchOutcome& outcome) {
  const StepTimes& step = options.service.step;
  const HeldTimes held = held_times(trace, outcome);
  nlohmann::ordered_json replicas = nlohmann::ordered_json::array();
  for (const ReplicaOutcome& replica : outcome.replicas) replicas.push_back(replica_json(replica));
  return dump({{"trace", describe(trace)},
               {"options",
                {{"tiers", options.tiers.tiers},
                 {"max_loras", options.tiers.max_loras},
                 {"max_cpu_loras", options.tiers.max_cpu_loras},
                 {"max_num_seqs", options.max_num_seqs},
                 {"max_num_batched_tokens", options.max_num_batched_tokens},
                 {"loads_stall", options.loads_stall},
                 {"prefetch", options.prefetch},
                 {"replicas", options.replicas},
                 {"router", name_of(options.router)},
                 {"load_bound", options.load_bound}}},
               {"service",
                {{"source", options.service.source},
                 {"base_s", step.base_s},
                 {"prefill_token_s", step.prefill_token_s},
                 {"sequence_s", step.sequence_s},
                 {"adapter_s", step.adapter_s},
                 {"adapter_rank_s", step.adapter_rank_s},
                 {"disk", channel_json(options.service.disk)},
                 {"slot", channel_json(options.service.slot)}}},
               {"span_s", outcome.span_s},
               {"held_mean_s", held.simulated},
               {"trace_duration_mean_s",
                held.of_trace ? nlohmann::ordered_json(*held.of_trace) : nlohmann::ordered_json()},
               {"total", replica_json(outcome.total)},
               {"replicas", std::move(replicas)},
               {"tenants", groups_json(trace.tenant_name, outcome.tenants)},
               {"adapters", groups_json(trace.adapters.name, outcome.adapters)}});
}

template <class Outcome>
std::string csv_line(std::string_view scope, std::string_view name, const Outcome& one) {
  const WaitTimes& first = one.first_token;
  return fmt::format("{},{},{},{},{},{},{},{},{},{},{},{},{}\n", scope, csv_field(name), one.requests,
                     one.refused, one.output_tokens, one.disk.loads, one.disk.bytes.value, one.slot.loads,
                     one.slot.bytes.value, first.mean, first.p50, first.p99, first.max);
}

std::string simulate_csv(const Trace& trace, const BatchOutcome& outcome) {
  std::string out =
      "scope,name,requests,refused,output_tokens,disk_loads,disk_bytes,slot_loads,slot_bytes,"
      "first_token_mean_s,first_token_p50_s,first_token_p99_s,first_token_max_s\n";
  out += csv_line("total", "", outcome.total);
  for (std::size_t i = 0; i < outcome.replicas.size(); ++i)
    out += csv_line("replica", std::to_string(i), outcome.replicas[i]);
  for (std::size_t i = 0; i < outcome.tenants.size(); ++i)
    out += csv_line("tenant", trace.tenant_name[i], outcome.tenants[i]);
  for (std::size_t i = 0; i < outcome.adapters.size(); ++i)
    out += csv_line("adapter", trace.adapters.name[i], outcome.adapters[i]);
  return out;
}

std::string seconds_text(double seconds) {
  if (seconds < 1) return fmt::format("{:.1f} ms", seconds * 1e3);
  return seconds < 100 ? fmt::format("{:.2f} s", seconds) : fmt::format("{:.0f} s", seconds);
}

std::string times_line(std::string_view label, const WaitTimes& times) {
  return fmt::format("  {:<20} {:>10} {:>10} {:>10} {:>10}\n", label, seconds_text(times.mean),
                     seconds_text(times.p50), seconds_text(times.p99), seconds_text(times.max));
}

double share(std::uint64_t part, std::uint64_t whole) {
  return whole == 0 ? 0.0 : 100 * static_cast<double>(part) / static_cast<double>(whole);
}

std::string total_text(const BatchOutcome& outcome) {
  const ReplicaOutcome& total = outcome.total;
  std::string out =
      fmt::format("  {:<20} {:>10} {:>10} {:>10} {:>10}\n", "", "mean", "p50", "p99", "largest");
  out += times_line("time to first token", total.first_token);
  out += times_line("  wait for a place", total.slot_wait);
  out += times_line("  wait for loads", total.load_wait);
  out += times_line("between tokens", {total.gaps.mean, total.gaps.p50, total.gaps.p99, total.gaps.max});
  out += times_line("to the last token", total.latency);
  out +=
      fmt::format("  waited: {:.2f} % for a slot, {:.2f} % for a seat or tokens, {:.2f} % for a load\n",
                  share(total.waited_for_slot, total.requests), share(total.waited_for_seat, total.requests),
                  share(total.waited_for_load, total.requests));
  if (total.refused > 0)
    out += fmt::format("  refused: {} requests that fit no tier beside the pins\n", total.refused);
  if (total.stalled_s > 0)
    out += fmt::format("  stalls: {:.1f} s in which nothing ran, in {:.2f} % of the gaps between tokens\n",
                       total.stalled_s, share(total.gaps.stalled, total.gaps.count));
  const double served = static_cast<double>(total.requests - total.refused);
  if (outcome.span_s > 0)
    out += fmt::format("  {:.2f} requests/s, {:.0f} output tokens/s over {:.0f} s\n", served / outcome.span_s,
                       static_cast<double>(total.output_tokens) / outcome.span_s, outcome.span_s);
  out += fmt::format(
      "  in the batch on average: {:.1f} requests, {:.1f} adapters; in steps {:.1f} % of the time\n",
      total.running_mean, total.adapters_mean,
      outcome.span_s > 0 ? 100 * total.busy_s / outcome.span_s / static_cast<double>(outcome.replicas.size())
                         : 0.0);
  out += fmt::format("  loads: {} from disk ({}), {} into slots ({})\n", total.disk.loads,
                     human_bytes(total.disk.bytes), total.slot.loads, human_bytes(total.slot.bytes));
  return out;
}

template <class Name>
std::string table_text(std::string_view head, const std::vector<GroupOutcome>& groups, const Name& name) {
  constexpr std::size_t kShown = 5;
  std::vector<std::size_t> order(groups.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::erase_if(order, [&](std::size_t i) { return groups[i].requests == 0; });
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return groups[a].first_token.p99 > groups[b].first_token.p99;
  });
  if (order.size() < 2) return {};
  std::string out = fmt::format("{:<24} {:>10} {:>14} {:>10} {:>12} {:>12}\n", head, "requests", "TTFT mean",
                                "p99", "disk loads", "slot loads");
  for (std::size_t i = 0; i < std::min(kShown, order.size()); ++i) {
    const GroupOutcome& group = groups[order[i]];
    out += fmt::format("  {:<22} {:>10} {:>14} {:>10} {:>12} {:>12}\n", name(order[i]), group.requests,
                       seconds_text(group.first_token.mean), seconds_text(group.first_token.p99),
                       group.disk.loads, group.slot.loads);
  }
  return out;
}

std::string simulate_text(const Trace& trace, const BatchOptions& options, const BatchOutcome& outcome) {
  const TierOptions& tiers = options.tiers;
  const StepTimes& step = options.service.step;
  std::string out = fmt::format(
      "{}: {} requests, mapping {}\n--tiers {} --max-loras {} --max-cpu-loras {} --max-num-seqs {} "
      "--max-num-batched-tokens {}{}{}\n",
      trace.source, trace.requests, trace.mapping, tiers.tiers, tiers.max_loras, tiers.max_cpu_loras,
      options.max_num_seqs, options.max_num_batched_tokens, options.loads_stall ? " --loads-stall" : "",
      options.prefetch ? " --prefetch" : "");
  if (options.replicas > 1)
    out += fmt::format("{} replicas, router {}\n", options.replicas, name_of(options.router));
  out += fmt::format(
      "a step: {:g} ms + {:g} a prefill token + {:g} a request + {:g} an adapter + {:g} a rank of these "
      "({})\n",
      step.base_s * 1e3, step.prefill_token_s * 1e3, step.sequence_s * 1e3, step.adapter_s * 1e3,
      step.adapter_rank_s * 1e3, options.service.source);
  out += total_text(outcome);
  if (const HeldTimes held = held_times(trace, outcome); held.of_trace)
    out += fmt::format(
        "  the trace's durations, {} on average, are not used: here a request holds its slot for its "
        "loads and tokens, {} on average\n",
        seconds_text(*held.of_trace), seconds_text(held.simulated));
  if (options.replicas > 1) {
    out += fmt::format("{:<24} {:>10} {:>14} {:>10} {:>12} {:>12}\n", "replica", "requests", "TTFT mean",
                       "p99", "disk loads", "slot loads");
    for (std::size_t i = 0; i < outcome.replicas.size(); ++i) {
      const ReplicaOutcome& one = outcome.replicas[i];
      out += fmt::format("  {:<22} {:>10} {:>14} {:>10} {:>12} {:>12}\n", i, one.requests,
                         seconds_text(one.first_token.mean), seconds_text(one.first_token.p99),
                         one.disk.loads, one.slot.loads);
    }
  }
  out += table_text("slowest tenants", outcome.tenants, [&](std::size_t i) { return trace.tenant_name[i]; });
  out +=
      table_text("slowest adapters", outcome.adapters, [&](std::size_t i) { return trace.adapters.name[i]; });
  return out;
}

int run_simulate(const SimulateFlags& flags) {
  BatchOptions options = flags.options;
  if (const Result<Unit> ok = flags.limits.set_limits(options.tiers); !ok) return report_usage(ok.error());
  const Result<Trace> trace = flags.trace.load();
  if (!trace) return report_input(trace.error());
  const Result<ServiceModel> service = service_of(flags.service, *trace);
  if (!service) return report_input(service.error());
  options.service = *service;
  if (const Result<Unit> ok = flags.limits.set_pins(options.tiers, *trace); !ok)
    return report_usage(ok.error());
  const Result<std::vector<std::int32_t>> priorities = find_priorities(*trace, flags.priorities);
  if (!priorities) return report_usage(priorities.error());
  options.tenant_priority = *priorities;
  const Result<BatchOutcome> outcome = [&] {
    const Progress progress("simulating");
    return simulate_batches(*trace, options);
  }();
  if (!outcome) return report_usage(outcome.error());
  print(flags.format == Format::kJson  ? simulate_json(*trace, options, *outcome)
        : flags.format == Format::kCsv ? simulate_csv(*trace, *outcome)
                                       : simulate_text(*trace, options, *outcome));
  return kExitOk;
}

void add_tier_flags(CLI::App& command, SimulateFlags& flags) {
  TierOptions& tiers = flags.options.tiers;
  tiers.tiers = "lru/lru";
  command.add_option("--tiers", tiers.tiers, "Policies of the two tiers, device/host: sieve/gdsf")
      ->capture_default_str();
  command.add_option("--max-loras", tiers.max_loras, "GPU slots of a replica")->required();
  command.add_option("--max-cpu-loras", tiers.max_cpu_loras,
                     "Adapters in its host memory (default: --max-loras)");
  flags.limits.add_to(command);
}

void add_scheduler_flags(CLI::App& command, SimulateFlags& flags) {
  BatchOptions& options = flags.options;
  command.add_option("--max-num-seqs", options.max_num_seqs, "Requests that run at once on a replica")
      ->capture_default_str();
  command.add_option("--max-num-batched-tokens", options.max_num_batched_tokens, "Tokens of a step")
      ->capture_default_str();
  command.add_flag("--loads-stall", options.loads_stall,
                   "A step waits for the loads of all whom it admits, as in vLLM today");
  command.add_flag("--prefetch", options.prefetch,
                   "Bring adapters into host memory when requests arrive, not when they are admitted");
  command
      .add_option("--priority", flags.priorities,
                  "TENANT=NUMBER: the lower goes first, others have 0; may be repeated")
      ->expected(1)
      ->take_all();
  command.add_option("--replicas", options.replicas, "Replicas, each with caches of its own")
      ->capture_default_str();
  std::vector<std::pair<std::string, Router>> routers;
  for (const Router router : all_routers()) routers.emplace_back(name_of(router), router);
  command.add_option("--router", options.router, "Who gets a request (default: round-robin)")
      ->transform(one_of(routers));
  command
      .add_option("--load-bound", options.load_bound,
                  "Of lora-affinity and consistent-hash: a replica with more than this times the mean "
                  "outstanding is passed over")
      ->capture_default_str();
}

void add_service_flags(CLI::App& command, ServiceFlags& flags) {
  command.add_option("--calibration", flags.calibration,
                     "File of `loracle calibrate`: step and load times where no flag says otherwise");
  for (const auto& [name, text, help] :
       {std::tuple{"--step-base", &flags.step_base, "Time of a step, beside what is in it (default: 8ms)"},
        {"--step-prefill-token", &flags.step_prefill_token, "More for each token of prefill (0.03ms)"},
        {"--step-sequence", &flags.step_sequence, "More for each request (0.02ms)"},
        {"--step-adapter", &flags.step_adapter, "More for each distinct adapter (0.02ms)"},
        {"--step-adapter-rank", &flags.step_adapter_rank, "More for each rank of these (0)"},
        {"--slot-load-time", &flags.slot_load_time, "From host memory into a slot (8ms)"},
        {"--disk-load-time", &flags.disk_load_time, "From disk, before that (100ms)"}})
    command.add_option(name, *text, help);
  command.add_option("--slot-load-rate", flags.slot_load_rate,
                     "Bytes a second on the way into slots, in addition: 20GiB (default: no limit)");
  command.add_option("--disk-load-rate", flags.disk_load_rate,
                     "Bytes a second on the way from disk, in addition: 2GiB (default: no limit)");
}

}  // namespace

void add_simulate_command(CLI::App& app, int& exit_code) {
  auto flags = std::make_shared<SimulateFlags>();
  CLI::App* command =
      app.add_subcommand("simulate", "Serve a trace step by step in virtual time, on one replica or many");
  flags->trace.add_to(*command);
  add_tier_flags(*command, *flags);
  add_scheduler_flags(*command, *flags);
  add_service_flags(*command, flags->service);
  command->add_option("--rank", flags->options.unknown_rank, "Of adapters whose rank is not known otherwise")
      ->capture_default_str();
  add_format_flag(*command, flags->format);
  command->footer(
      "Examples:\n"
      "  loracle simulate t.jsonl --max-loras 16 --max-cpu-loras 128 --loads-stall\n"
      "  loracle simulate t.jsonl --max-loras 16 --max-cpu-loras 128 --prefetch --slot-load-rate 20GiB\n"
      "  loracle simulate t.jsonl --max-loras 16 --replicas 4 --router lora-affinity --format json\n\n"
      "The trace needs arrival times and token counts: a request lasts as long as its loads and tokens take, "
      "whatever\nduration the trace gives it (`plan` goes by that). Step times that are not measured (see "
      "`loracle calibrate`) are no\nforecast: use them to compare sizes, policies and routers.");
  const CLI::Option* const max_cpu_loras = command->get_option("--max-cpu-loras");
  command->callback([flags, &exit_code, max_cpu_loras] {
    TierOptions& tiers = flags->options.tiers;
    if (max_cpu_loras->count() == 0) tiers.max_cpu_loras = tiers.max_loras;
    exit_code = run_simulate(*flags);
  });
}

}  // namespace loracle::app
