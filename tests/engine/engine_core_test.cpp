// What the engine's core promises its callers, one behaviour each.

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <future>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "engine/core_scene.hpp"
#include "support/allocation_count.hpp"

namespace loracle::testing {
namespace {

EngineConfig sizes(std::uint32_t max_loras, std::uint32_t max_cpu_loras) {
  EngineConfig config;
  config.max_loras = max_loras;
  config.max_cpu_loras = max_cpu_loras;
  return config;
}

// If this failed, a request would compute with another adapter's weights, or with none.
TEST(EngineCore, ALeasesSlotsHoldItsAdaptersWhole) {
  CoreScene scene(sizes(2, 4));
  for (int i = 0; i < 4; ++i) scene.know("a" + std::to_string(i), 1 + static_cast<std::uint32_t>(i) % kWidth);
  for (int round = 0; round < 20; ++round) {
    const std::string first = "a" + std::to_string(round % 4);
    const std::string second = "a" + std::to_string((round * 3 + 1) % 4);
    const std::vector<std::string> names =
        first == second ? std::vector<std::string>{first} : std::vector<std::string>{first, second};
    const Result<Lease> lease = scene.acquire(names);
    ASSERT_TRUE(lease) << lease.error().message;
    ASSERT_EQ(lease->adapters().size(), names.size());
    std::vector<float> versions;
    for (std::size_t i = 0; i < names.size(); ++i) {
      versions.push_back(scene.version_of(names[i]));
      EXPECT_EQ(lease->adapters()[i].id, scene.source(names[i]).id);
    }
    scene.expect_whole(*lease, versions);
  }
}

// If this failed, a popular cold adapter would be read once for every request that waits for it.
TEST(EngineCore, AnyNumberOfCallersOfAColdAdapterCostOneLoad) {
  CoreScene scene(sizes(2, 4));
  scene.know("a0", 1);
  int served = 0;
  const std::string_view names[] = {"a0"};
  for (int i = 0; i < 10; ++i) {
    scene.core->acquire_async(names, {}, [&served](Result<Lease> lease) {
      ASSERT_TRUE(lease);
      ++served;
    });
  }
  EXPECT_EQ(served, 0);
  scene.workers.run_all();
  EXPECT_EQ(served, 10);
  EXPECT_EQ(scene.reads, 1U);
  EXPECT_EQ(scene.core->stats().loads_shared, 9U);
}

// If this failed, a broken adapter would hang its callers, or evict what others use.
TEST(EngineCore, AFailedLoadReachesEveryWaiterAndChangesNothingElse) {
  CoreScene scene(sizes(1, 2));  // host memory has room for what was not read
  scene.know("good", 1);
  scene.know("bad", 1);
  scene.broken = {"bad"};
  ASSERT_TRUE(scene.acquire({"good"}));
  const EngineStats before = scene.core->stats();
  int failed = 0;
  const std::string_view names[] = {"bad"};
  for (int i = 0; i < 3; ++i) {
    scene.core->acquire_async(names, {}, [&failed](Result<Lease> lease) {
      ASSERT_FALSE(lease);
      EXPECT_EQ(lease.error().code, Errc::kCorrupt);
      ++failed;
    });
  }
  scene.workers.run_all();
  EXPECT_EQ(failed, 3);
  const EngineStats after = scene.core->stats();
  EXPECT_EQ(after.decision_log_hash, before.decision_log_hash);
  EXPECT_EQ(after.loads_failed, 1U);
  EXPECT_EQ(after.host.entries, 1U);
  EXPECT_TRUE(scene.core->status("good")->on_device);
  scene.broken.clear();
  EXPECT_TRUE(scene.acquire({"bad"})) << "a failure is not remembered";
}

// If this failed, a batch would come back with an adapter missing, and no error.
TEST(EngineCore, ABatchNeverTakesARowFromItself) {
  CoreScene scene(sizes(2, 4), 1, 2);
  for (const char* name : {"a", "b", "c"}) scene.know(name, 1);
  const Result<Lease> held = scene.acquire({"c"});
  ASSERT_TRUE(held);
  const Result<Lease> both = scene.acquire({"a", "b"}, 1'000'000);
  ASSERT_FALSE(both) << both->adapters().size();
  EXPECT_EQ(both.error().code, Errc::kTooLarge);
  EXPECT_TRUE(scene.acquire({"a"}));
}

// If this failed, a pin that was refused would keep its slot for ever, and nobody would know.
TEST(EngineCore, APinThatFailsLeavesNoPin) {
  CoreScene scene(sizes(1, 2));
  scene.know("a", 1);
  scene.know("b", 1);
  scene.device.fails = [] { return true; };
  EXPECT_FALSE(scene.core->pin("a", 0, {}));
  scene.device.fails = nullptr;
  EXPECT_FALSE(scene.core->status("a")->pinned);
  EXPECT_EQ(scene.core->stats().host.pinned, 0U);
  EXPECT_TRUE(scene.acquire({"b"}));
  EXPECT_TRUE(scene.core->pin("a", 0, {}));
  EXPECT_TRUE(scene.core->status("a")->pinned);
}

// If this failed, a request that came to nothing would have cost another its place in memory.
TEST(EngineCore, AFailedBatchEvictsNobody) {
  CoreScene scene(sizes(2, 2));
  for (const char* name : {"a", "b", "good", "bad"}) scene.know(name, 1);
  scene.broken = {"bad"};
  ASSERT_TRUE(scene.acquire({"a", "b"}));
  EXPECT_FALSE(scene.acquire({"good", "bad"}));
  EXPECT_TRUE(scene.core->status("a")->on_device);
  EXPECT_TRUE(scene.core->status("b")->on_device);
  EXPECT_EQ(scene.core->stats().prefetches_dropped, 0U);
}

// If this failed, uses would vanish from the history whenever an adapter makes way for another.
TEST(EngineCore, UsesAreToldOnceWhateverBecomesOfTheRow) {
  CoreScene scene(sizes(1, 1), 1, 1);
  scene.know("a", 1);
  scene.know("b", 1);
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(scene.acquire({"a"}));
  EXPECT_EQ(scene.core->take_uses().at("a"), 3U);
  ASSERT_TRUE(scene.acquire({"a"}));
  scene.know("a", 1);  // other content, the same name: another row
  ASSERT_TRUE(scene.acquire({"a"}));
  const auto uses = scene.core->take_uses();
  EXPECT_EQ(uses.at("a"), 2U);
  EXPECT_TRUE(scene.core->take_uses().empty());
}

// If this failed, a slot could be rewritten while a batch computes with it.
TEST(EngineCore, LeasedAdaptersAreNotEvictedAndTheNextRequestWaitsForThem) {
  CoreScene scene(sizes(1, 2));
  scene.know("a0", 1);
  scene.know("a1", 1);
  Result<Lease> held = scene.acquire({"a0"});
  ASSERT_TRUE(held);
  const Result<Lease> late = scene.acquire({"a1"}, 1'000'000);
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().code, Errc::kDeadline);
  EXPECT_EQ(scene.core->stats().acquire_latency.count, 2U) << "who was given up has waited too";
  EXPECT_NE(late.error().message.find("waited for room: of 1 slots 1 are leased, 0 pinned"),
            std::string::npos)
      << late.error().message;
  scene.expect_whole(*held, {scene.version_of("a0")});
  bool served = false;
  const std::string_view names[] = {"a1"};
  scene.core->acquire_async(names, {}, [&served](Result<Lease> lease) { served = lease.has_value(); });
  scene.workers.run_all();
  EXPECT_FALSE(served);
  held->let_go();
  scene.workers.run_all();
  EXPECT_TRUE(served);
}

// If this failed, an operator's pins would make every other request wait for ever instead of failing.
TEST(EngineCore, PinsThatFillTheDeviceRefuseAtOnce) {
  CoreScene scene(sizes(1, 2));
  scene.know("a0", 1);
  scene.know("a1", 1);
  ASSERT_TRUE(scene.core->pin("a0", 0, {}));
  const Result<Lease> refused = scene.acquire({"a1"});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::kAllPinned);
  ASSERT_TRUE(scene.core->unpin("a0", 1));
  EXPECT_TRUE(scene.acquire({"a1"}));
}

