// bench_kernels_activation [JSON]: an adapter's image from pinned memory into a slot, ready to use, against
// one copy of the same bytes to the device, in turn with it. Llama-3.1-8B, all linear layers, rank 16,
// bfloat16: 448 matrices, 83,886,080 bytes. It needs the kernels, nvcc and a GPU and nothing else, which is
// what bench_tiers_activation.cpp, the same through the engine, cannot do. LORACLE_BENCH_SMALL=1 takes two
// layers. A slot that is wrong gets no time. Exit code: 0, 1 (wrong, or CUDA failed), 77 (no GPU).

#include <cuda_runtime.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "loracle/kernels/device_info.hpp"
#include "loracle/kernels/slot_scatter.hpp"

namespace {

using loracle::ScatterPart;

constexpr std::uint32_t kRank = 16;
constexpr std::uint32_t kElement = 2;  // bytes, of bfloat16
constexpr int kRounds = 21;

void require(int error, const char* what) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "FAILED: %s: %s\n", what, cudaGetErrorString(static_cast<cudaError_t>(error)));
  std::exit(1);
}

struct Shape {
  std::uint32_t in;
  std::uint32_t out;
};
constexpr Shape kModules[] = {{4096, 4096},  {4096, 1024},  {4096, 1024}, {4096, 4096},
                              {4096, 14336}, {4096, 14336}, {14336, 4096}};

/// The parts of a slot at `slot`, and how many bytes the slot and the image have.
struct Plan {
  std::vector<ScatterPart> parts;
  std::uint64_t slot_bytes = 0;
  std::uint64_t image_bytes = 0;
};
Plan plan_at(std::byte* slot, std::uint32_t layers, std::uint32_t max_rank) {
  Plan plan;
  const auto add = [&](std::uint32_t rows, std::uint32_t columns, std::uint32_t slot_rows,
                       std::uint32_t slot_columns) {
    plan.parts.push_back({slot + plan.slot_bytes, plan.image_bytes, rows, columns, slot_rows, slot_columns});
    plan.slot_bytes += std::uint64_t{slot_rows} * slot_columns * kElement;
    plan.image_bytes += std::uint64_t{rows} * columns * kElement;
  };
  for (std::uint32_t layer = 0; layer < layers; ++layer) {
    for (const Shape& shape : kModules) {
      add(kRank, shape.in, max_rank, shape.in);
      add(shape.out, kRank, shape.out, max_rank);
    }
  }
  return plan;
}

