#include "loracle/policy/vllm_model.hpp"

#include <algorithm>
#include <utility>

#include "loracle/core/check.hpp"

namespace loracle {
namespace {

constexpr std::uint8_t kHostPin = 1;
constexpr std::uint8_t kDevicePin = 2;

}  // namespace

VllmModel::VllmModel(std::uint32_t rows, std::uint32_t max_loras, std::uint32_t max_cpu_loras,
                     DecisionLog& log)
    : host_(rows, 1),
      device_(rows, 1),
      pins_(rows, 0),
      slots_(std::min(max_loras, std::max(rows, 1U)), kNoRow),
      slot_of_(rows, kNoSlot),
      free_slots_(static_cast<std::uint32_t>(slots_.size())),
      max_cpu_loras_(max_cpu_loras),
      log_(&log) {
  LORACLE_CHECK(max_loras >= 1);
  LORACLE_CHECK(max_cpu_loras >= max_loras);
}

VllmFault VllmModel::step(std::span<const Row> batch) noexcept {
  counts_.uses += batch.size();
  const auto refuse = [&](Row row) {
    ++counts_.refused_uses;
    log_->add(Action::kRefuse, row, Place::kNowhere, Place::kDevice, kNoSlot);
  };
  if (batch.size() > slots_.size()) {
    ++counts_.refused_requests;
    for (const Row row : batch) refuse(row);
    return VllmFault::kTooManyAdapters;
  }
  for (std::size_t i = 0; i < batch.size(); ++i) {
    const VllmFault fault = worker_add(batch[i]);
    if (fault == VllmFault::kNone) continue;
    ++counts_.refused_requests;
    for (const Row row : batch.subspan(i)) refuse(row);
    return fault;
  }
  VllmFault fault = VllmFault::kNone;
  for (const Row row : batch) {
    if (on_device(row)) continue;
    if (fault == VllmFault::kNone) ++counts_.refused_requests;
    fault = VllmFault::kMissingSlot;
    log_->add(Action::kRefuse, row, Place::kNowhere, Place::kDevice, kNoSlot);
  }
  return fault;
}

VllmFault VllmModel::worker_add(Row row, bool in_place) noexcept {
  VllmFault fault = VllmFault::kNone;
  if (!on_host(row) || in_place) {
    ++counts_.disk_loads;  // vLLM reads the files before it makes room
    remove(row);
    if (host_size_ + 1 > max_cpu_loras_ && !evict_oldest_on_host()) {
      // Read, but not kept: the copy that the counters call disk_loads has no place to go.
      return VllmFault::kAllPinned;
    }
    register_adapter(row, fault);
    log_->add(Action::kLoad, row, Place::kOrigin, Place::kHost, kNoSlot);
  } else {
    host_.move_to_front(0, row);
  }
  const bool hit = on_device(row);
  activate(row, fault);
  if (hit && fault == VllmFault::kNone) ++counts_.gpu_hits;
  return fault;
}

bool VllmModel::register_adapter(Row row, VllmFault& fault) noexcept {
  if (on_host(row)) {
    host_.move_to_front(0, row);
    return false;
  }
  while (host_size_ + 1 > max_cpu_loras_) {
    if (!evict_oldest_on_host()) {
      fault = VllmFault::kAllPinned;
      return false;
    }
  }
  host_.push_front(0, row);
  ++host_size_;
  return true;
}

bool VllmModel::activate(Row row, VllmFault& fault) noexcept {
  if (on_device(row)) {
    device_.move_to_front(0, row);
    log_->add(Action::kHit, row, Place::kDevice, Place::kDevice, slot_of_[index_of(row)]);
    return false;
  }
  if (device_size_ >= slots_.size() && !evict_oldest_on_device()) {
    fault = VllmFault::kAllPinned;
    return false;
  }
  device_.push_front(0, row);
  ++device_size_;
  if (!on_host(row)) {
    // vLLM has put it into the device's LRU by the time it notices; it stays there, slotless.
    fault = VllmFault::kNotRegistered;
    return false;
  }
  host_.move_to_front(0, row);
  const std::uint32_t slot = free_slots_.take_lowest();
  slots_[slot] = row;
  slot_of_[index_of(row)] = slot;
  ++counts_.host_to_device_loads;
  log_->add(Action::kLoad, row, Place::kHost, Place::kDevice, slot);
  return true;
}

bool VllmModel::deactivate(Row row) noexcept {
  if (!on_device(row)) return false;
  pop_device(row);
  return true;
}

bool VllmModel::remove(Row row) noexcept {
  deactivate(row);
  if (!pop_host(row)) return false;
  log_->add(Action::kEvict, row, Place::kHost, Place::kNowhere, kNoSlot);
  return true;
}

VllmFault VllmModel::pin(Row row) noexcept {
  if (!on_host(row)) return VllmFault::kNotRegistered;
  pins_[index_of(row)] |= kHostPin;
  VllmFault fault = VllmFault::kNone;
  if (!on_device(row)) activate(row, fault);
  if (fault != VllmFault::kNone) return fault;
  pins_[index_of(row)] |= kDevicePin;
  return fault;
}

VllmFault VllmModel::remove_oldest_on_host() noexcept {
  if (host_size_ == 0 || evict_oldest_on_host()) return VllmFault::kNone;
  return VllmFault::kAllPinned;
}

bool VllmModel::pop_host(Row row) noexcept {
  if (!on_host(row)) return false;
  host_.erase(row);
  --host_size_;
  pins_[index_of(row)] &= static_cast<std::uint8_t>(~kHostPin);
  return true;
}

void VllmModel::pop_device(Row row) noexcept {
  device_.erase(row);
  --device_size_;
  pins_[index_of(row)] &= static_cast<std::uint8_t>(~kDevicePin);
  const std::uint32_t slot = std::exchange(slot_of_[index_of(row)], kNoSlot);
  if (slot == kNoSlot) return;  // see activate()
  slots_[slot] = kNoRow;
  free_slots_.give_back(slot);
  log_->add(Action::kEvict, row, Place::kDevice, Place::kNowhere, slot);
}

bool VllmModel::evict_oldest_on_host() noexcept {
  Row victim = host_.back(0);
  while (victim != kNoRow && (pins_[index_of(victim)] & kHostPin) != 0) victim = host_.newer(victim);
  if (victim == kNoRow) return false;
  pop_host(victim);
  ++counts_.host_evictions;
  log_->add(Action::kEvict, victim, Place::kHost, Place::kNowhere, kNoSlot);
  if (on_device(victim)) {
    pop_device(victim);
    ++counts_.gpu_invalidations;
  }
  return true;
}

bool VllmModel::evict_oldest_on_device() noexcept {
  Row victim = device_.back(0);
  while (victim != kNoRow && (pins_[index_of(victim)] & kDevicePin) != 0) victim = device_.newer(victim);
  if (victim == kNoRow) return false;
  pop_device(victim);
  ++counts_.gpu_evictions;
  return true;
}

}  // namespace loracle
