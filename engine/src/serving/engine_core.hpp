#pragma once
/// The part of the engine that decides and moves: requests in, leases out. It knows rows, bytes and slots;
/// catalogs and directories are the Engine's.
///
/// A request goes through stages: loading (rows it lacks are read into staging), room (everything is there,
/// but leases and pins are in the way), copying (it moved in; slots are being written), done. Where a row is,
/// is which set it is in:
///   loading   queued to be read, or being read          staged   read whole, not moved in yet
///   host, device: the hierarchy's tiers                 copying  its slot is being written
///   ready     its slot holds it whole                   doomed   has lost its name, goes when it is not used
/// Invariants: staged and host are disjoint; whoever is in host or staged has a block in the arena; ready is
/// a subset of device; a row being copied is leased and its block is fixed.
/// Threads: any; one lock. Callbacks are collected under it and run without it.

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "loracle/core/dense_set.hpp"
#include "loracle/engine/engine.hpp"
#include "loracle/policy/any_policy.hpp"
#include "serving/adapter_rows.hpp"
#include "tiers/host_arena.hpp"

namespace loracle {

/// What a request is for.
enum class Purpose : std::uint8_t { kServe, kBring, kPin };

struct PendingRequest {
  enum class Stage : std::uint8_t { kLoading, kRoom, kCopying, kDone };

  Purpose purpose = Purpose::kServe;
  Stage stage = Stage::kLoading;
  std::size_t level = 0;  // of the hierarchy, for kBring and kPin
  std::vector<Row> rows;
  bool counted = false;           // in needed_
  std::uint64_t number = 0;       // in the order they came
  std::uint32_t outstanding = 0;  // loads, then copies, it waits for
  std::uint64_t passed = 0;       // requests that went by while it waited for room, but see passes_by_newest_
  std::list<std::shared_ptr<PendingRequest>>::iterator place;  // in room_, while it is there
  std::shared_ptr<const std::atomic<bool>> abandoned;          // may be null
  std::uint64_t begun_ns = 0;
  AcquireCallback done;  // or nobody: a thread waits on `changed`
  std::condition_variable changed;
  Result<Lease> result = fail(Errc::kCancelled, "not finished");
};
using PendingPtr = std::shared_ptr<PendingRequest>;

/// Reads an adapter's image into memory; called on workers, several at once.
using ReadImage = std::function<Result<std::shared_ptr<const ImageManifest>>(
    const std::string& name, const AdapterSource& source, std::span<std::byte> image)>;

class EngineCore {
 public:
  /// Errors: those of policies (kNotFound, kInvalid) and of the device.
  [[nodiscard]] static Result<std::unique_ptr<EngineCore>> make(const EngineConfig& config, SlotLayout layout,
                                                                std::uint32_t rows_max, const Env& env,
                                                                ReadImage read);
  ~EngineCore();
  EngineCore(const EngineCore&) = delete;
  EngineCore& operator=(const EngineCore&) = delete;

  void know(std::string_view name, const AdapterSource& source);
  /// The same content, described anew: see AdapterRows. REQUIRES: known.
  void describe(std::string_view name, const AdapterSource& source);
  /// What is known of every name, sorted.
  [[nodiscard]] std::vector<std::pair<std::string, AdapterSource>> known() const;
  /// Gives the names the first rows, in their order; an unknown one uses up its row too. Called once, after
  /// everything is known and before anything is asked.
  void order_rows(std::span<const std::string> names);
  [[nodiscard]] bool forget(std::string_view name);

  [[nodiscard]] Result<Lease> acquire(std::span<const std::string_view> names, const AcquireOptions& options);
  void acquire_async(std::span<const std::string_view> names, const AcquireOptions& options,
                     AcquireCallback done);
  void let_go(std::span<const LeasedAdapter> adapters) noexcept;
  /// REQUIRES: its lease lives.
  [[nodiscard]] AdapterSource source_of(const LeasedAdapter& leased) const;

  void drop_abandoned();

