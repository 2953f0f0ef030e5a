// /metrics, read by a parser that forgives nothing.

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "service_scene.hpp"

namespace loracle::testing {
namespace {

using Labels = std::map<std::string, std::string>;

struct Family {
  std::string help;
  std::string type;
  std::map<std::pair<std::string, Labels>, double> samples;  // by name and labels
};

/// The text format 0.0.4: HELP, TYPE, then the family's samples, each family once. Faults are test failures.
class MetricsPage {
 public:
  explicit MetricsPage(const std::string& text) {
    EXPECT_TRUE(text.ends_with("\n"));
    std::string current;
    for (std::size_t begin = 0; begin < text.size();) {
      const std::size_t end = text.find('\n', begin);
      const std::string line = text.substr(begin, end - begin);
      begin = end + 1;
      if (line.starts_with("# HELP ")) {
        current = line.substr(7, line.find(' ', 7) - 7);
        EXPECT_TRUE(families.emplace(current, Family{}).second) << "twice: " << current;
        families[current].help = line.substr(8 + current.size());
        EXPECT_FALSE(families[current].help.empty()) << current;
      } else if (line.starts_with("# TYPE ")) {
        const std::string name = line.substr(7, line.find(' ', 7) - 7);
        EXPECT_EQ(name, current) << "TYPE follows HELP";
        families[current].type = line.substr(8 + name.size());
      } else {
        take_sample(line, current);
      }
    }
    for (const auto& [name, family] : families) {
      EXPECT_TRUE(family.type == "counter" || family.type == "gauge" || family.type == "histogram") << name;
      EXPECT_EQ(family.type == "counter", name.ends_with("_total")) << name;
      if (family.type == "histogram") check_histogram(name, family);
    }
  }

  [[nodiscard]] double value(const std::string& name, const Labels& labels = {}) const {
    for (const auto& [family_name, family] : families) {
      const auto found = family.samples.find({name, labels});
      if (found != family.samples.end()) return found->second;
    }
    return -1;
  }

  std::map<std::string, Family> families;

 private:
  void take_sample(const std::string& line, const std::string& current) {
    std::size_t at = line.find_first_of("{ ");
    ASSERT_NE(at, std::string::npos) << line;
    const std::string name = line.substr(0, at);
    const std::string& type = families[current].type;
    const bool belongs =
        name == current || (type == "histogram" && (name == current + "_bucket" || name == current + "_sum" ||
                                                    name == current + "_count"));
    EXPECT_TRUE(belongs) << line << " stands in " << current;
    EXPECT_EQ(name.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_:"),
              std::string::npos);
    Labels labels;
    if (line[at] == '{') {
      for (++at; line[at] != '}';) {
        const std::size_t equals = line.find("=\"", at);
        ASSERT_NE(equals, std::string::npos) << line;
        const std::string key = line.substr(at, equals - at);
        std::string text;
        for (at = equals + 2; line[at] != '"'; ++at) {
          if (line[at] == '\\') ++at;
          ASSERT_LT(at, line.size()) << line;
          text += line[at];
        }
        EXPECT_TRUE(labels.emplace(key, text).second) << line;
        ++at;
        if (line[at] == ',') ++at;
      }
      ++at;
    }
    ASSERT_EQ(line[at], ' ') << line;
    std::size_t used = 0;
    const std::string number = line.substr(at + 1);
    const double parsed = std::stod(number, &used);
    EXPECT_EQ(used, number.size()) << line;
    EXPECT_TRUE(families[current].samples.emplace(std::pair(name, labels), parsed).second)
        << "twice: " << line;
  }

