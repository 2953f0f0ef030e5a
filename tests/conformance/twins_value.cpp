// Twins of the policies that give every row a value and evict the least.

#include <cmath>
#include <functional>
#include <limits>
#include <map>

#include "conformance/twin.hpp"

namespace loracle::testing {
namespace {

/// What the formulas speak of; a row is here while it is resident.
struct Facts {
  std::uint64_t uses = 1;  // since insertion
  Tick inserted;
  Tick last_use;
  Tick next_use;
  double key = 0;           // as it was set
  std::uint64_t order = 0;  // when it was set
};

class FactsTwin : public Twin {
 public:
  bool contains(Row row) const override { return facts_.contains(row); }
  void on_insert(Row row, Tick now, const AdapterTable& table) override {
    facts_[row] = {1, now, now, table.next_use_of(row), 0, clock_++};
    renew(row, facts_[row], table);
  }
  void on_access(Row row, Tick now, const AdapterTable& table) override {
    Facts& facts = facts_.at(row);
    ++facts.uses;
    facts.last_use = now;
    facts.next_use = table.next_use_of(row);
    facts.order = clock_++;
    renew(row, facts, table);
  }
  void on_remove(Row row) override { facts_.erase(row); }

 protected:
  /// The row was used or came in: its key may be set.
  virtual void renew(Row, Facts&, const AdapterTable&) {}

  std::map<Row, Facts> facts_;
  std::uint64_t clock_ = 0;
};

/// Victim: the least key, of equal keys the one set first.
class KeyTwin : public FactsTwin {
 public:
  Row evict(const Plea&, const AdapterTable&, const Held& held) override {
    const Row victim = least(held);
    if (victim == kNoRow) return kNoRow;
    gone(facts_.at(victim).key);
    facts_.erase(victim);
    return victim;
  }

 protected:
  [[nodiscard]] Row least(const Held& held) const {
    Row victim = kNoRow;
    for (const auto& [row, facts] : facts_) {
      if (held(row)) continue;
      if (victim == kNoRow || facts.key < facts_.at(victim).key ||
          (facts.key == facts_.at(victim).key && facts.order < facts_.at(victim).order))
        victim = row;
    }
    return victim;
  }
  virtual void gone(double) {}
};

class LfuTwin final : public KeyTwin {
  void renew(Row, Facts& facts, const AdapterTable&) override { facts.key = static_cast<double>(facts.uses); }
};

class LfudaTwin final : public KeyTwin {
  void renew(Row, Facts& facts, const AdapterTable&) override {
    facts.key = static_cast<double>(facts.uses) + age_;
  }
  void gone(double key) override { age_ = std::max(age_, key); }
  double age_ = 0;
};

class GreedyDualTwin final : public KeyTwin {
  void renew(Row row, Facts& facts, const AdapterTable& table) override {
    facts.key =
        age_ + static_cast<double>(table.reload_cost_of(row)) / static_cast<double>(table.size_of(row).value);
  }
  void gone(double key) override { age_ = std::max(age_, key); }
  double age_ = 0;
};

class GdsfTwin final : public KeyTwin {
 public:
  bool admit(Row row, Tick, const AdapterTable& table) override {
    newcomer_key_ = value(row, 1, table);
    return true;
  }
  Row evict(const Plea& plea, const AdapterTable&, const Held& held) override {
    const Row victim = least(held);
    if (!held(plea.incoming) && victim != kNoRow && newcomer_key_ < facts_.at(victim).key) {
      gone(newcomer_key_);
      return plea.incoming;
    }
    if (victim == kNoRow) return kNoRow;
    gone(facts_.at(victim).key);
    facts_.erase(victim);
    return victim;
  }

 private:
  [[nodiscard]] double value(Row row, std::uint64_t uses, const AdapterTable& table) const {
    return age_ + static_cast<double>(uses) * 1e6 * static_cast<double>(table.reload_cost_of(row)) /
                      static_cast<double>(table.size_of(row).value);
  }
  void renew(Row row, Facts& facts, const AdapterTable& table) override {
    facts.key = facts.uses == 1 ? newcomer_key_ : value(row, facts.uses, table);
  }
  void gone(double key) override { age_ = std::max(age_, key); }

  double age_ = 0;
  double newcomer_key_ = 0;
};

class BeladyTwin final : public FactsTwin {
 public:
  Row evict(const Plea&, const AdapterTable&, const Held& held) override {
    Row victim = kNoRow;
    const auto farther = [&](const Facts& a, const Facts& b) {
      if (a.next_use != b.next_use) return a.next_use > b.next_use;  // never is the farthest
      return a.order < b.order;
    };
    for (const auto& [row, facts] : facts_)
      if (!held(row) && (victim == kNoRow || farther(facts, facts_.at(victim)))) victim = row;
    facts_.erase(victim);
    return victim;
  }
};

/// Victim: the least score; rows that score alike, but for rounding, are equally good.
class ScoreTwin : public FactsTwin {
 public:
  Row evict(const Plea& plea, const AdapterTable& table, const Held& held) override {
    std::map<Row, double> scores;
    double least = std::numeric_limits<double>::infinity();
    prepare(plea.now, table, held);
    for (const auto& [row, facts] : facts_) {
      if (held(row)) continue;
      scores[row] = score(row, facts, plea.now, table);
      least = std::min(least, scores[row]);
    }
    if (scores.empty()) return kNoRow;
    Row victim = plea.answer;
    const double slack = 1e-12 + 1e-9 * std::abs(least);
    if (!scores.contains(victim) || scores[victim] > least + slack)
      victim =
          std::find_if(scores.begin(), scores.end(), [&](const auto& s) { return s.second == least; })->first;
    facts_.erase(victim);
    return victim;
  }

