// Activation: an adapter's image from host memory into a slot. Its time is compared, in turn with it, with
// one copy of the same bytes to the same place (the least there is to do) and with a copy for each matrix
// (what is done without an image; nothing is zeroed in that form). Llama-3.1-8B, all linear layers, rank 16,
// bf16: 224 modules, 448 matrices, 83,886,080 bytes. On host memory always, on a GPU where there is one.
// LORACLE_BENCH_SMALL=1 takes a toy model, for a test that it still runs and is right.

#include <benchmark/benchmark.h>
#ifdef LORACLE_HAVE_CUDA
#include <cuda_runtime_api.h>
#endif

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "loracle/core/check.hpp"
#include "loracle/core/rng.hpp"
#include "loracle/engine/device.hpp"
#include "loracle/sim/model_geometry.hpp"

namespace loracle {
namespace {

constexpr std::uint32_t kRank = 16;
constexpr std::uint32_t kElement = 2;  // bytes, of bf16

bool small() { return std::getenv("LORACLE_BENCH_SMALL") != nullptr; }

/// Plain copies to where a device's slots are.
class Copies {
 public:
  virtual ~Copies() = default;
  /// Memory of the slots' kind.
  [[nodiscard]] virtual std::byte* scratch(DeviceMemory& device, std::uint64_t bytes) = 0;
  /// `rows` rows of `row_bytes` that lie `to_pitch` apart at `to` and follow each other at `from`.
  virtual void copy(std::byte* to, std::uint64_t to_pitch, const std::byte* from, std::uint64_t row_bytes,
                    std::uint64_t rows) = 0;
  /// Returns when all copies are done; false if one failed.
  [[nodiscard]] virtual bool finish() = 0;
};

class HostCopies final : public Copies {
 public:
  [[nodiscard]] std::byte* scratch(DeviceMemory& device, std::uint64_t bytes) override {
    return device.allocate_host(bytes)->data();
  }
  void copy(std::byte* to, std::uint64_t to_pitch, const std::byte* from, std::uint64_t row_bytes,
            std::uint64_t rows) override {
    if (to_pitch == row_bytes) {
      std::memcpy(to, from, row_bytes * rows);
      return;
    }
    for (; rows > 0; --rows, to += to_pitch, from += row_bytes) std::memcpy(to, from, row_bytes);
  }
  [[nodiscard]] bool finish() override { return true; }
};

#ifdef LORACLE_HAVE_CUDA
class CudaCopies final : public Copies {
 public:
  CudaCopies() { LORACLE_CHECK(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking) == cudaSuccess); }
  CudaCopies(const CudaCopies&) = delete;
  CudaCopies& operator=(const CudaCopies&) = delete;
  ~CudaCopies() override {
    static_cast<void>(cudaFree(scratch_));
    static_cast<void>(cudaStreamDestroy(stream_));
  }
  [[nodiscard]] std::byte* scratch(DeviceMemory&, std::uint64_t bytes) override {
    LORACLE_CHECK(scratch_ == nullptr);
    LORACLE_CHECK(cudaMalloc(&scratch_, bytes) == cudaSuccess);
    return static_cast<std::byte*>(scratch_);
  }
  void copy(std::byte* to, std::uint64_t to_pitch, const std::byte* from, std::uint64_t row_bytes,
            std::uint64_t rows) override {
    const cudaError_t error =
        to_pitch == row_bytes ? cudaMemcpyAsync(to, from, row_bytes * rows, cudaMemcpyHostToDevice, stream_)
                              : cudaMemcpy2DAsync(to, to_pitch, from, row_bytes, row_bytes, rows,
                                                  cudaMemcpyHostToDevice, stream_);
    good_ = good_ && error == cudaSuccess;
  }
  [[nodiscard]] bool finish() override { return cudaStreamSynchronize(stream_) == cudaSuccess && good_; }

