#include "loracle/sim/batch_sim.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <memory>
#include <utility>

#include "batch_replica.hpp"
#include "batch_router.hpp"
#include "loading.hpp"
#include "loracle/core/rng.hpp"

namespace loracle {
namespace {

using detail::BatchRecord;
using detail::BatchReplica;
using detail::BatchScene;
using detail::GapRun;

constexpr std::array<Router, 4> kRouters = {Router::kRoundRobin, Router::kLeastLoaded, Router::kLoraAffinity,
                                            Router::kConsistentHash};
constexpr std::uint32_t kReplicasMax = 4096;

Result<Unit> check_trace(const Trace& trace) {
  if (trace.arrival_s.empty())
    return fail(Errc::kInvalid,
                fmt::format("{}: does not say when requests arrive: give arrival_s", trace.source));
  if (trace.input_tokens.empty() || trace.output_tokens.empty())
    return fail(Errc::kInvalid,
                fmt::format("{}: does not say how many tokens requests have: give input_tokens and "
                            "output_tokens (loracle trace gen makes them with --input-tokens-mean and "
                            "--output-tokens-mean); durations alone do for loracle plan",
                            trace.source));
  if (trace.requests >= 0xFFFF'FFFFU)
    return fail(Errc::kTooLarge, fmt::format("{}: more than 2^32 - 2 requests: cut it", trace.source));
  return Unit{};
}

Result<Unit> check_step_times(const StepTimes& step) {
  for (const double seconds : {step.prefill_token_s, step.sequence_s, step.adapter_s, step.adapter_rank_s})
    if (!(seconds >= 0 && std::isfinite(seconds)))
      return fail(Errc::kInvalid, "no part of a step takes less than 0 seconds");
  if (!(step.base_s > 0 && std::isfinite(step.base_s)))
    return fail(Errc::kInvalid, "a step takes more than 0 seconds: give a base");
  return Unit{};
}

Result<Unit> check_options(const BatchOptions& options, std::size_t sinks) {
  if (Result<Unit> ok = check_tier_options(options.tiers); !ok) return ok;
  if (Result<Unit> ok = check_step_times(options.service.step); !ok) return ok;
  if (Result<Unit> ok = detail::check_channels(options.service.disk, options.service.slot); !ok) return ok;
  if (options.max_num_seqs == 0) return fail(Errc::kInvalid, "max_num_seqs 0 serves nothing");
  if (options.max_num_batched_tokens < options.max_num_seqs)
    return fail(Errc::kInvalid, fmt::format("max_num_batched_tokens {} is below max_num_seqs {}: each "
                                            "request that runs needs a token a step",
                                            options.max_num_batched_tokens, options.max_num_seqs));
  if (options.replicas == 0 || options.replicas > kReplicasMax)
    return fail(Errc::kInvalid, fmt::format("{} replicas: give 1 to {}", options.replicas, kReplicasMax));
  if (!(options.load_bound >= 1 && std::isfinite(options.load_bound)))
    return fail(Errc::kInvalid, "a load bound below 1 overloads everybody: give 1 or more");
  if (options.prefetch && options.loads_stall)
    return fail(Errc::kInvalid, "loads that stall are not fetched ahead: drop one of the two");
  if (options.prefetch && options.tiers.boundary == Boundary::kExclusive)
    return fail(Errc::kInvalid,
                "tiers that exclude one another are not fetched into ahead: drop one of the two");
  if (sinks != 0 && sinks != options.replicas)
    return fail(Errc::kInvalid, fmt::format("{} sinks for {} replicas", sinks, options.replicas));
  return Unit{};
}

void find_classes(const Trace& trace, const std::vector<std::int32_t>& priorities, BatchScene& scene) {
  std::vector<std::int32_t> distinct = priorities;
  distinct.push_back(0);
  std::sort(distinct.begin(), distinct.end());
  distinct.erase(std::unique(distinct.begin(), distinct.end()), distinct.end());
  const auto class_of = [&distinct](std::int32_t priority) {
    const auto place = std::lower_bound(distinct.begin(), distinct.end(), priority);
    return static_cast<std::uint32_t>(place - distinct.begin());
  };
  scene.classes = static_cast<std::uint32_t>(distinct.size());
  scene.default_class = class_of(0);
  scene.tenant_class.assign(trace.tenant_name.size(), scene.default_class);
  for (std::size_t i = 0; i < std::min(priorities.size(), scene.tenant_class.size()); ++i)
    scene.tenant_class[i] = class_of(priorities[i]);
}

Result<BatchScene> make_scene(const Trace& trace, const BatchOptions& options) {
  BatchScene scene;
  scene.trace = &trace;
  scene.options = &options;
  Result<TierPolicies> policies = detail::policies_in_time(options.tiers);
  if (!policies) return fail(std::move(policies.error()));
  scene.policies = std::move(*policies);
  Result<BatchStream> stream = make_batch_stream(trace, NextUses::kUnknown);
  if (!stream) return fail(std::move(stream.error()));
  scene.stream = std::move(*stream);
  scene.begin.assign(trace.requests + 1, 0);
  for (std::uint64_t i = 0; i < scene.stream.requests(); ++i)
    scene.begin[scene.stream.origin[i] + 1] = scene.stream.begin[i + 1];
  for (std::uint64_t i = 1; i <= trace.requests; ++i)
    scene.begin[i] = std::max(scene.begin[i], scene.begin[i - 1]);
  find_classes(trace, options.tenant_priority, scene);
  return scene;
}

BatchRecord make_record(const BatchScene& scene) {
  const std::uint64_t requests = scene.trace->requests;
  const std::uint32_t rows = scene.stream.uses.rows;
  const std::size_t tenants = scene.trace->tenant_name.size();
  BatchRecord record;
  record.slot_wait_s.assign(requests, BatchRecord::kRefused);
  for (std::vector<float>* column : {&record.load_wait_s, &record.first_token_s, &record.latency_s})
    column->assign(requests, 0);
  record.replica.assign(requests, 0);
  record.row_disk.resize(rows);
  record.row_slot.resize(rows);
  record.tenant_disk.resize(tenants);
  record.tenant_slot.resize(tenants);
  return record;
}

TokenGaps gaps_of(std::vector<GapRun> runs, std::uint64_t stalled) {
  TokenGaps gaps;
  gaps.stalled = stalled;
  double sum_s = 0;
  for (const GapRun& run : runs) {
    gaps.count += run.tokens;
    sum_s += run.gap_s * static_cast<double>(run.tokens);
  }
  if (gaps.count == 0) return gaps;
  gaps.mean = sum_s / static_cast<double>(gaps.count);
  std::sort(runs.begin(), runs.end(), [](const GapRun& a, const GapRun& b) { return a.gap_s < b.gap_s; });
  const auto quantile = [&](double share) {
    auto place = static_cast<std::uint64_t>(share * static_cast<double>(gaps.count - 1));
    std::size_t run = 0;
    for (; run + 1 < runs.size() && place >= runs[run].tokens; ++run) place -= runs[run].tokens;
    return runs[run].gap_s;
  };
  gaps.p50 = quantile(0.5);
  gaps.p99 = quantile(0.99);
  gaps.max = runs.back().gap_s;
  return gaps;
}

struct TimesColumn {
  std::vector<float> BatchRecord::*seconds;
  WaitTimes ReplicaOutcome::*times;
};
constexpr std::array<TimesColumn, 4> kTimes = {{{&BatchRecord::slot_wait_s, &ReplicaOutcome::slot_wait},
                                                {&BatchRecord::load_wait_s, &ReplicaOutcome::load_wait},
                                                {&BatchRecord::first_token_s, &ReplicaOutcome::first_token},
                                                {&BatchRecord::latency_s, &ReplicaOutcome::latency}}};

/// Of each replica's requests, and of all.
void add_times(const BatchRecord& record, BatchOutcome& outcome) {
  for (const TimesColumn& column : kTimes) {
    const std::vector<float>& seconds = record.*column.seconds;
    std::vector<std::vector<float>> of_replica(outcome.replicas.size());
    std::vector<float> all;
    for (std::size_t i = 0; i < seconds.size(); ++i) {
      if (record.slot_wait_s[i] < 0) continue;  // refused
      all.push_back(seconds[i]);
      if (of_replica.size() > 1) of_replica[record.replica[i]].push_back(seconds[i]);
    }
    outcome.total.*column.times = detail::times_of(all);
    if (of_replica.size() == 1) outcome.replicas[0].*column.times = outcome.total.*column.times;
    for (std::size_t i = 0; of_replica.size() > 1 && i < of_replica.size(); ++i)
      outcome.replicas[i].*column.times = detail::times_of(of_replica[i]);
  }
}

void add(Moved& sum, const Moved& more) noexcept {
  sum.loads += more.loads;
  sum.bytes += more.bytes;
}

/// Sums, and the largest queue; not what needs every request.
void add_counts(ReplicaOutcome& sum, const ReplicaOutcome& more) {
  using Count = std::uint64_t ReplicaOutcome::*;
  for (const Count count :
       {&ReplicaOutcome::requests, &ReplicaOutcome::refused, &ReplicaOutcome::waited_for_slot,
        &ReplicaOutcome::waited_for_seat, &ReplicaOutcome::waited_for_load, &ReplicaOutcome::shared_loads,
        &ReplicaOutcome::steps, &ReplicaOutcome::prefill_tokens, &ReplicaOutcome::output_tokens})
    sum.*count += more.*count;
  sum.waiting_max = std::max(sum.waiting_max, more.waiting_max);
  sum.busy_s += more.busy_s;
  sum.stalled_s += more.stalled_s;
  sum.gaps.stalled += more.gaps.stalled;
  sum.running_mean += more.running_mean;
  sum.adapters_mean += more.adapters_mean;
  add(sum.disk, more.disk);
  add(sum.slot, more.slot);
  add(sum.prefetched, more.prefetched);
  for (const NamedCount& named : kTwoTierCounts) sum.counts.*named.count += more.counts.*named.count;
  std::uint64_t state = sum.decision_log_hash ^ more.decision_log_hash;
  sum.decision_log_hash = splitmix64(state);
}

/// A group a tenant or an adapter; `groups_of(request, f)` calls f for each that a request is in.
template <class GroupsOf>
std::vector<GroupOutcome> groups(const BatchScene& scene, const BatchRecord& record,
                                 const std::vector<Moved>& disk, const std::vector<Moved>& slot,
                                 const GroupsOf& groups_of) {
  std::vector<GroupOutcome> all(disk.size());
  const std::uint64_t requests = scene.trace->requests;
  const auto served = [&record](std::uint64_t request) { return record.slot_wait_s[request] >= 0; };
  for (std::uint64_t i = 0; i < requests; ++i)
    groups_of(i, [&](std::size_t group) {
      ++all[group].requests;
      if (served(i))
        all[group].output_tokens += scene.output_of(i);
      else
        ++all[group].refused;
    });
  std::vector<std::uint64_t> next(all.size() + 1, 0);  // where the next wait of each group goes
  for (std::size_t group = 0; group < all.size(); ++group)
    next[group + 1] = next[group] + all[group].requests - all[group].refused;
  std::vector<float> waits(next.back());
  for (std::uint64_t i = 0; i < requests; ++i)
    if (served(i)) groups_of(i, [&](std::size_t group) { waits[next[group]++] = record.first_token_s[i]; });
  for (std::size_t group = 0; group < all.size(); ++group) {
    const std::uint64_t count = all[group].requests - all[group].refused;
    all[group].first_token = detail::times_of(std::span(waits).subspan(next[group] - count, count));
    all[group].disk = disk[group];
    all[group].slot = slot[group];
  }
  return all;
}

using Replicas = std::vector<std::unique_ptr<BatchReplica>>;

Result<Replicas> make_replicas(const BatchScene& scene, BatchRecord& record,
                               std::span<DecisionSink* const> sinks) {
  Replicas replicas;
  for (std::uint32_t i = 0; i < scene.options->replicas; ++i) {
    auto replica = BatchReplica::make(scene, record, sinks.empty() ? nullptr : sinks[i]);
    if (!replica) return fail(std::move(replica.error()));
    replicas.push_back(std::move(*replica));
  }
  return replicas;
}

void serve(const BatchScene& scene, BatchRecord& record, const Replicas& replicas) {
  detail::BatchRouter<BatchReplica> router(*scene.options);
  const bool looks_at_all = scene.options->router != Router::kRoundRobin;
  const auto replica_at = [&replicas](std::uint32_t i) -> const BatchReplica& { return *replicas[i]; };
  for (std::uint64_t request = 0; request < scene.trace->requests; ++request) {
    const double now_s = scene.trace->arrival_s[request];
    if (looks_at_all)
      for (const auto& replica : replicas) replica->advance(now_s);
    const std::uint32_t chosen = router.choose(scene.rows_of(request), replica_at);
    record.replica[request] = chosen;
    replicas[chosen]->advance(now_s);
    replicas[chosen]->arrive(request);
  }
  for (const auto& replica : replicas) replica->advance(std::numeric_limits<double>::max());
}

/// What each replica did, and its means over the time that all took.
void add_replicas(const Replicas& replicas, BatchOutcome& outcome) {
  std::vector<GapRun> gaps;
  for (const auto& replica : replicas) {
    ReplicaOutcome one = replica->outcome();
    if (outcome.span_s > 0) {
      one.running_mean = replica->running_s() / outcome.span_s;
      one.adapters_mean = replica->adapters_s() / outcome.span_s;
    }
    one.gaps = gaps_of(replica->gaps(), one.gaps.stalled);
    gaps.insert(gaps.end(), replica->gaps().begin(), replica->gaps().end());
    add_counts(outcome.total, one);
    outcome.replicas.push_back(one);
  }
  outcome.total.gaps = gaps_of(std::move(gaps), outcome.total.gaps.stalled);
  if (replicas.size() == 1) outcome.total.decision_log_hash = outcome.replicas[0].decision_log_hash;
}

BatchOutcome outcome_of(const BatchScene& scene, const BatchRecord& record, const Replicas& replicas) {
  BatchOutcome outcome;
  const double first_s = scene.trace->requests == 0 ? 0 : scene.trace->arrival_s[0];
  double end_s = first_s;
  for (const auto& replica : replicas) end_s = std::max(end_s, replica->end_s());
  outcome.span_s = end_s - first_s;
  add_replicas(replicas, outcome);
  add_times(record, outcome);
  outcome.tenants = groups(scene, record, record.tenant_disk, record.tenant_slot,
                           [&scene](std::uint64_t request, const auto& call) {
                             const std::uint32_t tenant = scene.tenant_of(request);
                             if (tenant != kNoTenant) call(std::size_t{tenant});
                           });
  outcome.adapters = groups(scene, record, record.row_disk, record.row_slot,
                            [&scene](std::uint64_t request, const auto& call) {
                              for (const Row row : scene.rows_of(request)) call(index_of(row));
                            });
  return outcome;
}

}  // namespace

std::string_view name_of(Router router) noexcept {
  switch (router) {
    case Router::kRoundRobin:
      return "round-robin";
    case Router::kLeastLoaded:
      return "least-loaded";
    case Router::kLoraAffinity:
      return "lora-affinity";
    case Router::kConsistentHash:
      break;
  }
  return "consistent-hash";
}

std::span<const Router> all_routers() noexcept { return kRouters; }

Result<BatchOutcome> simulate_batches(const Trace& trace, const BatchOptions& options,
                                      std::span<DecisionSink* const> sinks) {
  if (Result<Unit> ok = check_trace(trace); !ok) return fail(std::move(ok.error()));
  if (Result<Unit> ok = check_options(options, sinks.size()); !ok) return fail(std::move(ok.error()));
  const Result<BatchScene> scene = make_scene(trace, options);
  if (!scene) return fail(scene.error());
  BatchRecord record = make_record(*scene);
  const Result<Replicas> replicas = make_replicas(*scene, record, sinks);
  if (!replicas) return fail(replicas.error());
  serve(*scene, record, *replicas);
  return outcome_of(*scene, record, *replicas);
}

}  // namespace loracle
