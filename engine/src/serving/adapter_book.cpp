#include "serving/adapter_book.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <deque>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>

#include "loracle/engine/origin.hpp"
#include "loracle/sim/model_geometry.hpp"

namespace loracle {
namespace {

constexpr std::uint32_t kRankDefault = 16;  // vLLM's

/// A shape as layout_for and plan_image read it; there are no files behind it.
AdapterFiles as_adapter(const CatalogShape& shape) {
  AdapterFiles adapter;
  adapter.directory = fmt::format("adapters of shape {}", shape.id);
  for (const ShapeModule& module : shape.shape.modules) {
    LoraModule made;
    made.name = module.name;
    made.rank = module.rank;
    made.in = module.in;
    made.out = module.out;
    adapter.rank_max = std::max(adapter.rank_max, module.rank);
    adapter.modules.push_back(std::move(made));
  }
  return adapter;
}

/// Its modules' names and sizes, in the order of the names.
std::string sizes_of(const AdapterFiles& adapter) {
  std::vector<std::string> modules;
  modules.reserve(adapter.modules.size());
  for (const LoraModule& module : adapter.modules)
    modules.push_back(fmt::format("{} {} {}\n", module.name, module.in, module.out));
  std::sort(modules.begin(), modules.end());
  return fmt::format("{}", fmt::join(modules, ""));
}

}  // namespace

Result<SlotLayout> layout_of(Catalog& catalog, std::span<const LoraModule> model,
                             std::span<const AdapterFiles> others, std::uint32_t max_rank, Dtype dtype) {
  Result<std::vector<CatalogShape>> shapes = catalog.shapes();
  if (!shapes) return fail(std::move(shapes.error()));
  Result<std::vector<CatalogEntry>> entries = catalog.list();
  if (!entries) return fail(std::move(entries.error()));
  std::map<std::uint32_t, std::uint64_t> users;  // by shape id
  for (const CatalogEntry& entry : *entries)
    if (entry.state == AdapterState::kAvailable) ++users[entry.shape_id];
  // The shapes most adapters have come first: an adapter of another model must not spoil theirs.
  std::erase_if(*shapes, [&users](const CatalogShape& shape) { return !users.contains(shape.id); });
  std::stable_sort(shapes->begin(), shapes->end(), [&users](const CatalogShape& a, const CatalogShape& b) {
    return users[a.id] > users[b.id];
  });
  std::deque<AdapterFiles> adapters;  // keeps addresses
  std::vector<const AdapterFiles*> agreed;
  std::uint32_t rank = 0;
  if (!model.empty()) {
    AdapterFiles& whole = adapters.emplace_back();
    whole.directory = "the model";
    whole.modules.assign(model.begin(), model.end());
    agreed.push_back(&whole);
  }
  // Ranks do not matter to a layout, and asking for one is not free: modules of the same sizes are asked for
  // once, whatever their ranks.
  std::map<std::string, bool> fits;
  const auto take = [&](const AdapterFiles& adapter) {
    const auto [known, is_new] = fits.emplace(sizes_of(adapter), true);
    if (is_new) {
      agreed.push_back(&adapter);
      known->second = layout_for(agreed, kLoraRankMax, dtype).has_value();
      if (!known->second) agreed.pop_back();
    }
    if (known->second) rank = std::max(rank, adapter.rank_max);
  };
  for (const CatalogShape& shape : *shapes) take(adapters.emplace_back(as_adapter(shape)));
  for (const AdapterFiles& adapter : others) take(adapter);
  if (max_rank == 0) max_rank = rank == 0 ? kRankDefault : std::max(rank, vllm_lora_rank_for(rank));
  return layout_for(agreed, max_rank, dtype);
}

Result<ShapeWeights> weigh_shapes(Catalog& catalog, const SlotLayout& layout) {
  Result<std::vector<CatalogShape>> shapes = catalog.shapes();
  if (!shapes) return fail(std::move(shapes.error()));
  ShapeWeights weights;
  for (const CatalogShape& shape : *shapes) {
    const Result<ImageManifest> plan = plan_image(as_adapter(shape), layout);
    if (plan)
      weights.bytes[shape.id] = plan->elements * bytes_of(layout.dtype);
    else
      weights.refusals[shape.id] = plan.error().message;
  }
  return weights;
}

Result<AdapterBook> open_book(Catalog& catalog, const std::string& root, const AdapterRules& rules,
                              SlotLayout layout) {
  Result<ShapeWeights> weights = weigh_shapes(catalog, layout);
  if (!weights) return fail(std::move(weights.error()));
  Result<std::vector<CatalogEntry>> entries = catalog.list();
  if (!entries) return fail(std::move(entries.error()));
  Result<KnownAdapters> known = catalog.known(root, rules);
  if (!known) return fail(std::move(known.error()));
  Result<std::vector<CatalogSource>> sources = catalog.sources();
  if (!sources) return fail(std::move(sources.error()));
  std::set<std::string_view> scanned_roots;
  for (const CatalogSource& place : *sources) scanned_roots.insert(place.root);
  AdapterBook book;
  book.layout = std::move(layout);
  const auto take = [&](const CatalogEntry& entry, AdapterSource source) {
    const auto bytes = weights->bytes.find(entry.shape_id);
    if (bytes == weights->bytes.end()) {
      book.rejected.push_back(fmt::format("{}: {}", entry.name, weights->refusals[entry.shape_id]));
      return;
    }
    source.id = entry.id.value;
    source.rank = entry.rank;
    source.bytes = bytes->second;
    book.adapters.emplace(entry.name, std::move(source));
  };
  std::map<std::string_view, const KnownAdapter*> scanned;
  for (const KnownAdapter& adapter : known->adapters) scanned.emplace(adapter.name, &adapter);
  for (const CatalogEntry& entry : *entries) {
    if (entry.state != AdapterState::kAvailable) continue;
    AdapterSource source;
    if (const auto found = scanned.find(entry.name); found != scanned.end()) {
      source.directory = root + "/" + entry.name;
      source.config_stat = found->second->stamp.config;
      source.weights_stat = found->second->stamp.weights;
      take(entry, std::move(source));
      continue;
    }
    Result<CatalogRecord> record = catalog.find(entry.name);
    if (!record) return fail(std::move(record.error()));
    const bool is_added = !scanned_roots.contains(record->source) && scheme_of(record->source).empty();
    if (!is_added) continue;
    source.is_scanned = false;
    source.directory = record->facts.directory;
    source.config_stat = record->facts.stamp.config;
    source.weights_stat = record->facts.stamp.weights;
    take(entry, std::move(source));
  }
  return book;
}

}  // namespace loracle
