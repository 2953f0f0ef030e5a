#include "loracle/service/discovery_loop.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <thread>
#include <utility>

#include "loracle/core/check.hpp"
#include "loracle/engine/discovery.hpp"
#include "loracle/service/settings.hpp"
#include "service/discovery_plan.hpp"
#include "service/error_kinds.hpp"
#include "service/locations.hpp"
#include "service/watch.hpp"

namespace loracle {
namespace {

using service::Candidate;
using service::Location;
using service::Wanted;

constexpr std::uint64_t kRequirementsBytesMax = 64U << 10U;
constexpr std::int64_t kFreshSeconds = 60;
constexpr std::string_view kConfig = "adapter_config.json";
constexpr std::array<std::string_view, 2> kWeights = {"adapter_model.safetensors", "adapter_model.bin"};
constexpr std::string_view kRequirements = "loracle.json";

/// The files of a folder that count, each as text that changes with it.
struct Folder {
  std::string name;
  std::string location;
  std::string config;
  std::string weights;
  std::string requirements;
  std::int64_t changed_unix_s = 0;

  [[nodiscard]] bool is_adapter() const noexcept { return !config.empty() || !weights.empty(); }
  [[nodiscard]] std::string stamp() const {
    return fmt::format("{} | {} | {}", config, weights, requirements);
  }
};

/// What a prefix was found to have.
struct Listing {
  std::vector<Folder> folders;
  std::vector<std::string> unreadable;  // names of folders that could not be examined
  std::vector<std::string> failures;
  bool failed = false;  // as a whole
};

Result<std::vector<std::string>> folder_names(Files& files, const std::string& directory) {
  Result<std::vector<DirectoryEntry>> entries = files.list(directory);
  if (!entries) return fail(std::move(entries.error()));
  std::vector<std::string> names;
  for (DirectoryEntry& entry : *entries)
    if (entry.kind == FileKind::kDirectory && !entry.name.starts_with('.'))
      names.push_back(std::move(entry.name));
  return names;
}

/// Fills in what stats show; false for what is no adapter.
Result<Unit> examine(Files& files, Folder& folder) {
  const auto look = [&](std::string_view name, std::string& into) -> Result<Unit> {
    const Result<FileStat> stat = files.stat(fmt::format("{}/{}", folder.location, name));
    if (!stat) return stat.error().code == Errc::kNotFound ? Result<Unit>(Unit{}) : fail(stat.error());
    into = fmt::format("{} {} {} {}", stat->size, stat->mtime_ns, stat->ctime_ns, stat->inode);
    folder.changed_unix_s = std::max(folder.changed_unix_s, stat->ctime_ns / 1'000'000'000);
    return Unit{};
  };
  if (Result<Unit> seen = look(kConfig, folder.config); !seen) return seen;
  for (const std::string_view weights : kWeights)
    if (folder.weights.empty())
      if (Result<Unit> seen = look(weights, folder.weights); !seen) return seen;
  return look(kRequirements, folder.requirements);
}

Listing list_directory(Files& files, const std::string& directory, const DiscoveryConfig& config) {
  Listing listing;
  Result<std::vector<std::string>> names = folder_names(files, directory);
  if (!names) {
    listing.failed = true;
    listing.failures.push_back(names.error().message);
    return listing;
  }
  for (std::string& name : *names) {
    if (!service::is_included(config, name)) continue;
    Folder folder;
    folder.location = fmt::format("{}/{}", directory, name);
    folder.name = std::move(name);
    if (const Result<Unit> examined = examine(files, folder); !examined) {
      listing.unreadable.push_back(folder.name);
      listing.failures.push_back(examined.error().message);
    } else if (folder.is_adapter()) {
      listing.folders.push_back(std::move(folder));
    }
  }
  return listing;
}

Listing list_storage(std::span<StorageProvider* const> storage, const std::string& prefix,
                     const DiscoveryConfig& config) {
  Listing listing;
  const Result<StorageProvider*> provider = service::storage_of(storage, prefix);
  Result<StoredListing> found = provider ? (*provider)->list(prefix, true) : fail(provider.error());
  if (!found && found.error().code == Errc::kNotFound) return listing;  // storage has no empty folders
  if (!found) {
    listing.failed = true;
    listing.failures.push_back(fmt::format("{}: {}", without_secrets(prefix), found.error().message));
    return listing;
  }
  std::map<std::string, Folder> folders;
  for (const StoredObject& object : found->objects) {
    const std::size_t slash = object.name.find('/');
    if (slash == std::string::npos || slash == 0 || object.name[0] == '.') continue;
    const std::string_view file = std::string_view(object.name).substr(slash + 1);
    const std::string name = object.name.substr(0, slash);
    Folder& folder = folders[name];
    std::string text = fmt::format("{} {}", object.size, object.etag);
    if (file == kConfig)
      folder.config = std::move(text);
    else if (file == kWeights[0] || (file == kWeights[1] && folder.weights.empty()))
      folder.weights = std::move(text);
    else if (file == kRequirements)
      folder.requirements = std::move(text);
  }
  for (auto& [name, folder] : folders) {
    if (!folder.is_adapter() || !service::is_included(config, name)) continue;
    folder.name = name;
    folder.location = fmt::format("{}/{}", prefix, name);
    listing.folders.push_back(std::move(folder));
  }
  return listing;
}

/// {"requires": ["a", "b"]}. Errors say what is wrong, for a person.
Result<std::vector<std::string>> parse_requirements(const std::string& text) {
  constexpr const char* kForm = "write {\"requires\": [\"other-adapter\"]}";
  const auto json = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object())
    return fail(Errc::kCorrupt, fmt::format("loracle.json is not a JSON object: {}", kForm));
  std::vector<std::string> names;
  const auto required = json.find("requires");
  if (required == json.end()) return names;
  if (!required->is_array())
    return fail(Errc::kCorrupt, fmt::format("loracle.json: 'requires' is not a list: {}", kForm));
  for (const auto& name : *required) {
    if (!name.is_string())
      return fail(Errc::kCorrupt,
                  fmt::format("loracle.json: 'requires' has an item that is no name: {}", kForm));
    names.push_back(name.get<std::string>());
    if (const Result<Unit> ok = check_adapter_name(names.back()); !ok)
      return fail(Errc::kCorrupt, fmt::format("loracle.json: {}", ok.error().message));
  }
  return names;
}

class EngineTarget final : public DiscoveryTarget {
 public:
  explicit EngineTarget(Engine& engine) : engine_(engine) {}
  [[nodiscard]] Result<Unit> add(const std::string& name, const std::string& location) override {
    return add_to_engine(name, location, {});
  }
  [[nodiscard]] Result<Unit> add_seen(const std::string& name, const std::string& location) override {
    return add_to_engine(name, location, {.may_be_stale = false});
  }
  [[nodiscard]] Result<Unit> remove(const std::string& name) override { return engine_.remove(name); }
  [[nodiscard]] std::optional<std::string> location(const std::string& name) override {
    const Result<AdapterStatus> status = engine_.status(name);
    if (!status) return std::nullopt;
    return status->uri.empty() ? status->directory : status->uri;
  }

