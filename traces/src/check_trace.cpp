#include "loracle/traces/check_trace.hpp"

#include <fmt/format.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace loracle {
namespace {

[[nodiscard]] Result<Unit> check_length(std::string_view column, std::size_t length, std::uint64_t wanted,
                                        std::string_view of) {
  if (length == 0 || length == wanted) return Unit{};
  return fail(Errc::kInvalid, fmt::format("column {} has {} entries for {} {}", column, length, wanted, of));
}

[[nodiscard]] Result<Unit> check_names_length(std::string_view what, const NameColumn& names) {
  if (names.begin.empty() && names.text.empty()) return Unit{};
  if (!names.begin.empty() && names.begin[0] == 0 && names.begin[names.size()] == names.text.size())
    return Unit{};
  return fail(Errc::kInvalid, fmt::format("{} names do not end where their text ends", what));
}

[[nodiscard]] Result<Unit> check_ascending(std::string_view column, std::span<const std::uint64_t> begin) {
  for (std::size_t i = 1; i < begin.size(); ++i) {
    if (begin[i] < begin[i - 1]) {
      return fail(Errc::kInvalid, fmt::format("column {}: entry {} is below the one before it", column, i));
    }
  }
  return Unit{};
}

[[nodiscard]] Result<Unit> check_uses(const Trace& trace) {
  std::uint32_t appeared = 0;  // rows 0 .. appeared - 1 have been used
  const std::span<const Row> uses = trace.uses.view();
  for (std::size_t i = 0; i < uses.size(); ++i) {
    const std::size_t row = index_of(uses[i]);
    if (row < appeared) continue;
    if (row >= trace.rows()) {
      return fail(Errc::kInvalid, fmt::format("use {}: row {} of {} adapters", i, row, trace.rows()));
    }
    if (row > appeared) {
      return fail(
          Errc::kInvalid,
          fmt::format("use {}: row {} appears before row {}: rows must be numbered by first appearance", i,
                      row, appeared));
    }
    ++appeared;
  }
  return Unit{};
}

[[nodiscard]] Result<Unit> check_times(const Trace& trace) {
  double before = -HUGE_VAL;
  for (std::size_t i = 0; i < trace.arrival_s.size(); ++i) {
    const double at = trace.arrival_s[i];
    if (!(at >= before && at < HUGE_VAL && at > -HUGE_VAL)) {
      return fail(Errc::kInvalid,
                  fmt::format("request {}: arrival {} s after {} s: times must not decrease", i, at, before));
    }
    before = at;
  }
  for (std::size_t i = 0; i < trace.duration_s.size(); ++i) {
    const float lasts = trace.duration_s[i];
    if (!(lasts >= 0.0F && lasts < HUGE_VALF)) {
      return fail(Errc::kInvalid, fmt::format("request {}: a duration of {} s", i, lasts));
    }
  }
  return Unit{};
}

[[nodiscard]] Result<Unit> check_tenants(const Trace& trace) {
  const std::size_t names = trace.tenant_name.size();
  for (std::size_t i = 0; i < trace.tenant.size(); ++i) {
    const std::uint32_t tenant = trace.tenant[i];
    if (tenant != kNoTenant && tenant >= names) {
      return fail(Errc::kInvalid, fmt::format("request {}: tenant {} of {}", i, tenant, names));
    }
  }
  return Unit{};
}

}  // namespace

Result<Unit> check_trace_lengths(const Trace& trace) {
  const std::uint64_t requests = trace.requests;
  if (trace.use_begin.empty() && trace.uses.size() != requests) {
    return fail(Errc::kInvalid, fmt::format("column uses has {} entries for {} requests of one adapter each",
                                            trace.uses.size(), requests));
  }
  if (!trace.use_begin.empty()) {
    // Not requests + 1: a hostile count must not wrap to 0.
    if (trace.use_begin.size() - 1 != requests) {
      return fail(Errc::kInvalid, fmt::format("column use_begin has {} entries for {} requests",
                                              trace.use_begin.size(), requests));
    }
    if (trace.use_begin[0] != 0 || trace.use_begin[requests] != trace.uses.size()) {
      return fail(Errc::kInvalid, "column use_begin does not end where the uses end");
    }
  }
  if (trace.adapters.name.size() >= index_of(kNoRow))
    return fail(Errc::kInvalid, "too many adapters for 32-bit rows");
  if (auto ok = check_names_length("adapter", trace.adapters.name); !ok) return ok;
  if (auto ok = check_names_length("tenant", trace.tenant_name); !ok) return ok;
  const std::uint64_t rows = trace.rows();
  if (auto ok = check_length("adapter bytes", trace.adapters.bytes.size(), rows, "adapters"); !ok) return ok;
  if (auto ok = check_length("adapter rank", trace.adapters.rank.size(), rows, "adapters"); !ok) return ok;
  if (auto ok = check_length("arrival_s", trace.arrival_s.size(), requests, "requests"); !ok) return ok;
  if (auto ok = check_length("input_tokens", trace.input_tokens.size(), requests, "requests"); !ok) return ok;
  if (auto ok = check_length("output_tokens", trace.output_tokens.size(), requests, "requests"); !ok)
    return ok;
  if (auto ok = check_length("tenant", trace.tenant.size(), requests, "requests"); !ok) return ok;
  return check_length("duration_s", trace.duration_s.size(), requests, "requests");
}

Result<Unit> check_trace(const Trace& trace) {
  if (auto ok = check_trace_lengths(trace); !ok) return ok;
  if (auto ok = check_ascending("use_begin", trace.use_begin.view()); !ok) return ok;
  if (auto ok = check_ascending("adapter names", trace.adapters.name.begin.view()); !ok) return ok;
  if (auto ok = check_ascending("tenant names", trace.tenant_name.begin.view()); !ok) return ok;
  if (auto ok = check_uses(trace); !ok) return ok;
  if (auto ok = check_times(trace); !ok) return ok;
  return check_tenants(trace);
}

}  // namespace loracle
