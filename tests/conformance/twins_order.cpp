// Twins of the policies that look at the order of arrivals and uses alone.

#include <set>

#include "conformance/twin.hpp"

namespace loracle::testing {
namespace {

class LruTwin final : public Twin {
 public:
  bool contains(Row row) const override { return queue_.has(row); }
  void on_insert(Row row, Tick, const AdapterTable&) override { queue_.push(row); }
  void on_access(Row row, Tick, const AdapterTable&) override {
    queue_.take(row);
    queue_.push(row);
  }
  void on_remove(Row row) override { queue_.take(row); }
  Row evict(const Plea&, const AdapterTable&, const Held& held) override {
    const Row victim = queue_.oldest_free(held);
    queue_.take(victim);
    return victim;
  }

 private:
  Queue queue_;
};

class FifoTwin final : public Twin {
 public:
  bool contains(Row row) const override { return queue_.has(row); }
  void on_insert(Row row, Tick, const AdapterTable&) override { queue_.push(row); }
  void on_access(Row, Tick, const AdapterTable&) override {}
  void on_remove(Row row) override { queue_.take(row); }
  Row evict(const Plea&, const AdapterTable&, const Held& held) override {
    const Row victim = queue_.oldest_free(held);
    queue_.take(victim);
    return victim;
  }

 private:
  Queue queue_;
};

class ClockTwin final : public Twin {
 public:
  bool contains(Row row) const override { return queue_.has(row); }
  void on_insert(Row row, Tick, const AdapterTable&) override { queue_.push(row); }
  void on_access(Row row, Tick, const AdapterTable&) override { marked_.insert(row); }
  void on_remove(Row row) override {
    queue_.take(row);
    marked_.erase(row);
  }
  Row evict(const Plea&, const AdapterTable&, const Held& held) override {
    if (queue_.oldest_free(held) == kNoRow) return kNoRow;
    for (;;) {
      const Row row = queue_.take_oldest();
      if (!held(row) && !marked_.contains(row)) return row;
      if (!held(row)) marked_.erase(row);
      queue_.push(row);
    }
  }

 private:
  Queue queue_;
  std::set<Row> marked_;
};

class SieveTwin final : public Twin {
 public:
  bool contains(Row row) const override { return std::find(rows_.begin(), rows_.end(), row) != rows_.end(); }
  void on_insert(Row row, Tick, const AdapterTable&) override { rows_.push_back(row); }
  void on_access(Row row, Tick, const AdapterTable&) override { marked_.insert(row); }
  void on_remove(Row row) override { take(row); }
  Row evict(const Plea&, const AdapterTable&, const Held& held) override {
    if (std::all_of(rows_.begin(), rows_.end(), held)) return kNoRow;
    for (;; hand_ = (hand_ + 1) % rows_.size()) {
      const Row row = rows_[hand_];
      if (held(row)) continue;
      if (!marked_.contains(row)) {
        take(row);
        return row;
      }
      marked_.erase(row);
    }
  }

 private:
  void take(Row row) {
    const auto at = static_cast<std::size_t>(std::find(rows_.begin(), rows_.end(), row) - rows_.begin());
    rows_.erase(rows_.begin() + static_cast<std::ptrdiff_t>(at));
    marked_.erase(row);
    if (at < hand_) --hand_;
    if (hand_ >= rows_.size()) hand_ = 0;
  }

