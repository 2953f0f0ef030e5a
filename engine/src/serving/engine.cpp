/// The engine: catalog, discovery and core put together.

#include "loracle/engine/engine.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <mutex>
#include <set>
#include <span>
#include <utility>

#include "loader/model_modules.hpp"
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
    return fail(Errc::kInvalid,
                "env: clock, files, workers and device must all be given (no workers: could no thread be "
                "made?)");
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

/// Equal but for the device their files are on: a disk that was mounted anew.
bool is_same_content(const AdapterSource& a, const AdapterSource& b) noexcept {
  const AdapterStamp of_a{a.config_stat, a.weights_stat, 0};
  const AdapterStamp of_b{b.config_stat, b.weights_stat, 0};
  return a.id == b.id && a.bytes == b.bytes && a.uri == b.uri && a.content == b.content &&
         a.directory == b.directory && of_a.same_files_remounted(of_b);
}

Result<std::vector<LoraModule>> model_of(const EngineConfig& config) {
  if (config.model.empty()) return std::vector<LoraModule>();
  const Result<ModelGeometry> geometry = load_model_geometry(config.model);
  if (!geometry) {
    const Error& error = geometry.error();  // a name that nobody knows is a mistake in the setting
    return fail(error.code == Errc::kNotFound ? Errc::kInvalid : error.code, "model: " + error.message,
                error.detail);
  }
  const Result<std::vector<LinearModule>> targets = target_modules(*geometry, config.lora_targets);
  if (!targets) return fail(targets.error());
  return modules_of(*geometry, *targets);
}

/// An adapter as it was found, and, of a remote one, which content that was.
struct Examined {
  AdapterFiles adapter;
  std::string content;
};

/// How often an adapter is looked at that changes meanwhile.
constexpr int kLooksMax = 4;

