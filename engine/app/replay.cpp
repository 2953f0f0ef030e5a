#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <iterator>
#include <memory>
#include <optional>
#include <utility>

#include "commands.hpp"
#include "common.hpp"
#include "decision_csv.hpp"
#include "loracle/policy/policy_spec.hpp"
#include "loracle/sim/tier_replay.hpp"
#include "tier_flags.hpp"
#include "trace_json.hpp"

namespace loracle::app {
namespace {

struct ReplayFlags {
  TraceFlags trace;
  Format format = Format::kText;
  unsigned threads = 0;
  std::string policies;
  std::string capacities;
  std::optional<SizeUnit> unit;
  std::string tiers;
  std::uint32_t max_loras = 0;
  std::uint32_t max_cpu_loras = 0;
  TierFlags limits;
  std::string decision_log;
};

struct ReplayRow {
  ReplayJob job;
  AskedCapacity capacity;
  ReplayResult result;
};

double ratio(std::uint64_t part, std::uint64_t whole) {
  return whole == 0 ? 0.0 : static_cast<double>(part) / static_cast<double>(whole);
}

/// Nothing where adapters are counted: each is of size 1 then.
nlohmann::ordered_json bytes_json(const ReplayRow& row, Bytes bytes) {
  return row.capacity.unit == SizeUnit::kBytes ? nlohmann::ordered_json(bytes.value)
                                               : nlohmann::ordered_json();
}

std::string bytes_field(const ReplayRow& row, Bytes bytes) {
  return row.capacity.unit == SizeUnit::kBytes ? std::to_string(bytes.value) : std::string();
}

std::string replay_json(const Trace& trace, std::uint64_t uses, const std::vector<ReplayRow>& rows) {
  nlohmann::ordered_json results = nlohmann::ordered_json::array();
  for (const ReplayRow& row : rows) {
    const ReplayCounts& counts = row.result.counts;
    results.push_back({{"policy", row.job.policy},
                       {"capacity", row.capacity.value()},
                       {"capacity_asked", row.capacity.text},
                       {"unit", name_of(row.capacity.unit)},
                       {"misses", counts.misses},
                       {"miss_ratio", ratio(counts.misses, counts.requests)},
                       {"compulsory_misses", counts.compulsory_misses},
                       {"bytes_requested", bytes_json(row, counts.bytes_requested)},
                       {"bytes_missed", bytes_json(row, counts.bytes_missed)},
                       {"evictions", counts.evictions},
                       {"bypasses", counts.bypasses},
                       {"seconds", row.result.seconds}});
  }
  return dump({{"trace", describe(trace)}, {"requests", uses}, {"results", std::move(results)}});
}

std::string replay_csv(const std::vector<ReplayRow>& rows) {
  std::string out =
      "policy,capacity,unit,requests,misses,miss_ratio,compulsory_misses,bytes_requested,bytes_missed,"
      "evictions,"
      "bypasses,seconds\n";
  for (const ReplayRow& row : rows) {
    const ReplayCounts& counts = row.result.counts;
    out += fmt::format("{},{},{},{},{},{},{},{},{},{},{},{}\n", row.job.policy, row.capacity.value(),
                       name_of(row.capacity.unit), counts.requests, counts.misses,
                       ratio(counts.misses, counts.requests), counts.compulsory_misses,
                       bytes_field(row, counts.bytes_requested), bytes_field(row, counts.bytes_missed),
                       counts.evictions, counts.bypasses, row.result.seconds);
  }
  return out;
}

std::string replay_text(const Trace& trace, std::uint64_t uses, const std::vector<ReplayRow>& rows) {
  std::string out =
      fmt::format("{}: {} requests, {} uses of {} adapters (mapping: {})\n", trace.source, trace.requests,
                  uses, rows.empty() ? 0 : rows.front().result.counts.compulsory_misses, trace.mapping);
  out += fmt::format("{:<24} {:>12} {:>8} {:>12} {:>9} {:>12} {:>14}\n", "policy", "capacity", "unit",
                     "misses", "miss %", "first uses", "bytes missed");
  for (const ReplayRow& row : rows) {
    const ReplayCounts& counts = row.result.counts;
    out += fmt::format("{:<24} {:>12} {:>8} {:>12} {:>8.2f}% {:>12} {:>14}\n", row.job.policy,
                       row.capacity.text, name_of(row.capacity.unit), counts.misses,
                       100 * ratio(counts.misses, counts.requests), counts.compulsory_misses,
                       row.capacity.unit == SizeUnit::kBytes ? human_bytes(counts.bytes_missed) : "-");
  }
  return out;
}

int run_policies(const ReplayFlags& flags) {
  const std::vector<std::string> policies = split_commas(flags.policies);
  if (policies.empty())
    return report({Errc::kInvalid, "--policy: give at least one, for example lru,sieve", 0}, kExitUsage);
  bool clairvoyant = false;
  for (const std::string& policy : policies) {
    const Result<PolicySpec> spec = parse_policy_spec(policy);
    if (!spec) return report_usage(spec.error());
    clairvoyant = clairvoyant || is_clairvoyant(*spec);
  }
  const Result<Trace> trace = flags.trace.load();
  if (!trace) return report_input(trace.error());
  Result<UseStream> stream = make_use_stream(*trace);
  if (!stream) return report_input(stream.error());
  const Result<std::vector<AskedCapacity>> capacities =
      parse_capacities(flags.capacities, flags.unit, *stream);
  if (!capacities) return report_usage(capacities.error());
  if (std::any_of(capacities->begin(), capacities->end(),
                  [](const AskedCapacity& one) { return one.unit == SizeUnit::kBytes; }))
    if (const Result<Unit> known = check_sizes_known(*trace); !known) return report_usage(known.error());

  std::vector<ReplayRow> rows;
  for (const std::string& policy : policies)
    for (const AskedCapacity& capacity : *capacities)
      rows.push_back({ReplayJob{policy, capacity.capacity}, capacity, {}});
  if (clairvoyant) compute_next_uses(*stream);  // 4 bytes a use
  ThreadExecutor executor(flags.threads, "replaying");
  for (const SizeUnit unit : {SizeUnit::kObjects, SizeUnit::kBytes}) {
    std::vector<ReplayJob> jobs;
    for (const ReplayRow& row : rows)
      if (row.capacity.unit == unit) jobs.push_back(row.job);
    const Result<std::vector<ReplayResult>> results = replay_all(*stream, unit, jobs, executor);
    if (!results) return report_usage(results.error());
    std::size_t next = 0;
    for (ReplayRow& row : rows)
      if (row.capacity.unit == unit) row.result = (*results)[next++];
  }
  const std::uint64_t uses = stream->uses.size();
  print(flags.format == Format::kJson  ? replay_json(*trace, uses, rows)
        : flags.format == Format::kCsv ? replay_csv(rows)
                                       : replay_text(*trace, uses, rows));
  return kExitOk;
}

std::string tiers_output(const ReplayFlags& flags, const Trace& trace, const TierReplay& replayed) {
  const HierarchyCounts& counts = replayed.counts;
  const std::string hash = fmt::format("{:016x}", replayed.decision_log_hash);
  std::vector<std::pair<const char*, std::uint64_t>> numbers;
  numbers.reserve(std::size(kTwoTierCounts) + 1);
  for (const NamedCount& named : kTwoTierCounts) numbers.emplace_back(named.name, counts.*named.count);
  numbers.emplace_back("decisions", replayed.decisions);
  if (flags.format == Format::kJson) {
    nlohmann::ordered_json json = {{"trace", describe(trace)},
                                   {"tiers", flags.tiers},
                                   {"max_loras", flags.max_loras},
                                   {"max_cpu_loras", flags.max_cpu_loras},
                                   {"requests", trace.requests}};
    for (const auto& [name, value] : numbers) json[name] = value;
    json["decision_log_hash"] = hash;
    return dump(json);
  }
  if (flags.format == Format::kCsv) {
    std::string head = "tiers,max_loras,max_cpu_loras";
    std::string line = fmt::format("{},{},{}", flags.tiers, flags.max_loras, flags.max_cpu_loras);
    for (const auto& [name, value] : numbers) {
      head += fmt::format(",{}", name);
      line += fmt::format(",{}", value);
    }
    return fmt::format("{},decision_log_hash\n{},{}\n", head, line, hash);
  }
  std::string out =
      fmt::format("{}: {} requests, mapping {}\n--tiers {} --max-loras {} --max-cpu-loras {}\n", trace.source,
                  trace.requests, trace.mapping, flags.tiers, flags.max_loras, flags.max_cpu_loras);
  for (const auto& [name, value] : numbers) {
    std::string label(name);
    for (char& c : label) c = c == '_' ? ' ' : c;
    out += fmt::format("  {:<22} {:>12}", label, value);
    if (value != counts.uses && counts.uses > 0 && std::string_view(name) != "decisions")
      out += fmt::format("  {:6.2f} % of uses", 100 * ratio(value, counts.uses));
    out += '\n';
  }
  return out + fmt::format("  {:<22} {:>16}\n", "decision log hash", hash);
}

int run_tiers(const ReplayFlags& flags) {
  TierOptions options;
  options.tiers = flags.tiers;
  options.max_loras = flags.max_loras;
  options.max_cpu_loras = flags.max_cpu_loras;
  if (const Result<Unit> ok = flags.limits.set_limits(options); !ok) return report_usage(ok.error());
  const Result<Trace> trace = flags.trace.load();
  if (!trace) return report_input(trace.error());
  if (const Result<Unit> ok = flags.limits.set_pins(options, *trace); !ok) return report_usage(ok.error());
  const Result<BatchStream> stream = make_batch_stream(*trace);
  if (!stream) return report_input(stream.error());

  DecisionCsv log;
  const bool logs = !flags.decision_log.empty();
  if (logs)
    if (const Result<Unit> opened = log.open(flags.decision_log, *trace); !opened)
      return report(opened.error(), kExitInput);
  const Result<TierReplay> replayed = [&] {
    const Progress progress("replaying");
    return replay_tiers(*stream, options, logs ? &log : nullptr);
  }();
  if (!replayed) return report_usage(replayed.error());
  if (const Result<Unit> written = log.close(); !written) return report(written.error(), kExitInput);
  print(tiers_output(flags, *trace, *replayed));
  return kExitOk;
}

}  // namespace

void add_replay_command(CLI::App& app, int& exit_code) {
  auto flags = std::make_shared<ReplayFlags>();
  CLI::App* command =
      app.add_subcommand("replay", "Replay a trace through eviction policies, or through two tiers");
  flags->trace.add_to(*command);
  std::string names;
  for (const std::string_view name : policy_names()) names += fmt::format(" {}", name);
  CLI::Option* policy =
      command->add_option("--policy", flags->policies,
                          "Policies, comma-separated; parameters follow colons (slru:segments=2):" + names);
  CLI::Option* capacity = command->add_option("--capacity", flags->capacities,
                                              "Sizes, comma-separated: 8, 10% (of what is used), 4GiB");
  add_unit_flag(*command, flags->unit);
  CLI::Option* tiers =
      command->add_option("--tiers", flags->tiers,
                          "Two tiers instead: vllm (vLLM's own cache), or device/host policies: sieve/gdsf");
  CLI::Option* max_loras = command->add_option("--max-loras", flags->max_loras, "GPU slots (with --tiers)");
  CLI::Option* max_cpu_loras =
      command->add_option("--max-cpu-loras", flags->max_cpu_loras,
                          "Adapters in host memory (with --tiers; default: --max-loras)");
  for (CLI::Option* const limit : flags->limits.add_to(*command)) limit->needs(tiers);
  command->add_option("--decision-log", flags->decision_log, "Write every decision to this file (CSV)")
      ->needs(tiers);
  policy->needs(capacity)->excludes(tiers);
  capacity->needs(policy);
  tiers->needs(max_loras)->excludes(command->get_option("--unit"));
  max_loras->needs(tiers);
  max_cpu_loras->needs(tiers);
  add_format_flag(*command, flags->format);
  add_threads_flag(*command, flags->threads);
  command->footer(
      "Examples:\n"
      "  loracle replay t.jsonl --policy lru,sieve,belady --capacity 8,64,10%\n"
      "  loracle replay t.jsonl --policy gdsf --capacity 4GiB\n"
      "  loracle replay t.jsonl --tiers vllm --max-loras 8 --max-cpu-loras 64\n"
      "  loracle replay t.jsonl --tiers sieve/gdsf --max-loras 8 --max-cpu-loras 64 --pin adapter-0001\n\n"
      "--policy takes a request with several adapters as several uses, one after the other; --tiers as one "
      "batch.");
  command->callback([flags, &exit_code, max_cpu_loras] {
    if (flags->policies.empty() && flags->tiers.empty()) {
      exit_code =
          report({Errc::kInvalid, "replay: give --policy and --capacity, or --tiers and --max-loras", 0},
                 kExitUsage);
      return;
    }
    if (max_cpu_loras->count() == 0) flags->max_cpu_loras = flags->max_loras;
    exit_code = flags->tiers.empty() ? run_policies(*flags) : run_tiers(*flags);
  });
}

}  // namespace loracle::app
