/// The `loracle` binary: reads the command line, hands over to one subcommand, returns its exit code.

#include <fmt/format.h>
#include <malloc.h>

#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "commands.hpp"
#include "common.hpp"
#include "loracle/core/nearest.hpp"

namespace {

/// CLI11 answers an unknown subcommand with "a subcommand is required"; say what was not understood instead.
/// Walks down the leading words; empty if each names a subcommand (or there are none).
std::string misspelt_subcommand(const CLI::App& app, int argc, char** argv) {
  const CLI::App* at = &app;
  for (int i = 1; i < argc && argv[i][0] != '-'; ++i) {
    std::vector<std::string> names;
    for (const CLI::App* child : at->get_subcommands([](const CLI::App*) { return true; }))
      names.push_back(child->get_name());
    if (names.empty()) return {};
    const CLI::App* next = nullptr;
    for (const CLI::App* child : at->get_subcommands([](const CLI::App*) { return true; }))
      if (child->get_name() == argv[i]) next = child;
    if (next == nullptr) {
      const std::vector<std::string_view> views(names.begin(), names.end());
      return loracle::unknown_name_message("subcommand", argv[i], views);
    }
    at = next;
  }
  return {};
}

/// CLI11 says that a flag "was not expected"; say which one was meant. Empty if all are known.
std::string misspelt_flag(const CLI::App& app, int argc, char** argv) {
  const CLI::App* at = &app;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--") return {};
    if (!word.starts_with("--")) {
      for (const CLI::App* child : at->get_subcommands([](const CLI::App*) { return true; }))
        if (child->get_name() == word) at = child;
      continue;
    }
    const std::string flag = word.substr(0, word.find('='));
    if (at->get_option_no_throw(flag) != nullptr) continue;
    std::vector<std::string> names;
    for (const CLI::Option* option : at->get_options())
      for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
    const std::vector<std::string_view> views(names.begin(), names.end());
    const std::string_view nearest = loracle::nearest_name(flag, views);
    std::string path;
    for (const CLI::App* part = at; part != &app; part = part->get_parent())
      path.insert(0, " ").insert(0, part->get_name());
    return fmt::format("unknown flag '{}'{} See `loracle {}--help`", flag,
                       nearest.empty() ? "." : fmt::format("; did you mean '{}'?", nearest), path);
  }
  return {};
}

}  // namespace

// CLI11 throws while it is set up only where we have set it up wrongly.
// NOLINTNEXTLINE(bugprone-exception-escape)
int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);  // `loracle ... | head` is no failure
  std::signal(SIGABRT, [](int) { std::_Exit(loracle::app::kExitInternal); });  // a failed check has said why
#ifdef __GLIBC__
  // Freed memory is soon wanted again, and giving it back interrupts every thread: a tenth of a scan's time.
  ::mallopt(M_TRIM_THRESHOLD, 32 << 20);
#endif
  CLI::App app{"loracle: how many LoRA adapter slots a server needs, from a trace of its requests"};
  app.name("loracle");
  app.set_version_flag("--version", "loracle " LORACLE_VERSION);
  app.require_subcommand(1);
  app.failure_message(CLI::FailureMessage::simple);
  app.footer(
      "A first answer:\n"
      "  loracle trace gen zipf --rate 4 --adapters 200 --duration-mean 6 --requests 100000 -o t.jsonl\n"
      "  loracle plan t.jsonl --model llama-3.1-8b --html report.html\n\n"
      "Exit codes: 0 done; 1 a bug in loracle; 2 a flag or name on the command line is wrong; 3 a file is "
      "missing,\n"
      "unreadable or cannot be written; 4 a file's content is wrong, damaged or truncated; 5 what is asked "
      "for is\n"
      "impossible (pins that do not fit, for example); 10 `compare` finds other advice;\n"
      "11 `trace synth --check` finds the trace too unlike its source; 12 `verify-device` finds a "
      "device\n"
      "wrong.\n"
      "`plan` with --current-max-loras: 0 today's setting is fine; 10 a change is advised; 20 no setting "
      "within the\n"
      "limits will do; 30 not enough data to tell. Without it, a plan is an answer: 0.");
  int exit_code = loracle::app::kExitOk;
  loracle::app::add_plan_command(app, exit_code);
  loracle::app::add_compare_command(app, exit_code);
  loracle::app::add_what_if_command(app, exit_code);
  loracle::app::add_calibrate_command(app, exit_code);
  loracle::app::add_sweep_command(app, exit_code);
  loracle::app::add_curve_command(app, exit_code);
  loracle::app::add_replay_command(app, exit_code);
  loracle::app::add_simulate_command(app, exit_code);
  loracle::app::add_trace_command(app, exit_code);
  loracle::app::add_engine_command(app, exit_code);
  loracle::app::add_catalog_command(app, exit_code);
  loracle::app::add_config_command(app, exit_code);
  loracle::app::add_make_adapters_command(app, exit_code);
  loracle::app::add_verify_device_command(app, exit_code);
  loracle::app::add_serve_command(app, exit_code);
  if (const std::string message = misspelt_subcommand(app, argc, argv); !message.empty())
    return loracle::app::report({loracle::Errc::kInvalid, message, 0}, loracle::app::kExitUsage);
  if (const std::string message = misspelt_flag(app, argc, argv); !message.empty())
    return loracle::app::report({loracle::Errc::kInvalid, message, 0}, loracle::app::kExitUsage);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? loracle::app::kExitOk : loracle::app::kExitUsage;
  }
  return loracle::app::finish_stdout(exit_code);
}
