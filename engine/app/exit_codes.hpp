#pragma once
/// Exit codes of the subcommands, and which one an error means.

#include <string>

#include "loracle/core/result.hpp"

namespace loracle::app {

/// Exit codes, as `loracle --help` and the README list them.
enum ExitCode : int {
  kExitOk = 0,
  kExitInternal = 1,    // a bug of ours
  kExitUsage = 2,       // a flag, value or name on the command line is wrong
  kExitInput = 3,       // a file is missing or cannot be read or written
  kExitBadData = 4,     // a file was read, and what it says is wrong, damaged or truncated
  kExitImpossible = 5,  // the question is well put, and the answer is that it cannot be done
  // No failures: what `compare` says of two plans, and `plan` of today's setting.
  kExitAdviceChanges = 10,
  kExitNotAccepted = 11,  // a synthetic trace is too unlike its source
  kExitWrongResult = 12,  // `verify-device`: what a device holds or computes is not what it should be
  kExitInfeasible = 20,
  kExitNotEnoughData = 30,
};

/// Prints `loracle: message` on stderr and returns the exit code.
int report(const Error& error, ExitCode code);
/// The same, where the exit code follows from the kind of error of reading a trace.
int report_input(const Error& error);
/// The same, for what comes of flags: unknown names, sizes, pins that do not fit.
int report_usage(const Error& error);
/// The same, for what comes of opening an engine with `--device`.
int report_start(const Error& error, const std::string& device);

}  // namespace loracle::app
