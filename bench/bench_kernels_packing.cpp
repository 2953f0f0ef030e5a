// Packing of matrices into an image, against memcpy of as many bytes by the same thread in the same run, in
// turn with it. `of_memcpy` is the share of memcpy's bandwidth, both counted as bytes read plus bytes
// written. Checked element by element against the scalar path before a time is taken.
// LORACLE_BENCH_SMALL=1 takes little memory, for a test that it still runs and is right.

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <functional>
#include <string>
#include <vector>

#include "loracle/core/rng.hpp"
#include "loracle/kernels/pack.hpp"

namespace loracle {
namespace {

constexpr std::uint32_t kColumns = 4096;

std::uint32_t rows() { return std::getenv("LORACLE_BENCH_SMALL") != nullptr ? 64 : 8192; }

struct Kind {
  std::string name;
  ElementType from;
  ElementType to;
  float scale;
  bool transposed;
};

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

/// Of this thread: what else runs on the machine is not to count.
double cpu_seconds() {
  std::timespec now{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

double seconds(const std::function<void()>& work) {
  const double begun = cpu_seconds();
  work();
  return cpu_seconds() - begun;
}

void packing(benchmark::State& state, const Kind& kind, CpuPath path) {
  const std::size_t count = std::size_t{rows()} * kColumns;
  std::vector<float> values(count);
  Rng rng(5);
  for (float& value : values) value = static_cast<float>(rng.uniform() * 2 - 1);
  std::vector<std::byte> source(count * bytes_of(kind.from));
  if (is_serving_type(kind.from))
    convert_elements(std::as_bytes(std::span(values)), ElementType::kF32, source, kind.from, 1.0F);
  else
    for (std::byte& byte : source) byte = static_cast<std::byte>(rng.next() & 0xBFU);  // no NaN, no infinity
  std::vector<std::byte> image(count * bytes_of(kind.to));
  std::vector<std::byte> expected(image.size());
  PackMatrix matrix;
  matrix.source = source.data();
  matrix.rows = rows();
  matrix.columns = kColumns;
  matrix.slot_rows = kind.transposed ? kColumns : rows();
  matrix.slot_columns = kind.transposed ? rows() : kColumns;
  matrix.scale = kind.scale;
  matrix.from = kind.from;
  matrix.transposed = kind.transposed;
  matrix.destination = expected.data();
  pack_matrices({&matrix, 1}, kind.to, CpuPath::kScalar);
  matrix.destination = image.data();
  pack_matrices({&matrix, 1}, kind.to, path);
  if (image != expected) return state.SkipWithError("not what the scalar path packs");

  const std::size_t moved = source.size() + image.size();
  std::vector<std::byte> from(moved / 2, std::byte{1});
  std::vector<std::byte> into(moved / 2, std::byte{2});
  std::vector<double> pack_s;
  std::vector<double> copy_s;
  for (auto _ : state) {
    copy_s.push_back(seconds([&] {
      std::memcpy(into.data(), from.data(), from.size());
      benchmark::DoNotOptimize(into.data());
      benchmark::ClobberMemory();
    }));
    pack_s.push_back(seconds([&] {
      pack_matrices({&matrix, 1}, kind.to, path);
      benchmark::ClobberMemory();
    }));
    state.SetIterationTime(pack_s.back());
  }
  state.counters["of_memcpy"] = median(copy_s) / median(pack_s);
  state.counters["memcpy_GB/s"] = static_cast<double>(moved) / median(copy_s) * 1e-9;
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(moved));
}

void add_all() {
  using T = ElementType;
  const Kind kinds[] = {
      {"bf16_to_bf16_scaled", T::kBf16, T::kBf16, 0.5F, false},
      {"f16_to_bf16", T::kF16, T::kBf16, 1, false},
      {"bf16_to_f16", T::kBf16, T::kF16, 1, false},
      {"f16_to_f16_scaled", T::kF16, T::kF16, 0.5F, false},
      {"f32_to_bf16", T::kF32, T::kBf16, 1, false},
      {"f32_to_f16", T::kF32, T::kF16, 1, false},
      {"f8e4m3_to_bf16", T::kF8E4M3, T::kBf16, 1, false},
      {"f8e5m2_to_f16", T::kF8E5M2, T::kF16, 1, false},
      {"bf16_transposed", T::kBf16, T::kBf16, 1, true},
  };
  for (const Kind& kind : kinds)
    for (const CpuPath path : {CpuPath::kPortable, CpuPath::kAvx2, CpuPath::kAvx512})
      if (path <= best_cpu_path())
        benchmark::RegisterBenchmark(("packing/" + kind.name + "/" + std::string(name_of(path))).c_str(),
                                     [kind, path](benchmark::State& state) { packing(state, kind, path); })
            ->UseManualTime()
            ->Unit(benchmark::kMillisecond);
}

}  // namespace
}  // namespace loracle

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  loracle::add_all();
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
