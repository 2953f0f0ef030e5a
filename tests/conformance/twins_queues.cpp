// Twins of the policies that are made of several queues and of ghosts, rows that left and are remembered.

#include <map>
#include <set>

#include "conformance/twin.hpp"

namespace loracle::testing {
namespace {

std::uint64_t clamped(std::uint64_t value, std::uint64_t least, std::uint64_t most) {
  return std::min(std::max(value, least), most);
}

class TwoQTwin final : public Twin {
 public:
  explicit TwoQTwin(const TwinSetup& setup)
      : scale_(setup.capacity),
        in_max_(clamped(scale_.share(setup.parameter("in", 0.25)), 1, scale_.total)),
        out_max_(scale_.share(setup.parameter("out", 0.5))) {}
  bool contains(Row row) const override { return in_.has(row) || main_.has(row); }
  bool admit(Row row, Tick, const AdapterTable& table) override {
    table_ = &table;
    returning_ = out_.has(row) ? row : kNoRow;
    out_.take(row);
    return true;
  }
  void on_insert(Row row, Tick, const AdapterTable&) override { (returning_ == row ? main_ : in_).push(row); }
  void on_access(Row row, Tick, const AdapterTable&) override {
    if (!main_.has(row)) return;
    main_.take(row);
    main_.push(row);
  }
  void on_remove(Row row) override {
    in_.take(row);
    main_.take(row);
  }
  Row evict(const Plea&, const AdapterTable& table, const Held& held) override {
    const bool in_first = scale_.of(in_, table) > in_max_;
    Row victim = (in_first ? in_ : main_).oldest_free(held);
    if (victim == kNoRow) victim = (in_first ? main_ : in_).oldest_free(held);
    if (victim == kNoRow) return kNoRow;
    if (in_.has(victim)) {
      out_.push(victim);
      while (scale_.of(out_, table) > out_max_) out_.take_oldest();
    }
    in_.take(victim);
    main_.take(victim);
    return victim;
  }
  Row shed(const Held& held) override {
    if (table_ == nullptr || scale_.of(main_, *table_) <= scale_.total - in_max_) return kNoRow;
    const Row victim = main_.oldest_free(held);
    main_.take(victim);
    return victim;
  }

 private:
  Scale scale_;
  std::uint64_t in_max_;
  std::uint64_t out_max_;
  Queue in_;
  Queue out_;
  Queue main_;
  Row returning_ = kNoRow;
  const AdapterTable* table_ = nullptr;
};

class ArcTwin final : public Twin {
 public:
  explicit ArcTwin(const TwinSetup& setup) : scale_(setup.capacity), c_(static_cast<double>(scale_.total)) {}
  bool contains(Row row) const override { return t1_.has(row) || t2_.has(row); }
  bool admit(Row row, Tick, const AdapterTable& table) override {
    const auto b1 = static_cast<double>(scale_.of(b1_, table));
    const auto b2 = static_cast<double>(scale_.of(b2_, table));
    from_b1_ = b1_.has(row);
    from_b2_ = b2_.has(row);
    if (from_b1_) p_ = std::min(c_, p_ + std::max(1.0, b2 / b1));
    if (from_b2_) p_ = std::max(0.0, p_ - std::max(1.0, b1 / b2));
    b1_.take(row);
    b2_.take(row);
    return true;
  }
  void on_insert(Row row, Tick, const AdapterTable&) override {
    (from_b1_ || from_b2_ ? t2_ : t1_).push(row);
  }
  void on_access(Row row, Tick, const AdapterTable&) override {
    on_remove(row);
    t2_.push(row);
  }
  void on_remove(Row row) override {
    t1_.take(row);
    t2_.take(row);
  }
  Row evict(const Plea& plea, const AdapterTable& table, const Held& held) override {
    const auto weight = [&](const Queue& queue) { return scale_.of(queue, table); };
    if (!from_b1_ && !from_b2_) {
      const std::uint64_t w = scale_.of(plea.incoming, table);
      if (weight(t1_) + weight(b1_) + w > scale_.total) {
        while (!b1_.empty() && weight(t1_) + weight(b1_) + w > scale_.total) b1_.take_oldest();
        if (weight(t1_) + w > scale_.total) {
          const Row victim = t1_.oldest_free(held);
          if (victim != kNoRow) {
            t1_.take(victim);
            return victim;
          }
        }
      } else {
        while (!b2_.empty() && weight(t1_) + weight(t2_) + weight(b1_) + weight(b2_) + w > 2 * scale_.total)
          b2_.take_oldest();
      }
    }
    const auto t1 = static_cast<double>(weight(t1_));
    const bool t1_first = t1 > p_ || (t1 == p_ && from_b2_);
    Row victim = (t1_first ? t1_ : t2_).oldest_free(held);
    if (victim == kNoRow) victim = (t1_first ? t2_ : t1_).oldest_free(held);
    if (victim == kNoRow) return kNoRow;
    (t1_.has(victim) ? b1_ : b2_).push(victim);
    on_remove(victim);
    return victim;
  }

