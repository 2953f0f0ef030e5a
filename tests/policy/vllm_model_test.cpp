// vLLM's two LRUs, defects included. The sequences are those of vLLM's own tests
// (tests/lora/test_lora_manager.py and test_lora_functions.py, 2026-08-07), and the four known weaknesses.

#include "loracle/policy/vllm_model.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <initializer_list>
#include <set>
#include <vector>

namespace loracle {
namespace {

/// The model with vLLM's adapter ids (1, 2, ...) for rows and 0 for an empty slot.
class Manager {
 public:
  Manager(std::uint32_t max_loras, std::uint32_t max_cpu_loras)
      : model_(kRows, max_loras, max_cpu_loras, log_) {}

  VllmFault step(std::initializer_list<std::uint32_t> ids) {
    std::vector<Row> batch;
    for (const std::uint32_t id : ids) batch.push_back(Row{id});
    return model_.step(batch);
  }
  VllmFault worker_add(std::uint32_t id) { return model_.worker_add(Row{id}); }
  bool add(std::uint32_t id) {
    VllmFault fault = VllmFault::kNone;
    const bool added = model_.register_adapter(Row{id}, fault);
    EXPECT_EQ(fault, VllmFault::kNone);
    return added;
  }
  bool activate(std::uint32_t id) {
    VllmFault fault = VllmFault::kNone;
    const bool activated = model_.activate(Row{id}, fault);
    EXPECT_EQ(fault, VllmFault::kNone);
    return activated;
  }
  VllmFault activation_fault(std::uint32_t id) {
    VllmFault fault = VllmFault::kNone;
    EXPECT_FALSE(model_.activate(Row{id}, fault));
    return fault;
  }
  bool deactivate(std::uint32_t id) { return model_.deactivate(Row{id}); }
  bool remove(std::uint32_t id) { return model_.remove(Row{id}); }
  VllmFault pin(std::uint32_t id) { return model_.pin(Row{id}); }
  VllmFault remove_oldest() { return model_.remove_oldest_on_host(); }

  [[nodiscard]] std::vector<std::uint32_t> slots() const {
    std::vector<std::uint32_t> ids;
    for (const Row row : model_.slots()) ids.push_back(row == kNoRow ? 0 : static_cast<std::uint32_t>(row));
    return ids;
  }
  [[nodiscard]] std::set<std::uint32_t> host() const {
    std::set<std::uint32_t> ids;
    for (std::uint32_t id = 0; id < kRows; ++id)
      if (model_.on_host(Row{id})) ids.insert(id);
    EXPECT_EQ(ids.size(), model_.host_size());
    return ids;
  }
  [[nodiscard]] const HierarchyCounts& counts() const { return model_.counts(); }
  [[nodiscard]] const DecisionLog& log() const { return log_; }

