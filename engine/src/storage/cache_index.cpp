#include "storage/cache_index.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "loracle/policy/all_policies.hpp"

namespace loracle {
namespace {

/// Rows for the residents, and as many again and again for those that a policy remembers.
constexpr std::uint64_t kRowsPerEntry = 4;
constexpr std::uint64_t kRowsSpare = 64;

}  // namespace

CacheIndex::CacheIndex(std::uint32_t rows, Capacity capacity, AnyPolicy policy)
    : table_(std::make_unique<AdapterTable>()),
      tier_(rows, capacity, std::move(policy), *table_),
      keys_(rows),
      left_at_(rows, 0) {
  table_->size.assign(rows, Bytes{});
  free_.reserve(rows);
  for (std::uint32_t row = rows; row > 0; --row) free_.push_back(Row{row - 1});
}

Result<CacheIndex> CacheIndex::make(const std::string& policy, Capacity capacity) {
  if (capacity.bytes.value == 0)
    return fail(Errc::kInvalid, "max_size_bytes: a cache of 0 bytes holds nothing: raise it");
  Result<PolicySpec> spec = parse_policy_spec(policy);
  if (!spec) return fail(std::move(spec.error()));
  if (is_clairvoyant(*spec)) {
    return fail(Errc::kInvalid,
                fmt::format("policy {}: it must know the future, which only a replay does: use lru, s3fifo "
                            "or gdsf",
                            policy));
  }
  const auto rows = static_cast<std::uint32_t>(capacity.entries * kRowsPerEntry + kRowsSpare);
  Result<AnyPolicy> made = make_any_policy(*spec, rows, capacity);
  if (!made) return fail(std::move(made.error()));
  return CacheIndex(rows, capacity, std::move(*made));
}

void CacheIndex::add_to(CacheStats& stats) const noexcept {
  stats.entries = tier_.used().entries;
  stats.entries_max = tier_.capacity().entries;
  stats.bytes = tier_.used().bytes.value;
  stats.bytes_max = tier_.capacity().bytes.value;
  stats.evictions = evictions_;
}

Row CacheIndex::find(const std::string& key) const {
  const auto found = published_.find(key);
  return found == published_.end() || !tier_.contains(found->second) ? kNoRow : found->second;
}

Row CacheIndex::take_row(const std::string& key, Bytes size) {
  Row row = kNoRow;
  if (const auto known = departed_.find(key); known != departed_.end()) {
    row = known->second;
  } else if (!free_.empty()) {
    row = free_.back();
    free_.pop_back();
  } else {
    // Every row is in the tier or departed, and the tier has room for few of them.
    while (left_at_[index_of(left_.front().first)] != left_.front().second) left_.pop_front();
    row = left_.front().first;
    left_.pop_front();
  }
  if (left_at_[index_of(row)] != 0) {
    departed_.erase(keys_[index_of(row)]);
    left_at_[index_of(row)] = 0;
  }
  keys_[index_of(row)] = key;
  table_->size[index_of(row)] = size;
  return row;
}

Row CacheIndex::publish(Row row) {
  LORACLE_CHECK(tier_.contains(row));
  const auto [place, is_new] = published_.try_emplace(keys_[index_of(row)], row);
  return is_new ? kNoRow : std::exchange(place->second, row);
}

void CacheIndex::hide(Row row) {
  const auto found = published_.find(keys_[index_of(row)]);
  if (found != published_.end() && found->second == row) published_.erase(found);
}

void CacheIndex::forget(Row row) {
  hide(row);
  const std::string& key = keys_[index_of(row)];
  if (key.empty()) {
    free_.push_back(row);
    return;
  }
  if (!departed_.try_emplace(key, row).second || published_.contains(key)) {
    if (const auto other = departed_.find(key); other->second == row) departed_.erase(other);
    free_.push_back(row);
    return;
  }
  left_at_[index_of(row)] = ++departures_;
  left_.emplace_back(row, departures_);
  // Stale places pile up where few keys come and go for long.
  if (left_.size() > 2 * keys_.size())
    std::erase_if(left_, [&](const auto& place) { return left_at_[index_of(place.first)] != place.second; });
}

Capacity cache_capacity(Bytes max_size, std::uint64_t max_items, std::uint64_t entries_max) {
  return {max_items == 0 ? entries_max : std::min(max_items, entries_max), max_size};
}

tl::unexpected<Error> no_room(std::string_view cache, const std::string& key, Bytes size,
                              const Capacity& capacity, Admission why) {
  if (why == Admission::kTooLarge) {
    return fail(Errc::kTooLarge, fmt::format("{}: '{}' needs {} bytes, the whole cache has {}: raise "
                                             "max_size_bytes",
                                             cache, key, size.value, capacity.bytes.value));
  }
  return fail(
      Errc::kAllPinned,
      fmt::format("{}: no room for the {} bytes of '{}': too much of its {} bytes and {} entries is in "
                  "use: wait, or raise max_size_bytes or max_items",
                  cache, size.value, key, capacity.bytes.value, capacity.entries));
}

}  // namespace loracle
