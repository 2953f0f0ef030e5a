#include "loracle/engine/engine.hpp"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <optional>
#include <utility>

#include "commands.hpp"
#include "common.hpp"
#include "decision_csv.hpp"
#include "loracle/policy/policy_spec.hpp"
#include "trace_json.hpp"

namespace loracle::app {
namespace {

struct EngineRunFlags {
  TraceFlags trace;
  std::string policy = "lru";
  std::string device = "auto";
  std::uint32_t max_loras = 8;
  std::uint32_t max_cpu_loras = 0;
  std::uint32_t max_lora_rank = 0;
  std::string gpu_memory;
  std::string cpu_memory;
  std::string database;
  std::string decision_log;
  std::vector<std::string> pins;
  unsigned threads = 0;
  Format format = Format::kText;
};

struct RunCounts {
  std::uint64_t requests = 0;  // that name an adapter
  std::uint64_t failed = 0;
  std::string first_failure;
};

Result<EngineConfig> config_of(const EngineRunFlags& flags, const Trace& trace, unsigned threads) {
  EngineConfig config;
  config.directory = flags.trace.catalog;
  config.database = flags.database;
  config.policy = flags.policy;
  config.max_loras = flags.max_loras;
  config.max_cpu_loras = flags.max_cpu_loras;
  config.max_lora_rank = flags.max_lora_rank;
  config.loads_in_flight_max = threads;
  for (std::uint32_t row = 0; row < trace.rows(); ++row)
    config.row_names.emplace_back(trace.adapters.name[row]);
  config.adapters_max = std::max(trace.rows(), 1U);
  const Result<Dtype> dtype = parse_dtype(flags.trace.lora_dtype);
  if (!dtype) return fail(dtype.error());
  config.dtype = *dtype;
  config.restore_residency = false;  // or the decisions would not be those of a replay
  struct Limit {
    const char* flag;
    const std::string& text;
    Bytes& target;
  };
  for (const Limit& limit : {Limit{"--gpu-memory-for-loras", flags.gpu_memory, config.gpu_memory},
                             Limit{"--max-cpu-memory", flags.cpu_memory, config.cpu_memory}}) {
    if (limit.text.empty()) continue;
    const Result<Bytes> bytes = parse_bytes(limit.text);
    if (!bytes) return fail(bytes.error());
    if (bytes->value == 0)
      return fail(Errc::kInvalid, fmt::format("{} 0 holds nothing: leave it out or raise it", limit.flag));
    limit.target = *bytes;
  }
  return config;
}

/// Every request in turn: on the device, then let go.
RunCounts drive(Engine& engine, const Trace& trace) {
  RunCounts counts;
  Progress progress("serving");
  std::vector<std::string_view> names;
  for (std::uint64_t i = 0; i < trace.requests; ++i) {
    names.clear();
    for (const Row row : trace.batch(i)) names.push_back(trace.adapters.name[index_of(row)]);
    if (names.empty()) continue;
    ++counts.requests;
    if (const Result<Lease> lease = engine.acquire(names); !lease && counts.failed++ == 0)
      counts.first_failure = lease.error().message;
    progress.step(i + 1, trace.requests);
  }
  return counts;
}

nlohmann::ordered_json latency_json(const LatencyHistogram& histogram) {
  const double mean = histogram.count == 0 ? 0
                                           : static_cast<double>(histogram.sum_ns) / 1e3 /
                                                 static_cast<double>(histogram.count);
  return {{"count", histogram.count},
          {"mean", mean},
          {"p50_below", static_cast<double>(histogram.quantile_ns(0.5)) / 1e3},
          {"p99_below", static_cast<double>(histogram.quantile_ns(0.99)) / 1e3}};
}

/// What a run says, but for the trace and the flags.
struct RunReport {
  RunCounts run;
  EngineStats stats;
  std::string_view device;
  double seconds = 0;
};

std::string run_json(const EngineRunFlags& flags, const Trace& trace, const RunReport& report) {
  const auto& [run, stats, device, seconds] = report;
  nlohmann::ordered_json json = {{"trace", describe(trace)},
                                 {"policy", flags.policy},
                                 {"device", device},
                                 {"max_loras", stats.device.entries_max},
                                 {"max_cpu_loras", stats.host.entries_max},
                                 {"requests", run.requests},
                                 {"requests_failed", run.failed}};
  for (const NamedCount& named : kTwoTierCounts) json[named.name] = stats.counts.*named.count;
  json.update({{"decisions", stats.decisions},
               {"bytes_loaded", stats.loaded_bytes},
               {"bytes_copied", stats.copied_bytes},
               {"host_bytes_resident", stats.host.bytes},
               {"seconds", seconds}});
  json["latency_us"] = {{"load", latency_json(stats.load_latency)},
                        {"copy", latency_json(stats.copy_latency)},
                        {"acquire_of_a_miss", latency_json(stats.acquire_latency)}};
  json["decision_log_hash"] = fmt::format("{:016x}", stats.decision_log_hash);
  return dump(json);
}

std::string run_text(const EngineRunFlags& flags, const Trace& trace, const RunReport& report) {
  const auto& [run, stats, device, seconds] = report;
  const HierarchyCounts& counts = stats.counts;
  std::string out = fmt::format("{}: {} requests with adapters, {} failed, {:.2f} s\n", trace.source,
                                run.requests, run.failed, seconds);
  out += fmt::format("--policy {} --max-loras {} --max-cpu-loras {}, slots in {} memory\n", flags.policy,
                     stats.device.entries_max, stats.host.entries_max, device);
  const auto line = [&](const char* what, std::uint64_t value) {
    out += fmt::format("  {:<24} {:>12}", what, value);
    if (counts.uses > 0) {
      out += fmt::format("  {:6.2f} % of uses",
                         100 * static_cast<double>(value) / static_cast<double>(counts.uses));
    }
    out += '\n';
  };
  line("gpu hits", counts.gpu_hits);
  line("host to device loads", counts.host_to_device_loads);
  line("disk loads", counts.disk_loads);
  line("gpu evictions", counts.gpu_evictions);
  line("gpu invalidations", counts.gpu_invalidations);
  line("host evictions", counts.host_evictions);
  line("refused uses", counts.refused_uses);
  const auto moved = [&](const char* what, std::uint64_t bytes, const LatencyHistogram& latency) {
    out += fmt::format("  {:<24} {:>12}  p50 < {:.0f} us, p99 < {:.0f} us\n", what, human_bytes(Bytes{bytes}),
                       static_cast<double>(latency.quantile_ns(0.5)) / 1e3,
                       static_cast<double>(latency.quantile_ns(0.99)) / 1e3);
  };
  moved("read from storage", stats.loaded_bytes, stats.load_latency);
  moved("copied into slots", stats.copied_bytes, stats.copy_latency);
  return out + fmt::format("  {:<24} {:>16}\n", "decision log hash",
                           fmt::format("{:016x}", stats.decision_log_hash));
}

int run_engine(const EngineRunFlags& flags) {
  TraceFlags unweighed = flags.trace;  // the engine weighs the adapters itself
  unweighed.catalog.clear();
  if (const Result<TierPolicies> policies = parse_tier_policies(flags.policy); !policies)
    return report_usage(policies.error());
  const Result<Trace> trace = unweighed.load();
  if (!trace) return report_input(trace.error());
  // Every row is one of the trace's, as in a replay: other adapters have no place in the decisions.
  if (const Result<std::vector<Row>> pins = find_pins(*trace, flags.pins); !pins)
    return report_usage(pins.error());
  const unsigned threads = threads_meant(flags.threads);
  Result<EngineConfig> config = config_of(flags, *trace, threads);
  if (!config) return report_usage(config.error());

  DecisionCsv log;
  if (!flags.decision_log.empty()) {
    if (const Result<Unit> opened = log.open(flags.decision_log, *trace); !opened)
      return report(opened.error(), kExitInput);
    config->decisions = &log;
  }
  const Result<std::unique_ptr<DeviceMemory>> device = make_device(flags.device);
  if (!device) return report_start(device.error(), flags.device);
  const std::unique_ptr<Workers> workers = make_thread_workers(threads);
  if (workers == nullptr)
    return report({Errc::kIo, "no thread could be started: raise the limit of processes (ulimit -u)", 0},
                  kExitInput);
  const std::string roots[] = {flags.trace.catalog};
  const Result<std::unique_ptr<Files>> files = make_rooted_files(roots);
  if (!files) return report_input(files.error());
  const Env env{&posix_clock(), files->get(), workers.get(), device->get()};
  Result<std::unique_ptr<Engine>> engine = [&] {
    const Progress progress("opening " + flags.trace.catalog);
    return Engine::open(*config, env);
  }();
  if (!engine) return report_start(engine.error(), flags.device);
  for (const std::string& rejected : (*engine)->rejected())
    say(fmt::format("loracle: {}: adapter left out: {}\n", flags.trace.catalog, rejected));
  for (const std::string& name : flags.pins)
    if (const Result<Unit> pinned = (*engine)->pin(name); !pinned) return report_usage(pinned.error());
  const EngineStats before = (*engine)->stats();
  const std::uint64_t begun_ns = posix_clock().now_ns();
  RunReport report;
  report.run = drive(**engine, *trace);
  report.seconds = static_cast<double>(posix_clock().now_ns() - begun_ns) / 1e9;
  report.device = (*device)->kind();
  report.stats = (*engine)->stats();
  report.stats.counts = since(report.stats.counts, before.counts);
  if (const Result<Unit> closed = (*engine)->shutdown(); !closed) return report_input(closed.error());
  if (const Result<Unit> written = log.close(); !written) return app::report(written.error(), kExitInput);
  const RunCounts& run = report.run;
  if (run.failed > 0) {
    say(fmt::format("loracle: {} of {} requests failed; the first: {}\n", run.failed, run.requests,
                    run.first_failure));
  }
  print(flags.format == Format::kText ? run_text(flags, *trace, report) : run_json(flags, *trace, report));
  return run.failed == 0 ? kExitOk : kExitImpossible;
}

}  // namespace

void add_engine_command(CLI::App& app, int& exit_code) {
  CLI::App* engine = app.add_subcommand("engine", "The engine itself, on real adapters");
  engine->require_subcommand(1);
  auto flags = std::make_shared<EngineRunFlags>();
  CLI::App* command = engine->add_subcommand("run", "Serve a trace's requests from a directory of adapters");
  flags->trace.add_to(*command);
  command->get_option("--catalog")->required();
  command->add_option("--policy", flags->policy, "For both tiers, or device/host: sieve/gdsf")
      ->capture_default_str();
  command
      ->add_option("--device", flags->device,
                   "Where the slots lie: auto (a GPU, if one can be used), cuda, host")
      ->check(CLI::IsMember({"auto", "cuda", "host"}))
      ->capture_default_str();
  command->add_option("--max-loras", flags->max_loras, "Slots on the device")->capture_default_str();
  command->add_option("--max-cpu-loras", flags->max_cpu_loras,
                      "Adapters in host memory (default: --max-loras)");
  command->add_option("--max-lora-rank", flags->max_lora_rank, "Rank of a slot (default: the largest found)");
  command->add_option("--gpu-memory-for-loras", flags->gpu_memory, "Byte limit of the device tier");
  command->add_option("--max-cpu-memory", flags->cpu_memory, "Byte limit of the host tier");
  command->add_option("--database", flags->database, "Keep the catalog in this file (default: in memory)");
  command->add_option("--pin", flags->pins, "Keep this adapter in both tiers; may be repeated")
      ->expected(1)
      ->take_all();
  command->add_option("--decision-log", flags->decision_log, "Write every decision to this file (CSV)");
  add_threads_flag(*command, flags->threads);
  add_format_flag(*command, flags->format, kTextOrJson);
  command->footer(
      "Example:\n"
      "  loracle make-adapters adapters --names-from t.jsonl --model tiny\n"
      "  loracle engine run t.jsonl --catalog adapters --max-loras 8 --max-cpu-loras 64 --policy "
      "sieve/gdsf\n\n"
      "Requests are served one after the other, so the decisions, and their hash, are those of\n"
      "  loracle replay t.jsonl --catalog adapters --tiers sieve/gdsf --max-loras 8 --max-cpu-loras 64\n"
      "(pins that a --database remembers come on top).\n\n"
      "Exit code 5: some requests could not be served (adapters the directory lacks, batches too large).");
  command->callback([flags, &exit_code] { exit_code = run_engine(*flags); });
}

}  // namespace loracle::app
