#pragma once
/// The engine: adapters by name, brought to the device when they are needed, kept there while they are used.
///
///   Result<std::unique_ptr<Engine>> engine = Engine::open(config, env);
///   Result<Lease> lease = (*engine)->acquire("support-en");  // on the device until it is let go
///   use(lease->adapters()[0].slot);
///
/// A request names a batch of adapters that are needed together. Which adapter is where, and who goes when
/// room is needed, is decided by policy/hierarchy.hpp alone, one request at a time, in the order in which
/// requests become ready: for equal requests the decision log equals that of the simulator.
///  1. What a request lacks is read from storage into staging memory, in parallel, each adapter once however
///     many wait for it. Nothing is evicted for it yet: a load that fails changes nothing but counters, and
///     its error reaches everybody who waits.
///  2. When all of it is there, the hierarchy makes room and the batch moves in, whole. If leases and pins
///     leave too little room, the request waits until some are let go. Later requests may pass it, but no
///     more than `passes_max` of them.
///  3. What has no slot yet is copied into one. Then the caller has its lease.
/// Invariants: those of hierarchy.hpp, and: a lease's slots hold exactly its adapters, whole, until it is let
/// go; bytes of resident adapters never exceed the host budget; an id keeps its name for ever.
/// Threads: every function may be called from any thread. A caller runs the decisions itself, under one lock
/// (measured: cheaper than handing them to an owner thread, and as ordered). Callbacks run on the thread that
/// completed them, without the lock; they may call the engine, but for shutdown, which waits for them, and
/// must not wait for another request: the thread they are on may be the one that would load for it.
/// Cost: acquire and release of a resident adapter: no allocation, one lock each.
/// Errors: kNotFound (no such adapter), kInvalid (its files break a rule), kCorrupt, kIo, kTooLarge (a batch
/// or an adapter larger than a tier), kAllPinned (pins leave no room and no lease will end that), kDeadline,
/// kCancelled (removed or shut down while waiting), kBusy (too many requests wait already).

#include <atomic>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "loracle/core/result.hpp"
#include "loracle/core/units.hpp"
#include "loracle/engine/adapter_config.hpp"
#include "loracle/engine/env.hpp"
#include "loracle/engine/image.hpp"
#include "loracle/engine/origin.hpp"
#include "loracle/policy/decision_log.hpp"
#include "loracle/policy/hierarchy.hpp"

namespace loracle {

/// The tiers a caller may speak of.
enum class EngineTier : std::uint8_t { kDevice = 0, kHost = 1 };

struct EngineConfig {
  std::string directory;            // of adapters, one folder each; empty: adapters come by `add`
  std::string database;             // the catalog's file; empty: kept in memory, forgotten at the end
  std::uint32_t max_loras = 1;      // slots on the device
  std::uint32_t max_cpu_loras = 0;  // adapters in host memory; 0: as many as max_loras
  Bytes gpu_memory = Bytes::max();  // for resident adapters, beside the counts
  Bytes cpu_memory = Bytes::max();  // likewise; the arena has room for loads in flight on top of it
  std::string policy = "lru";       // device/host
  Dtype dtype = Dtype::kBf16;       // as served
  std::uint32_t max_lora_rank = 0;  // of a slot; 0: the largest found, as vLLM would round it; 16 if none is
  std::vector<std::string> base_models;  // accepted names of the base model; empty: any
  std::string model;  // its geometry: table name or config.json; empty: slots fit the adapters found at open
  std::string lora_targets = "auto";            // with model: which of its layers slots have room for
  std::vector<std::string> layout_directories;  // adapters that slots must have room for too, where possible
  std::uint32_t adapters_max = 0;         // that can be in memory or known to policies at once; 0: 4 x known
  std::uint32_t loads_in_flight_max = 4;  // storage reads at once
  std::uint32_t requests_waiting_max = 4096;
  std::uint32_t passes_max = 64;       // requests that may pass one that waits for room
  std::vector<std::string> row_names;  // get the first rows, in this order: a trace's, to compare logs
  bool restore_residency = true;       // prefetch what was resident at the last shutdown
  DecisionSink* decisions = nullptr;   // told of every decision, under the lock: must not call the engine
};

/// One adapter of a lease.
struct LeasedAdapter {
  std::uint32_t id = 0;    // lora_int_id, from 1; the catalog's
  std::uint32_t slot = 0;  // on the device, 0 .. max_loras - 1
  std::uint32_t rank = 0;  // its largest
  Row row = kNoRow;        // as in decision logs
  bool is_remote = false;  // its files come from elsewhere: see Engine::files_of
};

/// What to do about files that have no copy on this machine.
enum class Fetching : std::uint8_t { kNotAllowed, kIfMissing };

class Engine;
class EngineCore;

/// Keeps its adapters on the device until it is destroyed or `let_go`. Move only. May outlive nothing of its
/// engine: the engine waits for leases at shutdown.
class Lease {
 public:
  Lease() = default;
  Lease(Lease&& other) noexcept;
  Lease& operator=(Lease&& other) noexcept;
  ~Lease() { let_go(); }

