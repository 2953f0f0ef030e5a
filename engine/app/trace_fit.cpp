#include <fmt/format.h>

#include <memory>
#include <span>
#include <string>
#include <utility>

#include "commands.hpp"
#include "common.hpp"
#include "loracle/engine/files.hpp"
#include "loracle/sim/fit_traffic.hpp"
#include "loracle/sim/match_traces.hpp"
#include "loracle/traces/ltr.hpp"
#include "loracle/traces/synthesize.hpp"
#include "loracle/traces/write.hpp"

namespace loracle::app {
namespace {

constexpr std::uint64_t kFitBytesMax = 1U << 30U;
constexpr const char* kFolded = ", folded onto ";  // as transform.hpp adds it to a mapping

struct FitFlags {
  TraceFlags trace;
  std::string window;
  std::string held = "10s";
  std::string json;
  Format format = Format::kText;
};

int run_fit(const FitFlags& flags) {
  FitOptions options;
  const Result<double> held = parse_seconds(flags.held);
  if (!held) return report_usage(held.error());
  options.held_s = *held;
  if (!flags.window.empty()) {
    const Result<double> window = parse_seconds(flags.window);
    if (!window) return report_usage(window.error());
    options.window_s = *window;
  }
  const Result<Trace> trace = flags.trace.load();
  if (!trace) return report_input(trace.error());
  const Result<TraceFit> fit = [&] {
    const Progress progress("fitting");
    return fit_traffic(*trace, options);
  }();
  if (!fit) return report_usage(fit.error());
  if (!flags.json.empty())
    if (const Result<Unit> written = write_file(flags.json, fit_json(*fit)); !written)
      return report_input(written.error());
  if (flags.json == "-") return kExitOk;
  print(flags.format == Format::kJson ? fit_json(*fit) : fit_text(*fit));
  return kExitOk;
}

struct SynthFlags {
  std::string from;
  std::string output;
  std::string check;
  std::string check_map;
  std::string duration;
  std::uint64_t requests = 0;
  std::string held = "10s";
  SynthesizeOptions options;
};

Result<TrafficModel> read_model(const std::string& path) {
  Result<std::unique_ptr<OpenFile>> file = posix_files().open(path);
  if (!file) return fail(std::move(file.error()));
  const std::uint64_t size = (*file)->stat().size;
  if (size > kFitBytesMax)
    return fail(Errc::kCorrupt, fmt::format("{}: {} bytes are too many for a fit", path, size));
  std::string text(size, '\0');
  if (Result<Unit> read = read_exactly(**file, path, 0, std::as_writable_bytes(std::span(text))); !read)
    return fail(std::move(read.error()));
  return parse_traffic_model(text, path);
}

/// The source as the model saw it: its mapping, fold and number of requests, unless told otherwise. Our own
/// formats hold the adapters themselves, so that no mapping goes with them.
Result<Trace> read_source(const SynthFlags& flags, const TrafficModel& model) {
  ReadOptions options;
  options.requests_max = model.requests;
  std::string mapping = model.mapping;
  if (const std::size_t folded = mapping.find(kFolded); folded != std::string::npos) {
    const std::string rest = mapping.substr(folded + std::string_view(kFolded).size());
    const Result<double> period = parse_seconds(rest.substr(0, rest.find(' ')));
    if (period) options.fold_period_s = *period;
    mapping.resize(folded);
  }
  if (!flags.check_map.empty())
    options.mapping = flags.check_map;
  else if (!flags.check.ends_with(".ltr") && model.format != "jsonl" && model.format != "generated")
    options.mapping = mapping;
  const Progress progress("reading " + flags.check);
  return read_trace(flags.check, options);
}

int write_synthetic(const Trace& trace, const std::string& path) {
  const Progress progress("writing " + path);
  const Result<Unit> written = path == "-"              ? write_jsonl(trace, stdout)
                               : path.ends_with(".ltr") ? write_ltr(trace, path)
                                                        : write_jsonl(trace, path);
  return written ? kExitOk : report_input(written.error());
}

int run_synth(const SynthFlags& flags) {
  if (flags.output.empty() && flags.check.empty())
    return report(
        {Errc::kInvalid, "trace synth: say where to write (OUT), or what to compare with (--check)", 0},
        kExitUsage);
  const Result<double> held = parse_seconds(flags.held);
  if (!held) return report_usage(held.error());
  const Result<TrafficModel> model = read_model(flags.from);
  if (!model) return report_input(model.error());
  SynthesizeOptions options = flags.options;
  if (flags.requests > 0 && model->timed)
    return report({Errc::kInvalid, "--requests: this fit has arrival times: give --duration", 0}, kExitUsage);
  if (!flags.duration.empty() && !model->timed)
    return report({Errc::kInvalid, "--duration: this fit has no arrival times: give --requests", 0},
                  kExitUsage);
  if (flags.requests > 0) options.duration_s = static_cast<double>(flags.requests);
  if (!flags.duration.empty()) {
    const Result<double> duration = parse_seconds(flags.duration);
    if (!duration) return report_usage(duration.error());
    options.duration_s = *duration;
  }
  const Result<Trace> trace = [&] {
    const Progress progress("synthesizing");
    return synthesize(*model, options);
  }();
  if (!trace) return report_usage(trace.error());
  if (!flags.check.empty()) {
    const Result<Trace> source = read_source(flags, *model);
    if (!source) return report_input(source.error());
    const Result<TraceMatch> match = match_traces(*source, *trace, *held);
    if (!match) return report_usage(match.error());
    flags.output == "-" ? say(match_text(*match)) : print(match_text(*match));
    if (!match->accepted) return kExitNotAccepted;
  }
  return flags.output.empty() ? kExitOk : write_synthetic(*trace, flags.output);
}

}  // namespace

void add_trace_fit_command(CLI::App& trace, int& exit_code) {
  auto flags = std::make_shared<FitFlags>();
  CLI::App* command =
      trace.add_subcommand("fit", "What laws a trace follows, and a model to draw others from");
  flags->trace.add_to(*command);
  command->add_option("--window", flags->window,
                      "Length of the model's windows, for example 10min; default: the longest of those tried "
                      "whose traces are accepted");
  command
      ->add_option("--held", flags->held,
                   "How long requests hold their adapters, where the trace does not say: for the adapters in "
                   "use at once")
      ->capture_default_str();
  command->add_option("--json", flags->json,
                      "File for laws and model; `trace synth` draws from it; - is stdout");
  add_format_flag(*command, flags->format, kTextOrJson);
  command->footer("Example:\n  loracle trace fit t.jsonl --json fit.json");
  command->callback([flags, &exit_code] { exit_code = run_fit(*flags); });
}

void add_trace_synth_command(CLI::App& trace, int& exit_code) {
  auto flags = std::make_shared<SynthFlags>();
  CLI::App* command =
      trace.add_subcommand("synth", "Draw a trace from a fit: as long, fast and large as asked");
  command->add_option("--from", flags->from, "A file that `loracle trace fit --json` wrote")->required();
  command->add_option("OUT,-o,--output", flags->output,
                      "File to write; .ltr is binary, - is JSONL on stdout");
  command->add_option("--seed", flags->options.seed, "Same seed, same bytes")->capture_default_str();
  command->add_option("--duration", flags->duration,
                      "How long a trace, for example 7d; default: as the source");
  command->add_option("--requests", flags->requests,
                      "How many requests, from a fit without arrival times; default: as the source");
  command->add_option("--rate-times", flags->options.rate_times, "So many times the requests of each adapter")
      ->capture_default_str();
  command
      ->add_option("--adapters-times", flags->options.adapters_times,
                   "So many times the adapters, each with the traffic of the one it doubles")
      ->capture_default_str();
  command->add_option(
      "--check", flags->check,
      "The fit's source: write only if LRU misses differ by 2 points at most, at any size, and "
      "the p99 of adapters in use by 1");
  command->add_option("--check-map", flags->check_map, "Its mapping, if not the one it was fitted with");
  command
      ->add_option("--held", flags->held,
                   "With --check: how long requests hold their adapters, where the traces do not say")
      ->capture_default_str();
  command->footer(
      "Example:\n"
      "  loracle trace fit t.jsonl --json fit.json\n"
      "  loracle trace synth --from fit.json --seed 1 --check t.jsonl\n"
      "  loracle trace synth --from fit.json --seed 2 --duration 7d --rate-times 2 busy.jsonl\n\n"
      "Exit codes: 0 written, or accepted; 11 with --check: too unlike the source, and nothing was written.");
  command->callback([flags, &exit_code] { exit_code = run_synth(*flags); });
}

}  // namespace loracle::app