 private:
  Scale scale_;
  double c_;
  double p_ = 0;
  Queue t1_, t2_, b1_, b2_;
  bool from_b1_ = false;
  bool from_b2_ = false;
};

class CarTwin final : public Twin {
 public:
  explicit CarTwin(const TwinSetup& setup) : scale_(setup.capacity) {}
  bool contains(Row row) const override { return t1_.has(row) || t2_.has(row); }
  bool admit(Row row, Tick, const AdapterTable& table) override {
    const std::uint64_t b1 = scale_.of(b1_, table);
    const std::uint64_t b2 = scale_.of(b2_, table);
    was_ghost_ = b1_.has(row) || b2_.has(row);
    if (b1_.has(row)) p_ = std::min(scale_.total, p_ + std::max<std::uint64_t>(1, b2 / b1));
    if (b2_.has(row)) p_ -= std::min(p_, std::max<std::uint64_t>(1, b1 / b2));
    b1_.take(row);
    b2_.take(row);
    return true;
  }
  void on_insert(Row row, Tick, const AdapterTable&) override { (was_ghost_ ? t2_ : t1_).push(row); }
  void on_access(Row row, Tick, const AdapterTable&) override { marked_.insert(row); }
  void on_remove(Row row) override {
    t1_.take(row);
    t2_.take(row);
    marked_.erase(row);
  }
  Row evict(const Plea&, const AdapterTable& table, const Held& held) override {
    Row victim = kNoRow;
    while (victim == kNoRow) {
      bool from_t1 = scale_.of(t1_, table) >= std::max<std::uint64_t>(1, p_);
      if ((from_t1 ? t1_ : t2_).oldest_free(held) == kNoRow) from_t1 = !from_t1;
      Queue& clock = from_t1 ? t1_ : t2_;
      const Row row = clock.oldest_free(held);
      if (row == kNoRow) return kNoRow;
      clock.take(row);
      if (marked_.erase(row) != 0) {
        t2_.push(row);
        continue;
      }
      victim = row;
      (from_t1 ? b1_ : b2_).push(row);
    }
    if (scale_.of(t1_, table) + scale_.of(b1_, table) >= scale_.total && !b1_.empty()) b1_.take_oldest();
    return victim;
  }

 private:
  Scale scale_;
  std::uint64_t p_ = 0;
  Queue t1_, t2_, b1_, b2_;
  std::set<Row> marked_;
  bool was_ghost_ = false;
};

class LirsTwin final : public Twin {
 public:
  explicit LirsTwin(const TwinSetup& setup)
      : scale_(setup.capacity),
        hir_max_(clamped(scale_.share(setup.parameter("hir", 0.01)), 1, scale_.total)) {}
  bool contains(Row row) const override { return lir_.contains(row) || q_.has(row); }
  void on_insert(Row row, Tick, const AdapterTable& table) override {
    const bool remembered = s_.has(row);
    s_.take(row);
    gone_.take(row);
    s_.push(row);
    if (remembered || lir_weight(table) + scale_.of(row, table) <= lir_max()) {
      lir_.insert(row);
      settle(table);
    } else {
      q_.push(row);
    }
    bound(table);
  }
  void on_access(Row row, Tick, const AdapterTable& table) override {
    table_ = &table;
    const bool in_stack = s_.has(row);
    s_.take(row);
    s_.push(row);
    if (!lir_.contains(row)) {
      q_.take(row);
      if (in_stack) {
        lir_.insert(row);
      } else {
        q_.push(row);
        const Row lowest = lowest_lir();
        if (lowest != kNoRow && lir_weight(table) >= lir_max() &&
            scale_.of(q_, table) + scale_.of(lowest, table) <= hir_max_)
          demote(lowest);
      }
    }
    settle(table);
    bound(table);
  }
  void on_remove(Row row) override {
    lir_.erase(row);
    q_.take(row);
    s_.take(row);
    prune();
  }
  Row evict(const Plea&, const AdapterTable&, const Held& held) override {
    Row victim = q_.oldest_free(held);
    if (victim == kNoRow) {
      for (auto it = s_.rows.rbegin(); it != s_.rows.rend() && victim == kNoRow; ++it)
        if (lir_.contains(*it) && !held(*it)) victim = *it;
      lir_.erase(victim);
      s_.take(victim);
      prune();
      return victim;
    }
    q_.take(victim);
    if (s_.has(victim)) gone_.push(victim);
    return victim;
  }
  Row shed(const Held& held) override {
    if (table_ == nullptr || scale_.of(q_, *table_) <= hir_max_ || q_.rows.size() == 1) return kNoRow;
    const Row victim = q_.oldest_free(held);
    if (victim == kNoRow) return kNoRow;
    q_.take(victim);
    if (s_.has(victim)) gone_.push(victim);
    return victim;
  }