 private:
  [[nodiscard]] Result<Unit> add_to_engine(const std::string& name, const std::string& location,
                                           const AddOptions& options) {
    const Result<std::uint32_t> id = engine_.add(name, location, options);
    if (!id) return fail(id.error());
    return Unit{};
  }

  Engine& engine_;
};

}  // namespace

std::unique_ptr<DiscoveryTarget> make_discovery_target(Engine& engine) {
  return std::make_unique<EngineTarget>(engine);
}

struct DiscoveryLoop::Parts {
  /// An adapter of this loop, as the engine has it.
  struct Served {
    std::string location;
    std::string stamp;
    std::string engine_location;  // as the target tells it: another one is a client's doing
  };
  struct Refused {
    std::string stamp;
    std::string reason;
  };
  struct Prefix {
    std::string text;
    Location location;
    std::vector<Candidate> found = {};  // in the last round that could list it
    bool was_listed = false;
    bool is_news = false;  // this round is the first that could list it
  };
  struct Requirements {
    std::string stamp;
    std::vector<std::string> names;
    std::string trouble;
  };

  Parts(DiscoveryOptions asked, const DiscoveryWorld& given)
      : options(std::move(asked)), world(given), watch(options.discovery.watch) {
    for (const std::string& text : options.discovery.prefixes) {
      const Result<Location> location = service::location_of(text);
      if (location)
        prefixes.push_back({text, *location});
      else
        broken_prefixes.push_back(location.error().message);
    }
    const Result<Location> own = service::location_of(options.engine_directory);
    if (own && !options.engine_directory.empty()) engine_directory = own->place;
    for (const LoraModuleSetting& module : options.modules) modules[module.name] = module.path;
  }

