/// The engine: catalog, discovery and core put together.

#include "loracle/engine/engine.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <utility>

#include "loracle/engine/catalog.hpp"
#include "loracle/engine/discovery.hpp"
#include "loracle/engine/origin.hpp"
#include "serving/adapter_book.hpp"
#include "serving/engine_core.hpp"
#include "serving/read_image.hpp"

namespace loracle {
namespace {

constexpr std::uint32_t kRowsMin = 1024;
constexpr std::uint32_t kRowsMax = 1U << 20U;

std::size_t level_of(EngineTier tier) noexcept { return static_cast<std::size_t>(tier); }

Result<Unit> check_config(const EngineConfig& config, const Env& env) {
  if (env.clock == nullptr || env.files == nullptr || env.workers == nullptr || env.device == nullptr)
    return fail(Errc::kInvalid, "env: clock, files, workers and device must all be given");
  if (config.max_loras == 0) return fail(Errc::kInvalid, "max_loras 0 holds nothing: give 1 or more");
  if (config.max_cpu_loras != 0 && config.max_cpu_loras < config.max_loras) {
    return fail(
        Errc::kInvalid,
        fmt::format("max_cpu_loras {} is below max_loras {}: every adapter in a slot is in host memory "
                    "too, so give at least {}, or 0",
                    config.max_cpu_loras, config.max_loras, config.max_loras));
  }
  if (config.gpu_memory.value == 0 || config.cpu_memory.value == 0)
    return fail(Errc::kInvalid,
                "gpu_memory and cpu_memory: 0 bytes hold nothing: leave them out or raise them");
  if (config.max_lora_rank > kLoraRankMax) {
    return fail(Errc::kInvalid,
                fmt::format("max_lora_rank {}: at most {} is supported", config.max_lora_rank, kLoraRankMax));
  }
  if (config.adapters_max > kRowsMax)
    return fail(Errc::kInvalid, fmt::format("adapters_max {}: at most {}", config.adapters_max, kRowsMax));
  return Unit{};
}

std::string without_trailing_slashes(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path;
}

}  // namespace

struct Engine::Parts {
  Parts(EngineConfig asked, const Env& world, Catalog opened)
      : config(std::move(asked)), env(world), catalog(std::move(opened)) {
    rules.max_lora_rank = config.max_lora_rank;
    rules.base_models = config.base_models;
  }

  /// Looks at the directory and brings the catalog up to date.
  Result<ApplyOutcome> discover() {
    ScanOptions options;
    options.root = config.directory;
    options.rules = rules;
    options.threads = 0;
    options.now_unix_s = env.clock->unix_s();
    Result<KnownAdapters> known = catalog.known(config.directory, rules);
    if (!known) return fail(std::move(known.error()));
    Result<ScanResult> found = loracle::refresh(*env.files, options, *known);
    if (!found) return fail(std::move(found.error()));
    return catalog.apply(*found);
  }

  /// Uses since the last call go into the catalog's history.
  Result<Unit> save_uses() {
    std::vector<UseCount> counts;
    for (const auto& [name, uses] : core->take_uses()) {
      const Result<LoraId> id = catalog.id_of(name);
      if (id) counts.push_back({*id, uses, env.clock->unix_s()});
    }
    return counts.empty() ? Result<Unit>(Unit{}) : catalog.record_uses(counts);
  }

  Result<Unit> save_residency() {
    std::vector<ResidentAdapter> residents;
    for (const EngineTier tier : {EngineTier::kDevice, EngineTier::kHost}) {
      std::uint32_t order = 0;
      for (const std::string& name : core->residents(level_of(tier))) {
        const Result<LoraId> id = catalog.id_of(name);
        if (id)
          residents.push_back({*id, tier == EngineTier::kDevice ? Place::kDevice : Place::kHost, order++});
      }
    }
    return catalog.save_residency(residents);
  }

  /// Pins first, then what was resident, most valuable first; all in the background.
  Result<Unit> restore() {
    Result<std::vector<Pin>> pins = catalog.pins();
    if (!pins) return fail(std::move(pins.error()));
    for (const Pin& pin : *pins) {
      const Result<std::string> name = catalog.name_of(pin.id);
      // An adapter that cannot be loaded any more must not keep the others from being served.
      if (name) static_cast<void>(core->pin(*name, pin.tier == Place::kDevice ? 0 : 1, {}));
    }
    if (!config.restore_residency) return Unit{};
    Result<std::vector<ResidentAdapter>> residents = catalog.residency();
    if (!residents) return fail(std::move(residents.error()));
    const EngineStats stats = core->stats();
    for (const ResidentAdapter& resident : *residents) {
      const bool device = resident.tier == Place::kDevice;
      if (resident.order >= (device ? stats.device : stats.host).entries_max) continue;
      const Result<std::string> name = catalog.name_of(resident.id);
      if (!name) continue;
      const std::string_view names[] = {*name};
      static_cast<void>(core->prefetch(names, device ? 0 : 1));
    }
    return Unit{};
  }