 private:
  cudaStream_t stream_ = nullptr;
  void* scratch_ = nullptr;
  bool good_ = true;
};
#endif

/// A kind of memory the slots can be in.
struct Kind {
  std::string name;
  std::function<std::unique_ptr<DeviceMemory>()> device;
  std::function<std::unique_ptr<Copies>()> copies;
};

SlotLayout model_layout(std::uint32_t max_rank) {
  const Result<ModelGeometry> model = known_model(small() ? "tiny" : "llama-3.1-8b");
  LORACLE_CHECK(model.has_value());
  const Result<std::vector<LinearModule>> modules = target_modules(*model, "all-linear");
  LORACLE_CHECK(modules.has_value());
  SlotLayout layout;
  layout.max_rank = max_rank;
  layout.dtype = Dtype::kBf16;
  for (std::uint32_t layer = 0; layer < model->layers; ++layer)
    for (const LinearModule& module : *modules)
      layout.slices.push_back({"model.layers." + std::to_string(layer) + "." + module.name,
                               static_cast<std::uint32_t>(module.d_in),
                               static_cast<std::uint32_t>(module.d_out)});
  return layout;
}

ImageManifest whole_manifest(const SlotLayout& layout) {
  ImageManifest manifest;
  for (std::uint32_t slice = 0; slice < layout.slices.size(); ++slice) {
    const SlotSlice& shape = layout.slices[slice];
    ImageTensor tensor;
    tensor.slice = slice;
    tensor.rank = kRank;
    tensor.a_offset = manifest.elements;
    tensor.b_offset = tensor.a_offset + std::uint64_t{kRank} * shape.in;
    manifest.elements = tensor.b_offset + std::uint64_t{kRank} * shape.out;
    manifest.tensors.push_back(tensor);
  }
  return manifest;
}

/// Two images on their way into four slots: written into the first two, copied by matrix into the others.
class Scene {
 public:
  static constexpr std::uint32_t kSlots = 4;

  Scene(const Kind& kind, std::uint32_t max_rank)
      : layout_(model_layout(max_rank)),
        manifest_(whole_manifest(layout_)),
        device_(kind.device()),
        copies_(kind.copies()) {
    LORACLE_CHECK(device_->allocate(layout_, kSlots).has_value());
    scratch_ = copies_->scratch(*device_, image_bytes());
    for (std::span<std::byte>& image : images_) {
      image = *device_->allocate_host(image_bytes());
      for (std::byte& byte : image) byte = static_cast<std::byte>(1 + rng_.below(255));
    }
  }

  [[nodiscard]] std::uint64_t image_bytes() const { return manifest_.elements * kElement; }
  [[nodiscard]] std::size_t matrices() const { return 2 * manifest_.tensors.size(); }

  [[nodiscard]] bool write(std::size_t i) {
    return device_->write_slot(static_cast<std::uint32_t>(i), manifest_, images_[i]).has_value();
  }
  [[nodiscard]] bool copy_whole(std::size_t i) {
    copies_->copy(scratch_, image_bytes(), images_[i].data(), image_bytes(), 1);
    return copies_->finish();
  }
  [[nodiscard]] bool copy_matrices(std::size_t i) {
    const std::uint64_t slot = 2 + i;
    const std::uint64_t slot_row = std::uint64_t{layout_.max_rank} * kElement;  // of B
    for (const ImageTensor& tensor : manifest_.tensors) {
      const SlotSlice& shape = layout_.slices[tensor.slice];
      const std::uint64_t a_row = std::uint64_t{shape.in} * kElement;
      copies_->copy(device_->buffer(tensor.slice, SlotSide::kA) + slot * layout_.max_rank * a_row, a_row,
                    images_[i].data() + tensor.a_offset * kElement, a_row, kRank);
      copies_->copy(device_->buffer(tensor.slice, SlotSide::kB) + slot * shape.out * slot_row, slot_row,
                    images_[i].data() + tensor.b_offset * kElement, std::uint64_t{kRank} * kElement,
                    shape.out);
    }
    return copies_->finish();
  }

  /// Whether every slot holds its image and zeroes beside it.
  [[nodiscard]] bool right() {
    for (std::uint32_t slot = 0; slot < kSlots; ++slot)
      for (const ImageTensor& tensor : manifest_.tensors)
        if (!right(slot, tensor)) return false;
    return true;
  }

