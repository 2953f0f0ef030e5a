#include "decision_csv.hpp"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>

#include "common.hpp"
#include "loracle/policy/tier.hpp"

namespace loracle::app {

Result<Unit> DecisionCsv::open(const std::string& path, const Trace& trace) {
  path_ = path;
  trace_ = &trace;
  file_.reset(std::fopen(path.c_str(), "wb"));
  if (!file_) {
    return fail(Errc::kIo, fmt::format("{}: cannot create the decision log: {}", path, std::strerror(errno)),
                errno);
  }
  write("sequence,action,adapter,from,to,slot\n");
  return Unit{};
}

void DecisionCsv::on_decision(const Decision& decision) noexcept {
  write(fmt::format("{},{},{},{},{},{}\n", decision.sequence, name_of(decision.action),
                    csv_field(trace_->adapters.name[index_of(decision.row)]), name_of(decision.from),
                    name_of(decision.to),
                    decision.slot == kNoSlot ? std::string("-") : std::to_string(decision.slot)));
}

/// What fails is found by ferror when the log is complete.
void DecisionCsv::write(std::string_view text) noexcept {
  static_cast<void>(std::fwrite(text.data(), 1, text.size(), file_.get()));
}

Result<Unit> DecisionCsv::close() {
  if (!file_) return Unit{};
  if (std::fflush(file_.get()) == 0 && std::ferror(file_.get()) == 0) return Unit{};
  return fail(Errc::kIo, fmt::format("{}: cannot write the decision log: free some room", path_), errno);
}

}  // namespace loracle::app