/// Reads the headers where they lie, if that can be; else brings the adapter here.
Result<Examined> examine(std::span<Origin* const> origins, const std::string& uri, Files& files,
                         const AdapterRules& rules, const AddOptions& options) {
  const Result<Origin*> origin = origin_of(origins, uri);
  if (!origin) return fail(origin.error());
  Result<RemoteView> view = (*origin)->view(uri);
  for (int looks = 1; view; ++looks) {
    Result<AdapterFiles> adapter =
        inspect_adapter(*view->files, std::string(without_trailing_slashes(uri)), rules);
    if (adapter) return Examined{std::move(*adapter), std::move(view->content)};
    if (adapter.error().code != Errc::kCorrupt || looks == kLooksMax) return fail(std::move(adapter.error()));
    const std::string content = std::move(view->content);
    view = (*origin)->view(uri);
    if (view && view->content == content) return fail(std::move(adapter.error()));
  }
  // Out of reach, there may still be a copy of it here.
  const Errc why = view.error().code;
  if (why != Errc::kUnsupported && why != Errc::kIo && why != Errc::kDeadline)
    return fail(std::move(view.error()));
  const Result<LocalCopy> copy = (*origin)->localize(uri);
  if (!copy) return fail(copy.error());
  if (copy->is_stale && !options.may_be_stale)
    return fail(Errc::kIo, fmt::format("{}: is out of reach; what it once was will not do", uri));
  Result<AdapterFiles> adapter = inspect_adapter(files, copy->directory, rules);
  if (!adapter) return fail(std::move(adapter.error()));
  return Examined{std::move(*adapter), copy->content};
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
    return rescan(catalog, *env.files, options);
  }

  /// Uses since the last call go into the catalog's history.
  Result<Unit> save_uses() {
    const auto taken = core->take_uses();
    std::vector<UseCount> counts;
    for (const auto& [name, uses] : taken) {
      const Result<LoraId> id = catalog.id_of(name);
      if (id) counts.push_back({*id, uses, env.clock->unix_s()});
    }
    if (counts.empty()) return Unit{};
    Result<Unit> saved = catalog.record_uses(counts);
    if (!saved) core->put_back_uses(taken);  // the catalog is busy, say: they are told the next time
    return saved;
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

  /// Pins these adapters, or all, as the catalog says they are, in the background: one that cannot be loaded
  /// any more must not keep the others from being served.
  Result<Unit> restore_pins(const std::set<std::uint32_t>* only = nullptr) {
    Result<std::vector<Pin>> pins = catalog.pins();
    if (!pins) return fail(std::move(pins.error()));
    for (const Pin& pin : *pins) {
      if (only != nullptr && !only->contains(pin.id.value)) continue;
      const Result<std::string> name = catalog.name_of(pin.id);
      if (name) core->pin_later(*name, pin.tier == Place::kDevice ? 0 : 1);
    }
    return Unit{};
  }

  /// Makes the core know what the catalog does. Also what an earlier call has failed to hand on. The ids of
  /// new content are answered.
  std::set<std::uint32_t> hand_on(const AdapterBook& book) const {
    std::set<std::uint32_t> fresh;
    std::map<std::string, AdapterSource, std::less<>> before;
    for (auto& [name, source] : core->known()) before.emplace(name, std::move(source));
    for (const auto& [name, source] : book.adapters) {
      const auto known = before.find(name);
      if (known == before.end() || !is_same_content(known->second, source)) {
        core->know(name, source);
        fresh.insert(source.id);
      } else if (known->second.config_stat != source.config_stat ||
                 known->second.weights_stat != source.weights_stat) {
        core->describe(name, source);
      }
    }
    for (const auto& [name, source] : before)
      if (source.uri.empty() && !book.adapters.contains(name)) static_cast<void>(core->forget(name));
    return fresh;
  }

  void take_rejections(const AdapterBook& book, const ApplyOutcome& outcome) {
    std::vector<std::string> all = book.rejected;
    for (const Rejection& rejection : outcome.rejected)
      all.push_back(rejection.name + ": " + rejection.reason);
    std::sort(all.begin(), all.end());
    const std::lock_guard lock(telling);
    rejected = std::move(all);
  }

  /// An adapter that nobody knows may be one that was refused: says why.
  [[nodiscard]] Error explained(Error error, std::span<const std::string_view> names) const {
    if (error.code != Errc::kNotFound) return error;
    const std::lock_guard lock(telling);
    for (const std::string_view name : names) {
      const std::string begin = std::string(name) + ": ";
      const auto found = std::lower_bound(rejected.begin(), rejected.end(), begin);
      if (found != rejected.end() && found->starts_with(begin) && !core->status(name))
        return {Errc::kInvalid, fmt::format("adapter '{}' is refused: {}", name, found->substr(begin.size())),
                0};
    }
    return error;
  }
  template <class T>
  [[nodiscard]] Result<T> explained(Result<T> result, std::span<const std::string_view> names) const {
    if (result) return result;
    return fail(explained(std::move(result.error()), names));
  }

  [[nodiscard]] Result<Unit> check_open() const {
    if (!closing) return Unit{};
    return fail(Errc::kCancelled, "the engine is shutting down");
  }

  /// Pins first, then what was resident, most valuable first; all in the background.
  Result<Unit> restore() {
    if (Result<Unit> pinned = restore_pins(); !pinned) return pinned;
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
    if (core->layout().slices.empty())
      return fail(Errc::kInvalid,
                  "slots have no layout: the engine was opened without adapters, so give it the model");
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
  std::atomic<bool> closing{false};
  mutable std::mutex telling;  // of `rejected`
  std::vector<std::string> rejected;
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
    cleaned.directory = without_trailing_slashes(root->directory);
  }
  auto parts = std::make_unique<Parts>(std::move(cleaned), env, std::move(*catalog));

  ApplyOutcome outcome;
  if (!config.directory.empty()) {
    Result<ApplyOutcome> found = parts->discover();
    if (!found) return fail(std::move(found.error()));
    outcome = std::move(*found);
  }
  Result<std::vector<LoraModule>> model = model_of(config);
  if (!model) return fail(std::move(model.error()));
  std::vector<AdapterFiles> others;
  for (const std::string& directory : config.layout_directories)
    if (Result<AdapterFiles> adapter = inspect_adapter(*env.files, directory, parts->rules); adapter)
      others.push_back(std::move(*adapter));  // one that is refused tells why when it is added
  Result<SlotLayout> layout = layout_of(parts->catalog, *model, others, config.max_lora_rank, config.dtype);
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
  parts->take_rejections(*book, outcome);
  parts->core->order_rows(config.row_names);
  if (Result<Unit> restored = parts->restore(); !restored) return fail(std::move(restored.error()));
  return std::unique_ptr<Engine>(new Engine(std::move(parts)));
}

Result<Lease> Engine::acquire(std::span<const std::string_view> names, const AcquireOptions& options) {
  return parts_->explained(parts_->core->acquire(names, options), names);
}

Result<Lease> Engine::acquire(std::string_view name, const AcquireOptions& options) {
  return acquire({&name, 1}, options);
}

