// Twins of the policies that are made of several queues and of ghosts, rows that left and are remembered.

#include <map>
#include <set>

#include "conformance/twin.hpp"

namespace loracle::testing {
namespace {

std::uint64_t clamped(std::uint64_t value, std::uint64_t least, std::uint64_t most) {
  return std::min(std::max(value, least), most);
}

/// Puts a row into a list of ghosts, whose oldest make room; not a row larger than the whole list.
void remember(Queue& ghosts, Row row, std::uint64_t weight_max, const Scale& scale,
              const AdapterTable& table) {
  if (scale.of(row, table) > weight_max) return;
  ghosts.push(row);
  while (scale.of(ghosts, table) > weight_max) ghosts.take_oldest();
}

class TwoQTwin final : public Twin {
 public:
  explicit TwoQTwin(const TwinSetup& setup)
      : scale_(setup.capacity),
        in_max_(clamped(scale_.share(setup.parameter("in", 0.25)), 1, scale_.total)),
        out_max_(scale_.share(setup.parameter("out", 0.5))) {}
  bool contains(Row row) const override { return in_.has(row) || main_.has(row); }
  bool admit(Row row, Tick, const AdapterTable&) override {
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
    if (in_.has(victim)) remember(out_, victim, out_max_, scale_, table);
    in_.take(victim);
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
        const Row victim = b1_.empty() ? t1_.oldest_free(held) : kNoRow;
        if (!b1_.empty()) b1_.take_oldest();
        t1_.take(victim);
        if (victim != kNoRow) return victim;
      } else if (!b2_.empty() && weight(t1_) + weight(t2_) + weight(b1_) + weight(b2_) >= 2 * scale_.total) {
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
        hir_max_(clamped(scale_.share(setup.parameter("hir", 0.01)), 1, scale_.total)),
        lir_max_(scale_.total - hir_max_) {}
  bool contains(Row row) const override { return lir_.contains(row) || q_.has(row); }
  bool admit(Row row, Tick, const AdapterTable&) override {
    if (gone_.has(row)) to_top(row);
    return true;
  }
  void on_insert(Row row, Tick, const AdapterTable& table) override {
    last_used_ = row;
    const std::uint64_t weight = scale_.of(row, table);
    const bool lir = gone_.has(row) ? weight <= lir_max_ : lir_weight(table) + weight <= lir_max_;
    gone_.take(row);
    to_top(row);
    if (lir)
      lir_.insert(row);
    else
      q_.push(row);
    demote_to(lir_max_, table);
    bound(table);
  }
  void on_access(Row row, Tick, const AdapterTable& table) override {
    last_used_ = row;
    table_ = &table;
    const std::uint64_t weight = scale_.of(row, table);
    if (lir_.contains(row)) {
      to_top(row);
      prune();
    } else if (s_.has(row)) {
      to_top(row);
      q_.take(row);
      if (weight <= lir_max_)
        lir_.insert(row);
      else
        q_.push(row);
      demote_to(lir_max_, table);
    } else {
      q_.take(row);
      q_.push(row);
      const bool both_fit = !s_.empty() && weight + scale_.of(s_.oldest(), table) <= hir_max_;
      if (both_fit && weight <= lir_max_) demote_to(lir_max_ - weight, table);
      to_top(row);
    }
    bound(table);
  }
  void on_remove(Row row) override {
    lir_.erase(row);
    q_.take(row);
    s_.take(row);
    prune();
  }
  Row evict(const Plea& plea, const AdapterTable& table, const Held& held) override {
    const std::uint64_t weight = scale_.of(plea.incoming, table);
    if (gone_.has(plea.incoming) && weight <= lir_max_) demote_to(lir_max_ - weight, table);
    Row victim = q_.oldest_free(held);
    if (victim != kNoRow) {
      leave(victim);
      return victim;
    }
    for (auto it = s_.rows.rbegin(); it != s_.rows.rend() && victim == kNoRow; ++it)
      if (lir_.contains(*it) && !held(*it)) victim = *it;
    if (victim != kNoRow) on_remove(victim);
    return victim;
  }
  Row shed(const Held& held) override {
    if (table_ == nullptr || scale_.of(q_, *table_) <= hir_max_) return kNoRow;
    const Row victim = q_.oldest_free(held);
    if (victim == kNoRow || victim == last_used_) return kNoRow;
    leave(victim);
    return victim;
  }

 private:
  [[nodiscard]] std::uint64_t lir_weight(const AdapterTable& table) const {
    std::uint64_t sum = 0;
    for (const Row row : lir_) sum += scale_.of(row, table);
    return sum;
  }
  void to_top(Row row) {
    s_.take(row);
    s_.push(row);
  }
  void leave(Row row) {
    q_.take(row);
    if (s_.has(row)) gone_.push(row);
  }
  void demote_to(std::uint64_t limit, const AdapterTable& table) {
    table_ = &table;
    prune();
    while (lir_weight(table) > limit) {
      const Row lowest = s_.take_oldest();
      lir_.erase(lowest);
      q_.push(lowest);
      prune();
    }
  }
  void prune() {
    while (s_.rows.size() > 1 && !lir_.contains(s_.oldest())) gone_.take(s_.take_oldest());
  }
  void bound(const AdapterTable& table) {
    prune();
    while (scale_.of(s_, table) > 2 * scale_.total && !gone_.empty()) s_.take(gone_.take_oldest());
  }

  Scale scale_;
  std::uint64_t hir_max_;
  std::uint64_t lir_max_;
  Queue s_;  // by last use, newest first; a row of it is LIR, in Q, or gone
  Queue q_;
  Queue gone_;  // by when they went
  std::set<Row> lir_;
  Row last_used_ = kNoRow;
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
    const bool small_is_full = !evicted_yet_ && scale_.of(small_, table) >= small_max_;
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
    if (victim == kNoRow) victim = from_main(held);  // what Small has just passed on
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
        remember(ghost_, row, ghost_max_, scale_, table);
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
        sample_(static_cast<std::uint64_t>(setup.parameter("sample", 32))) {}
  bool contains(Row row) const override {
    return window_.has(row) || probation_.has(row) || protected_.has(row);
  }
  bool admit(Row row, Tick, const AdapterTable&) override {
    count(row);
    return true;
  }
  void on_insert(Row row, Tick, const AdapterTable& table) override {
    window_.push(row);
    drain(0, table);
  }
  void on_access(Row row, Tick, const AdapterTable& table) override {
    if (window_.has(row)) {
      window_.take(row);
      window_.push(row);
      return;
    }
    count(row);
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
    const std::uint64_t weight = scale_.of(plea.incoming, table);
    drain(weight, table);
    const Row candidate = window_.oldest_free(held);
    Row resident = probation_.oldest_free(held);
    if (resident == kNoRow) resident = protected_.oldest_free(held);
    Row victim = resident;
    if (scale_.of(window_, table) + weight > window_max_ && candidate != kNoRow && resident != kNoRow &&
        uses_[candidate] <= uses_[resident])
      victim = candidate;
    if (victim == kNoRow) victim = candidate;
    on_remove(victim);
    return victim;
  }

 private:
  /// What Window has too much, once `coming` is in it, moves to Main as far as there is room.
  void drain(std::uint64_t coming, const AdapterTable& table) {
    while (!window_.empty() && scale_.of(window_, table) + coming > window_max_) {
      const Row row = window_.oldest();
      const std::uint64_t weight = scale_.of(row, table);
      const std::uint64_t probation = scale_.of(probation_, table);
      if (probation + scale_.of(protected_, table) + weight > main_max_) return;
      window_.take(row);
      (probation + weight > main_max_ - protected_max_ ? protected_ : probation_).push(row);
    }
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
