// kill -9 while the engine scans, loads, copies and writes its catalog: the next one opens, knows what was
// acknowledged, and serves it. LORACLE_KILL_ROUNDS times.

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "loracle/core/rng.hpp"
#include "loracle/engine/catalog.hpp"
#include "loracle/engine/engine.hpp"
#include "loracle/engine/make_adapters.hpp"
#include "support/temp_dir.hpp"

namespace loracle {
namespace {

namespace fs = std::filesystem;

constexpr std::uint32_t kAdapters = 24;

struct World {
  std::string stock;  // adapters that are not there yet
  std::string root;   // those that are
  std::string database;

  [[nodiscard]] EngineConfig config() const {
    EngineConfig config;
    config.directory = root;
    config.database = database;
    config.max_loras = 2;
    config.max_cpu_loras = 4;
    config.max_lora_rank = 8;
    return config;
  }
};

/// Told to the parent when it is done: the id of an adapter that was served, or pinned.
struct Done {
  std::uint32_t adapter = 0;
  std::uint32_t id = 0;
  bool pinned = false;
};

/// Adds adapters one by one, serves and pins them, until it is killed.
[[noreturn]] void work_until_killed(const World& world, const std::vector<std::string>& names,
                                    std::uint64_t seed, int fd) {
  const std::unique_ptr<Workers> workers = make_thread_workers(2);
  const std::unique_ptr<DeviceMemory> device = make_host_memory_device();
  Result<std::unique_ptr<Engine>> engine =
      Engine::open(world.config(), Env{&posix_clock(), &posix_files(), workers.get(), device.get()});
  if (!engine) ::_exit(1);
  Rng rng(seed);
  for (;;) {
    const std::uint32_t adapter = rng.below(kAdapters);
    std::error_code ignored;  // it may be there already
    fs::rename(fs::path(world.stock) / names[adapter], fs::path(world.root) / names[adapter], ignored);
    if (rng.below(4) == 0 && !(*engine)->refresh()) ::_exit(2);
    const Result<Lease> lease = (*engine)->acquire(names[adapter]);
    if (!lease && lease.error().code != Errc::kNotFound) ::_exit(3);
    if (!lease) continue;
    Done done{adapter, lease->adapters()[0].id, false};
    if (::write(fd, &done, sizeof done) != sizeof done) ::_exit(4);
    if (rng.below(8) != 0 || (*engine)->stats().host.pinned >= 2) continue;
    if (!(*engine)->pin(names[adapter], EngineTier::kHost)) ::_exit(5);
    done.pinned = true;
    if (::write(fd, &done, sizeof done) != sizeof done) ::_exit(6);
  }
}

// If this failed, a machine that loses its power would come back with other ids, without pins, or not at all.
TEST(EngineKill, WhatWasServedAndPinnedIsThereAfterKill9) {
  const testing::TempDir dir;
  const World world{(dir / "stock").string(), (dir / "adapters").string(), (dir / "c.sqlite").string()};
  MakeAdaptersOptions options;
  options.directory = world.stock;
  options.names = numbered_adapter_names(kAdapters);
  options.ranks = {8};
  options.model = *load_model_geometry("tiny");
  ASSERT_TRUE(make_adapters(options));
  fs::create_directory(world.root);
  fs::rename(fs::path(world.stock) / options.names[0], fs::path(world.root) / options.names[0]);

  Rng rng(20240301);
  std::map<std::uint32_t, std::uint32_t> ids;  // by adapter
  std::vector<std::uint32_t> pinned;
  for (std::uint32_t round = 0; round < LORACLE_KILL_ROUNDS; ++round) {
    std::array<int, 2> pipe{};
    ASSERT_EQ(::pipe(pipe.data()), 0);
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      ::close(pipe[0]);
      work_until_killed(world, options.names, round, pipe[1]);
    }
    ::close(pipe[1]);
    const auto take = [&](const Done& done) {
      const auto [known, is_first] = ids.try_emplace(done.adapter, done.id);
      ASSERT_EQ(known->second, done.id) << "round " << round << ": " << options.names[done.adapter];
      if (done.pinned) pinned.push_back(done.id);
    };
    Done done;
    // Every fourth round is killed while the engine opens and restores, the others in the middle of work.
    for (std::uint32_t wanted = round % 4 == 0 ? 0 : 1 + rng.below(30); wanted > 0; --wanted) {
      ASSERT_EQ(::read(pipe[0], &done, sizeof done), static_cast<ssize_t>(sizeof done))
          << "the child has ended";
      take(done);
    }
    ::usleep(rng.below(20'000));
    ::kill(child, SIGKILL);
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status)) << "the child failed by itself with " << WEXITSTATUS(status);
    while (::read(pipe[0], &done, sizeof done) == static_cast<ssize_t>(sizeof done)) take(done);
    ::close(pipe[0]);

    Result<Catalog> catalog = Catalog::open({world.database, CatalogKind::kStorage});
    ASSERT_TRUE(catalog) << catalog.error().message;
    const Result<Unit> whole = catalog->check();
    ASSERT_TRUE(whole) << "round " << round << ": " << whole.error().message;
    for (const auto& [adapter, id] : ids) {
      const Result<LoraId> found = catalog->id_of(options.names[adapter]);
      ASSERT_TRUE(found) << "round " << round << ": " << options.names[adapter] << " is lost";
      ASSERT_EQ(found->value, id);
    }
    const std::vector<Pin> pins = *catalog->pins();
    for (const std::uint32_t id : pinned)
      ASSERT_NE(std::find(pins.begin(), pins.end(), Pin{LoraId{id}, Place::kHost}), pins.end())
          << "round " << round << ": an acknowledged pin is lost";
  }
  EXPECT_GT(ids.size(), kAdapters / 3);
  EXPECT_FALSE(pinned.empty());
}

}  // namespace
}  // namespace loracle
