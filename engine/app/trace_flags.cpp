#include "trace_flags.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "executor.hpp"
#include "loracle/core/nearest.hpp"
#include "loracle/engine/adapter_weights.hpp"
#include "output.hpp"
#include "parse_flags.hpp"

namespace loracle::app {

namespace {

std::string joined(const std::vector<std::string>& names) { return fmt::format("{}", fmt::join(names, " ")); }

CLI::Validator checked(const char* type, Result<Unit> (*check)(std::string_view)) {
  return CLI::Validator(
      [check](std::string& text) {
        const Result<Unit> ok = check(text);
        return ok ? std::string{} : ok.error().message;
      },
      type);
}

/// The part before the first colon is `auto` or one of `names`.
CLI::Validator known_name(const char* what, const std::vector<std::string>& names) {
  return CLI::Validator(
      [what, &names](std::string& text) {
        const std::string name = text.substr(0, text.find(':'));
        if (name == "auto" || std::find(names.begin(), names.end(), name) != names.end())
          return std::string{};
        const std::vector<std::string_view> views(names.begin(), names.end());
        return unknown_name_message(what, name, views);
      },
      "NAME");
}

}  // namespace

void TraceFlags::add_to(CLI::App& command) {
  command.add_option("TRACE", path, "Trace file; gzip, zstd and xz are unpacked on the way")->required();
  command.add_option("--trace-format", read.format, "One of: auto " + joined(trace_format_names()))
      ->check(known_name("trace format", trace_format_names()))
      ->capture_default_str();
  command
      .add_option("--map", read.mapping,
                  "How requests map to adapters: " + joined(trace_mapping_names()) +
                      " (default: the format's own; parameters follow colons: zipf:adapters=200:alpha=0.9)")
      ->check(known_name("mapping", trace_mapping_names()));
  command.add_option("--columns", read.columns,
                     "CSV only: our field = column, for example adapter=model,arrival_s=0");
  command
      .add_option("--fold", fold,
                  "Fold arrival times onto one period, for example 1h: raises concurrency, keeps locality")
      ->check(checked("DURATION", [](std::string_view text) -> Result<Unit> {
        const Result<double> seconds = parse_seconds(text);
        if (!seconds) return fail(seconds.error());
        return Unit{};
      }));
  command.add_option("--catalog", catalog, "Directory of PEFT adapters: gives their sizes and ranks");
  command.add_option("--lora-dtype", lora_dtype, "With --catalog: the type adapters are served in")
      ->check(checked("DTYPE",
                      [](std::string_view text) -> Result<Unit> {
                        const Result<Dtype> dtype = parse_dtype(text);
                        if (!dtype) return fail(dtype.error());
                        return Unit{};
                      }))
      ->capture_default_str();
  command.add_option("--requests", read.requests_max, "Read no more requests than this")->check(at_least(0));
  command.add_option("--seed", read.seed, "Seed of mappings and readers that draw")
      ->check(at_least(0))
      ->capture_default_str();
  read.skip_flag = "--skip-bad-lines";
  command.add_flag(std::string(read.skip_flag), read.skip_bad_lines,
                   "Pass over lines that cannot be read, and count them");
  command.add_flag("--big-endian", read.big_endian, "cache2k only: keys are big-endian");
}

Result<Trace> TraceFlags::load() const {
  ReadOptions options = read;
  if (!fold.empty()) {
    const Result<double> seconds = parse_seconds(fold);
    if (!seconds) return fail(seconds.error());
    options.fold_period_s = *seconds;
  }
  Result<Trace> trace = [&] {
    const Progress progress("reading " + path);
    return read_trace(path, options);
  }();
  if (!trace) return trace;
  if (trace->skipped_lines > 0)
    say(fmt::format("loracle: {}: {} bad lines skipped\n", path, trace->skipped_lines));
  if (trace->format == "openai" && trace->mapping == "lora")
    say(fmt::format(
        "loracle: {}: every model it names counts as an adapter; leave the base model out with --map "
        "lora:base=NAME\n",
        path));
  if (!catalog.empty()) {
    const Result<Dtype> dtype = parse_dtype(lora_dtype);
    if (!dtype) return fail(dtype.error());
    const Result<AdapterWeights> weights = weigh_adapters(posix_files(), catalog, *dtype);
    if (!weights) return fail(weights.error());
    for (const std::string& rejected : weights->rejected)
      say(fmt::format("loracle: {}: adapter left out: {}\n", catalog, rejected));
    const std::uint64_t matched = add_weights(*trace, *weights);
    if (matched == 0)
      say(fmt::format("loracle: {}: none of its {} adapters is named in the trace\n", catalog,
                      weights->adapters.size()));
    else if (matched < trace->rows())
      say(fmt::format(
          "loracle: {}: has {} of the trace's {} adapters; of the others only what the trace says "
          "is known\n",
          catalog, matched, trace->rows()));
  }
  return trace;
}

Result<Unit> check_sizes_known(const Trace& trace) {
  const auto bytes = trace.adapters.bytes.view();
  if (std::any_of(bytes.begin(), bytes.end(), [](std::uint64_t size) { return size > 0; })) return Unit{};
  return fail(
      Errc::kInvalid,
      fmt::format("{}: has no sizes of adapters, and bytes are asked for: give the adapters' directory "
                  "(--catalog), or count adapters",
                  trace.source));
}

Result<std::vector<Row>> find_pins(const Trace& trace, const std::vector<std::string>& names) {
  std::vector<Row> pins;
  for (const std::string& name : names) {
    Row found = kNoRow;
    for (std::uint32_t row = 0; row < trace.rows(); ++row)
      if (trace.adapters.name[row] == name) found = Row{row};
    if (found == kNoRow)
      return fail(Errc::kNotFound,
                  fmt::format("--pin '{}': no adapter of that name in {}: list the names with "
                              "loracle trace info --adapters",
                              name, trace.source));
    pins.push_back(found);
  }
  return pins;
}

}  // namespace loracle::app