// If this failed, an adapter that an operator had unpinned would be pinned a moment later, for good.
TEST(EngineCore, UnpinEndsPinsThatStillWait) {
  for (const bool for_room : {false, true}) {  // waits for room, or for its load
    CoreScene scene(sizes(1, 2));
    scene.know("a0", 1);
    scene.know("a1", 1);
    Result<Lease> held = scene.acquire({"a0"});
    ASSERT_TRUE(held);
    scene.core->pin_later("a1", 0);
    scene.core->pin_later("a1", 1);
    if (for_room) scene.workers.run_all();
    ASSERT_TRUE(scene.core->unpin("a1", for_room ? 1 : 0));
    held->let_go();
    scene.workers.run_all();
    const Result<AdapterStatus> status = scene.core->status("a1");
    ASSERT_TRUE(status);
    EXPECT_EQ(status->pinned, !for_room) << "the device's pin only was lifted";
    EXPECT_FALSE(status->on_device);
    EXPECT_EQ(scene.core->stats().requests_waiting, 0U);
  }
}

// If this failed, a batch that can never be served would wait for its deadline.
TEST(EngineCore, RefusesABatchLargerThanTheDeviceAtOnce) {
  CoreScene scene(sizes(2, 8));
  for (const char* name : {"a0", "a1", "a2"}) scene.know(name, 1);
  const Result<Lease> refused = scene.acquire({"a0", "a1", "a2"});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::kTooLarge);
  EXPECT_EQ(scene.reads, 0U);
  const Result<Lease> twice = scene.acquire({"a0", "a1", "a0"});
  ASSERT_TRUE(twice) << "named twice, needed once";
  EXPECT_EQ(twice->adapters().size(), 2U);
}

