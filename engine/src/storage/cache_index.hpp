#pragma once
/// Which keys a cache has, as rows of a policy's Tier: what both caches decide with.
///
/// A row is reserved (in the tier, held, not to be found), then published (found by its key), then hidden
/// (not found any more, still in the tier), then gone. A key that has gone keeps its row for as long as rows
/// suffice, so that policies which remember the departed recognise it.
/// Invariants: 1. Every row in the tier is reserved, published or hidden. 2. A key has one published row at
/// most. Threads: one owner. Cost: that of the policy, and a hash of the key.

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "loracle/core/result.hpp"
#include "loracle/policy/any_policy.hpp"
#include "loracle/policy/tier.hpp"
#include "loracle/storage/cache.hpp"

namespace loracle {

class CacheIndex {
 public:
  /// Errors: those of the policy's text; kInvalid (a clairvoyant one; a bound of nothing).
  [[nodiscard]] static Result<CacheIndex> make(const std::string& policy, Capacity capacity);

  /// Of a published key; kNoRow if there is none, or while it is being evicted.
  [[nodiscard]] Row find(const std::string& key) const;
  [[nodiscard]] const std::string& key_of(Row row) const { return keys_[index_of(row)]; }
  [[nodiscard]] Bytes size_of(Row row) const { return table_->size_of(row); }
  [[nodiscard]] Tier<AnyPolicy>& tier() noexcept { return tier_; }
  [[nodiscard]] const Tier<AnyPolicy>& tier() const noexcept { return tier_; }
  [[nodiscard]] std::size_t rows() const noexcept { return keys_.size(); }
  /// Sets what the tier knows: entries, bytes, their bounds, evictions.
  void add_to(CacheStats& stats) const noexcept;

  /// Reserves a row: brings it into the tier, held once, evicting until it fits. `erase(victim)` deletes the
  /// victim's bytes, and answers false if somebody beyond this index still uses them: then another has to go.
  /// kNoRow, and `why`, if there is no room; what was evicted stays out. While `erase` runs others may find,
  /// touch, hold, hide and let go, and take out what they hold; nobody else may reserve or publish.
  template <class Erase>
  [[nodiscard]] Row reserve(const std::string& key, Bytes size, Admission& why, Erase&& erase) {
    const Row row = take_row(key, size);
    tier_.hold(row);
    why = insert(row, erase);
    if (why == Admission::kInserted) return row;
    tier_.let_go(row);
    forget(row);
    return kNoRow;
  }
  /// The row is found by its key from now on. The row that was found so far, now hidden, or kNoRow.
  Row publish(Row row);
  /// A published row is not found any more. No effect on others.
  void hide(Row row);
  void touch(Row row) { tier_.touch(row, Tick{++tick_}); }
  /// Takes a row out. REQUIRES: in the tier.
  void remove(Row row) {
    static_cast<void>(tier_.remove(row));
    forget(row);
  }

 private:
  CacheIndex(std::uint32_t rows, Capacity capacity, AnyPolicy policy);

  [[nodiscard]] Row take_row(const std::string& key, Bytes size);
  /// A row that left the tier, or never came in.
  void forget(Row row);

  template <class Erase>
  [[nodiscard]] Admission insert(Row row, Erase&& erase) {
    std::vector<Row> in_use;
    Admission admission{};
    for (bool again = true; again;) {
      std::vector<Row> victims;
      admission =
          tier_.insert(row, Tick{++tick_}, [&](Row victim, std::uint32_t) { victims.push_back(victim); });
      std::vector<Row> staying;
      for (const Row victim : victims) {
        if (erase(victim)) {
          forget(victim);
          ++evictions_;
        } else {
          staying.push_back(victim);
        }
      }
      again = !staying.empty();
      if (again && admission == Admission::kInserted) static_cast<void>(tier_.remove(row));
      for (const Row victim : staying) {  // back in, as if just used: somebody does use it
        tier_.hold(victim);
        const Admission back = tier_.insert(victim, Tick{++tick_}, [](Row, std::uint32_t) {});
        LORACLE_CHECK(back == Admission::kInserted);
        in_use.push_back(victim);
      }
    }
    for (const Row held : in_use) tier_.let_go(held);
    return admission;
  }

  std::unique_ptr<AdapterTable> table_;  // the tier points at it
  Tier<AnyPolicy> tier_;
  std::uint64_t tick_ = 0;
  std::uint64_t evictions_ = 0;
  std::vector<std::string> keys_;                   // [rows] also of the departed; empty: never used
  std::vector<std::uint64_t> left_at_;              // [rows] number of its departure; 0: not departed
  std::vector<Row> free_;                           // never used, or without a key worth keeping
  std::deque<std::pair<Row, std::uint64_t>> left_;  // departed, oldest first; stale where left_at_ differs
  std::uint64_t departures_ = 0;
  std::unordered_map<std::string, Row> published_;
  std::unordered_map<std::string, Row> departed_;
};

/// The capacity of a cache: `max_items` 0 is `entries_max`, and no number is above that.
[[nodiscard]] Capacity cache_capacity(Bytes max_size, std::uint64_t max_items, std::uint64_t entries_max);

/// What a caller is told of a row that was not reserved.
[[nodiscard]] tl::unexpected<Error> no_room(std::string_view cache, const std::string& key, Bytes size,
                                            const Capacity& capacity, Admission why);

}  // namespace loracle
