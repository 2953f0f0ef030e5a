#include "common.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <cstdio>
#include <cstring>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>

#include "loracle/core/nearest.hpp"
#include "loracle/engine/adapter_weights.hpp"
#include "loracle/traces/atomic_file.hpp"

namespace loracle::app {

namespace {

int stdout_error = 0;  // errno of the first write to stdout that failed

}  // namespace

int report(const Error& error, ExitCode code) {
  say(fmt::format("loracle: {}\n", error.message));
  return code;
}

int report_input(const Error& error) {
  switch (error.code) {
    case Errc::kNotFound:
    case Errc::kIo:
    case Errc::kBusy:
      return report(error, kExitInput);
    case Errc::kInvalid:
      return report(error, kExitUsage);  // a mapping, column map or fold that does not apply
    default:
      return report(error, kExitBadData);
  }
}

int report_usage(const Error& error) {
  switch (error.code) {
    case Errc::kAllPinned:
    case Errc::kTooLarge:
      return report(error, kExitImpossible);
    case Errc::kIo:
      return report(error, kExitInput);
    case Errc::kCorrupt:
      return report(error, kExitBadData);
    default:
      return report(error, kExitUsage);
  }
}

namespace {

std::string joined(const std::vector<std::string>& names) { return fmt::format("{}", fmt::join(names, " ")); }

CLI::Validator checked(const char* type, Result<Unit> (*check)(std::string_view)) {
  return CLI::Validator(
      [check](std::string& text) {
        const Result<Unit> ok = check(text);
        return ok ? std::string{} : ok.error().message;
      },
      type);
}

}  // namespace

namespace {

/// The part before the first colon is `auto` or one of `names`.
CLI::Validator known_name(const char* what, const std::vector<std::string>& names) {
  return CLI::Validator(
      [what, &names](std::string& text) {
        const std::string name = text.substr(0, text.find(':'));
        if (name == "auto" || std::find(names.begin(), names.end(), name) != names.end())
          return std::string{};
        const std::vector<std::string_view> views(names.begin(), names.end());
        return unknown_name_message(what, name, views);
      },
      "NAME");
}

}  // namespace

void TraceFlags::add_to(CLI::App& command) {
  command.add_option("TRACE", path, "Trace file; gzip, zstd and xz are unpacked on the way")->required();
  command.add_option("--trace-format", read.format, "One of: auto " + joined(trace_format_names()))
      ->check(known_name("trace format", trace_format_names()))
      ->capture_default_str();
  command
      .add_option("--map", read.mapping,
                  "How requests map to adapters: " + joined(trace_mapping_names()) +
                      " (default: the format's own; parameters follow colons: zipf:adapters=200:alpha=0.9)")
      ->check(known_name("mapping", trace_mapping_names()));
  command.add_option("--columns", read.columns,
                     "CSV only: our field = column, for example adapter=model,arrival_s=0");
  command
      .add_option("--fold", fold,
                  "Fold arrival times onto one period, for example 1h: raises concurrency, keeps locality")
      ->check(checked("DURATION", [](std::string_view text) -> Result<Unit> {
        const Result<double> seconds = parse_seconds(text);
        if (!seconds) return fail(seconds.error());
        return Unit{};
      }));
  command.add_option("--catalog", catalog, "Directory of PEFT adapters: gives their sizes and ranks");
  command.add_option("--lora-dtype", lora_dtype, "With --catalog: the type adapters are served in")
      ->check(checked("DTYPE",
                      [](std::string_view text) -> Result<Unit> {
                        const Result<Dtype> dtype = parse_dtype(text);
                        if (!dtype) return fail(dtype.error());
                        return Unit{};
                      }))
      ->capture_default_str();
  command.add_option("--requests", read.requests_max, "Read no more requests than this")
      ->check(CLI::NonNegativeNumber);
  command.add_option("--seed", read.seed, "Seed of mappings and readers that draw")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command.add_flag("--skip-bad-lines", read.skip_bad_lines,
                   "Pass over lines that cannot be read, and count them");
  command.add_flag("--big-endian", read.big_endian, "cache2k only: keys are big-endian");
}

Result<Trace> TraceFlags::load() const {
  ReadOptions options = read;
  if (!fold.empty()) {
    const Result<double> seconds = parse_seconds(fold);
    if (!seconds) return fail(seconds.error());
    options.fold_period_s = *seconds;
  }
  Result<Trace> trace = [&] {
    const Progress progress("reading " + path);
    return read_trace(path, options);
  }();
  if (!trace) return trace;
  if (trace->skipped_lines > 0)
    say(fmt::format("loracle: {}: {} bad lines skipped\n", path, trace->skipped_lines));
  if (trace->format == "openai" && trace->mapping == "lora")
    say(fmt::format(
        "loracle: {}: every model it names counts as an adapter; leave the base model out with --map "
        "lora:base=NAME\n",
        path));
  if (!catalog.empty()) {
    const Result<Dtype> dtype = parse_dtype(lora_dtype);
    if (!dtype) return fail(dtype.error());
    const Result<AdapterWeights> weights = weigh_adapters(posix_files(), catalog, *dtype);
    if (!weights) return fail(weights.error());
    for (const std::string& rejected : weights->rejected)
      say(fmt::format("loracle: {}: adapter left out: {}\n", catalog, rejected));
    const std::uint64_t matched = add_weights(*trace, *weights);
    if (matched == 0)
      say(fmt::format("loracle: {}: none of its {} adapters is named in the trace\n", catalog,
                      weights->adapters.size()));
    else if (matched < trace->rows())
      say(fmt::format(
          "loracle: {}: has {} of the trace's {} adapters; of the others only what the trace says "
          "is known\n",
          catalog, matched, trace->rows()));
  }
  return trace;
}

void add_format_flag(CLI::App& command, Format& format, std::span<const Format> formats) {
  std::vector<std::string> names;
  for (const Format one : formats) names.emplace_back(name_of(one));
  command
      .add_option_function<std::string>(
          "--format",
          [&format](const std::string& name) {
            for (const Format one : {Format::kText, Format::kJson, Format::kCsv})
              if (name_of(one) == name) format = one;
          },
          "Output format")
      ->check(CLI::IsMember(names, CLI::ignore_case));
}

Result<std::vector<Row>> find_pins(const Trace& trace, const std::vector<std::string>& names) {
  std::vector<Row> pins;
  for (const std::string& name : names) {
    Row found = kNoRow;
    for (std::uint32_t row = 0; row < trace.rows(); ++row)
      if (trace.adapters.name[row] == name) found = Row{row};
    if (found == kNoRow)
      return fail(Errc::kNotFound,
                  fmt::format("--pin '{}': no adapter of that name in {}: list the names with "
                              "loracle trace info --adapters",
                              name, trace.source));
    pins.push_back(found);
  }
  return pins;
}

std::string_view name_of(Format format) noexcept {
  return format == Format::kText ? "text" : format == Format::kJson ? "json" : "csv";
}

unsigned threads_meant(unsigned threads) noexcept {
  return threads == 0 ? std::max(1U, std::thread::hardware_concurrency()) : threads;
}

void add_threads_flag(CLI::App& command, unsigned& threads) {
  command.add_option("--threads", threads, "Threads to use; 0 = one a processor")
      ->check(CLI::Range(0U, 1024U));
}

struct Progress::State {
  std::string what;
  std::mutex mutex;
  std::condition_variable stop_requested;
  bool stop = false;
  std::atomic<std::size_t> done{0};
  std::atomic<std::size_t> total{0};
  std::thread painter;