  static void check_histogram(const std::string& name, const Family& family) {
    std::map<Labels, std::map<double, double>> buckets;
    for (const auto& [key, value] : family.samples) {
      if (key.first != name + "_bucket") continue;
      Labels labels = key.second;
      const std::string bound = labels["le"];
      labels.erase("le");
      buckets[labels][bound == "+Inf" ? HUGE_VAL : std::stod(bound)] = value;
    }
    for (const auto& [labels, counts] : buckets) {
      double before = 0;
      for (const auto& [bound, count] : counts) {
        EXPECT_GE(count, before) << name << " " << bound;
        before = count;
      }
      EXPECT_EQ(counts.rbegin()->first, HUGE_VAL) << name;
      EXPECT_EQ(counts.rbegin()->second, family.samples.at({name + "_count", labels})) << name;
      EXPECT_TRUE(family.samples.contains({name + "_sum", labels})) << name;
    }
  }
};

class MetricsRoute : public ServiceScene {
 protected:
  void SetUp() override {
    make({"alpha", "beta", "gamma"});
    start();
  }
  [[nodiscard]] MetricsPage page() const { return MetricsPage(get("/metrics").body); }
};

const std::set<std::string> kGatewayNames = {
    "vllm:lora_adapter_loaded",   "vllm:num_gpu_loaded_lora_adapters", "vllm:num_cpu_loaded_lora_adapters",
    "vllm:max_gpu_lora_adapters", "vllm:lora_adapter_load_seconds",    "vllm:lora_requests_info",
};

TEST_F(MetricsRoute, EveryFamilyIsThereFromTheStart) {
  // If this failed, alerts on a metric that has not happened yet would be silently broken.
  const MetricsPage before = page();
  for (const std::string& name : kGatewayNames) EXPECT_TRUE(before.families.contains(name)) << name;
  EXPECT_TRUE(before.families.at("vllm:lora_adapter_loaded").samples.empty());
  ASSERT_EQ(post("/v1/adapters/alpha/acquire", R"({"ttl_s":0.1})").status, 200);
  ASSERT_EQ(post("/v1/adapters/nobody/acquire").status, 404);
  ASSERT_EQ(post("/v1/refresh_lora_discovery", "{}").status, 200);
  ASSERT_TRUE(eventually([&] { return engine_->stats().leases == 0; }));
  const MetricsPage after = page();
  std::set<std::string> names_before;
  std::set<std::string> names_after;
  for (const auto& [name, family] : before.families) names_before.insert(name + " " + family.type);
  for (const auto& [name, family] : after.families) names_after.insert(name + " " + family.type);
  EXPECT_EQ(names_before, names_after);
  EXPECT_EQ(get("/metrics").get_header_value("Content-Type"), "text/plain; version=0.0.4; charset=utf-8");
}

TEST_F(MetricsRoute, ValuesFollowWhatHappens) {
  // If this failed, dashboards would show a cache that is not ours.
  const auto acquire = [&](const char* name) {
    ASSERT_EQ(post(std::string("/v1/adapters/") + name + "/acquire", R"({"ttl_s":0.1})").status, 200);
    ASSERT_TRUE(eventually([&] { return engine_->stats().leases == 0; }));
  };
  acquire("alpha");  // from storage
  acquire("alpha");  // in its slot
  acquire("beta");
  acquire("gamma");  // takes alpha's slot; alpha stays in host memory
  acquire("alpha");  // from host memory; takes beta's slot
  const MetricsPage after = page();
  const Labels device = {{"tier", "device"}};
  const Labels host = {{"tier", "host"}};
  EXPECT_EQ(after.value("loracle_tier_hits_total", device), 1);
  EXPECT_EQ(after.value("loracle_tier_misses_total", device), 4);
  EXPECT_EQ(after.value("loracle_tier_hits_total", host), 1);
  EXPECT_EQ(after.value("loracle_tier_misses_total", host), 3);
  EXPECT_EQ(after.value("loracle_tier_loads_total", device), 4);
  EXPECT_EQ(after.value("loracle_tier_loads_total", host), 3);
  EXPECT_EQ(after.value("loracle_tier_evictions_total", device), 2);
  EXPECT_EQ(after.value("loracle_tier_evictions_total", host), 0);
  EXPECT_EQ(after.value("loracle_tier_adapters", device), 2);
  EXPECT_EQ(after.value("loracle_tier_adapters", host), 3);
  const EngineStats stats = engine_->stats();
  EXPECT_EQ(after.value("loracle_tier_loaded_bytes_total", host), static_cast<double>(stats.loaded_bytes));
  EXPECT_EQ(after.value("loracle_tier_bytes", host), static_cast<double>(stats.host.bytes));
  EXPECT_EQ(after.value("loracle_tier_load_seconds_count", host), 3);
  EXPECT_EQ(after.value("loracle_tier_load_seconds_count", device), 4);
  EXPECT_GT(after.value("loracle_tier_load_seconds_sum", host), 0);
  EXPECT_EQ(after.value("loracle_leases_expired_total"), 5);
  EXPECT_EQ(after.value("loracle_http_requests_total",
                        {{"method", "POST"}, {"route", "/v1/adapters/{name}/acquire"}, {"status", "200"}}),
            5);
  EXPECT_EQ(after.value("loracle_http_request_seconds_count", {{"route", "/v1/adapters/{name}/acquire"}}), 5);
}

TEST_F(MetricsRoute, GatewaysReadWhatIsLoaded) {
  // If this failed, a router would send requests to a server that has to load the adapter first.
  ASSERT_TRUE(engine_->pin("beta"));
  const std::string_view names[] = {"alpha"};
  ASSERT_TRUE(engine_->load_many(names));
  const MetricsPage now = page();
  const auto loaded = [&](const char* name, const char* level, const char* pinned) {
    return now.value("vllm:lora_adapter_loaded",
                     {{"adapter_name", name}, {"level", level}, {"pinned", pinned}});
  };
  EXPECT_EQ(loaded("beta", "gpu", "true"), 1);
  EXPECT_EQ(loaded("beta", "cpu", "true"), 1);
  EXPECT_EQ(loaded("alpha", "cpu", "false"), 1);
  EXPECT_EQ(loaded("alpha", "gpu", "false"), -1);
  EXPECT_EQ(now.families.at("vllm:lora_adapter_loaded").samples.size(), 3U);
  EXPECT_EQ(now.value("vllm:num_gpu_loaded_lora_adapters"), 1);
  EXPECT_EQ(now.value("vllm:num_cpu_loaded_lora_adapters"), 2);
  EXPECT_EQ(now.value("vllm:max_gpu_lora_adapters"), 2);
  EXPECT_EQ(now.value("vllm:lora_adapter_load_seconds_count", {{"level", "cpu"}}), 2);
  EXPECT_GT(now.value("vllm:lora_requests_info",
                      {{"max_lora", "2"}, {"running_lora_adapters", "beta"}, {"waiting_lora_adapters", ""}}),
            1'700'000'000);
}

TEST_F(MetricsRoute, NamesCannotForgeLines) {
  // If this failed, an adapter's name could write metrics of its own.
  make({"quo\"te", "back\\slash"});
  ASSERT_TRUE(engine_->refresh());
  const std::string_view names[] = {"quo\"te", "back\\slash"};
  ASSERT_TRUE(engine_->load_many(names));
  const MetricsPage now = page();
  EXPECT_EQ(now.value("vllm:lora_adapter_loaded",
                      {{"adapter_name", "quo\"te"}, {"level", "cpu"}, {"pinned", "false"}}),
            1);
  EXPECT_EQ(now.value("vllm:lora_adapter_loaded",
                      {{"adapter_name", "back\\slash"}, {"level", "cpu"}, {"pinned", "false"}}),
            1);
}

}  // namespace
}  // namespace loracle::testing
