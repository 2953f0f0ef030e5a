#include "loracle/sim/plan.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <memory>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "browser.hpp"
#include "calibration_file.hpp"
#include "change_flags.hpp"
#include "commands.hpp"
#include "common.hpp"
#include "cost_flags.hpp"
#include "loracle/policy/policy_spec.hpp"
#include "loracle/sim/advice.hpp"
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
  ChangeFlags changes;
  std::string html;
  std::string json;
  std::string markdown;
  std::string csv;
  std::string svg_folder;
  std::string png_folder;
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
  const Result<ChangeOptions> changes = flags.changes.options();
  if (!changes) return fail(changes.error());
  options.changes = *changes;
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

ExitCode exit_code_of(Advice advice) {
  switch (advice) {
    case Advice::kChange:
      return kExitAdviceChanges;
    case Advice::kInfeasible:
      return kExitInfeasible;
    case Advice::kNotEnoughData:
      return kExitNotEnoughData;
    case Advice::kNotAsked:
    case Advice::kKeep:
      break;
  }
  return kExitOk;
}

/// Each chart as a file of its own, drawn by a browser.
Result<Unit> write_charts(const Plan& plan, DrawnAs as, const std::string& folder) {
  const bool is_svg = as == DrawnAs::kSvg;
  const Result<std::string> document =
      document_after_scripts(plan_drawing_page(plan, as), is_svg ? "--svg" : "--png");
  if (!document) return fail(document.error());
  const Result<std::vector<DrawnChart>> charts = drawn_charts(*document);
  if (!charts) return fail(charts.error());
  std::error_code failed;
  std::filesystem::create_directories(folder, failed);
  if (failed)
    return fail(Errc::kIo, fmt::format("{}: cannot be made: {}", folder, failed.message()), failed.value());
  for (const DrawnChart& chart : *charts) {
    const std::filesystem::path file =
        std::filesystem::path(folder) / (chart.name + (is_svg ? ".svg" : ".png"));
    if (Result<Unit> ok = write_file(file.string(), chart.bytes); !ok) return ok;
  }
  return Unit{};
}

/// Everything that was asked for beside what is printed.
Result<Unit> write_files(const PlanFlags& flags, const Plan& plan) {
  using Writer = std::string (*)(const Plan&);
  for (const auto& [path, text] : {std::pair<const std::string*, Writer>{&flags.json, plan_json},
                                   {&flags.html, plan_html},
                                   {&flags.markdown, plan_markdown},
                                   {&flags.csv, plan_csv}})
    if (!path->empty())
      if (Result<Unit> ok = write_file(*path, text(plan)); !ok) return ok;
  for (const auto& [folder, as] :
       {std::pair{&flags.svg_folder, DrawnAs::kSvg}, {&flags.png_folder, DrawnAs::kPng}})
    if (!folder->empty())
      if (Result<Unit> ok = write_charts(plan, as, *folder); !ok) return ok;
  return Unit{};
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
  if (const Result<Unit> ok = write_files(flags, *plan); !ok)
    return ok.error().code == Errc::kNotFound ? report(ok.error(), kExitInput) : report_usage(ok.error());
  print(flags.format == Format::kJson       ? plan_json(*plan)
        : flags.format == Format::kCsv      ? plan_csv(*plan)
        : flags.format == Format::kMarkdown ? plan_markdown(*plan)
                                            : plan_text(*plan));
  return exit_code_of(advice_of(*plan));
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
  flags->changes.add_to(*command);
  command->add_option("--html", flags->html, "Write the report, one offline page, to this file");
  command->add_option("--json", flags->json, "Write the plan as JSON to this file");
  command->add_option("--markdown", flags->markdown,
                      "Write the report without its charts as Markdown to this file");
  command->add_option(
      "--csv", flags->csv,
      "Write the plan as one table to this file, all that JSON has: section,row,column,value");
  command->add_option("--svg", flags->svg_folder,
                      "Write each chart as SVG into this folder (needs Chromium)");
  command->add_option("--png", flags->png_folder,
                      "Write each chart as PNG into this folder (needs Chromium)");
  command
      ->add_option("--current-max-loras", flags->options.current_max_loras,
                   "Slots that the server has today: compares them with the choice, and sets the exit code")
      ->check(at_least(1));
  command
      ->add_option("--current-max-cpu-loras", flags->options.current_max_cpu_loras,
                   "Its adapters in host memory (default: as many as slots, as in vLLM)")
      ->check(at_least(1));
  add_format_flag(*command, flags->format, kPlanFormats);
  add_threads_flag(*command, flags->threads);
  command->footer(
      "Example:\n"
      "  loracle plan t.jsonl --model llama-3.1-8b --max-cpu-memory 64GiB --html report.html --json "
      "plan.json\n"
      "  loracle plan t.jsonl --current-max-loras 8 --current-max-cpu-loras 64 --svg charts\n\n"
      "Exit codes with --current-max-loras: 0 today's setting is fine, or the best that fits loads hardly\n"
      "less from disk; 10 a change is advised; 20 no setting within the limits serves this traffic\n"
      "without refusals and too many waits for a slot; 30 not enough data to tell. Without it: 0.");
  command->callback([flags, &exit_code, command] {
    std::string line = "loracle plan " + shell_quoted(flags->trace.path);
    for (const CLI::Option* option : command->get_options()) {
      if (option->count() == 0 || option->get_positional()) continue;
      const std::string name = option->get_name();
      static constexpr std::array<std::string_view, 8> kOutputs = {
          "--html", "--json", "--markdown", "--csv", "--svg", "--png", "--threads", "--format"};
      if (std::find(kOutputs.begin(), kOutputs.end(), name) != kOutputs.end()) continue;
      line += " " + name;
      if (option->get_items_expected() == 0) continue;
      for (const std::string& value : option->results()) line += " " + shell_quoted(value);
    }
    exit_code = run_plan(*flags, std::move(line));
  });
}

}  // namespace loracle::app