  void paint() {
    const auto start = std::chrono::steady_clock::now();
    std::unique_lock lock(mutex);
    auto wait = std::chrono::milliseconds(2000);
    bool painted = false;
    while (!stop_requested.wait_for(lock, wait, [&] { return stop; })) {
      const auto elapsed = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      const std::size_t all = total.load();
      if (all == 0) {
        say(fmt::format("\r\033[K{} ... {:.0f} s", what, elapsed));
      } else {
        constexpr std::size_t kWidth = 30;
        const std::size_t filled = done.load() * kWidth / all;
        say(fmt::format("\r\033[K{} [{:#<{}}{:.<{}}] {} of {}, {:.0f} s", what, "", filled, "",
                        kWidth - filled, done.load(), all, elapsed));
      }
      std::fflush(stderr);
      painted = true;
      wait = std::chrono::milliseconds(200);
    }
    if (painted) say("\r\033[K");
  }
};

Progress::Progress(std::string what) {
  if (isatty(STDERR_FILENO) == 0) return;
  state_ = std::make_unique<State>();
  state_->what = std::move(what);
  state_->painter = std::thread([state = state_.get()] { state->paint(); });
}

Progress::~Progress() {
  if (!state_) return;
  {
    const std::lock_guard lock(state_->mutex);
    state_->stop = true;
  }
  state_->stop_requested.notify_all();
  state_->painter.join();
}

void Progress::step(std::size_t done, std::size_t total) noexcept {
  if (!state_) return;
  state_->done.store(done);
  state_->total.store(total);
}

ThreadExecutor::ThreadExecutor(unsigned threads, std::string what)
    : threads_(threads_meant(threads)), what_(std::move(what)) {}

void ThreadExecutor::run(std::size_t count, const std::function<void(std::size_t)>& task) {
  Progress progress(what_);
  std::atomic<std::size_t> next{0};
  std::atomic<std::size_t> done{0};
  const auto work = [&] {
    for (std::size_t i = next.fetch_add(1); i < count; i = next.fetch_add(1)) {
      task(i);
      progress.step(done.fetch_add(1) + 1, count);
    }
  };
  std::vector<std::thread> helpers;
  try {
    for (std::size_t i = 1; i < std::min<std::size_t>(threads_, count); ++i) helpers.emplace_back(work);
  } catch (const std::system_error&) {  // no more threads to be had: those there are do the work
  }
  work();
  for (std::thread& helper : helpers) helper.join();
}

double ThreadExecutor::now_s() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

Result<double> parse_seconds(std::string_view text) {
  static constexpr std::array<std::pair<std::string_view, double>, 9> kUnits = {{{"", 1},
                                                                                 {"s", 1},
                                                                                 {"ms", 1e-3},
                                                                                 {"m", 60},
                                                                                 {"min", 60},
                                                                                 {"h", 3600},
                                                                                 {"d", 86400},
                                                                                 {"day", 86400},
                                                                                 {"days", 86400}}};
  if (const auto parts = number_and_suffix(text))
    for (const auto& [name, factor] : kUnits)
      if (name == parts->second && parts->first > 0) return parts->first * factor;
  return fail(Errc::kInvalid,
              fmt::format("'{}' is not a duration: write for example 1h, 10min, 90s or 1d", text));
}

Result<double> parse_share(std::string_view text) {
  if (const auto parts = number_and_suffix(text)) {
    const double share = parts->second == "%" ? parts->first / 100 : parts->first;
    if ((parts->second.empty() || parts->second == "%") && share <= 1) return share;
  }
  return fail(Errc::kInvalid, fmt::format("'{}' is not a share: write for example 1% or 0.01", text));
}

Result<std::vector<std::uint32_t>> parse_sizes(std::string_view flag, std::string_view text) {
  constexpr std::uint32_t kSizesMax = 4096;
  const auto bad = [&](std::string_view part) {
    return fail(
        Errc::kInvalid,
        fmt::format("{} '{}': write a range such as 1:64 or 8:512:8, or a list such as 8,16,32", flag, part));
  };
  const auto whole = [](std::string_view part) -> std::optional<std::uint32_t> {
    std::uint32_t value = 0;
    const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), value);
    if (error != std::errc{} || end != part.data() + part.size()) return std::nullopt;
    return value;
  };
  std::vector<std::uint32_t> sizes;
  for (const std::string& part : split_commas(text)) {
    const std::size_t colon = part.find(':');
    const std::size_t second = colon == std::string::npos ? colon : part.find(':', colon + 1);
    const std::string_view view = part;
    const auto first = whole(view.substr(0, colon));
    const auto last =
        colon == std::string::npos
            ? first
            : whole(view.substr(colon + 1, second == std::string::npos ? second : second - colon - 1));
    const auto step =
        second == std::string::npos ? std::optional<std::uint32_t>(1) : whole(view.substr(second + 1));
    if (!first || !last || !step || *step == 0 || *last < *first) return bad(part);
    if ((*last - *first) / *step + sizes.size() >= kSizesMax)
      return fail(Errc::kInvalid, fmt::format("{} '{}': more than {} sizes; add a step: 1:{}:{}", flag, part,
                                              kSizesMax, *last, (*last - *first) / kSizesMax + 1));
    for (std::uint64_t size = *first; size <= *last; size += *step)
      sizes.push_back(static_cast<std::uint32_t>(size));
  }
  if (sizes.empty()) return bad(text);
  return sizes;
}