 private:
  [[nodiscard]] std::uint64_t lir_max() const { return scale_.total - hir_max_; }
  [[nodiscard]] std::uint64_t lir_weight(const AdapterTable& table) const {
    std::uint64_t sum = 0;
    for (const Row row : lir_) sum += scale_.of(row, table);
    return sum;
  }
  [[nodiscard]] Row lowest_lir() const {
    for (auto it = s_.rows.rbegin(); it != s_.rows.rend(); ++it)
      if (lir_.contains(*it)) return *it;
    return kNoRow;
  }
  void demote(Row row) {
    lir_.erase(row);
    q_.push(row);
    prune();
  }
  void settle(const AdapterTable& table) {
    table_ = &table;
    while (lir_weight(table) > lir_max()) demote(lowest_lir());
    prune();
  }
  void prune() {
    while (!s_.empty() && !lir_.contains(s_.oldest())) {
      gone_.take(s_.oldest());
      s_.take_oldest();
    }
  }
  void bound(const AdapterTable& table) {
    while (scale_.of(s_, table) > 2 * scale_.total && !gone_.empty()) s_.take(gone_.take_oldest());
  }

  Scale scale_;
  std::uint64_t hir_max_;
  Queue s_;  // by last use, newest first; a row of it is LIR, in Q, or gone
  Queue q_;
  Queue gone_;  // by when they went
  std::set<Row> lir_;
  const AdapterTable* table_ = nullptr;
};

class S3FifoTwin final : public Twin {
 public:
  explicit S3FifoTwin(const TwinSetup& setup)
      : scale_(setup.capacity),
        small_max_(clamped(scale_.share(setup.parameter("small", 0.1)), 1, scale_.total)),
        ghost_max_(scale_.share(setup.parameter("ghost", 0.9))),
        threshold_(static_cast<std::uint64_t>(setup.parameter("threshold", 2))) {}
  bool contains(Row row) const override { return small_.has(row) || main_.has(row); }
  bool admit(Row row, Tick, const AdapterTable&) override {
    was_ghost_ = ghost_.has(row);
    ghost_.take(row);
    return true;
  }
  void on_insert(Row row, Tick, const AdapterTable& table) override {
    const std::uint64_t weight = scale_.of(row, table);
    const bool small_is_full = !evicted_yet_ && scale_.of(small_, table) + weight > small_max_;
    (was_ghost_ || small_is_full || weight > small_max_ ? main_ : small_).push(row);
    hits_[row] = 0;
  }
  void on_access(Row row, Tick, const AdapterTable&) override {
    hits_[row] = std::min(hits_[row] + 1, std::max<std::uint64_t>(3, threshold_));
  }
  void on_remove(Row row) override {
    small_.take(row);
    main_.take(row);
  }
  Row evict(const Plea&, const AdapterTable& table, const Held& held) override {
    evicted_yet_ = true;
    const bool main_first = scale_.of(main_, table) > scale_.total - small_max_ || small_.empty();
    Row victim = main_first ? from_main(held) : from_small(table, held);
    if (victim == kNoRow) victim = main_first ? from_small(table, held) : from_main(held);
    return victim;
  }

 private:
  Row from_main(const Held& held) {
    for (;;) {
      const Row row = main_.oldest_free(held);
      main_.take(row);
      if (row == kNoRow || hits_[row] == 0) return row;
      hits_[row] = std::min<std::uint64_t>(hits_[row], 3) - 1;
      main_.push(row);
    }
  }
  Row from_small(const AdapterTable& table, const Held& held) {
    for (;;) {
      const Row row = small_.oldest_free(held);
      small_.take(row);
      if (row == kNoRow) return row;
      if (hits_[row] < threshold_) {
        ghost_.push(row);
        while (scale_.of(ghost_, table) > ghost_max_) ghost_.take_oldest();
        return row;
      }
      hits_[row] = 0;
      main_.push(row);
    }
  }

