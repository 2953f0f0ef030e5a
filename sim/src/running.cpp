#include "running.hpp"

#include <fmt/format.h>

namespace loracle::detail {

Result<Unit> check_times(const Trace& trace) {
  if (!trace.arrival_s.empty() && !trace.duration_s.empty()) return Unit{};
  return fail(Errc::kInvalid,
              fmt::format("{}: does not say when requests arrive and how long they hold their "
                          "adapters: give arrival_s and duration_s",
                          trace.source));
}

}  // namespace loracle::detail
