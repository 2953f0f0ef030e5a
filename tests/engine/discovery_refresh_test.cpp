// Changes by others while the engine runs: added, removed, replaced, renamed, broken, mended, remounted.

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "engine/catalog_fakes.hpp"
#include "loracle/engine/catalog.hpp"
#include "loracle/engine/discovery.hpp"

namespace loracle {
namespace {

using testing::ChangingFiles;
using testing::inspect_fake;
using testing::kNow;
using testing::names_in;
using testing::open_storage;
using testing::put_adapter;

constexpr const char* kWeights = "/lora/b/adapter_model.safetensors";

class Refresh : public ::testing::Test {
 protected:
  Refresh() : catalog_(std::move(*open_storage(":memory:"))) {
    for (const char* name : {"a", "b", "c"}) put_adapter(files_, std::string("/lora/") + name);
  }
  ScanOptions options() { return {"/lora", rules_, 1, now_, {}}; }
  ApplyOutcome scan_all() { return apply(scan(files_, options(), inspect_fake)); }
  /// What a periodic refresh does.
  ApplyOutcome refresh_all() {
    files_.reset_counts();
    const Result<KnownAdapters> known = catalog_.known("/lora", rules_);
    EXPECT_TRUE(known.has_value());
    if (!known) return {};
    last_ = refresh(files_, options(), *known, inspect_fake);
    return apply(last_);
  }
  ApplyOutcome apply(const Result<ScanResult>& found) {
    EXPECT_TRUE(found.has_value()) << found.error().message;
    if (!found) return {};
    Result<ApplyOutcome> outcome = catalog_.apply(*found);
    EXPECT_TRUE(outcome.has_value()) << outcome.error().message;
    return outcome ? *outcome : ApplyOutcome{};
  }
  /// Time passes: what is written from now on has other times.
  void later(std::int64_t seconds = 100) {
    now_ += seconds;
    files_.clock_ns = (now_ - 50) * 1'000'000'000;
  }
  std::string available() {
    std::string text;
    const Result<std::vector<CatalogEntry>> list = catalog_.list();
    for (const CatalogEntry& entry : *list)
      if (entry.state == AdapterState::kAvailable) text += (text.empty() ? "" : " ") + entry.name;
    return text;
  }

