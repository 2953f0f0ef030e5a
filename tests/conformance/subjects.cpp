#include <vector>

#include "conformance/subject.hpp"
#include "loracle/policy/all_policies.hpp"

namespace loracle::testing {
namespace {

template <EvictionPolicy P>
class Typed final : public Subject {
 public:
  explicit Typed(P policy) : policy_(std::move(policy)) {}
  bool contains(Row row) const override { return policy_.contains(row); }
  bool admit(Row row, Tick now, const AdapterTable& table) override { return policy_.admit(row, now, table); }
  void on_insert(Row row, Tick now, const AdapterTable& table) override {
    policy_.on_insert(row, now, table);
  }
  void on_access(Row row, Tick now, const AdapterTable& table) override {
    policy_.on_access(row, now, table);
  }
  void on_remove(Row row) override { policy_.on_remove(row); }
  Row evict(Row incoming, Tick now, const AdapterTable& table,
            std::span<const std::uint32_t> holds) override {
    if (holds.empty()) return policy_.evict(incoming, now, table, NoGuard{});
    return policy_.evict(incoming, now, table, HoldGuard{holds});
  }
  Row shed([[maybe_unused]] Tick now, [[maybe_unused]] const AdapterTable& table,
           [[maybe_unused]] std::span<const std::uint32_t> holds) override {
    if constexpr (requires { policy_.shed(now, table, NoGuard{}); }) {
      if (holds.empty()) return policy_.shed(now, table, NoGuard{});
      return policy_.shed(now, table, HoldGuard{holds});
    }
    return kNoRow;
  }

 private:
  P policy_;
};

std::vector<SubjectSpec> list_specs() {
  std::vector<SubjectSpec> specs;
  for (const std::string_view name : policy_names()) specs.push_back({std::string(name)});
  for (const char* policy : {"slru:segments=1",
                             "slru:segments=2",
                             "slru:segments=15",
                             "2q:in=0:out=0",
                             "2q:in=0.5:out=0.1",
                             "2q:in=1:out=1",
                             "lirs:hir=0",
                             "lirs:hir=0.5",
                             "lirs:hir=1",
                             "s3fifo:small=0:ghost=0",
                             "s3fifo:small=0.5:threshold=1",
                             "s3fifo:small=1:threshold=15",
                             "wtinylfu:window=0:protected=0",
                             "wtinylfu:window=0.5:protected=0.5:sample=1",
                             "wtinylfu:window=1:protected=1",
                             "random:seed=7",
                             "hyperbolic:samples=3",
                             "hyperbolic:weighted=true",
                             "lhd:samples=2:period=50",
                             "lhd:period=300",
                             "chameleon:samples=2:scan_max=1",
                             "chameleon:size=-0.45",
                             "fastlibra:samples=2:scan_max=1",
                             "fastlibra:cost=0:horizon=5",
                             "fastlibra:visits=0",
                             "belady-size:samples=2"})
    specs.push_back({policy});
  for (const std::string_view name : policy_names()) specs.push_back({std::string(name), true});
  specs.push_back({"belady", false, true});
  specs.push_back({"belady-size", false, true});
  return specs;
}

}  // namespace

std::span<const SubjectSpec> subject_specs() {
  static const std::vector<SubjectSpec> kSpecs = list_specs();
  return kSpecs;
}

std::unique_ptr<Subject> make_subject(const SubjectSpec& spec, std::uint32_t rows, Capacity capacity,
                                      const Future& future) {
  const Result<PolicySpec> parsed = parse_policy_spec(spec.policy);
  if (!parsed) {
    ADD_FAILURE() << parsed.error().message;
    return nullptr;
  }
  if (spec.through_any) {
    Result<AnyPolicy> policy = make_any_policy(*parsed, rows, capacity);
    if (!policy) {
      ADD_FAILURE() << policy.error().message;
      return nullptr;
    }
    return std::make_unique<Typed<AnyPolicy>>(std::move(*policy));
  }
  using Made = std::unique_ptr<Subject>;
  Result<Made> made = with_policy<Made>(
      *parsed, [&]<class P>(std::type_identity<P>, typename P::Config config) -> Result<Made> {
        if constexpr (requires { config.future; }) {
          if (spec.told_future) {
            config.future = future.uses;
            config.future_next = future.next;
          }
        }
        return Made(std::make_unique<Typed<P>>(P(rows, capacity, config)));
      });
  if (!made) {
    ADD_FAILURE() << made.error().message;
    return nullptr;
  }
  return std::move(*made);
}

}  // namespace loracle::testing
