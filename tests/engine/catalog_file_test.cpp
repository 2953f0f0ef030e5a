// The catalog as a file: versions, damage, locks, full disks, other processes.

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "catalog/schema.hpp"
#include "catalog/sqlite.hpp"
#include "engine/catalog_fakes.hpp"
#include "loracle/core/rng.hpp"
#include "loracle/engine/catalog.hpp"
#include "support/temp_dir.hpp"

namespace loracle {
namespace {

using testing::kNow;
using testing::names_in;
using testing::open_storage;
using testing::scan_of;
using testing::TempDir;

std::string read_all(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

Errc code_of_opening(const std::string& path) {
  const Result<Catalog> opened = open_storage(path, 0);
  return opened ? Errc{} : opened.error().code;
}

/// Runs `body` in a child process and answers its exit code; -1 if it was killed.
int in_child(const std::function<int()>& body) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(body());
  int status = 0;
  if (child < 0 || ::waitpid(child, &status, 0) != child) return -2;
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/// A child that has done `first` when this returns, and goes on with `then` when it is told to.
class Partner {
 public:
  Partner(const std::function<bool()>& first, const std::function<void()>& then) {
    if (::pipe(to_.data()) != 0 || ::pipe(from_.data()) != 0) return;
    child_ = ::fork();
    if (child_ == 0) {
      char byte = first() ? 'y' : 'n';
      ok_ = ::write(from_[1], &byte, 1) == 1 && ::read(to_[0], &byte, 1) == 1;
      then();
      ::_exit(0);
    }
    char byte = 'n';
    ok_ = ::read(from_[0], &byte, 1) == 1 && byte == 'y';
  }
  ~Partner() {
    finish();
    for (const int fd : {to_[0], to_[1], from_[0], from_[1]}) ::close(fd);
  }
  Partner(const Partner&) = delete;
  Partner& operator=(const Partner&) = delete;

  [[nodiscard]] bool ok() const { return ok_; }
  void finish() {
    if (child_ <= 0) return;
    const char byte = 'g';
    ok_ = ::write(to_[1], &byte, 1) == 1;
    int status = 0;
    ::waitpid(child_, &status, 0);
    child_ = -1;
  }

 private:
  std::array<int, 2> to_{};
  std::array<int, 2> from_{};
  pid_t child_ = -1;
  bool ok_ = false;
};

std::string schema_of(sqlite::Database& database) {
  std::string text;
  sqlite::Query row = database.query("SELECT name, sql FROM sqlite_schema ORDER BY name");
  for (Result<bool> more = row.next(); more && *more; more = row.next())
    text += std::string(row.text(0)) + ": " + std::string(row.text(1)) + "\n";
  return text;
}

// A catalog of registered adapters would be overwritten by a scan, or the other way round.
TEST(CatalogFile, TheKindsExcludeEachOther) {
  const TempDir dir;
  const std::string storage = dir / "storage.sqlite";
  const std::string memory = dir / "memory.sqlite";
  ASSERT_TRUE(Catalog::open({storage, CatalogKind::kStorage, false, 0}).has_value());
  ASSERT_TRUE(Catalog::open({memory, CatalogKind::kMemory, false, 0}).has_value());
  const Result<Catalog> wrong = Catalog::open({storage, CatalogKind::kMemory, false, 0});
  ASSERT_FALSE(wrong.has_value());
  EXPECT_EQ(wrong.error().code, Errc::kInvalid);
  EXPECT_NE(wrong.error().message.find("storage"), std::string::npos);
  EXPECT_EQ(Catalog::open({memory, CatalogKind::kStorage, true, 0}).error().code, Errc::kInvalid);
  EXPECT_EQ(Catalog::open({memory, std::nullopt, false, 0})->kind(), CatalogKind::kMemory);
}

// `ls` of a mistyped path would leave an empty catalog behind instead of saying so.
TEST(CatalogFile, OnlyWhoNamesAKindMakesACatalog) {
  const TempDir dir;
  const std::string path = dir / "none.sqlite";
  EXPECT_EQ(Catalog::open({path, std::nullopt, false, 0}).error().code, Errc::kNotFound);
  EXPECT_EQ(Catalog::open({path, CatalogKind::kStorage, true, 0}).error().code, Errc::kNotFound);
  EXPECT_EQ(code_of_opening((dir / "no" / "such" / "dir.sqlite").string()), Errc::kNotFound);
  EXPECT_EQ(Catalog::open({"", CatalogKind::kStorage, false, 0}).error().code, Errc::kInvalid);
  EXPECT_FALSE(std::filesystem::exists(path));
  EXPECT_EQ(code_of_opening(dir.path().string()), Errc::kIo) << "a directory";
}

// A path with a colon would be taken for a URI, whose options could turn durability off.
TEST(CatalogFile, APathIsNeverReadAsAUri) {
  const TempDir dir;
  const std::filesystem::path before = std::filesystem::current_path();
  std::filesystem::current_path(dir.path());
  {
    Result<Catalog> catalog = open_storage("file:c.sqlite?mode=memory");
    EXPECT_TRUE(catalog.has_value());
  }
  std::filesystem::current_path(before);
  EXPECT_TRUE(std::filesystem::exists(dir / "file:c.sqlite?mode=memory"));
}

// An older program would misread what a newer one wrote, and write nonsense back.
TEST(CatalogFile, ACatalogOfALaterLoracleIsRefusedUntouched) {
  const TempDir dir;
  const std::string path = dir / "c.sqlite";
  ASSERT_TRUE(open_storage(path).has_value());
  {
    Result<sqlite::Database> database = sqlite::Database::open(path, sqlite::Access::kWrite, 1000);
    ASSERT_TRUE(database && database->execute("PRAGMA user_version = 99"));
  }
  const std::string before = read_all(path);
  const Result<Catalog> opened = open_storage(path);
  ASSERT_FALSE(opened.has_value());
  EXPECT_EQ(opened.error().code, Errc::kUnsupported);
  EXPECT_NE(opened.error().message.find("99"), std::string::npos);
  EXPECT_EQ(Catalog::open({path, std::nullopt, true, 0}).error().code, Errc::kUnsupported);
  EXPECT_EQ(read_all(path), before);
}

// An update of loracle would lose the ids of everything in catalogs that earlier ones made.
TEST(CatalogFile, EveryOlderVersionIsBroughtUpToDateWithItsRows) {
  const TempDir dir;
  const std::string fresh_path = dir / "fresh.sqlite";
  ASSERT_TRUE(open_storage(fresh_path).has_value());
  Result<sqlite::Database> fresh = sqlite::Database::open(fresh_path, sqlite::Access::kReadOnly, 1000);
  ASSERT_TRUE(fresh.has_value());
  for (std::size_t version = 0; version <= catalog_migrations().size(); ++version) {
    const std::string path = dir / ("v" + std::to_string(version) + ".sqlite");
    {
      Result<sqlite::Database> old = sqlite::Database::open(path, sqlite::Access::kCreate, 1000);
      ASSERT_TRUE(old.has_value());
      for (std::size_t i = 0; i < version; ++i)
        ASSERT_TRUE(old->execute(catalog_migrations()[i]).has_value());
      const std::string mark = "PRAGMA application_id = " + std::to_string(kCatalogApplicationId) +
                               "; PRAGMA user_version = " + std::to_string(version);
      if (version > 0) {
        ASSERT_TRUE(old->execute(mark.c_str()).has_value());
        ASSERT_TRUE(
            old->execute("INSERT INTO adapters VALUES (7, 'old', 1, 1, 5, 5);"
                         "INSERT INTO sources VALUES (1, '/lora', '', 0);"
                         "INSERT INTO shapes VALUES (1, 'd', '[]');"
                         "INSERT INTO versions VALUES (7, 1, 1, 1, 8, 1, 9, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, "
                         "1, 1, '/lora/old', '/lora/old/w', 16, '', '[]', NULL, NULL, 5)")
                .has_value());
      }
    }
    if (version < catalog_migrations().size()) {
      const Errc code = Catalog::open({path, std::nullopt, true, 0}).error().code;
      EXPECT_EQ(code, version == 0 ? Errc::kCorrupt : Errc::kUnsupported) << version;
    }
    {
      Result<Catalog> catalog = open_storage(path);
      ASSERT_TRUE(catalog.has_value()) << version << ": " << catalog.error().message;
      EXPECT_EQ(names_in(*catalog->list()), version == 0 ? "" : "old");
      ASSERT_TRUE(catalog->apply(scan_of({"new"})).has_value());
      EXPECT_EQ(catalog->id_of("new")->value, version == 0 ? 1U : 8U);
      EXPECT_TRUE(catalog->check().has_value());
    }
    Result<sqlite::Database> database = sqlite::Database::open(path, sqlite::Access::kReadOnly, 1000);
    ASSERT_TRUE(database.has_value());
    EXPECT_EQ(schema_of(*database), schema_of(*fresh)) << version;
  }
}

// Another program's database would get our tables, our journal mode, our application id.
TEST(CatalogFile, SomebodyElsesDatabaseIsRefusedUntouched) {
  const TempDir dir;
  const std::string path = dir / "other.sqlite";
  {
    Result<sqlite::Database> other = sqlite::Database::open(path, sqlite::Access::kCreate, 1000);
    ASSERT_TRUE(other && other->execute("CREATE TABLE songs (title TEXT)"));
  }
  const std::string before = read_all(path);
  EXPECT_EQ(code_of_opening(path), Errc::kInvalid);
  EXPECT_EQ(Catalog::open({path, std::nullopt, true, 0}).error().code, Errc::kInvalid);
  EXPECT_EQ(read_all(path), before);
}

// A damaged file would crash the server, or be taken for an empty catalog that deals ids out anew.
TEST(CatalogFile, DamageIsAnErrorAndNeverACrash) {
  const TempDir dir;
  const std::string path = dir / "c.sqlite";
  {
    Result<Catalog> catalog = open_storage(path);
    ASSERT_TRUE(catalog.has_value());
    std::vector<std::string> names;
    for (int i = 0; i < 200; ++i) names.push_back("adapter-" + std::to_string(i));
    ASSERT_TRUE(catalog->apply(scan_of(names)).has_value());
  }
  const std::string good = read_all(path);
  ASSERT_GT(good.size(), 40'000U);
  for (const std::size_t size : {std::size_t{50}, std::size_t{100}, std::size_t{4096}, std::size_t{8192},
                                 good.size() / 2, good.size() - 4096}) {
    dir.write("cut.sqlite", std::string_view(good).substr(0, size));
    EXPECT_EQ(code_of_opening(dir / "cut.sqlite"), Errc::kCorrupt) << size;
  }
  dir.write("text.sqlite", std::string(10'000, 'x'));
  EXPECT_EQ(code_of_opening(dir / "text.sqlite"), Errc::kCorrupt);

  Rng rng(7);
  int detected = 0;
  for (int round = 0; round < 60; ++round) {
    std::string bad = good;
    for (int i = 0; i < 40; ++i)
      bad[rng.below(static_cast<std::uint32_t>(bad.size()))] = static_cast<char>(rng.below(256));
    dir.write("bad.sqlite", bad);
    Result<Catalog> catalog = open_storage(dir / "bad.sqlite");
    bool is_detected = !catalog;
    if (catalog) {  // any of these may fail; none may crash
      is_detected = !catalog->check();
      static_cast<void>(catalog->list());
      static_cast<void>(catalog->find("adapter-7"));
      static_cast<void>(catalog->shapes());
      static_cast<void>(catalog->known("/lora", {}));
      static_cast<void>(catalog->apply(scan_of({"adapter-7", "new"}, 2)));
    }
    detected += is_detected ? 1 : 0;
    for (const char* end : {"", "-wal", "-shm"})
      std::filesystem::remove(dir / (std::string("bad.sqlite") + end));
  }
  EXPECT_GT(detected, 50) << "of 60; a byte that no page uses goes unseen";
}

// A reader would take the file from its writer, or a forgotten flag would change a catalog.
TEST(CatalogFile, AReadOnlyCatalogReadsAndRefusesChanges) {
  const TempDir dir;
  const std::string path = dir / "c.sqlite";
  Result<Catalog> writer = open_storage(path);
  ASSERT_TRUE(writer.has_value());
  ASSERT_TRUE(writer->apply(scan_of({"a"})).has_value());
  Result<Catalog> reader = Catalog::open({path, std::nullopt, true, 0});
  ASSERT_TRUE(reader.has_value()) << reader.error().message;
  EXPECT_EQ(names_in(*reader->list()), "a");
  EXPECT_EQ(reader->apply(scan_of({"b"})).error().code, Errc::kInvalid);
  EXPECT_EQ(reader->remove("a", kNow).error().code, Errc::kInvalid);
  EXPECT_EQ(reader->set_pin({{1}, Place::kHost}, true).error().code, Errc::kInvalid);
  ASSERT_TRUE(writer->apply(scan_of({"a", "b"})).has_value());
  EXPECT_EQ(names_in(*reader->list()), "a b") << "a reader sees what was written since it opened";
}

// A server without write permission would find out at its first change, hours later.
TEST(CatalogFile, AFileThatMayNotBeWrittenIsRefusedWhenItIsOpened) {
  const TempDir dir;
  const std::string path = dir / "c.sqlite";
  ASSERT_TRUE(open_storage(path).has_value());
  ASSERT_EQ(::chmod(dir.path().c_str(), 0755), 0);
  ASSERT_EQ(::chmod(path.c_str(), 0444), 0);
  const int exit_code = in_child([&] {
    constexpr uid_t kNobody = 65534;  // permissions do not hold root back
    if (::geteuid() == 0 && ::setuid(kNobody) != 0) return 99;
    const Result<Catalog> opened = open_storage(path, 0);
    if (opened) return 1;
    return opened.error().code == Errc::kIo && opened.error().message.find("permission") != std::string::npos
               ? 0
               : 2;
  });
  EXPECT_EQ(exit_code, 0);
}

// A server would hang on a lock that another process does not give back, or fail for one that it does.
TEST(CatalogFile, ALockThatIsHeldIsBusyAndALockThatIsReturnedIsWaitedFor) {
  const TempDir dir;
  const std::string path = dir / "c.sqlite";
  ASSERT_TRUE(open_storage(path).has_value());
  std::optional<sqlite::Database> other;  // the child's
  Partner partner(
      [&] {
        Result<sqlite::Database> opened = sqlite::Database::open(path, sqlite::Access::kWrite, 0);
        if (!opened) return false;
        other.emplace(std::move(*opened));
        return other->execute("BEGIN IMMEDIATE").has_value();
      },
      [&] {
        ::usleep(100'000);
        static_cast<void>(other->execute("COMMIT"));
      });
  ASSERT_TRUE(partner.ok());
  {
    Result<Catalog> hasty = open_storage(path, 20);
    ASSERT_TRUE(hasty.has_value()) << "opening writes nothing: " << hasty.error().message;
    const Result<ApplyOutcome> refused = hasty->apply(scan_of({"a"}));
    ASSERT_FALSE(refused.has_value());
    EXPECT_EQ(refused.error().code, Errc::kBusy);
    EXPECT_NE(refused.error().message.find("another process"), std::string::npos);
    EXPECT_TRUE(hasty->list()->empty()) << "reading does not wait";
  }
  Result<Catalog> patient = open_storage(path, 20'000);
  ASSERT_TRUE(patient.has_value());
  partner.finish();
  EXPECT_TRUE(patient->apply(scan_of({"a"})).has_value());
}

// A full disk would leave half a scan, or take adapters with it.
TEST(CatalogFile, AFullDiskIsAnErrorThatLosesNothing) {
  const TempDir dir;
  const std::string path = dir / "c.sqlite";
  std::vector<std::string> names;
  for (int i = 0; i < 2000; ++i) names.push_back("adapter-" + std::to_string(i));
  const int exit_code = in_child([&] {
    Result<Catalog> catalog = open_storage(path);
    if (!catalog || !catalog->apply(scan_of({"kept"}))) return 1;
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{200'000, 200'000};  // of every file: the log fills up within the transaction
    if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) return 2;
    std::vector<std::string> all = names;
    all.push_back("kept");
    const Result<ApplyOutcome> refused = catalog->apply(scan_of(all));
    if (refused) return 3;
    if (refused.error().code != Errc::kIo || refused.error().detail == 0) return 4;
    if (names_in(*catalog->list()) != "kept") return 5;
    return catalog->apply(scan_of({"kept", "small"})) ? 0 : 6;  // what fits still works
  });
  EXPECT_EQ(exit_code, 0);
  Result<Catalog> catalog = open_storage(path);
  ASSERT_TRUE(catalog.has_value()) << catalog.error().message;
  EXPECT_TRUE(catalog->check().has_value());
  EXPECT_EQ(names_in(*catalog->list()), "kept small");
  names.push_back("kept");
  EXPECT_TRUE(catalog->apply(scan_of(names)).has_value());
  EXPECT_EQ(catalog->id_of("kept")->value, 1U);
}

// A dashboard that lists would stop the server's writes, or see half of one.
TEST(CatalogFile, ReadersSeeWholeChangesWhileAnotherProcessWrites) {
  const TempDir dir;
  const std::string path = dir / "c.sqlite";
  {
    Result<Catalog> catalog = open_storage(path);
    ASSERT_TRUE(catalog && catalog->apply(scan_of({"a-0", "b-0"})));
  }
  const pid_t writer = ::fork();
  if (writer == 0) {
    Result<Catalog> catalog = open_storage(path);
    if (!catalog) ::_exit(1);
    std::vector<std::string> names = {"a-0", "b-0"};
    for (int i = 1; i <= 40; ++i) {
      names.push_back("a-" + std::to_string(i));
      names.push_back("b-" + std::to_string(i));
      if (!catalog->apply(scan_of(names, static_cast<std::uint64_t>(i)))) ::_exit(2);
    }
    ::_exit(0);
  }
  ASSERT_GT(writer, 0);
  int status = 0;
  std::size_t seen = 0;
  {
    Result<Catalog> reader = Catalog::open({path, std::nullopt, true, 0});
    ASSERT_TRUE(reader.has_value()) << reader.error().message;
    while (::waitpid(writer, &status, WNOHANG) == 0) {
      const Result<std::vector<CatalogEntry>> list = reader->list();
      ASSERT_TRUE(list.has_value()) << list.error().message;
      ASSERT_EQ(list->size() % 2, 0U);
      ASSERT_GE(list->size(), seen);
      seen = list->size();
      for (std::size_t i = 0; i < list->size(); i += 2)
        ASSERT_EQ((*list)[i].version, (*list)[i + 1].version) << "half a change was seen";
    }
    EXPECT_EQ(reader->list()->size(), 82U);
  }
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

// Servers that start together on a new volume would fail, or make two catalogs in one file.
TEST(CatalogFile, ProcessesThatMakeOneCatalogTogetherAllSucceed) {
  for (int round = 0; round < 10; ++round) {
    const TempDir dir;
    const std::string path = dir / "c.sqlite";
    std::vector<pid_t> children;
    for (int i = 0; i < 4; ++i) {
      const pid_t child = ::fork();
      if (child == 0) {
        Result<Catalog> catalog = open_storage(path, 30'000);
        if (!catalog) {
          std::fprintf(stderr, "open: %s\n", catalog.error().message.c_str());
          ::_exit(1);
        }
        const Result<ApplyOutcome> applied = catalog->apply(scan_of({"a", "b"}));
        if (!applied) std::fprintf(stderr, "apply: %s\n", applied.error().message.c_str());
        ::_exit(applied ? 0 : 2);
      }
      children.push_back(child);
    }
    for (const pid_t child : children) {
      int status = -1;
      ASSERT_EQ(::waitpid(child, &status, 0), child);
      EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    Result<Catalog> catalog = open_storage(path);
    ASSERT_TRUE(catalog.has_value());
    EXPECT_EQ(names_in(*catalog->list(true)), "a b");
    EXPECT_EQ(catalog->find("b")->version, 1U);
    EXPECT_TRUE(catalog->check().has_value());
  }
}

}  // namespace
}  // namespace loracle
