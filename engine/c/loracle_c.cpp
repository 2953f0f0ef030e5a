/// The C interface: checks what a C caller may get wrong, calls the engine, turns answers into statuses.
/// Every entry is noexcept and goes through `guarded`, where exceptions end.

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstring>
#include <exception>
#include <memory>
#include <new>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "loracle.h"
#include "loracle/core/result.hpp"
#include "loracle/engine/discovery.hpp"
#include "loracle/engine/engine.hpp"

using loracle::AcquireOptions;
using loracle::AdapterStatus;
using loracle::Bytes;
using loracle::DeviceMemory;
using loracle::Engine;
using loracle::EngineConfig;
using loracle::EngineStats;
using loracle::EngineTier;
using loracle::Errc;
using loracle::Error;
using loracle::fail;
using loracle::Files;
using loracle::LatencyHistogram;
using loracle::Lease;
using loracle::RefreshReport;
using loracle::Result;
using loracle::SlotLayout;
using loracle::SlotSlice;
using loracle::TierStats;
using loracle::Unit;

struct loracle_engine {
  // The engine goes first: its tasks run on the workers, its slots are the device's.
  std::unique_ptr<loracle::DeviceMemory> device;
  std::unique_ptr<loracle::Workers> workers;
  std::unique_ptr<Files> files;  // null: all this process may read
  std::unique_ptr<Engine> engine;
  std::uint32_t slots = 0;
};

struct loracle_lease {
  Lease lease;
};

struct loracle_list {
  std::vector<AdapterStatus> adapters;
};

struct loracle_refresh {
  RefreshReport report;
};

namespace {

constexpr std::size_t kNamesMax = std::size_t{1} << 20U;  // of one call; no engine knows more
constexpr std::uint32_t kThreadsMax = 1024;

// What C callers were compiled with: these never change.
static_assert(static_cast<int>(Errc::kInvalid) == LORACLE_INVALID);
static_assert(static_cast<int>(Errc::kCancelled) == LORACLE_CANCELLED, "a new Errc needs its loracle_status");
static_assert(static_cast<int>(EngineTier::kDevice) == LORACLE_DEVICE);
static_assert(static_cast<int>(EngineTier::kHost) == LORACLE_HOST);
static_assert(static_cast<int>(loracle::Dtype::kF32) == LORACLE_F32);
static_assert(static_cast<int>(loracle::Dtype::kF8E5M2) == LORACLE_F8E5M2);
static_assert(LORACLE_NO_SLOT == loracle::kNoSlot);
static_assert(LORACLE_NO_TIMEOUT == loracle::kNoDeadline);
static_assert(LORACLE_UNLIMITED == loracle::kUnlimited);
static_assert(LORACLE_NAME_BYTES_MAX == loracle::kAdapterNameBytesMax + 1);
// Sizes of the first versions: a caller may have them for ever.
constexpr std::size_t kConfigSizeFirst =
    offsetof(loracle_config, lora_targets) + sizeof(loracle_config::lora_targets);
static_assert(sizeof(void*) != 8 || kConfigSizeFirst == 144);
static_assert(sizeof(loracle_adapter) == 296);
static_assert(sizeof(loracle_latency) == 528 && sizeof(loracle_tier_stats) == 104);
static_assert(sizeof(loracle_layout) == 32);

/// For a person, in memory that C code may keep; NULL if there is none.
char* copy_message(std::string_view text) noexcept {
  char* const copy = new (std::nothrow) char[text.size() + 1];
  if (copy == nullptr) return nullptr;
  std::memcpy(copy, text.data(), text.size());
  copy[text.size()] = '\0';
  return copy;
}

loracle_status tell(loracle_error* error, loracle_status code, std::string_view message,
                    std::int64_t detail = 0) noexcept {
  if (error != nullptr) {
    loracle_error_clear(error);
    *error = {code, detail, copy_message(message)};
  }
  return code;
}

loracle_status tell(loracle_error* error, const Error& failure) noexcept {
  return tell(error, static_cast<loracle_status>(failure.code), failure.message, failure.detail);
}

/// Runs what may fail or throw: `body` answers a Result.
template <class Body>
loracle_status guarded(loracle_error* error, Body&& body) noexcept {
  try {
    const Result<Unit> done = body();
    if (!done) return tell(error, done.error());
    loracle_error_clear(error);
    return LORACLE_OK;
  } catch (const std::bad_alloc&) {
    return tell(error, LORACLE_NO_MEMORY, "out of memory");
  } catch (const std::length_error&) {
    return tell(error, LORACLE_NO_MEMORY, "more was asked for than any memory holds");
  } catch (const std::exception& unforeseen) {
    return tell(error, LORACLE_INTERNAL, unforeseen.what());
  } catch (...) {
    return tell(error, LORACLE_INTERNAL, "an exception of unknown type");
  }
}

Error null(std::string_view what) { return {Errc::kInvalid, std::string(what) + " is NULL", 0}; }

std::string or_empty(const char* text) { return text == nullptr ? std::string() : std::string(text); }

Result<EngineTier> tier_of(loracle_tier tier) {
  if (tier != LORACLE_DEVICE && tier != LORACLE_HOST)
    return fail(Errc::kInvalid,
                "tier " + std::to_string(tier) + " is neither LORACLE_DEVICE nor LORACLE_HOST");
  return static_cast<EngineTier>(tier);
}

/// A C array of names as the engine takes it; few need no memory.
class Names {
 public:
  [[nodiscard]] Result<Unit> take(const char* const* names, std::size_t count) {
    if (count == 0) return Unit{};  // the engine says what it thinks of that
    if (names == nullptr) return fail(null("names"));
    if (count > kNamesMax) {
      return fail(Errc::kInvalid, std::to_string(count) + " names in one call: at most " +
                                      std::to_string(kNamesMax) + " are possible");
    }
    std::string_view* to = few_.data();
    if (count > few_.size()) {
      many_.resize(count);
      to = many_.data();
    }
    for (std::size_t i = 0; i < count; ++i) {
      if (names[i] == nullptr) return fail(null("names[" + std::to_string(i) + "]"));
      to[i] = names[i];
    }
    views_ = {to, count};
    return Unit{};
  }
  [[nodiscard]] std::span<const std::string_view> views() const noexcept { return views_; }

