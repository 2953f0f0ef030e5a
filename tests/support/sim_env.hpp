#pragma once
/// The engine's world in virtual time: one thread, a seed, and faults that are switched on by the test.
///
/// Tasks are run by whoever waits (or by `run_all`), in the order of the virtual times they were given. Equal
/// seeds give equal orders. Threads: one.

#include <algorithm>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string_view>
#include <utility>

#include "loracle/core/check.hpp"
#include "loracle/core/rng.hpp"
#include "loracle/engine/env.hpp"

namespace loracle::testing {

class SimTime final : public TimeSource {
 public:
  [[nodiscard]] std::uint64_t now_ns() noexcept override { return now; }
  [[nodiscard]] std::int64_t unix_s() noexcept override {
    return 1'700'000'000 + static_cast<std::int64_t>(now / 1'000'000'000);
  }
  std::uint64_t now = 1;
};

class SimWorkers final : public Workers {
 public:
  SimWorkers(SimTime& time, std::uint64_t seed) : time_(time), rng_(seed) {}
  ~SimWorkers() override { run_all(); }

  void submit(std::function<void()> task) override {
    submit_at(time_.now + (delay_max == 0 ? 0 : rng_.below(delay_max)), std::move(task));
  }
  void submit_at(std::uint64_t at_ns, std::function<void()> task) override {
    tasks_.emplace(std::pair(std::max(at_ns, time_.now), next_++), std::move(task));
  }
  bool wait(std::unique_lock<std::mutex>& lock, std::condition_variable&, std::uint64_t deadline_ns,
            const std::function<bool()>& done) override {
    while (!done()) {
      if (tasks_.empty() || tasks_.begin()->first.first > deadline_ns) {
        LORACLE_CHECK(deadline_ns != kNoDeadline);  // else: whoever waits here would wait for ever
        time_.now = deadline_ns;
        return done();
      }
      lock.unlock();
      run_one();
      lock.lock();
    }
    return true;
  }

  /// Runs everything there is, and what that submits.
  void run_all() {
    while (!tasks_.empty()) run_one();
  }
  [[nodiscard]] bool pending() const noexcept { return !tasks_.empty(); }
  /// REQUIRES: pending().
  void run_one() {
    auto node = tasks_.extract(tasks_.begin());
    time_.now = std::max(time_.now, node.key().first);
    node.mapped()();
  }

  std::uint32_t delay_max = 0;  // ns; of submit, drawn from the seed

 private:
  SimTime& time_;
  Rng rng_;
  std::map<std::pair<std::uint64_t, std::uint64_t>, std::function<void()>> tasks_;  // by time, then order
  std::uint64_t next_ = 0;
};

/// Host memory, for devices that watch or break some of the calls.
class ForwardingDevice : public DeviceMemory {
 public:
  [[nodiscard]] std::string_view kind() const noexcept override { return real_->kind(); }
  [[nodiscard]] Result<Unit> allocate(const SlotLayout& layout, std::uint32_t slots) override {
    return real_->allocate(layout, slots);
  }
  [[nodiscard]] Result<std::span<std::byte>> allocate_host(std::uint64_t bytes) override {
    return real_->allocate_host(bytes);
  }
  [[nodiscard]] Result<Unit> write_slot(std::uint32_t slot, const ImageManifest& manifest,
                                        std::span<const std::byte> image) override {
    return real_->write_slot(slot, manifest, image);
  }
  [[nodiscard]] Result<Unit> wait_for_slot(std::uint32_t slot, void* stream) override {
    return real_->wait_for_slot(slot, stream);
  }
  [[nodiscard]] Result<Unit> read_slot(std::uint32_t slot, std::uint32_t slice, SlotSide side,
                                       std::span<std::byte> into) override {
    return real_->read_slot(slot, slice, side, into);
  }
  [[nodiscard]] std::byte* buffer(std::uint32_t slice, SlotSide side) noexcept override {
    return real_->buffer(slice, side);
  }

 private:
  std::unique_ptr<DeviceMemory> real_ = make_host_memory_device();
};

/// Host memory whose copies can be made to fail.
class SimDevice final : public ForwardingDevice {
 public:
  [[nodiscard]] Result<Unit> write_slot(std::uint32_t slot, const ImageManifest& manifest,
                                        std::span<const std::byte> image) override {
    if (fails && fails()) return fail(Errc::kIo, "the device does not answer", 700);
    return ForwardingDevice::write_slot(slot, manifest, image);
  }

  std::function<bool()> fails;  // asked at each copy
};

}  // namespace loracle::testing