std::byte* on_device(std::uint64_t bytes) {
  void* found = nullptr;
  require(cudaMalloc(&found, bytes), "device memory");
  return static_cast<std::byte*>(found);
}
std::byte* pinned(std::uint64_t bytes) {
  void* found = nullptr;
  require(cudaHostAlloc(&found, bytes, cudaHostAllocDefault), "pinned memory");
  return static_cast<std::byte*>(found);
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

/// Seconds until what `work` puts on the stream is done.
template <class Work>
double seconds_of(cudaStream_t stream, const Work& work) {
  const auto begin = std::chrono::steady_clock::now();
  work();
  require(cudaStreamSynchronize(stream), "to wait");
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

/// One object of JSON, or an empty string where the slot is wrong.
std::string measure(std::uint32_t layers, std::uint32_t max_rank) {
  const Plan sizes = plan_at(nullptr, layers, max_rank);
  const std::uint64_t parts_bytes = sizes.parts.size() * sizeof(ScatterPart);
  std::byte* const slot = on_device(sizes.slot_bytes);
  std::byte* const staging = on_device(sizes.image_bytes);
  std::byte* const staged_parts = on_device(parts_bytes);
  std::byte* const image = pinned(sizes.image_bytes);
  std::byte* const parts = pinned(parts_bytes);
  for (std::uint64_t i = 0; i < sizes.image_bytes; ++i) image[i] = static_cast<std::byte>(1 + i * 7 % 251);
  const Plan plan = plan_at(slot, layers, max_rank);
  std::copy_n(reinterpret_cast<const std::byte*>(plan.parts.data()), parts_bytes, parts);
  cudaStream_t stream = nullptr;
  require(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "a stream");
  require(cudaMemset(slot, 0xA5, sizes.slot_bytes), "a slot of another adapter");
  require(cudaDeviceSynchronize(), "a slot of another adapter");

  const auto copy = [&] {
    require(cudaMemcpyAsync(staging, image, sizes.image_bytes, cudaMemcpyHostToDevice, stream), "a copy");
  };
  const auto activate = [&] {
    require(cudaMemcpyAsync(staged_parts, parts, parts_bytes, cudaMemcpyHostToDevice, stream), "the parts");
    copy();
    require(loracle::slot_scatter(reinterpret_cast<const ScatterPart*>(staged_parts),
                                  static_cast<std::uint32_t>(plan.parts.size()), staging, kElement, stream),
            "the scatter");
  };
  std::vector<double> copies;
  std::vector<double> activations;
  for (int round = 0; round <= kRounds; ++round) {
    const double activation = seconds_of(stream, activate);
    const double alone = seconds_of(stream, copy);
    if (round == 0) continue;  // the first loads the kernel
    activations.push_back(activation);
    copies.push_back(alone);
  }

  std::vector<std::byte> expected(sizes.slot_bytes, std::byte{0xA5});
  loracle::slot_scatter_reference(plan_at(expected.data(), layers, max_rank).parts,
                                  {image, sizes.image_bytes}, kElement);
  std::vector<std::byte> found(sizes.slot_bytes);
  require(cudaMemcpy(found.data(), slot, sizes.slot_bytes, cudaMemcpyDeviceToHost), "the slot");
  for (std::byte* block : {slot, staging, staged_parts}) require(cudaFree(block), "to free");
  for (std::byte* block : {image, parts}) require(cudaFreeHost(block), "to free");
  require(cudaStreamDestroy(stream), "the stream");
  if (found != expected) {
    std::fprintf(stderr, "WRONG: the slot of rank %u is not the adapter's\n", max_rank);
    return {};
  }
  char text[400];
  std::snprintf(text, sizeof text,
                "{\"what\": \"activation, %u layers, rank %u of %u\", \"bytes\": %llu, \"copy_us\": %.1f, "
                "\"ready_us\": %.1f, \"ready_over_copy\": %.4f, \"copy_bytes_per_s\": %.4g}",
                layers, kRank, max_rank, static_cast<unsigned long long>(sizes.image_bytes),
                median(copies) * 1e6, median(activations) * 1e6, median(activations) / median(copies),
                static_cast<double>(sizes.image_bytes) / median(copies));
  return text;
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<loracle::DeviceInfo> devices;
  if (const cudaError_t error = loracle::list_devices(devices); error != cudaSuccess) {
    if (!loracle::means_no_device(error)) require(error, "to list the devices");
    std::printf("SKIPPED: no CUDA device: %s\n", cudaGetErrorString(error));
    return 77;
  }
  const std::uint32_t layers = std::getenv("LORACLE_BENCH_SMALL") != nullptr ? 2 : 32;
  std::string all;
  for (const std::uint32_t max_rank : {16U, 64U}) {
    const std::string one = measure(layers, max_rank);
    if (one.empty()) return 1;
    std::printf("%s\n", one.c_str());
    all += (all.empty() ? "[" : ",\n ") + one;
  }
  all += "]\n";
  if (argc < 2) return 0;
  std::FILE* const file = std::fopen(argv[1], "w");
  const bool written = file != nullptr && std::fputs(all.c_str(), file) >= 0;
  if (file == nullptr || std::fclose(file) != 0 || !written) {
    std::fprintf(stderr, "FAILED: %s cannot be written\n", argv[1]);
    return 1;
  }
  return 0;
}
