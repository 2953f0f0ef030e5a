#pragma once
/// A decision log as CSV, a line a decision, with the adapters' names.

#include <cstdio>
#include <memory>
#include <string>
#include <string_view>

#include "loracle/core/result.hpp"
#include "loracle/policy/decision_log.hpp"
#include "loracle/traces/trace.hpp"

namespace loracle::app {

class DecisionCsv final : public DecisionSink {
 public:
  /// Errors: kIo. `trace` must outlive this.
  [[nodiscard]] Result<Unit> open(const std::string& path, const Trace& trace);
  void on_decision(const Decision& decision) noexcept override;
  /// Errors: kIo if anything could not be written. No error if it was never opened.
  [[nodiscard]] Result<Unit> close();

 private:
  void write(std::string_view text) noexcept;

  std::unique_ptr<std::FILE, int (*)(std::FILE*)> file_{nullptr, &std::fclose};
  std::string path_;
  const Trace* trace_ = nullptr;
};

}  // namespace loracle::app