  Scale scale_;
  std::uint64_t small_max_;
  std::uint64_t ghost_max_;
  std::uint64_t threshold_;
  Queue small_, main_, ghost_;
  std::map<Row, std::uint64_t> hits_;
  bool was_ghost_ = false;
  bool evicted_yet_ = false;
};

class WTinyLfuTwin final : public Twin {
 public:
  explicit WTinyLfuTwin(const TwinSetup& setup)
      : scale_(setup.capacity),
        window_max_(clamped(scale_.share(setup.parameter("window", 0.01)), 1, scale_.total)),
        main_max_(scale_.total - window_max_),
        protected_max_(
            static_cast<std::uint64_t>(static_cast<double>(main_max_) * setup.parameter("protected", 0.8))),
        sample_(static_cast<std::uint64_t>(setup.parameter("sample", 10))) {}
  bool contains(Row row) const override {
    return window_.has(row) || probation_.has(row) || protected_.has(row);
  }
  bool admit(Row row, Tick, const AdapterTable&) override {
    count(row);
    return true;
  }
  void on_insert(Row row, Tick, const AdapterTable& table) override {
    window_.push(row);
    while (scale_.of(window_, table) > window_max_) {
      const Row oldest = window_.oldest();
      if (main_weight(table) + scale_.of(oldest, table) > main_max_) break;
      window_.take(oldest);
      probation_.push(oldest);
    }
  }
  void on_access(Row row, Tick, const AdapterTable& table) override {
    count(row);
    if (window_.has(row)) {
      window_.take(row);
      window_.push(row);
      return;
    }
    probation_.take(row);
    protected_.take(row);
    protected_.push(row);
    while (scale_.of(protected_, table) > protected_max_) probation_.push(protected_.take_oldest());
  }
  void on_remove(Row row) override {
    window_.take(row);
    probation_.take(row);
    protected_.take(row);
  }
  Row evict(const Plea& plea, const AdapterTable& table, const Held& held) override {
    const Row candidate = window_.oldest_free(held);
    Row resident = probation_.oldest_free(held);
    if (resident == kNoRow) resident = protected_.oldest_free(held);
    Row victim = resident;
    if (scale_.of(window_, table) + scale_.of(plea.incoming, table) > window_max_ && candidate != kNoRow) {
      if (resident == kNoRow || uses_[candidate] <= uses_[resident]) {
        victim = candidate;
      } else {
        window_.take(candidate);
        probation_.push(candidate);
      }
    }
    if (victim == kNoRow) victim = candidate;
    on_remove(victim);
    return victim;
  }

 private:
  [[nodiscard]] std::uint64_t main_weight(const AdapterTable& table) const {
    return scale_.of(probation_, table) + scale_.of(protected_, table);
  }
  void count(Row row) {
    const std::uint64_t residents = window_.rows.size() + probation_.rows.size() + protected_.rows.size();
    if (++since_halving_ >= sample_ * std::max<std::uint64_t>(residents, 1)) {
      since_halving_ = 0;
      for (auto& [counted, uses] : uses_) uses /= 2;
    }
    uses_[row] = std::min<std::uint64_t>(uses_[row] + 1, 255);
  }

  Scale scale_;
  std::uint64_t window_max_;
  std::uint64_t main_max_;
  std::uint64_t protected_max_;
  std::uint64_t sample_;
  std::uint64_t since_halving_ = 0;
  Queue window_, probation_, protected_;
  std::map<Row, std::uint64_t> uses_;
};

}  // namespace

std::unique_ptr<Twin> make_queue_twin(const TwinSetup& setup) {
  if (setup.name() == "2q") return std::make_unique<TwoQTwin>(setup);
  if (setup.name() == "arc") return std::make_unique<ArcTwin>(setup);
  if (setup.name() == "car") return std::make_unique<CarTwin>(setup);
  if (setup.name() == "lirs") return std::make_unique<LirsTwin>(setup);
  if (setup.name() == "s3fifo") return std::make_unique<S3FifoTwin>(setup);
  if (setup.name() == "wtinylfu") return std::make_unique<WTinyLfuTwin>(setup);
  return nullptr;
}

}  // namespace loracle::testing
