#pragma once
/// What the GPU programs of this folder share: verdicts, device memory, and the answer where there is no
/// device.

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "loracle/kernels/device_info.hpp"

namespace loracle::testing {

constexpr int kSkipped = 77;  // the exit code that ctest shows as Skipped
inline int failures = 0;

inline void expect(bool condition, const std::string& what) {
  if (condition) return;
  std::printf("FAILED: %s\n", what.c_str());
  ++failures;
}

/// For what is not under test: there is no going on after it.
inline void require(int error, const std::string& what) {
  if (error == cudaSuccess) return;
  std::printf("FAILED: %s: %s\n", what.c_str(), cudaGetErrorString(static_cast<cudaError_t>(error)));
  std::exit(1);
}

/// Ends the program where there is no device, saying how many cases that leaves out.
inline void require_device(std::size_t cases) {
  std::vector<DeviceInfo> devices;
  const cudaError_t error = list_devices(devices);
  if (error == cudaSuccess) return;
  if (!means_no_device(error)) require(error, "to list the devices");
  std::printf("SKIPPED: %zu cases: no CUDA device: %s\n", cases, cudaGetErrorString(error));
  std::exit(kSkipped);
}

/// An array on the device: a copy of one here, `shift` elements after an aligned address.
template <class T>
class OnDevice {
 public:
  explicit OnDevice(const std::vector<T>& from, std::size_t shift = 0) : count_(from.size()), shift_(shift) {
    require(cudaMalloc(&block_, (count_ + shift_ + 1) * sizeof(T)), "cudaMalloc");
    write(from);
  }
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;
  ~OnDevice() { static_cast<void>(cudaFree(block_)); }
  [[nodiscard]] T* data() const { return static_cast<T*>(block_) + shift_; }
  /// Other content of the same length, at the same address.
  void write(const std::vector<T>& from) const {
    expect(from.size() == count_, "an array is replaced by one of its length");
    if (count_ != 0)
      require(cudaMemcpy(data(), from.data(), count_ * sizeof(T), cudaMemcpyHostToDevice), "to the device");
    require(cudaDeviceSynchronize(), "a copy to the device");
  }
  [[nodiscard]] std::vector<T> read() const {
    std::vector<T> found(count_);
    if (count_ != 0)
      require(cudaMemcpy(found.data(), data(), count_ * sizeof(T), cudaMemcpyDeviceToHost),
              "from the device");
    return found;
  }

 private:
  void* block_ = nullptr;
  std::size_t count_ = 0;
  std::size_t shift_ = 0;
};

class Stream {
 public:
  Stream() { require(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "a stream"); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  ~Stream() { static_cast<void>(cudaStreamDestroy(stream_)); }
  [[nodiscard]] cudaStream_t get() const { return stream_; }
  void finish(const std::string& what) const { require(cudaStreamSynchronize(stream_), what); }

 private:
  cudaStream_t stream_ = nullptr;
};

/// Captures what `launch(stream)` puts on the stream as a graph, runs `change()`, which may put other content
/// into the arrays, and replays the graph.
template <class Launch, class Change>
void replay_after(const Stream& stream, const Launch& launch, const Change& change) {
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t ready = nullptr;
  require(cudaStreamBeginCapture(stream.get(), cudaStreamCaptureModeGlobal), "to begin a capture");
  launch(stream.get());
  require(cudaStreamEndCapture(stream.get(), &graph), "to end a capture");
  require(cudaGraphInstantiate(&ready, graph, 0), "to instantiate the graph");
  change();
  require(cudaGraphLaunch(ready, stream.get()), "to replay the graph");
  stream.finish("the replay");
  require(cudaGraphExecDestroy(ready), "the graph");
  require(cudaGraphDestroy(graph), "the graph");
}

/// The program's last line and exit code.
inline int verdict(int checked) {
  require(cudaGetLastError(), "no error is left behind");
  if (failures == 0) std::printf("ok: %d checks\n", checked);
  return failures == 0 ? 0 : 1;
}

}  // namespace loracle::testing