// If this failed, clients that went away would still have others' adapters evicted for them.
TEST(EngineCore, WhoHasGoneMovesNothing) {
  CoreScene scene(sizes(1, 2));
  for (const char* name : {"held", "gone", "stays"}) scene.know(name, 1);
  Result<Lease> held = scene.acquire({"held"});
  ASSERT_TRUE(held);
  const auto has_gone = std::make_shared<std::atomic<bool>>(false);
  Errc code{};
  const std::string_view gone[] = {"gone"};
  scene.core->acquire_async(gone, {kNoDeadline, has_gone}, [&code](const Result<Lease>& lease) {
    ASSERT_FALSE(lease);
    code = lease.error().code;
  });
  bool served = false;
  const std::string_view stays[] = {"stays"};
  scene.core->acquire_async(stays, {}, [&served](const Result<Lease>& lease) { served = lease.has_value(); });
  scene.workers.run_all();
  *has_gone = true;
  held->let_go();
  scene.workers.run_all();
  EXPECT_EQ(code, Errc::kCancelled);
  EXPECT_TRUE(served);
  EXPECT_FALSE(scene.core->status("gone")->on_device);
  EXPECT_EQ(scene.core->stats().copies, 2U);
}

// If this failed, a batch that can never be served would wait, and once it had been passed often enough
// everybody else behind it.
TEST(EngineCore, ABatchTooLargeForTheHostIsRefusedThoughSlotsAreLeased) {
  EngineConfig config = sizes(2, 8);
  config.cpu_memory = Bytes{200};
  CoreScene scene(config);
  scene.know("small", 1);
  scene.know("large0", 4);  // 128 bytes each
  scene.know("large1", 4);
  const Result<Lease> held = scene.acquire({"small"});
  ASSERT_TRUE(held);
  const Result<Lease> refused = scene.acquire({"large0", "large1"}, 1'000'000);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::kTooLarge);
  EXPECT_EQ(scene.reads, 1U);
}

// If this failed, prefetches would make those who wait read their adapters again.
TEST(EngineCore, PrefetchesTakeNoStagingFromThoseWhoWait) {
  EngineConfig config = sizes(1, 1);
  config.loads_in_flight_max = 1;
  CoreScene scene(config);
  scene.know("held", 4);
  Result<Lease> held = scene.acquire({"held"});
  ASSERT_TRUE(held);
  int served = 0;
  const std::vector<std::string> waiting = {"w0", "w1", "w2"};  // all that staging has room for
  for (const std::string& name : waiting) {
    scene.know(name, 4);
    const std::string_view names[] = {name};
    scene.core->acquire_async(names, {}, [&served](const Result<Lease>& lease) { served += lease ? 1 : 0; });
    scene.workers.run_all();
    EXPECT_EQ(scene.reads_of[waiting[0]], 1);
  }
  for (int i = 0; i < 6; ++i) {
    const std::string name = "p" + std::to_string(i);
    scene.know(name, 4);
    const std::string_view names[] = {name};
    ASSERT_TRUE(scene.core->prefetch(names, 1));
    scene.workers.run_all();
  }
  held->let_go();
  scene.workers.run_all();
  EXPECT_EQ(served, 3);
  for (const std::string& name : waiting) EXPECT_EQ(scene.reads_of[name], 1) << name;
}

