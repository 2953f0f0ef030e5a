// What discovery decides, without files: versions, patterns, clashes, dependencies.

#include "service/discovery_plan.hpp"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "loracle/core/rng.hpp"
#include "loracle/service/discovery_loop.hpp"

namespace loracle::service {
namespace {

Candidate adapter(const std::string& name, const std::vector<std::string>& required = {},
                  const std::string& prefix = "/p") {
  Candidate candidate;
  candidate.name = name;
  candidate.location = prefix + "/" + name;
  candidate.stamp = "1";
  candidate.required = required;
  return candidate;
}

std::string nobody(const std::string&) { return {}; }

/// "name=location" in load order.
std::vector<std::string> served(const DiscoveryPlan& plan) {
  std::vector<std::string> names;
  for (const Wanted& wanted : plan.wanted) names.push_back(wanted.name + "=" + wanted.choices[0]->location);
  return names;
}

using Strings = std::vector<std::string>;

TEST(DiscoveryPlan, VersionsCompareByTheirNumbers) {
  // If this failed, 1.9 would be served as the latest long after 1.10.
  const Strings ascending = {
      "1.0-alpha", "1.0-alpha2", "1.0-rc1", "1.0-rc2", "1.0-rc10",   "1.0",       "1.0.1",
      "1.9",       "1.10",       "2",       "10",      "2024-11-30", "2024.12.1", "99999999999999999999999"};
  for (std::size_t i = 0; i < ascending.size(); ++i) {
    for (std::size_t j = 0; j < ascending.size(); ++j) {
      const int order = compare_versions(ascending[i], ascending[j]);
      EXPECT_EQ(order < 0, i < j) << ascending[i] << " " << ascending[j];
      EXPECT_EQ(order == 0, i == j) << ascending[i] << " " << ascending[j];
    }
  }
  EXPECT_EQ(compare_versions("1.00", "1.0"), 0);
  EXPECT_EQ(compare_versions("v2", "v02"), 0);
  EXPECT_LT(compare_versions("v9", "v10"), 0);
}

TEST(DiscoveryPlan, VersionsHaveOneOrderWhateverTheyAre) {
  // If this failed, sorting versions could run out of its array, and the latest depend on the order of files.
  Rng rng(7);
  Strings all;
  for (int i = 0; i < 40; ++i) {
    std::string version;
    for (std::uint64_t length = rng.below(6); length > 0; --length) version += "019ab.-+\xC3"[rng.below(9)];
    all.push_back(version);
  }
  const auto sign = [](int order) { return order < 0 ? -1 : order > 0 ? 1 : 0; };
  for (const std::string& a : all) {
    for (const std::string& b : all) {
      EXPECT_EQ(sign(compare_versions(a, b)), -sign(compare_versions(b, a))) << a << " " << b;
      for (const std::string& c : all) {
        if (compare_versions(a, b) <= 0 && compare_versions(b, c) <= 0) {
          EXPECT_LE(compare_versions(a, c), 0) << a << " " << b << " " << c;
        }
      }
    }
  }
}

TEST(DiscoveryPlan, TheLatestVersionHasTheNameWithoutOne) {
  // If this failed, a client that names no version would get an old one.
  const std::vector<Candidate> found = {adapter("s@1.9"), adapter("s@1.10"), adapter("s@1.10-rc1"),
                                        adapter("t")};
  const DiscoveryPlan plan = plan_discovery(found, nobody);
  EXPECT_EQ(served(plan), (Strings{"s=/p/s@1.10", "s@1.10=/p/s@1.10", "s@1.10-rc1=/p/s@1.10-rc1",
                                   "s@1.9=/p/s@1.9", "t=/p/t"}));
  EXPECT_TRUE(plan.clashes.empty());
  ASSERT_EQ(plan.wanted[0].choices.size(), 3U) << "older ones stand by";
  EXPECT_EQ(plan.wanted[0].choices[1]->name, "s@1.10-rc1");
}

TEST(DiscoveryPlan, AFolderOfThatNameGoesBeforeVersions) {
  // If this failed, a plain folder would be replaced by something else of its name.
  const std::vector<Candidate> found = {adapter("s"), adapter("s@2")};
  const DiscoveryPlan plan = plan_discovery(found, nobody);
  EXPECT_EQ(served(plan), (Strings{"s=/p/s", "s@2=/p/s@2"}));
  ASSERT_EQ(plan.clashes.size(), 1U);
  EXPECT_EQ(plan.clashes[0], "s: the folder /p/s has that name; s@2 is served under its full name only");
}

TEST(DiscoveryPlan, NamesWithAnAtThatAreNoVersion) {
  // If this failed, an odd folder would be served under an empty name.
  EXPECT_EQ(split_version("a@").base, "a@");
  EXPECT_EQ(split_version("@a").base, "@a");
  EXPECT_EQ(split_version("a@b@1").base, "a@b");
  EXPECT_EQ(split_version("a@b@1").version, "1");
}

TEST(DiscoveryPlan, TheFirstPrefixAndExplicitNamesWin) {
  // If this failed, a folder dropped into a shared directory could replace an adapter that was named.
  const std::vector<Candidate> found = {adapter("a"), adapter("b"), adapter("a", {}, "s3://bucket/q")};
  const DiscoveryPlan plan = plan_discovery(found, [](const std::string& name) {
    return name == "b" ? std::string("--lora-modules") : std::string();
  });
  EXPECT_EQ(served(plan), Strings{"a=/p/a"});
  EXPECT_EQ(plan.clashes, (Strings{"a: is at /p/a, which comes first; s3://bucket/q/a is left out",
                                   "b: --lora-modules has that name; /p/b is left out"}));
}

TEST(DiscoveryPlan, PatternsMatchWithAndWithoutTheVersion) {
  // If this failed, an operator could not keep drafts out of a server.
  DiscoveryConfig config;
  EXPECT_TRUE(is_included(config, "anything"));
  config.include = {"support-*", "sql"};
  config.exclude = {"*-draft", "support-old@1*"};
  EXPECT_TRUE(is_included(config, "support-en"));
  EXPECT_TRUE(is_included(config, "sql@2"));
  EXPECT_FALSE(is_included(config, "sql2"));
  EXPECT_FALSE(is_included(config, "support-x-draft"));
  EXPECT_FALSE(is_included(config, "support-x-draft@3"));
  EXPECT_FALSE(is_included(config, "support-old@1.5"));
  EXPECT_TRUE(is_included(config, "support-old@2"));
}

TEST(DiscoveryPlan, WhatIsRequiredComesFirst) {
  // If this failed, an adapter would be served before what it builds upon.
  const std::vector<Candidate> found = {adapter("a", {"c", "b"}), adapter("b", {"d"}), adapter("c"),
                                        adapter("d"), adapter("e", {"module"})};
  const DiscoveryPlan plan = plan_discovery(found, [](const std::string& name) {
    return name == "module" ? std::string("--lora-modules") : std::string();
  });
  EXPECT_EQ(served(plan), (Strings{"c=/p/c", "d=/p/d", "b=/p/b", "a=/p/a", "e=/p/e"}));
  EXPECT_TRUE(plan.rejected.empty());
}

TEST(DiscoveryPlan, CyclesAreReportedAndSpoilOnlyWhoNeedsThem) {
  // If this failed, two adapters that require each other would hang the server, or vanish without a word.
  const std::vector<Candidate> found = {adapter("a", {"b"}), adapter("b", {"c"}),
                                        adapter("c", {"b"}), adapter("self", {"self"}),
                                        adapter("sound"),    adapter("z", {"sound"})};
  const DiscoveryPlan plan = plan_discovery(found, nobody);
  EXPECT_EQ(served(plan), (Strings{"sound=/p/sound", "z=/p/z"}));
  ASSERT_EQ(plan.rejected.size(), 4U);
  EXPECT_EQ(plan.rejected[0], "a: requires 'b', which is not served");
  EXPECT_NE(plan.rejected[1].find("b: requires itself: b -> c -> b"), std::string::npos) << plan.rejected[1];
  EXPECT_NE(plan.rejected[2].find("c: requires itself: b -> c -> b"), std::string::npos) << plan.rejected[2];
  EXPECT_NE(plan.rejected[3].find("self: requires itself: self -> self"), std::string::npos)
      << plan.rejected[3];
}

TEST(DiscoveryPlan, WhatRequiresWhatIsNowhereIsRejectedWithItsDependents) {
  // If this failed, an adapter would be served without what it needs.
  Candidate bad = adapter("bad");
  bad.trouble = "loracle.json is not a JSON object";
  const std::vector<Candidate> found = {adapter("a", {"b"}), adapter("b", {"nowhere"}), bad,
                                        adapter("c", {"bad"})};
  const DiscoveryPlan plan = plan_discovery(found, nobody);
  EXPECT_TRUE(plan.wanted.empty());
  ASSERT_EQ(plan.rejected.size(), 4U);
  EXPECT_EQ(plan.rejected[0], "a: requires 'b', which is not served");
  EXPECT_NE(plan.rejected[1].find("b: requires 'nowhere', which is nowhere: add"), std::string::npos);
  EXPECT_EQ(plan.rejected[2], "bad: loracle.json is not a JSON object");
  EXPECT_EQ(plan.rejected[3], "c: requires 'bad', which is not served");
}

TEST(DiscoveryPlan, ALongChainOfRequirementsIsNoDeepRecursion) {
  // If this failed, a directory of a hundred thousand adapters could overflow the stack.
  std::vector<Candidate> found;
  for (int i = 0; i < 20'000; ++i)
    found.push_back(adapter(std::to_string(1'000'000 + i), {std::to_string(1'000'000 + i + 1)}));
  found.back().required.clear();
  const DiscoveryPlan plan = plan_discovery(found, nobody);
  ASSERT_EQ(plan.wanted.size(), 20'000U);
  EXPECT_EQ(plan.wanted.front().name, found.back().name);
  EXPECT_EQ(plan.wanted.back().name, found.front().name);
}

}  // namespace
}  // namespace loracle::service
