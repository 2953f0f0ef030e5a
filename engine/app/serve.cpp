#include <fmt/format.h>
#include <pthread.h>

#include <atomic>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "commands.hpp"
#include "common.hpp"
#include "loracle/service/service_stack.hpp"
#include "loracle/service/settings.hpp"
#include "settings_flags.hpp"

namespace loracle::app {
namespace {

struct ServeFlags {
  SettingsFlags settings;
  std::string api_key_file;
};

/// One key a line; empty lines and lines that begin with # are passed over.
Result<std::vector<std::string>> read_keys(const std::string& path) {
  std::ifstream file(path);
  if (!file) return fail(Errc::kIo, fmt::format("{}: cannot read the API keys", path));
  std::vector<std::string> keys;
  for (std::string line; std::getline(file, line);) {
    while (!line.empty() && (line.back() == '\r' || line.back() == ' ')) line.pop_back();
    if (!line.empty() && line.front() != '#') keys.push_back(line);
  }
  if (keys.empty())
    return fail(Errc::kCorrupt,
                fmt::format("{}: has no API key, and none would let everybody in: write one a line", path));
  return keys;
}

struct Asked {
  ServiceConfig config;
  bool chose_max_loras = false;
};

/// What file, environment and flags mean; files are read anew.
Result<Asked> read_settings(const ServeFlags& flags) {
  const Result<Settings> settings = flags.settings.load();
  if (!settings) return fail(settings.error());
  Result<ServiceConfig> config = settings->finish();
  if (!config) return fail(std::move(config.error()));
  Asked asked{std::move(*config)};
  for (const ShownSetting& shown : settings->show())
    if (shown.setting->name == "engine.max_loras") asked.chose_max_loras = shown.origin != "default";
  if (flags.api_key_file.empty()) return asked;
  const Result<std::vector<std::string>> keys = read_keys(flags.api_key_file);
  if (!keys) return fail(keys.error());
  std::vector<std::string>& all = asked.config.http.api_keys;
  all.insert(all.end(), keys->begin(), keys->end());
  return asked;
}

/// Waits for signals until one of them says to stop. They are blocked in every thread, so that none is ever
/// handled in the middle of something.
void serve_until_told(ServiceStack& stack, const ServeFlags& flags, const sigset_t& signals) {
  for (;;) {
    int signal = 0;
    if (::sigwait(&signals, &signal) != 0) continue;
    if (signal != SIGHUP) return;
    const Result<Asked> asked = read_settings(flags);
    const Result<Unit> applied = asked ? stack.apply(asked->config) : Result<Unit>(fail(asked.error()));
    if (!applied) stack.warn(fmt::format("the configuration stays as it was: {}", applied.error().message));
  }
}

/// A second SIGTERM, or Ctrl-C, ends the wait for those who still hold leases.
Result<Unit> drain_unless_told_again(ServiceStack& stack) {
  sigset_t signals;
  ::sigemptyset(&signals);
  for (const int signal : {SIGTERM, SIGINT}) ::sigaddset(&signals, signal);
  std::atomic<bool> is_over = false;
  std::thread listener([&] {
    constexpr timespec kStep = {0, 50'000'000};
    while (!is_over)
      if (::sigtimedwait(&signals, nullptr, &kStep) > 0) return stack.hurry();
  });
  Result<Unit> drained = stack.drain();
  is_over = true;
  listener.join();
  return drained;
}

int run_serve(const ServeFlags& flags) {
  const Result<Asked> asked = read_settings(flags);
  if (!asked)
    return asked.error().code == Errc::kIo ? report(asked.error(), kExitInput)
                                           : report_settings(asked.error());
  const ServiceConfig& config = asked->config;
  sigset_t signals;
  ::sigemptyset(&signals);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) ::sigaddset(&signals, signal);
  ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);

  Result<std::unique_ptr<ServiceStack>> stack = [&] {
    const Progress progress("opening");
    return ServiceStack::start(config);
  }();
  if (!stack) return report_start(stack.error(), config.device);
  print(fmt::format("loracle: serving on http://{}:{}\n", config.http.host, (*stack)->port()));
  std::fflush(stdout);  // whoever started us waits for this line
  (*stack)->note((*stack)->summary());
  if (!asked->chose_max_loras)
    (*stack)->note("max_loras 1 is vLLM's default, one adapter at a time: --max-loras sets it");
  serve_until_told(**stack, flags, signals);
  const Result<Unit> drained = drain_unless_told_again(**stack);
  const int exit_code = drained ? kExitOk : report_input(drained.error());
  if (!(*stack)->has_hung_calls()) return exit_code;
  stack->reset();
  std::fflush(nullptr);
  std::_Exit(exit_code);  // see has_hung_calls
}

}  // namespace

void add_serve_command(CLI::App& app, int& exit_code) {
  auto flags = std::make_shared<ServeFlags>();
  CLI::App* command = app.add_subcommand("serve", "Serve adapters over HTTP: vLLM's routes and ours");
  command->add_option("--api-key-file", flags->api_key_file,
                      "Who may use /v1: one key a line, sent as Authorization: Bearer KEY");
  flags->settings.add_to(*command);
  command->footer(
      "Flags win over the environment, and that over the file (`loracle config show --example` writes one).\n"
      "SIGTERM takes no new work and ends when the last lease has, or after http.drain_timeout_ms; a second\n"
      "one ends at once. SIGHUP reads file and API keys again.\n"
      "Examples:\n"
      "  loracle serve --lora-dir-prefix adapters --max-loras 8 --max-cpu-loras 64 --capture-path "
      "trace.jsonl\n"
      "  loracle serve --lora-dir-prefix s3://bucket/adapters --model llama-3.1-8b --max-loras 8\n"
      "  curl -X POST http://127.0.0.1:8470/v1/adapters/sql/acquire");
  command->callback([flags, &exit_code] { exit_code = run_serve(*flags); });
}

}  // namespace loracle::app
