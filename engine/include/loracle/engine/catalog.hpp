#pragma once
/// The catalog: which adapters there are, under which number, and what was learnt about them; durable.
///
/// One SQLite database in WAL mode. An adapter's id is vLLM's lora_int_id: from 1, dealt out in name order to
/// the new names of one scan. Its versions are numbered from 1; each is one content of its two files.
/// Invariants:
/// 1. A name keeps its id for ever: across restarts, removal and return. An id is never another name's, so a
///    removed adapter leaves its row behind.
/// 2. What a call has answered is on the disk: it survives kill -9 and loss of power. What failed has changed
///    nothing.
/// 3. A catalog is of kind memory or storage, decided when it is made; it opens as nothing else.
/// 4. What grows with use is bounded: kUseHoursMax hourly counts and kVersionsMax versions an adapter.
/// Adapters of several roots may share a catalog, a name only comes from one of them.
/// Cost: a change is one transaction and one fsync; a refresh that found nothing new writes only its time.
/// `list` reads 100,000 adapters in less than 100 ms.
/// Threads: any; calls wait for each other. Processes: any number read while one writes; a writer waits
/// busy_timeout_ms for another. Do not carry an open catalog through fork.
/// Time comes in as seconds since 1970; no clock is read.
/// Errors: kNotFound (no such file, adapter or id), kInvalid (wrong kind, a change through a read-only
/// catalog, not a catalog), kBusy (locked by another process), kIo (disk full, no permission, ...),
/// kCorrupt (not a database, damaged), kUnsupported (written by a later loracle). `detail` is SQLite's
/// extended code. Messages begin with the path.

#include <compare>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "loracle/core/result.hpp"
#include "loracle/engine/adapter_config.hpp"
#include "loracle/engine/adapter_files.hpp"
#include "loracle/engine/discovery.hpp"
#include "loracle/engine/files.hpp"
#include "loracle/policy/decision_log.hpp"

namespace loracle {

/// The number of an adapter that never changes its meaning (vLLM's lora_int_id). 0 names none.
struct LoraId {
  std::uint32_t value = 0;

  friend constexpr auto operator<=>(LoraId, LoraId) noexcept = default;
};
inline constexpr std::uint32_t kLoraIdMax = 2'147'483'647;  // vLLM keeps them in 32-bit tensors

/// memory: adapters are registered one by one. storage: scans of directories fill it.
enum class CatalogKind : std::uint8_t { kMemory = 1, kStorage = 2 };
[[nodiscard]] std::string_view name_of(CatalogKind kind) noexcept;

/// Values are stored: never renumber.
enum class AdapterState : std::uint8_t {
  kAvailable = 1,
  kVanished = 2,  // its files are gone or bad; it returns with them
  kRemoved = 3,   // by `remove`; it returns when its files change, or by `restore` or `add`
};
[[nodiscard]] std::string_view name_of(AdapterState state) noexcept;

inline constexpr std::uint32_t kUseHoursMax = 168;  // a week, where every hour has uses
inline constexpr std::uint32_t kVersionsMax = 32;

struct CatalogOptions {
  std::string path;                 // ":memory:" for one that lasts as long as the object
  std::optional<CatalogKind> kind;  // absent: whatever it is; required to make one
  bool read_only = false;
  std::uint32_t busy_timeout_ms = 5000;
};

/// SHA-256 of the files, hex; empty until they were computed.
struct ContentDigest {
  std::string config;
  std::string weights;

  friend bool operator==(const ContentDigest&, const ContentDigest&) = default;
};

/// A row of `list`.
struct CatalogEntry {
  LoraId id;
  std::string name;
  AdapterState state = AdapterState::kAvailable;
  std::uint32_t version = 0;
  WeightFormat format = WeightFormat::kSafetensors;
  Dtype dtype = Dtype::kBf16;
  std::uint32_t rank = 0;
  std::uint32_t shape_id = 0;
  std::uint64_t element_count = 0;
  std::uint64_t weights_bytes = 0;
};

/// Everything known of an adapter, as of its current version.
struct CatalogRecord {
  LoraId id;
  std::string name;
  AdapterState state = AdapterState::kAvailable;
  std::int64_t created_unix_s = 0;
  std::int64_t changed_unix_s = 0;  // of state or version
  std::uint32_t version = 0;
  std::string source;  // the root it was found under
  HeaderFacts facts;
  std::uint32_t shape_id = 0;
  ContentDigest digest;
};

struct CatalogShape {
  std::uint32_t id = 0;
  AdapterShape shape;
};

/// A directory the catalog was filled from.
struct CatalogSource {
  std::string root;
  AdapterRules rules;
  std::int64_t scanned_unix_s = 0;
};

struct CatalogChange {
  LoraId id;
  std::string name;
  std::uint32_t version = 0;
};

/// What `apply` did. Each list is sorted by name; an adapter is in one of them at most.
struct ApplyOutcome {
  std::vector<CatalogChange> added;     // never seen before
  std::vector<CatalogChange> changed;   // a further version
  std::vector<CatalogChange> returned;  // was vanished, or removed and has changed since; perhaps changed
  std::vector<CatalogChange> vanished;
  std::vector<Rejection> rejected;  // the scan's, and names that another root has
  std::uint64_t unchanged = 0;
};

struct Pin {
  LoraId id;
  Place tier = Place::kDevice;

