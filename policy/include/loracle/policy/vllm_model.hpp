#pragma once
/// vLLM's own two-tier LoRA cache, step by step, defects included, so that a planner can say what a vLLM
/// server does.
///
/// Host ("CPU") is an LRU of max_cpu_loras adapters, the device an LRU of max_loras slots; both count
/// adapters, not bytes. The device is a subset of the host: an adapter that leaves the host frees its slot.
/// Per engine step each distinct adapter of the batch is added in turn: loaded from disk if the host lacks it
/// (before anything is evicted), then activated in the lowest free slot. Neither LRU protects the rest of the
/// batch, hence three known defects:
///   a batch can evict its own member and load it twice;
///   pins are not counted when a batch is admitted, so a member can end up without a slot (vLLM then
///   crashes); with every slot pinned, any other adapter makes the step fail (vLLM's engine dies).
/// The two failures are counted and logged as refusals; the state is left as vLLM would leave it.
/// Order within a step is Python set order in vLLM, which changes from run to run; here it is the batch's
/// own. Layout: two recency lists, pins and slots over rows: 21 bytes a row. No allocation after
/// construction. Cost: O(1) a use, plus pinned rows passed over. Threads: one owner. Source: vLLM main of
/// 2026-08-07: vllm/lora/worker_manager.py, model_manager.py, vllm/utils/cache.py.

#include <cstdint>
#include <span>
#include <vector>

#include "loracle/core/row_lists.hpp"
#include "loracle/core/units.hpp"
#include "loracle/policy/decision_log.hpp"
#include "loracle/policy/hierarchy.hpp"

namespace loracle {

/// How an operation of vLLM ends where it does not return: as the Python exception it raises.
enum class VllmFault : std::uint8_t {
  kNone,
  kTooManyAdapters,  // RuntimeError: the batch has more LoRAs than there are slots
  kAllPinned,        // RuntimeError: all items are pinned, cannot remove oldest from the cache
  kNotRegistered,    // ValueError or KeyError: not in the host cache
  kMissingSlot,      // KeyError in the mapping: a member of the batch lost its slot within the step
};

class VllmModel {
 public:
  /// `log` must outlive the model. REQUIRES: 1 <= max_loras <= max_cpu_loras.
  VllmModel(std::uint32_t rows, std::uint32_t max_loras, std::uint32_t max_cpu_loras, DecisionLog& log);

  /// One engine step over distinct rows.
  VllmFault step(std::span<const Row> batch) noexcept;

  /// add_adapter of the worker: load if absent (or if `in_place`), then activate.
  VllmFault worker_add(Row row, bool in_place = false) noexcept;
  /// add_adapter of the manager: true if it was not there before. kAllPinned through `fault`.
  bool register_adapter(Row row, VllmFault& fault) noexcept;
  /// True if it was not active before.
  bool activate(Row row, VllmFault& fault) noexcept;
  bool deactivate(Row row) noexcept;
  bool remove(Row row) noexcept;
  /// vLLM does not undo the host pin when the device pin fails; nor does this.
  VllmFault pin(Row row) noexcept;
  /// remove_oldest of the host cache, as vLLM's tests call it.
  VllmFault remove_oldest_on_host() noexcept;

  [[nodiscard]] bool on_host(Row row) const noexcept { return host_.linked(row); }
  [[nodiscard]] bool on_device(Row row) const noexcept { return device_.linked(row); }
  /// [min(max_loras, rows)] the row in each slot, kNoRow where free.
  [[nodiscard]] std::span<const Row> slots() const noexcept { return slots_; }
  [[nodiscard]] std::uint32_t host_size() const noexcept { return host_size_; }
  [[nodiscard]] const HierarchyCounts& counts() const noexcept { return counts_; }

 private:
  bool pop_host(Row row) noexcept;
  void pop_device(Row row) noexcept;
  bool evict_oldest_on_host() noexcept;
  bool evict_oldest_on_device() noexcept;

  RowLists host_;
  RowLists device_;
  std::vector<std::uint8_t> pins_;      // [rows] bit 0: pinned on the host, bit 1: on the device
  std::vector<Row> slots_;              // [max_loras]
  std::vector<std::uint32_t> slot_of_;  // [rows]
  FreeSlots free_slots_;
  std::uint32_t max_cpu_loras_;
  std::uint32_t host_size_ = 0;
  std::uint32_t device_size_ = 0;
  HierarchyCounts counts_;
  DecisionLog* log_;
};

}  // namespace loracle