  [[nodiscard]] Result<Unit> prefetch(std::span<const std::string_view> names, std::size_t level);
  [[nodiscard]] Result<Unit> bring(std::span<const std::string_view> names, std::size_t level,
                                   const AcquireOptions& options);
  [[nodiscard]] Result<Unit> pin(std::string_view name, std::size_t level, const AcquireOptions& options);
  /// The same without waiting; an adapter that cannot be had stays unpinned.
  void pin_later(std::string_view name, std::size_t level);
  /// Also of pins that are not there yet: whoever waits for one gets kCancelled.
  [[nodiscard]] Result<Unit> unpin(std::string_view name, std::size_t level);
  [[nodiscard]] Result<Unit> deactivate(std::string_view name);
  [[nodiscard]] Result<Unit> set_policy(std::size_t level, std::string_view policy);

  [[nodiscard]] std::vector<AdapterStatus> list() const;
  [[nodiscard]] std::uint64_t changes() const;
  [[nodiscard]] Result<AdapterStatus> status(std::string_view name) const;
  [[nodiscard]] EngineStats stats() const;
  [[nodiscard]] const SlotLayout& layout() const noexcept { return layout_; }
  /// Names resident in a tier, the one used last first.
  [[nodiscard]] std::vector<std::string> residents(std::size_t level) const;
  /// Uses of every name since the last call.
  [[nodiscard]] std::map<std::string, std::uint64_t, std::less<>> take_uses();
  void put_back_uses(const std::map<std::string, std::uint64_t, std::less<>>& uses);

  /// See Engine::shutdown. Idempotent.
  void shutdown();

 private:
  /// Collects what the hierarchy decides, and tells the user's sink of it.
  class Actions final : public DecisionSink {
   public:
    explicit Actions(DecisionSink* next) : next_(next) {}
    void on_decision(const Decision& decision) noexcept override {
      if (next_ != nullptr) next_->on_decision(decision);
      if (decision.action != Action::kHit && decision.action != Action::kRefuse) made.push_back(decision);
    }
    std::vector<Decision> made;

   private:
    DecisionSink* next_;
  };
  using Lock = std::unique_lock<std::mutex>;
  static constexpr std::size_t kDeviceLevel = 0;
  static constexpr std::size_t kHostLevel = 1;

  /// Leads from a timer to the core, as long as there is one. A deadline may be far away, and neither
  /// shutdown nor the destructor waits for it. Locked before the core's own lock.
  struct Gate {
    std::mutex mutex;
    EngineCore* core = nullptr;
  };

  EngineCore(const EngineConfig& config, SlotLayout layout, std::uint32_t rows_max, const Env& env,
             ReadImage read, std::span<std::byte> arena, std::vector<TierSetup<AnyPolicy>> tiers);

  // Names.
  [[nodiscard]] Result<Unit> resolve(std::span<const std::string_view> names, std::vector<Row>& rows);
  [[nodiscard]] Result<Row> row_for(std::string_view name);
  [[nodiscard]] bool idle(Row row) const noexcept;
  [[nodiscard]] AdapterStatus status_of(const std::string& name, const AdapterSource& source) const;

  // Stages of a request.
  [[nodiscard]] bool serve_resident(std::span<const Row> rows, Lease& lease) noexcept;
  [[nodiscard]] Lease lease_of(std::span<const Row> rows);
  [[nodiscard]] PendingPtr begin(Purpose purpose, std::size_t level, std::vector<Row> rows,
                                 AcquireCallback done,
                                 std::shared_ptr<const std::atomic<bool>> abandoned = nullptr);
  void start(const PendingPtr& request);
  void advance(const PendingPtr& request);
  void refuse(const PendingPtr& request, Verdict verdict);
  void wait_for_room(const PendingPtr& request);
  void leave_room(PendingRequest& request);
  [[nodiscard]] bool is_front_impatient() const noexcept;
  void move_in(const PendingPtr& request);
  void finish(const PendingPtr& request, Result<Lease> result);
  void leave_loading(PendingRequest& request);
  void cancel(const PendingPtr& request, Error error);
  void cancel_pins(Row row, std::size_t level);
  [[nodiscard]] Error refusal(Verdict verdict, const PendingRequest& request) const;
  [[nodiscard]] Result<Lease> wait(Lock& lock, const PendingPtr& request, const AcquireOptions& options);
  [[nodiscard]] bool fits_without_eviction(Row row) const noexcept;
  [[nodiscard]] Verdict ask(const PendingRequest& request) noexcept;
  [[nodiscard]] bool must_queue(const PendingRequest& request) const noexcept;
  void count_pass(std::uint64_t number) noexcept;
  void wake_room();