// If this failed, one request that lost patience could hold up every load behind its own.
TEST(EngineCore, ALoadThatNobodyWaitsForIsInNobodysWay) {
  EngineConfig config = sizes(1, 1);
  config.loads_in_flight_max = 1;
  CoreScene scene(config);
  for (const char* name : {"held", "w0", "w1", "w2", "x", "y"}) scene.know(name, 4);
  Result<Lease> held = scene.acquire({"held"});
  ASSERT_TRUE(held);
  int served = 0;
  const auto ask = [&](const char* name, std::uint64_t timeout_ns) {
    const std::string_view names[] = {name};
    scene.core->acquire_async(names, {timeout_ns},
                              [&served](const Result<Lease>& lease) { served += lease ? 1 : 0; });
  };
  for (const char* name : {"w0", "w1"}) ask(name, kNoDeadline);
  scene.workers.run_all();
  scene.workers.delay_max = 1000;  // the next read takes a while
  ask("w2", kNoDeadline);
  ask("x", 1);  // waits behind it, and goes before it is read
  ask("y", kNoDeadline);
  scene.workers.run_all();
  EXPECT_EQ(scene.reads_of["x"], 0);
  EXPECT_EQ(scene.reads_of["y"], 1) << "before any lease ends";
  held->let_go();
  scene.workers.run_all();
  EXPECT_EQ(served, 4);
  EXPECT_EQ(scene.core->stats().requests_waiting, 0U);
}

// If this failed, whoever pinned an adapter while it was replaced would believe it pinned.
TEST(EngineCore, APinHoldsWhatItsNameMeansInTheEnd) {
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    CoreScene scene(sizes(2, 4), seed);
    scene.workers.delay_max = 1000;
    scene.know("a", 1);
    scene.workers.submit_at(scene.time.now + 500, [&scene] { scene.know("a", 2); });
    ASSERT_TRUE(scene.core->pin("a", 0, {}));
    const Result<AdapterStatus> status = scene.core->status("a");
    ASSERT_TRUE(status);
    EXPECT_TRUE(status->pinned && status->on_device) << "seed " << seed;
    scene.workers.run_all();  // the replacement may be still to come
  }
}

// If this failed, a request would wait for a lease to end though there is a free slot.
TEST(EngineCore, WhatIsRemovedMakesRoomForThoseWhoWait) {
  for (const bool replaced : {false, true}) {
    CoreScene scene(sizes(2, 4));
    for (const char* name : {"pinned", "leased", "waits"}) scene.know(name, 1);
    ASSERT_TRUE(scene.core->pin("pinned", 0, {}));
    const Result<Lease> held = scene.acquire({"leased"});
    ASSERT_TRUE(held);
    bool served = false;
    const std::string_view names[] = {"waits"};
    scene.core->acquire_async(names, {},
                              [&served](const Result<Lease>& lease) { served = lease.has_value(); });
    scene.workers.run_all();
    EXPECT_FALSE(served);
    if (replaced)
      scene.know("pinned", 2);
    else
      EXPECT_TRUE(scene.core->forget("pinned"));
    scene.workers.run_all();
    EXPECT_TRUE(served);
  }
}

// If this failed, replacing an adapter would change the weights of a batch that is running.
TEST(EngineCore, ALeaseKeepsItsVersionWhileNewRequestsGetTheNewOne) {
  CoreScene scene(sizes(2, 2));
  scene.know("a0", 2);
  const float old_version = scene.version_of("a0");
  Result<Lease> old_lease = scene.acquire({"a0"});
  ASSERT_TRUE(old_lease);
  scene.know("a0", 3);
  const Result<Lease> new_lease = scene.acquire({"a0"});
  ASSERT_TRUE(new_lease) << new_lease.error().message;
  scene.expect_whole(*new_lease, {scene.version_of("a0")});
  scene.expect_whole(*old_lease, {old_version});
  EXPECT_EQ(old_lease->adapters()[0].id, new_lease->adapters()[0].id) << "an id belongs to a name";
  EXPECT_NE(old_lease->adapters()[0].slot, new_lease->adapters()[0].slot);
  old_lease->let_go();
  EXPECT_EQ(scene.core->stats().device.entries, 1U) << "the old version goes with its last lease";
}

