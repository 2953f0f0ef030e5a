#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "commands.hpp"
#include "common.hpp"
#include "loracle/sim/grid.hpp"
#include "trace_json.hpp"

namespace loracle::app {
namespace {

struct SweepFlags {
  TraceFlags trace;
  Format format = Format::kText;
  unsigned threads = 0;
  std::string max_loras = "1:16";
  std::string max_cpu_loras = "16:128:16";
  std::string policies = "lru";
};

double percent(std::uint64_t part, std::uint64_t whole) {
  return whole == 0 ? 0.0 : 100.0 * static_cast<double>(part) / static_cast<double>(whole);
}

std::string sweep_json(const Trace& trace, const std::vector<Grid>& grids) {
  nlohmann::ordered_json json_grids = nlohmann::ordered_json::array();
  for (const Grid& grid : grids) {
    nlohmann::ordered_json cells = nlohmann::ordered_json::array();
    for (const GridCell& cell : grid.cells) {
      if (!cell.feasible) continue;
      cells.push_back({{"max_loras", cell.max_loras},
                       {"max_cpu_loras", cell.max_cpu_loras},
                       {"gpu_hits", cell.gpu_hits},
                       {"host_to_device_loads", cell.host_to_device_loads},
                       {"disk_loads", cell.disk_loads},
                       {"refused_uses", cell.refused}});
    }
    json_grids.push_back({{"tiers", grid.tiers}, {"uses", grid.uses}, {"cells", std::move(cells)}});
  }
  return dump({{"trace", describe(trace)}, {"grids", std::move(json_grids)}});
}

std::string sweep_csv(const std::vector<Grid>& grids) {
  std::string out =
      "tiers,max_loras,max_cpu_loras,uses,gpu_hits,host_to_device_loads,disk_loads,refused_uses\n";
  for (const Grid& grid : grids)
    for (const GridCell& cell : grid.cells)
      if (cell.feasible)
        out +=
            fmt::format("{},{},{},{},{},{},{},{}\n", grid.tiers, cell.max_loras, cell.max_cpu_loras,
                        grid.uses, cell.gpu_hits, cell.host_to_device_loads, cell.disk_loads, cell.refused);
  return out;
}

std::string sweep_text(const Trace& trace, const std::vector<Grid>& grids) {
  std::string out = fmt::format("{}: {} requests, {} uses (mapping: {})\n", trace.source, trace.requests,
                                trace.uses.size(), trace.mapping);
  for (const Grid& grid : grids) {
    out += fmt::format("\n{}: % of uses that find a GPU slot / % that go to disk\n{:>14}", grid.tiers,
                       "max_cpu \\ gpu");
    // A terminal is some 100 columns wide: of a long axis every n-th size is shown; json and csv have all.
    const std::size_t step = (grid.max_loras.size() + 6) / 7;
    for (std::size_t g = 0; g < grid.max_loras.size(); g += step)
      out += fmt::format(" {:>11}", grid.max_loras[g]);
    out += '\n';
    for (std::size_t c = 0; c < grid.max_cpu_loras.size(); ++c) {
      out += fmt::format("{:>14}", grid.max_cpu_loras[c]);
      for (std::size_t g = 0; g < grid.max_loras.size(); g += step) {
        const GridCell& cell = grid.at(c, g);
        out += cell.feasible ? fmt::format(" {:>5.1f}/{:<5.1f}", percent(cell.gpu_hits, grid.uses),
                                           percent(cell.disk_loads, grid.uses))
                             : fmt::format(" {:>11}", "-");
      }
      out += '\n';
    }
  }
  return out;
}

int run_sweep(const SweepFlags& flags) {
  const Result<std::vector<std::uint32_t>> gpu = parse_sizes("--max-loras", flags.max_loras);
  if (!gpu) return report_usage(gpu.error());
  const Result<std::vector<std::uint32_t>> cpu = parse_sizes("--max-cpu-loras", flags.max_cpu_loras);
  if (!cpu) return report_usage(cpu.error());
  if (split_commas(flags.policies).empty())
    return report({Errc::kInvalid, "--policy: give at least one, for example lru,vllm", 0}, kExitUsage);
  for (const std::string& tiers : split_commas(flags.policies)) {
    TierOptions options;
    options.tiers = tiers;
    if (const Result<Unit> ok = check_tier_options(options); !ok) return report_usage(ok.error());
  }
  if (*std::max_element(cpu->begin(), cpu->end()) < *std::min_element(gpu->begin(), gpu->end()))
    return report(
        {Errc::kInvalid,
         fmt::format("--max-cpu-loras {} is below --max-loras {} everywhere: every adapter in a GPU slot is "
                     "in host memory too",
                     flags.max_cpu_loras, flags.max_loras),
         0},
        kExitUsage);
  const Result<Trace> trace = flags.trace.load();
  if (!trace) return report_input(trace.error());
  const Result<BatchStream> stream = make_batch_stream(*trace);
  if (!stream) return report_input(stream.error());
  std::vector<Grid> grids;
  for (const std::string& tiers : split_commas(flags.policies)) {
    ThreadExecutor executor(flags.threads, "sweeping " + tiers);
    Result<Grid> grid = sweep_grid(*stream, tiers, *gpu, *cpu, executor);
    if (!grid) return report_usage(grid.error());
    grids.push_back(std::move(*grid));
  }
  print(flags.format == Format::kJson  ? sweep_json(*trace, grids)
        : flags.format == Format::kCsv ? sweep_csv(grids)
                                       : sweep_text(*trace, grids));
  return kExitOk;
}

}  // namespace

void add_sweep_command(CLI::App& app, int& exit_code) {
  auto flags = std::make_shared<SweepFlags>();
  CLI::App* command = app.add_subcommand("sweep", "The whole grid max_loras x max_cpu_loras");
  flags->trace.add_to(*command);
  command->add_option("--max-loras", flags->max_loras, "GPU slots: 1:64, 1:64:4 or 4,8,16")
      ->capture_default_str();
  command->add_option("--max-cpu-loras", flags->max_cpu_loras, "Adapters in host memory: the same forms")
      ->capture_default_str();
  command
      ->add_option("--policy", flags->policies,
                   "Grids to compute: lru, vllm, gdsf, sieve/gdsf ..., comma-separated")
      ->capture_default_str();
  add_format_flag(*command, flags->format);
  add_threads_flag(*command, flags->threads);
  command->footer(
      "Example:\n"
      "  loracle sweep t.jsonl --max-loras 1:64 --max-cpu-loras 8:512:8 --policy lru,vllm\n\n"
      "lru (lru/lru) is one pass for the whole grid (one more for each max_loras below the largest request); "
      "every other is replayed cell by cell, on all "
      "processors.\n"
      "Cells with max_cpu_loras below max_loras do not exist in vLLM and are left out.");
  command->callback([flags, &exit_code] { exit_code = run_sweep(*flags); });
}

}  // namespace loracle::app