 private:
  std::array<std::string_view, 8> few_;
  std::vector<std::string_view> many_;
  std::span<const std::string_view> views_;
};

/// Gives the caller as much of a struct as it has room for; what only it knows becomes 0.
template <class T>
[[nodiscard]] Result<Unit> give(const T& known, T* to, std::size_t size) {
  static_assert(std::is_trivially_copyable_v<T>);
  if (to == nullptr) return fail(null("the struct to fill"));
  std::memset(to, 0, size);
  std::memcpy(to, &known, std::min(size, sizeof(T)));
  return Unit{};
}

/// The caller's config as this library knows it.
Result<loracle_config> known_part(const loracle_config* config) {
  if (config == nullptr) return fail(null("config"));
  if (config->size < kConfigSizeFirst)
    return fail(Errc::kInvalid,
                "config.size is " + std::to_string(config->size) + ": call loracle_config_init first");
  loracle_config known{};
  std::memcpy(&known, config, std::min(config->size, sizeof known));
  const char* const bytes = reinterpret_cast<const char*>(config);
  for (std::size_t i = sizeof known; i < config->size; ++i)
    if (bytes[i] != 0)
      return fail(Errc::kInvalid, "config sets what this version of the library does not know: leave it 0");
  return known;
}

Result<std::unique_ptr<DeviceMemory>> device_of(const loracle_config& config) {
  switch (config.memory) {
    case LORACLE_MEMORY_BEST:
      return loracle::make_best_device();
    case LORACLE_MEMORY_HOST:
      return loracle::make_host_memory_device();
    case LORACLE_MEMORY_CUDA:
      return loracle::make_cuda_device(config.cuda_ordinal);
    default:
      return fail(Errc::kInvalid, "config.memory " + std::to_string(config.memory) +
                                      " is none of LORACLE_MEMORY_BEST, _HOST, _CUDA");
  }
}

/// Null: this process's own.
Result<std::unique_ptr<Files>> files_of(const loracle_config& config) {
  if (config.allowed_paths_count == 0) return std::unique_ptr<Files>();
  if (config.allowed_paths == nullptr) return fail(null("config.allowed_paths"));
  std::vector<std::string> roots;
  for (std::size_t i = 0; i < config.allowed_paths_count; ++i) {
    if (config.allowed_paths[i] == nullptr)
      return fail(null("config.allowed_paths[" + std::to_string(i) + "]"));
    roots.emplace_back(config.allowed_paths[i]);
  }
  return loracle::make_rooted_files(roots);
}

Result<EngineConfig> engine_config(const loracle_config& from) {
  EngineConfig config;
  config.directory = or_empty(from.directory);
  config.database = or_empty(from.database);
  if (from.policy != nullptr) config.policy = from.policy;
  config.model = or_empty(from.model);
  if (from.lora_targets != nullptr) config.lora_targets = from.lora_targets;
  if (from.base_models == nullptr && from.base_models_count != 0) return fail(null("config.base_models"));
  config.base_models.reserve(from.base_models_count);
  for (std::size_t i = 0; i < from.base_models_count; ++i) {
    if (from.base_models[i] == nullptr) return fail(null("config.base_models[" + std::to_string(i) + "]"));
    config.base_models.emplace_back(from.base_models[i]);
  }
  config.gpu_memory = Bytes{from.gpu_memory};
  config.cpu_memory = Bytes{from.cpu_memory};
  config.max_loras = from.max_loras;
  config.max_cpu_loras = from.max_cpu_loras;
  config.max_lora_rank = from.max_lora_rank;
  config.adapters_max = from.adapters_max;
  config.loads_in_flight_max = from.loads_in_flight_max;
  config.requests_waiting_max = from.requests_waiting_max;
  config.passes_max = from.passes_max;
  if (from.threads > kThreadsMax)
    return fail(Errc::kInvalid, "config.threads " + std::to_string(from.threads) + ": at most " +
                                    std::to_string(kThreadsMax));
  if (from.dtype < LORACLE_F32 || from.dtype > LORACLE_F8E5M2)
    return fail(Errc::kInvalid, "config.dtype " + std::to_string(from.dtype) + " is none of LORACLE_F32 ...");
  config.dtype = static_cast<loracle::Dtype>(from.dtype);
  config.restore_residency = from.restore_residency != 0;
  return config;
}

template <std::size_t N>
void copy_text(char (&to)[N], std::string_view text) noexcept {
  const std::size_t length = std::min(text.size(), N - 1);
  std::memcpy(to, text.data(), length);
  to[length] = '\0';
}

loracle_adapter as_c(const AdapterStatus& from) noexcept {
  loracle_adapter to{};
  copy_text(to.name, from.name);
  to.bytes = from.bytes;
  to.uses = from.uses;
  to.id = from.id;
  to.rank = from.rank;
  to.slot = from.slot;
  to.leases = from.leases;
  to.on_device = from.on_device ? 1 : 0;
  to.on_host = from.on_host ? 1 : 0;
  to.loading = from.loading ? 1 : 0;
  to.pinned = from.pinned ? 1 : 0;
  return to;
}

loracle_latency as_c(const LatencyHistogram& from) noexcept {
  loracle_latency to{};
  to.count = from.count;
  to.sum_ns = from.sum_ns;
  std::copy(std::begin(from.buckets), std::end(from.buckets), to.buckets);
  return to;
}

loracle_tier_stats as_c(const TierStats& from) noexcept {
  loracle_tier_stats to{};
  to.entries = from.entries;
  to.entries_max = from.entries_max;
  to.bytes = from.bytes;
  to.bytes_max = from.bytes_max;
  to.pinned = from.pinned;
  copy_text(to.policy, from.policy);
  return to;
}

loracle_stats as_c(const EngineStats& from) noexcept {
  loracle_stats to{};
  to.uses = from.counts.uses;
  to.gpu_hits = from.counts.gpu_hits;
  to.host_to_device_loads = from.counts.host_to_device_loads;
  to.disk_loads = from.counts.disk_loads;
  to.gpu_evictions = from.counts.gpu_evictions;
  to.gpu_invalidations = from.counts.gpu_invalidations;
  to.host_evictions = from.counts.host_evictions;
  to.refused_requests = from.counts.refused_requests;
  to.refused_uses = from.counts.refused_uses;
  to.decisions = from.decisions;
  to.decision_log_hash = from.decision_log_hash;
  to.adapters_known = from.adapters_known;
  to.requests = from.requests;
  to.requests_waiting = from.requests_waiting;
  to.requests_failed = from.requests_failed;
  to.leases = from.leases;
  to.loads = from.loads;
  to.loads_failed = from.loads_failed;
  to.loads_in_flight = from.loads_in_flight;
  to.loads_shared = from.loads_shared;
  to.loaded_bytes = from.loaded_bytes;
  to.prefetches = from.prefetches;
  to.prefetches_dropped = from.prefetches_dropped;
  to.copies = from.copies;
  to.copies_failed = from.copies_failed;
  to.copied_bytes = from.copied_bytes;
  to.arena_bytes = from.arena_bytes;
  to.arena_moved_bytes = from.arena_moved_bytes;
  to.device = as_c(from.device);
  to.host = as_c(from.host);
  to.load_latency = as_c(from.load_latency);
  to.copy_latency = as_c(from.copy_latency);
  to.acquire_latency = as_c(from.acquire_latency);
  return to;
}

/// The calls on an open engine: checks the handle, then runs `body(Engine&)`.
template <class Body>
loracle_status with_engine(loracle_engine* engine, loracle_error* error, Body&& body) noexcept {
  return guarded(error, [&]() -> Result<Unit> {
    if (engine == nullptr) return fail(null("engine"));
    return body(*engine->engine);
  });
}

/// Likewise with one adapter's name.
template <class Body>
loracle_status with_name(loracle_engine* engine, const char* name, loracle_error* error,
                         Body&& body) noexcept {
  return with_engine(engine, error, [&](Engine& open) -> Result<Unit> {
    if (name == nullptr) return fail(null("name"));
    return body(open, std::string_view(name));
  });
}

/// Likewise with many.
template <class Body>
loracle_status with_names(loracle_engine* engine, const char* const* names, std::size_t count,
                          loracle_error* error, Body&& body) noexcept {
  return with_engine(engine, error, [&](Engine& open) -> Result<Unit> {
    Names taken;
    if (Result<Unit> ok = taken.take(names, count); !ok) return ok;
    return body(open, taken.views());
  });
}

/// Who is told of an asynchronous request. Memory for the lease is there before the request is made, so that
/// telling cannot fail.
class Receiver {
 public:
  Receiver(loracle_acquired done, void* user)
      : done_(done), user_(user), lease_(std::make_unique<loracle_lease>()) {}