// If this failed, a deleted adapter would go on answering requests, or its lease would be cut short.
TEST(EngineCore, ARemovedAdapterServesItsLeaseToTheEndAndNobodyElse) {
  CoreScene scene(sizes(2, 2));
  scene.know("a0", 2);
  const float version = scene.version_of("a0");
  Result<Lease> lease = scene.acquire({"a0"});
  ASSERT_TRUE(lease);
  EXPECT_TRUE(scene.core->forget("a0"));
  EXPECT_FALSE(scene.core->forget("a0"));
  const Result<Lease> refused = scene.acquire({"a0"});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::kNotFound);
  scene.expect_whole(*lease, {version});
  lease->let_go();
  EXPECT_EQ(scene.core->stats().host.entries, 0U);
}

// If this failed, removing an adapter while it is read would leave its callers waiting for ever.
TEST(EngineCore, RemovingAnAdapterWhileItIsLoadedTellsItsCallers) {
  CoreScene scene(sizes(2, 2));
  scene.know("a0", 1);
  std::optional<Errc> code;
  const std::string_view names[] = {"a0"};
  scene.core->acquire_async(names, {}, [&code](Result<Lease> lease) { code = lease.error().code; });
  EXPECT_TRUE(scene.core->forget("a0"));
  EXPECT_EQ(code, Errc::kCancelled);
  scene.workers.run_all();
  EXPECT_EQ(scene.core->stats().host.entries, 0U);
}

// If this failed, a slow copy engine or a lost device would be taken for a loaded adapter.
TEST(EngineCore, AFailedCopyFreesTheSlotAndTellsTheCaller) {
  CoreScene scene(sizes(1, 2));
  scene.know("a0", 1);
  int copies = 0;
  scene.device.fails = [&copies] { return copies++ == 0; };
  const Result<Lease> failed = scene.acquire({"a0"});
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().code, Errc::kIo);
  EXPECT_EQ(scene.core->stats().device.entries, 0U);
  EXPECT_EQ(scene.core->stats().host.entries, 1U);
  const Result<Lease> again = scene.acquire({"a0"});
  ASSERT_TRUE(again);
  scene.expect_whole(*again, {scene.version_of("a0")});
  EXPECT_EQ(scene.reads, 1U) << "it was in host memory";
}

// If this failed, prefetching would delay the requests it is meant to help.
TEST(EngineCore, AWaitingRequestIsLoadedBeforePrefetches) {
  EngineConfig config = sizes(1, 8);
  config.loads_in_flight_max = 1;
  CoreScene scene(config);
  std::vector<std::string> order;
  for (const char* name : {"p0", "p1", "p2", "wanted"}) scene.know(name, 1);
  const std::string_view prefetched[] = {"p0", "p1", "p2"};
  ASSERT_TRUE(scene.core->prefetch(prefetched, 1));
  ASSERT_TRUE(scene.acquire({"wanted"}));
  EXPECT_TRUE(scene.core->status("p0")->on_host) << "was being read already";
  EXPECT_FALSE(scene.core->status("p2")->on_host);
  scene.workers.run_all();
  EXPECT_TRUE(scene.core->status("p2")->on_host);
  EXPECT_FALSE(scene.core->status("p2")->on_device);
}

// If this failed, requests for hot adapters could starve one that waits for room, for ever.
TEST(EngineCore, ARequestThatWaitsForRoomIsPassedOnlySoOften) {
  EngineConfig config = sizes(2, 4);
  config.passes_max = 5;
  CoreScene scene(config);
  for (const char* name : {"hot", "other", "x", "y"}) scene.know(name, 1);
  Result<Lease> hot = scene.acquire({"hot"});
  ASSERT_TRUE(hot);
  bool served = false;
  const std::string_view wide[] = {"x", "y"};
  scene.core->acquire_async(wide, {}, [&served](Result<Lease> lease) { served = lease.has_value(); });
  scene.workers.run_all();
  for (int i = 0; i < 5; ++i) EXPECT_TRUE(scene.acquire({"hot"}, 1000)) << i;
  EXPECT_FALSE(scene.acquire({"hot"}, 1000)) << "now it must queue";
  EXPECT_FALSE(served);
  hot->let_go();
  scene.workers.run_all();
  EXPECT_TRUE(served);
}

