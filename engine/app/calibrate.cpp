#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "calibration_file.hpp"
#include "commands.hpp"
#include "common.hpp"
#include "loracle/sim/calibration.hpp"
#include "loracle/sim/model_geometry.hpp"
#include "loracle/storage/http_get.hpp"
#include "measure_loads.hpp"

namespace loracle::app {
namespace {

constexpr std::uint64_t kSourceBytesMax = 1ULL << 31U;  // a log; a day of steps is some 100 MB
constexpr std::size_t kPageBytesMax = 64U << 20U;

struct CalibrateFlags {
  std::string metrics;
  std::string vllm_log;
  std::string steps;
  std::string loads;
  std::string largest = "64MiB";
  std::string machine;
  std::string date;
  std::string out;
  MeasureOptions measure;
  Format format = Format::kText;
};

Result<std::string> metrics_text(const std::string& source) {
  if (!source.starts_with("http://") && !source.starts_with("https://"))
    return file_text(source, kSourceBytesMax);
  const Progress progress("reading " + source);
  return http_get(source, kPageBytesMax);
}

template <class T>
Result<Unit> append(std::vector<T>& to, Result<std::vector<T>> from) {
  if (!from) return fail(std::move(from.error()));
  to.insert(to.end(), from->begin(), from->end());
  return Unit{};
}

/// Reads one source, if it was given, with `read`.
template <class T>
Result<Unit> add(const std::string& path, std::vector<T>& to,
                 Result<std::vector<T>> (*read)(std::string_view, const std::string&)) {
  if (path.empty()) return Unit{};
  const Result<std::string> text = file_text(path, kSourceBytesMax);
  if (!text) return fail(text.error());
  return append(to, read(*text, path));
}

Result<Unit> read_sources(const CalibrateFlags& flags, Measurements& measured) {
  for (const auto& [flag, value] : {std::pair{"--metrics", &flags.metrics},
                                    {"--vllm-log", &flags.vllm_log},
                                    {"--steps", &flags.steps},
                                    {"--loads", &flags.loads},
                                    {"--measure", &flags.measure.directory}})
    if (!value->empty()) measured.sources.push_back(fmt::format("{} {}", flag, *value));
  if (!flags.metrics.empty()) {
    const Result<std::string> page = metrics_text(flags.metrics);
    if (!page) return fail(page.error());
    if (auto added = append(measured.sums, read_load_metrics(*page, flags.metrics)); !added) return added;
  }
  if (auto added = add(flags.loads, measured.loads, read_loads_csv); !added) return added;
  if (auto added = add(flags.steps, measured.steps, read_steps_csv); !added) return added;
  return add(flags.vllm_log, measured.steps, read_vllm_log);
}

std::string today() {
  return fmt::format("{:%Y-%m-%d}",
                     fmt::gmtime(std::chrono::system_clock::to_time_t(std::chrono::system_clock::now())));
}

bool is_date(std::string_view text) {
  if (text.size() != 10) return false;
  for (std::size_t i = 0; i < text.size(); ++i)
    if (i == 4 || i == 7 ? text[i] != '-' : text[i] < '0' || text[i] > '9') return false;
  return true;
}

/// Empty if the flags go together.
std::string wrong_flags(const CalibrateFlags& flags) {
  if (flags.metrics.empty() && flags.vllm_log.empty() && flags.steps.empty() && flags.loads.empty() &&
      flags.measure.directory.empty())
    return "nothing to calibrate from: give --metrics, --loads, --steps, --vllm-log or --measure";
  if (!flags.steps.empty() && !flags.vllm_log.empty())
    return "--steps and --vllm-log: give one; a log's steps name no adapters, and would dilute those that do";
  if (!flags.date.empty() && !is_date(flags.date))
    return fmt::format("--date '{}': write it as 2026-11-22", flags.date);
  return {};
}

int run_calibrate(CalibrateFlags flags) {
  if (const std::string wrong = wrong_flags(flags); !wrong.empty())
    return report({Errc::kInvalid, wrong, 0}, kExitUsage);
  Measurements measured;
  if (const Result<Unit> read = read_sources(flags, measured); !read) return report_input(read.error());
  std::vector<std::string> notes;
  if (!flags.measure.directory.empty()) {
    const Result<Bytes> largest = parse_bytes(flags.largest);
    if (!largest) return report_usage(largest.error());
    flags.measure.largest = *largest;
    if (const Result<ModelGeometry> model = load_model_geometry(flags.measure.model); !model)
      return report_usage(model.error());
    Result<MeasuredLoads> found = [&] {
      const Progress progress("measuring loads in " + flags.measure.directory);
      return measure_loads(flags.measure);
    }();
    if (!found) return report_input(found.error());
    measured.loads.insert(measured.loads.end(), found->loads.begin(), found->loads.end());
    notes = std::move(found->notes);
    if (flags.machine.empty()) flags.machine = this_machine();
  }
  const Result<Calibration> made =
      calibrate(measured, flags.date.empty() ? today() : flags.date, flags.machine);
  for (const std::string& note : notes) say(fmt::format("loracle: {}\n", note));
  if (!made) return report(made.error(), kExitImpossible);
  const std::string json = calibration_json(*made);
  if (!flags.out.empty())
    if (const Result<Unit> written = write_file(flags.out, json); !written)
      return report_usage(written.error());
  if (flags.out == "-") return kExitOk;
  print(flags.format == Format::kJson ? json : calibration_text(*made));
  if (flags.format == Format::kText)
    print(flags.out.empty()
              ? "\nNothing was written: give --out FILE, and FILE to `loracle plan --calibration`\n"
              : fmt::format("\nWritten to {0}: loracle plan TRACE --calibration {0}\n", flags.out));
  return kExitOk;
}

}  // namespace

void add_calibrate_command(CLI::App& app, int& exit_code) {
  auto flags = std::make_shared<CalibrateFlags>();
  CLI::App* command =
      app.add_subcommand("calibrate", "What loads and steps take on your server, for plan and what-if");
  command->add_option("--metrics", flags->metrics,
                      "/metrics page of `loracle serve`, a file or URL: mean load times of both tiers");
  command->add_option("--loads", flags->loads,
                      "CSV of single loads: tier,bytes,seconds; tier is disk or slot");
  command->add_option("--steps", flags->steps,
                      "CSV of engine steps: prefill_tokens,sequences,adapters,rank_sum,seconds");
  command->add_option("--vllm-log", flags->vllm_log,
                      "Log of vLLM --enable-logging-iteration-details --no-async-scheduling: steps");
  command->add_option("--measure", flags->measure.directory,
                      "Measure this machine: reads from this directory's disk, copies into its GPU's slots");
  command->add_option("--largest", flags->largest, "With --measure: the largest piece read from disk")
      ->capture_default_str();
  command->add_option("--model", flags->measure.model, "With --measure: whose LoRA is copied into slots")
      ->capture_default_str();
  command->add_option("--rounds", flags->measure.rounds, "With --measure: times every size is loaded")
      ->check(in_range(1, 1000))
      ->capture_default_str();
  command->add_option("--machine", flags->machine,
                      "What it was measured on, for example 'NVIDIA H200' (default, of --measure: this one)");
  command->add_option("--date", flags->date, "Date of the measurements (default: today, UTC)");
  command->add_option("--out", flags->out, "Write the calibration to this file");
  add_format_flag(*command, flags->format, kTextOrJson);
  command->footer(
      "Examples:\n"
      "  loracle calibrate --measure /srv/adapters --out here.json\n"
      "  loracle calibrate --metrics http://127.0.0.1:8470/metrics --machine 'NVIDIA H200' --out h200.json\n"
      "  loracle plan t.jsonl --calibration h200.json\n\n"
      "A part without enough data is left out and named. Of counters only means are known, so no rate: "
      "single\n"
      "loads of several sizes give both latency and rate. Exit code 5: not enough data for any part.");
  command->callback([flags, &exit_code] { exit_code = run_calibrate(*flags); });
}

}  // namespace loracle::app
