// Cold loads from the page cache into host images, against memcpy of the same bytes by the same thread in the
// same run: an adapter of Llama-3.1-8B, rank 16, all linear layers, 84 MB as bfloat16; the same stored as
// float32; four at once on two threads, and four memcpys likewise. Checks the last bytes of each image
// against the file's.
// LORACLE_BENCH_SMALL=1 uses the toy model, for a test that it still runs and is right.

#include <benchmark/benchmark.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "loracle/engine/adapter_files.hpp"
#include "loracle/engine/image.hpp"
#include "loracle/engine/make_adapters.hpp"
#include "support/temp_dir.hpp"

namespace loracle {
namespace {

bool small() { return std::getenv("LORACLE_BENCH_SMALL") != nullptr; }

/// Adapters of one stored dtype, inspected and planned, and memory for their images.
struct Adapters {
  explicit Adapters(Dtype stored) {
    MakeAdaptersOptions options;
    options.directory = (folder / "adapters").string();
    options.names = numbered_adapter_names(4);
    options.ranks = {16};
    options.model = *load_model_geometry(small() ? "tiny" : "llama-3.1-8b");
    options.dtype = stored;
    if (!make_adapters(options)) return;
    for (const std::string& name : options.names) {
      Result<AdapterFiles> found = inspect_adapter(posix_files(), options.directory + "/" + name, {});
      if (!found) return;
      files.push_back(std::move(*found));
    }
    const AdapterFiles* const first[] = {&files[0]};
    Result<SlotLayout> made = layout_for(first, 16, Dtype::kBf16);
    if (!made) return;
    layout = std::move(*made);
    for (const AdapterFiles& adapter : files) {
      Result<ImageManifest> plan = plan_image(adapter, layout);
      if (!plan) return;
      manifests.push_back(std::move(*plan));
      images.emplace_back(manifests.back().elements * bytes_of(layout.dtype), std::byte{1});
    }
    good = true;
  }
  [[nodiscard]] bool load(std::size_t i) {
    return load_image(posix_files(), files[i], layout, manifests[i], images[i]).has_value();
  }

  testing::TempDir folder;
  std::vector<AdapterFiles> files;
  SlotLayout layout;
  std::vector<ImageManifest> manifests;
  std::vector<std::vector<std::byte>> images;
  bool good = false;
};

Adapters& adapters(Dtype stored) {
  static Adapters as_bf16(Dtype::kBf16);
  static Adapters as_f32(Dtype::kF32);
  return stored == Dtype::kBf16 ? as_bf16 : as_f32;
}

void memcpy_same_bytes(benchmark::State& state) {
  Adapters& all = adapters(Dtype::kBf16);
  if (!all.good) return state.SkipWithError("no adapters");
  for (auto _ : state) {
    std::memcpy(all.images[1].data(), all.images[0].data(), all.images[0].size());
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(all.images[0].size()));
}
BENCHMARK(memcpy_same_bytes)->Unit(benchmark::kMillisecond);

void load_one(benchmark::State& state, Dtype stored) {
  Adapters& all = adapters(stored);
  if (!all.good || !all.load(0)) return state.SkipWithError("no adapters");
  for (auto _ : state)
    if (!all.load(0)) return state.SkipWithError("a load failed");
  const std::vector<std::byte> once = all.images[0];
  static_cast<void>(all.load(0));
  if (once != all.images[0]) state.SkipWithError("two loads differ");
  state.SetBytesProcessed(state.iterations() *
                          static_cast<std::int64_t>(all.files[0].element_count * bytes_of(stored)));
}
BENCHMARK_CAPTURE(load_one, bf16_to_bf16, Dtype::kBf16)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(load_one, f32_to_bf16, Dtype::kF32)->Unit(benchmark::kMillisecond);

/// All four adapters, dealt out to `threads` threads that each call work(i).
template <class Work>
void on_threads(std::size_t threads, const Work& work) {
  std::vector<std::thread> workers;
  for (std::size_t t = 0; t < threads; ++t) {
    workers.emplace_back([&work, t, threads] {
      for (std::size_t i = t; i < 4; i += threads) work(i);
    });
  }
  for (std::thread& worker : workers) worker.join();
}

void load_four(benchmark::State& state) {
  Adapters& all = adapters(Dtype::kBf16);
  if (!all.good) return state.SkipWithError("no adapters");
  for (auto _ : state)
    on_threads(static_cast<std::size_t>(state.range(0)),
               [&all](std::size_t i) { static_cast<void>(all.load(i)); });
  state.SetBytesProcessed(state.iterations() * 4 * static_cast<std::int64_t>(all.images[0].size()));
}
BENCHMARK(load_four)->Arg(1)->Arg(2)->Unit(benchmark::kMillisecond)->UseRealTime();

/// How far this machine's memory lets two threads outrun one: the ceiling of load_four's own ratio.
void memcpy_four(benchmark::State& state) {
  Adapters& all = adapters(Dtype::kBf16);
  if (!all.good) return state.SkipWithError("no adapters");
  const std::vector<std::vector<std::byte>> sources = all.images;
  for (auto _ : state) {
    on_threads(static_cast<std::size_t>(state.range(0)), [&](std::size_t i) {
      std::memcpy(all.images[i].data(), sources[i].data(), sources[i].size());
    });
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(state.iterations() * 4 * static_cast<std::int64_t>(all.images[0].size()));
}
BENCHMARK(memcpy_four)->Arg(1)->Arg(2)->Unit(benchmark::kMillisecond)->UseRealTime();

}  // namespace
}  // namespace loracle

BENCHMARK_MAIN();