// If this failed, who moves in after a load would pass those that came before it, uncounted.
TEST(EngineCore, WhoMovesInAfterALoadCountsAsAPassOfThoseBeforeIt) {
  for (const bool another_waits_who_came_later : {false, true}) {
    SCOPED_TRACE(another_waits_who_came_later);
    EngineConfig config = sizes(2, 8);
    config.passes_max = 1;
    CoreScene scene(config);
    for (const char* name : {"hot", "cold", "u", "v", "x", "y"}) scene.know(name, 1);
    for (const char* name : {"u", "v", "x", "y"}) ASSERT_TRUE(scene.acquire({name}));  // into host memory
    const Result<Lease> hot = scene.acquire({"hot"});
    ASSERT_TRUE(hot);
    const std::string_view first[] = {"x", "y"};
    const std::string_view second[] = {"cold"};
    const std::string_view third[] = {"u", "v"};
    bool moved_in = false;
    scene.core->acquire_async(first, {}, [](const Result<Lease>&) {});
    scene.core->acquire_async(second, {}, [&moved_in](Result<Lease> lease) { moved_in = lease.has_value(); });
    if (another_waits_who_came_later) scene.core->acquire_async(third, {}, [](const Result<Lease>&) {});
    scene.workers.run_all();
    EXPECT_TRUE(moved_in);
    EXPECT_FALSE(scene.acquire({"hot"}, 1000)) << "now it must queue";
  }
}

// If this failed, a flood of requests would grow without bound.
TEST(EngineCore, RefusesMoreWaitingRequestsThanItsLimit) {
  EngineConfig config = sizes(1, 1);
  config.requests_waiting_max = 2;
  CoreScene scene(config);
  for (const char* name : {"a0", "a1"}) scene.know(name, 1);
  std::vector<Errc> errors;
  const std::string_view names[] = {"a0"};
  for (int i = 0; i < 3; ++i)
    scene.core->acquire_async(names, {}, [&errors](Result<Lease> lease) {
      if (!lease) errors.push_back(lease.error().code);
    });
  EXPECT_EQ(errors, std::vector<Errc>{Errc::kBusy});
  scene.workers.run_all();
}

// If this failed, an asynchronous caller with a deadline would never hear of its passing.
TEST(EngineCore, AnAsynchronousRequestEndsAtItsDeadline) {
  CoreScene scene(sizes(1, 2));
  for (const char* name : {"a0", "a1"}) scene.know(name, 1);
  const Result<Lease> held = scene.acquire({"a0"});
  ASSERT_TRUE(held);
  std::optional<Error> late;
  const std::string_view names[] = {"a1"};
  scene.core->acquire_async(names, {5'000'000}, [&late](Result<Lease> lease) { late = lease.error(); });
  scene.workers.run_all();
  ASSERT_TRUE(late);
  EXPECT_EQ(late->code, Errc::kDeadline);
  EXPECT_NE(late->message.find("waited for room"), std::string::npos) << late->message;
  EXPECT_TRUE(scene.core->status("a1")->on_host) << "what was read for it is kept for the next";
}

// If this failed, changing the policy of a running server would empty its caches.
TEST(EngineCore, ChangingAPolicyKeepsTheResidents) {
  CoreScene scene(sizes(2, 4));
  for (const char* name : {"a0", "a1", "a2"}) {
    scene.know(name, 1);
    ASSERT_TRUE(scene.acquire({name}));
  }
  ASSERT_TRUE(scene.core->set_policy(1, "sieve"));
  ASSERT_TRUE(scene.core->set_policy(0, "gdsf"));
  EXPECT_EQ(scene.core->stats().host.entries, 3U);
  EXPECT_EQ(scene.core->stats().host.policy, "sieve");
  EXPECT_EQ(scene.core->set_policy(1, "belady").error().code, Errc::kInvalid);
  EXPECT_EQ(scene.core->set_policy(1, "no-such").error().code, Errc::kNotFound);
  ASSERT_TRUE(scene.core->set_policy(1, "conservative"));
  EXPECT_EQ(scene.core->stats().host.entries, 2U) << "as many as slots";
  ASSERT_TRUE(scene.core->set_policy(1, "aggressive"));
  EXPECT_EQ(scene.core->stats().host.entries_max, 4U);
}