  /// What is required of an adapter; read again only when it has changed.
  void read_requirements(const Folder& folder, Candidate& candidate) {
    if (folder.requirements.empty()) {
      requirements.erase(folder.location);
      return;
    }
    Requirements& known = requirements[folder.location];
    if (known.stamp != folder.requirements) {
      known = {};
      const Result<Location> location = service::location_of(folder.location);
      const Result<std::string> text = location ? service::read_beside(*world.files, world.storage, *location,
                                                                       kRequirements, kRequirementsBytesMax)
                                                : fail(location.error());
      Result<std::vector<std::string>> names = text ? parse_requirements(*text) : fail(text.error());
      if (names)
        known.names = std::move(*names);
      else
        known.trouble = names.error().message;
      if (names || !service::is_transient(names.error().code)) known.stamp = folder.requirements;
    }
    candidate.required = known.names;
    candidate.trouble = known.trouble;
  }

  /// What a prefix has; what cannot be seen now is as it was.
  void look_at(Prefix& prefix, DiscoveryRound& round) {
    Listing listing = prefix.location.is_remote
                          ? list_storage(world.storage, prefix.location.place, options.discovery)
                          : list_directory(*world.files, prefix.location.place, options.discovery);
    round.failures.insert(round.failures.end(), listing.failures.begin(), listing.failures.end());
    prefix.is_news = !listing.failed && !prefix.was_listed;
    if (listing.failed) {
      ++round.prefixes_failed;
      return;
    }
    prefix.was_listed = true;
    std::vector<Candidate> found;
    for (const Folder& folder : listing.folders) {
      Candidate candidate;
      candidate.name = folder.name;
      candidate.location = folder.location;
      candidate.stamp = folder.stamp();
      candidate.is_fresh = folder.changed_unix_s + kFreshSeconds > world.clock->unix_s();
      if (const Result<Unit> ok = check_adapter_name(folder.name); !ok)
        candidate.trouble = ok.error().message;
      else
        read_requirements(folder, candidate);
      found.push_back(std::move(candidate));
    }
    for (Candidate& candidate : prefix.found) {
      if (std::find(listing.unreadable.begin(), listing.unreadable.end(), candidate.name) !=
          listing.unreadable.end())
        found.push_back(std::move(candidate));
    }
    prefix.found = std::move(found);
  }

  /// --lora-modules: once each; one that failed is tried again in every round.
  void load_modules(DiscoveryRound& round) {
    for (const auto& [name, path] : modules) {
      if (stopping || modules_loaded.contains(name)) continue;
      if (const Result<Unit> added = world.target->add(name, path); added) {
        modules_loaded.insert(name);
        served.erase(name);
        round.added.push_back(name);
      } else {
        round.rejected.push_back(
            fmt::format("{}: --lora-modules: {}", name, without_secrets(added.error().message)));
      }
    }
  }

  /// True if the engine's own discovery has it, from here, as it is now.
  [[nodiscard]] bool can_take_over(const std::string& name, const Candidate& candidate) const {
    return engine_found.contains(name) && !candidate.is_fresh &&
           candidate.location == fmt::format("{}/{}", engine_directory, name);
  }

  /// Who else has the name; empty: nobody, it is the loop's.
  [[nodiscard]] std::string owner_of(const std::string& name) const {
    if (modules.contains(name)) return "--lora-modules";
    const std::optional<std::string> location = world.target->location(name);
    if (!location) return {};
    const auto ours = served.find(name);
    const bool is_ours =
        ours != served.end()
            ? ours->second.engine_location == *location
            : places.contains({name, *location}) ||
                  (engine_found.contains(name) && *location == fmt::format("{}/{}", engine_directory, name));
    return is_ours ? std::string() : "an adapter that a client has loaded";
  }

  /// Reports a name that has come to belong to somebody else, and forgets it. False: it is the loop's.
  bool let_go_of_others(const std::string& name, DiscoveryRound& round) {
    const std::string owner = owner_of(name);
    if (owner.empty()) return false;
    round.clashes.push_back(fmt::format("{}: {} has that name now; it is left alone", name, owner));
    served.erase(name);
    engine_found.erase(name);
    return true;
  }