 private:
  [[nodiscard]] bool right(std::uint32_t slot, const ImageTensor& tensor) {
    const SlotSlice& shape = layout_.slices[tensor.slice];
    const std::byte* const image = images_[slot % 2].data();
    std::vector<std::byte> a(std::size_t{layout_.max_rank} * shape.in * kElement);
    std::vector<std::byte> b(std::size_t{layout_.max_rank} * shape.out * kElement);
    if (!device_->read_slot(slot, tensor.slice, SlotSide::kA, a)) return false;
    if (!device_->read_slot(slot, tensor.slice, SlotSide::kB, b)) return false;
    std::vector<std::byte> a_expected(a.size());
    std::vector<std::byte> b_expected(b.size());
    std::memcpy(a_expected.data(), image + tensor.a_offset * kElement,
                std::size_t{kRank} * shape.in * kElement);
    for (std::size_t row = 0; row < shape.out; ++row)
      std::memcpy(b_expected.data() + row * layout_.max_rank * kElement,
                  image + (tensor.b_offset + row * kRank) * kElement, std::size_t{kRank} * kElement);
    return a == a_expected && b == b_expected;
  }

  SlotLayout layout_;
  ImageManifest manifest_;
  std::unique_ptr<DeviceMemory> device_;
  std::unique_ptr<Copies> copies_;
  std::byte* scratch_ = nullptr;
  std::array<std::span<std::byte>, 2> images_;
  Rng rng_{1};
};

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2),
                   values.end());
  return values[values.size() / 2];
}

void activation(benchmark::State& state, const Kind& kind) {
  Scene scene(kind, static_cast<std::uint32_t>(state.range(0)));
  const std::array<std::function<bool(std::size_t)>, 3> ways = {
      [&](std::size_t i) { return scene.write(i); }, [&](std::size_t i) { return scene.copy_whole(i); },
      [&](std::size_t i) { return scene.copy_matrices(i); }};
  std::array<std::vector<double>, 3> seconds;
  bool good = true;
  for (std::size_t i = 0; i < 2; ++i)  // memory is touched for the first time, off the clock
    for (const auto& way : ways) good = way(i) && good;
  std::size_t round = 0;
  for (auto _ : state) {
    for (std::size_t turn = 0; turn < ways.size(); ++turn) {
      const std::size_t way = (turn + round) % ways.size();
      const auto begun = std::chrono::steady_clock::now();
      good = ways[way](round % 2) && good;
      seconds[way].push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count());
    }
    state.SetIterationTime(seconds[0].back());
    ++round;
  }
  if (!good) return state.SkipWithError("a copy failed");
  if (!scene.right()) return state.SkipWithError("a slot does not hold its adapter");
  const double write = median(seconds[0]);
  state.counters["write_ms"] = write * 1e3;
  state.counters["one_copy_ms"] = median(seconds[1]) * 1e3;
  state.counters["by_matrix_ms"] = median(seconds[2]) * 1e3;
  state.counters["of_one_copy"] = write / median(seconds[1]);
  state.counters["of_by_matrix"] = write / median(seconds[2]);
  state.counters["GB/s"] = static_cast<double>(scene.image_bytes()) / write * 1e-9;
  state.counters["matrices"] = static_cast<double>(scene.matrices());
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(scene.image_bytes()));
}

void add(const Kind& kind) {
  benchmark::RegisterBenchmark(("activation/" + kind.name).c_str(),
                               [kind](benchmark::State& state) { activation(state, kind); })
      ->ArgName("max_rank")
      ->Arg(16)
      ->Arg(64)
      ->UseManualTime()
      ->Unit(benchmark::kMillisecond);
}

void add_all() {
  add({"host", &make_host_memory_device, [] { return std::make_unique<HostCopies>(); }});
  if (const auto cuda = make_cuda_device(0); !cuda) {
    std::fprintf(stderr, "SKIPPED: activation on a GPU: %s\n", cuda.error().message.c_str());
    return;
  }
#ifdef LORACLE_HAVE_CUDA
  add({"cuda", [] { return std::move(*make_cuda_device(0)); },
       [] { return std::make_unique<CudaCopies>(); }});
#endif
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