// If this failed, the request path would meet the allocator's locks and its fragmentation.
TEST(EngineCore, AcquiringAResidentAdapterAllocatesNothing) {
  CoreScene scene(sizes(4, 8));
  for (const char* name : {"a0", "a1", "a2"}) {
    scene.know(name, 1);
    ASSERT_TRUE(scene.acquire({name}));
  }
  const std::string_view one[] = {"a0"};
  const std::string_view three[] = {"a1", "a2", "a0"};
  const std::uint64_t before = allocation_count();
  for (int i = 0; i < 1000; ++i) {
    const Result<Lease> first = scene.core->acquire(one, {});
    const Result<Lease> second = scene.core->acquire(three, {});
    ASSERT_TRUE(first && second);
  }
  EXPECT_EQ(allocation_count() - before, 0U);
}

// If this failed, a leak of rows would end a server that adds and removes adapters all day.
TEST(EngineCore, RowsComeBackWhenAdaptersAreReplacedForEver) {
  CoreScene scene(sizes(1, 2), 1, /*rows_max=*/4);
  for (int i = 0; i < 100; ++i) {
    scene.know("a0", 1 + static_cast<std::uint32_t>(i) % kWidth);
    const Result<Lease> lease = scene.acquire({"a0"});
    ASSERT_TRUE(lease) << i << ": " << lease.error().message;
    scene.expect_whole(*lease, {scene.version_of("a0")});
  }
  for (int i = 0; i < 50; ++i) {
    const std::string name = "b" + std::to_string(i);
    scene.know(name, 1);
    ASSERT_TRUE(scene.acquire({name})) << i;
  }
}

