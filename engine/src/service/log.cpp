#include "service/log.hpp"

#include <fmt/format.h>
#include <spdlog/logger.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/stdout_sinks.h>

#include <utility>

#include "service/json_string.hpp"

namespace loracle::service {
namespace {

/// A value of a text line: bare where it is one word, quoted where it is not.
std::string shown(std::string_view text) {
  const std::string with_quotes = json_string(text);
  const bool is_word = !text.empty() && with_quotes.size() == text.size() + 2 &&
                       text.find_first_of(" =\x7f") == std::string_view::npos;
  return is_word ? std::string(text) : with_quotes;
}

spdlog::level::level_enum level_of(LogLevel level) noexcept {
  switch (level) {
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarning:
      return spdlog::level::warn;
    case LogLevel::kError:
      return spdlog::level::err;
  }
  return spdlog::level::info;
}

Result<spdlog::level::level_enum> parse_level(const std::string& text) {
  if (text == "trace") return spdlog::level::trace;
  if (text == "debug") return spdlog::level::debug;
  if (text == "info") return spdlog::level::info;
  if (text == "warning") return spdlog::level::warn;
  if (text == "error") return spdlog::level::err;
  if (text == "off") return spdlog::level::off;
  return fail(Errc::kInvalid,
              fmt::format("log level '{}': give trace, debug, info, warning, error or off", text));
}

}  // namespace

struct Log::State {
  std::unique_ptr<spdlog::logger> logger;
  bool is_json = false;
};

Log::Log(std::unique_ptr<State> state) : state_(std::move(state)) {}
Log::~Log() = default;

Result<std::unique_ptr<Log>> Log::open(const LogConfig& config) {
  if (config.format != "text" && config.format != "json")
    return fail(Errc::kInvalid, fmt::format("log format '{}': give text or json", config.format));
  auto state = std::make_unique<State>();
  state->is_json = config.format == "json";
  auto sink = std::make_shared<spdlog::sinks::stderr_sink_mt>();
  state->logger = std::make_unique<spdlog::logger>("loracle", std::move(sink));
  state->logger->set_formatter(std::make_unique<spdlog::pattern_formatter>(
      state->is_json ? R"({"time":"%Y-%m-%dT%H:%M:%S.%eZ","level":"%l",%v})" : "%Y-%m-%dT%H:%M:%S.%eZ %l %v",
      spdlog::pattern_time_type::utc));
  auto log = std::unique_ptr<Log>(new Log(std::move(state)));
  if (Result<Unit> set = log->set_level(config.level); !set) return fail(std::move(set.error()));
  return log;
}

Result<Unit> Log::set_level(const std::string& level) {
  const Result<spdlog::level::level_enum> parsed = parse_level(level);
  if (!parsed) return fail(parsed.error());
  state_->logger->set_level(*parsed);
  return Unit{};
}

bool Log::wants(LogLevel level) const noexcept { return state_->logger->should_log(level_of(level)); }

void Log::write(LogLevel level, std::string_view event, std::initializer_list<LogField> fields) {
  if (!wants(level)) return;
  std::string line = state_->is_json ? fmt::format(R"("event":{})", json_string(event)) : std::string(event);
  for (const LogField& field : fields) {
    if (state_->is_json)
      line += fmt::format(",{}:", json_string(field.name));
    else
      line += fmt::format(" {}=", field.name);
    if (const auto* text = std::get_if<std::string_view>(&field.value))
      line += state_->is_json ? json_string(*text) : shown(*text);
    else if (const auto* whole = std::get_if<std::uint64_t>(&field.value))
      line += fmt::format("{}", *whole);
    else
      line += fmt::format("{:.6g}", std::get<double>(field.value));
  }
  state_->logger->log(level_of(level), spdlog::string_view_t(line));
}

}  // namespace loracle::service
