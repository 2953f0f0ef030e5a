#include "loracle/service/service_stack.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <mutex>
#include <string_view>
#include <system_error>
#include <utility>

#include "loracle/core/parse_bytes.hpp"
#include "loracle/engine/engine.hpp"
#include "loracle/engine/origin.hpp"
#include "loracle/service/discovery_loop.hpp"
#include "loracle/service/resolver.hpp"
#include "loracle/service/service.hpp"
#include "loracle/storage/make_cache.hpp"
#include "loracle/storage/provider.hpp"
#include "loracle/storage/remote_origin.hpp"
#include "rooted_files.hpp"

namespace loracle {
namespace {

namespace fs = std::filesystem;

bool is_local(std::string_view location) noexcept {
  const std::string_view scheme = scheme_of(location);
  return scheme.empty() || scheme == "file";
}

/// The directory a path or file:// URI names; from the root on, because leases name directories to clients,
/// whose own working directory is another.
Result<std::string> directory_of(const std::string& location) {
  const std::unique_ptr<Origin> files = make_file_origin();
  Origin* const origins[] = {files.get()};
  Result<LocalCopy> place = localize(origins, location);
  if (!place) return fail(std::move(place.error()));
  std::error_code error;
  const fs::path absolute = fs::absolute(place->directory, error);
  if (error) return fail(Errc::kIo, fmt::format("{}: {}", location, error.message()), error.value());
  return absolute.lexically_normal().string();
}

std::string environment(const char* name) {
  const char* const value = std::getenv(name);  // NOLINT(concurrency-mt-unsafe): nobody sets it
  return value == nullptr ? std::string() : std::string(value);
}

std::string cache_dir_of(const CacheConfig& config) {
  if (!config.dir.empty()) return config.dir;
  if (const std::string base = environment("XDG_CACHE_HOME"); !base.empty()) return base + "/loracle";
  const std::string home = environment("HOME");
  return home.empty() ? "/var/cache/loracle" : home + "/.cache/loracle";
}

Result<std::unique_ptr<CacheBackend>> cache_of(const CacheConfig& config) {
  if (config.type == CacheType::kNone) return std::unique_ptr<CacheBackend>();
  CacheChoice choice;
  choice.type = config.type == CacheType::kMemory ? "memory" : "disk";
  choice.disk.cache_dir = cache_dir_of(config);
  choice.disk.max_size_bytes = config.max_size;
  choice.disk.max_items = config.max_items;
  choice.disk.create_dirs = config.create_dirs;
  choice.disk.preserve_permissions = config.preserve_permissions;
  choice.disk.policy = config.policy;
  choice.memory.max_size_bytes = config.max_size;
  choice.memory.max_items = config.max_items;
  choice.memory.preserve_permissions = config.preserve_permissions;
  choice.memory.policy = config.policy;
  return make_cache(choice);
}

}  // namespace

// In the order of who needs whom: destroyed from the end.
struct ServiceStack::Parts {
  explicit Parts(ServiceConfig asked) : config(std::move(asked)) {}
  Parts(const Parts&) = delete;
  Parts& operator=(const Parts&) = delete;
  /// The loop's thread tells service and resolvers of its rounds: it ends before they go.
  ~Parts() {
    if (loop != nullptr) loop->stop();
  }

  Result<Unit> make_storage() {
    const auto wants = [this](std::string_view kind) {
      const auto& kinds = config.storage_providers;
      return std::find(kinds.begin(), kinds.end(), kind) != kinds.end();
    };
    const auto take = [this](Result<std::unique_ptr<StorageProvider>> made) -> Result<Unit> {
      if (!made) return fail(std::move(made.error()));
      providers.push_back(std::move(*made));
      return Unit{};
    };
    if (wants("s3"))
      if (Result<Unit> made = take(make_s3_storage(config.s3_storage)); !made) return made;
    if (wants("http") && !config.http_storage.allowed_hosts.empty()) {
      if (Result<Unit> made = take(make_http_storage("https", config.http_storage)); !made) return made;
      if (config.http_storage.allow_http)
        if (Result<Unit> made = take(make_http_storage("http", config.http_storage)); !made) return made;
    }
    Result<std::unique_ptr<CacheBackend>> made = cache_of(config.cache);
    if (!made) return fail(std::move(made.error()));
    cache = std::move(*made);
    if (cache == nullptr) return Unit{};
    for (const std::unique_ptr<StorageProvider>& provider : providers)
      origins.push_back(make_remote_origin(*provider, *cache));
    return Unit{};
  }

