#include "plan_sizes.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <string>
#include <utility>

namespace loracle::detail {
namespace {

constexpr std::uint32_t kDefaultRank = 16;  // vLLM's

std::string adapter_name(const Trace& trace, std::size_t row) {
  return row < trace.adapters.name.size() ? std::string(trace.adapters.name[row]) : fmt::format("#{}", row);
}

std::uint16_t rank_of(const Trace& trace, std::size_t row) {
  return row < trace.adapters.rank.size() ? trace.adapters.rank[row] : std::uint16_t{0};
}

}  // namespace

Result<Unit> fill_rank(Plan& plan, const Trace& trace, const PlanOptions& options) {
  std::size_t largest = 0;
  for (std::size_t row = 0; row < trace.adapters.rank.size(); ++row)
    if (rank_of(trace, row) > rank_of(trace, largest)) largest = row;
  const std::uint32_t known = rank_of(trace, largest);
  plan.largest_rank = known;
  plan.rank_known = known > 0;

  const auto ranks = vllm_lora_ranks();
  if (known > ranks.back()) {
    return fail(Errc::kInvalid, fmt::format("adapter '{}' has rank {}; vLLM accepts at most {}",
                                            adapter_name(trace, largest), known, ranks.back()));
  }
  if (options.max_lora_rank == 0) {
    plan.max_lora_rank = plan.rank_known ? vllm_lora_rank_for(known) : kDefaultRank;
    return Unit{};
  }
  if (std::find(ranks.begin(), ranks.end(), options.max_lora_rank) == ranks.end()) {
    return fail(Errc::kInvalid,
                fmt::format("vLLM does not accept max_lora_rank {}: use {}", options.max_lora_rank,
                            fmt::join(ranks.begin(), ranks.end(), ", ")));
  }
  if (options.max_lora_rank < known) {
    return fail(
        Errc::kInvalid,
        fmt::format("max_lora_rank {} is below rank {} of adapter '{}': use {} or more",
                    options.max_lora_rank, known, adapter_name(trace, largest), vllm_lora_rank_for(known)));
  }
  plan.max_lora_rank = options.max_lora_rank;
  plan.rank_given = true;
  return Unit{};
}

Bytes largest_together(const std::vector<Bytes>& sums, std::size_t count) noexcept {
  return sums.empty() ? Bytes{} : sums[std::min(count, sums.size() - 1)];
}

std::vector<Bytes> adapter_sizes(const Plan& plan, const Trace& trace, const UseStream& stream) {
  std::vector<bool> used(stream.rows, false);
  for (const Row row : stream.uses.view()) used[index_of(row)] = true;
  std::vector<Bytes> sizes(stream.rows, Bytes{0});
  for (std::size_t row = 0; row < used.size(); ++row) {
    if (!used[row]) continue;
    const std::uint16_t rank = rank_of(trace, row);
    const std::uint64_t stored = row < trace.adapters.bytes.size() ? trace.adapters.bytes[row] : 0;
    if (plan.has_model && rank > 0)
      sizes[row] = lora_bytes(plan.modules, rank, plan.element_bytes);
    else if (stored > 0)
      sizes[row] = Bytes{stored};
    else if (plan.has_model)
      sizes[row] = plan.slot_bytes;
  }
  return sizes;
}

Result<Unit> fill_sizes(Plan& plan, const Trace& trace, const UseStream& stream, const PlanOptions& options) {
  const auto element = dtype_bytes(options.dtype);
  if (!element) return fail(element.error());
  plan.element_bytes = *element;
  if (!options.model.empty()) {
    auto model = load_model_geometry(options.model);
    if (!model) return fail(model.error());
    auto modules = target_modules(*model, options.targets);
    if (!modules) return fail(modules.error());
    plan.has_model = true;
    plan.model = std::move(*model);
    plan.modules = std::move(*modules);
    plan.slot_bytes = lora_bytes(plan.modules, plan.max_lora_rank, plan.element_bytes);
  }

  std::vector<Bytes> sizes = adapter_sizes(plan, trace, stream);
  std::erase(sizes, Bytes{0});
  plan.host_bytes_known = sizes.size() == plan.adapters;
  if (!plan.host_bytes_known) {
    if (options.host_memory == Bytes::max()) return Unit{};
    return fail(Errc::kInvalid,
                "a limit on host memory needs the size of the adapters: the trace does not have it, so give "
                "the model");
  }
  std::sort(sizes.begin(), sizes.end(), std::greater<>());
  plan.host_bytes.push_back(Bytes{0});
  for (const Bytes size : sizes) plan.host_bytes.push_back(plan.host_bytes.back() + size);
  return Unit{};
}

}  // namespace loracle::detail