std::vector<std::string> split_commas(std::string_view text) {
  std::vector<std::string> parts;
  while (!text.empty()) {
    const std::size_t comma = text.find(',');
    if (comma != 0) parts.emplace_back(text.substr(0, comma));
    text.remove_prefix(comma == std::string_view::npos ? text.size() : comma + 1);
  }
  return parts;
}

Result<std::vector<AskedCapacity>> parse_capacities(std::string_view text, std::optional<SizeUnit> unit,
                                                    const UseStream& stream) {
  std::uint64_t footprint = 0;
  std::vector<bool> used(stream.rows, false);
  for (const Row row : stream.uses.view()) {
    if (used[index_of(row)]) continue;
    used[index_of(row)] = true;
    footprint += stream.size[index_of(row)].value;
  }
  std::vector<AskedCapacity> asked;
  for (const std::string& part : split_commas(text)) {
    const auto parts = number_and_suffix(part);
    if (!parts)
      return fail(Errc::kInvalid,
                  fmt::format("--capacity '{}': write a count, a share or a size: 8, 10% or 4GiB", part));
    const bool percent = parts->second == "%";
    const bool in_bytes = unit_factor(parts->second).has_value();
    if (!percent && !in_bytes && !parts->second.empty())
      return fail(Errc::kInvalid, fmt::format("--capacity '{}': unknown unit '{}': write 8, 10% or 4GiB",
                                              part, parts->second));
    const SizeUnit here = unit.value_or(in_bytes ? SizeUnit::kBytes : SizeUnit::kObjects);
    if (in_bytes && here == SizeUnit::kObjects)
      return fail(Errc::kInvalid,
                  fmt::format("--capacity '{}' is a size in bytes: drop --unit objects", part));
    const double whole = static_cast<double>(here == SizeUnit::kBytes ? footprint : stream.distinct);
    const double factor = percent ? whole / 100 : in_bytes ? *unit_factor(parts->second) : 1;
    const double value = std::floor(parts->first * factor);
    if (!percent && !in_bytes && value != parts->first)
      return fail(Errc::kInvalid, fmt::format("--capacity '{}': a count is a whole number", part));
    if (value < 1)
      return fail(Errc::kInvalid, fmt::format("--capacity '{}' holds nothing: give 1 or more", part));
    if (value >= 0x1p63) return fail(Errc::kInvalid, fmt::format("--capacity '{}' is out of range", part));
    AskedCapacity capacity{part, here, {}};
    if (here == SizeUnit::kBytes)
      capacity.capacity.bytes = Bytes{static_cast<std::uint64_t>(value)};
    else
      capacity.capacity.entries = static_cast<std::uint64_t>(value);
    asked.push_back(std::move(capacity));
  }
  if (asked.empty()) return fail(Errc::kInvalid, "--capacity: give at least one, for example 8,64,10%");
  return asked;
}

