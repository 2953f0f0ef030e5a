#include "loracle/engine/adapter_weights.hpp"

#include <algorithm>
#include <utility>

#include "loracle/engine/catalog.hpp"
#include "loracle/engine/discovery.hpp"
#include "serving/adapter_book.hpp"

namespace loracle {
namespace {

template <class T>
std::vector<T> owned(const Column<T>& column, std::size_t rows) {
  std::vector<T> values(column.view().begin(), column.view().end());
  values.resize(rows, 0);
  return values;
}

}  // namespace

Result<AdapterWeights> weigh_adapters(Files& files, const std::string& directory, Dtype dtype) {
  CatalogOptions options;
  options.path = ":memory:";
  options.kind = CatalogKind::kStorage;
  Result<Catalog> catalog = Catalog::open(options);
  if (!catalog) return fail(std::move(catalog.error()));
  ScanOptions scanning;
  scanning.root = directory;
  scanning.threads = 0;
  Result<ScanResult> found = scan(files, scanning);
  if (!found) return fail(std::move(found.error()));
  Result<ApplyOutcome> applied = catalog->apply(*found);
  if (!applied) return fail(std::move(applied.error()));
  Result<SlotLayout> layout = layout_of(*catalog, {}, {}, 0, dtype);
  if (!layout) return fail(std::move(layout.error()));
  Result<AdapterBook> book = open_book(*catalog, found->root, AdapterRules{}, std::move(*layout));
  if (!book) return fail(std::move(book.error()));

  AdapterWeights weights;
  weights.layout = std::move(book->layout);
  weights.rejected = std::move(book->rejected);
  for (const Rejection& rejection : applied->rejected)
    weights.rejected.push_back(rejection.name + ": " + rejection.reason);
  std::sort(weights.rejected.begin(), weights.rejected.end());
  for (const auto& [name, source] : book->adapters)
    weights.adapters.emplace(name, AdapterWeight{source.bytes, source.rank});
  return weights;
}

std::uint64_t add_weights(Trace& trace, const AdapterWeights& weights) {
  const std::size_t rows = trace.adapters.name.size();
  std::vector<std::uint64_t> bytes = owned(trace.adapters.bytes, rows);
  std::vector<std::uint16_t> rank = owned(trace.adapters.rank, rows);
  std::uint64_t matched = 0;
  for (std::size_t row = 0; row < rows; ++row) {
    const auto weight = weights.adapters.find(trace.adapters.name[row]);
    if (weight == weights.adapters.end()) continue;
    bytes[row] = weight->second.bytes;
    rank[row] = static_cast<std::uint16_t>(weight->second.rank);
    ++matched;
  }
  trace.adapters.bytes = Column<std::uint64_t>(std::move(bytes));
  trace.adapters.rank = Column<std::uint16_t>(std::move(rank));
  return matched;
}

}  // namespace loracle