  /// Where files may be read, and the door to them.
  Result<Unit> make_files() {
    // Makes and checks them, as the settings say.
    if (const Result<FileRoots> allowed = FileRoots::make(config.file_storage); !allowed)
      return fail(allowed.error().code,
                  fmt::format("file_storage.allowed_paths: {}", allowed.error().message),
                  allowed.error().detail);
    std::vector<std::string> roots = config.file_storage.allowed_paths;
    std::vector<std::pair<std::string, std::string>> named;  // the setting, and what it names
    for (const std::string& prefix : config.discovery.prefixes)
      named.emplace_back("--lora-dir-prefix (discovery.prefixes)", prefix);
    for (const LoraModuleSetting& module : config.lora_modules)
      named.emplace_back(fmt::format("--lora-modules {}", module.name), module.path);
    if (!config.resolver.cache_dir.empty())
      named.emplace_back("resolver.cache_dir", config.resolver.cache_dir);
    for (const auto& [setting, location] : named) {
      if (!is_local(location)) continue;
      Result<std::string> directory = directory_of(location);
      if (!directory) return fail(std::move(directory.error()));
      std::error_code error;
      if (const fs::file_status found = fs::status(*directory, error);
          found.type() == fs::file_type::not_found)
        return fail(Errc::kNotFound,
                    fmt::format("{}: {}: there is no such directory: make it, or name another one", setting,
                                *directory),
                    ENOENT);
      roots.push_back(std::move(*directory));
    }
    // With a model, an empty server makes sense: clients may load from where its providers reach.
    const bool names_remote =
        std::any_of(named.begin(), named.end(), [](const auto& one) { return !is_local(one.second); }) ||
        !config.resolver.s3_prefix.empty() || !config.resolver.http_prefix.empty() ||
        !config.engine.model.empty();
    if (roots.empty() && (origins.empty() || !names_remote))
      return fail(
          Errc::kInvalid,
          "serve may read adapters from nowhere: give --lora-dir-prefix, --lora-modules, or "
          "file_storage.allowed_paths; with --model it may begin empty, for clients to load from s3://");
    if (cache != nullptr) roots.push_back(cache->directory());
    const bool in_memory = cache != nullptr && cache->type() == "memory";
    Result<std::unique_ptr<Files>> made = make_rooted_files(roots, in_memory ? kMemoryCacheFileName : "");
    if (!made) return fail(std::move(made.error()));
    files = std::move(*made);
    return Unit{};
  }

