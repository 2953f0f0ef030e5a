// kill -9 at any moment: what was acknowledged is there, and the file is whole. LORACLE_KILL_ROUNDS times.

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "engine/catalog_fakes.hpp"
#include "loracle/core/rng.hpp"
#include "loracle/engine/catalog.hpp"
#include "support/temp_dir.hpp"

namespace loracle {
namespace {

using testing::kNow;
using testing::open_storage;
using testing::scan_of;
using testing::TempDir;

std::string name_at(std::size_t index) { return "adapter-" + std::to_string(1'000'000 + index); }

bool acknowledge(int fd, std::uint32_t step) { return ::write(fd, &step, sizeof step) == sizeof step; }

/// Goes on where the catalog ends: adapter n is found, used n times, pinned; each is acknowledged when done.
[[noreturn]] void work_until_killed(const std::string& path, int fd) {
  Result<Catalog> catalog = open_storage(path);
  if (!catalog) ::_exit(1);
  const Result<std::vector<CatalogEntry>> before = catalog->list();
  if (!before) ::_exit(2);
  ScanResult scan;
  for (const CatalogEntry& entry : *before) scan.unchanged.push_back(entry.name);
  for (std::size_t n = before->size();; ++n) {
    ScanResult next = scan_of({name_at(n)});
    next.unchanged = scan.unchanged;
    if (!catalog->apply(next)) ::_exit(3);
    scan.unchanged.push_back(name_at(n));
    const LoraId id{static_cast<std::uint32_t>(n + 1)};
    if (!acknowledge(fd, static_cast<std::uint32_t>(3 * n))) ::_exit(4);
    const std::vector<UseCount> uses = {{id, n + 1, kNow}};
    if (!catalog->record_uses(uses) || !acknowledge(fd, static_cast<std::uint32_t>(3 * n + 1))) ::_exit(5);
    if (!catalog->set_pin({id, Place::kHost}, true) ||
        !acknowledge(fd, static_cast<std::uint32_t>(3 * n + 2)))
      ::_exit(6);
  }
}

// A crash would lose adapters that clients were already told about, or the whole catalog.
TEST(CatalogKill, EveryAcknowledgedChangeSurvivesKill9) {
  const TempDir dir;
  const std::string path = dir / "c.sqlite";
  ASSERT_TRUE(open_storage(path).has_value());
  Rng rng(20240229);
  std::int64_t acknowledged = -1;
  for (int round = 0; round < LORACLE_KILL_ROUNDS; ++round) {
    std::array<int, 2> pipe{};
    ASSERT_EQ(::pipe(pipe.data()), 0);
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      ::close(pipe[0]);
      work_until_killed(path, pipe[1]);
    }
    ::close(pipe[1]);
    // Every fourth round is killed while the catalog is opened and recovered, the others at work: after some
    // acknowledgements, so that a busy machine changes how long this takes and not what it tests.
    const bool is_at_work = round % 4 != 0;
    std::uint32_t step = 0;
    for (std::uint32_t wanted = is_at_work ? 1 + rng.below(12) : 0; wanted > 0; --wanted) {
      ASSERT_EQ(::read(pipe[0], &step, sizeof step), static_cast<ssize_t>(sizeof step))
          << "the child has ended";
      acknowledged = std::max(acknowledged, std::int64_t{step});
    }
    ::usleep(rng.below(is_at_work ? 5'000 : 20'000));
    ::kill(child, SIGKILL);
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status)) << "the child failed by itself with " << WEXITSTATUS(status);
    while (::read(pipe[0], &step, sizeof step) == sizeof step)
      acknowledged = std::max(acknowledged, std::int64_t{step});
    ::close(pipe[0]);

    Result<Catalog> catalog = open_storage(path);
    ASSERT_TRUE(catalog.has_value()) << "round " << round << ": " << catalog.error().message;
    const Result<Unit> whole = catalog->check();
    ASSERT_TRUE(whole.has_value()) << "round " << round << ": " << whole.error().message;
    const Result<std::vector<CatalogEntry>> list = catalog->list();
    ASSERT_TRUE(list.has_value());
    const auto found = static_cast<std::int64_t>(list->size());
    ASSERT_GE(found, (acknowledged + 3) / 3) << "an acknowledged adapter is lost";
    ASSERT_LE(found, (acknowledged + 3) / 3 + 1) << "more than the change under way is there";
    for (std::int64_t n = 0; n < found; ++n) {
      ASSERT_EQ((*list)[static_cast<std::size_t>(n)].name, name_at(static_cast<std::size_t>(n)));
      ASSERT_EQ((*list)[static_cast<std::size_t>(n)].id.value, n + 1);
    }
    // What was cut off before its acknowledgement may be done or not: here it is finished, so that the next
    // round can count on everything before it.
    for (std::int64_t n = std::max<std::int64_t>(0, found - 2); n < found; ++n) {
      const LoraId id{static_cast<std::uint32_t>(n + 1)};
      const Result<UseHistory> history = catalog->history(id);
      ASSERT_TRUE(history.has_value());
      const auto wanted = static_cast<std::uint64_t>(n + 1);
      if (3 * n + 1 <= acknowledged) {
        ASSERT_EQ(history->uses, wanted) << "acknowledged uses are lost";
      }
      ASSERT_TRUE(history->uses == 0 || history->uses == wanted);
      const std::vector<UseCount> uses = {{id, wanted, kNow}};
      if (history->uses == 0) {
        ASSERT_TRUE(catalog->record_uses(uses).has_value());
      }
      const std::vector<Pin> pins = *catalog->pins();
      const bool is_pinned = std::find(pins.begin(), pins.end(), Pin{id, Place::kHost}) != pins.end();
      if (3 * n + 2 <= acknowledged) {
        ASSERT_TRUE(is_pinned) << "an acknowledged pin is lost";
      }
      ASSERT_TRUE(catalog->set_pin({id, Place::kHost}, true).has_value());
    }
    acknowledged = 3 * found - 1;
    ASSERT_EQ(static_cast<std::int64_t>(catalog->pins()->size()), found);
  }
  EXPECT_GT(acknowledged, LORACLE_KILL_ROUNDS);
}

}  // namespace
}  // namespace loracle
