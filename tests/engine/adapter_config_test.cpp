#include "loracle/engine/adapter_config.hpp"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace loracle {
namespace {

Result<AdapterConfig> parse(const std::string& json) {
  return parse_adapter_config(json, "dir/adapter_config.json");
}

/// r, lora_alpha and target_modules, and whatever else.
std::string config(const std::string& more = "") {
  return R"({"r": 16, "lora_alpha": 32, "target_modules": ["q_proj", "v_proj"])" + more + "}";
}

void expect_refused(const Result<Unit>& checked, const std::vector<std::string>& parts) {
  ASSERT_FALSE(checked);
  EXPECT_EQ(checked.error().code, Errc::kInvalid);
  EXPECT_EQ(checked.error().message.find("dir/adapter_config.json: "), 0U) << checked.error().message;
  for (const std::string& part : parts)
    EXPECT_NE(checked.error().message.find(part), std::string::npos) << checked.error().message;
}

Result<Unit> check(const std::string& more, const AdapterRules& rules = {}) {
  const auto parsed = parse(config(more));
  EXPECT_TRUE(parsed) << parsed.error().message;
  return parsed ? check_adapter_config(*parsed, rules, "dir/adapter_config.json") : Unit{};
}

// Broken: a config as PEFT itself writes it is refused or misread.
TEST(AdapterConfig, ReadsWhatPeftWrites) {
  const auto read = parse(R"({
    "alpha_pattern": {}, "auto_mapping": null, "base_model_name_or_path": "meta-llama/Llama-3.1-8B",
    "bias": "none", "fan_in_fan_out": true, "inference_mode": true,
    "init_lora_weights": true, "layer_replication": null, "layers_pattern": null,
    "layers_to_transform": null, "loftq_config": {},
    "lora_alpha": 12.5, "lora_dropout": 0.05, "megatron_config": null, "modules_to_save": null,
    "peft_type": "LORA", "r": 8, "rank_pattern": {"b": 4, "a": 2}, "revision": null,
    "target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM", "use_dora": false,
    "use_rslora": true})");
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(read->r, 8U);
  EXPECT_EQ(read->alpha, 12.5);
  EXPECT_TRUE(read->use_rslora);
  EXPECT_TRUE(read->fan_in_fan_out);
  EXPECT_EQ(read->peft_type, "LORA");
  EXPECT_EQ(read->base_model, "meta-llama/Llama-3.1-8B");
  EXPECT_EQ(read->target_modules, (std::vector<std::string>{"q_proj", "v_proj"}));
  const std::vector<std::pair<std::string, std::uint32_t>> ranks = {{"b", 4}, {"a", 2}};
  EXPECT_EQ(read->rank_pattern, ranks) << "the file's order decides between keys";
  EXPECT_TRUE(check_adapter_config(*read, {}, "x"));
  EXPECT_EQ(parse(R"({"r": 1, "lora_alpha": 1, "target_modules": "all-linear"})")->target_modules,
            std::vector<std::string>{"all-linear"});
}

// Broken: somebody who misses three fields learns of them one run at a time.
TEST(AdapterConfig, NamesEveryMissingField) {
  const auto read = parse(R"({"lora_alpha": 16})");
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().code, Errc::kInvalid);
  EXPECT_EQ(read.error().message,
            "dir/adapter_config.json: missing required configuration fields: r, target_modules");
}

