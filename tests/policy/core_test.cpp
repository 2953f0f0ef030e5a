// The small things under everything: units, checks, results, random numbers, near names, capacities.

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "loracle/core/adapter_table.hpp"
#include "loracle/core/check.hpp"
#include "loracle/core/nearest.hpp"
#include "loracle/core/parse_bytes.hpp"
#include "loracle/core/result.hpp"
#include "loracle/core/rng.hpp"
#include "loracle/core/units.hpp"
#include "loracle/policy/capacity.hpp"
#include "loracle/policy/decision_log.hpp"
#include "loracle/policy/make_room.hpp"

namespace loracle {
namespace {

// A check that does not end the process would let a broken state run on and lose adapters later.
TEST(CheckDeathTest, AFailedCheckSaysWhatAndWhereAndAborts) {
  const auto fail_check = [] { LORACLE_CHECK(1 + 1 == 3); };
  EXPECT_DEATH(fail_check(), "core_test.cpp:[0-9]+: check failed: 1 \\+ 1 == 3");
}

// A release build that evaluated DCHECKs would pay for them in the hottest loops; a checked one must not skip
// them.
TEST(CheckDeathTest, ADcheckIsOnlyEvaluatedWhereItIsOn) {
  int evaluated = 0;
  const auto count = [&] { return ++evaluated > 0; };
  LORACLE_DCHECK(count());
#ifdef LORACLE_DCHECKS
  EXPECT_EQ(evaluated, 1);
#else
  EXPECT_EQ(evaluated, 0);
#endif
}

// Seeds are written into reports and tests: another sequence from the same seed would make them all lies.
TEST(Rng, GivesThePublishedSequences) {
  // splitmix64 from state 1234567: the first outputs of its reference implementation, known far and wide.
  std::uint64_t state = 1234567;
  EXPECT_EQ(splitmix64(state), 6457827717110365317ULL);
  EXPECT_EQ(splitmix64(state), 3203168211198807973ULL);
  EXPECT_EQ(splitmix64(state), 9817491932198370423ULL);
  // xoshiro256** by its definition, written out once more.
  std::array<std::uint64_t, 4> s{};
  std::uint64_t seed = 42;
  for (std::uint64_t& word : s) word = splitmix64(seed);
  const auto rotate = [](std::uint64_t x, unsigned k) { return (x << k) | (x >> (64U - k)); };
  Rng rng(42);
  for (int i = 0; i < 1000; ++i) {
    const std::uint64_t expected = rotate(s[1] * 5, 7) * 9;
    const std::uint64_t t = s[1] << 17U;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate(s[3], 45);
    ASSERT_EQ(rng.next(), expected) << "draw " << i;
  }
}

// A biased draw would make "random" eviction prefer some adapters.
TEST(Rng, DrawsEveryValueBelowABoundAboutEquallyOften) {
  for (const std::uint32_t bound : {1U, 2U, 3U, 7U, 10U}) {
    Rng rng(bound);
    std::vector<std::uint32_t> seen(bound, 0);
    constexpr std::uint32_t kDraws = 20'000;
    for (std::uint32_t i = 0; i < kDraws; ++i) ++seen.at(rng.below(bound));
    for (const std::uint32_t count : seen) EXPECT_NEAR(count, kDraws / bound, 500) << "bound " << bound;
  }
}

// A uniform draw of 1.0 would index one past the end of a cumulative distribution.
TEST(Rng, UniformStaysBelowOne) {
  Rng rng(3);
  double sum = 0;
  for (int i = 0; i < 10'000; ++i) {
    const double u = rng.uniform();
    ASSERT_GE(u, 0.0);
    ASSERT_LT(u, 1.0);
    sum += u;
  }
  EXPECT_NEAR(sum / 10'000, 0.5, 0.02);
}

// Who mistypes a policy should be told the one that was meant, and not a far-fetched one.
TEST(NearestName, FindsWhatWasMeantAndNothingFarFetched) {
  constexpr std::array<std::string_view, 4> kNames = {"lru", "sieve", "gdsf", "belady-size"};
  EXPECT_EQ(nearest_name("seive", kNames), "sieve");
  EXPECT_EQ(nearest_name("SIEVE", kNames), "sieve");
  EXPECT_EQ(nearest_name("lri", kNames), "lru");
  EXPECT_EQ(nearest_name("beladysize", kNames), "belady-size");
  EXPECT_EQ(nearest_name("quetzalcoatl", kNames), "");
  EXPECT_EQ(nearest_name("", kNames), "");
  EXPECT_EQ(nearest_name(std::string(1000, 'x'), kNames), "");
  EXPECT_EQ(nearest_name("lru", {}), "");
  const std::string message = unknown_name_message("policy", "seive", kNames);
  EXPECT_EQ(message, "unknown policy 'seive'; did you mean 'sieve'? Known: lru sieve gdsf belady-size");
}

// These names reach JSON and logs that other programs read.
TEST(Result, NamesItsErrorsAsFilesKnowThem) {
  EXPECT_EQ(name_of(Errc::kInvalid), "invalid");
  EXPECT_EQ(name_of(Errc::kNotFound), "not_found");
  EXPECT_EQ(name_of(Errc::kIo), "io");
  EXPECT_EQ(name_of(Errc::kCorrupt), "corrupt");
  EXPECT_EQ(name_of(Errc::kTooLarge), "too_large");
  EXPECT_EQ(name_of(Errc::kAllPinned), "all_pinned");
  EXPECT_EQ(name_of(Errc::kUnsupported), "unsupported");
  const Result<int> failed = fail(Errc::kIo, "a.csv: cannot read", 2);
  ASSERT_FALSE(failed.has_value());
  EXPECT_EQ(failed.error().detail, 2);
  EXPECT_EQ(failed.error().message, "a.csv: cannot read");
}

// Places and actions are numbers in stored logs: a renumbering would change the meaning of old files.
TEST(DecisionLog, KeepsItsNumbersAndNames) {
  EXPECT_EQ(static_cast<int>(Place::kNowhere), 0);
  EXPECT_EQ(static_cast<int>(Place::kOrigin), 1);
  EXPECT_EQ(static_cast<int>(Place::kDisk), 2);
  EXPECT_EQ(static_cast<int>(Place::kHost), 3);
  EXPECT_EQ(static_cast<int>(Place::kDevice), 4);
  EXPECT_EQ(static_cast<int>(Action::kHit), 1);
  EXPECT_EQ(static_cast<int>(Action::kLoad), 2);
  EXPECT_EQ(static_cast<int>(Action::kEvict), 3);
  EXPECT_EQ(static_cast<int>(Action::kRefuse), 4);
  EXPECT_EQ(static_cast<int>(Action::kRemove), 5);
  EXPECT_EQ(name_of(Place::kNowhere), "-");
  EXPECT_EQ(name_of(Place::kOrigin), "origin");
  EXPECT_EQ(name_of(Place::kDisk), "disk");
  EXPECT_EQ(name_of(Place::kHost), "host");
  EXPECT_EQ(name_of(Place::kDevice), "device");
  EXPECT_EQ(name_of(Action::kHit), "hit");
  EXPECT_EQ(name_of(Action::kLoad), "load");
  EXPECT_EQ(name_of(Action::kEvict), "evict");
  EXPECT_EQ(name_of(Action::kRefuse), "refuse");
  EXPECT_EQ(name_of(Action::kRemove), "remove");
}

// Engine and simulator compare hashes: a field that is not hashed could differ between them unseen.
TEST(DecisionLog, HashesEveryFieldAndTheOrder) {
  const auto hash_of = [](std::initializer_list<Decision> decisions) {
    DecisionLog log;
    for (const Decision& d : decisions) log.add(d.action, d.row, d.from, d.to, d.slot);
    return log.hash();
  };
  const Decision base{0, Action::kLoad, Row{5}, Place::kHost, Place::kDevice, 2};
  Decision other = base;
  other.action = Action::kEvict;
  EXPECT_NE(hash_of({base}), hash_of({other}));
  other = base;
  other.row = Row{6};
  EXPECT_NE(hash_of({base}), hash_of({other}));
  other = base;
  other.from = Place::kDisk;
  EXPECT_NE(hash_of({base}), hash_of({other}));
  other = base;
  other.to = Place::kHost;
  EXPECT_NE(hash_of({base}), hash_of({other}));
  other = base;
  other.slot = 3;
  EXPECT_NE(hash_of({base}), hash_of({other}));
  EXPECT_NE(hash_of({base, other}), hash_of({other, base}));
  EXPECT_NE(hash_of({base}), hash_of({}));
  EXPECT_EQ(hash_of({base, other}), hash_of({base, other}));
  EXPECT_EQ(hash_of({}), 0xCBF2'9CE4'8422'2325ULL) << "FNV-1a of nothing is its offset basis";
}

// An addition that wraps would let a tier take an adapter that is far larger than what is left.
TEST(Fits, NeitherWrapsNorOvershoots) {
  const Capacity both{3, Bytes{100}};
  EXPECT_TRUE(fits({2, Bytes{60}}, Bytes{40}, both));
  EXPECT_FALSE(fits({2, Bytes{60}}, Bytes{41}, both));
  EXPECT_FALSE(fits({3, Bytes{0}}, Bytes{1}, both));
  EXPECT_FALSE(fits({0, Bytes{1}}, Bytes::max(), both));
  EXPECT_FALSE(fits({0, Bytes{1}}, Bytes::max() - Bytes{0}, {5, Bytes{kUnlimited}}))
      << "1 + 2^64 - 1 bytes do not fit in 2^64 - 1";
  EXPECT_TRUE(fits({0, Bytes{0}}, Bytes::max(), {5, Bytes{kUnlimited}}));
  EXPECT_TRUE(fits({7, Bytes{1}}, Bytes{1}, {}));
}

// Policies that split their space would size their queues in the wrong unit.
TEST(Weigher, CountsBytesWhereBytesAreLimitedAndAdaptersElsewhere) {
  AdapterTable table;
  table.size = {Bytes{10}, Bytes{20}};
  const Weigher entries(Capacity{4, Bytes{kUnlimited}});
  EXPECT_EQ(entries.total(), 4U);
  EXPECT_EQ(entries.of(Row{1}, table), 1U);
  const Weigher bytes(Capacity{kUnlimited, Bytes{64}});
  EXPECT_EQ(bytes.total(), 64U);
  EXPECT_EQ(bytes.of(Row{1}, table), 20U);
  const Weigher both(Capacity{4, Bytes{64}});
  EXPECT_EQ(both.total(), 64U);
  EXPECT_EQ(both.of(Row{0}, table), 10U);
}

// An empty column that read out of bounds would crash every replay that counts objects.
TEST(AdapterTable, AnEmptyColumnMeansTheSameForAll) {
  const AdapterTable table;
  EXPECT_EQ(table.size_of(Row{12}), Bytes{1});
  EXPECT_EQ(table.reload_cost_of(Row{12}), 1.0F);
  EXPECT_EQ(table.next_use_of(Row{12}), kNever);
}

TEST(HumanBytes, AreRoundedAndReadable) {
  // If this failed, tables would show sizes that nobody reads, such as 1024.0 KiB.
  EXPECT_EQ(human_bytes(Bytes{0}), "0 B");
  EXPECT_EQ(human_bytes(Bytes{1023}), "1023 B");
  EXPECT_EQ(human_bytes(Bytes{1536}), "1.5 KiB");
  EXPECT_EQ(human_bytes(Bytes{(1U << 20U) - 1}), "1.0 MiB");
  EXPECT_EQ(human_bytes(Bytes{13'207'024'435}), "12.3 GiB");
  EXPECT_EQ(human_bytes(Bytes{5'000ULL << 40U}), "5000.0 TiB");
}

}  // namespace
}  // namespace loracle