  Result<Unit> make_engine() {
    Result<std::unique_ptr<DeviceMemory>> memory = make_device(config.device);
    if (!memory) return fail(std::move(memory.error()));
    device = std::move(*memory);
    workers = make_thread_workers(config.engine.loads_in_flight_max + 1);
    if (workers == nullptr) return fail(Errc::kIo, "no thread could be started: raise ulimit -u");
    // The first local prefix is the engine's own, so that ids, pins and residency outlive a restart; with
    // patterns, the loop decides alone.
    EngineConfig& engine_config = config.engine;
    const DiscoveryConfig& discovery_config = config.discovery;
    engine_config.directory.clear();
    const bool has_patterns = !discovery_config.include.empty() || !discovery_config.exclude.empty();
    const auto local = std::find_if(discovery_config.prefixes.begin(), discovery_config.prefixes.end(),
                                    [](const std::string& prefix) { return is_local(prefix); });
    if (local != discovery_config.prefixes.end() && !has_patterns) {
      Result<std::string> directory = directory_of(*local);
      if (!directory) return fail(std::move(directory.error()));
      engine_config.directory = std::move(*directory);
    }
    options.discovery = discovery_config;
    for (std::string& prefix : options.discovery.prefixes) {
      if (!is_local(prefix)) continue;
      Result<std::string> directory = directory_of(prefix);
      if (!directory) return fail(std::move(directory.error()));
      prefix = std::move(*directory);
    }
    options.modules = config.lora_modules;
    options.engine_directory = engine_config.directory;
    engine_config.layout_directories = local_adapter_directories(options, *files);
    Env env{&posix_clock(), files.get(), workers.get(), device.get()};
    for (const std::unique_ptr<RemoteOrigin>& origin : origins) env.origins.push_back(origin.get());
    Result<std::unique_ptr<Engine>> opened = Engine::open(engine_config, env);
    if (!opened) return fail(std::move(opened.error()));
    engine = std::move(*opened);
    if (!engine->layout().slices.empty()) return Unit{};
    // Started like this it would say that it is ready, and refuse whatever it is asked for.
    return fail(
        Errc::kInvalid,
        "nothing tells what slots look like: no adapter lies in a local --lora-dir-prefix yet, and remote "
        "ones are not read for it: give --model (a name such as llama-3.1-8b, or a config.json)");
  }

  /// Adapters known so far that the memory given can never hold.
  void warn_of_too_large() const {
    const Bytes room = std::min(config.engine.gpu_memory, config.engine.cpu_memory);
    const std::vector<AdapterStatus> known = engine->list();
    const auto too_large = std::count_if(known.begin(), known.end(),
                                         [room](const AdapterStatus& one) { return one.bytes > room.value; });
    if (too_large == 0) return;
    service->warn(fmt::format(
        "{} of {} adapters are larger than {} and will be refused: {} sets it", too_large, known.size(),
        human_bytes(room),
        config.engine.gpu_memory < config.engine.cpu_memory ? "--gpu-memory-for-loras" : "--max-cpu-memory"));
  }

  Result<Unit> make_finders() {
    std::vector<StorageProvider*> storage;
    for (const std::unique_ptr<StorageProvider>& provider : providers) storage.push_back(provider.get());
    target = make_discovery_target(*engine);
    if (!config.discovery.prefixes.empty() || !config.lora_modules.empty()) {
      options.on_round = [this](const DiscoveryRound& round) {
        if (resolver != nullptr && !round.added.empty()) resolver->forget_negatives();
        if (Service* const told = listener; told != nullptr) told->note_round(round);
      };
      loop = std::make_unique<DiscoveryLoop>(
          options, DiscoveryWorld{target.get(), files.get(), &posix_clock(), storage});
    }
    ResolverWorld world;
    world.clock = &posix_clock();
    world.files = files.get();
    world.storage = storage;
    world.base_models = config.engine.base_models;
    // A catalog that is forgotten with the process knows no more than the engine. One that is kept does: of
    // adapters that a client has unloaded, it says that they are gone.
    if (!config.engine.database.empty())
      world.catalog = [this](const std::string& name) { return engine->location_of(name); };
    const ResolverRegistry registry;
    Result<std::vector<std::shared_ptr<AdapterResolver>>> chain = registry.make_chain(config.resolver, world);
    if (!chain) return fail(std::move(chain.error()));
    if (!chain->empty())
      resolver = std::make_unique<ResolverChain>(std::move(*chain), config.resolver, world);
    return Unit{};
  }

  [[nodiscard]] SourceCounts count_sources() const {
    SourceCounts counts;
    if (resolver != nullptr) counts.resolvers = resolver->stats();
    if (cache != nullptr) counts.cache = cache->stats();
    for (std::size_t i = 0; i < origins.size(); ++i)
      counts.origins.emplace_back(providers[i]->scheme(), origins[i]->stats());
    return counts;
  }

