#pragma once
/// Who holds the slots of a server: its pins and its running requests.
///
/// A row that a pin or a request holds has a slot; a row may have several holders. O(1) each, no allocation
/// after construction. Threads: one owner.

#include <cstdint>
#include <span>
#include <vector>

#include "loracle/core/adapter_table.hpp"
#include "loracle/core/units.hpp"
#include "loracle/policy/hierarchy.hpp"
#include "loracle/sim/tier_replay.hpp"

namespace loracle::detail {

class SlotHolders {
 public:
  /// `options` and `table` must outlive it.
  SlotHolders(const TierOptions& options, std::uint32_t rows, const AdapterTable& table)
      : options_(&options),
        table_(&table),
        holders_(rows, 0),
        is_pinned_(rows, false),
        free_slots_(options.max_loras) {}

  /// That neither a pin nor a running request holds.
  [[nodiscard]] std::uint32_t free_slots() const noexcept { return free_slots_; }
  /// False: slots and seats say who can start. True: bytes have to be asked about too.
  [[nodiscard]] bool bytes_decide() const noexcept {
    return options_->gpu_memory.value != kUnlimited || options_->cpu_memory.value != kUnlimited;
  }

  /// True if it is the row's first holder.
  bool hold(Row row) noexcept {
    if (holders_[index_of(row)]++ > 0) return false;
    --free_slots_;
    return true;
  }
  /// True if it was the row's last holder.
  bool let_go(Row row) noexcept {
    if (--holders_[index_of(row)] > 0) return false;
    ++free_slots_;
    return true;
  }
  /// As hold; a pin that was named before holds nothing more.
  bool hold_forever(Row pin) noexcept {
    if (is_pinned_[index_of(pin)]) return false;
    is_pinned_[index_of(pin)] = true;
    ++pins_;
    pinned_bytes_ += table_->size_of(pin);
    return hold(pin);
  }

  /// Whether it could be served if nothing ran. The counts of the host tier follow from the device's.
  [[nodiscard]] bool fits_beside_pins(std::span<const Row> rows) const noexcept {
    std::uint64_t entries = pins_;
    Bytes bytes{};
    for (const Row row : rows) {
      if (is_pinned_[index_of(row)]) continue;
      ++entries;
      bytes += table_->size_of(row);
    }
    const auto has_bytes = [&](Bytes limit) { return bytes <= limit - pinned_bytes_; };
    return entries <= options_->max_loras && has_bytes(options_->gpu_memory) &&
           (options_->boundary == Boundary::kExclusive || has_bytes(options_->cpu_memory));
  }

 private:
  const TierOptions* options_;
  const AdapterTable* table_;
  std::vector<std::uint32_t> holders_;  // [rows] running requests, and one if it is pinned
  std::vector<bool> is_pinned_;         // [rows]
  std::uint32_t pins_ = 0;              // distinct
  Bytes pinned_bytes_{};
  std::uint32_t free_slots_;
};

}  // namespace loracle::detail