  friend bool operator==(const Pin&, const Pin&) = default;
};

struct UseCount {
  LoraId id;
  std::uint64_t uses = 0;
  std::int64_t last_unix_s = 0;
};
struct HourUses {
  std::int64_t hour = 0;  // since 1970
  std::uint64_t uses = 0;
};
struct UseHistory {
  std::uint64_t uses = 0;  // ever
  std::int64_t last_unix_s = 0;
  std::vector<HourUses> hours;  // ascending; the latest kUseHoursMax that have any
};

/// An adapter in a tier when the engine stopped. `order`: 0 is the most valuable.
struct ResidentAdapter {
  LoraId id;
  Place tier = Place::kDevice;
  std::uint32_t order = 0;

  friend bool operator==(const ResidentAdapter&, const ResidentAdapter&) = default;
};

class Catalog {
 public:
  /// Makes the database if it is absent or the file empty (not with read_only), and brings an older one up
  /// to date.
  [[nodiscard]] static Result<Catalog> open(const CatalogOptions& options);
  Catalog(Catalog&&) noexcept;
  Catalog& operator=(Catalog&&) noexcept;
  ~Catalog();

  [[nodiscard]] CatalogKind kind() const noexcept;
  [[nodiscard]] const std::string& path() const noexcept;

  // Reading.

  /// By id. Removed adapters only when asked for.
  [[nodiscard]] Result<std::vector<CatalogEntry>> list(bool with_removed = false);
  /// In any state, removed too.
  [[nodiscard]] Result<CatalogRecord> find(std::string_view name);
  [[nodiscard]] Result<std::string> name_of(LoraId id);
  [[nodiscard]] Result<LoraId> id_of(std::string_view name);
  [[nodiscard]] Result<std::vector<CatalogShape>> shapes();
  /// Those that were scanned; not those `add` names.
  [[nodiscard]] Result<std::vector<CatalogSource>> sources();
  [[nodiscard]] Result<std::vector<Rejection>> rejections();
  /// What `refresh` of this root under these rules needs not look at again; empty if the last scan of the
  /// root was under other rules, or there was none.
  [[nodiscard]] Result<KnownAdapters> known(std::string_view root, const AdapterRules& rules);

  // Adapters.

  /// Whether a directory that the catalog knows is no more.
  using IsGone = std::function<bool(const std::string& directory)>;
  /// Makes the catalog agree with a scan, in one transaction. A name that another source has is a clash,
  /// unless that adapter lay in this very directory, or in one that is gone: then it is the same one, and
  /// has moved. kInvalid for kind memory.
  [[nodiscard]] Result<ApplyOutcome> apply(const ScanResult& scan, const IsGone& is_gone = {});
  /// Registers one adapter from `source`, removed or not, whatever other source had the name.
  [[nodiscard]] Result<CatalogChange> add(const ScannedAdapter& adapter, const AdapterShape& shape,
                                          std::string_view source, std::int64_t now_unix_s);
  /// Forgets its pins and residency too. Removing it twice is no error.
  [[nodiscard]] Result<Unit> remove(std::string_view name, std::int64_t now_unix_s);
  /// Undoes `remove`; no change if it is available. kInvalid if its files vanished: a refresh finds them.
  [[nodiscard]] Result<Unit> restore(std::string_view name, std::int64_t now_unix_s);
  /// kNotFound if there is no such version (any more).
  [[nodiscard]] Result<Unit> set_digest(LoraId id, std::uint32_t version, const ContentDigest& digest);

  // What serving leaves behind.

  [[nodiscard]] Result<Unit> set_pin(const Pin& pin, bool pinned);
  /// By tier, then id.
  [[nodiscard]] Result<std::vector<Pin>> pins();
  /// Adds to the history; all of it or, where an id is unknown, nothing.
  [[nodiscard]] Result<Unit> record_uses(std::span<const UseCount> uses);
  [[nodiscard]] Result<UseHistory> history(LoraId id);
  /// Totals of all that were ever used, by id.
  [[nodiscard]] Result<std::vector<UseCount>> uses();
  /// Replaces what was saved before. An adapter is in a tier at most once.
  [[nodiscard]] Result<Unit> save_residency(std::span<const ResidentAdapter> residents);
  /// By tier, then order.
  [[nodiscard]] Result<std::vector<ResidentAdapter>> residency();

  /// Reads the whole database and checks it against itself. kCorrupt with what was found.
  [[nodiscard]] Result<Unit> check();

 private:
  struct State;
  explicit Catalog(std::unique_ptr<State> state) noexcept;
  std::unique_ptr<State> state_;
};

/// What became of an adapter's files.
enum class FilesVerdict : std::uint8_t {
  kIntact,    // the bytes are those whose digest is known
  kRecorded,  // no digest was known; it is now
  kChanged,   // other files than the catalog knows: refresh
  kDamaged,   // the same files by every sign, with other bytes
  kMissing,
  kUnreadable,
};
[[nodiscard]] std::string_view name_of(FilesVerdict verdict) noexcept;

struct Verification {
  FilesVerdict verdict = FilesVerdict::kIntact;
  std::string reason;  // empty for kIntact and kRecorded
  ContentDigest digest;
};

/// Reads both files in full. Does not touch the catalog: for kRecorded, hand `digest` to set_digest.
[[nodiscard]] Verification verify_files(Files& files, const CatalogRecord& record);

/// Looks at a root, at all of it or only at what may have changed, and makes the catalog agree. Adapters
/// whose old directory is no more are the same ones, if they are found here: a directory that was moved or
/// mounted elsewhere keeps its ids. Errors: those of `refresh` and of Catalog::apply.
[[nodiscard]] Result<ApplyOutcome> rescan(Catalog& catalog, Files& files, const ScanOptions& options,
                                          bool everything = false);

}  // namespace loracle
