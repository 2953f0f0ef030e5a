#pragma once
/// The discovery loop: keeps the engine's adapters as the prefixes have them.
///
/// A prefix is a directory or an s3:// URI whose folders are adapters, each by its folder's name. A round
/// looks at all prefixes and makes the engine agree: new adapters are added, those whose files changed are
/// added again, those that are gone are removed. Rounds run at the start, every interval, on request, and
/// soon after files have changed, where the system tells (inotify); where it cannot, or while a prefix
/// cannot be listed, every fallback interval.
///
/// Names. `support@1.2` is version 1.2 of `support`, which is served under both names: without a version it
/// is the latest that can be served (numbers in it compare as numbers: 1.10 is later than 1.9, and 1.0 than
/// 1.0-rc1), unless a folder is called `support`. Of a name that several prefixes have, the first prefix
/// wins; --lora-modules, and what clients have loaded, win over all; each such clash is reported. Patterns
/// (include, exclude) match the name with or without its version.
/// Dependencies. `loracle.json` beside an adapter's config, {"requires": ["base-style"]}, names adapters that
/// must be there: they are added first. What requires something that is nowhere, was refused, or lies on a
/// cycle, is not added, and the reason is reported; it is removed while what it requires is unloaded by a
/// client.
/// Invariants:
///  1. One bad adapter, and one prefix that cannot be listed, costs itself only. Adapters of a prefix that
///     cannot be listed stay as they are: a mount that is gone is not a wish to remove them all.
///  2. The loop removes and replaces only what it has added, has taken over from the engine's own directory,
///     or finds to lie where it would have taken it from (a resolver's doing). Where a client has put another
///     adapter under such a name since, the name is the client's.
///  3. An adapter that was refused is tried again when its files change; one that could not be examined
///     (I/O), in every round.
///  4. What a client unloads stays away until its files change, one of --lora-modules until a client loads it
///     again; DiscoveryRound::unloaded has it, and it is not counted as found.
/// Cost of a round: a listing and four stats an adapter (one listing in all for S3); adding is Engine::add.
/// Threads: any; rounds wait for each other. Errors: of `refresh`: kInvalid (no prefix), kIo (none could be
/// listed), kCancelled (told to end); everything else is in the round's report.

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "loracle/core/result.hpp"
#include "loracle/engine/engine.hpp"
#include "loracle/service/config.hpp"
#include "loracle/service/ports.hpp"
#include "loracle/storage/provider.hpp"

namespace loracle {

/// Who is kept up to date.
class DiscoveryTarget {
 public:
  virtual ~DiscoveryTarget() = default;
  /// As Engine::add: makes it known, or replaces it.
  [[nodiscard]] virtual Result<Unit> add(const std::string& name, const std::string& location) = 0;
  /// Of what was seen there a moment ago: what it once was will not do.
  [[nodiscard]] virtual Result<Unit> add_seen(const std::string& name, const std::string& location) {
    return add(name, location);
  }
  [[nodiscard]] virtual Result<Unit> remove(const std::string& name) = 0;
  /// Where what it has under the name lies, in its own words; nothing: it does not know the name.
  [[nodiscard]] virtual std::optional<std::string> location(const std::string& name) = 0;
};
[[nodiscard]] std::unique_ptr<DiscoveryTarget> make_discovery_target(Engine& engine);

/// What one round found and did. Lists of names are sorted, lists of texts are for people and logs.
struct DiscoveryRound {
  std::uint64_t number = 0;       // from 1
  std::uint64_t found_total = 0;  // served now
  std::uint64_t unchanged = 0;
  std::uint64_t prefixes_total = 0;
  std::uint64_t prefixes_failed = 0;
  std::vector<std::string> added;
  std::vector<std::string> changed;
  std::vector<std::string> removed;
  std::vector<std::string> unloaded;  // by clients, and kept away since: "name: what brings it back"
  std::vector<std::string> rejected;  // "name: reason"
  std::vector<std::string> clashes;   // "name: who has it, and who is left out"
  std::vector<std::string> failures;  // of prefixes, and of watching: "prefix: reason"
};
/// Why nothing can be found: no prefix could be listed. Empty: one could, or there is none.
[[nodiscard]] std::string trouble_of(const DiscoveryRound& round);

struct DiscoveryOptions {
  DiscoveryConfig discovery;
  std::vector<LoraModuleSetting> modules;
  /// What the engine discovers by itself (EngineConfig::directory), if that is one of the prefixes: adapters
  /// that it knows from there are taken over and not added once more.
  std::string engine_directory;
  std::uint64_t interval_ms = 0;                // instead of discovery.interval_s; 0: that
  std::uint64_t fallback_interval_ms = 30'000;  // without an interval, where the next round is not told of
  std::uint64_t quiet_ms = 100;                 // without a change, before a round is worth it
  std::uint64_t quiet_ms_max = 2'000;           // but it does not wait longer than this
  std::function<void(const DiscoveryRound&)> on_round;  // after each whole one; must not call the loop
};

/// Borrowed; outlives the loop.
struct DiscoveryWorld {
  DiscoveryTarget* target = nullptr;
  Files* files = nullptr;
  TimeSource* clock = nullptr;
  std::vector<StorageProvider*> storage = {};
};

class DiscoveryLoop final : public Discovery {
 public:
  DiscoveryLoop(DiscoveryOptions options, const DiscoveryWorld& world);
  DiscoveryLoop(const DiscoveryLoop&) = delete;
  DiscoveryLoop& operator=(const DiscoveryLoop&) = delete;
  /// stop().
  ~DiscoveryLoop() override;

  /// A thread for the rounds; the first begins at once. REQUIRES: not started yet.
  void start();
  /// No round begins after this, and one that runs ends after the adapter it is at. Does not wait.
  void cancel() noexcept;
  /// cancel(), and waits for the thread. Idempotent.
  void stop();

  [[nodiscard]] Result<DiscoveryReport> refresh() override;
  /// A round, now, with all it has to say.
  DiscoveryRound run_round();
  [[nodiscard]] DiscoveryRound last_round() const;

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

/// Directories of adapters as the prefixes have them now, patterns applied: what Engine::open may take its
/// slots' layout from, beside its own directory. Prefixes that cannot be listed are left out; so are what is
/// not on this machine, and the engine's directory, which it reads itself.
[[nodiscard]] std::vector<std::string> local_adapter_directories(const DiscoveryOptions& options,
                                                                 Files& files);

/// Below, above or equal to zero, as version `a` is before, after or the same as `b`.
[[nodiscard]] int compare_versions(std::string_view a, std::string_view b) noexcept;

}  // namespace loracle
