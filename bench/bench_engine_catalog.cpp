// The list of a catalog of 100,000 adapters, in a file: what the engine reads when it opens, and an operator
// who asks what there is. LORACLE_BENCH_SMALL=1 takes 1,000.

#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <cstdint>
#include <cstdlib>

#include "loracle/engine/catalog.hpp"
#include "loracle/engine/discovery.hpp"
#include "support/temp_dir.hpp"

namespace loracle {
namespace {

constexpr std::int64_t kNow = 1'700'000'000;

ScanResult made_up_scan(std::uint32_t count) {
  ScanResult scan;
  scan.root = "/srv/adapters";
  scan.now_unix_s = kNow;
  scan.shapes.push_back({"shape", {{"model.layers.0.self_attn.q_proj", 64, 64, 8}}});
  for (std::uint32_t i = 0; i < count; ++i) {
    ScannedAdapter adapter;
    adapter.name = fmt::format("adapter-{:06}", i);
    adapter.facts.directory = scan.root + "/" + adapter.name;
    adapter.facts.weights_path = adapter.facts.directory + "/adapter_model.safetensors";
    adapter.facts.rank = 8;
    adapter.facts.alpha = 16;
    adapter.facts.base_model = "a/model";
    adapter.facts.target_modules = {"q_proj"};
    adapter.facts.element_count = 1024;
    adapter.facts.stamp.taken_unix_s = kNow;
    scan.found.push_back(std::move(adapter));
  }
  return scan;
}

void list_catalog(benchmark::State& state) {
  const std::uint32_t count = std::getenv("LORACLE_BENCH_SMALL") != nullptr ? 1'000 : 100'000;
  const testing::TempDir folder;
  Result<Catalog> catalog = Catalog::open({(folder / "catalog.sqlite").string(), CatalogKind::kStorage});
  if (!catalog) return state.SkipWithError(catalog.error().message.c_str());
  if (const auto applied = catalog->apply(made_up_scan(count)); !applied)
    return state.SkipWithError(applied.error().message.c_str());
  for (auto _ : state) {
    const Result<std::vector<CatalogEntry>> entries = catalog->list();
    if (!entries || entries->size() != count) return state.SkipWithError("not all are listed");
  }
  state.SetItemsProcessed(state.iterations() * std::int64_t{count});
}
BENCHMARK(list_catalog)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace loracle

BENCHMARK_MAIN();