  /// The facts of an adapter that is not found by scanning.
  [[nodiscard]] Result<AdapterSource> source_of(const AdapterFiles& adapter, LoraId id) const {
    Result<ImageManifest> plan = plan_image(adapter, core->layout());
    if (!plan) return fail(std::move(plan.error()));
    AdapterSource source;
    source.id = id.value;
    source.rank = adapter.rank_max;
    source.bytes = plan->elements * bytes_of(core->layout().dtype);
    source.directory = adapter.directory;
    source.config_stat = adapter.config_stat;
    source.weights_stat = adapter.weights_stat;
    return source;
  }

  EngineConfig config;
  Env env;
  AdapterRules rules;
  std::mutex changing;  // add, remove, refresh: one at a time
  Catalog catalog;
  std::unique_ptr<Origin> file_origin = make_file_origin();
  std::unique_ptr<EngineCore> core;
  bool shut_down = false;
};

Engine::Engine(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}

Engine::~Engine() { static_cast<void>(shutdown()); }

Result<std::unique_ptr<Engine>> Engine::open(const EngineConfig& config, const Env& env) {
  if (Result<Unit> ok = check_config(config, env); !ok) return fail(std::move(ok.error()));
  CatalogOptions options;
  options.path = config.database.empty() ? ":memory:" : config.database;
  options.kind = config.directory.empty() ? CatalogKind::kMemory : CatalogKind::kStorage;
  Result<Catalog> catalog = Catalog::open(options);
  if (!catalog) return fail(std::move(catalog.error()));
  EngineConfig cleaned = config;
  if (!config.directory.empty()) {
    const std::unique_ptr<Origin> files = make_file_origin();
    Origin* const origins[] = {files.get()};
    Result<LocalCopy> root = localize(origins, config.directory);
    if (!root) return fail(std::move(root.error()));
    cleaned.directory = without_trailing_slashes(std::move(root->directory));
  }
  auto parts = std::make_unique<Parts>(std::move(cleaned), env, std::move(*catalog));

  if (!config.directory.empty())
    if (Result<ApplyOutcome> found = parts->discover(); !found) return fail(std::move(found.error()));
  Result<SlotLayout> layout = layout_of(parts->catalog, config.max_lora_rank, config.dtype);
  if (!layout) return fail(std::move(layout.error()));
  Result<AdapterBook> book =
      open_book(parts->catalog, parts->config.directory, parts->rules, std::move(*layout));
  if (!book) return fail(std::move(book.error()));

  const auto known = static_cast<std::uint32_t>(std::min<std::size_t>(book->adapters.size(), kRowsMax / 4));
  const std::uint32_t rows =
      config.adapters_max != 0
          ? config.adapters_max
          : std::max({kRowsMin, 4 * known, static_cast<std::uint32_t>(config.row_names.size()) + known});
  Result<std::unique_ptr<EngineCore>> core =
      EngineCore::make(config, book->layout, rows, env,
                       [env, layout = book->layout](const std::string& name, const AdapterSource& source,
                                                    std::span<std::byte> image) {
                         return read_image(env, name, source, layout, image);
                       });
  if (!core) return fail(std::move(core.error()));
  parts->core = std::move(*core);
  for (const auto& [name, source] : book->adapters) parts->core->know(name, source);
  parts->core->order_rows(config.row_names);
  if (Result<Unit> restored = parts->restore(); !restored) return fail(std::move(restored.error()));
  return std::unique_ptr<Engine>(new Engine(std::move(parts)));
}

Result<Lease> Engine::acquire(std::span<const std::string_view> names, const AcquireOptions& options) {
  return parts_->core->acquire(names, options);
}

Result<Lease> Engine::acquire(std::string_view name, const AcquireOptions& options) {
  return parts_->core->acquire({&name, 1}, options);
}

void Engine::acquire_async(std::span<const std::string_view> names, const AcquireOptions& options,
                           AcquireCallback done) {
  parts_->core->acquire_async(names, options, std::move(done));
}

Result<Unit> Engine::prefetch(std::span<const std::string_view> names, EngineTier tier) {
  return parts_->core->prefetch(names, level_of(tier));
}

Result<Unit> Engine::load_many(std::span<const std::string_view> names, const AcquireOptions& options) {
  return parts_->core->bring(names, level_of(EngineTier::kHost), options);
}

Result<Unit> Engine::pin(std::string_view name, EngineTier tier, const AcquireOptions& options) {
  if (Result<Unit> pinned = parts_->core->pin(name, level_of(tier), options); !pinned) return pinned;
  const Result<LoraId> id = parts_->catalog.id_of(name);
  if (!id) return fail(id.error());
  return parts_->catalog.set_pin({*id, tier == EngineTier::kDevice ? Place::kDevice : Place::kHost}, true);
}

Result<Unit> Engine::unpin(std::string_view name, EngineTier tier) {
  if (Result<Unit> done = parts_->core->unpin(name, level_of(tier)); !done) return done;
  const Result<LoraId> id = parts_->catalog.id_of(name);
  if (!id) return fail(id.error());
  Result<Unit> saved = parts_->catalog.set_pin({*id, Place::kDevice}, false);
  if (saved && tier == EngineTier::kHost) saved = parts_->catalog.set_pin({*id, Place::kHost}, false);
  return saved;
}

Result<std::uint32_t> Engine::add(std::string_view name, const std::string& uri) {
  if (Result<Unit> ok = check_adapter_name(name); !ok) return fail(std::move(ok.error()));
  std::vector<Origin*> origins = parts_->env.origins;
  origins.push_back(parts_->file_origin.get());
  const Result<LocalCopy> copy = localize(origins, uri);  // may take long: the lock comes later
  if (!copy) return fail(copy.error());
  Result<AdapterFiles> adapter = inspect_adapter(*parts_->env.files, copy->directory, parts_->rules);
  if (!adapter) return fail(std::move(adapter.error()));
  const std::lock_guard lock(parts_->changing);
  // What fits no slot must not enter the catalog.
  Result<AdapterSource> source = parts_->source_of(*adapter, LoraId{});
  if (!source) return fail(std::move(source.error()));
  const bool is_remote = !copy->content.empty();
  if (is_remote) {
    source->uri = uri;
    source->content = copy->content;
  }
  const std::int64_t now_unix_s = parts_->env.clock->unix_s();
  ScannedAdapter scanned;
  scanned.name = name;
  scanned.facts = facts_of(*adapter, now_unix_s);
  Result<CatalogChange> change =
      parts_->catalog.add(scanned, shape_of(*adapter), is_remote ? uri : copy->directory, now_unix_s);
  if (!change) return fail(std::move(change.error()));
  source->id = change->id.value;
  parts_->core->know(name, *source);
  return change->id.value;
}

Result<Unit> Engine::remove(std::string_view name) {
  const std::lock_guard lock(parts_->changing);
  if (Result<AdapterStatus> known = parts_->core->status(name); !known) return fail(std::move(known.error()));
  if (Result<Unit> gone = parts_->catalog.remove(name, parts_->env.clock->unix_s()); !gone) return gone;
  static_cast<void>(parts_->core->forget(name));
  return Unit{};
}

Result<Unit> Engine::activate(std::string_view name, const AcquireOptions& options) {
  return parts_->core->bring({&name, 1}, level_of(EngineTier::kDevice), options);
}

Result<Unit> Engine::deactivate(std::string_view name) { return parts_->core->deactivate(name); }

std::vector<AdapterStatus> Engine::list() const { return parts_->core->list(); }

Result<AdapterStatus> Engine::status(std::string_view name) const { return parts_->core->status(name); }

Result<std::string> Engine::adapter_name(std::uint32_t id) const {
  return parts_->catalog.name_of(LoraId{id});
}

Result<std::uint32_t> Engine::adapter_id(std::string_view name) const {
  const Result<LoraId> id = parts_->catalog.id_of(name);
  if (!id) return fail(id.error());
  return id->value;
}

Result<RefreshReport> Engine::refresh() {
  const std::lock_guard lock(parts_->changing);
  if (parts_->config.directory.empty())
    return fail(Errc::kInvalid, "this engine has no directory to look at: adapters come by add");
  Result<ApplyOutcome> outcome = parts_->discover();
  if (!outcome) return fail(std::move(outcome.error()));
  Result<AdapterBook> book =
      open_book(parts_->catalog, parts_->config.directory, parts_->rules, parts_->core->layout());
  if (!book) return fail(std::move(book.error()));
  RefreshReport report;
  report.unchanged = outcome->unchanged;
  report.rejected = std::move(book->rejected);
  for (const Rejection& rejection : outcome->rejected)
    report.rejected.push_back(rejection.name + ": " + rejection.reason);
  std::sort(report.rejected.begin(), report.rejected.end());
  const auto take = [&](const std::vector<CatalogChange>& changes, std::vector<std::string>& into) {
    for (const CatalogChange& change : changes) {
      const auto found = book->adapters.find(change.name);
      if (found == book->adapters.end()) {
        static_cast<void>(parts_->core->forget(change.name));  // its new form fits no slot
        continue;
      }
      parts_->core->know(change.name, found->second);
      into.push_back(change.name);
    }
  };
  take(outcome->added, report.added);
  take(outcome->returned, report.added);
  take(outcome->changed, report.changed);
  for (const CatalogChange& change : outcome->vanished) {
    static_cast<void>(parts_->core->forget(change.name));
    report.vanished.push_back(change.name);
  }
  if (Result<Unit> saved = parts_->save_uses(); !saved) return fail(std::move(saved.error()));
  return report;
}

Result<Unit> Engine::set_policy(EngineTier tier, std::string_view policy) {
  return parts_->core->set_policy(level_of(tier), policy);
}

EngineStats Engine::stats() const { return parts_->core->stats(); }

const SlotLayout& Engine::layout() const noexcept { return parts_->core->layout(); }

Result<Unit> Engine::shutdown() {
  const std::lock_guard lock(parts_->changing);
  if (std::exchange(parts_->shut_down, true)) return Unit{};
  parts_->core->shutdown();
  Result<Unit> residency = parts_->save_residency();
  Result<Unit> uses = parts_->save_uses();
  return residency ? std::move(uses) : std::move(residency);
}

}  // namespace loracle