  ChangingFiles files_;
  Catalog catalog_;
  AdapterRules rules_;
  std::int64_t now_ = kNow;
  Result<ScanResult> last_ = ScanResult{};
};

// A refresh of thousands of adapters would read thousands of files each time.
TEST_F(Refresh, WhatIsUnchangedIsNotOpened) {
  EXPECT_EQ(names_in(scan_all().added), "a b c");
  const ApplyOutcome outcome = refresh_all();
  EXPECT_EQ(outcome.unchanged, 3U);
  EXPECT_EQ(files_.opens, 0U);
  EXPECT_EQ(files_.reads, 0U);
  EXPECT_EQ(files_.stats, 6U) << "two stats an adapter";
  EXPECT_EQ(files_.lists, 1U);
  EXPECT_EQ(names_in(last_->unchanged), "a b c");
}

// New adapters would need a restart of the server.
TEST_F(Refresh, AnAddedAdapterIsFoundAndOnlyItIsRead) {
  scan_all();
  later();
  put_adapter(files_, "/lora/aa");
  const ApplyOutcome outcome = refresh_all();
  EXPECT_EQ(names_in(outcome.added), "aa");
  EXPECT_EQ(outcome.added[0].id.value, 4U);
  EXPECT_EQ(files_.opens, 2U);
  EXPECT_EQ(available(), "a b c aa");
}

// Requests would be sent to an adapter whose files are gone; or its id be lost when it returns.
TEST_F(Refresh, ARemovedAdapterVanishesAndReturnsWithItsId) {
  scan_all();
  later();
  files_.remove("/lora/b");
  EXPECT_EQ(names_in(refresh_all().vanished), "b");
  EXPECT_EQ(available(), "a c");
  EXPECT_TRUE(refresh_all().vanished.empty()) << "told once";
  later();
  put_adapter(files_, "/lora/b");
  const ApplyOutcome outcome = refresh_all();
  EXPECT_EQ(names_in(outcome.returned), "b");
  EXPECT_EQ(outcome.returned[0].id.value, 2U);
  EXPECT_EQ(outcome.returned[0].version, 2U);
}

// A volume that was away for a moment would come back as new adapters that caches know nothing of.
TEST_F(Refresh, AVolumeThatReturnsAsItWasBringsEverythingBack) {
  scan_all();
  files_.rename("/lora", "/elsewhere");
  files_.make_directory("/lora");
  EXPECT_EQ(names_in(refresh_all().vanished), "a b c");
  files_.remove("/lora");
  files_.rename("/elsewhere", "/lora");
  const ApplyOutcome outcome = refresh_all();
  EXPECT_EQ(names_in(outcome.returned), "a b c");
  EXPECT_EQ(outcome.returned[1].version, 1U);
  EXPECT_EQ(files_.opens, 0U);
}

// Old weights would be served after a new version was published.
TEST_F(Refresh, AChangeInPlaceIsANewVersion) {
  scan_all();
  later();
  files_.write(kWeights, "wEights");  // the same size
  ApplyOutcome outcome = refresh_all();
  EXPECT_EQ(names_in(outcome.changed), "b");
  EXPECT_EQ(outcome.changed[0].version, 2U);
  later();
  const std::int64_t mtime = files_.stat_at(kWeights).mtime_ns;
  files_.write(kWeights, "weIghts");
  files_.stat_at(kWeights).mtime_ns = mtime;  // set back, as archive tools do
  outcome = refresh_all();
  EXPECT_EQ(names_in(outcome.changed), "b");
  EXPECT_EQ(outcome.changed[0].version, 3U);
  later();
  files_.write("/lora/b/adapter_config.json", "r=16");
  EXPECT_EQ(names_in(refresh_all().changed), "b");
  EXPECT_EQ(catalog_.find("b")->facts.rank, 16U);
  EXPECT_EQ(refresh_all().unchanged, 3U);
}

// An atomic publish (write beside, rename over) would go unseen.
TEST_F(Refresh, AReplacedDirectoryIsANewVersion) {
  scan_all();
  put_adapter(files_, "/incoming", "r=8", "other w");  // same size, same clock
  files_.remove("/lora/b");
  files_.rename("/incoming", "/lora/b");
  EXPECT_EQ(names_in(refresh_all().changed), "b");
}

// The old name would stay on offer, or the new one would take over the old one's id.
TEST_F(Refresh, ARenamedAdapterIsAnotherAdapter) {
  scan_all();
  files_.rename("/lora/b", "/lora/d");
  const ApplyOutcome outcome = refresh_all();
  EXPECT_EQ(names_in(outcome.added), "d");
  EXPECT_EQ(outcome.added[0].id.value, 4U);
  EXPECT_EQ(names_in(outcome.vanished), "b");
  files_.rename("/lora/d", "/lora/b");
  EXPECT_EQ(names_in(refresh_all().returned), "b");
  EXPECT_EQ(catalog_.id_of("b")->value, 2U);
}

// Every restart of a machine with a network file system would make all caches stale.
TEST_F(Refresh, AnotherDeviceNumberIsNoNewVersion) {
  scan_all();
  files_.remount(77);
  EXPECT_TRUE(refresh_all().changed.empty());
  EXPECT_EQ(files_.opens, 6U) << "looked at once";
  EXPECT_EQ(catalog_.find("a")->version, 1U);
  refresh_all();
  EXPECT_EQ(files_.opens, 0U);
}

// A file written in the same tick of the clock as it was looked at would be served in its old form for ever.
TEST_F(Refresh, AStampTakenTooSoonAfterAChangeIsNotBelieved) {
  files_.clock_ns = now_ * 1'000'000'000;
  put_adapter(files_, "/lora/young");
  scan_all();
  refresh_all();
  EXPECT_EQ(files_.opens, 2U) << "the young one is looked at again";
  files_.write("/lora/young/adapter_config.json", "r=9");  // same size, same tick, same inode
  refresh_all();
  EXPECT_EQ(catalog_.find("young")->facts.rank, 9U);
  now_ += 10;
  refresh_all();
  EXPECT_EQ(files_.opens, 2U);
  refresh_all();
  EXPECT_EQ(files_.opens, 0U) << "old enough now";
}

// Known-bad adapters would be parsed again by every refresh; or never again, although they were mended.
TEST_F(Refresh, ABadAdapterIsLookedAtAgainWhenItChanges) {
  put_adapter(files_, "/lora/b", "bad");
  files_.write("/lora/no-config/adapter_model.safetensors", "w");
  ApplyOutcome outcome = scan_all();
  EXPECT_EQ(names_in(outcome.added), "a c");
  EXPECT_EQ(names_in(outcome.rejected), "b no-config");
  const std::vector<Rejection> first = *catalog_.rejections();
  outcome = refresh_all();
  EXPECT_EQ(names_in(outcome.rejected), "b no-config");
  EXPECT_EQ(files_.opens, 0U);
  EXPECT_EQ(*catalog_.rejections(), first);
  later();
  put_adapter(files_, "/lora/b", "r=8");
  files_.write("/lora/no-config/adapter_config.json", "r=8");
  outcome = refresh_all();
  EXPECT_EQ(names_in(outcome.added), "b no-config");
  EXPECT_TRUE(catalog_.rejections()->empty());
}

// An adapter that was overwritten with garbage would stay on offer.
TEST_F(Refresh, AnAdapterThatTurnsBadVanishesUntilItIsMended) {
  scan_all();
  later();
  put_adapter(files_, "/lora/b", "bad");
  ApplyOutcome outcome = refresh_all();
  EXPECT_EQ(names_in(outcome.vanished), "b");
  EXPECT_EQ(names_in(outcome.rejected), "b");
  refresh_all();
  EXPECT_EQ(files_.opens, 0U);
  later();
  put_adapter(files_, "/lora/b", "r=4");
  outcome = refresh_all();
  EXPECT_EQ(names_in(outcome.returned), "b");
  EXPECT_EQ(outcome.returned[0].id.value, 2U);
  EXPECT_EQ(outcome.returned[0].version, 2U);
}

// A hiccup of the network would take sound adapters off the list.
TEST_F(Refresh, AnAdapterThatCannotBeReadJustNowKeepsItsState) {
  scan_all();
  files_.fail_under = "/lora/b/";
  const ApplyOutcome outcome = refresh_all();
  EXPECT_TRUE(outcome.vanished.empty());
  EXPECT_EQ(names_in(outcome.rejected), "b");
  EXPECT_EQ(available(), "a b c");
  files_.fail_under.clear();
  refresh_all();
  EXPECT_TRUE(catalog_.rejections()->empty());
  EXPECT_EQ(catalog_.find("b")->version, 1U);
}

// After max_lora_rank is lowered, adapters above it would stay on offer and fail when they are loaded.
TEST_F(Refresh, OtherRulesLookAtEverythingAgain) {
  put_adapter(files_, "/lora/b", "r=64");
  scan_all();
  rules_.max_lora_rank = 16;
  EXPECT_EQ(names_in(refresh_all().vanished), "b");
  EXPECT_EQ(files_.opens, 6U);
  EXPECT_EQ(catalog_.sources()->at(0).rules.max_lora_rank, 16U);
  refresh_all();
  EXPECT_EQ(files_.opens, 0U);
  rules_.max_lora_rank = 64;
  rules_.base_models = {"x"};
  EXPECT_EQ(names_in(refresh_all().returned), "b");
  EXPECT_EQ(catalog_.find("b")->version, 1U);
}

// An adapter that the rules exclude would slip back in after a hiccup of the disk.
TEST_F(Refresh, AnAdapterThatRulesExcludeStaysOutThroughAReadError) {
  put_adapter(files_, "/lora/b", "r=64");
  scan_all();
  rules_.max_lora_rank = 16;
  EXPECT_EQ(names_in(refresh_all().vanished), "b");
  files_.fail_under = "/lora/b/";
  EXPECT_EQ(catalog_.rejections()->at(0).code, Errc::kInvalid);
  refresh_all();
  EXPECT_EQ(catalog_.rejections()->at(0).code, Errc::kIo);
  files_.fail_under.clear();
  EXPECT_TRUE(refresh_all().returned.empty());
  EXPECT_EQ(catalog_.rejections()->at(0).code, Errc::kInvalid);
  EXPECT_EQ(available(), "a c");
}

// The torch file would be served although a safetensors file, which goes first, was added.
TEST_F(Refresh, SafetensorsThatAppearBesideATorchFileAreSeen) {
  files_.write("/lora/t/adapter_config.json", "r=4");
  files_.write("/lora/t/adapter_model.bin", "w");
  scan_all();
  refresh_all();
  EXPECT_EQ(files_.opens, 0U);
  EXPECT_EQ(files_.stats, 9U);
  later();
  files_.write("/lora/t/adapter_model.safetensors", "w");
  EXPECT_EQ(names_in(refresh_all().changed), "t");
  EXPECT_EQ(catalog_.find("t")->facts.format, WeightFormat::kSafetensors);
}

// A removed adapter would be inspected by every refresh, or come back by itself.
TEST_F(Refresh, ARemovedAdapterIsKnownByItsStampToo) {
  scan_all();
  ASSERT_TRUE(catalog_.remove("b", now_).has_value());
  EXPECT_TRUE(refresh_all().returned.empty());
  EXPECT_EQ(files_.opens, 0U);
  EXPECT_EQ(available(), "a c");
  later();
  files_.write(kWeights, "new weights");
  EXPECT_EQ(names_in(refresh_all().returned), "b");
}

// One failing call would crash a scan, lose an adapter or take it off the list.
TEST(RefreshFaults, WhicheverCallFailsNothingIsLost) {
  for (const bool is_refresh : {false, true}) {
    std::uint64_t call = 1;
    for (bool went_wrong = true; went_wrong; ++call) {
      ASSERT_LT(call, 200U);
      ChangingFiles files;
      Catalog catalog = std::move(*open_storage(":memory:"));
      for (const char* name : {"a", "b", "c"}) put_adapter(files, std::string("/lora/") + name);
      put_adapter(files, "/lora/bad", "bad");
      files.write("/lora/no-config/adapter_model.bin", "w");
      files.write("/lora/notes/README", "hello");
      ScanOptions options{"/lora", {}, 1, kNow, {}};
      ASSERT_TRUE(catalog.apply(*scan(files, options, inspect_fake)).has_value());
      files.clock_ns += 1'000'000'000;
      files.write("/lora/b/adapter_config.json", "r=16");
      put_adapter(files, "/lora/d");
      files.remove("/lora/c");
      const KnownAdapters known = *catalog.known("/lora", {});

      files.reset_counts();
      files.fail_call = call;
      const Result<ScanResult> faulty =
          is_refresh ? refresh(files, options, known, inspect_fake) : scan(files, options, inspect_fake);
      went_wrong = files.failed;
      files.fail_call = 0;
      if (faulty) {
        const Result<ApplyOutcome> outcome = catalog.apply(*faulty);
        ASSERT_TRUE(outcome.has_value()) << outcome.error().message;
        EXPECT_EQ(names_in(outcome->vanished), "c") << "call " << call;
        for (const char* name : {"a", "b"})
          EXPECT_EQ(catalog.find(name)->state, AdapterState::kAvailable) << "call " << call;
      } else {
        EXPECT_EQ(faulty.error().code, Errc::kIo);
      }
      // The next one finds everything as it is.
      const Result<ScanResult> again = refresh(files, options, *catalog.known("/lora", {}), inspect_fake);
      ASSERT_TRUE(again.has_value());
      ASSERT_TRUE(catalog.apply(*again).has_value());
      EXPECT_EQ(names_in(*catalog.list()), "a b c d") << "call " << call;
      EXPECT_EQ(catalog.find("b")->version, 2U) << "call " << call;
      EXPECT_EQ(catalog.find("c")->state, AdapterState::kVanished);
      EXPECT_EQ(catalog.id_of("d")->value, 4U);
      EXPECT_EQ(names_in(*catalog.rejections()), "bad no-config") << "call " << call;
    }
    EXPECT_GT(call, is_refresh ? 10U : 20U) << "not every call was made to fail";
  }
}

}  // namespace
}  // namespace loracle
