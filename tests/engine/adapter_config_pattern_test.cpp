#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "../../engine/src/loader/peft_pattern.hpp"
#include "loracle/engine/adapter_config.hpp"

namespace loracle {
namespace {

struct Case {
  const char* key;
  const char* module;
  bool matches;
};

// Broken: a key matches other modules than PEFT says, so a module gets a foreign rank or scaling. The answers
// are Python 3.11's: re.match(rf"(.*\.)?({key})$", module).
TEST(PeftPattern, MatchesWhatPythonMatches) {
  const std::vector<Case> cases = {
      {"q_proj", "q_proj", true},
      {"q_proj", "model.layers.0.self_attn.q_proj", true},
      {"q_proj", "model.layers.0.self_attn.xq_proj", false},
      {"q_proj", "model.layers.0.self_attn.q_proj.x", false},
      {"layers.1.q", "model.layers.1.q", true},
      {"layers.1.q", "model.layersx1yq", true},
      {"layers.1.q", "model.layers.11.q", false},
      {R"(layers\.1\.q)", "model.layersx1.q", false},
      {R"(layers\.1\.q)", "model.layers.1.q", true},
      {R"(.*\.[0-9]+\.mlp\..*)", "model.layers.17.mlp.up_proj", true},
      {R"(.*\.[0-9]+\.mlp\..*)", "model.layers.x.mlp.up_proj", false},
      {R"(layers\.\d+\.(q|k)_proj)", "model.layers.23.k_proj", true},
      {R"(layers\.\d+\.(q|k)_proj)", "model.layers.23.v_proj", false},
      {R"(layers\.\d?\.q)", "layers.23.q", false},
      {R"(layers\.\d?\.q)", "layers..q", true},
      {"q|k", "a.k", true},
      {"q|k", "a.q", true},
      {"q|k", "a.qk", false},
      {"^model.q", "model.q", true},
      {"^model.q", "x.model.q", false},
      {"(?:a|bc)+d", "x.abcad", true},
      {"(?:a|bc)+d", "x.abcbd", false},
      {"(a*)*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaac", false},
      {"(a|a)*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab", true},
      {"[^q]_proj", "k_proj", true},
      {"[^q]_proj", "q_proj", false},
      {"[]a]x", "]x", true},
      {"[a-c-]x", "-x", true},
      {R"(\w+)", "model.q_proj", true},
      {R"(\W)", "model..", true},
      {R"([\d_]+)", "a.1_2", true},
      {"q$", "a.q", true},
      {"q$x", "a.qx", false},
      {"a+?b*?c", "aabbc", true},
      {"", "a.", true},
      {"", "a", false},
      {"x*", "", true},
  };
  for (const Case& c : cases) {
    const auto pattern = PeftPattern::compile(c.key);
    ASSERT_TRUE(pattern) << c.key << ": " << pattern.error().message;
    EXPECT_EQ(pattern->matches(c.module), c.matches) << c.key << " on " << c.module;
    EXPECT_EQ(peft_key_matches(c.key, c.module), c.matches) << c.key << " on " << c.module;
  }
}

// Broken: a key we do not understand is taken for one that matches nothing, and the module is scaled wrongly.
TEST(PeftPattern, RefusesWhatItDoesNotUnderstand) {
  for (const char* key : {"a{2}", "(?=a)b", "(?P<n>a)", R"(\1)", R"(\bq)", "(a", "a)", "[a", "[b-a]", "*a",
                          "^*a", "a**", R"(a\)", "a++", R"([a-\d])", "\xC3\xA9"}) {
    const auto pattern = PeftPattern::compile(key);
    ASSERT_FALSE(pattern) << key;
    EXPECT_EQ(pattern.error().code, Errc::kUnsupported);
    EXPECT_NE(pattern.error().message.find(std::string("'") + key + "'"), std::string::npos)
        << pattern.error().message;
  }
  EXPECT_FALSE(PeftPattern::compile(std::string(2000, 'a')));
  EXPECT_FALSE(PeftPattern::compile(std::string(500, '(') + std::string(500, ')')));
  const auto read = parse_adapter_config(
      R"({"r": 1, "lora_alpha": 1, "target_modules": [], "rank_pattern": {"a{2}": 1}})", "path");
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().code, Errc::kUnsupported);
  EXPECT_EQ(read.error().message.find("path: rank_pattern: the pattern key 'a{2}' has a count"), 0U)
      << read.error().message;
}

}  // namespace
}  // namespace loracle
