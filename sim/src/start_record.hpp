#pragma once
/// What every request of a simulation waited for, and where its adapters were: told by the simulation as it
/// runs, asked when it is over.
///
/// Layout: columns by request and by use of the stream. An eviction out of a slot is put down to the load
/// that came next: room is made for a load before it begins. Memory: 8 bytes a request, 9 a use.
/// Threads: one owner.

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "loracle/sim/event_sim.hpp"
#include "loracle/sim/plan_charts.hpp"

namespace loracle::detail {

class StartRecord final : public StartWatch, public DecisionSink {
 public:
  /// `stream` must outlive it.
  explicit StartRecord(const BatchStream& stream);

  void on_start(const StartedRequest& request) noexcept override;
  void on_decision(const Decision& decision) noexcept override;

  [[nodiscard]] DelayCauses delays(const EventOutcome& outcome) const;
  [[nodiscard]] WorstServed worst_adapters(const Trace& trace) const;
  /// Requests without a tenant are a tenant of their own. Empty where the trace has no tenants.
  [[nodiscard]] WorstServed worst_tenants(const Trace& trace) const;

 private:
  struct Caused {
    Row row = kNoRow;
    std::uint32_t evictions = 0;
  };

  [[nodiscard]] bool was_served(std::uint64_t batch) const noexcept { return slot_wait_s_[batch] >= 0; }
  /// `group_of`: [uses]. Those of a request all differ, or are all the same: each is visited once.
  template <class Visit>
  void for_each_request(std::span<const std::uint32_t> group_of, Visit visit) const;
  /// All but the names and the p99 delays.
  [[nodiscard]] std::vector<ServedGroup> tally(std::span<const std::uint32_t> group_of,
                                               std::uint32_t groups) const;
  [[nodiscard]] WorstServed worst_of(std::span<const std::uint32_t> group_of, std::uint32_t groups,
                                     const std::function<std::string(std::uint32_t)>& name_of) const;

  const BatchStream* stream_;
  std::vector<float> slot_wait_s_;        // [requests]; < 0: it was refused
  std::vector<float> load_wait_s_;        // [requests]
  std::vector<float> load_s_;             // [uses]
  std::vector<Place> found_;              // [uses] kDevice, kHost, kDisk; kNowhere: it was refused
  std::vector<std::uint32_t> evictions_;  // [uses] that it caused
  std::uint32_t evicted_ = 0;             // since the last load
  std::vector<Caused> caused_;            // since the last start
};

}  // namespace loracle::detail