 private:
  static constexpr std::uint32_t kRows = 32;
  DecisionLog log_;
  VllmModel model_;
};

using Ids = std::set<std::uint32_t>;
using Slots = std::vector<std::uint32_t>;

// vLLM: test_lora_lru_cache_model_manager. A difference means the planner describes a server nobody runs.
TEST(VllmModel, ManagesAdaptersAsVllmDoes) {
  Manager m(2, 3);
  EXPECT_TRUE(m.add(1));
  EXPECT_TRUE(m.activate(1));
  EXPECT_EQ(m.slots()[0], 1U);
  EXPECT_FALSE(m.add(1));
  EXPECT_FALSE(m.activate(1));
  EXPECT_TRUE(m.add(2));
  EXPECT_TRUE(m.activate(2));
  EXPECT_EQ(m.slots(), (Slots{1, 2}));
  EXPECT_FALSE(m.add(2));
  EXPECT_FALSE(m.activate(2));
  EXPECT_TRUE(m.add(3));
  EXPECT_EQ(m.slots(), (Slots{1, 2}));
  EXPECT_TRUE(m.activate(3));
  EXPECT_EQ(m.slots(), (Slots{3, 2}));
  EXPECT_TRUE(m.remove(2));
  EXPECT_EQ(m.slots(), (Slots{3, 0}));
  EXPECT_FALSE(m.remove(2));
  EXPECT_TRUE(m.remove(1));
  EXPECT_FALSE(m.remove(1));
  EXPECT_TRUE(m.add(1));
  EXPECT_TRUE(m.activate(1));
  EXPECT_EQ(m.slots(), (Slots{3, 1}));
  EXPECT_TRUE(m.add(2));
  EXPECT_TRUE(m.deactivate(3));
  EXPECT_EQ(m.slots(), (Slots{0, 1}));
  EXPECT_TRUE(m.activate(2));
  EXPECT_EQ(m.slots(), (Slots{2, 1}));
  EXPECT_TRUE(m.activate(3));
  EXPECT_EQ(m.slots(), (Slots{2, 3}));
  EXPECT_EQ(m.pin(2), VllmFault::kNone);
  EXPECT_EQ(m.slots(), (Slots{2, 3}));
  EXPECT_TRUE(m.activate(1));
  EXPECT_EQ(m.slots(), (Slots{2, 1}));
  EXPECT_TRUE(m.deactivate(2));
  EXPECT_EQ(m.slots(), (Slots{0, 1}));
  EXPECT_TRUE(m.activate(3));
  EXPECT_EQ(m.slots(), (Slots{3, 1}));
  EXPECT_EQ(m.pin(3), VllmFault::kNone);
  EXPECT_EQ(m.pin(1), VllmFault::kNone);
  EXPECT_EQ(m.pin(2), VllmFault::kAllPinned);
  EXPECT_EQ(m.slots(), (Slots{3, 1}));
  EXPECT_EQ(m.activation_fault(2), VllmFault::kAllPinned);
  EXPECT_TRUE(m.deactivate(3));
  EXPECT_EQ(m.pin(2), VllmFault::kNone);
  EXPECT_EQ(m.slots(), (Slots{2, 1}));
  EXPECT_TRUE(m.remove(3));
  EXPECT_EQ(m.pin(3), VllmFault::kNotRegistered);
}

// vLLM: test_lru_lora_model_manager.
TEST(VllmModel, EvictsFromTheHostAsVllmDoes) {
  Manager m(2, 2);
  EXPECT_TRUE(m.add(1));
  EXPECT_TRUE(m.add(2));
  EXPECT_TRUE(m.activate(1));
  EXPECT_TRUE(m.activate(2));
  EXPECT_EQ(m.host(), (Ids{1, 2}));
  EXPECT_EQ(m.slots(), (Slots{1, 2}));
  EXPECT_TRUE(m.add(3));
  EXPECT_TRUE(m.add(4));
  EXPECT_TRUE(m.activate(3));
  EXPECT_TRUE(m.activate(4));
  EXPECT_EQ(m.host(), (Ids{3, 4}));
  EXPECT_EQ(m.slots(), (Slots{3, 4}));
  EXPECT_FALSE(m.add(3));
  EXPECT_FALSE(m.activate(3));
  EXPECT_TRUE(m.add(2));
  EXPECT_TRUE(m.activate(2));
  EXPECT_EQ(m.host(), (Ids{2, 3}));
  EXPECT_EQ(m.slots(), (Slots{3, 2}));
  EXPECT_TRUE(m.remove(3));
  EXPECT_FALSE(m.remove(3));
  EXPECT_EQ(m.slots(), (Slots{0, 2}));
  EXPECT_TRUE(m.add(3));
  EXPECT_TRUE(m.activate(3));
  EXPECT_TRUE(m.add(4));
  EXPECT_TRUE(m.activate(4));
  EXPECT_EQ(m.host(), (Ids{3, 4}));
  EXPECT_EQ(m.slots(), (Slots{3, 4}));
  EXPECT_EQ(m.remove_oldest(), VllmFault::kNone);
  EXPECT_EQ(m.host(), Ids{4});
  EXPECT_EQ(m.slots(), (Slots{0, 4}));
  EXPECT_EQ(m.remove_oldest(), VllmFault::kNone);
  EXPECT_EQ(m.host(), Ids{});
  EXPECT_EQ(m.slots(), (Slots{0, 0}));
  EXPECT_EQ(m.remove_oldest(), VllmFault::kNone) << "nothing to remove is no error";
  EXPECT_TRUE(m.add(3));
  EXPECT_TRUE(m.activate(3));
  EXPECT_TRUE(m.add(4));
  EXPECT_TRUE(m.activate(4));
  EXPECT_EQ(m.pin(1), VllmFault::kNotRegistered);
  EXPECT_EQ(m.pin(3), VllmFault::kNone);
  EXPECT_TRUE(m.remove(3));
  EXPECT_FALSE(m.remove(3));
  EXPECT_EQ(m.slots(), (Slots{0, 4}));
  EXPECT_TRUE(m.add(1));
  EXPECT_EQ(m.pin(1), VllmFault::kNone);
  EXPECT_TRUE(m.add(2));
  EXPECT_TRUE(m.activate(2));
  EXPECT_EQ(m.host(), (Ids{1, 2}));
  EXPECT_EQ(m.slots(), (Slots{1, 2}));
  EXPECT_EQ(m.remove_oldest(), VllmFault::kNone);
  EXPECT_EQ(m.host(), Ids{1});
  EXPECT_EQ(m.slots(), (Slots{1, 0}));
  EXPECT_EQ(m.remove_oldest(), VllmFault::kAllPinned);
}

// vLLM: test_set_adapter_mapping_refreshes_after_slot_reassignment.
TEST(VllmModel, ReassignsSlotsAsVllmDoes) {
  Manager m(2, 3);
  m.add(1);
  m.activate(1);
  m.add(2);
  m.activate(2);
  m.add(3);
  m.activate(3);
  m.activate(1);
  m.activate(2);
  EXPECT_EQ(m.slots(), (Slots{2, 1}));
}

// vLLM: test_lru_cache_worker_adapter_manager.
TEST(VllmModel, StepsAsVllmsWorkerDoes) {
  Manager m(4, 4);
  EXPECT_EQ(m.step({1, 2}), VllmFault::kNone);
  EXPECT_EQ(m.host(), (Ids{1, 2}));
  EXPECT_EQ(m.slots(), (Slots{1, 2, 0, 0}));
  EXPECT_EQ(m.step({1, 3, 4}), VllmFault::kNone);
  EXPECT_EQ(m.slots(), (Slots{1, 2, 3, 4}));
  EXPECT_EQ(m.step({1, 2, 5}), VllmFault::kNone);
  EXPECT_EQ(m.host(), (Ids{1, 2, 4, 5}));
  EXPECT_EQ(m.slots(), (Slots{1, 2, 5, 4}));
  EXPECT_EQ(m.step({1}), VllmFault::kNone);
  EXPECT_EQ(m.slots(), (Slots{1, 2, 5, 4}));
  EXPECT_EQ(m.step({6, 7, 8}), VllmFault::kNone);
  EXPECT_EQ(m.host(), (Ids{1, 6, 7, 8}));
  EXPECT_EQ(m.slots(), (Slots{1, 7, 8, 6}));
  EXPECT_EQ(m.step({10, 11, 12, 13, 14}), VllmFault::kTooManyAdapters);
  EXPECT_EQ(m.slots(), (Slots{1, 7, 8, 6}));
  EXPECT_EQ(m.counts().refused_requests, 1U);
  EXPECT_EQ(m.counts().refused_uses, 5U);
}

// vLLM: test_lora_functions. A pinned adapter outlives ten others.
TEST(VllmModel, KeepsAPinnedAdapterAsVllmDoes) {
  Manager m(4, 4);
  EXPECT_EQ(m.worker_add(1), VllmFault::kNone);
  EXPECT_EQ(m.worker_add(2), VllmFault::kNone);
  EXPECT_EQ(m.pin(1), VllmFault::kNone);
  EXPECT_EQ(m.host(), (Ids{1, 2}));
  const std::vector<std::pair<std::uint32_t, Ids>> added = {
      {3, {1, 2, 3}},    {4, {1, 2, 3, 4}}, {5, {1, 3, 4, 5}}, {6, {1, 4, 5, 6}},
      {7, {1, 5, 6, 7}}, {8, {1, 6, 7, 8}}, {9, {1, 7, 8, 9}}, {10, {1, 8, 9, 10}}};
  for (const auto& [id, host] : added) {
    EXPECT_EQ(m.worker_add(id), VllmFault::kNone);
    EXPECT_EQ(m.host(), host) << "after adding " << id;
  }
  EXPECT_TRUE(m.remove(1));
  EXPECT_EQ(m.host(), (Ids{8, 9, 10}));
  const std::vector<std::pair<std::uint32_t, Ids>> more = {
      {11, {8, 9, 10, 11}}, {12, {9, 10, 11, 12}}, {13, {10, 11, 12, 13}}};
  for (const auto& [id, host] : more) {
    EXPECT_EQ(m.worker_add(id), VllmFault::kNone);
    EXPECT_EQ(m.host(), host) << "after adding " << id;
  }
  for (const std::uint32_t id : {13U, 12U, 11U, 10U}) EXPECT_TRUE(m.remove(id));
  EXPECT_EQ(m.host(), Ids{});
}

// W1: a batch evicts its own member and loads it twice. The planner must charge a vLLM server for it.
TEST(VllmModel, ABatchMayEvictItsOwnMember) {
  enum : std::uint32_t { kA = 1, kB, kC };
  Manager hot_last(2, 2);
  hot_last.step({kB, kC});
  EXPECT_EQ(hot_last.step({kA, kB}), VllmFault::kNone);
  EXPECT_EQ(hot_last.counts().disk_loads, 2U + 2U) << "one would do";
  EXPECT_EQ(hot_last.slots(), (Slots{kA, kB}));
  Manager hot_first(2, 2);
  hot_first.step({kB, kC});
  EXPECT_EQ(hot_first.step({kB, kA}), VllmFault::kNone);
  EXPECT_EQ(hot_first.counts().disk_loads, 2U + 1U);
}

// W2: pins are not counted when a batch is admitted, and a member ends up without a slot.
TEST(VllmModel, APinCanLeaveABatchMemberWithoutASlot) {
  enum : std::uint32_t { kP = 1, kX, kY };
  Manager m(2, 3);
  m.worker_add(kP);
  m.pin(kP);
  EXPECT_EQ(m.step({kX, kY}), VllmFault::kMissingSlot);
  EXPECT_EQ(m.slots(), (Slots{kP, kY}));
  EXPECT_EQ(m.counts().refused_requests, 1U);
}

// W3: everything pinned, and one other request ends the engine.
TEST(VllmModel, WithEverythingPinnedAnyOtherAdapterIsAFault) {
  Manager m(2, 2);
  m.worker_add(1);
  m.worker_add(2);
  m.pin(1);
  m.pin(2);
  EXPECT_EQ(m.step({3}), VllmFault::kAllPinned);
  EXPECT_EQ(m.host(), (Ids{1, 2}));
  EXPECT_EQ(m.slots(), (Slots{1, 2}));
  EXPECT_EQ(m.counts().disk_loads, 3U) << "read before the room is looked for";
  EXPECT_EQ(m.counts().refused_uses, 1U);
}

// W4: with one slot, a round of four is copied to the device at every use although the host has them all.
TEST(VllmModel, OneSlotIsCopiedIntoAtEveryTurn) {
  Manager m(1, 4);
  for (const std::uint32_t id : {1U, 2U, 3U, 4U, 1U, 2U, 3U, 4U}) m.step({id});
  EXPECT_EQ(m.counts().disk_loads, 4U);
  EXPECT_EQ(m.counts().host_to_device_loads, 8U);
  EXPECT_EQ(m.counts().uses, 8U);
  EXPECT_EQ(m.counts().gpu_hits, 0U);
}

// A configuration that vLLM refuses at start must not be simulated as if it ran.
TEST(VllmModelDeathTest, RefusesAHostSmallerThanTheDevice) {
  DecisionLog log;
  EXPECT_DEATH(VllmModel(4, 2, 1, log), "max_cpu_loras >= max_loras");
  EXPECT_DEATH(VllmModel(4, 0, 1, log), "max_loras >= 1");
}

}  // namespace
}  // namespace loracle
