#pragma once
/// One function a subcommand: adds it to the command line; when it is chosen, it runs and leaves its exit
/// code.

#include <CLI/CLI.hpp>

namespace loracle::app {

void add_trace_command(CLI::App& app, int& exit_code);
void add_trace_fit_command(CLI::App& trace, int& exit_code);
void add_trace_synth_command(CLI::App& trace, int& exit_code);
void add_replay_command(CLI::App& app, int& exit_code);
void add_simulate_command(CLI::App& app, int& exit_code);
void add_curve_command(CLI::App& app, int& exit_code);
void add_sweep_command(CLI::App& app, int& exit_code);
void add_plan_command(CLI::App& app, int& exit_code);
void add_compare_command(CLI::App& app, int& exit_code);
void add_what_if_command(CLI::App& app, int& exit_code);
void add_calibrate_command(CLI::App& app, int& exit_code);
void add_engine_command(CLI::App& app, int& exit_code);
void add_catalog_command(CLI::App& app, int& exit_code);
void add_config_command(CLI::App& app, int& exit_code);
void add_make_adapters_command(CLI::App& app, int& exit_code);
void add_verify_device_command(CLI::App& app, int& exit_code);
void add_serve_command(CLI::App& app, int& exit_code);

}  // namespace loracle::app