  /// Looking for adapters begins last: it may take long, and /readyz tells of it.
  Result<Unit> make_service() {
    ServiceParts given{engine.get(), &posix_clock(), loop.get(), resolver.get()};
    given.awaits_discovery = loop != nullptr;
    given.count_sources = [this] { return count_sources(); };
    Result<std::unique_ptr<Service>> started = Service::start(config, given);
    if (!started) return fail(std::move(started.error()));
    service = std::move(*started);
    listener = service.get();
    warn_of_too_large();
    if (loop != nullptr) loop->start();
    return Unit{};
  }

  /// A call that was given up may still use what the resolvers were lent.
  [[nodiscard]] bool has_hung_calls() const {
    if (resolver == nullptr) return false;
    const std::vector<ResolverStats> all = resolver->stats().resolvers;
    return std::any_of(all.begin(), all.end(), [](const ResolverStats& one) { return one.hung > 0; });
  }

  ServiceConfig config;
  std::vector<std::unique_ptr<StorageProvider>> providers;
  std::unique_ptr<CacheBackend> cache;  // null: none
  std::vector<std::unique_ptr<RemoteOrigin>> origins;
  std::unique_ptr<Files> files;
  std::unique_ptr<DeviceMemory> device;
  std::unique_ptr<Workers> workers;
  DiscoveryOptions options;
  std::unique_ptr<Engine> engine;
  std::unique_ptr<DiscoveryTarget> target;
  std::unique_ptr<DiscoveryLoop> loop;      // null: nothing to discover
  std::unique_ptr<ResolverChain> resolver;  // null: nobody to ask
  std::unique_ptr<Service> service;
  std::atomic<Service*> listener = nullptr;  // `service`, once it is there
};

ServiceStack::ServiceStack(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}

ServiceStack::~ServiceStack() {
  hurry();
  static_cast<void>(drain());
  if (!parts_->has_hung_calls()) return;
  // Nobody can end such a call, and what it uses must outlive it: kept until the process ends.
  // NOLINTNEXTLINE(bugprone-unhandled-exception-at-new): without memory for this the process may end
  static std::vector<std::unique_ptr<Parts>>& kept = *new std::vector<std::unique_ptr<Parts>>();
  static std::mutex keeping;
  const std::lock_guard lock(keeping);
  kept.push_back(std::move(parts_));
}

Result<std::unique_ptr<ServiceStack>> ServiceStack::start(const ServiceConfig& config) {
  auto parts = std::make_unique<Parts>(config);
  for (const auto step : {&Parts::make_storage, &Parts::make_files, &Parts::make_engine, &Parts::make_finders,
                          &Parts::make_service})
    if (Result<Unit> done = (parts.get()->*step)(); !done) return fail(std::move(done.error()));
  return std::unique_ptr<ServiceStack>(new ServiceStack(std::move(parts)));
}

std::uint16_t ServiceStack::port() const noexcept { return parts_->service->port(); }

std::string ServiceStack::summary() const {
  const EngineStats stats = parts_->engine->stats();
  return fmt::format(
      "{} adapters are known{}; max_loras {} (slots of rank {} in {} memory), max_cpu_loras {}",
      stats.adapters_known, parts_->loop == nullptr ? "" : " so far", stats.device.entries_max,
      parts_->engine->layout().max_rank, parts_->device->kind(), stats.host.entries_max);
}

void ServiceStack::note(std::string_view text) { parts_->service->note(text); }

void ServiceStack::warn(std::string_view text) { parts_->service->warn(text); }

Result<Unit> ServiceStack::apply(const ServiceConfig& config) { return parts_->service->apply(config); }

bool ServiceStack::has_hung_calls() const { return parts_->has_hung_calls(); }

void ServiceStack::hurry() noexcept { parts_->service->hurry(); }

Result<Unit> ServiceStack::drain() {
  if (parts_->loop != nullptr) parts_->loop->cancel();
  Result<Unit> drained = parts_->service->drain();
  if (parts_->loop != nullptr) parts_->loop->stop();
  return drained;
}

}  // namespace loracle