  /// Where adapters lie that are the loop's, whoever has added them: the places it takes names from itself,
  /// for a resolver may have been quicker; and, once a prefix, all that a catalog may have kept since an
  /// earlier process discovered them. After that, a client may have chosen one of the others.
  void note_places() {
    places.clear();
    std::set<std::string> seen;
    for (const Prefix& prefix : prefixes)
      for (const Candidate& candidate : prefix.found)
        if (seen.insert(candidate.name).second) places.emplace(candidate.name, candidate.location);
    for (const Prefix& prefix : prefixes) {
      if (!prefix.is_news) continue;
      for (const Candidate& candidate : prefix.found) {
        places.emplace(candidate.name, candidate.location);
        places.emplace(service::split_version(candidate.name).base, candidate.location);
      }
    }
  }

  /// Names the engine has by itself from its directory: the loop's to keep or to remove.
  void note_engine_directory() {
    if (number != 1 || engine_directory.empty()) return;
    const Result<std::vector<std::string>> names = folder_names(*world.files, engine_directory);
    if (!names) return;
    for (const std::string& name : *names)
      if (!modules.contains(name) &&
          world.target->location(name) == fmt::format("{}/{}", engine_directory, name))
        engine_found.insert(name);
  }

  /// Makes the engine have a name as its first choice that can be had; what stands in the way is reported.
  void serve(const Wanted& wanted, DiscoveryRound& round) {
    if (let_go_of_others(wanted.name, round)) return;
    for (const Candidate* const choice : wanted.choices) {
      const auto now = served.find(wanted.name);
      const bool is_served = now != served.end();
      const std::pair key(wanted.name, choice->location);
      const auto reject = [&](const std::string& reason) {
        round.rejected.push_back(fmt::format("{}: {}{}", wanted.name,
                                             choice->name == wanted.name ? "" : choice->name + ": ", reason));
      };
      const bool is_same =
          is_served && now->second.location == choice->location && now->second.stamp == choice->stamp;
      const std::string missing = missing_for(*choice);
      // What a client has unloaded stays so, whatever it requires.
      if (is_same && (missing.empty() || !world.target->location(wanted.name))) {
        ++round.unchanged;
        return;
      }
      if (!missing.empty()) {
        reject(fmt::format("requires '{}', which is not served", missing));
        continue;
      }
      if (const auto before = refused.find(key);
          before != refused.end() && before->second.stamp == choice->stamp) {
        reject(before->second.reason);
        continue;
      }
      const bool taken_over = can_take_over(wanted.name, *choice);
      const Result<Unit> added =
          taken_over ? Result<Unit>(Unit{}) : world.target->add_seen(wanted.name, choice->location);
      if (added) {
        refused.erase(key);
        (is_served ? round.changed : round.added).push_back(wanted.name);
        served[wanted.name] = {choice->location, choice->stamp,
                               world.target->location(wanted.name).value_or(choice->location)};
        return;
      }
      std::string reason = without_secrets(added.error().message);
      reject(reason);
      if (service::is_transient(added.error().code)) {
        if (is_served) return;  // nothing is known against what is served now
        continue;
      }
      refused[key] = {choice->stamp, std::move(reason)};
    }
    drop(wanted.name, round);
  }

  /// The first requirement that is not there; empty if all are.
  [[nodiscard]] std::string missing_for(const Candidate& candidate) const {
    for (const std::string& need : candidate.required)
      if (!world.target->location(need)) return need;
    return {};
  }

  /// Takes a name of this loop from the engine, if it has it.
  void drop(const std::string& name, DiscoveryRound& round) {
    const bool was_served = served.contains(name);
    if (!was_served && !engine_found.contains(name)) return;
    if (let_go_of_others(name, round)) return;
    served.erase(name);
    engine_found.erase(name);
    const Result<Unit> removed = world.target->remove(name);
    const bool was_there = removed || removed.error().code != Errc::kNotFound;
    if (!removed && was_there)
      round.failures.push_back(fmt::format("{}: cannot be removed: {}", name, removed.error().message));
    if (was_served && was_there) round.removed.push_back(name);
  }

  /// What is the loop's to serve, and the engine does not have.
  void note_unloaded(DiscoveryRound& round) const {
    constexpr std::string_view kWho = "a client has unloaded it: load it again";
    for (const auto& [name, adapter] : served)
      if (!world.target->location(name))
        round.unloaded.push_back(
            fmt::format("{}: {}, or change its files for discovery to do so", name, kWho));
    for (const std::string& name : modules_loaded)
      if (!world.target->location(name)) round.unloaded.push_back(fmt::format("{}: {}", name, kWho));
  }

