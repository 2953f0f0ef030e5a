#include "loracle/sim/plan.hpp"

#include <fmt/format.h>

#include <memory>
#include <utility>

#include "calibration_file.hpp"
#include "commands.hpp"
#include "common.hpp"
#include "cost_flags.hpp"
#include "loracle/policy/policy_spec.hpp"
#include "loracle/sim/report.hpp"
#include "loracle/sim/tier_replay.hpp"

namespace loracle::app {
namespace {

struct PlanFlags {
  TraceFlags trace;
  Format format = Format::kText;
  unsigned threads = 0;
  PlanOptions options;
  std::string cpu_memory;
  std::string gpu_memory;
  std::string target_disk_loads = "1%";
  std::string max_wait_probability = "1%";
  std::string slot_load_time;
  std::string disk_load_time;
  std::string calibration;
  std::string policies;
  CostFlags costs;
  std::string html;
  std::string json;
};

Result<PlanOptions> plan_options(const PlanFlags& flags) {
  PlanOptions options = flags.options;
  for (const auto& [text, target] : {std::pair{&flags.cpu_memory, &options.host_memory},
                                     std::pair{&flags.gpu_memory, &options.gpu_memory}}) {
    if (text->empty()) continue;
    const Result<Bytes> bytes = parse_bytes(*text);
    if (!bytes) return fail(bytes.error());
    *target = *bytes;
  }
  const Result<double> share = parse_share(flags.target_disk_loads);
  if (!share) return fail(share.error());
  options.target_disk_loads = *share;
  const Result<double> wait = parse_share(flags.max_wait_probability);
  if (!wait) return fail(wait.error());
  options.max_wait_probability = *wait;
  for (const auto& [text, target] : {std::pair{&flags.slot_load_time, &options.slot_load_s},
                                     std::pair{&flags.disk_load_time, &options.disk_load_s}}) {
    if (text->empty()) continue;
    const Result<double> seconds = parse_load_time(*text);
    if (!seconds) return fail(seconds.error());
    *target = *seconds;
  }
  Result<CostOptions> costs = flags.costs.options(!options.model.empty());
  if (!costs) return fail(costs.error());
  options.costs = std::move(*costs);
  options.slot_load_given = !flags.slot_load_time.empty();
  options.disk_load_given = !flags.disk_load_time.empty();
  TierOptions tiers;
  tiers.tiers = options.tiers;
  if (const Result<Unit> ok = check_tier_options(tiers); !ok) return fail(ok.error());
  if (!flags.policies.empty()) options.policies = split_commas(flags.policies);
  for (const std::string& policy : options.policies)
    if (const Result<PolicySpec> spec = parse_policy_spec(policy); !spec) return fail(spec.error());
  if (!options.model.empty())
    if (const Result<ModelGeometry> model = load_model_geometry(options.model); !model)
      return fail(model.error());
  return options;
}

/// A word as a shell reads it back; quoted only where it must be.
std::string shell_quoted(const std::string& word) {
  static constexpr std::string_view kPlain =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./:=,%+-";
  if (!word.empty() && word.find_first_not_of(kPlain) == std::string::npos) return word;
  std::string quoted = "'";
  for (const char c : word) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quoted + "'";
}

int run_plan(const PlanFlags& flags, std::string reproduce) {
  Result<PlanOptions> options = plan_options(flags);
  if (!options) return report_usage(options.error());
  options->reproduce = std::move(reproduce);
  Result<std::optional<Calibration>> calibration = load_calibration(flags.calibration);
  if (!calibration) return report_input(calibration.error());
  options->calibration = std::move(*calibration);
  const Result<Trace> trace = flags.trace.load();
  if (!trace) return report_input(trace.error());
  ThreadExecutor executor(flags.threads, "planning");
  const Result<Plan> plan = make_plan(*trace, *options, executor);
  if (!plan) return report_usage(plan.error());
  if (!flags.json.empty())
    if (const Result<Unit> ok = write_file(flags.json, plan_json(*plan)); !ok)
      return report_usage(ok.error());
  if (!flags.html.empty())
    if (const Result<Unit> ok = write_file(flags.html, plan_html(*plan)); !ok)
      return report_usage(ok.error());
  print(flags.format == Format::kJson  ? plan_json(*plan)
        : flags.format == Format::kCsv ? plan_csv(*plan)
                                       : plan_text(*plan));
  return kExitOk;
}

}  // namespace

void add_plan_command(CLI::App& app, int& exit_code) {
  auto flags = std::make_shared<PlanFlags>();
  CLI::App* command = app.add_subcommand("plan", "Which --max-loras and --max-cpu-loras to use, and why");
  flags->trace.add_to(*command);
  command->add_option(
      "--model", flags->options.model,
      "Model served: a name (llama-3.1-8b) or its Hugging Face config.json; gives the memory of a slot");
  command->add_option("--targets", flags->options.targets,
                      "Target modules: auto, all-linear, attention or a list");
  command->add_option("--dtype", flags->options.dtype, "Type adapters are served in: auto, bf16, fp16, fp32");
  command->add_option(
      "--max-lora-rank", flags->options.max_lora_rank,
      "Rank every slot is built for (default: the smallest vLLM accepts that fits the trace)");
  command->add_option("--gpu-memory-for-loras", flags->gpu_memory, "GPU memory for adapter slots: 8GiB");
  command->add_option("--max-cpu-memory", flags->cpu_memory, "Host memory for adapters: 64GiB");
  command
      ->add_option("--target-disk-loads", flags->target_disk_loads,
                   "Disk loads allowed per use, beyond each adapter's first: 1%")
      ->capture_default_str();
  command
      ->add_option("--max-wait-probability", flags->max_wait_probability,
                   "Requests that may wait for a slot: 1% or 0.01")
      ->capture_default_str();
  const PlanOptions defaults;
  command->add_option(
      "--slot-load-time", flags->slot_load_time,
      fmt::format("How long your server takes from host memory into a slot: 8ms (default: a guess, "
                  "{:g}ms)",
                  defaults.slot_load_s * 1e3));
  command->add_option(
      "--disk-load-time", flags->disk_load_time,
      fmt::format("How long a load from disk takes before that: 100ms (default: a guess, {:g}ms)",
                  defaults.disk_load_s * 1e3));
  command->add_option("--calibration", flags->calibration,
                      "What `loracle calibrate` wrote: load times by the adapters' own sizes");
  command
      ->add_option("--tiers", flags->options.tiers, "Grid to plan on: lru/lru, vllm, or device/host policies")
      ->capture_default_str();
  command->add_option("--policy", flags->policies,
                      "Policies to compare, comma-separated (default: the usual ones)");
  flags->costs.add_to(*command);
  command->add_option("--html", flags->html, "Write the report, one offline page, to this file");
  command->add_option("--json", flags->json, "Write the plan as JSON to this file");
  add_format_flag(*command, flags->format);
  add_threads_flag(*command, flags->threads);
  command->footer(
      "Example:\n"
      "  loracle plan t.jsonl --model llama-3.1-8b --max-cpu-memory 64GiB --html report.html --json "
      "plan.json");
  command->callback([flags, &exit_code, command] {
    std::string line = "loracle plan " + shell_quoted(flags->trace.path);
    for (const CLI::Option* option : command->get_options()) {
      if (option->count() == 0 || option->get_positional()) continue;
      const std::string name = option->get_name();
      if (name == "--html" || name == "--json" || name == "--threads" || name == "--format") continue;
      line += " " + name;
      if (option->get_items_expected() == 0) continue;
      for (const std::string& value : option->results()) line += " " + shell_quoted(value);
    }
    exit_code = run_plan(*flags, std::move(line));
  });
}

}  // namespace loracle::app
