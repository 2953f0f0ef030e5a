#include "loracle/sim/tier_replay.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "loracle/core/check.hpp"
#include "loracle/policy/vllm_model.hpp"
#include "tier_setup.hpp"

namespace loracle {
namespace {

Result<Unit> check_sizes(const TierOptions& options) {
  if (options.max_loras == 0) return fail(Errc::kInvalid, "--max-loras 0 holds nothing: give 1 or more");
  if (options.max_cpu_loras == 0)
    return fail(Errc::kInvalid, "--max-cpu-loras 0 holds nothing: give 1 or more");
  if (options.boundary == Boundary::kInclusive && options.max_cpu_loras < options.max_loras)
    return fail(
        Errc::kInvalid,
        fmt::format("--max-cpu-loras {} is below --max-loras {}: every adapter in a GPU slot is in host "
                    "memory too, so give at least {}",
                    options.max_cpu_loras, options.max_loras, options.max_loras));
  if (options.gpu_memory.value == 0 || options.cpu_memory.value == 0)
    return fail(Errc::kInvalid, "a memory limit of 0 bytes holds nothing: leave it out or raise it");
  return Unit{};
}

/// Counts that grow, told apart by stretches of requests.
class StretchWatch {
 public:
  StretchWatch(const BatchStream& stream, std::uint32_t stretches)
      : requests_(stream.requests()), counts_(requests_ == 0 ? 0 : stretches) {}

  /// After each request: all that was counted so far.
  void after(std::uint64_t request, const HierarchyCounts& so_far) noexcept {
    if (counts_.empty()) return;
    const auto stretches = static_cast<std::uint32_t>(counts_.size());
    StretchCounts& mine = counts_[stretch_of(request, requests_, stretches)];
    ++mine.requests;
    mine.uses += so_far.uses - last_.uses;
    mine.gpu_hits += so_far.gpu_hits - last_.gpu_hits;
    mine.disk_loads += so_far.disk_loads - last_.disk_loads;
    last_ = so_far;
  }
  void begin_at(const HierarchyCounts& counts) noexcept { last_ = counts; }
  [[nodiscard]] std::vector<StretchCounts> take() noexcept { return std::move(counts_); }

 private:
  std::uint64_t requests_;
  HierarchyCounts last_;
  std::vector<StretchCounts> counts_;
};

Result<TierReplay> replay_vllm(const BatchStream& stream, const TierOptions& options, DecisionSink* sink) {
  DecisionLog log(sink);
  VllmModel model(stream.uses.rows, options.max_loras, options.max_cpu_loras, log);
  for (std::size_t i = 0; i < options.pins.size(); ++i) {
    VllmFault fault = model.worker_add(options.pins[i]);
    if (fault == VllmFault::kNone) fault = model.pin(options.pins[i]);
    if (fault != VllmFault::kNone)
      return fail(Errc::kAllPinned,
                  fmt::format("pin number {} cannot be honoured: every slot is pinned already", i + 1));
  }
  const HierarchyCounts pinning = model.counts();
  StretchWatch watch(stream, options.stretches);
  watch.begin_at(pinning);
  for (std::uint64_t i = 0; i < stream.requests(); ++i) {
    model.step(stream.batch(i));
    watch.after(i, model.counts());
  }
  return TierReplay{since(model.counts(), pinning), log.count(), log.hash(), watch.take()};
}

Result<TierReplay> replay_hierarchy(const BatchStream& stream, const TierOptions& options,
                                    const TierPolicies& policies, DecisionSink* sink) {
  Result<std::unique_ptr<detail::TierStack>> made =
      detail::make_tier_stack(stream.uses, options, policies, sink);
  if (!made) return fail(std::move(made.error()));
  detail::TierStack& stack = **made;
  if (stack.clairvoyant) LORACLE_CHECK(stream.uses.next_use.size() == stream.uses.uses.size());
  StretchWatch watch(stream, options.stretches);
  watch.begin_at(stack.pinning);
  for (std::uint64_t i = 0; i < stream.requests(); ++i) {
    const std::uint64_t begin = stream.begin[i];
    const std::span<const Row> batch = stream.batch(i);
    for (std::size_t k = 0; stack.clairvoyant && k < batch.size(); ++k) {
      const std::uint32_t next = stream.uses.next_use[begin + k];
      stack.table.next_use[index_of(batch[k])] = next == UseStream::kNoNextUse ? kNever : Tick{next};
    }
    static_cast<void>(
        stack.tiers->request(batch, Tick{begin}));  // a refusal is in the counters and in the log
    watch.after(i, stack.tiers->counts());
  }
  return TierReplay{since(stack.tiers->counts(), stack.pinning), stack.log.count(), stack.log.hash(),
                    watch.take()};
}

}  // namespace

Result<BatchStream> make_batch_stream(const Trace& trace, NextUses next_uses) {
  BatchStream stream;
  Result<UseStream> flat = make_use_stream(trace);
  if (!flat) return fail(std::move(flat.error()));
  // From 1; tells a second mention within a request. A trace without names has rows all the same.
  std::vector<std::uint64_t> last_request(flat->rows, 0);
  std::vector<Row> uses;
  uses.reserve(trace.uses.size());
  stream.begin.reserve(trace.requests + 1);
  stream.begin.push_back(0);
  for (std::uint64_t i = 0; i < trace.requests; ++i) {
    const std::size_t first = uses.size();
    for (const Row row : trace.batch(i))
      if (std::exchange(last_request[index_of(row)], i + 1) != i + 1) uses.push_back(row);
    if (uses.size() == first) continue;
    stream.begin.push_back(uses.size());
    stream.origin.push_back(i);
    stream.batch_max = std::max(stream.batch_max, static_cast<std::uint32_t>(uses.size() - first));
  }
  stream.uses = std::move(*flat);
  stream.uses.uses = Column<Row>(std::move(uses));
  if (next_uses == NextUses::kKnown) compute_next_uses(stream.uses);
  return stream;
}

Result<Unit> check_tier_options(const TierOptions& options) {
  if (Result<Unit> ok = check_sizes(options); !ok) return ok;
  if (options.tiers != "vllm") {
    Result<TierPolicies> policies = parse_tier_policies(options.tiers);
    if (policies) return Unit{};
    Error error = std::move(policies.error());
    if (error.code == Errc::kNotFound) error.message += "; or 'vllm' for vLLM's own caches";
    return fail(std::move(error));
  }
  if (options.gpu_memory.value != kUnlimited || options.cpu_memory.value != kUnlimited)
    return fail(Errc::kInvalid, "--tiers vllm counts adapters, never bytes: drop the memory limits");
  if (options.boundary != Boundary::kInclusive)
    return fail(Errc::kInvalid, "--tiers vllm is inclusive: drop --exclusive");
  return Unit{};
}

Result<TierReplay> replay_tiers(const BatchStream& stream, const TierOptions& options, DecisionSink* sink) {
  if (Result<Unit> ok = check_tier_options(options); !ok) return fail(std::move(ok.error()));
  if (options.tiers == "vllm") return replay_vllm(stream, options, sink);
  return replay_hierarchy(stream, options, *parse_tier_policies(options.tiers), sink);
}

}  // namespace loracle
