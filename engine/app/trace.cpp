#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "commands.hpp"
#include "common.hpp"
#include "loracle/traces/generate.hpp"
#include "loracle/traces/ltr.hpp"
#include "loracle/traces/transform.hpp"
#include "loracle/traces/write.hpp"
#include "trace_json.hpp"

namespace loracle::app {
namespace {

/// Writes by the name's ending: `.ltr` is our binary, everything else JSONL; `-` is JSONL on stdout.
int write_trace(const Trace& trace, const std::string& path) {
  const Progress progress("writing " + path);
  const bool binary = path.size() > 4 && path.ends_with(".ltr");
  const Result<Unit> ok = path == "-" ? write_jsonl(trace, stdout)
                          : binary    ? write_ltr(trace, path)
                                      : write_jsonl(trace, path);
  return ok ? kExitOk : report_input(ok.error());
}

struct InfoFlags {
  TraceFlags trace;
  Format format = Format::kText;
  bool adapters = false;
};

struct AdapterUses {
  std::uint32_t row = 0;
  std::uint64_t uses = 0;
};

std::vector<AdapterUses> by_popularity(const Trace& trace) {
  std::vector<AdapterUses> counts(trace.rows());
  for (std::uint32_t row = 0; row < trace.rows(); ++row) counts[row].row = row;
  for (const Row row : trace.uses.view()) ++counts[index_of(row)].uses;
  std::stable_sort(counts.begin(), counts.end(),
                   [](const AdapterUses& a, const AdapterUses& b) { return a.uses > b.uses; });
  return counts;
}

std::uint64_t known(std::span<const std::uint64_t> column, std::uint32_t row) {
  return column.empty() ? 0 : column[row];
}

int run_info(const InfoFlags& flags) {
  const Result<Trace> read = flags.trace.load();
  if (!read) return report_input(read.error());
  const Trace& trace = *read;
  const std::vector<AdapterUses> popular = by_popularity(trace);
  const std::size_t listed = flags.adapters ? popular.size() : std::min<std::size_t>(10, popular.size());
  std::uint64_t without = 0;
  std::uint64_t several = 0;
  for (std::uint64_t i = 0; i < trace.requests; ++i) {
    without += trace.batch(i).empty() ? 1 : 0;
    several += trace.batch(i).size() > 1 ? 1 : 0;
  }
  const double span_s =
      trace.arrival_s.empty() ? 0 : trace.arrival_s[trace.requests - 1] - trace.arrival_s[0];
  const auto rank_of = [&](std::uint32_t row) {
    return trace.adapters.rank.empty() ? 0U : std::uint32_t{trace.adapters.rank[row]};
  };
  if (flags.format == Format::kJson) {
    nlohmann::ordered_json adapters = nlohmann::ordered_json::array();
    for (std::size_t i = 0; i < listed; ++i)
      adapters.push_back({{"adapter", std::string(trace.adapters.name[popular[i].row])},
                          {"uses", popular[i].uses},
                          {"bytes", known(trace.adapters.bytes.view(), popular[i].row)},
                          {"rank", rank_of(popular[i].row)}});
    nlohmann::ordered_json json = {{"trace", describe(trace)},
                                   {"requests_without_adapter", without},
                                   {"requests_with_several", several},
                                   {"tenants", trace.tenant_name.size()}};
    if (!trace.arrival_s.empty()) json["span_s"] = span_s;
    json["has_tokens"] = !trace.input_tokens.empty();
    json["has_durations"] = !trace.duration_s.empty();
    json["adapters"] = std::move(adapters);
    print(dump(json));
    return kExitOk;
  }
  std::string out;
  if (flags.format == Format::kCsv) {
    out = "adapter,uses,bytes,rank\n";
  } else {
    out = fmt::format(
        "{}\n  format     {}\n  mapping    {}\n  requests   {} ({} of the base model, {} with several "
        "adapters)\n  uses       {} of {} adapters\n",
        trace.source, trace.format, trace.mapping, trace.requests, without, several, trace.uses.size(),
        trace.rows());
    if (!trace.arrival_s.empty())
      out += fmt::format("  span       {:.0f} s, {:.4g} requests/s\n", span_s,
                         span_s > 0 ? static_cast<double>(trace.requests) / span_s : 0.0);
    out += fmt::format("  columns    adapter{}{}{}{}\n", trace.arrival_s.empty() ? "" : ", arrival",
                       trace.input_tokens.empty() ? "" : ", tokens", trace.tenant.empty() ? "" : ", tenant",
                       trace.duration_s.empty() ? "" : ", duration");
    out += fmt::format("  {:<40} {:>10} {:>7} {:>10} {:>5}\n",
                       flags.adapters ? "adapters" : "most used adapters", "uses", "share", "bytes", "rank");
  }
  for (std::size_t i = 0; i < listed; ++i) {
    const auto [row, uses] = popular[i];
    const std::uint64_t bytes = known(trace.adapters.bytes.view(), row);
    const std::string name(trace.adapters.name[row]);
    out += flags.format == Format::kCsv
               ? fmt::format("{},{},{},{}\n", csv_field(name), uses, bytes, rank_of(row))
               : fmt::format("  {:<40} {:>10} {:>6.2f}% {:>10} {:>5}\n", name, uses,
                             100.0 * static_cast<double>(uses) /
                                 static_cast<double>(std::max<std::size_t>(1, trace.uses.size())),
                             bytes == 0 ? "-" : human_bytes(Bytes{bytes}),
                             rank_of(row) == 0 ? std::string("-") : std::to_string(rank_of(row)));
  }
  print(out);
  return kExitOk;
}

struct CopyFlags {
  TraceFlags trace;
  std::string output = "-";
  std::uint64_t requests = 10;
};

int run_convert(const CopyFlags& flags) {
  const Result<Trace> trace = flags.trace.load();
  if (!trace) return report_input(trace.error());
  return write_trace(*trace, flags.output);
}

int run_head(const CopyFlags& flags) {
  TraceFlags limited = flags.trace;
  if (limited.fold.empty())
    limited.read.requests_max =
        limited.read.requests_max == 0 ? flags.requests : std::min(limited.read.requests_max, flags.requests);
  const Result<Trace> trace = limited.load();
  if (!trace) return report_input(trace.error());
  return write_trace(head(*trace, flags.requests), flags.output);
}

void add_info(CLI::App& trace, int& exit_code) {
  auto flags = std::make_shared<InfoFlags>();
  CLI::App* command =
      trace.add_subcommand("info", "What is in a trace: counts, span, the most used adapters");
  flags->trace.add_to(*command);
  command->add_flag("--adapters", flags->adapters, "List every adapter");
  add_format_flag(*command, flags->format);
  command->footer(
      "Example:\n  loracle trace info requests.csv.gz --trace-format csv --columns adapter=model");
  command->callback([flags, &exit_code] { exit_code = run_info(*flags); });
}

void add_convert(CLI::App& trace, int& exit_code) {
  auto flags = std::make_shared<CopyFlags>();
  CLI::App* command =
      trace.add_subcommand("convert", "Write a trace as JSONL or as our binary, by the name's ending");
  flags->trace.add_to(*command);
  command->add_option("-o,--output", flags->output, "File to write; .ltr is binary, - is stdout")->required();
  command->footer("Example:\n  loracle trace convert big.oracleGeneral.zst -o big.ltr");
  command->callback([flags, &exit_code] { exit_code = run_convert(*flags); });
}

void add_head(CLI::App& trace, int& exit_code) {
  auto flags = std::make_shared<CopyFlags>();
  CLI::App* command = trace.add_subcommand("head", "The first requests of a trace, as JSONL");
  flags->trace.add_to(*command);
  command->add_option("-n", flags->requests, "How many requests")->capture_default_str();
  command->add_option("-o,--output", flags->output, "File to write; - is stdout")->capture_default_str();
  command->footer("Example:\n  loracle trace head t.ltr -n 5");
  command->callback([flags, &exit_code] { exit_code = run_head(*flags); });
}

struct GenFlags {
  GenerateOptions options;
  std::string output;
  std::string ranks;
};

/// `8,16,32`.
Result<std::vector<std::uint16_t>> parse_ranks(const std::string& text) {
  const Result<std::vector<std::uint32_t>> sizes = parse_sizes("--ranks", text);
  if (!sizes) return fail(sizes.error());
  std::vector<std::uint16_t> ranks;
  for (const std::uint32_t rank : *sizes) {
    if (rank == 0 || rank > 65535)
      return fail(Errc::kInvalid, fmt::format("--ranks {}: a rank is 1 .. 65535", rank));
    ranks.push_back(static_cast<std::uint16_t>(rank));
  }
  return ranks;
}

int run_gen(const GenFlags& flags) {
  GenerateOptions options = flags.options;
  if (!flags.ranks.empty()) {
    Result<std::vector<std::uint16_t>> ranks = parse_ranks(flags.ranks);
    if (!ranks) return report_usage(ranks.error());
    options.ranks = std::move(*ranks);
  }
  const Result<Trace> trace = [&] {
    const Progress progress("generating");
    return generate(options);
  }();
  if (!trace) return report_usage(trace.error());
  return write_trace(*trace, flags.output);
}

void add_generator(CLI::App& gen, const char* name, const char* what, double alpha, int& exit_code) {
  auto flags = std::make_shared<GenFlags>();
  flags->options.generator = name;
  flags->options.alpha = alpha;
  flags->options.requests = 100'000;  // with a tenth a plan's slots are one off in three seeds of five
  CLI::App* command = gen.add_subcommand(name, what);
  GenerateOptions& options = flags->options;
  command->add_option("--rate", options.rate_rps, "Mean requests a second (Poisson)")->capture_default_str();
  command->add_option("--adapters", options.adapters, "Adapters in the catalog")->capture_default_str();
  command->add_option("--alpha", options.alpha, "Exponent of the popularity law")->capture_default_str();
  command
      ->add_option("--duration-mean", options.duration_s_mean,
                   "How long a request holds its adapter on average, 6s or 500ms; 0 = no such column")
      ->type_name("DURATION")
      ->transform(as_seconds())
      ->capture_default_str();
  command
      ->add_option("--input-tokens-mean", options.input_tokens_mean, "Mean input tokens; 0 = no such column")
      ->capture_default_str();
  command
      ->add_option("--output-tokens-mean", options.output_tokens_mean,
                   "Mean output tokens; 0 = no such column")
      ->capture_default_str();
  command->add_option("--ranks", flags->ranks, "Ranks adapters are drawn from (default: 8,16,32,64)");
  command->add_option("--bytes-per-rank", options.bytes_per_rank, "Bytes of an adapter of rank 1")
      ->capture_default_str();
  command->add_option("--requests", options.requests, "How many requests")->capture_default_str();
  command->add_option("--seed", options.seed, "Same seed, same bytes")->capture_default_str();
  if (options.generator == "regimes") {
    command->add_option("--regime", options.regime_s, "Until popularity is dealt out anew: 10min, 6h")
        ->type_name("DURATION")
        ->transform(as_seconds())
        ->default_str("10min");
    command->add_option("--churn", options.churn, "Share of adapters replaced by new ones then")
        ->capture_default_str();
  }
  command->add_option("-o,--output", flags->output, "File to write; .ltr is binary, - is JSONL on stdout")
      ->required();
  command->footer(
      fmt::format("Example:\n  loracle trace gen {} --rate 4 --adapters 200 --requests 100000 --seed 7 "
                  "-o t.jsonl",
                  name));
  command->callback([flags, &exit_code] { exit_code = run_gen(*flags); });
}

void add_gen(CLI::App& trace, int& exit_code) {
  CLI::App* gen = trace.add_subcommand("gen", "Generate a trace with a known law; same seed, same bytes");
  gen->require_subcommand(1);
  gen->footer(
      "Example:\n  loracle trace gen zipf --rate 4 --adapters 200 --duration-mean 6 --requests 100000 -o "
      "t.jsonl");
  add_generator(*gen, "zipf", "Independent draws, P(adapter k) ~ 1 / (k + 1)^alpha", 0.9, exit_code);
  add_generator(*gen, "s-lora-power", "S-LoRA's benchmark: floor(N * U^(1/alpha)); alpha 1 is uniform", 0.1,
                exit_code);
  add_generator(*gen, "regimes", "Zipf whose popularity and catalog change every so often", 0.9, exit_code);
}

}  // namespace

void add_trace_command(CLI::App& app, int& exit_code) {
  CLI::App* trace = app.add_subcommand("trace", "Look at, convert, generate and fit traces");
  trace->require_subcommand(1);
  trace->footer("Example:\n  loracle trace info t.jsonl");
  add_info(*trace, exit_code);
  add_convert(*trace, exit_code);
  add_head(*trace, exit_code);
  add_gen(*trace, exit_code);
  add_trace_fit_command(*trace, exit_code);
  add_trace_synth_command(*trace, exit_code);
}

}  // namespace loracle::app
