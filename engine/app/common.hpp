#pragma once
/// What the subcommands share: exit codes, threads, progress, sizes as people write them, output files.

#include <CLI/CLI.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "loracle/core/parse_bytes.hpp"
#include "loracle/core/result.hpp"
#include "loracle/policy/capacity.hpp"
#include "loracle/sim/executor.hpp"
#include "loracle/sim/replay.hpp"
#include "loracle/traces/read.hpp"
#include "loracle/traces/trace.hpp"

namespace loracle::app {

/// Exit codes, as `loracle --help` and the README list them.
enum ExitCode : int {
  kExitOk = 0,
  kExitInternal = 1,    // a bug of ours
  kExitUsage = 2,       // a flag, value or name on the command line is wrong
  kExitInput = 3,       // a file is missing or cannot be read or written
  kExitBadData = 4,     // a file was read, and what it says is wrong, damaged or truncated
  kExitImpossible = 5,  // the question is well put, and the answer is that it cannot be done
};

/// Prints `loracle: message` on stderr and returns the exit code.
int report(const Error& error, ExitCode code);
/// The same, where the exit code follows from the kind of error of reading a trace.
int report_input(const Error& error);
/// The same, for what comes of flags: unknown names, sizes, pins that do not fit.
int report_usage(const Error& error);

/// Flags every subcommand that reads a trace has.
struct TraceFlags {
  std::string path;
  ReadOptions read;
  std::string fold;
  std::string catalog;
  std::string lora_dtype = "bfloat16";

  void add_to(CLI::App& command);
  /// Reads, folds, adds the catalogue's facts. Rejected adapters and skipped lines are told on stderr.
  [[nodiscard]] Result<Trace> load() const;
};

/// The rows of the names given by --pin. Errors: kNotFound.
[[nodiscard]] Result<std::vector<Row>> find_pins(const Trace& trace, const std::vector<std::string>& names);

/// `--format text|json|csv`, or those of them that a subcommand has.
enum class Format : std::uint8_t { kText, kJson, kCsv };
[[nodiscard]] std::string_view name_of(Format format) noexcept;
inline constexpr Format kAllFormats[] = {Format::kText, Format::kJson, Format::kCsv};
inline constexpr Format kTextOrJson[] = {Format::kText, Format::kJson};
void add_format_flag(CLI::App& command, Format& format, std::span<const Format> formats = kAllFormats);

/// `--threads N`, 0 = as many as there are processors.
void add_threads_flag(CLI::App& command, unsigned& threads);
/// What the flag means here.
[[nodiscard]] unsigned threads_meant(unsigned threads) noexcept;

/// Says on a terminal what is being done once it has taken two seconds; silent in a pipe.
class Progress {
 public:
  explicit Progress(std::string what);
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  ~Progress();
  /// From any thread: `done` of `total` steps are finished.
  void step(std::size_t done, std::size_t total) noexcept;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Runs tasks on threads, in the order of their numbers as threads come free.
class ThreadExecutor final : public Executor {
 public:
  ThreadExecutor(unsigned threads, std::string what);
  void run(std::size_t count, const std::function<void(std::size_t)>& task) override;
  [[nodiscard]] double now_s() override;

 private:
  unsigned threads_;
  std::string what_;
};

/// `1h`, `90s`, `10min`, `1d`, `3600`. Errors: kInvalid.
[[nodiscard]] Result<double> parse_seconds(std::string_view text);
/// `1%`, `0.01`. Errors: kInvalid.
[[nodiscard]] Result<double> parse_share(std::string_view text);
/// `1:64`, `1:64:4` (step), `8,16,32`. Errors: kInvalid.
[[nodiscard]] Result<std::vector<std::uint32_t>> parse_sizes(std::string_view flag, std::string_view text);
[[nodiscard]] std::vector<std::string> split_commas(std::string_view text);

/// A capacity as written: `8` and `10%` in the unit, `4GiB` in bytes.
struct AskedCapacity {
  std::string text;
  SizeUnit unit = SizeUnit::kObjects;
  Capacity capacity;

  [[nodiscard]] std::uint64_t value() const noexcept {
    return unit == SizeUnit::kBytes ? capacity.bytes.value : capacity.entries;
  }
};
/// `unit` absent: bytes where a size in bytes is written, else objects. Errors: kInvalid.
[[nodiscard]] Result<std::vector<AskedCapacity>> parse_capacities(std::string_view text,
                                                                  std::optional<SizeUnit> unit,
                                                                  const UseStream& stream);
[[nodiscard]] std::string_view name_of(SizeUnit unit) noexcept;
/// `--unit objects|bytes`; left alone when the flag is absent.
void add_unit_flag(CLI::App& command, std::optional<SizeUnit>& unit);

/// A CSV field, quoted where it must be.
[[nodiscard]] std::string csv_field(std::string_view text);

/// `12.3 GiB`, for people.
[[nodiscard]] std::string human_bytes(Bytes bytes);

/// Writes a whole file or nothing: a temporary file beside it, renamed. `-` is stdout.
[[nodiscard]] Result<Unit> write_file(const std::string& path, std::string_view text);
/// Writes to stdout; what fails is remembered for finish_stdout.
void print(std::string_view text);
/// Flushes stdout. The exit code given, or that of a failed write; a closed pipe is no failure.
[[nodiscard]] int finish_stdout(int exit_code);
/// Writes to stderr; there is nobody to tell if that fails.
void say(std::string_view text);

}  // namespace loracle::app
