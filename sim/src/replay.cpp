#include "loracle/sim/replay.hpp"

#include <fmt/format.h>

#include <utility>

#include "loracle/core/check.hpp"
#include "loracle/policy/all_policies.hpp"
#include "replay_loop.hpp"

namespace loracle {
namespace {

template <class P>
ReplayCounts run(const UseStream& stream, SizeUnit unit, const Capacity& capacity,
                 typename P::Config config) noexcept {
  AdapterTable table;
  if constexpr (P::kClairvoyant) {
    LORACLE_CHECK(stream.next_use.size() == stream.uses.size());
    if constexpr (ReadsFuture<P>) {
      config.future = stream.uses.view();
      config.future_next = stream.next_use.view();
    } else {
      table.next_use.assign(stream.rows, kNever);
    }
  }
  P policy(stream.rows, capacity, config);
  if (unit == SizeUnit::kObjects) return replay_loop<false>(policy, stream, capacity, table);
  table.size = stream.size;
  return replay_loop<true>(policy, stream, capacity, table);
}

Result<Unit> check_capacity(const ReplayJob& job) {
  if (job.capacity.entries == 0 || job.capacity.bytes.value == 0)
    return fail(Errc::kInvalid, fmt::format("{}: a capacity of 0 holds nothing: give 1 or more", job.policy));
  return Unit{};
}

}  // namespace

Result<ReplayCounts> replay(const UseStream& stream, SizeUnit unit, const ReplayJob& job) {
  if (Result<Unit> ok = check_capacity(job); !ok) return fail(std::move(ok.error()));
  Result<PolicySpec> spec = parse_policy_spec(job.policy);
  if (!spec) return fail(std::move(spec.error()));
  return with_policy<ReplayCounts>(
      *spec, [&]<class P>(std::type_identity<P>, const typename P::Config& config) -> Result<ReplayCounts> {
        return run<P>(stream, unit, job.capacity, config);
      });
}

Result<std::vector<ReplayResult>> replay_all(const UseStream& stream, SizeUnit unit,
                                             std::span<const ReplayJob> jobs, Executor& executor) {
  std::vector<Result<ReplayResult>> slots(jobs.size(), ReplayResult{});
  executor.run(jobs.size(), [&](std::size_t i) {
    const double start_s = executor.now_s();
    Result<ReplayCounts> counts = replay(stream, unit, jobs[i]);
    if (counts)
      slots[i] = ReplayResult{*counts, executor.now_s() - start_s};
    else
      slots[i] = fail(std::move(counts.error()));
  });
  std::vector<ReplayResult> results;
  results.reserve(jobs.size());
  for (Result<ReplayResult>& slot : slots) {
    if (!slot) return fail(std::move(slot.error()));
    results.push_back(*slot);
  }
  return results;
}

}  // namespace loracle