// Broken: a config that is no config is taken for one, or crashes the parser.
TEST(AdapterConfig, RefusesWhatIsNotAConfig) {
  for (const std::string& text : {std::string(),
                                  std::string("null"),
                                  std::string("[1]"),
                                  std::string("{\"r\": 8"),
                                  config(",}"),
                                  config(R"(, "use_rslora": "yes")"),
                                  config(R"(, "bias": 3)"),
                                  config(R"(, "rank_pattern": [1])"),
                                  config(R"(, "rank_pattern": {"q": 0})"),
                                  config(R"(, "rank_pattern": {"q": 1.5})"),
                                  config(R"(, "alpha_pattern": {"q": "1"})"),
                                  config(R"(, "alpha_pattern": {"q": 1e999})"),
                                  std::string(R"({"r": 8, "lora_alpha": "16", "target_modules": []})"),
                                  std::string(R"({"r": 8, "lora_alpha": null, "target_modules": []})"),
                                  std::string(R"({"r": 8, "lora_alpha": 1e39, "target_modules": []})"),
                                  std::string(R"({"r": 8, "lora_alpha": 16, "target_modules": [1]})"),
                                  std::string(R"({"r": 8.0, "lora_alpha": 16, "target_modules": []})"),
                                  std::string(R"({"r": true, "lora_alpha": 16, "target_modules": []})"),
                                  std::string(2'000'000, ' '),
                                  std::string(100'000, '['),
                                  "{\"a\":" + std::string(100'000, '[')}) {
    const auto read = parse(text);
    ASSERT_FALSE(read) << text.substr(0, 100);
    EXPECT_EQ(read.error().code, Errc::kCorrupt) << read.error().message;
    EXPECT_EQ(read.error().message.find("dir/adapter_config.json: "), 0U) << read.error().message;
  }
}

// Broken: an adapter without a rank divides its scaling by zero.
TEST(AdapterConfig, RefusesARankThatIsNotPositive) {
  for (const char* rank : {"0", "-8", "99999999999"}) {
    const auto read = parse(std::string(R"({"lora_alpha": 16, "target_modules": [], "r": )") + rank + "}");
    ASSERT_FALSE(read) << rank;
    EXPECT_EQ(read.error().code, Errc::kInvalid);
    EXPECT_NE(read.error().message.find("must be a positive integer"), std::string::npos);
  }
}

// Broken: an adapter that vLLM refuses is served here, or one of two reasons is kept back.
TEST(AdapterConfig, NamesEveryBrokenRule) {
  expect_refused(
      check(R"(, "modules_to_save": ["lm_head"], "use_dora": true, "bias": "all", "peft_type": "IA3")",
            {.max_lora_rank = 8, .base_models = {}}),
      {"peft_type is IA3", "modules_to_save", "DoRA", "LoRA rank 16 is greater than max_lora_rank 8",
       "bias (all)"});
  EXPECT_TRUE(check(R"(, "modules_to_save": [], "use_dora": null, "bias": "none", "peft_type": null)",
                    {.max_lora_rank = 16, .base_models = {}}));
  AdapterConfig large;
  large.r = 513;
  expect_refused(check_adapter_config(large, {}, "dir/adapter_config.json"),
                 {"LoRA rank 513 is greater than max_lora_rank 512"});
}

// Broken: an adapter of another base model is served and answers nonsense.
TEST(AdapterConfig, AcceptsTheServedModelAndItsAliasesAlone) {
  const AdapterRules rules{.max_lora_rank = 0, .base_models = {"meta-llama/Llama-3.1-8B", "llama"}};
  EXPECT_TRUE(check("", rules)) << "not given";
  EXPECT_TRUE(check(R"(, "base_model_name_or_path": "llama")", rules));
  EXPECT_TRUE(check(R"(, "base_model_name_or_path": "anything")", {}));
  expect_refused(check(R"(, "base_model_name_or_path": "other/Llama-3.1-8B")", rules),
                 {"'other/Llama-3.1-8B'", "'meta-llama/Llama-3.1-8B', 'llama'", "alias"});
}

// Broken: scaling is not PEFT's: alpha / r, alpha / sqrt(r), each with the module's own rank and alpha.
TEST(AdapterConfig, ScalesAsPeftDoes) {
  const auto plain = parse(config(R"(, "rank_pattern": {"k_proj": 4}, "alpha_pattern": {"0.k_proj": 2})"));
  ASSERT_TRUE(plain) << plain.error().message;
  EXPECT_EQ(plain->scaling_of("l.0.q_proj"), 2.0);
  EXPECT_EQ(plain->rank_of("l.0.k_proj"), 4U);
  EXPECT_EQ(plain->scaling_of("l.0.k_proj"), 0.5);
  EXPECT_EQ(plain->scaling_of("l.1.k_proj"), 8.0);
  const auto stabilised = parse(config(R"(, "use_rslora": true, "rank_pattern": {"k_proj": 4})"));
  ASSERT_TRUE(stabilised) << stabilised.error().message;
  EXPECT_EQ(stabilised->scaling_of("l.0.q_proj"), 8.0);
  EXPECT_EQ(stabilised->scaling_of("l.0.k_proj"), 16.0);
}

}  // namespace
}  // namespace loracle
