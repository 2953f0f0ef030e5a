#include "fake_cuda.hpp"

#include <cudaTypedefs.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <mutex>
#include <span>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "loracle/kernels/device_info.hpp"
#include "loracle/kernels/slot_scatter.hpp"

namespace {
std::atomic<bool> paused{false};
std::atomic<const void*> not_paused{nullptr};
std::atomic<std::int64_t> pending{0};
std::atomic<std::uint64_t> events_recorded{0};
}  // namespace

// What cuda_runtime_api.h leaves undefined is ours to define.
struct CUstream_st {
 public:
  CUstream_st() : worker_([this] { work(); }) {}
  ~CUstream_st() {
    push(nullptr);
    worker_.join();
  }
  CUstream_st(const CUstream_st&) = delete;
  CUstream_st& operator=(const CUstream_st&) = delete;

  void push(std::function<void()> task) {
    const std::lock_guard lock(mutex_);
    tasks_.push_back(std::move(task));
    changed_.notify_all();
  }
  /// What touches memory: it counts as pending until it is done.
  void push_work(std::function<void()> work) {
    ++pending;
    push([work = std::move(work)] {
      work();
      --pending;
    });
  }
  void synchronize() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return tasks_.empty(); });
  }

 private:
  void work() {
    std::unique_lock lock(mutex_);
    for (;;) {
      changed_.wait(lock, [this] { return !tasks_.empty(); });
      if (!tasks_.front()) return;
      lock.unlock();
      do {  // nothing is done before its caller goes on
        std::this_thread::sleep_for(std::chrono::microseconds(50));
      } while (paused && not_paused != this);
      tasks_.front()();  // only this thread takes from the front
      lock.lock();
      tasks_.pop_front();
      changed_.notify_all();
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> tasks_;  // the first is being done
  std::thread worker_;
};

struct CUevent_st {
  void record_on(CUstream_st& stream) {
    std::uint64_t turn = 0;
    {
      const std::lock_guard lock(mutex_);
      turn = ++recorded_;
    }
    stream.push([this, turn] {
      const std::lock_guard lock(mutex_);
      done_ = turn;
      changed_.notify_all();
    });
  }
  [[nodiscard]] std::uint64_t recorded() {
    const std::lock_guard lock(mutex_);
    return recorded_;
  }
  void wait_for(std::uint64_t turn) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this, turn] { return done_ >= turn; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::uint64_t recorded_ = 0;
  std::uint64_t done_ = 0;
};

namespace loracle::testing {
namespace {

constexpr int kDevices = 2;
constexpr std::size_t kMemoryMax = std::size_t{1} << 34U;  // of one block

std::atomic<std::uint64_t> calls_to_go{0};
std::atomic<bool> has_failed{false};
std::atomic<std::int64_t> live{0};
std::array<std::atomic<bool>, kDevices> contexts{};
thread_local int current = 0;
thread_local cudaError_t last_error = cudaSuccess;
thread_local cudaStreamCaptureMode capture_mode = cudaStreamCaptureModeGlobal;
std::atomic<std::uint64_t> unsafe_calls{0};

cudaError_t answer(cudaError_t error) noexcept {
  if (error != cudaSuccess) last_error = error;
  return error;
}

/// Every call that may fail begins with this.
cudaError_t begin(cudaError_t failure = cudaErrorUnknown) noexcept {
  std::uint64_t left = calls_to_go.load();
  while (left != 0 && !calls_to_go.compare_exchange_weak(left, left - 1)) {
  }
  if (left != 1) return cudaSuccess;
  has_failed = true;
  return answer(failure);
}

/// For calls that need a context on the current device.
cudaError_t begin_in_context(cudaError_t failure = cudaErrorUnknown) noexcept {
  contexts[static_cast<std::size_t>(current)] = true;
  if (capture_mode != cudaStreamCaptureModeRelaxed) ++unsafe_calls;
  return begin(failure);
}

cudaError_t allocate(void** into, std::size_t bytes) noexcept {
  if (const cudaError_t error = begin_in_context(cudaErrorMemoryAllocation); error != cudaSuccess)
    return error;
  if (bytes > kMemoryMax) return answer(cudaErrorMemoryAllocation);
  *into = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
  std::memset(*into, 0xA5, bytes);  // fresh memory is not zero
  ++live;
  return cudaSuccess;
}

cudaError_t release(void* pointer) noexcept {
  if (capture_mode != cudaStreamCaptureModeRelaxed) ++unsafe_calls;
  if (pointer != nullptr) --live;
  std::free(pointer);
  return cudaSuccess;
}

CUresult context_state(CUdevice device, unsigned* flags, int* active) {
  *flags = 0;
  *active = contexts[static_cast<std::size_t>(device)] ? 1 : 0;
  return CUDA_SUCCESS;
}

}  // namespace

void fake_cuda_fail_call(std::uint64_t n) noexcept {
  has_failed = false;
  calls_to_go = n;
}
bool fake_cuda_has_failed() noexcept { return has_failed; }
void fake_cuda_pause_all_but(const void* stream) noexcept {
  not_paused = stream;
  paused = true;
}
void fake_cuda_go_on() noexcept { paused = false; }
std::int64_t fake_cuda_pending() noexcept { return pending; }
std::uint64_t fake_cuda_events_recorded() noexcept { return events_recorded; }
std::int64_t fake_cuda_live() noexcept { return live; }
bool fake_cuda_has_context(int device) noexcept { return contexts[static_cast<std::size_t>(device)]; }
void fake_cuda_forget_contexts() noexcept {
  for (std::atomic<bool>& context : contexts) context = false;
  current = 0;
}
std::uint64_t fake_cuda_calls_unsafe_in_captures() noexcept { return unsafe_calls; }
int fake_cuda_current() noexcept { return current; }
void fake_cuda_use(int device) noexcept {
  current = device;
  contexts[static_cast<std::size_t>(device)] = true;
}

}  // namespace loracle::testing

using namespace loracle::testing;  // NOLINT: the calls below are C's

extern "C" {

cudaError_t cudaGetLastError() { return std::exchange(last_error, cudaSuccess); }
const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaErrorMemoryAllocation ? "out of memory" : "unknown error";
}
const char* cudaGetErrorName(cudaError_t error) {
  return error == cudaErrorMemoryAllocation ? "cudaErrorMemoryAllocation" : "cudaErrorUnknown";
}
cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* mode) {  // it never fails
  std::swap(*mode, capture_mode);
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int* device) {
  *device = current;
  return begin();
}
cudaError_t cudaSetDevice(int device) {
  if (const cudaError_t error = begin(); error != cudaSuccess) return error;
  current = device;
  contexts[static_cast<std::size_t>(device)] = true;
  return cudaSuccess;
}
cudaError_t cudaGetDriverEntryPointByVersion(const char* symbol, void** found, unsigned, unsigned long long,
                                             cudaDriverEntryPointQueryResult* answer) {
  if (const cudaError_t error = begin(); error != cudaSuccess) return error;
  const bool known = std::string_view(symbol) == "cuDevicePrimaryCtxGetState";
  *found = known ? reinterpret_cast<void*>(&context_state) : nullptr;
  *answer = known ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
  return cudaSuccess;
}
cudaError_t cudaMalloc(void** into, std::size_t bytes) { return allocate(into, bytes); }
cudaError_t cudaFree(void* pointer) { return release(pointer); }
cudaError_t cudaHostAlloc(void** into, std::size_t bytes, unsigned) { return allocate(into, bytes); }
cudaError_t cudaFreeHost(void* pointer) { return release(pointer); }
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  if (const cudaError_t error = begin_in_context(); error != cudaSuccess) return error;
  *stream = new CUstream_st;
  ++live;
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  delete stream;
  --live;
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  if (const cudaError_t error = begin_in_context(); error != cudaSuccess) return error;
  if (stream != nullptr) stream->synchronize();
  return cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  if (const cudaError_t error = begin_in_context(); error != cudaSuccess) return error;
  const std::uint64_t turn = event->recorded();
  if (stream != nullptr) stream->push([event, turn] { event->wait_for(turn); });
  return cudaSuccess;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  if (const cudaError_t error = begin_in_context(); error != cudaSuccess) return error;
  *event = new CUevent_st;
  ++live;
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  --live;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  if (const cudaError_t error = begin_in_context(); error != cudaSuccess) return error;
  event->record_on(*stream);
  ++events_recorded;
  return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  if (const cudaError_t error = begin_in_context(); error != cudaSuccess) return error;
  event->wait_for(event->recorded());
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind,
                            cudaStream_t stream) {
  if (const cudaError_t error = begin_in_context(); error != cudaSuccess) return error;
  stream->push_work([to, from, bytes] { std::memcpy(to, from, bytes); });
  return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* to, int value, std::size_t bytes, cudaStream_t stream) {
  if (const cudaError_t error = begin_in_context(); error != cudaSuccess) return error;
  stream->push_work([to, value, bytes] { std::memset(to, value, bytes); });
  return cudaSuccess;
}

}  // extern "C"

namespace loracle {

cudaError_t list_devices(std::vector<DeviceInfo>& devices) noexcept {
  devices.clear();
  if (const cudaError_t error = begin(); error != cudaSuccess) return error;
  DeviceInfo info;
  info.name = "Fake";
  devices.assign(kDevices, info);
  return cudaSuccess;
}

int slot_scatter(const ScatterPart* parts, std::uint32_t part_count, const std::byte* image,
                 std::uint32_t element_bytes, CUstream_st* stream) noexcept {
  if (const cudaError_t error = begin_in_context(); error != cudaSuccess) return error;
  // The parts are read when the stream has come to them, as the kernel reads them.
  stream->push_work([=] {
    std::uint64_t end = 0;
    for (const ScatterPart& part : std::span(parts, part_count))
      end = std::max(end, part.source + std::uint64_t{part.rows} * part.columns * element_bytes);
    slot_scatter_reference(std::span(parts, part_count), std::span(image, end), element_bytes);
  });
  return cudaSuccess;
}

int load_slot_scatter() noexcept { return begin_in_context(); }

}  // namespace loracle