  // Rows.
  void require(Row row, bool urgent);
  void pump_loads();
  void finish_load(Row row, Result<std::shared_ptr<const ImageManifest>> result, std::uint64_t begun_ns);
  void settle_staged(Row row);
  void drop_staged(Row row);
  [[nodiscard]] bool make_staging_room(Row row);
  void carry_out();
  void start_copy(Row row, std::uint32_t slot);
  void finish_copy(Row row, const Result<Unit>& result, std::uint64_t begun_ns);
  void fail_waiters(Row row, const Error& error);
  void lease_rows(std::span<const Row> rows) noexcept;
  void give_back(std::span<const Row> rows) noexcept;
  void doom(Row row);
  void bury_if_unused(Row row);
  void expire(Lock& entering, const PendingPtr& request);
  [[nodiscard]] Error too_late(const PendingRequest& request) const;
  [[nodiscard]] std::string occupancy(std::size_t level) const;
  void flush(Lock& lock);
  /// Gives the workers a task when the lock is let go.
  void submit_later(std::function<void()> task);
  void told_idle();

  Env env_;
  ReadImage read_;
  SlotLayout layout_;
  std::uint32_t loads_in_flight_max_;
  std::uint32_t requests_waiting_max_;
  std::uint32_t passes_max_;
  Capacity host_capacity_;
  std::uint32_t max_loras_;

  mutable std::mutex mutex_;
  std::condition_variable idle_;
  AdapterRows rows_;
  HostArena arena_;
  Actions actions_;
  DecisionLog log_;
  Hierarchy<AnyPolicy> tiers_;
  std::string policy_names_[2];
  std::uint64_t tick_ = 0;

  DenseSet loading_;
  DenseSet in_flight_;  // of loading_: being read now
  DenseSet staged_;
  DenseSet copying_;
  DenseSet ready_;
  DenseSet doomed_;
  std::vector<std::uint32_t> leases_;             // [rows] held by leases
  std::vector<std::uint32_t> needed_;             // [rows] requests that have not moved in and want it
  std::vector<std::uint8_t> wanted_in_;           // [rows] of a prefetch: level + 1; 0: none
  std::vector<std::uint64_t> mentioned_;          // [rows] number of the last batch it was named in
  std::vector<std::vector<PendingPtr>> waiters_;  // [rows]
  std::vector<std::shared_ptr<const ImageManifest>> manifests_;  // [rows] of rows with a block
  std::uint64_t batches_ = 0;

  std::deque<Row> urgent_;              // of loading_: not being read yet, in order
  std::deque<Row> background_;          // likewise, for prefetches
  std::list<PendingPtr> room_;          // ascending by number
  std::uint64_t passes_by_newest_ = 0;  // moves of requests newer than all of room_: each passed them all
  std::vector<std::function<void()>> after_;  // to be run without the lock
  std::uint64_t telling_ = 0;                 // threads that run some of those now
  std::vector<Row> batch_;                    // scratch of acquire
  std::uint64_t leases_total_ = 0;
  std::uint64_t waiting_ = 0;
  std::uint64_t request_number_ = 0;
  bool stopping_ = false;
  EngineStats stats_;
  std::shared_ptr<Gate> gate_ = std::make_shared<Gate>();
};

}  // namespace loracle