  /// False if somebody was told already, or never will be.
  [[nodiscard]] bool claim() noexcept { return !told_.exchange(true); }

  void tell_result(Result<Lease> result) noexcept {
    if (!claim()) return;  // a lease goes with `result`
    loracle_error error = LORACLE_ERROR_INIT;
    if (result) {
      lease_->lease = std::move(*result);
      done_(user_, lease_.release(), &error);
    } else {
      static_cast<void>(tell(&error, result.error()));
      done_(user_, nullptr, &error);
    }
    loracle_error_clear(&error);
  }

 private:
  loracle_acquired done_;
  void* user_;
  std::unique_ptr<loracle_lease> lease_;
  std::atomic<bool> told_ = false;
};

const std::vector<std::string>* names_of(const RefreshReport& report, loracle_change change) noexcept {
  switch (change) {
    case LORACLE_ADDED:
      return &report.added;
    case LORACLE_CHANGED:
      return &report.changed;
    case LORACLE_VANISHED:
      return &report.vanished;
    case LORACLE_REJECTED:
      return &report.rejected;
    default:
      return nullptr;
  }
}

}  // namespace

extern "C" {

const char* loracle_version(void) { return LORACLE_VERSION; }

const char* loracle_status_name(loracle_status status) {
  switch (status) {
    case LORACLE_OK:
      return "ok";
    case LORACLE_NO_MEMORY:
      return "no_memory";
    case LORACLE_INTERNAL:
      return "internal";
    default:
      if (status < LORACLE_INVALID || status > LORACLE_CANCELLED) return "unknown";
      return loracle::name_of(static_cast<Errc>(status)).data();  // of a literal: NUL-terminated
  }
}

void loracle_error_clear(loracle_error* error) {
  if (error == nullptr) return;
  delete[] error->message;
  *error = LORACLE_ERROR_INIT;
}

loracle_status loracle_config_init(loracle_config* config, size_t size) {
  if (config == nullptr || size < kConfigSizeFirst) return LORACLE_INVALID;
  const EngineConfig defaults;
  loracle_config known{};
  known.size = size;
  known.policy = "lru";
  known.lora_targets = "auto";
  known.gpu_memory = LORACLE_UNLIMITED;
  known.cpu_memory = LORACLE_UNLIMITED;
  known.max_loras = defaults.max_loras;
  known.max_cpu_loras = defaults.max_cpu_loras;
  known.max_lora_rank = defaults.max_lora_rank;
  known.adapters_max = defaults.adapters_max;
  known.loads_in_flight_max = defaults.loads_in_flight_max;
  known.requests_waiting_max = defaults.requests_waiting_max;
  known.passes_max = defaults.passes_max;
  known.dtype = static_cast<loracle_dtype>(defaults.dtype);
  known.restore_residency = defaults.restore_residency ? 1 : 0;
  std::memset(config, 0, size);
  std::memcpy(config, &known, std::min(size, sizeof known));
  return LORACLE_OK;
}

loracle_status loracle_engine_open(const loracle_config* config, loracle_engine** engine,
                                   loracle_error* error) {
  if (engine != nullptr) *engine = nullptr;
  return guarded(error, [&]() -> Result<Unit> {
    if (engine == nullptr) return fail(null("engine"));
    const Result<loracle_config> known = known_part(config);
    if (!known) return fail(known.error());
    const Result<EngineConfig> settings = engine_config(*known);
    if (!settings) return fail(settings.error());
    auto made = std::make_unique<loracle_engine>();
    made->slots = settings->max_loras;
    Result<std::unique_ptr<DeviceMemory>> device = device_of(*known);
    if (!device) return fail(std::move(device.error()));
    made->device = std::move(*device);
    made->workers = loracle::make_thread_workers(
        known->threads != 0 ? known->threads : std::min(settings->loads_in_flight_max, kThreadsMax - 1) + 1);
    if (made->workers == nullptr) return fail(Errc::kIo, "no thread could be started: see ulimit -u");
    Result<std::unique_ptr<Files>> files = files_of(*known);
    if (!files) return fail(std::move(files.error()));
    made->files = std::move(*files);
    Files& door = made->files == nullptr ? loracle::posix_files() : *made->files;
    Result<std::unique_ptr<Engine>> opened =
        Engine::open(*settings, {&loracle::posix_clock(), &door, made->workers.get(), made->device.get()});
    if (!opened) return fail(std::move(opened.error()));
    made->engine = std::move(*opened);
    *engine = made.release();
    return Unit{};
  });
}

loracle_status loracle_engine_shutdown(loracle_engine* engine, loracle_error* error) {
  return with_engine(engine, error, [](Engine& open) { return open.shutdown(); });
}

void loracle_engine_close(loracle_engine* engine) { delete engine; }

loracle_status loracle_engine_acquire(loracle_engine* engine, const char* const* names, size_t count,
                                      uint64_t timeout_ns, loracle_lease** lease, loracle_error* error) {
  if (lease != nullptr) *lease = nullptr;
  return with_names(engine, names, count, error,
                    [&](Engine& open, std::span<const std::string_view> views) -> Result<Unit> {
                      if (lease == nullptr) return fail(null("lease"));
                      auto handle = std::make_unique<loracle_lease>();
                      Result<Lease> acquired = open.acquire(views, AcquireOptions{timeout_ns});
                      if (!acquired) return fail(std::move(acquired.error()));
                      handle->lease = std::move(*acquired);
                      *lease = handle.release();
                      return Unit{};
                    });
}

loracle_status loracle_engine_acquire_async(loracle_engine* engine, const char* const* names, size_t count,
                                            uint64_t timeout_ns, loracle_acquired done, void* user,
                                            loracle_error* error) {
  std::shared_ptr<Receiver> receiver;
  const loracle_status status = with_names(
      engine, names, count, error,
      [&](Engine& open, std::span<const std::string_view> views) -> Result<Unit> {
        if (done == nullptr) return fail(null("done"));
        receiver = std::make_shared<Receiver>(done, user);
        open.acquire_async(views, AcquireOptions{timeout_ns},
                           [receiver](Result<Lease> result) { receiver->tell_result(std::move(result)); });
        return Unit{};
      });
  // An exception on the way back: either the callback has been called, or it never will be.
  if (status == LORACLE_OK || receiver == nullptr || receiver->claim()) return status;
  loracle_error_clear(error);
  return LORACLE_OK;
}

size_t loracle_lease_count(const loracle_lease* lease) {
  return lease == nullptr ? 0 : lease->lease.adapters().size();
}

uint32_t loracle_lease_id(const loracle_lease* lease, size_t index) {
  return index < loracle_lease_count(lease) ? lease->lease.adapters()[index].id : 0;
}

uint32_t loracle_lease_slot(const loracle_lease* lease, size_t index) {
  return index < loracle_lease_count(lease) ? lease->lease.adapters()[index].slot : LORACLE_NO_SLOT;
}

uint32_t loracle_lease_rank(const loracle_lease* lease, size_t index) {
  return index < loracle_lease_count(lease) ? lease->lease.adapters()[index].rank : 0;
}

void loracle_lease_release(loracle_lease* lease) { delete lease; }

loracle_status loracle_engine_prefetch(loracle_engine* engine, const char* const* names, size_t count,
                                       loracle_tier tier, loracle_error* error) {
  return with_names(engine, names, count, error,
                    [&](Engine& open, std::span<const std::string_view> views) -> Result<Unit> {
                      const Result<EngineTier> into = tier_of(tier);
                      if (!into) return fail(into.error());
                      return open.prefetch(views, *into);
                    });
}

loracle_status loracle_engine_load_many(loracle_engine* engine, const char* const* names, size_t count,
                                        uint64_t timeout_ns, loracle_error* error) {
  return with_names(engine, names, count, error, [&](Engine& open, std::span<const std::string_view> views) {
    return open.load_many(views, AcquireOptions{timeout_ns});
  });
}

loracle_status loracle_engine_pin(loracle_engine* engine, const char* name, loracle_tier tier,
                                  uint64_t timeout_ns, loracle_error* error) {
  return with_name(engine, name, error, [&](Engine& open, std::string_view view) -> Result<Unit> {
    const Result<EngineTier> into = tier_of(tier);
    if (!into) return fail(into.error());
    return open.pin(view, *into, AcquireOptions{timeout_ns});
  });
}

loracle_status loracle_engine_unpin(loracle_engine* engine, const char* name, loracle_tier tier,
                                    loracle_error* error) {
  return with_name(engine, name, error, [&](Engine& open, std::string_view view) -> Result<Unit> {
    const Result<EngineTier> from = tier_of(tier);
    if (!from) return fail(from.error());
    return open.unpin(view, *from);
  });
}

loracle_status loracle_engine_activate(loracle_engine* engine, const char* name, uint64_t timeout_ns,
                                       loracle_error* error) {
  return with_name(engine, name, error, [&](Engine& open, std::string_view view) {
    return open.activate(view, AcquireOptions{timeout_ns});
  });
}

loracle_status loracle_engine_deactivate(loracle_engine* engine, const char* name, loracle_error* error) {
  return with_name(engine, name, error,
                   [](Engine& open, std::string_view view) { return open.deactivate(view); });
}

loracle_status loracle_engine_set_policy(loracle_engine* engine, loracle_tier tier, const char* policy,
                                         loracle_error* error) {
  return with_engine(engine, error, [&](Engine& open) -> Result<Unit> {
    if (policy == nullptr) return fail(null("policy"));
    const Result<EngineTier> of = tier_of(tier);
    if (!of) return fail(of.error());
    return open.set_policy(*of, policy);
  });
}

loracle_status loracle_engine_add(loracle_engine* engine, const char* name, const char* directory,
                                  uint32_t* id, loracle_error* error) {
  if (id != nullptr) *id = 0;
  return with_name(engine, name, error, [&](Engine& open, std::string_view view) -> Result<Unit> {
    if (directory == nullptr) return fail(null("directory"));
    Result<std::uint32_t> added = open.add(view, directory);
    if (!added) return fail(std::move(added.error()));
    if (id != nullptr) *id = *added;
    return Unit{};
  });
}

loracle_status loracle_engine_remove(loracle_engine* engine, const char* name, loracle_error* error) {
  return with_name(engine, name, error,
                   [](Engine& open, std::string_view view) { return open.remove(view); });
}

loracle_status loracle_engine_adapter_name(loracle_engine* engine, uint32_t id, char* name, size_t capacity,
                                           loracle_error* error) {
  if (name != nullptr && capacity != 0) *name = '\0';
  return with_engine(engine, error, [&](Engine& open) -> Result<Unit> {
    if (name == nullptr) return fail(null("name"));
    Result<std::string> found = open.adapter_name(id);
    if (!found) return fail(std::move(found.error()));
    if (found->size() >= capacity)
      return fail(Errc::kTooLarge, "the name has " + std::to_string(found->size()) +
                                       " bytes: LORACLE_NAME_BYTES_MAX always suffice");
    std::memcpy(name, found->c_str(), found->size() + 1);
    return Unit{};
  });
}

loracle_status loracle_engine_adapter_id(loracle_engine* engine, const char* name, uint32_t* id,
                                         loracle_error* error) {
  if (id != nullptr) *id = 0;
  return with_name(engine, name, error, [&](Engine& open, std::string_view view) -> Result<Unit> {
    if (id == nullptr) return fail(null("id"));
    Result<std::uint32_t> found = open.adapter_id(view);
    if (!found) return fail(std::move(found.error()));
    *id = *found;
    return Unit{};
  });
}

loracle_status loracle_engine_adapter(loracle_engine* engine, const char* name, loracle_adapter* adapter,
                                      size_t size, loracle_error* error) {
  return with_name(engine, name, error, [&](Engine& open, std::string_view view) -> Result<Unit> {
    Result<AdapterStatus> found = open.status(view);
    if (!found) return fail(std::move(found.error()));
    return give(as_c(*found), adapter, size);
  });
}

loracle_status loracle_engine_list(loracle_engine* engine, loracle_list** list, loracle_error* error) {
  if (list != nullptr) *list = nullptr;
  return with_engine(engine, error, [&](Engine& open) -> Result<Unit> {
    if (list == nullptr) return fail(null("list"));
    auto made = std::make_unique<loracle_list>();
    made->adapters = open.list();
    *list = made.release();
    return Unit{};
  });
}

size_t loracle_list_count(const loracle_list* list) { return list == nullptr ? 0 : list->adapters.size(); }

loracle_status loracle_list_at(const loracle_list* list, size_t index, loracle_adapter* adapter,
                               size_t size) {
  if (list == nullptr || adapter == nullptr) return LORACLE_INVALID;
  if (index >= list->adapters.size()) return LORACLE_NOT_FOUND;
  return guarded(nullptr, [&] { return give(as_c(list->adapters[index]), adapter, size); });
}

void loracle_list_free(loracle_list* list) { delete list; }

loracle_status loracle_engine_refresh(loracle_engine* engine, loracle_refresh** report,
                                      loracle_error* error) {
  if (report != nullptr) *report = nullptr;
  return with_engine(engine, error, [&](Engine& open) -> Result<Unit> {
    auto made = std::make_unique<loracle_refresh>();
    Result<RefreshReport> found = open.refresh();
    if (!found) return fail(std::move(found.error()));
    made->report = std::move(*found);
    if (report != nullptr) *report = made.release();
    return Unit{};
  });
}

size_t loracle_refresh_count(const loracle_refresh* report, loracle_change change) {
  if (report == nullptr) return 0;
  if (change == LORACLE_UNCHANGED) return static_cast<size_t>(report->report.unchanged);
  const std::vector<std::string>* const names = names_of(report->report, change);
  return names == nullptr ? 0 : names->size();
}

const char* loracle_refresh_name(const loracle_refresh* report, loracle_change change, size_t index) {
  const std::vector<std::string>* const names =
      report == nullptr ? nullptr : names_of(report->report, change);
  return names == nullptr || index >= names->size() ? nullptr : (*names)[index].c_str();
}

void loracle_refresh_free(loracle_refresh* report) { delete report; }

uint64_t loracle_latency_quantile_ns(const loracle_latency* latency, double share) {
  if (latency == nullptr) return 0;
  LatencyHistogram histogram;
  histogram.count = latency->count;
  std::copy(std::begin(latency->buckets), std::end(latency->buckets), histogram.buckets);
  return histogram.quantile_ns(std::clamp(share, 0.0, 1.0));
}

loracle_status loracle_engine_stats(loracle_engine* engine, loracle_stats* stats, size_t size,
                                    loracle_error* error) {
  return with_engine(engine, error, [&](Engine& open) { return give(as_c(open.stats()), stats, size); });
}

loracle_status loracle_engine_layout(loracle_engine* engine, loracle_layout* layout, size_t size,
                                     loracle_error* error) {
  return with_engine(engine, error, [&](Engine& open) {
    const SlotLayout& known = open.layout();
    loracle_layout told{};
    told.slot_bytes = known.slot_bytes();
    told.slots = engine->slots;
    told.slices = static_cast<std::uint32_t>(known.slices.size());
    told.max_rank = known.max_rank;
    told.element_bytes = loracle::bytes_of(known.dtype);
    told.dtype = static_cast<loracle_dtype>(known.dtype);
    told.memory = engine->device->kind() == "cuda" ? LORACLE_MEMORY_CUDA : LORACLE_MEMORY_HOST;
    return give(told, layout, size);
  });
}

loracle_status loracle_engine_slice(loracle_engine* engine, uint32_t index, loracle_slice* slice, size_t size,
                                    loracle_error* error) {
  return with_engine(engine, error, [&](Engine& open) -> Result<Unit> {
    const SlotLayout& layout = open.layout();
    if (index >= layout.slices.size())
      return fail(Errc::kNotFound, "slice " + std::to_string(index) + ": the layout has " +
                                       std::to_string(layout.slices.size()));
    const SlotSlice& known = layout.slices[index];
    const std::uint64_t row_bytes = std::uint64_t{layout.max_rank} * loracle::bytes_of(layout.dtype);
    loracle_slice told{};
    told.module = known.module.c_str();
    told.a = engine->device->buffer(index, loracle::SlotSide::kA);
    told.b = engine->device->buffer(index, loracle::SlotSide::kB);
    told.a_slot_bytes = row_bytes * known.in;
    told.b_slot_bytes = row_bytes * known.out;
    told.in = known.in;
    told.out = known.out;
    return give(told, slice, size);
  });
}

}  // extern "C"