std::string_view name_of(SizeUnit unit) noexcept { return unit == SizeUnit::kBytes ? "bytes" : "objects"; }

void add_unit_flag(CLI::App& command, std::optional<SizeUnit>& unit) {
  command
      .add_option_function<std::string>(
          "--unit",
          [&unit](const std::string& text) {
            unit = text == "bytes" ? SizeUnit::kBytes : SizeUnit::kObjects;
          },
          "What capacities count: objects or bytes")
      ->check(CLI::IsMember({"objects", "bytes"}));
}

std::string csv_field(std::string_view text) {
  if (text.find_first_of(",\"\n\r") == std::string_view::npos) return std::string(text);
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"') quoted += '"';
    quoted += c;
  }
  return quoted + '"';
}

std::string human_bytes(Bytes bytes) {
  static constexpr std::array<const char*, 5> kUnits = {"B", "KiB", "MiB", "GiB", "TiB"};
  auto value = static_cast<double>(bytes.value);
  std::size_t unit = 0;
  while (value >= 1024 && unit + 1 < kUnits.size()) {
    value /= 1024;
    ++unit;
  }
  return unit == 0 ? fmt::format("{} B", bytes.value) : fmt::format("{:.1f} {}", value, kUnits[unit]);
}

Result<Unit> write_file(const std::string& path, std::string_view text) {
  if (path == "-") {
    print(text);
    return Unit{};
  }
  Result<AtomicFile> file = AtomicFile::create(path);
  if (!file) return fail(std::move(file.error()));
  if (Result<Unit> ok = file->write({text.data(), text.size()}); !ok) return ok;
  return file->commit();
}

void print(std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() && stdout_error == 0)
    stdout_error = errno;
}

int finish_stdout(int exit_code) {
  if (std::fflush(stdout) != 0 && stdout_error == 0) stdout_error = errno;
  if (stdout_error == 0 || stdout_error == EPIPE) return exit_code;
  return report(
      {Errc::kIo, fmt::format("stdout: cannot write: {}", std::strerror(stdout_error)), stdout_error},
      kExitInput);
}

void say(std::string_view text) { static_cast<void>(std::fwrite(text.data(), 1, text.size(), stderr)); }

}  // namespace loracle::app
