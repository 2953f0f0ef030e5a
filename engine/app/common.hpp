#pragma once
/// What most subcommands need.

// IWYU pragma: begin_exports
#include "executor.hpp"
#include "exit_codes.hpp"
#include "loracle/core/parse_bytes.hpp"
#include "output.hpp"
#include "parse_flags.hpp"
#include "trace_flags.hpp"
// IWYU pragma: end_exports
