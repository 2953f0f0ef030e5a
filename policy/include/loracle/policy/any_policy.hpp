#pragma once
/// An eviction policy chosen at run time: satisfies EvictionPolicy itself, so every driver takes it like any
/// other. One allocation at construction, one virtual call an event after that; decides exactly what the
/// policy inside it would (a test compares decision logs). Threads: one owner.

#include <memory>
#include <string_view>
#include <utility>

#include "loracle/policy/eviction_policy.hpp"

namespace loracle {

class AnyPolicy {
 public:
  using Config = NoConfig;
  static constexpr std::string_view kName = "any";
  static constexpr bool kClairvoyant = false;  // of the type; see clairvoyant() for the one inside

  template <EvictionPolicy P>
  explicit AnyPolicy(P policy) : inner_(std::make_unique<Model<P>>(std::move(policy))) {}
  /// An empty one, to satisfy the concept; every use of it is undefined.
  AnyPolicy(std::uint32_t, Capacity, const Config&) {}

  [[nodiscard]] std::string_view name() const noexcept { return inner_->name(); }
  [[nodiscard]] bool clairvoyant() const noexcept { return inner_->clairvoyant(); }

  [[nodiscard]] bool contains(Row row) const noexcept { return inner_->contains(row); }
  [[nodiscard]] bool admit(Row row, Tick now, const AdapterTable& table) noexcept {
    return inner_->admit(row, now, table);
  }
  void on_insert(Row row, Tick now, const AdapterTable& table) noexcept {
    inner_->on_insert(row, now, table);
  }
  void on_access(Row row, Tick now, const AdapterTable& table) noexcept {
    inner_->on_access(row, now, table);
  }
  void on_remove(Row row) noexcept { inner_->on_remove(row); }
  [[nodiscard]] Row evict(Row incoming, Tick now, const AdapterTable& table, const NoGuard&) noexcept {
    return inner_->evict(incoming, now, table, HoldGuard{});
  }
  [[nodiscard]] Row evict(Row incoming, Tick now, const AdapterTable& table,
                          const HoldGuard& guard) noexcept {
    return inner_->evict(incoming, now, table, guard);
  }

 private:
  struct Interface {
    virtual ~Interface() = default;
    virtual std::string_view name() const noexcept = 0;
    virtual bool clairvoyant() const noexcept = 0;
    virtual bool contains(Row) const noexcept = 0;
    virtual bool admit(Row, Tick, const AdapterTable&) noexcept = 0;
    virtual void on_insert(Row, Tick, const AdapterTable&) noexcept = 0;
    virtual void on_access(Row, Tick, const AdapterTable&) noexcept = 0;
    virtual void on_remove(Row) noexcept = 0;
    virtual Row evict(Row, Tick, const AdapterTable&, const HoldGuard&) noexcept = 0;
  };
  template <class P>
  struct Model final : Interface {
    explicit Model(P p) : policy(std::move(p)) {}
    std::string_view name() const noexcept override { return P::kName; }
    bool clairvoyant() const noexcept override { return P::kClairvoyant; }
    bool contains(Row row) const noexcept override { return policy.contains(row); }
    bool admit(Row row, Tick now, const AdapterTable& t) noexcept override {
      return policy.admit(row, now, t);
    }
    void on_insert(Row row, Tick now, const AdapterTable& t) noexcept override {
      policy.on_insert(row, now, t);
    }
    void on_access(Row row, Tick now, const AdapterTable& t) noexcept override {
      policy.on_access(row, now, t);
    }
    void on_remove(Row row) noexcept override { policy.on_remove(row); }
    Row evict(Row incoming, Tick now, const AdapterTable& t, const HoldGuard& guard) noexcept override {
      return policy.evict(incoming, now, t, guard);
    }
    P policy;
  };

  std::unique_ptr<Interface> inner_;
};
static_assert(EvictionPolicy<AnyPolicy>);

}  // namespace loracle
