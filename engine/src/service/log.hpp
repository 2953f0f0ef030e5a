#pragma once
/// The service's log: one event a line on standard error, as text or as JSON, with named fields.
/// Control characters in values are escaped, so that no name can forge a line.
/// Threads: any.

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <variant>

#include "loracle/core/result.hpp"
#include "loracle/service/config.hpp"

namespace loracle::service {

enum class LogLevel : std::uint8_t { kDebug, kInfo, kWarning, kError };

struct LogField {
  std::string_view name;
  std::variant<std::string_view, std::uint64_t, double> value;
};

class Log {
 public:
  /// Errors: kInvalid (a level or a format there is not).
  [[nodiscard]] static Result<std::unique_ptr<Log>> open(const LogConfig& config);
  Log(const Log&) = delete;
  Log& operator=(const Log&) = delete;
  ~Log();

  [[nodiscard]] Result<Unit> set_level(const std::string& level);
  [[nodiscard]] bool wants(LogLevel level) const noexcept;
  void write(LogLevel level, std::string_view event, std::initializer_list<LogField> fields = {});

 private:
  struct State;
  explicit Log(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace loracle::service
