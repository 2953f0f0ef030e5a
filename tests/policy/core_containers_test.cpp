// The containers that policies are built of, each against the plainest thing that does the same.

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <list>
#include <set>
#include <tuple>
#include <vector>

#include "loracle/core/dense_set.hpp"
#include "loracle/core/indexed_heap.hpp"
#include "loracle/core/rng.hpp"
#include "loracle/core/row_lists.hpp"
#include "loracle/core/row_queues.hpp"
#include "loracle/core/row_ring.hpp"
#include "loracle/core/tick_set.hpp"
#include "loracle/policy/eviction_policy.hpp"

namespace loracle {
namespace {

// Membership that disagrees with the member list would make an adapter resident and not resident at once.
TEST(DenseSet, AgreesWithASet) {
  constexpr std::uint32_t kRows = 20;
  Rng rng(1);
  DenseSet set(kRows);
  std::set<Row> twin;
  for (int step = 0; step < 5000; ++step) {
    const Row row{rng.below(kRows)};
    if (twin.contains(row)) {
      set.erase(row);
      twin.erase(row);
    } else {
      set.insert(row);
      twin.insert(row);
    }
    ASSERT_EQ(set.size(), twin.size());
    ASSERT_EQ(set.empty(), twin.empty());
    ASSERT_EQ(std::set<Row>(set.rows().begin(), set.rows().end()), twin);
    for (std::uint32_t i = 0; i < kRows; ++i) ASSERT_EQ(set.contains(Row{i}), twin.contains(Row{i}));
  }
}

// A list that loses its order evicts the wrong adapter; one that loses a row leaks it.
TEST(RowLists, AgreeWithStdLists) {
  constexpr std::uint32_t kRows = 12;
  constexpr std::uint32_t kLists = 3;
  Rng rng(2);
  RowLists lists(kRows, kLists);
  std::array<std::list<Row>, kLists> twins;
  const auto home_of = [&](Row row) {
    for (std::uint32_t i = 0; i < kLists; ++i)
      if (std::find(twins[i].begin(), twins[i].end(), row) != twins[i].end()) return i;
    return kLists;
  };
  for (int step = 0; step < 20'000; ++step) {
    const Row row{rng.below(kRows)};
    const std::uint32_t to = rng.below(kLists);
    const std::uint32_t home = home_of(row);
    ASSERT_EQ(lists.linked(row), home != kLists);
    if (home == kLists) {
      const std::uint32_t how = rng.below(3);
      if (how == 0 || twins[to].empty()) {
        lists.push_front(to, row);
        twins[to].push_front(row);
      } else if (how == 1) {
        lists.push_back(to, row);
        twins[to].push_back(row);
      } else {
        const auto place =
            std::next(twins[to].begin(), rng.below(static_cast<std::uint32_t>(twins[to].size())));
        lists.insert_older(*place, row);
        twins[to].insert(std::next(place), row);
      }
    } else if (rng.below(2) == 0) {
      lists.erase(row);
      twins[home].remove(row);
    } else {
      lists.move_to_front(to, row);
      twins[home].remove(row);
      twins[to].push_front(row);
    }
    for (std::uint32_t i = 0; i < kLists; ++i) {
      std::vector<Row> down;
      for (Row r = lists.front(i); r != kNoRow; r = lists.older(r)) down.push_back(r);
      std::vector<Row> up;
      for (Row r = lists.back(i); r != kNoRow; r = lists.newer(r)) up.push_back(r);
      ASSERT_EQ(down, std::vector<Row>(twins[i].begin(), twins[i].end())) << "step " << step;
      ASSERT_EQ(up, std::vector<Row>(twins[i].rbegin(), twins[i].rend())) << "step " << step;
      ASSERT_EQ(lists.empty(i), twins[i].empty());
    }
  }
}

// A weight that stays behind when its row leaves would shrink a queue for ever.
TEST(RowQueues, KeepWeightsAndCountsOfWhoIsInThem) {
  constexpr std::uint32_t kRows = 10;
  constexpr std::uint32_t kQueues = 4;
  for (const bool weighed : {false, true}) {
    Rng rng(3);
    RowQueues queues(kRows, kQueues, weighed);
    struct Member {
      std::uint32_t queue = RowQueues::kNowhere;
      std::uint64_t weight = 0;
      std::uint32_t count = 0;
    };
    std::vector<Member> twin(kRows);
    for (int step = 0; step < 5000; ++step) {
      const Row row{rng.below(kRows)};
      Member& member = twin[index_of(row)];
      const std::uint32_t to = rng.below(kQueues);
      if (member.queue == RowQueues::kNowhere) {
        member = {to, weighed ? 1 + rng.below(100) : 1, 0};
        queues.push_front(to, row, member.weight);
      } else if (rng.below(3) == 0) {
        member.queue = RowQueues::kNowhere;
        queues.erase(row);
      } else if (rng.below(2) == 0) {
        member.queue = to;
        queues.move_to_front(to, row);
        ASSERT_EQ(queues.front(to), row);
      } else {
        member.count = rng.below(RowQueues::kCountMax + 1);
        queues.set_count(row, member.count);
      }
      std::array<std::uint64_t, kQueues> weights{};
      for (std::uint32_t i = 0; i < kRows; ++i) {
        ASSERT_EQ(queues.queue_of(Row{i}), twin[i].queue);
        if (twin[i].queue == RowQueues::kNowhere) continue;
        weights[twin[i].queue] += twin[i].weight;
        ASSERT_EQ(queues.count_of(Row{i}), twin[i].count);
        ASSERT_EQ(queues.weight_of(Row{i}), twin[i].weight);
      }
      for (std::uint32_t q = 0; q < kQueues; ++q) ASSERT_EQ(queues.weight(q), weights[q]);
    }
  }
}

// A walk for a victim that stopped at a held row would refuse requests that could be served.
TEST(RowQueues, FindTheOldestRowThatIsFree) {
  RowQueues queues(4, 1, false);
  for (std::uint32_t i = 0; i < 4; ++i) queues.push_front(0, Row{i}, 1);
  std::vector<std::uint32_t> holds = {1, 1, 0, 0};
  EXPECT_EQ(queues.oldest_free(0, HoldGuard{holds}), Row{2});
  holds = {1, 1, 1, 1};
  EXPECT_EQ(queues.oldest_free(0, HoldGuard{holds}), kNoRow);
  EXPECT_EQ(queues.oldest_free(0, NoGuard{}), Row{0});
}

// Arrival order is what FIFO, CLOCK and SIEVE decide by; holes and growth must not disturb it or a held
// position.
TEST(RowRing, AgreesWithAListThroughHolesPackingAndGrowth) {
  constexpr std::uint32_t kRows = 30;
  for (const std::uint64_t live_max : {1ULL, 4ULL, 30ULL, ~0ULL}) {
    Rng rng(live_max);
    RowRing ring(kRows, live_max);
    std::vector<Row> twin;  // oldest first
    std::set<Row> marked;
    RowRing::Position hand = ring.begin();
    Row at_hand = kNoRow;  // kNoRow: the end
    for (int step = 0; step < 20'000; ++step) {
      const Row row{rng.below(kRows)};
      const auto found = std::find(twin.begin(), twin.end(), row);
      const std::uint32_t what = rng.below(8);
      if (found == twin.end()) {
        const bool hand_at_end = at_hand == kNoRow;
        ring.push(row, hand);
        twin.push_back(row);
        if (hand_at_end) at_hand = row;
      } else if (what < 4) {
        const RowRing::Position newer = ring.erase_at(ring.position_of(row));
        const Row next = std::next(found) == twin.end() ? kNoRow : *std::next(found);
        ASSERT_EQ(newer == ring.end() ? kNoRow : ring.at(newer), next);
        if (row == at_hand) {
          at_hand = next;
          hand = newer;
        } else if (at_hand == kNoRow) {
          hand = ring.end();  // the end may have moved back over holes
        }
        twin.erase(found);
        marked.erase(row);
      } else if (what == 4) {
        ring.mark(row);
        marked.insert(row);
      } else if (what == 5) {
        ring.unmark(row);
        marked.erase(row);
      } else if (what == 6) {
        hand = ring.position_of(row);
        at_hand = row;
      } else if (twin.front() != at_hand && at_hand != kNoRow) {
        ring.rotate();
        marked.erase(twin.front());
        std::rotate(twin.begin(), twin.begin() + 1, twin.end());
      }
      ASSERT_EQ(ring.size(), twin.size());
      std::vector<Row> walked;
      for (RowRing::Position at = ring.begin(); at != ring.end(); at = ring.next_row(at)) {
        ASSERT_NE(ring.at(at), kNoRow);
        walked.push_back(ring.at(at));
      }
      ASSERT_EQ(walked, twin) << "step " << step << ", live_max " << live_max;
      for (const Row r : twin) {
        ASSERT_EQ(ring.marked(r), marked.contains(r));
        ASSERT_EQ(ring.at(ring.position_of(r)), r);
      }
      ASSERT_EQ(hand == ring.end() ? kNoRow : ring.at(hand), at_hand)
          << "step " << step << ", live_max " << live_max;
    }
  }
}

// A heap that lets go of a row that is not the least evicts what should stay; ties decide victims too.
TEST(IndexedHeap, AgreesWithASortedListThroughGuardsAndTies) {
  constexpr std::uint32_t kRows = 40;
  for (const std::uint32_t first_order : {0U, 0xFFFF'FFFFU - 900U}) {  // the second runs out of order numbers
    Rng rng(first_order);
    IndexedHeap<std::uint64_t> heap(kRows, first_order);
    std::vector<std::tuple<std::uint64_t, std::uint64_t, Row>> twin;  // priority, when it was set, row
    std::uint64_t clock = 0;
    const auto find = [&](Row row) {
      return std::find_if(twin.begin(), twin.end(), [&](const auto& e) { return std::get<2>(e) == row; });
    };
    for (int step = 0; step < 20'000; ++step) {
      const Row row{rng.below(kRows)};
      const std::uint64_t priority = rng.below(6);
      const auto found = find(row);
      ASSERT_EQ(heap.contains(row), found != twin.end());
      const std::uint32_t what = rng.below(6);
      if (found == twin.end()) {
        heap.insert(row, priority);
        twin.emplace_back(priority, clock++, row);
      } else if (what < 2) {
        heap.update(row, priority);
        *found = {priority, clock++, row};
      } else if (what == 2) {
        heap.erase(row);
        twin.erase(found);
      } else {
        std::vector<std::uint32_t> holds(kRows, 0);
        for (std::uint32_t& hold : holds) hold = rng.below(3) == 0 || what == 5 ? 1 : 0;
        if (what == 5) holds[rng.below(kRows)] = 0;
        const std::uint64_t kept_from = rng.below(8);
        auto least = twin.end();
        for (auto it = twin.begin(); it != twin.end(); ++it)
          if (holds[index_of(std::get<2>(*it))] == 0 && (least == twin.end() || *it < *least)) least = it;
        Row expected = kNoRow;
        if (least != twin.end() && std::get<0>(*least) < kept_from) {
          expected = std::get<2>(*least);
          twin.erase(least);
        }
        ASSERT_EQ(heap.take_unless(HoldGuard{holds}, [&](std::uint64_t p) { return p >= kept_from; }),
                  expected)
            << "step " << step;
      }
      ASSERT_EQ(heap.size(), twin.size());
      ASSERT_EQ(heap.empty(), twin.empty());
      if (step % 3 == 0) {
        ASSERT_EQ(heap.least(),
                  twin.empty() ? kNoRow : std::get<2>(*std::min_element(twin.begin(), twin.end())));
      }
      for (const auto& [p, order, r] : twin) ASSERT_EQ(heap.priority_of(r), p);
    }
  }
}

// Belady takes the largest tick of this set: a wrong one is a wrong victim and no bound at all.
TEST(TickSet, AgreesWithASet) {
  for (const std::uint32_t limit : {1U, 2U, 63U, 64U, 65U, 4095U, 4096U, 4097U, 300'000U}) {
    Rng rng(limit);
    TickSet ticks(limit);
    std::set<std::uint32_t> twin;
    const std::uint32_t spread = std::min(limit, 50U);
    for (int step = 0; step < 3000; ++step) {
      const std::uint32_t tick =
          rng.below(4) == 0 ? limit - 1 - rng.below(spread) : rng.below(rng.below(2) == 0 ? spread : limit);
      if (rng.below(2) == 0) {
        ticks.insert(tick);
        twin.insert(tick);
      } else {
        ticks.erase(tick);
        twin.erase(tick);
      }
      ASSERT_EQ(ticks.contains(tick), twin.contains(tick));
      ASSERT_EQ(ticks.largest(), twin.empty() ? TickSet::kNone : *twin.rbegin());
      const std::uint32_t below = rng.below(limit);
      const auto it = twin.lower_bound(below);
      ASSERT_EQ(ticks.largest_below(below), it == twin.begin() ? TickSet::kNone : *std::prev(it));
    }
  }
}

}  // namespace
}  // namespace loracle