  /// In the order of the request, duplicates dropped.
  [[nodiscard]] std::span<const LeasedAdapter> adapters() const noexcept;
  [[nodiscard]] bool empty() const noexcept { return count_ == 0; }
  void let_go() noexcept;

 private:
  friend class EngineCore;
  static constexpr std::uint32_t kInline = 4;

  EngineCore* core_ = nullptr;
  std::uint32_t count_ = 0;
  LeasedAdapter few_[kInline];
  std::unique_ptr<LeasedAdapter[]> many_;  // instead of few_, of a larger batch
};

struct AcquireOptions {
  std::uint64_t timeout_ns = kNoDeadline;  // from now
  /// Once it is true, nobody waits for the answer any more: what still waits then ends with kCancelled, at
  /// the latest in its turn (at once: Engine::drop_abandoned), and moves nothing. May be null.
  std::shared_ptr<const std::atomic<bool>> abandoned = nullptr;
};

struct AddOptions {
  bool may_be_stale = true;  // out of reach, what was last seen there will do; else that is kIo
};

using AcquireCallback = std::function<void(Result<Lease>)>;

/// Latencies, each in a bucket of its power of two.
struct LatencyHistogram {
  std::uint64_t count = 0;
  std::uint64_t sum_ns = 0;
  std::uint64_t buckets[64] = {};  // [i]: 2^i .. 2^(i+1) - 1 ns

  void add(std::uint64_t ns) noexcept;
  /// Upper end of the bucket in which the share lies; 0 when nothing was counted.
  [[nodiscard]] std::uint64_t quantile_ns(double share) const noexcept;
};

struct TierStats {
  std::uint64_t entries = 0;
  std::uint64_t entries_max = 0;
  std::uint64_t bytes = 0;
  std::uint64_t bytes_max = 0;
  std::uint64_t pinned = 0;
  std::string policy;
};

struct EngineStats {
  HierarchyCounts counts;
  std::uint64_t decisions = 0;
  std::uint64_t decision_log_hash = 0;
  std::uint64_t adapters_known = 0;
  std::uint64_t requests = 0;
  std::uint64_t requests_waiting = 0;  // now
  std::uint64_t requests_failed = 0;
  std::uint64_t leases = 0;  // now
  std::uint64_t loads = 0;   // from storage, done
  std::uint64_t loads_failed = 0;
  std::uint64_t loads_in_flight = 0;  // now
  std::uint64_t loads_shared = 0;     // waits that joined a load which was there already
  std::uint64_t loaded_bytes = 0;
  std::uint64_t prefetches = 0;
  std::uint64_t prefetches_dropped = 0;  // loaded for one, and no room: everything was held
  std::uint64_t copies = 0;              // into slots
  std::uint64_t copies_failed = 0;
  std::uint64_t copied_bytes = 0;
  std::uint64_t arena_bytes = 0;
  std::uint64_t arena_moved_bytes = 0;  // to close gaps
  TierStats device;
  TierStats host;
  LatencyHistogram load_latency;     // storage to host memory
  LatencyHistogram copy_latency;     // host memory to a slot
  LatencyHistogram acquire_latency;  // of requests that had to wait for anything, past their deadline too
};

/// What `list` says of an adapter.
struct AdapterStatus {
  std::string name;
  std::string directory;  // where its files lay when they were last inspected; empty if they are remote
  std::string uri;        // that names them, where they are of another origin; else empty
  std::uint32_t id = 0;
  std::uint32_t rank = 0;
  std::uint64_t bytes = 0;  // of its image
  bool on_device = false;
  bool on_host = false;
  bool loading = false;
  bool pinned = false;
  std::uint32_t leases = 0;
  std::uint32_t slot = kNoSlot;
  std::uint64_t uses = 0;
};

/// What `refresh` found.
struct RefreshReport {
  std::vector<std::string> added;
  std::vector<std::string> changed;   // new content under an old name
  std::vector<std::string> vanished;  // served until their leases end
  std::vector<std::string> rejected;  // "name: reason"
  std::uint64_t unchanged = 0;
};

class Engine {
 public:
  /// Opens the catalog, discovers the directory, allocates the tiers; restoring pins and residency goes on in
  /// the background. Errors: kInvalid (names the setting), those of catalog, files and device.
  [[nodiscard]] static Result<std::unique_ptr<Engine>> open(const EngineConfig& config, const Env& env);
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;
  /// shutdown(), if it was not called.
  ~Engine();

