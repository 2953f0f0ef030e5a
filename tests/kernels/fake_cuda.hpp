#pragma once
/// A CUDA runtime without a device, for what is built over one: linked before the real one, it takes the
/// place of the calls that engine/src/tiers/device_cuda.cpp makes, and of the kernels' launchers.
///
/// Two devices, whose memory is this machine's. A stream is a thread that does what it is given later, in
/// order, so that a wait that is missing shows. Any call can be made to fail; what frees and destroys never
/// does.
/// Threads: as the real one.

#include <cstdint>

namespace loracle::testing {

/// The n-th call from now fails, once: with cudaErrorMemoryAllocation if it allocates, else cudaErrorUnknown.
/// 0: none.
void fake_cuda_fail_call(std::uint64_t n) noexcept;
/// Whether the call that was to fail has been made.
[[nodiscard]] bool fake_cuda_has_failed() noexcept;
/// From now on streams take work and do none, but for one of them.
void fake_cuda_pause_all_but(const void* stream) noexcept;
void fake_cuda_go_on() noexcept;
/// Copies and kernels that streams have taken and not done.
[[nodiscard]] std::int64_t fake_cuda_pending() noexcept;
/// Events recorded so far.
[[nodiscard]] std::uint64_t fake_cuda_events_recorded() noexcept;
/// Streams, events and blocks of memory that are not destroyed or freed yet.
[[nodiscard]] std::int64_t fake_cuda_live() noexcept;
/// Whether a context was made on the device: by cudaSetDevice, or by a call that needs one.
[[nodiscard]] bool fake_cuda_has_context(int device) noexcept;
void fake_cuda_forget_contexts() noexcept;
/// Calls that would have ended another thread's capture of a graph: those made in a mode that is not relaxed.
[[nodiscard]] std::uint64_t fake_cuda_calls_unsafe_in_captures() noexcept;
/// This thread's current device, and what it does when it begins to use one.
[[nodiscard]] int fake_cuda_current() noexcept;
void fake_cuda_use(int device) noexcept;

}  // namespace loracle::testing
