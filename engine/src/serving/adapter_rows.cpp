#include "serving/adapter_rows.hpp"

#include <utility>

#include "loracle/core/check.hpp"

namespace loracle {

void AdapterRows::set_untold_aside(Row row) {
  const std::size_t i = index_of(row);
  if (uses_[i] > told_[i]) untold_[name_[i]] += uses_[i] - told_[i];
  told_[i] = uses_[i];
}

void AdapterRows::describe(std::string_view name, const AdapterSource& source) {
  const auto known = known_.find(name);
  LORACLE_CHECK(known != known_.end());
  known->second = source;
  ++changes_;
  if (const Row row = row_of(name); row != kNoRow) source_[index_of(row)] = source;
}

std::map<std::string, std::uint64_t, std::less<>> AdapterRows::take_uses() {
  for (const auto& [name, row] : by_name_) set_untold_aside(row);
  return std::exchange(untold_, {});
}

void AdapterRows::put_back_uses(const std::map<std::string, std::uint64_t, std::less<>>& uses) {
  for (const auto& [name, count] : uses) untold_[name] += count;
}

void AdapterRows::detach(Row row) {
  set_untold_aside(row);
  by_name_.erase(by_name_.find(name_[index_of(row)]));
  live_[index_of(row)] = 0;
}

std::optional<Row> AdapterRows::know(std::string_view name, AdapterSource source) {
  std::optional<Row> old;
  if (const Row row = row_of(name); row != kNoRow) {
    old = row;
    detach(row);
  }
  known_.insert_or_assign(std::string(name), std::move(source));
  ++changes_;
  return old;
}

std::optional<Row> AdapterRows::forget(std::string_view name) {
  std::optional<Row> old;
  if (const Row row = row_of(name); row != kNoRow) {
    old = row;
    detach(row);
  }
  if (const auto found = known_.find(name); found != known_.end()) known_.erase(found);
  ++changes_;
  return old;
}

const AdapterSource* AdapterRows::find(std::string_view name) const {
  const auto found = known_.find(name);
  return found == known_.end() ? nullptr : &found->second;
}

Row AdapterRows::assign(std::string_view name, const std::function<bool(Row)>& idle) {
  const auto known = known_.find(name);
  LORACLE_CHECK(known != known_.end());
  Row row = kNoRow;
  if (next_ < rows_max()) {
    row = Row{next_++};
  } else if (!free_.empty()) {
    row = free_.back();
    free_.pop_back();
  } else {
    for (std::uint32_t tried = 0; tried < rows_max() && row == kNoRow; ++tried) {
      const Row candidate{hand_};
      hand_ = hand_ + 1 == rows_max() ? 0 : hand_ + 1;
      if (live_[index_of(candidate)] == 0 || !idle(candidate)) continue;
      detach(candidate);
      row = candidate;
    }
    if (row == kNoRow) return kNoRow;
  }
  const std::size_t i = index_of(row);
  source_[i] = known->second;
  name_[i] = known->first;
  live_[i] = 1;
  uses_[i] = 0;
  told_[i] = 0;
  table_.size[i] = Bytes{known->second.bytes};
  by_name_.emplace(known->first, row);
  return row;
}

void AdapterRows::recycle(Row row) {
  LORACLE_CHECK(live_[index_of(row)] == 0);
  set_untold_aside(row);  // leases that began before it lost its name
  free_.push_back(row);
}

}  // namespace loracle