  [[nodiscard]] Result<Lease> acquire(std::span<const std::string_view> names,
                                      const AcquireOptions& options = {});
  [[nodiscard]] Result<Lease> acquire(std::string_view name, const AcquireOptions& options = {});
  /// `done` is called exactly once, possibly before this returns.
  void acquire_async(std::span<const std::string_view> names, const AcquireOptions& options,
                     AcquireCallback done);

  /// Ends requests that wait for room and were abandoned (AcquireOptions) since.
  void drop_abandoned();

  /// Where the files of a leased adapter lie on this machine. Of a remote one that is a copy, which stays as
  /// it is while `hold` lives. A slot needs none: there may be none (kNotFound), unless it is fetched, which
  /// may take long and is not for callbacks. REQUIRES: its lease lives.
  [[nodiscard]] Result<LocalCopy> files_of(const LeasedAdapter& leased,
                                           Fetching fetching = Fetching::kIfMissing) const;

  /// Starts to bring adapters into a tier, behind everything that is waited for. Answers at once; kNotFound
  /// if one is unknown (the others are prefetched all the same).
  [[nodiscard]] Result<Unit> prefetch(std::span<const std::string_view> names,
                                      EngineTier tier = EngineTier::kHost);
  /// Brings adapters into host memory and waits for it. The first error is returned; the others go on.
  [[nodiscard]] Result<Unit> load_many(std::span<const std::string_view> names,
                                       const AcquireOptions& options = {});

  /// Brings an adapter into a tier and keeps it there, and in those below. Waits until it is there.
  [[nodiscard]] Result<Unit> pin(std::string_view name, EngineTier tier = EngineTier::kDevice,
                                 const AcquireOptions& options = {});
  /// Lifts the pin of a tier and of those above it; a `pin` that still waits ends with kCancelled.
  [[nodiscard]] Result<Unit> unpin(std::string_view name, EngineTier tier = EngineTier::kHost);

  /// Makes the adapter at `uri` (a directory, file://, or what env.origins understand) known under `name`, or
  /// replaces its content: requests that begin from now on get the new one, leases keep the old. What is
  /// remote is examined where it lies, and fetched when it is loaded and has no local copy; if it is another
  /// then, that load is refused.
  [[nodiscard]] Result<std::uint32_t> add(std::string_view name, const std::string& uri,
                                          const AddOptions& options = {});
  /// Forgets an adapter: no request finds it from now on, and its memory is freed when its leases end.
  [[nodiscard]] Result<Unit> remove(std::string_view name);
  /// Brings an adapter into a slot without using it / frees its slot. kAllPinned if it is leased or pinned.
  [[nodiscard]] Result<Unit> activate(std::string_view name, const AcquireOptions& options = {});
  [[nodiscard]] Result<Unit> deactivate(std::string_view name);

  /// By name, sorted.
  [[nodiscard]] std::vector<AdapterStatus> list() const;
  /// Grows whenever the names of `list`, or the directory or URI of one, have changed: what was made of those
  /// before a call that answers the same number still holds.
  [[nodiscard]] std::uint64_t changes() const;
  [[nodiscard]] Result<AdapterStatus> status(std::string_view name) const;
  [[nodiscard]] Result<std::string> adapter_name(std::uint32_t id) const;
  [[nodiscard]] Result<std::uint32_t> adapter_id(std::string_view name) const;
  /// Where the catalog has an adapter from: a directory, or the URI it was added by. kNotFound for what it
  /// does not have, and for what was removed or has vanished.
  [[nodiscard]] Result<std::string> location_of(std::string_view name) const;

  /// Looks at the directory again.
  [[nodiscard]] Result<RefreshReport> refresh();
  /// What the last look at the directory found and does not serve: "name: reason", sorted.
  [[nodiscard]] std::vector<std::string> rejected() const;

  /// Another policy for a tier (`gdsf`, `slru:segments=2`); residents stay. On the host tier also the presets
  /// `conservative` (host memory keeps no more adapters than there are slots) and `aggressive` (as many as
  /// were configured). Errors: kNotFound, kInvalid (a clairvoyant policy).
  [[nodiscard]] Result<Unit> set_policy(EngineTier tier, std::string_view policy);

  [[nodiscard]] EngineStats stats() const;
  [[nodiscard]] const SlotLayout& layout() const noexcept;

  /// Refuses new requests, lets waiting ones fail with kCancelled, waits for loads, copies, leases and
  /// callbacks to end, and saves which adapters were resident. Whatever would change the engine or its
  /// catalog answers kCancelled from now on. Idempotent.
  [[nodiscard]] Result<Unit> shutdown();

 private:
  struct Parts;
  explicit Engine(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts_;
};

}  // namespace loracle
