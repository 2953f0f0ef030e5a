#include "loracle/engine/make_adapters.hpp"

#include <fmt/format.h>

#include <memory>

#include "commands.hpp"
#include "common.hpp"

namespace loracle::app {
namespace {

/// More than this is written for those only who say that they know.
constexpr Bytes kUnaskedMax{std::uint64_t{4} << 30U};

struct MakeAdaptersFlags {
  MakeAdaptersOptions options;
  std::uint64_t count = 1000;
  std::string ranks;
  std::string model = "llama-3.1-8b";
  std::string format = "safetensors";
  std::string dtype = "bf16";
  std::string names_from;
  bool yes = false;
};

/// Names, and, unless --ranks says otherwise, ranks where the trace knows them.
Result<Unit> take_names(const MakeAdaptersFlags& flags, MakeAdaptersOptions& options) {
  if (flags.names_from.empty()) {
    options.names = numbered_adapter_names(flags.count);
    return Unit{};
  }
  TraceFlags source;
  source.path = flags.names_from;
  const Result<Trace> trace = source.load();
  if (!trace) return fail(trace.error());
  const NameColumn& names = trace->adapters.name;
  for (std::size_t row = 0; row < names.size(); ++row) options.names.emplace_back(names[row]);
  const bool ranks_known = !trace->adapters.rank.empty();
  if (!flags.ranks.empty() || !ranks_known) return Unit{};
  const std::uint32_t otherwise = options.ranks.front();
  options.ranks.assign(names.size(), otherwise);
  for (std::size_t row = 0; row < names.size(); ++row)
    if (trace->adapters.rank[row] > 0) options.ranks[row] = trace->adapters.rank[row];
  return Unit{};
}

int run_make_adapters(const MakeAdaptersFlags& flags) {
  MakeAdaptersOptions options = flags.options;
  if (!flags.ranks.empty()) {
    Result<std::vector<std::uint32_t>> ranks = parse_sizes("--ranks", flags.ranks);
    if (!ranks) return report_usage(ranks.error());
    options.ranks = std::move(*ranks);
  }
  const Result<Dtype> dtype = parse_dtype(flags.dtype);
  if (!dtype) return report_usage(dtype.error());
  options.dtype = *dtype;
  options.format = flags.format == "bin" ? WeightFormat::kTorchZip : WeightFormat::kSafetensors;
  Result<ModelGeometry> model = load_model_geometry(flags.model);
  if (!model) return report_usage(model.error());
  options.model = std::move(*model);
  if (const Result<Unit> taken = take_names(flags, options); !taken) return report_input(taken.error());

  if (!flags.yes) options.bytes_max = kUnaskedMax;
  const Result<MadeAdapters> made = [&options] {
    Progress progress("writing adapters");
    return make_adapters(options,
                         [&progress](std::size_t done, std::size_t all) { progress.step(done, all); });
  }();
  if (!made && made.error().code == Errc::kTooLarge) {
    return report_usage(
        {Errc::kInvalid,
         fmt::format("{}, and nothing was written: add --yes to write them all the same, or ask "
                     "for fewer (--count 10) or smaller ones (--model tiny)",
                     made.error().message),
         0});
  }
  if (!made) return report_usage(made.error());
  print(fmt::format("{}: {} adapters made ({}), {} were there already\n", options.directory, made->made,
                    human_bytes(Bytes{made->bytes}), made->kept));
  return kExitOk;
}

}  // namespace

void add_make_adapters_command(CLI::App& app, int& exit_code) {
  auto flags = std::make_shared<MakeAdaptersFlags>();
  CLI::App* command =
      app.add_subcommand("make-adapters", "Write synthetic LoRA adapters, for tests and benchmarks");
  command->add_option("DIR", flags->options.directory, "Where; one directory an adapter")->required();
  CLI::Option* const count = command->add_option("--count", flags->count, "How many")
                                 ->check(in_range(1, 1'000'000))
                                 ->capture_default_str();
  command
      ->add_option("--names-from", flags->names_from,
                   "Trace file: one adapter for each it names, with its rank where it tells")
      ->excludes(count);
  command->add_option("--ranks", flags->ranks, "Ranks, dealt out in turn: 8,16,64 (default: 8)");
  command
      ->add_option("--model", flags->model,
                   "Base model: a known name (tiny is the smallest) or a config.json")
      ->capture_default_str();
  command
      ->add_option("--targets", flags->options.targets,
                   "all-linear, attention, auto or a list: q_proj,v_proj")
      ->capture_default_str();
  command->add_option("--dtype", flags->dtype, "Of the weights: bf16, fp16, fp32, float8_e4m3fn, float8_e5m2")
      ->capture_default_str();
  command
      ->add_option("--format", flags->format, "Of the weights: safetensors, or bin as torch.save writes it")
      ->check(CLI::IsMember({"safetensors", "bin"}))
      ->capture_default_str();
  command->add_option("--seed", flags->options.seed, "Same seed, same bytes")->capture_default_str();
  command->add_flag("--force", flags->options.force, "Replace what is there already");
  command->add_flag("--yes", flags->yes,
                    fmt::format("Write more than {} without being asked", human_bytes(kUnaskedMax)));
  command->footer(
      "Examples:\n"
      "  loracle make-adapters adapters --model tiny --count 100 --ranks 8,16\n"
      "  loracle make-adapters adapters --names-from t.jsonl --model llama-3.1-8b --ranks 16");
  command->callback([flags, &exit_code] { exit_code = run_make_adapters(*flags); });
}

}  // namespace loracle::app