  DiscoveryRound round() {
    const std::lock_guard lock(rounds);
    DiscoveryRound round;
    round.number = ++number;
    round.prefixes_total = options.discovery.prefixes.size();
    round.prefixes_failed = broken_prefixes.size();
    round.failures = broken_prefixes;
    round.failures.insert(round.failures.end(), unwatched.begin(), unwatched.end());
    note_engine_directory();
    for (Prefix& prefix : prefixes)
      if (!stopping) look_at(prefix, round);
    if (stopping) return round;  // what was not looked at is not gone
    some_failed = round.prefixes_failed != 0;
    std::vector<Candidate> found;
    for (const Prefix& prefix : prefixes) found.insert(found.end(), prefix.found.begin(), prefix.found.end());
    note_places();
    // What clients have put under names of ours is theirs: the plan reports it.
    std::erase_if(served, [this](const auto& adapter) { return !owner_of(adapter.first).empty(); });
    load_modules(round);
    const service::DiscoveryPlan plan =
        service::plan_discovery(found, [this](const std::string& name) { return owner_of(name); });
    round.clashes = plan.clashes;
    round.rejected.insert(round.rejected.end(), plan.rejected.begin(), plan.rejected.end());
    std::set<std::string> wanted;
    for (const Wanted& adapter : plan.wanted) wanted.insert(adapter.name);
    std::vector<std::string> gone;
    for (const auto& [name, adapter] : served)
      if (!wanted.contains(name)) gone.push_back(name);
    for (const std::string& name : engine_found)
      if (!wanted.contains(name) && !served.contains(name)) gone.push_back(name);
    for (const std::string& name : gone)
      if (!stopping) drop(name, round);
    for (const Wanted& adapter : plan.wanted)
      if (!stopping) serve(adapter, round);
    if (stopping) return round;
    std::erase_if(refused, [&](const auto& entry) { return !wanted.contains(entry.first.first); });
    engine_found.clear();
    note_unloaded(round);
    round.found_total = served.size() + modules_loaded.size() - round.unloaded.size();
    for (std::vector<std::string>* const names :
         {&round.added, &round.changed, &round.removed, &round.unloaded, &round.rejected, &round.clashes})
      std::sort(names->begin(), names->end());
    {
      const std::lock_guard seen(state);
      last = round;
    }
    if (options.on_round) options.on_round(round);
    return round;
  }

  /// Prefixes and their folders, for inotify. Before each round: what changes after this is told.
  void set_watches() {
    if (!options.discovery.watch) return;
    std::vector<std::string> directories;
    std::vector<std::string> failures;
    for (const Prefix& prefix : prefixes) {
      if (prefix.location.is_remote) continue;
      directories.push_back(prefix.location.place);
      const Result<std::vector<std::string>> names = folder_names(*world.files, prefix.location.place);
      if (!names) continue;
      for (const std::string& name : *names)
        if (service::is_included(options.discovery, name))
          directories.push_back(fmt::format("{}/{}", prefix.location.place, name));
    }
    failures = watch.watch(directories);
    can_watch = failures.empty();
    if (failures.size() > 1) failures.resize(1);  // the first says it all: a limit, or a mount
    const std::lock_guard lock(rounds);
    unwatched = std::move(failures);
  }

  [[nodiscard]] std::uint64_t interval_ms() const {
    if (options.interval_ms != 0) return options.interval_ms;
    if (options.discovery.interval_s != 0) return std::uint64_t{options.discovery.interval_s} * 1000;
    const bool is_blind = options.discovery.watch && !can_watch;
    return is_blind || some_failed ? options.fallback_interval_ms : 0;
  }

  /// Until files have been left alone for a moment: an adapter that is being copied is looked at once.
  void wait_for_quiet() {
    const std::uint64_t until_ns = world.clock->now_ns() + options.quiet_ms_max * 1'000'000;
    while (!stopping && world.clock->now_ns() < until_ns)
      if (watch.wait(options.quiet_ms) == service::Woken::kTimeout) return;
  }