 protected:
  virtual void prepare(Tick, const AdapterTable&, const Held&) {}
  virtual double score(Row row, const Facts& facts, Tick now, const AdapterTable& table) const = 0;
};

class HyperbolicTwin final : public ScoreTwin {
 public:
  explicit HyperbolicTwin(bool weighted) : weighted_(weighted) {}

 private:
  double score(Row row, const Facts& facts, Tick now, const AdapterTable& table) const override {
    const double age = std::max(1.0, static_cast<double>(now.value - facts.inserted.value));
    const double rate = static_cast<double>(facts.uses) / age;
    if (!weighted_) return rate;
    return rate * static_cast<double>(table.reload_cost_of(row)) /
           static_cast<double>(table.size_of(row).value);
  }
  bool weighted_;
};

class BeladySizeTwin final : public FactsTwin {
 public:
  Row evict(const Plea& plea, const AdapterTable& table, const Held& held) override {
    Row done = kNoRow;
    double most = -1;
    for (const auto& [row, facts] : facts_) {
      if (held(row)) continue;
      if (facts.next_use == kNever) {
        if (done == kNoRow || facts.order < facts_.at(done).order) done = row;
      } else {
        most = std::max(most, space_time(row, facts, plea.now, table));
      }
    }
    Row victim = done;
    if (victim == kNoRow) {
      for (const auto& [row, facts] : facts_) {
        if (held(row) || space_time(row, facts, plea.now, table) != most) continue;
        if (victim == kNoRow || row == plea.answer) victim = row;
      }
    }
    facts_.erase(victim);
    return victim;
  }

 private:
  static double space_time(Row row, const Facts& facts, Tick now, const AdapterTable& table) {
    return static_cast<double>(table.size_of(row).value) *
           static_cast<double>(facts.next_use.value - now.value);
  }
};

class ChameleonTwin final : public ScoreTwin {
 public:
  explicit ChameleonTwin(const TwinSetup& setup)
      : frequency_(setup.parameter("frequency", 0.45)),
        recency_(setup.parameter("recency", 0.10)),
        size_(setup.parameter("size", 0.45)) {}

 private:
  void prepare(Tick now, const AdapterTable& table, const Held& held) override {
    most_uses_ = longest_ = largest_ = 0;
    for (const auto& [row, facts] : facts_) {
      if (held(row)) continue;
      most_uses_ = std::max(most_uses_, static_cast<double>(facts.uses));
      longest_ = std::max(longest_, static_cast<double>(now.value - facts.last_use.value));
      largest_ = std::max(largest_, static_cast<double>(table.size_of(row).value));
    }
  }
  double score(Row row, const Facts& facts, Tick now, const AdapterTable& table) const override {
    const double idle = static_cast<double>(now.value - facts.last_use.value);
    return frequency_ * static_cast<double>(facts.uses) / most_uses_ +
           recency_ * (longest_ == 0 ? 1 : 1 - idle / longest_) +
           size_ * static_cast<double>(table.size_of(row).value) / largest_;
  }
  double frequency_;
  double recency_;
  double size_;
  double most_uses_ = 0;
  double longest_ = 0;
  double largest_ = 0;
};

class FastLibraTwin final : public ScoreTwin {
 public:
  explicit FastLibraTwin(const TwinSetup& setup)
      : cost_(setup.parameter("cost", 1)),
        visits_(setup.parameter("visits", 1)),
        recency_(setup.parameter("recency", 1)),
        horizon_(setup.parameter("horizon", 0)) {}

 private:
  double score(Row row, const Facts& facts, Tick now, const AdapterTable& table) const override {
    const double cost = table.reload_cost.empty() ? static_cast<double>(table.size_of(row).value)
                                                  : static_cast<double>(table.reload_cost_of(row));
    const double horizon = horizon_ == 0 ? static_cast<double>(facts_.size()) : horizon_;
    const double t = static_cast<double>(now.value - facts.last_use.value) / horizon;
    const double log_of_rest = -t - std::log1p(std::exp(-t));  // log(1 - sigmoid(t))
    return cost_ * std::log(cost) + visits_ * std::log(static_cast<double>(facts.uses)) +
           recency_ * log_of_rest;
  }
  double cost_;
  double visits_;
  double recency_;
  double horizon_;
};

}  // namespace

std::unique_ptr<Twin> make_value_twin(const TwinSetup& setup) {
  if (setup.name() == "lfu") return std::make_unique<LfuTwin>();
  if (setup.name() == "lfuda") return std::make_unique<LfudaTwin>();
  if (setup.name() == "gdsf") return std::make_unique<GdsfTwin>();
  if (setup.name() == "greedydual") return std::make_unique<GreedyDualTwin>();
  if (setup.name() == "belady") return std::make_unique<BeladyTwin>();
  if (setup.name() == "belady-size") return std::make_unique<BeladySizeTwin>();
  if (setup.name() == "hyperbolic")
    return std::make_unique<HyperbolicTwin>(setup.policy.find("weighted=true") != std::string::npos);
  if (setup.name() == "chameleon") return std::make_unique<ChameleonTwin>(setup);
  if (setup.name() == "fastlibra") return std::make_unique<FastLibraTwin>(setup);
  return nullptr;
}

}  // namespace loracle::testing
