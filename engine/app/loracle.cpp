/// The `loracle` binary: reads the command line, hands over to one subcommand, returns its exit code.

#include <CLI/CLI.hpp>
#include <cerrno>
#include <csignal>
#include <cstdio>

#include "commands.hpp"
#include "common.hpp"

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);  // `loracle ... | head` is no failure
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
      "impossible (pins that do not fit, for example).");
  int exit_code = loracle::app::kExitOk;
  loracle::app::add_plan_command(app, exit_code);
  loracle::app::add_sweep_command(app, exit_code);
  loracle::app::add_curve_command(app, exit_code);
  loracle::app::add_replay_command(app, exit_code);
  loracle::app::add_trace_command(app, exit_code);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? loracle::app::kExitOk : loracle::app::kExitUsage;
  }
  if (exit_code == loracle::app::kExitOk && std::fflush(stdout) != 0 && errno != EPIPE)
    return loracle::app::report({loracle::Errc::kIo, "stdout: cannot write: free some room", errno},
                                loracle::app::kExitInput);
  return exit_code;
}
