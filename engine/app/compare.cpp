#include <fmt/format.h>

#include <memory>
#include <span>
#include <string>
#include <utility>

#include "commands.hpp"
#include "common.hpp"
#include "loracle/engine/files.hpp"
#include "loracle/sim/compare_plans.hpp"

namespace loracle::app {
namespace {

struct CompareFlags {
  std::string before;
  std::string after;
  Format format = Format::kText;
};

constexpr std::uint64_t kPlanBytesMax = 1U << 30U;  // the grid of a plan is its largest part: some megabytes

Result<std::string> text_of(const std::string& path) {
  Result<std::unique_ptr<OpenFile>> file = posix_files().open(path);
  if (!file) return fail(std::move(file.error()));
  const std::uint64_t size = (*file)->stat().size;
  if (size > kPlanBytesMax)
    return fail(Errc::kCorrupt, fmt::format("{}: {} bytes are too many for a plan", path, size));
  std::string text(size, '\0');
  if (Result<Unit> read = read_exactly(**file, path, 0, std::as_writable_bytes(std::span(text))); !read)
    return fail(std::move(read.error()));
  return text;
}

int run_compare(const CompareFlags& flags) {
  const Result<std::string> before = text_of(flags.before);
  if (!before) return report_input(before.error());
  const Result<std::string> after = text_of(flags.after);
  if (!after) return report_input(after.error());
  const Result<PlanComparison> comparison = compare_plans(*before, flags.before, *after, flags.after);
  if (!comparison) return report_input(comparison.error());
  print(flags.format == Format::kJson ? comparison_json(*comparison, flags.before, flags.after)
                                      : comparison_text(*comparison, flags.before, flags.after));
  return comparison->advice.empty() ? kExitOk : kExitAdviceChanges;
}

}  // namespace

void add_compare_command(CLI::App& app, int& exit_code) {
  auto flags = std::make_shared<CompareFlags>();
  CLI::App* command = app.add_subcommand("compare", "What two plans say differently, and why");
  command->add_option("BEFORE", flags->before, "A file that `loracle plan --json` wrote")->required();
  command->add_option("AFTER", flags->after, "Another one")->required();
  add_format_flag(*command, flags->format, kTextOrJson);
  command->footer(
      "Example:\n"
      "  loracle plan september.jsonl --model llama-3.1-8b --json september.json\n"
      "  loracle plan october.jsonl --model llama-3.1-8b --json october.json\n"
      "  loracle compare september.json october.json\n\n"
      "Exit codes: 0 the same advice; 10 the advice changes.");
  command->callback([flags, &exit_code] { exit_code = run_compare(*flags); });
}

}  // namespace loracle::app
