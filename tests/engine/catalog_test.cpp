// Which adapters there are and under which ids: what every other part of the engine relies on.

#include "loracle/engine/catalog.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "catalog/sqlite.hpp"
#include "engine/catalog_fakes.hpp"
#include "support/sanitized.hpp"
#include "support/temp_dir.hpp"

namespace loracle {
namespace {

using testing::kNow;
using testing::names_in;
using testing::open_storage;
using testing::scan_of;
using testing::scanned;
using testing::small_shape;
using testing::TempDir;

std::uint32_t id(Catalog& catalog, std::string_view name) {
  const Result<LoraId> found = catalog.id_of(name);
  return found ? found->value : 0;
}

#define ASSERT_OK(result)                                            \
  do {                                                               \
    const auto& ok_result = (result);                                \
    ASSERT_TRUE(ok_result.has_value()) << ok_result.error().message; \
  } while (false)

// Servers that scan the same directory would give the same adapter different ids.
TEST(Catalog, NewNamesGetIdsFromOneInNameOrder) {
  Result<Catalog> catalog = open_storage(":memory:");
  ASSERT_OK(catalog);
  const Result<ApplyOutcome> first = catalog->apply(scan_of({"cherry", "apple", "banana"}));
  ASSERT_OK(first);
  EXPECT_EQ(names_in(first->added), "apple banana cherry");
  EXPECT_EQ(first->added[0].id.value, 1U);
  EXPECT_EQ(first->added[2].id.value, 3U);
  ASSERT_OK(catalog->apply(scan_of({"aaa", "cherry", "apple", "banana"})));
  EXPECT_EQ(id(*catalog, "aaa"), 4U);
  EXPECT_EQ(id(*catalog, "banana"), 2U);
  EXPECT_EQ(*catalog->name_of({4}), "aaa");
}

// A client that kept an id would be served by another adapter.
TEST(Catalog, ANameKeepsItsIdThroughReopeningRemovalAndReturn) {
  const TempDir dir;
  const std::string path = dir / "c.sqlite";
  {
    Result<Catalog> catalog = open_storage(path);
    ASSERT_OK(catalog);
    ASSERT_OK(catalog->apply(scan_of({"a", "b", "c"})));
    ASSERT_OK(catalog->remove("b", kNow));
    ASSERT_OK(catalog->apply(scan_of({"a"})));  // c has vanished
  }
  Result<Catalog> catalog = open_storage(path);
  ASSERT_OK(catalog);
  EXPECT_EQ(id(*catalog, "b"), 2U);
  EXPECT_EQ(catalog->find("b")->state, AdapterState::kRemoved);
  EXPECT_EQ(catalog->find("c")->state, AdapterState::kVanished);
  const Result<ApplyOutcome> outcome = catalog->apply(scan_of({"a", "b", "c", "d"}, 2));
  ASSERT_OK(outcome);
  EXPECT_EQ(names_in(outcome->added), "d");
  EXPECT_EQ(names_in(outcome->changed), "a");
  EXPECT_EQ(names_in(outcome->returned), "b c");
  EXPECT_EQ(id(*catalog, "b"), 2U);
  EXPECT_EQ(id(*catalog, "c"), 3U);
  EXPECT_EQ(id(*catalog, "d"), 4U);
  EXPECT_EQ(catalog->find("b")->version, 2U);
}

// Caches keyed by id would serve a deleted adapter's weights under a new name.
TEST(Catalog, AnIdIsNeverGivenToAnotherNameEvenIfARowIsDeletedByHand) {
  const TempDir dir;
  const std::string path = dir / "c.sqlite";
  {
    Result<Catalog> catalog = open_storage(path);
    ASSERT_OK(catalog);
    ASSERT_OK(catalog->apply(scan_of({"a", "b"})));
    ASSERT_OK(catalog->remove("b", kNow));
  }
  {
    Result<sqlite::Database> database = sqlite::Database::open(path, sqlite::Access::kWrite, 1000);
    ASSERT_OK(database);
    ASSERT_OK(database->execute("DELETE FROM versions WHERE adapter = 2; DELETE FROM adapters WHERE id = 2"));
  }
  Result<Catalog> catalog = open_storage(path);
  ASSERT_OK(catalog);
  ASSERT_OK(catalog->apply(scan_of({"a", "z"})));
  EXPECT_EQ(id(*catalog, "z"), 3U);
}

// `rm` would have no effect: the next refresh would bring the adapter back.
TEST(Catalog, WhatWasRemovedStaysSoUntilItsFilesChangeOrItIsRestored) {
  Result<Catalog> catalog = open_storage(":memory:");
  ASSERT_OK(catalog);
  ASSERT_OK(catalog->apply(scan_of({"a", "b"})));
  ASSERT_OK(catalog->remove("a", kNow));
  ASSERT_OK(catalog->remove("a", kNow));
  const Result<ApplyOutcome> same = catalog->apply(scan_of({"a", "b"}));
  ASSERT_OK(same);
  EXPECT_TRUE(same->returned.empty());
  EXPECT_EQ(names_in(*catalog->list()), "b");
  EXPECT_EQ(names_in(*catalog->list(true)), "a b");
  ASSERT_OK(catalog->restore("a", kNow));
  EXPECT_EQ(names_in(*catalog->list()), "a b");
  ASSERT_OK(catalog->remove("a", kNow));
  ASSERT_OK(catalog->apply(scan_of({"a", "b"}, 2)));
  EXPECT_EQ(names_in(*catalog->list()), "a b");
  EXPECT_EQ(catalog->remove("no such", kNow).error().code, Errc::kNotFound);
  EXPECT_EQ(catalog->restore("no such", kNow).error().code, Errc::kNotFound);
}

// The engine would load with facts of another adapter, or miss a change in place.
TEST(Catalog, AllFactsOfAnAdapterComeBackAsTheyWere) {
  Result<Catalog> catalog = open_storage(":memory:");
  ASSERT_OK(catalog);
  ScanResult scan = scan_of({"a"});
  HeaderFacts& facts = scan.found[0].facts;
  facts.format = WeightFormat::kTorchZip;
  facts.dtype = Dtype::kF16;
  facts.rank = 64;
  facts.alpha = 12.5;
  facts.base_model = "meta-llama/Llama-3.1-8B";
  facts.target_modules = {"q_proj", "ü", ".*\\.(k|v)_proj"};
  facts.element_count = 1ULL << 40U;
  facts.stamp = {{FileKind::kRegular, 1, -5, 6, ~0ULL, 1ULL << 63U}, {FileKind::kRegular, 2, 3, 4, 5, 6}, 77};
  ASSERT_OK(catalog->apply(scan));
  const Result<CatalogRecord> record = catalog->find("a");
  ASSERT_OK(record);
  EXPECT_EQ(record->id.value, 1U);
  EXPECT_EQ(record->source, "/lora");
  EXPECT_EQ(record->created_unix_s, kNow);
  EXPECT_EQ(record->facts.directory, facts.directory);
  EXPECT_EQ(record->facts.weights_path, facts.weights_path);
  EXPECT_EQ(record->facts.format, facts.format);
  EXPECT_EQ(record->facts.dtype, facts.dtype);
  EXPECT_EQ(record->facts.rank, facts.rank);
  EXPECT_EQ(record->facts.alpha, facts.alpha);
  EXPECT_EQ(record->facts.base_model, facts.base_model);
  EXPECT_EQ(record->facts.target_modules, facts.target_modules);
  EXPECT_EQ(record->facts.element_count, facts.element_count);
  EXPECT_TRUE(record->facts.stamp.same_files(facts.stamp));
  EXPECT_EQ(record->facts.stamp.taken_unix_s, 77);
  const Result<std::vector<CatalogEntry>> list = catalog->list();
  ASSERT_OK(list);
  ASSERT_EQ(list->size(), 1U);
  EXPECT_EQ((*list)[0].element_count, facts.element_count);
  EXPECT_EQ((*list)[0].weights_bytes, 2U);
  EXPECT_EQ((*list)[0].shape_id, record->shape_id);
}

// 10,000 adapters of one recipe would store the same list of modules 10,000 times.
TEST(Catalog, AdaptersOfOneRecipeShareTheirShape) {
  Result<Catalog> catalog = open_storage(":memory:");
  ASSERT_OK(catalog);
  ScanResult scan = scan_of({"a", "b", "c"});
  scan.shapes.push_back(small_shape(16));
  scan.found[1].shape = 1;
  ASSERT_OK(catalog->apply(scan));
  const Result<std::vector<CatalogShape>> shapes = catalog->shapes();
  ASSERT_OK(shapes);
  ASSERT_EQ(shapes->size(), 2U);
  EXPECT_EQ((*shapes)[1].shape.modules, scan.shapes[1].modules);
  EXPECT_EQ((*shapes)[1].shape.digest, scan.shapes[1].digest);
  EXPECT_EQ(catalog->find("a")->shape_id, catalog->find("c")->shape_id);
  EXPECT_NE(catalog->find("a")->shape_id, catalog->find("b")->shape_id);
}

// An adapter whose files were replaced would be served from caches of the old ones, or be called damaged.
TEST(Catalog, ChangedFilesAreANewVersionWithoutADigest) {
  Result<Catalog> catalog = open_storage(":memory:");
  ASSERT_OK(catalog);
  ASSERT_OK(catalog->apply(scan_of({"a"})));
  const ContentDigest digest{std::string(64, '1'), std::string(64, '2')};
  ASSERT_OK(catalog->set_digest({1}, 1, digest));
  EXPECT_EQ(catalog->find("a")->digest, digest);
  ASSERT_OK(catalog->apply(scan_of({"a"})));  // the same files once more
  EXPECT_EQ(catalog->find("a")->version, 1U);
  EXPECT_EQ(catalog->find("a")->digest, digest);
  ASSERT_OK(catalog->apply(scan_of({"a"}, 2)));
  EXPECT_EQ(catalog->find("a")->version, 2U);
  EXPECT_EQ(catalog->find("a")->digest, ContentDigest{});
  ASSERT_OK(catalog->set_digest({1}, 1, digest));  // a load of the old version that ends late
  EXPECT_EQ(catalog->find("a")->digest, ContentDigest{});
  EXPECT_EQ(catalog->set_digest({1}, 3, digest).error().code, Errc::kNotFound);
  EXPECT_EQ(catalog->set_digest({2}, 1, digest).error().code, Errc::kNotFound);
  EXPECT_EQ(catalog->set_digest({1}, 2, {"12", "34"}).error().code, Errc::kInvalid);
}

// A job that republishes an adapter every minute would fill the disk.
TEST(Catalog, OnlyTheLatestVersionsAreKeptAndTheirNumbersGoOn) {
  const TempDir dir;
  const std::string path = dir / "c.sqlite";
  {
    Result<Catalog> catalog = open_storage(path);
    ASSERT_OK(catalog);
    for (std::uint64_t content = 1; content <= kVersionsMax + 5; ++content)
      ASSERT_OK(catalog->apply(scan_of({"a"}, content)));
    EXPECT_EQ(catalog->find("a")->version, kVersionsMax + 5);
  }
  Result<sqlite::Database> database = sqlite::Database::open(path, sqlite::Access::kReadOnly, 1000);
  ASSERT_OK(database);
  EXPECT_EQ(*database->integer("SELECT count(*) FROM versions"), kVersionsMax);
  EXPECT_EQ(*database->integer("SELECT min(number) FROM versions"), 6);
}

// A second directory would take over names of the first, and a scan of it would make the first's vanish.
TEST(Catalog, RootsDoNotTouchEachOthersAdapters) {
  Result<Catalog> catalog = open_storage(":memory:");
  ASSERT_OK(catalog);
  ASSERT_OK(catalog->apply(scan_of({"a", "b"}, 1, "/one")));
  const Result<ApplyOutcome> second = catalog->apply(scan_of({"b", "c"}, 1, "/two/"));
  ASSERT_OK(second);
  EXPECT_EQ(names_in(second->added), "c");
  EXPECT_EQ(names_in(second->rejected), "b");
  EXPECT_EQ(catalog->find("b")->source, "/one");
  EXPECT_EQ(names_in(*catalog->rejections()), "b");
  ASSERT_OK(catalog->apply(scan_of({"a"}, 1, "/one")));  // b is gone there
  const Result<ApplyOutcome> third = catalog->apply(scan_of({"b", "c"}, 1, "/two"));
  ASSERT_OK(third);
  EXPECT_EQ(names_in(third->returned), "b");
  EXPECT_EQ(catalog->find("b")->source, "/two");
  EXPECT_EQ(id(*catalog, "b"), 2U);
  EXPECT_TRUE(catalog->rejections()->empty());
  EXPECT_EQ(catalog->sources()->size(), 2U);
}

// Registering and unregistering by hand would lose ids, or not undo a removal.
TEST(Catalog, AnAdapterCanBeRegisteredByItself) {
  Result<Catalog> catalog = Catalog::open({":memory:", CatalogKind::kMemory, false, 0});
  ASSERT_OK(catalog);
  const Result<CatalogChange> added = catalog->add(scanned("a"), small_shape(), "manual", kNow);
  ASSERT_OK(added);
  EXPECT_EQ(added->id.value, 1U);
  ASSERT_OK(catalog->add(scanned("b"), small_shape(), "manual", kNow));
  ASSERT_OK(catalog->remove("a", kNow));
  EXPECT_EQ(names_in(*catalog->list()), "b");
  const Result<CatalogChange> again = catalog->add(scanned("a"), small_shape(), "manual", kNow);
  ASSERT_OK(again);
  EXPECT_EQ(again->id.value, 1U);
  EXPECT_EQ(again->version, 1U);
  const Result<CatalogChange> other = catalog->add(scanned("a", 2), small_shape(), "manual", kNow);
  ASSERT_OK(other);
  EXPECT_EQ(other->version, 2U);
  EXPECT_EQ(names_in(*catalog->list()), "a b");
  EXPECT_EQ(catalog->add(scanned("../a"), small_shape(), "manual", kNow).error().code, Errc::kInvalid);
  EXPECT_EQ(catalog->apply(scan_of({"x"})).error().code, Errc::kInvalid) << "scans are for kind storage";
  EXPECT_TRUE(catalog->sources()->empty());
}

// A half-applied scan would leave adapters that are neither there nor gone.
TEST(Catalog, AScanThatCannotBeAppliedChangesNothing) {
  Result<Catalog> catalog = open_storage(":memory:");
  ASSERT_OK(catalog);
  ASSERT_OK(catalog->apply(scan_of({"a", "b"})));
  ScanResult scan = scan_of({"c"});
  scan.found.push_back(scanned("x\ny"));
  EXPECT_EQ(catalog->apply(scan).error().code, Errc::kInvalid);
  EXPECT_EQ(names_in(*catalog->list()), "a b");
  ASSERT_OK(catalog->apply(scan_of({"a", "b", "d"})));
  EXPECT_EQ(id(*catalog, "d"), 3U) << "the failed scan has used up no id";
}

// Errors would not say which catalog and which name they are about.
TEST(Catalog, WhatIsUnknownIsNamed) {
  Result<Catalog> catalog = open_storage(":memory:");
  ASSERT_OK(catalog);
  const Result<CatalogRecord> record = catalog->find("nobody");
  ASSERT_FALSE(record.has_value());
  EXPECT_EQ(record.error().code, Errc::kNotFound);
  EXPECT_NE(record.error().message.find("nobody"), std::string::npos);
  EXPECT_EQ(catalog->id_of("nobody").error().code, Errc::kNotFound);
  EXPECT_EQ(catalog->name_of({1}).error().code, Errc::kNotFound);
  EXPECT_EQ(catalog->name_of({0}).error().code, Errc::kNotFound);
  EXPECT_EQ(catalog->history({1}).error().code, Errc::kNotFound);
}

// A server with many adapters would lose some of them. (How long it takes: bench_engine_catalog.)
TEST(Catalog, ListsAHundredThousandAdapters) {
  constexpr std::size_t kAdapters = testing::all_or_few(100'000, 1'000);
  const TempDir dir;
  const std::string path = dir / "c.sqlite";
  std::vector<std::string> names;
  for (std::size_t i = 0; i < kAdapters; ++i) names.push_back("tenant-" + std::to_string(i) + "-adapter");
  {
    Result<Catalog> catalog = open_storage(path);
    ASSERT_OK(catalog);
    ASSERT_OK(catalog->apply(scan_of(names)));
  }
  Result<Catalog> catalog = open_storage(path);
  ASSERT_OK(catalog);
  const Result<std::vector<CatalogEntry>> list = catalog->list();
  ASSERT_OK(list);
  std::set<std::string> listed;
  for (const CatalogEntry& entry : *list) listed.insert(entry.name);
  EXPECT_EQ(listed, std::set<std::string>(names.begin(), names.end()));
}

}  // namespace
}  // namespace loracle
