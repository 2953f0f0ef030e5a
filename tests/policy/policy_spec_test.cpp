// Policies as people write them: names, aliases, parameters, and what is said when they are wrong.

#include "loracle/policy/policy_spec.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <set>
#include <string>
#include <string_view>

#include "loracle/policy/all_policies.hpp"

namespace loracle {
namespace {

struct AllKinds {
  struct Config {
    double weight = 0.5;
    std::uint64_t segments = 4;
    bool aged = false;
    template <class V>
    void visit(V&& v) {
      v("weight", weight);
      v("segments", segments);
      v("aged", aged);
    }
  };
};

struct NoParameters {
  using Config = NoConfig;
};

// A name that help prints but the parser refuses sends people in circles.
TEST(PolicySpec, AcceptsEveryNameItPrints) {
  EXPECT_EQ(policy_names().size(), 23U);
  std::set<std::string_view> seen;
  for (const std::string_view name : policy_names()) {
    const Result<PolicySpec> spec = parse_policy_spec(name);
    ASSERT_TRUE(spec.has_value()) << name;
    EXPECT_EQ(spec->name, name);
    EXPECT_TRUE(spec->parameters.empty());
    EXPECT_TRUE(seen.insert(name).second) << name << " twice";
  }
}

// Command lines written with the older names must go on meaning the same policy.
TEST(PolicySpec, ResolvesAliases) {
  EXPECT_EQ(parse_policy_spec("twoq")->name, "2q");
  EXPECT_EQ(parse_policy_spec("s3-fifo")->name, "s3fifo");
  EXPECT_EQ(parse_policy_spec("beladySize")->name, "belady-size");
  EXPECT_EQ(parse_policy_spec("beladysize")->name, "belady-size");
  EXPECT_EQ(parse_policy_spec("w-tinylfu")->name, "wtinylfu");
  EXPECT_EQ(parse_policy_spec("greedy-dual")->name, "greedydual");
  EXPECT_EQ(parse_policy_spec("opt")->name, "belady");
}

// A parameter lost on the way would silently run the default instead.
TEST(PolicySpec, KeepsParametersInOrder) {
  const Result<PolicySpec> spec = parse_policy_spec("chameleon:frequency=0.45:size=-0.45:x=");
  ASSERT_TRUE(spec.has_value());
  EXPECT_EQ(spec->name, "chameleon");
  using Parameters = std::vector<std::pair<std::string, std::string>>;
  EXPECT_EQ(spec->parameters, (Parameters{{"frequency", "0.45"}, {"size", "-0.45"}, {"x", ""}}));
}

// "unknown" without a hint costs a look into the manual.
TEST(PolicySpec, NamesTheNearestPolicyWhenTheNameIsWrong) {
  const Result<PolicySpec> spec = parse_policy_spec("seive:x=1");
  ASSERT_FALSE(spec.has_value());
  EXPECT_EQ(spec.error().code, Errc::kNotFound);
  EXPECT_NE(spec.error().message.find("did you mean 'sieve'"), std::string::npos) << spec.error().message;
  EXPECT_FALSE(parse_policy_spec("").has_value());
  EXPECT_FALSE(parse_policy_spec(":x=1").has_value());
}

// A bare word taken for a parameter, or dropped, would run something that nobody asked for.
TEST(PolicySpec, RefusesAParameterWithoutAValue) {
  for (const std::string_view text : {"lru:", "slru:segments", "slru:=2", "slru:segments=2:"}) {
    const Result<PolicySpec> spec = parse_policy_spec(text);
    ASSERT_FALSE(spec.has_value()) << text;
    EXPECT_EQ(spec.error().code, Errc::kInvalid) << text;
  }
}

// Values must arrive in the Config as written.
TEST(PolicySpec, ConfiguresEveryKindOfParameter) {
  const auto config = configure<AllKinds>(*parse_policy_spec("lru:weight=-0.25:segments=7:aged=true"));
  ASSERT_TRUE(config.has_value());
  EXPECT_EQ(config->weight, -0.25);
  EXPECT_EQ(config->segments, 7U);
  EXPECT_TRUE(config->aged);
  EXPECT_FALSE(configure<AllKinds>(*parse_policy_spec("lru:aged=0"))->aged);
  EXPECT_EQ(configure<AllKinds>(*parse_policy_spec("lru"))->segments, 4U);
  EXPECT_EQ(configure<AllKinds>(*parse_policy_spec("lru:segments=1:segments=2"))->segments, 2U);
}

// A number cut short ("0.5x" read as 0.5) or a misspelt key ignored would give numbers for another setting.
TEST(PolicySpec, RefusesValuesAndKeysItDoesNotUnderstand) {
  for (const std::string_view text : {"lru:weight=0.5x", "lru:weight=", "lru:weight=nan", "lru:weight=inf",
                                      "lru:segments=-1", "lru:segments=1.5", "lru:segments= 2",
                                      "lru:segments=99999999999999999999", "lru:aged=yes", "lru:wieght=1"}) {
    const auto config = configure<AllKinds>(*parse_policy_spec(text));
    ASSERT_FALSE(config.has_value()) << text;
    EXPECT_EQ(config.error().code, Errc::kInvalid) << text;
    EXPECT_EQ(config.error().message.substr(0, 3), "lru") << config.error().message;
  }
  const auto near = configure<AllKinds>(*parse_policy_spec("lru:wieght=1"));
  EXPECT_NE(near.error().message.find("did you mean 'weight'"), std::string::npos) << near.error().message;
  const auto none = configure<NoParameters>(*parse_policy_spec("lru:size=1"));
  ASSERT_FALSE(none.has_value());
  EXPECT_NE(none.error().message.find("no parameters"), std::string::npos) << none.error().message;
}

// If this failed, an engine would be given a policy that needs the future, or a replay would hide it.
TEST(PolicySpec, TellsWhichPoliciesMustKnowTheFuture) {
  std::set<std::string> clairvoyant;
  for (const std::string_view name : policy_names())
    if (is_clairvoyant(*parse_policy_spec(name))) clairvoyant.insert(std::string(name));
  EXPECT_EQ(clairvoyant, (std::set<std::string>{"belady", "belady-size"}));
}

// A type under another name than its own would make every report attribute results to the wrong policy.
TEST(PolicySpec, BuildsThePolicyItNames) {
  for (const std::string_view name : policy_names()) {
    const Result<AnyPolicy> policy =
        make_any_policy(*parse_policy_spec(name), 4, Capacity{2, Bytes{kUnlimited}});
    ASSERT_TRUE(policy.has_value()) << name;
    EXPECT_EQ(policy->name(), name);
    EXPECT_EQ(policy->clairvoyant(), name.substr(0, 6) == "belady") << name;
  }
  EXPECT_FALSE(make_any_policy(*parse_policy_spec("lru:size=1"), 4, {}).has_value());
}

}  // namespace
}  // namespace loracle