void Engine::acquire_async(std::span<const std::string_view> names, const AcquireOptions& options,
                           AcquireCallback done) {
  std::vector<std::string> asked(names.begin(), names.end());
  parts_->core->acquire_async(
      names, options,
      [parts = parts_.get(), asked = std::move(asked), done = std::move(done)](Result<Lease> lease) {
        const std::vector<std::string_view> views(asked.begin(), asked.end());
        done(parts->explained(std::move(lease), views));
      });
}

void Engine::drop_abandoned() { parts_->core->drop_abandoned(); }

Result<LocalCopy> Engine::files_of(const LeasedAdapter& leased, Fetching fetching) const {
  const AdapterSource source = parts_->core->source_of(leased);
  if (source.uri.empty()) return LocalCopy{source.directory, {}, {}};
  const Result<Origin*> origin = origin_of(parts_->env.origins, source.uri);
  if (!origin) return fail(origin.error());
  Result<LocalCopy> copy = fetching == Fetching::kNotAllowed
                               ? (*origin)->local_copy(source.content)
                               : (*origin)->localize_content(source.uri, source.content);
  if (copy && copy->content != source.content)
    return fail(Errc::kCorrupt, fmt::format("{}: has changed since it was catalogued", source.uri));
  return copy;
}

Result<Unit> Engine::prefetch(std::span<const std::string_view> names, EngineTier tier) {
  return parts_->explained(parts_->core->prefetch(names, level_of(tier)), names);
}

Result<Unit> Engine::load_many(std::span<const std::string_view> names, const AcquireOptions& options) {
  return parts_->explained(parts_->core->bring(names, level_of(EngineTier::kHost), options), names);
}

Result<Unit> Engine::pin(std::string_view name, EngineTier tier, const AcquireOptions& options) {
  if (Result<Unit> pinned = parts_->core->pin(name, level_of(tier), options); !pinned)
    return parts_->explained(std::move(pinned), {&name, 1});
  const Result<LoraId> id = parts_->catalog.id_of(name);
  if (!id) return fail(id.error());
  return parts_->catalog.set_pin({*id, tier == EngineTier::kDevice ? Place::kDevice : Place::kHost}, true);
}

Result<Unit> Engine::unpin(std::string_view name, EngineTier tier) {
  if (Result<Unit> open = parts_->check_open(); !open) return open;
  if (Result<Unit> done = parts_->core->unpin(name, level_of(tier)); !done) return done;
  const Result<LoraId> id = parts_->catalog.id_of(name);
  if (!id) return fail(id.error());
  Result<Unit> saved = parts_->catalog.set_pin({*id, Place::kDevice}, false);
  if (saved && tier == EngineTier::kHost) saved = parts_->catalog.set_pin({*id, Place::kHost}, false);
  return saved;
}

Result<std::uint32_t> Engine::add(std::string_view name, const std::string& uri, const AddOptions& options) {
  if (Result<Unit> open = parts_->check_open(); !open) return fail(std::move(open.error()));
  if (Result<Unit> ok = check_adapter_name(name); !ok) return fail(std::move(ok.error()));
  std::vector<Origin*> origins = parts_->env.origins;
  origins.push_back(parts_->file_origin.get());
  Result<Examined> examined =
      examine(origins, uri, *parts_->env.files, parts_->rules, options);  // may take long
  if (!examined) return fail(std::move(examined.error()));
  const AdapterFiles* const adapter = &examined->adapter;
  const std::lock_guard lock(parts_->changing);
  if (Result<Unit> open = parts_->check_open(); !open) return fail(std::move(open.error()));
  // What fits no slot must not enter the catalog.
  Result<AdapterSource> source = parts_->source_of(*adapter, LoraId{});
  if (!source) return fail(std::move(source.error()));
  source->is_scanned = false;
  const bool is_remote = !examined->content.empty();
  if (is_remote) {
    source->uri = uri;
    source->content = examined->content;
  }
  const std::int64_t now_unix_s = parts_->env.clock->unix_s();
  ScannedAdapter scanned;
  scanned.name = name;
  scanned.facts = facts_of(*adapter, now_unix_s);
  Result<CatalogChange> change =
      parts_->catalog.add(scanned, shape_of(*adapter), is_remote ? uri : adapter->directory, now_unix_s);
  if (!change) return fail(std::move(change.error()));
  source->id = change->id.value;
  parts_->core->know(name, *source);
  const std::set<std::uint32_t> fresh = {change->id.value};
  if (Result<Unit> pinned = parts_->restore_pins(&fresh); !pinned) return fail(std::move(pinned.error()));
  return change->id.value;
}

