#include "loracle/sim/costs.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "loracle/core/rng.hpp"

namespace loracle {
namespace {

constexpr std::uint64_t kGib = 1ULL << 30U;

std::string file_with(const std::string& prices) {
  return R"({"schema": "loracle.prices/1", "currency": "USD", "source": "list, 2026-09", "prices": )" +
         prices + "}";
}

Prices all_prices() {
  const auto prices =
      parse_prices(file_with(R"({"gpu_hour": 4, "host_gib_month": {"price": 2.5, "source": "invoice"},
                    "disk_gib_month": 0.08, "egress_gib": 0.09, "gets_1000": 0.0004})"),
                   "p.json");
  EXPECT_TRUE(prices.has_value()) << (prices ? "" : prices.error().message);
  return prices.value_or(Prices{});
}

/// A server of 64 GiB for KV cache and slots, 4 GiB of them slots.
MonthlyUse worked_use() {
  MonthlyUse use;
  use.slots = Bytes{4 * kGib};
  use.kv_pool = Bytes{64 * kGib};
  use.loading_us = 36'000'000;
  use.span_us = 3'600'000'000;
  use.host = Bytes{12 * kGib};
  use.disk = Bytes{100 * kGib};
  use.loads = 1'000'000;
  use.loaded = Bytes{80'000 * kGib};
  return use;
}

std::uint64_t amount(const MonthlyCost& cost, CostItem item) { return cost.of(item).amount.value; }

// If this fails, every amount of money a plan prints is wrong.
TEST(Costs, AMonthAsWorkedOutByHand) {
  // gpu       4.00 x 730 h                                        = 2,920.000000
  // kv_cache  2,920 x 4 GiB / (64 - 4) GiB = 2,920 / 15           =   194.666667  (.6666 up)
  // loading   3,114.666667 x 36 s / (3,600 - 36) s = / 99         =    31.461279  (.4612794... down)
  // host      12 GiB x 2.50                                       =    30.000000
  // disk      100 GiB x 0.08                                      =     8.000000
  // egress    80,000 GiB x 0.09                                   = 7,200.000000
  // gets      1,000,000 loads x 2 files x 0.0004 / 1,000          =     0.800000
  // total                                                         = 10,384.927946 -> 10,384.93
  const MonthlyCost cost = monthly_cost(all_prices(), worked_use());
  EXPECT_EQ(amount(cost, CostItem::kGpu), 2'920'000'000U);
  EXPECT_EQ(amount(cost, CostItem::kKvCache), 194'666'667U);
  EXPECT_EQ(amount(cost, CostItem::kLoading), 31'461'279U);
  EXPECT_EQ(amount(cost, CostItem::kHost), 30'000'000U);
  EXPECT_EQ(amount(cost, CostItem::kDisk), 8'000'000U);
  EXPECT_EQ(amount(cost, CostItem::kEgress), 7'200'000'000U);
  EXPECT_EQ(amount(cost, CostItem::kGets), 800'000U);
  EXPECT_EQ(cost.total.value, 10'384'927'946U);
  EXPECT_EQ(money_text(cost.total), "10,384.93");
  EXPECT_TRUE(cost.complete);
  EXPECT_FALSE(cost.impossible);
}

// If this fails, lines do not add up, or a dearer thing does not cost more.
TEST(Costs, LinesAddUpAndFollowTheirPrice) {
  const Prices prices = all_prices();
  Rng rng(7);
  for (int round = 0; round < 200; ++round) {
    MonthlyUse use;
    use.kv_pool = Bytes{kGib * (1 + rng.below(100))};
    use.slots = Bytes{use.kv_pool.value / 1000 * rng.below(1000)};
    use.span_us = 1 + rng.below(1'000'000'000);
    use.loading_us = use.span_us / 1000 * rng.below(1000);
    use.host = Bytes{rng.below(1'000'000'000)};
    use.disk = Bytes{rng.below(1'000'000'000)};
    use.loads = rng.below(1'000'000);
    use.loaded = Bytes{std::uint64_t{rng.below(1'000'000'000)} * 1000};
    const MonthlyCost cost = monthly_cost(prices, use);
    std::uint64_t sum = 0;
    for (const CostLine& line : cost.lines) sum += line.amount.value;
    ASSERT_EQ(cost.total.value, sum);
    ASSERT_TRUE(cost.complete);
    std::uint64_t parts = 0;
    for (std::size_t i = 0; i < kPriceInputs; ++i) {
      const auto input = static_cast<PriceInput>(i);
      parts += cost.of(input).value;
      const MonthlyCost dearer = monthly_cost(with_price(prices, input, 200), use);
      for (std::size_t at = 0; at < kCostItems; ++at) {
        const auto item = static_cast<CostItem>(at);
        const std::uint64_t expected = amount(cost, item) * (price_of(item) == input ? 2 : 1);
        ASSERT_NEAR(static_cast<double>(amount(dearer, item)), static_cast<double>(expected),
                    price_of(item) == input ? 1.0 + 1e-3 * static_cast<double>(expected) : 0.0)
            << name_of(item) << " with twice " << name_of(input);
      }
    }
    ASSERT_EQ(parts, sum) << "every line has one price";
  }
}

// If this fails, a server that loads nothing pays for transfers, or one without slots for lost cache.
TEST(Costs, NothingIsChargedForWhatIsNotUsed) {
  MonthlyUse use = worked_use();
  use.loads = 0;
  use.loaded = Bytes{0};
  use.loading_us = 0;
  use.slots = Bytes{0};
  const MonthlyCost cost = monthly_cost(all_prices(), use);
  for (const CostItem item : {CostItem::kEgress, CostItem::kGets, CostItem::kLoading, CostItem::kKvCache}) {
    EXPECT_EQ(cost.of(item).state, CostState::kKnown) << name_of(item);
    EXPECT_EQ(amount(cost, item), 0U) << name_of(item);
  }
}

// If this fails, what is not known or cannot be is shown as if it were free.
TEST(Costs, WhatIsNotKnownOrCannotBeIsNotZero) {
  MonthlyUse use = worked_use();
  use.kv_pool = Bytes{};
  use.loads.reset();
  Prices prices = all_prices();
  prices.all[static_cast<std::size_t>(PriceInput::kDiskGibMonth)].known = false;
  const MonthlyCost partly = monthly_cost(prices, use);
  EXPECT_FALSE(partly.complete);
  EXPECT_EQ(partly.of(CostItem::kKvCache).state, CostState::kNoAmount);
  EXPECT_EQ(partly.of(CostItem::kGets).state, CostState::kNoAmount);
  EXPECT_EQ(partly.of(CostItem::kDisk).state, CostState::kNoPrice);
  EXPECT_FALSE(partly.impossible);

  use = worked_use();
  use.slots = use.kv_pool;
  EXPECT_TRUE(monthly_cost(all_prices(), use).impossible) << "no KV cache is left";
  use = worked_use();
  use.loading_us = use.span_us + 1;
  EXPECT_TRUE(monthly_cost(all_prices(), use).impossible) << "loads take longer than there is";
  use = worked_use();
  use.loaded = Bytes{1ULL << 63U};
  prices.all[static_cast<std::size_t>(PriceInput::kEgressGib)].amount = Money{1'000'000'000'000};
  EXPECT_TRUE(monthly_cost(prices, use).impossible) << "too much to count, and not wrapped";
}

// If this fails, amounts are off by more than half of a millionth, or wrap.
TEST(Costs, ScalesExactly) {
  EXPECT_EQ(scaled(5, 1, 2), 3U) << "half up";
  EXPECT_EQ(scaled(4, 1, 3), 1U);
  EXPECT_EQ(scaled(1ULL << 59U, 1ULL << 62U, 1ULL << 62U), 1ULL << 59U);
  EXPECT_FALSE(scaled(1ULL << 60U, 1, 1).has_value());
  EXPECT_FALSE(scaled(1, 1, 0).has_value());
}

// If this fails, a slot's price in KV cache, or what vLLM pins, is wrong.
TEST(Costs, MemoryOfLlama31WithEightBillionAsWorkedOutByHand) {
  const auto model = known_model("llama-3.1-8b");
  ASSERT_TRUE(model.has_value());
  // Keys and values, 32 layers, 8 heads of 128, 2 bytes.
  EXPECT_EQ(kv_token_bytes(*model, *kv_dtype_bytes("auto")).value, 2U * 32 * 8 * 128 * 2);
  EXPECT_EQ(kv_token_bytes(*model, *kv_dtype_bytes("fp8")).value, 65'536U);
  const auto modules = target_modules(*model, "auto");
  ASSERT_TRUE(modules.has_value());
  EXPECT_EQ(lora_bytes(*modules, 16, 2).value / kv_token_bytes(*model, 2).value, 640U);
  // A layer at rank 16: q 128+128, k 128+32, v 128+32, o 128+128, gate and up 128+448 each, down 448+128 KiB.
  // Of these only 448 is no power of two; three of them become 512. 2,560 + 3 x 64 = 2,752 KiB, times 32
  // layers = 86 MiB.
  EXPECT_EQ(pinned_bytes(*modules, 16, 2).value, 86U << 20U);
  // The model card's 8.03e9 parameters.
  EXPECT_NEAR(static_cast<double>(weight_bytes(*model, 2).value), 16.06e9, 0.02e9);
  EXPECT_FALSE(kv_dtype_bytes("int3").has_value());
}

// If this fails, prices are not what the file says, to the last digit.
TEST(Prices, AreReadExactly) {
  const Prices prices = all_prices();
  EXPECT_EQ(prices.currency, "USD");
  EXPECT_EQ(prices.of(PriceInput::kGpuHour).amount.value, 4'000'000U);
  EXPECT_EQ(prices.of(PriceInput::kGets1000).amount.value, 400U);
  EXPECT_EQ(prices.of(PriceInput::kGpuHour).source, "list, 2026-09");
  EXPECT_EQ(prices.of(PriceInput::kHostGibMonth).source, "invoice");
  for (const char* written : {"0.1", "0.07", "12.345678", "98765.432109", "1000000", "0.000001", "1e-6"}) {
    const auto one = parse_prices(file_with(std::string(R"({"gpu_hour": )") + written + "}"), "p.json");
    ASSERT_TRUE(one.has_value()) << written;
    const auto expected = static_cast<std::uint64_t>(std::stold(written) * 1e6L + 0.5L);
    EXPECT_EQ(one->of(PriceInput::kGpuHour).amount.value, expected) << written;
    EXPECT_FALSE(one->of(PriceInput::kEgressGib).known) << "not there is not 0";
  }
  EXPECT_EQ(price_text(Money{400}), "0.0004");
  EXPECT_EQ(price_text(Money{4'000'000}), "4.00");
  EXPECT_EQ(money_text(Money{1'234'565'000}), "1,234.57") << "half up";
  EXPECT_EQ(money_text(Money{0}), "0.00");
}

// If this fails, a price file with a slip is taken, and the plan is about other money.
TEST(Prices, RefusesWhatItDoesNotUnderstandAndSaysWhere) {
  struct Case {
    std::string text;
    std::vector<std::string> words;
  };
  const std::vector<Case> cases = {
      {"{", {"p.json", "not a JSON object"}},
      {"[]", {"not a JSON object"}},
      {file_with(R"({"gpu_hour": NaN})"), {"NaN"}},
      {R"({"currency": "USD", "prices": {"gpu_hour": 1}})", {"'schema'", "missing", "loracle.prices/1"}},
      {R"({"schema": "loracle.prices/2", "currency": "USD", "prices": {"gpu_hour": 1}})",
       {"'schema'", "loracle.prices/2", "loracle.prices/1"}},
      {R"({"schema": "loracle.prices/1", "prices": {"gpu_hour": 1}})", {"'currency'", "USD"}},
      {R"({"schema": "loracle.prices/1", "currency": "USD"})", {"'prices'", "gpu_hour"}},
      {file_with("{}"), {"'prices'"}},
      {file_with(R"({"gpu_hours": 1})"), {"'prices.gpu_hours'", "did you mean 'gpu_hour'"}},
      {file_with(R"({"gpu_hour": -1})"), {"'prices.gpu_hour'", "-1", "0 or more"}},
      {file_with(R"({"gpu_hour": "4"})"), {"'prices.gpu_hour'", "number"}},
      {file_with(R"({"gpu_hour": 1e7})"), {"'prices.gpu_hour'", "at most 1000000"}},
      {file_with(R"({"gpu_hour": 0.0000001})"), {"'prices.gpu_hour'", "six decimals"}},
      {file_with(R"({"gpu_hour": {"source": "x"}})"), {"'prices.gpu_hour.price'", "missing"}},
      {file_with(R"({"gpu_hour": {"price": -2}})"), {"'prices.gpu_hour.price'", "0 or more"}},
      {file_with(R"({"gpu_hour": {"price": 2, "from": "x"}})"), {"'prices.gpu_hour.from'"}},
      {file_with(R"({"gpu_hour": {"price": 2, "source": ""}})"), {"'prices.gpu_hour.source'"}},
      {file_with(R"({"gpu_hour": 1, "gpu_hour": 2})"), {"'gpu_hour'", "twice"}},
  };
  for (const Case& one : cases) {
    const auto prices = parse_prices(one.text, "p.json");
    ASSERT_FALSE(prices.has_value()) << one.text;
    EXPECT_EQ(prices.error().code, Errc::kCorrupt) << one.text;
    EXPECT_NE(prices.error().message.find("p.json"), std::string::npos) << prices.error().message;
    for (const std::string& word : one.words)
      EXPECT_NE(prices.error().message.find(word), std::string::npos) << prices.error().message;
  }
  const auto absent = load_prices("/nonexistent/prices.json");
  ASSERT_FALSE(absent.has_value());
  EXPECT_EQ(absent.error().code, Errc::kIo);
}

}  // namespace
}  // namespace loracle