// If this failed, the engine would deadlock, race or lose a lease under real threads.
TEST(EngineCore, ManyThreadsOnFewSlotsLoseNothing) {
  constexpr int kThreads = 8;
  constexpr int kRounds = 200;
  EngineConfig config = sizes(3, 5);
  const std::unique_ptr<DeviceMemory> device = make_host_memory_device();
  const std::unique_ptr<Workers> workers = make_thread_workers(2);
  const Env env{&posix_clock(), &posix_files(), workers.get(), device.get()};
  std::atomic<int> reads = 0;
  Result<std::unique_ptr<EngineCore>> core = EngineCore::make(
      config, one_slice(), 64, env,
      [&reads](const std::string& name, const AdapterSource& source,
               std::span<std::byte> image) -> Result<std::shared_ptr<const ImageManifest>> {
        if (++reads % 7 == 0) return fail(Errc::kIo, name);
        std::vector<float> values(image.size() / sizeof(float), static_cast<float>(source.id));
        std::memcpy(image.data(), values.data(), image.size());
        ImageManifest manifest;
        manifest.tensors = {{0, source.rank, 0, values.size() / 2}};
        manifest.elements = values.size();
        return std::make_shared<const ImageManifest>(std::move(manifest));
      });
  ASSERT_TRUE(core);
  for (std::uint32_t i = 1; i <= 10; ++i) {
    AdapterSource source;
    source.id = i;
    source.rank = 1 + i % kWidth;
    source.bytes = std::uint64_t{2} * source.rank * kWidth * sizeof(float);
    (*core)->know("a" + std::to_string(i), source);
  }
  std::atomic<int> served = 0;
  std::atomic<int> wrong = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      Rng rng(static_cast<std::uint64_t>(t));
      for (int round = 0; round < kRounds; ++round) {
        std::string names[2];
        std::string_view views[2];
        const std::size_t count = 1 + rng.below(2);
        for (std::size_t i = 0; i < count; ++i) {
          names[i] = "a" + std::to_string(1 + rng.below(10));
          views[i] = names[i];
        }
        const Result<Lease> lease = (*core)->acquire({views, count}, {10'000'000'000});
        if (!lease) {
          if (lease.error().code != Errc::kIo) ++wrong;
          continue;
        }
        ++served;
        for (const LeasedAdapter& adapter : lease->adapters()) {
          float first = 0;
          std::memcpy(&first,
                      device->buffer(0, SlotSide::kA) + adapter.slot * kWidth * kWidth * sizeof(float),
                      sizeof(first));
          if (first != static_cast<float>(adapter.id)) ++wrong;
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_GT(served, kThreads * kRounds / 2);
  (*core)->shutdown();
  const EngineStats stats = (*core)->stats();
  EXPECT_EQ(stats.leases, 0U);
  EXPECT_EQ(stats.requests_waiting, 0U);
}

/// An adapter of rank 1, and what reads it.
AdapterSource rank_one() {
  AdapterSource source;
  source.id = 1;
  source.rank = 1;
  source.bytes = std::uint64_t{2} * kWidth * sizeof(float);
  return source;
}
Result<std::shared_ptr<const ImageManifest>> zeroes(const std::string&, const AdapterSource&,
                                                    std::span<std::byte> image) {
  std::fill(image.begin(), image.end(), std::byte{0});
  ImageManifest manifest;
  manifest.tensors = {{0, 1, 0, kWidth}};
  manifest.elements = std::uint64_t{2} * kWidth;
  return std::make_shared<const ImageManifest>(std::move(manifest));
}

// If this failed, a caller that is willing to wait for centuries would not wait at all.
TEST(EngineCore, ATimeoutBeyondAllClocksIsNone) {
  const std::unique_ptr<DeviceMemory> device = make_host_memory_device();
  const std::unique_ptr<Workers> workers = make_thread_workers(1);
  const Env env{&posix_clock(), &posix_files(), workers.get(), device.get()};
  for (const std::uint64_t timeout_ns : {kNoDeadline - 1, kNoDeadline / 2, kNoDeadline / 2 + 2}) {
    std::promise<bool> served;
    Result<std::unique_ptr<EngineCore>> core = EngineCore::make(sizes(1, 1), one_slice(), 4, env, &zeroes);
    ASSERT_TRUE(core);
    (*core)->know("a0", rank_one());
    const std::string_view names[] = {"a0"};
    (*core)->acquire_async(names, {timeout_ns}, [&served](Result<Lease> lease) {
      if (lease) lease->let_go();
      served.set_value(lease.has_value());
    });
    EXPECT_TRUE(served.get_future().get()) << timeout_ns;
    ASSERT_TRUE((*core)->deactivate("a0"));
    EXPECT_TRUE((*core)->acquire(names, {timeout_ns})) << timeout_ns;
  }
}

// If this failed, a callback would come back into an engine that is gone.
TEST(EngineCore, ShutdownWaitsForCallbacksThatHaveLetTheirLeaseGo) {
  const std::unique_ptr<DeviceMemory> device = make_host_memory_device();
  const std::unique_ptr<Workers> workers = make_thread_workers(1);
  const Env env{&posix_clock(), &posix_files(), workers.get(), device.get()};
  Result<std::unique_ptr<EngineCore>> core = EngineCore::make(sizes(1, 1), one_slice(), 4, env, &zeroes);
  ASSERT_TRUE(core);
  (*core)->know("a0", rank_one());
  std::atomic<bool> let_go = false;
  std::atomic<bool> returned = false;
  const std::string_view names[] = {"a0"};
  (*core)->acquire_async(names, {}, [&let_go, &returned](Result<Lease> lease) {
    lease->let_go();
    let_go = true;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    returned = true;
  });
  while (!let_go) std::this_thread::yield();
  (*core)->shutdown();
  EXPECT_TRUE(returned);
}

// If this failed, a deadline that passes after the engine has gone would be told to freed memory.
TEST(EngineCore, ATimerMayOutliveTheEngine) {
  CoreScene scene(sizes(1, 1));
  scene.know("a0", 1);
  bool served = false;
  const std::string_view names[] = {"a0"};
  scene.core->acquire_async(names, {1'000'000'000},
                            [&served](Result<Lease> lease) { served = lease.has_value(); });
  while (!served && scene.workers.pending()) scene.workers.run_one();
  EXPECT_TRUE(served);
  scene.core.reset();
  EXPECT_TRUE(scene.workers.pending()) << "the timer";
  scene.workers.run_all();
}

}  // namespace
}  // namespace loracle::testing