Result<Unit> Engine::remove(std::string_view name) {
  if (Result<Unit> open = parts_->check_open(); !open) return open;
  const std::lock_guard lock(parts_->changing);
  if (Result<Unit> open = parts_->check_open(); !open) return open;
  if (Result<AdapterStatus> known = parts_->core->status(name); !known) return fail(std::move(known.error()));
  if (Result<Unit> gone = parts_->catalog.remove(name, parts_->env.clock->unix_s()); !gone) return gone;
  static_cast<void>(parts_->core->forget(name));
  return Unit{};
}

Result<Unit> Engine::activate(std::string_view name, const AcquireOptions& options) {
  return parts_->explained(parts_->core->bring({&name, 1}, level_of(EngineTier::kDevice), options),
                           {&name, 1});
}

Result<Unit> Engine::deactivate(std::string_view name) {
  if (Result<Unit> open = parts_->check_open(); !open) return open;
  return parts_->core->deactivate(name);
}

std::vector<AdapterStatus> Engine::list() const { return parts_->core->list(); }

std::uint64_t Engine::changes() const { return parts_->core->changes(); }

Result<AdapterStatus> Engine::status(std::string_view name) const { return parts_->core->status(name); }

Result<std::string> Engine::adapter_name(std::uint32_t id) const {
  return parts_->catalog.name_of(LoraId{id});
}

Result<std::uint32_t> Engine::adapter_id(std::string_view name) const {
  const Result<LoraId> id = parts_->catalog.id_of(name);
  if (!id) return fail(id.error());
  return id->value;
}

Result<std::string> Engine::location_of(std::string_view name) const {
  Result<CatalogRecord> record = parts_->catalog.find(name);
  if (!record) return fail(std::move(record.error()));
  if (record->state != AdapterState::kAvailable)
    return fail(Errc::kNotFound, fmt::format("adapter '{}' is {}", name, name_of(record->state)));
  return scheme_of(record->source).empty() ? std::move(record->facts.directory) : std::move(record->source);
}

Result<RefreshReport> Engine::refresh() {
  if (Result<Unit> open = parts_->check_open(); !open) return fail(std::move(open.error()));
  const std::lock_guard lock(parts_->changing);
  if (Result<Unit> open = parts_->check_open(); !open) return fail(std::move(open.error()));
  if (parts_->config.directory.empty())
    return fail(Errc::kInvalid, "this engine has no directory to look at: adapters come by add");
  Result<ApplyOutcome> outcome = parts_->discover();
  if (!outcome) return fail(std::move(outcome.error()));
  Result<AdapterBook> book =
      open_book(parts_->catalog, parts_->config.directory, parts_->rules, parts_->core->layout());
  if (!book) return fail(std::move(book.error()));
  const std::set<std::uint32_t> fresh = parts_->hand_on(*book);
  static_cast<void>(parts_->save_uses());  // what cannot be saved now is saved the next time
  if (Result<Unit> pinned = parts_->restore_pins(&fresh); !pinned) return fail(std::move(pinned.error()));
  parts_->take_rejections(*book, *outcome);
  RefreshReport report;
  report.unchanged = outcome->unchanged;
  report.rejected = rejected();
  const auto take = [&](const std::vector<CatalogChange>& changes, std::vector<std::string>& into) {
    for (const CatalogChange& change : changes)
      if (book->adapters.contains(change.name)) into.push_back(change.name);  // else it fits no slot
  };
  take(outcome->added, report.added);
  take(outcome->returned, report.added);
  take(outcome->changed, report.changed);
  for (const CatalogChange& change : outcome->vanished) report.vanished.push_back(change.name);
  return report;
}

std::vector<std::string> Engine::rejected() const {
  const std::lock_guard lock(parts_->telling);
  return parts_->rejected;
}

Result<Unit> Engine::set_policy(EngineTier tier, std::string_view policy) {
  if (Result<Unit> open = parts_->check_open(); !open) return open;
  return parts_->core->set_policy(level_of(tier), policy);
}

EngineStats Engine::stats() const { return parts_->core->stats(); }

const SlotLayout& Engine::layout() const noexcept { return parts_->core->layout(); }

Result<Unit> Engine::shutdown() {
  parts_->closing = true;
  for (Origin* const origin : parts_->env.origins) origin->stop();  // downloads may take hours
  parts_->core->shutdown();  // without the lock: callbacks and holders of leases may wait for it
  const std::lock_guard lock(parts_->changing);
  if (std::exchange(parts_->shut_down, true)) return Unit{};
  Result<Unit> residency = parts_->save_residency();
  Result<Unit> uses = parts_->save_uses();
  return residency ? std::move(uses) : std::move(residency);
}

}  // namespace loracle
