// What a request pays the engine when its adapter is resident: acquire and release, one thread and several,
// against the cost of an uncontended std::mutex in the same run. Checks that every lease names the adapter
// that was asked for. LORACLE_BENCH_SMALL=1 shrinks it, for a test that it still runs and is right.

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "loracle/engine/engine.hpp"
#include "loracle/engine/make_adapters.hpp"
#include "support/temp_dir.hpp"

namespace loracle {
namespace {

bool small() { return std::getenv("LORACLE_BENCH_SMALL") != nullptr; }

/// An engine over 64 tiny adapters, all of them on the device.
class Resident {
 public:
  static constexpr std::uint32_t kAdapters = 64;

  Resident() {
    MakeAdaptersOptions options;
    options.directory = (folder_ / "adapters").string();
    options.names = numbered_adapter_names(kAdapters);
    options.model = *load_model_geometry("tiny");
    EngineConfig config;
    config.directory = options.directory;
    config.max_loras = kAdapters;
    if (!make_adapters(options)) return;
    Result<std::unique_ptr<Engine>> opened =
        Engine::open(config, {&posix_clock(), &posix_files(), workers_.get(), device_.get()});
    if (!opened) return;
    engine = std::move(*opened);
    names = options.names;
    for (const std::string& name : names)
      if (!engine->acquire(name)) engine = nullptr;
  }

  std::vector<std::string> names;

 private:
  testing::TempDir folder_;
  std::unique_ptr<Workers> workers_ = make_thread_workers(2);
  std::unique_ptr<DeviceMemory> device_ = make_host_memory_device();

 public:
  std::unique_ptr<Engine> engine;  // goes first
};

Resident& resident() {
  static Resident scene;
  return scene;
}

void acquire_release(benchmark::State& state) {
  Resident& scene = resident();
  if (scene.engine == nullptr) return state.SkipWithError("the engine did not open");
  std::size_t i = static_cast<std::size_t>(state.thread_index()) * 7;
  std::uint64_t wrong = 0;
  for (auto _ : state) {
    const std::size_t which = i++ % Resident::kAdapters;
    const Result<Lease> lease = scene.engine->acquire(scene.names[which]);
    wrong += !lease || lease->adapters()[0].id != which + 1 ? 1U : 0U;
  }
  if (wrong != 0) state.SkipWithError("a lease names another adapter");
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(acquire_release)->Threads(1)->Threads(2)->Threads(8)->UseRealTime();

/// Medians of many short rounds, which an average over a busy machine hides.
void acquire_release_p50(benchmark::State& state) {
  Resident& scene = resident();
  if (scene.engine == nullptr) return state.SkipWithError("the engine did not open");
  const int rounds = small() ? 3 : 2000;
  constexpr int kInRound = 200;
  std::vector<double> nanoseconds;
  for (auto _ : state) {
    for (int round = 0; round < rounds; ++round) {
      const std::uint64_t begun = posix_clock().now_ns();
      for (int i = 0; i < kInRound; ++i) benchmark::DoNotOptimize(scene.engine->acquire(scene.names[3]));
      nanoseconds.push_back(static_cast<double>(posix_clock().now_ns() - begun) / kInRound);
    }
  }
  std::nth_element(nanoseconds.begin(),
                   nanoseconds.begin() + static_cast<std::ptrdiff_t>(nanoseconds.size() / 2),
                   nanoseconds.end());
  state.counters["p50_ns"] = nanoseconds[nanoseconds.size() / 2];
}
BENCHMARK(acquire_release_p50)->Iterations(1)->Unit(benchmark::kMillisecond);

/// Opening an engine whose catalog says that 500 adapters were resident: until it serves a first request, and
/// until all 500 are back.
void restart_with_a_warm_set(benchmark::State& state) {
  const std::uint32_t count = small() ? 20 : 500;
  const testing::TempDir folder;
  MakeAdaptersOptions options;
  options.directory = (folder / "adapters").string();
  options.names = numbered_adapter_names(count);
  options.model = *load_model_geometry("tiny");
  if (!make_adapters(options)) return state.SkipWithError("no adapters");
  EngineConfig config;
  config.directory = options.directory;
  config.database = (folder / "catalog.sqlite").string();
  config.max_loras = 8;
  config.max_cpu_loras = count;
  const std::unique_ptr<Workers> workers = make_thread_workers(2);
  const auto open = [&](DeviceMemory& device) {
    return Engine::open(config, {&posix_clock(), &posix_files(), workers.get(), &device});
  };
  {
    const std::unique_ptr<DeviceMemory> device = make_host_memory_device();
    const Result<std::unique_ptr<Engine>> engine = open(*device);
    const std::vector<std::string_view> names(options.names.begin(), options.names.end());
    if (!engine || !(*engine)->load_many(names)) return state.SkipWithError("the first engine did not load");
  }
  double first_s = 0;
  double all_s = 0;
  for (auto _ : state) {
    const std::unique_ptr<DeviceMemory> device = make_host_memory_device();
    const std::uint64_t begun = posix_clock().now_ns();
    const Result<std::unique_ptr<Engine>> engine = open(*device);
    if (!engine || !(*engine)->acquire(options.names[count / 2])) return state.SkipWithError("no lease");
    first_s += static_cast<double>(posix_clock().now_ns() - begun) / 1e9;
    while ((*engine)->stats().host.entries < count) std::this_thread::yield();
    all_s += static_cast<double>(posix_clock().now_ns() - begun) / 1e9;
  }
  const auto runs = static_cast<double>(state.iterations());
  state.counters["first_request_ms"] = 1e3 * first_s / runs;
  state.counters["all_back_ms"] = 1e3 * all_s / runs;
}
BENCHMARK(restart_with_a_warm_set)->Iterations(3)->Unit(benchmark::kMillisecond);

void two_uncontended_locks(benchmark::State& state) {
  std::mutex mutex;
  for (auto _ : state) {
    for (int i = 0; i < 2; ++i) {
      mutex.lock();
      benchmark::ClobberMemory();
      mutex.unlock();
    }
  }
}
BENCHMARK(two_uncontended_locks);

}  // namespace
}  // namespace loracle

BENCHMARK_MAIN();
