// Tier<P> for every policy type: limits, slots and holds, looked at from inside on_evict too.

#include <gtest/gtest.h>

#include <string>
#include <type_traits>
#include <vector>

#include "conformance/scene.hpp"
#include "loracle/policy/all_policies.hpp"
#include "loracle/policy/tier.hpp"

namespace loracle::testing {
namespace {

template <class Tuple>
struct TypesOf;
template <class... P>
struct TypesOf<std::tuple<P...>> {
  using type = ::testing::Types<P..., AnyPolicy>;
};

struct NameOf {
  template <class P>
  static std::string GetName(int) {  // GoogleTest's name for it
    std::string name;
    for (const char c : P::kName) name += c == '-' ? '_' : c;
    return name;
  }
};

template <class P>
P make_policy(std::uint32_t rows, Capacity capacity, std::uint64_t seed) {
  if constexpr (std::is_same_v<P, AnyPolicy>) {
    const std::string_view name = policy_names()[seed % policy_names().size()];
    return *make_any_policy(*parse_policy_spec(name), rows, capacity);
  } else {
    return P(rows, capacity, {});
  }
}

template <class P>
class TierOf : public ::testing::Test {};
TYPED_TEST_SUITE(TierOf, TypesOf<AllPolicies>::type, NameOf);

/// Where everybody is, kept apart from the tier.
struct Books {
  std::vector<Row> row_in;  // grows
  Occupancy used;

  void take(std::uint32_t slot, Row row, const AdapterTable& table) {
    if (row_in.size() <= slot) row_in.resize(slot + 1, kNoRow);
    ASSERT_EQ(row_in[slot], kNoRow) << "slot " << slot << " is taken";
    for (std::uint32_t lower = 0; lower < slot; ++lower)
      ASSERT_NE(row_in[lower], kNoRow) << "slot " << slot << " taken, and " << lower << " was free";
    row_in[slot] = row;
    ++used.entries;
    used.bytes += table.size_of(row);
  }
  void leave(std::uint32_t slot, Row row, const AdapterTable& table) {
    ASSERT_LT(slot, row_in.size());
    ASSERT_EQ(row_in[slot], row);
    row_in[slot] = kNoRow;
    --used.entries;
    used.bytes -= table.size_of(row);
  }
};

// A tier that is over its capacity for a moment writes past the end of a GPU buffer in that moment.
TYPED_TEST(TierOf, KeepsItsLimitsSlotsAndHolds) {
  using P = TypeParam;
  for (std::uint64_t seed = 0; seed < (soaking() ? 3000U : 24U); ++seed) {
    const Scene scene = make_scene(seed + 13'000, static_cast<Limit>(seed % 3), {});
    SCOPED_TRACE(scene.describe());
    AdapterTable table = scene.table;
    Tier<P> tier(scene.rows, scene.capacity, make_policy<P>(scene.rows, scene.capacity, seed), table);
    Books books;
    std::vector<std::uint32_t> leases(scene.rows, 0);
    Rng rng(seed);
    for (std::size_t i = 0; i < scene.uses.size(); ++i) {
      const Row row = scene.uses[i];
      const Tick now{i};
      table.next_use[index_of(row)] = scene.next[i] == 0xFFFF'FFFFU ? kNever : Tick{scene.next[i]};
      const Row other{rng.below(scene.rows)};
      switch (rng.below(10)) {
        case 0:
          tier.pin(other);
          break;
        case 1:
        case 2:
          tier.unpin(other);
          break;
        case 3:
          tier.hold(other);
          ++leases[index_of(other)];
          break;
        case 4:
        case 5:
          for (std::uint32_t r = 0; r < scene.rows; ++r) {
            if (leases[r] == 0) continue;
            --leases[r];
            tier.let_go(Row{r});
          }
          break;
        case 6:
          if (tier.contains(other)) books.leave(tier.remove(other), other, table);
          break;
        default:
          break;
      }
      ASSERT_FALSE(this->HasFatalFailure());
      const auto check_limits = [&] {
        ASSERT_LE(books.used.entries, scene.capacity.entries);
        ASSERT_LE(books.used.bytes, scene.capacity.bytes);
        ASSERT_EQ(tier.used().entries, books.used.entries);
        ASSERT_EQ(tier.used().bytes, books.used.bytes);
      };
      if (tier.contains(row)) {
        tier.touch(row, now);
      } else {
        const bool held_before = tier.held(row);
        const Admission admission = tier.insert(row, now, [&](Row victim, std::uint32_t slot) {
          ASSERT_FALSE(tier.held(victim));
          ASSERT_FALSE(tier.contains(victim));
          books.leave(slot, victim, table);
          check_limits();
        });
        ASSERT_FALSE(this->HasFatalFailure());
        ASSERT_FALSE(held_before && admission == Admission::kBypassed);
        ASSERT_EQ(admission == Admission::kTooLarge, !fits(Occupancy{}, table.size_of(row), scene.capacity));
        ASSERT_EQ(admission == Admission::kInserted, tier.contains(row));
        if (admission == Admission::kInserted) books.take(tier.slot_of(row), row, table);
      }
      check_limits();
      for (std::size_t slot = 0; slot < books.row_in.size(); ++slot)
        ASSERT_EQ(tier.row_in()[slot], books.row_in[slot]) << "slot " << slot << " at use " << i;
      for (std::uint32_t r = 0; r < scene.rows; ++r)
        ASSERT_EQ(tier.contains(Row{r}), tier.policy().contains(Row{r}));
      ASSERT_FALSE(this->HasFatalFailure());
    }
  }
}

}  // namespace
}  // namespace loracle::testing