  std::vector<Row> rows_;  // oldest first
  std::size_t hand_ = 0;
  std::set<Row> marked_;
};

class SlruTwin final : public Twin {
 public:
  explicit SlruTwin(const TwinSetup& setup) : scale_(setup.capacity) {
    const auto wanted = static_cast<std::uint64_t>(setup.parameter("segments", 4));
    segments_.resize(std::min(wanted, scale_.total));
    share_ = scale_.total / segments_.size();
  }
  bool contains(Row row) const override {
    return std::any_of(segments_.begin(), segments_.end(),
                       [&](const Queue& queue) { return queue.has(row); });
  }
  void on_insert(Row row, Tick, const AdapterTable& table) override {
    for (Queue& segment : segments_) {
      if (scale_.of(segment, table) + scale_.of(row, table) > share_) continue;
      segment.push(row);
      return;
    }
    segments_[0].push(row);
  }
  void on_access(Row row, Tick, const AdapterTable& table) override {
    std::size_t at = 0;
    while (!segments_[at].has(row)) ++at;
    segments_[at].take(row);
    at = std::min(at + 1, segments_.size() - 1);
    segments_[at].push(row);
    bool pushed_on_lowest = false;
    for (; at > 0; --at) {
      while (scale_.of(segments_[at], table) > share_) {
        segments_[at - 1].push(segments_[at].take_oldest());
        pushed_on_lowest = pushed_on_lowest || at == 1;
      }
    }
    if (pushed_on_lowest) surplus_ = true;
    table_ = &table;
  }
  void on_remove(Row row) override {
    for (Queue& segment : segments_) segment.take(row);
  }
  Row evict(const Plea&, const AdapterTable&, const Held& held) override {
    for (Queue& segment : segments_) {
      const Row victim = segment.oldest_free(held);
      if (victim == kNoRow) continue;
      segment.take(victim);
      return victim;
    }
    return kNoRow;
  }
  Row shed(const Held& held) override {
    Queue& lowest = segments_[0];
    const Row victim = lowest.oldest_free(held);
    surplus_ =
        surplus_ && victim != kNoRow && scale_.of(lowest, *table_) > share_ && victim != lowest.rows.front();
    if (!surplus_) return kNoRow;
    lowest.take(victim);
    return victim;
  }

 private:
  Scale scale_;
  std::uint64_t share_ = 0;
  std::vector<Queue> segments_;  // the lowest first
  bool surplus_ = false;
  const AdapterTable* table_ = nullptr;
};

class SizeTwin final : public Twin {
 public:
  bool contains(Row row) const override { return queue_.has(row); }
  void on_insert(Row row, Tick, const AdapterTable&) override { queue_.push(row); }
  void on_access(Row row, Tick, const AdapterTable&) override {
    queue_.take(row);
    queue_.push(row);
  }
  void on_remove(Row row) override { queue_.take(row); }
  Row evict(const Plea&, const AdapterTable& table, const Held& held) override {
    Row victim = kNoRow;
    for (const Row row : queue_.rows)  // newest first, so that among equals the oldest is left standing
      if (!held(row) && (victim == kNoRow || table.size_of(row) >= table.size_of(victim))) victim = row;
    queue_.take(victim);
    return victim;
  }

 private:
  Queue queue_;
};

class RandomTwin final : public Twin {
 public:
  bool contains(Row row) const override { return rows_.contains(row); }
  void on_insert(Row row, Tick, const AdapterTable&) override { rows_.insert(row); }
  void on_access(Row, Tick, const AdapterTable&) override {}
  void on_remove(Row row) override { rows_.erase(row); }
  Row evict(const Plea& plea, const AdapterTable&, const Held& held) override {
    if (std::all_of(rows_.begin(), rows_.end(), held)) return kNoRow;
    if (!rows_.contains(plea.answer) || held(plea.answer))
      return *std::find_if_not(rows_.begin(), rows_.end(), held);
    rows_.erase(plea.answer);
    return plea.answer;
  }

 private:
  std::set<Row> rows_;
};

}  // namespace

double TwinSetup::parameter(const std::string& key, double fallback) const {
  const std::size_t at = policy.find(":" + key + "=");
  return at == std::string::npos ? fallback : std::stod(policy.substr(at + key.size() + 2));
}

std::unique_ptr<Twin> make_order_twin(const TwinSetup& setup) {
  if (setup.name() == "lru") return std::make_unique<LruTwin>();
  if (setup.name() == "fifo") return std::make_unique<FifoTwin>();
  if (setup.name() == "clock") return std::make_unique<ClockTwin>();
  if (setup.name() == "sieve") return std::make_unique<SieveTwin>();
  if (setup.name() == "slru") return std::make_unique<SlruTwin>(setup);
  if (setup.name() == "size") return std::make_unique<SizeTwin>();
  if (setup.name() == "random") return std::make_unique<RandomTwin>();
  return nullptr;
}

}  // namespace loracle::testing
