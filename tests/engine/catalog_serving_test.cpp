// What serving leaves in the catalog: pins, uses, and who was resident at the last shutdown.

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "engine/catalog_fakes.hpp"
#include "loracle/engine/catalog.hpp"
#include "support/temp_dir.hpp"

namespace loracle {
namespace {

using testing::kNow;
using testing::open_storage;
using testing::scan_of;
using testing::TempDir;

class CatalogServing : public ::testing::Test {
 protected:
  void SetUp() override {
    reopen();
    ASSERT_TRUE(catalog_->apply(scan_of({"a", "b", "c"})).has_value());
  }
  void reopen() {
    catalog_.reset();
    Result<Catalog> opened = open_storage(dir_ / "c.sqlite");
    ASSERT_TRUE(opened.has_value()) << opened.error().message;
    catalog_.emplace(std::move(*opened));
  }

  TempDir dir_;
  std::optional<Catalog> catalog_;
};

// An operator's pin would be forgotten by a restart, and the pinned adapter evicted.
TEST_F(CatalogServing, PinsSurviveARestart) {
  ASSERT_TRUE(catalog_->set_pin({{2}, Place::kDevice}, true).has_value());
  ASSERT_TRUE(catalog_->set_pin({{2}, Place::kDevice}, true).has_value());
  ASSERT_TRUE(catalog_->set_pin({{2}, Place::kHost}, true).has_value());
  ASSERT_TRUE(catalog_->set_pin({{1}, Place::kHost}, true).has_value());
  reopen();
  EXPECT_EQ(*catalog_->pins(),
            (std::vector<Pin>{{{1}, Place::kHost}, {{2}, Place::kHost}, {{2}, Place::kDevice}}));
  ASSERT_TRUE(catalog_->set_pin({{2}, Place::kHost}, false).has_value());
  ASSERT_TRUE(catalog_->set_pin({{3}, Place::kHost}, false).has_value());
  EXPECT_EQ(catalog_->pins()->size(), 2U);
  EXPECT_EQ(catalog_->set_pin({{9}, Place::kHost}, true).error().code, Errc::kNotFound);
  EXPECT_EQ(catalog_->set_pin({{1}, Place::kOrigin}, true).error().code, Errc::kInvalid);
}

// A removed adapter would hold a place for ever; one that comes back from an outage would have lost its pin.
TEST_F(CatalogServing, RemovalForgetsPinsAndResidencyAndVanishingDoesNot) {
  for (const std::uint32_t id : {1U, 2U})
    ASSERT_TRUE(catalog_->set_pin({{id}, Place::kHost}, true).has_value());
  ASSERT_TRUE(
      catalog_->save_residency(std::vector<ResidentAdapter>{{{1}, Place::kHost, 0}, {{2}, Place::kHost, 1}})
          .has_value());
  ASSERT_TRUE(catalog_->remove("a", kNow).has_value());
  ASSERT_TRUE(catalog_->apply(scan_of({"c"})).has_value());  // b has vanished
  EXPECT_EQ(*catalog_->pins(), (std::vector<Pin>{{{2}, Place::kHost}}));
  EXPECT_EQ(*catalog_->residency(), (std::vector<ResidentAdapter>{{{2}, Place::kHost, 1}}));
}

// A warm restart would fill the tiers in the wrong order, or with what an earlier run had left.
TEST_F(CatalogServing, ResidencyIsReplacedAsAWhole) {
  const std::vector<ResidentAdapter> first = {{{1}, Place::kDisk, 0}, {{3}, Place::kDisk, 1}};
  ASSERT_TRUE(catalog_->save_residency(first).has_value());
  const std::vector<ResidentAdapter> second = {
      {{2}, Place::kHost, 1}, {{3}, Place::kHost, 0}, {{3}, Place::kDevice, 0}};
  ASSERT_TRUE(catalog_->save_residency(second).has_value());
  reopen();
  EXPECT_EQ(*catalog_->residency(),
            (std::vector<ResidentAdapter>{
                {{3}, Place::kHost, 0}, {{2}, Place::kHost, 1}, {{3}, Place::kDevice, 0}}));
  const std::vector<ResidentAdapter> unknown = {{{1}, Place::kHost, 0}, {{7}, Place::kHost, 1}};
  EXPECT_EQ(catalog_->save_residency(unknown).error().code, Errc::kNotFound);
  const std::vector<ResidentAdapter> twice = {{{1}, Place::kHost, 0}, {{1}, Place::kHost, 1}};
  EXPECT_EQ(catalog_->save_residency(twice).error().code, Errc::kInvalid);
  EXPECT_EQ(catalog_->residency()->size(), 3U) << "what was refused has replaced nothing";
  ASSERT_TRUE(catalog_->save_residency({}).has_value());
  EXPECT_TRUE(catalog_->residency()->empty());
}

// Popularity would be lost at every restart, or counted twice.
TEST_F(CatalogServing, UsesAddUpByTheHour) {
  const std::int64_t hour = kNow / 3600;
  const std::vector<UseCount> first = {{{1}, 10, hour * 3600}, {{2}, 1, hour * 3600}};
  const std::vector<UseCount> second = {{{1}, 5, hour * 3600 + 3599}, {{1}, 2, (hour + 1) * 3600}};
  ASSERT_TRUE(catalog_->record_uses(first).has_value());
  ASSERT_TRUE(catalog_->record_uses(second).has_value());
  ASSERT_TRUE(catalog_->record_uses({}).has_value());
  reopen();
  const Result<UseHistory> history = catalog_->history({1});
  ASSERT_TRUE(history.has_value());
  EXPECT_EQ(history->uses, 17U);
  EXPECT_EQ(history->last_unix_s, (hour + 1) * 3600);
  ASSERT_EQ(history->hours.size(), 2U);
  EXPECT_EQ(history->hours[0].hour, hour);
  EXPECT_EQ(history->hours[0].uses, 15U);
  EXPECT_EQ(history->hours[1].uses, 2U);
  EXPECT_EQ(catalog_->history({3})->uses, 0U);
  ASSERT_EQ(catalog_->uses()->size(), 2U);
  EXPECT_EQ(catalog_->uses()->at(0).uses, 17U);
}

// Years of serving would grow the catalog without end; or one wrong clock would erase the history.
TEST_F(CatalogServing, HistoryIsBoundedAndAWrongClockCostsOneHourOfIt) {
  const std::vector<UseCount> wrong = {{{1}, 1, 32'503'680'000}};  // the year 3000
  ASSERT_TRUE(catalog_->record_uses(wrong).has_value());
  const std::int64_t hour = kNow / 3600;
  std::vector<UseCount> uses;
  for (std::int64_t i = 0; i < 2 * std::int64_t{kUseHoursMax}; ++i)
    uses.push_back({{1}, 1, (hour + i) * 3600});
  ASSERT_TRUE(catalog_->record_uses(uses).has_value());
  const Result<UseHistory> history = catalog_->history({1});
  ASSERT_TRUE(history.has_value());
  EXPECT_EQ(history->uses, 2 * kUseHoursMax + 1) << "the total forgets nothing";
  ASSERT_EQ(history->hours.size(), kUseHoursMax);
  EXPECT_EQ(history->hours[kUseHoursMax - 2].hour, hour + 2 * std::int64_t{kUseHoursMax} - 1);
}

// A total that wrapped around would make the most used adapter the least used.
TEST_F(CatalogServing, UsesStopAtTheLargestNumberInsteadOfWrapping) {
  constexpr auto kMost = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
  const std::vector<UseCount> uses = {{{1}, std::numeric_limits<std::uint64_t>::max(), -1}, {{1}, 7, -1}};
  ASSERT_TRUE(catalog_->record_uses(uses).has_value());
  const Result<UseHistory> history = catalog_->history({1});
  ASSERT_TRUE(history.has_value());
  EXPECT_EQ(history->uses, kMost);
  ASSERT_EQ(history->hours.size(), 1U);
  EXPECT_EQ(history->hours[0].uses, kMost);
  EXPECT_EQ(history->hours[0].hour, -1);
}

// A batch with one unknown id would be counted in part, and again when it is retried.
TEST_F(CatalogServing, UsesOfAnUnknownIdRecordNothing) {
  const std::vector<UseCount> uses = {{{1}, 3, kNow}, {{99}, 1, kNow}};
  const Result<Unit> recorded = catalog_->record_uses(uses);
  ASSERT_FALSE(recorded.has_value());
  EXPECT_EQ(recorded.error().code, Errc::kNotFound);
  EXPECT_EQ(catalog_->history({1})->uses, 0U);
}

}  // namespace
}  // namespace loracle