  void run() {
    std::uint64_t round_ns = 0;
    const auto look = [&] {
      set_watches();
      round_ns = world.clock->now_ns();
      static_cast<void>(round());
    };
    look();
    while (!stopping) {
      const std::uint64_t every_ms = interval_ms();
      const std::uint64_t since_ms = (world.clock->now_ns() - round_ns) / 1'000'000;
      const std::uint64_t left_ms = every_ms == 0         ? service::kWaitForEver
                                    : since_ms < every_ms ? every_ms - since_ms
                                                          : 0;
      const service::Woken woken = watch.wait(left_ms);
      if (stopping) return;
      if (woken == service::Woken::kChanged) wait_for_quiet();
      const bool due = every_ms != 0 && world.clock->now_ns() - round_ns >= every_ms * 1'000'000;
      if (stopping || (woken != service::Woken::kChanged && !due)) continue;
      look();
    }
  }

  DiscoveryOptions options;
  DiscoveryWorld world;
  std::vector<Prefix> prefixes;
  std::vector<std::string> broken_prefixes;
  std::string engine_directory;
  std::map<std::string, std::string> modules;  // path by name

  std::mutex rounds;  // one at a time; what follows is theirs
  std::uint64_t number = 0;
  std::set<std::string> modules_loaded;
  std::map<std::string, Served> served;
  std::map<std::pair<std::string, std::string>, Refused> refused;  // by name and location
  std::map<std::string, Requirements> requirements;                // by location
  std::set<std::string> engine_found;
  std::set<std::pair<std::string, std::string>> places;  // name and location; see note_places
  std::vector<std::string> unwatched;

  mutable std::mutex state;
  DiscoveryRound last;

  service::DirectoryWatch watch;
  std::atomic<bool> can_watch = true;
  std::atomic<bool> some_failed = false;  // of the prefixes, in the last round
  std::atomic<bool> stopping = false;
  std::thread thread;
};

DiscoveryLoop::DiscoveryLoop(DiscoveryOptions options, const DiscoveryWorld& world)
    : parts_(std::make_unique<Parts>(std::move(options), world)) {
  LORACLE_CHECK(world.target != nullptr && world.files != nullptr && world.clock != nullptr);
}

DiscoveryLoop::~DiscoveryLoop() { stop(); }

void DiscoveryLoop::start() {
  LORACLE_CHECK(!parts_->thread.joinable());
  parts_->thread = std::thread([this] { parts_->run(); });
}

void DiscoveryLoop::cancel() noexcept {
  parts_->stopping = true;
  parts_->watch.wake();
}

void DiscoveryLoop::stop() {
  cancel();
  if (parts_->thread.joinable()) parts_->thread.join();
}

DiscoveryRound DiscoveryLoop::run_round() { return parts_->round(); }

Result<DiscoveryReport> DiscoveryLoop::refresh() {
  if (parts_->options.discovery.prefixes.empty() && parts_->modules.empty()) {
    return fail(Errc::kInvalid,
                "there is nowhere to look for adapters: give --lora-dir-prefix or discovery.prefixes");
  }
  DiscoveryRound round = parts_->round();
  if (parts_->stopping) return fail(Errc::kCancelled, "the service is shutting down");
  if (std::string trouble = trouble_of(round); !trouble.empty()) return fail(Errc::kIo, std::move(trouble));
  return DiscoveryReport{round.found_total, std::move(round.added)};
}

DiscoveryRound DiscoveryLoop::last_round() const {
  const std::lock_guard lock(parts_->state);
  return parts_->last;
}

std::string trouble_of(const DiscoveryRound& round) {
  if (round.prefixes_total == 0 || round.prefixes_failed < round.prefixes_total) return {};
  return fmt::format(
      "no prefix can be listed, so no adapter can be found: {}: see that --lora-dir-prefix names what is "
      "there, and that this process may read it (permissions, credentials, network)",
      without_secrets(fmt::format("{}", fmt::join(round.failures, "; "))));
}

std::vector<std::string> local_adapter_directories(const DiscoveryOptions& options, Files& files) {
  std::vector<std::string> directories;
  const Result<Location> own = service::location_of(options.engine_directory);
  for (const std::string& prefix : options.discovery.prefixes) {
    const Result<Location> location = service::location_of(prefix);
    if (!location || location->is_remote) continue;
    if (own && !options.engine_directory.empty() && location->place == own->place) continue;
    for (const Folder& folder : list_directory(files, location->place, options.discovery).folders)
      directories.push_back(folder.location);
  }
  for (const LoraModuleSetting& module : options.modules) {
    const Result<Location> location = service::location_of(module.path);
    if (location && !location->is_remote) directories.push_back(location->place);
  }
  return directories;
}

}  // namespace loracle
