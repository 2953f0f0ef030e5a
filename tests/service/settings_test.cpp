// Settings: which source wins, what every mistake says, and that secrets stay where they are.

#include "loracle/service/settings.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "support/temp_dir.hpp"

namespace loracle {
namespace {

std::string value_of(const Settings& settings, std::string_view name) {
  for (const ShownSetting& shown : settings.show())
    if (shown.setting->name == name) return shown.value;
  return "no such setting";
}

std::string origin_of(const Settings& settings, std::string_view name) {
  for (const ShownSetting& shown : settings.show())
    if (shown.setting->name == name) return shown.origin;
  return "no such setting";
}

Result<Unit> read_environment(Settings& settings, const std::vector<std::string>& entries) {
  std::vector<const char*> pointers;
  for (const std::string& entry : entries) pointers.push_back(entry.c_str());
  pointers.push_back(nullptr);
  return settings.read_environment(pointers.data());
}

std::string mistake_of_environment(const std::vector<std::string>& entries) {
  Settings settings;
  const Result<Unit> read = read_environment(settings, entries);
  return read ? "no mistake" : read.error().message;
}

std::string mistake_of_file(std::string_view text) {
  Settings settings;
  const Result<Unit> read = settings.read_toml(text, "loracle.toml");
  return read ? "no mistake" : read.error().message;
}

std::string mistake_of_flag(std::string_view flag, const std::vector<std::string>& values) {
  Settings settings;
  const Result<Unit> set = settings.set_flag(flag, values);
  return set ? "no mistake" : set.error().message;
}

std::string mistake_of_all(std::string_view text) {
  Settings settings;
  EXPECT_TRUE(settings.read_toml(text, "loracle.toml"));
  const Result<ServiceConfig> config = settings.finish();
  return config ? "no mistake" : config.error().message;
}

::testing::AssertionResult says(const std::string& message, const std::vector<std::string>& words) {
  for (const std::string& word : words)
    if (message.find(word) == std::string::npos)
      return ::testing::AssertionFailure() << "'" << word << "' is not in: " << message;
  return ::testing::AssertionSuccess();
}

TEST(Settings, LaterSourcesWinOneSettingAtATime) {
  // If this failed, a flag could be overruled by a file that somebody else wrote.
  Settings settings;
  ASSERT_TRUE(settings.read_toml("[engine]\nmax_loras = 2\nmax_cpu_loras = 20\npolicy = 'gdsf'\n", "a.toml"));
  EXPECT_EQ(value_of(settings, "engine.max_loras"), "2");
  EXPECT_EQ(origin_of(settings, "engine.max_loras"), "a.toml:2");
  ASSERT_TRUE(read_environment(settings, {"LORACLE_MAX_LORAS=3", "LORACLE_ENGINE_MAX_CPU_LORAS=30"}));
  EXPECT_EQ(origin_of(settings, "engine.max_loras"), "LORACLE_MAX_LORAS");
  const std::vector<std::string> four = {"4"};
  ASSERT_TRUE(settings.set_flag("--max-loras", four));
  const Result<ServiceConfig> config = settings.finish();
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->engine.max_loras, 4U);
  EXPECT_EQ(config->engine.max_cpu_loras, 30U);
  EXPECT_EQ(config->engine.policy, "gdsf");
  EXPECT_EQ(origin_of(settings, "engine.max_loras"), "--max-loras");
  EXPECT_EQ(origin_of(settings, "engine.max_cpu_loras"), "LORACLE_ENGINE_MAX_CPU_LORAS");
  EXPECT_EQ(origin_of(settings, "engine.policy"), "a.toml:4");
  EXPECT_EQ(origin_of(settings, "http.port"), "default");
}

TEST(Settings, UnderstandsTheVariablesOfTheSeeds) {
  // If this failed, a deployment that sets vLLM's variables would be served with other settings.
  Settings settings;
  ASSERT_TRUE(read_environment(
      settings, {"VLLM_STORAGE_PROVIDER=s3", "VLLM_S3_REGION=eu-west-1", "VLLM_S3_MAX_CONCURRENT=9",
                 "VLLM_CACHE_TYPE=Memory", "VLLM_CACHE_DIR=/var/cache/adapters", "VLLM_CACHE_SIZE=10GB",
                 "VLLM_ALLOW_RUNTIME_LORA_UPDATING=False",
                 "VLLM_PLUGINS=lora_s3_resolver, lora_filesystem_resolver,tpu_platform",
                 "VLLM_LORA_RESOLVER_CACHE_DIR=/adapters", "VLLM_API_KEY=sk-1"}));
  const Result<ServiceConfig> config = settings.finish();
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->storage_providers, std::vector<std::string>{"s3"});
  EXPECT_EQ(config->s3_storage.region, "eu-west-1");
  EXPECT_EQ(config->s3_storage.max_concurrent, 9U);
  EXPECT_EQ(config->cache.type, CacheType::kMemory);
  EXPECT_EQ(config->cache.dir, "/var/cache/adapters");
  EXPECT_EQ(config->cache.max_size.value, 10'000'000'000U);
  EXPECT_FALSE(config->runtime_updating);
  EXPECT_EQ(config->resolver.chain, (std::vector<std::string>{"s3", "filesystem"}));
  EXPECT_EQ(config->resolver.cache_dir, "/adapters");
  EXPECT_EQ(config->http.api_keys, std::vector<std::string>{"sk-1"});
  EXPECT_EQ(origin_of(settings, "cache.size"), "VLLM_CACHE_SIZE");
  ASSERT_EQ(settings.warnings().size(), 1U) << "vLLM's own plugins are none of ours, and are told";
  EXPECT_TRUE(says(settings.warnings()[0], {"VLLM_PLUGINS", "tpu_platform", "LORACLE_RESOLVER_CHAIN"}));
}

TEST(Settings, UnderstandsTheFlagsOfTheSeeds) {
  // If this failed, a command line that works with vLLM would not work here.
  Settings settings;
  const std::vector<std::pair<std::string, std::vector<std::string>>> flags = {
      {"--lora-catalog-type", {"storage"}},
      {"--lora-catalog-path", {"/adapters"}},
      {"--lora-dir-prefix", {"/more", "s3://bucket/loras"}},
      {"--lora-discovery-interval", {"300"}},
      {"--lora-modules",
       {"sql=/adapters/sql", R"({"name": "code", "path": "/c", "base_model_name": "llama"})"}},
      {"--max-loras", {"4"}},
      {"--max-cpu-loras", {"8"}},
      {"--max-lora-rank", {"16"}}};
  for (const auto& [flag, values] : flags) {
    const Result<Unit> set = settings.set_flag(flag, values);
    ASSERT_TRUE(set) << set.error().message;
  }
  const Result<ServiceConfig> config = settings.finish();
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->discovery.prefixes,
            (std::vector<std::string>{"/adapters", "/more", "s3://bucket/loras"}));
  EXPECT_EQ(config->discovery.interval_s, 300U);
  ASSERT_EQ(config->lora_modules.size(), 2U);
  EXPECT_EQ(config->lora_modules[0].name, "sql");
  EXPECT_EQ(config->lora_modules[0].path, "/adapters/sql");
  EXPECT_EQ(config->lora_modules[1].base_model, "llama");
  EXPECT_EQ(config->engine.max_loras, 4U);
  EXPECT_EQ(config->engine.max_cpu_loras, 8U);
  EXPECT_EQ(config->engine.max_lora_rank, 16U);
}

TEST(Settings, PluginsUnsetMeansAllAndEmptyMeansNone) {
  // If this failed, VLLM_PLUGINS="" would load what its user wanted to keep out.
  Settings settings;
  EXPECT_EQ(settings.finish()->resolver.chain, std::vector<std::string>{"all"});
  ASSERT_TRUE(read_environment(settings, {"VLLM_PLUGINS="}));
  EXPECT_TRUE(settings.finish()->resolver.chain.empty());
}

TEST(Settings, PluginsThatOnlyVllmHasAreLeftToIt) {
  // If this failed, a machine set up for vLLM with a resolver of vLLM's own could not start loracle.
  Settings settings;
  ASSERT_TRUE(
      read_environment(settings, {"VLLM_PLUGINS=lora_hf_hub_resolver,lora_http_resolver,my_resolver"}));
  EXPECT_EQ(settings.finish()->resolver.chain, (std::vector<std::string>{"http", "my_resolver"}));
  ASSERT_EQ(settings.warnings().size(), 1U);
  EXPECT_TRUE(
      says(settings.warnings()[0], {"VLLM_PLUGINS", "lora_hf_hub_resolver", "LORACLE_RESOLVER_CHAIN"}));
}

TEST(Settings, ListsOfVariablesAreCommaSeparatedOrJson) {
  // If this failed, a path with a comma in it could not be given by a variable.
  Settings settings;
  ASSERT_TRUE(read_environment(settings, {R"(LORACLE_LORA_DIR_PREFIX=["/a,b", "/c"])",
                                          "LORACLE_LORA_MODULES=x=/x, y=/y", "LORACLE_LORA_INCLUDE="}));
  const Result<ServiceConfig> config = settings.finish();
  EXPECT_EQ(config->discovery.prefixes, (std::vector<std::string>{"/a,b", "/c"}));
  ASSERT_EQ(config->lora_modules.size(), 2U);
  EXPECT_EQ(config->lora_modules[1].path, "/y");
  ASSERT_TRUE(
      read_environment(settings, {R"(LORACLE_LORA_MODULES=[{"name": "z", "path": "s3://b/z"}, "w=/w"])"}));
  EXPECT_EQ(settings.finish()->lora_modules[0].path, "s3://b/z");
  EXPECT_EQ(settings.finish()->lora_modules[1].name, "w");
}

TEST(Settings, ReadsModulesOfAFileInEveryForm) {
  // If this failed, modules could be given on the command line but not be written down.
  Settings settings;
  const Result<Unit> read = settings.read_toml(
      "[discovery]\nlora_modules = ['a=/a', {name = 'b', path = '/b', base_model_name = 'm'}]\n", "f");
  ASSERT_TRUE(read) << read.error().message;
  ASSERT_EQ(settings.finish()->lora_modules.size(), 2U);
  EXPECT_EQ(settings.finish()->lora_modules[1].base_model, "m");
}

TEST(Settings, MistakesOfAFileNameLineAndCure) {
  // If this failed, an operator would have to guess which of eighty lines is wrong.
  EXPECT_TRUE(
      says(mistake_of_file("[engine]\n\nmax_lora = 2\n"),
           {"loracle.toml:3:", "unknown setting 'engine.max_lora'", "did you mean 'engine.max_loras'"}));
  EXPECT_TRUE(says(mistake_of_file("[engin]\nmax_loras = 2\n"),
                   {"loracle.toml:1:", "unknown section 'engin'", "'engine'"}));
  EXPECT_TRUE(
      says(mistake_of_file("max_loras = 2\n"), {"loracle.toml:1:", "did you mean 'engine.max_loras'"}));
  EXPECT_TRUE(says(mistake_of_file("[http]\nmax_loras = 2\n"), {"did you mean 'engine.max_loras'"}));
  EXPECT_TRUE(says(mistake_of_file("[http]\nzzzzz = 2\n"), {"loracle.toml:2:", "config show --example"}));
  EXPECT_TRUE(says(mistake_of_file("engine = 2\n"), {"loracle.toml:1:", "is a section", "[engine]"}));
  EXPECT_TRUE(says(mistake_of_file("[engine]\nmax_loras = '2'\n"),
                   {"loracle.toml:2:", "engine.max_loras", "without quotes"}));
  EXPECT_TRUE(
      says(mistake_of_file("[engine]\nmax_loras = 0\n"), {"loracle.toml:2:", "from 1 to 4294967295"}));
  EXPECT_TRUE(says(mistake_of_file("[http]\nport = 70000\n"), {"loracle.toml:2:", "from 0 to 65535"}));
  EXPECT_TRUE(says(mistake_of_file("[engine]\nmax_loras = -1\n"), {"loracle.toml:2:", "'-1'"}));
  EXPECT_TRUE(says(mistake_of_file("[cache]\nsize = 'much'\n"), {"loracle.toml:2:", "'much'", "10GB"}));
  EXPECT_TRUE(says(mistake_of_file("[cache]\nsize = true\n"), {"loracle.toml:2:", "takes a size"}));
  EXPECT_TRUE(says(mistake_of_file("[cache]\ntype = 'dsik'\n"), {"'dsik'", "did you mean 'disk'"}));
  EXPECT_TRUE(says(mistake_of_file("[discovery]\nwatch = 'yes'\n"), {"true or false", "without quotes"}));
  EXPECT_TRUE(says(mistake_of_file("[discovery]\nprefixes = [1]\n"), {"list of texts"}));
  EXPECT_TRUE(says(mistake_of_file("[discovery]\nprefixes = 1\n"), {"list of texts"}));
  EXPECT_TRUE(says(mistake_of_file("[log]\nlevel = 3\n"), {"takes a text"}));
  EXPECT_TRUE(says(mistake_of_file("[engine\n"), {"loracle.toml:1:", "not TOML"}));
  EXPECT_TRUE(
      says(mistake_of_file("[engine]\nmax_loras = 2\nmax_loras = 3\n"), {"loracle.toml:3:", "not TOML"}));
  const std::string both = mistake_of_file("[engine]\nmax_lora = 2\n[cache]\nsize = 'much'\n");
  EXPECT_TRUE(says(both, {"loracle.toml:2:", "\nloracle.toml:4:"})) << "all mistakes at once";
}

TEST(Settings, MistakesOfVariablesNameTheVariable) {
  // If this failed, a pod would fail with a message that names nothing its owner has written.
  EXPECT_TRUE(says(mistake_of_environment({"VLLM_CACHE_SIZE=lots"}), {"VLLM_CACHE_SIZE: 'lots'", "10GB"}));
  EXPECT_TRUE(says(mistake_of_environment({"VLLM_S3_MAX_CONCURRENT="}),
                   {"VLLM_S3_MAX_CONCURRENT: ''", "whole number"}));
  EXPECT_TRUE(says(mistake_of_environment({"VLLM_ALLOW_RUNTIME_LORA_UPDATING=perhaps"}),
                   {"VLLM_ALLOW_RUNTIME_LORA_UPDATING: 'perhaps'", "true or false"}));
  EXPECT_TRUE(says(mistake_of_environment({"LORACLE_LORA_DIR_PREFIX=[\"/a\""}),
                   {"LORACLE_LORA_DIR_PREFIX", "JSON array"}));
  EXPECT_TRUE(says(mistake_of_environment({"VLLM_STORAGE_PROVIDER=azure"}),
                   {"VLLM_STORAGE_PROVIDER: 'azure'", "s3, http"}));
}

TEST(Settings, UnknownVariablesAreToldAndThoseOfKubernetesAreNot) {
  // If this failed, a misspelt variable would be ignored in silence, or a service called loracle would keep
  // its own pods from starting.
  Settings settings;
  ASSERT_TRUE(read_environment(
      settings, {"LORACLE_MAX_LORA=4", "LORACLE_SERVICE_HOST=10.0.0.1", "LORACLE_PORT=tcp://10.0.0.1:80",
                 "LORACLE_PORT_80_TCP_PORT=80", "LORACLE_CONFIG=/x", "PATH=/bin"}));
  ASSERT_EQ(settings.warnings().size(), 1U);
  EXPECT_TRUE(says(settings.warnings()[0], {"LORACLE_MAX_LORA ", "did you mean 'LORACLE_MAX_LORAS'"}));
}

TEST(Settings, OfTwoNamesForOneSettingOursGoesFirst) {
  // If this failed, which of two variables counts would depend on their order in the environment.
  for (const auto& entries :
       {std::vector<std::string>{"LORACLE_CACHE_DIR=/ours", "VLLM_CACHE_DIR=/theirs"},
        std::vector<std::string>{"VLLM_CACHE_DIR=/theirs", "LORACLE_CACHE_DIR=/ours"}}) {
    Settings settings;
    ASSERT_TRUE(read_environment(settings, entries));
    EXPECT_EQ(settings.finish()->cache.dir, "/ours");
    ASSERT_EQ(settings.warnings().size(), 1U);
    EXPECT_TRUE(says(settings.warnings()[0], {"VLLM_CACHE_DIR is not used", "LORACLE_CACHE_DIR"}));
  }
}

TEST(Settings, MistakesOfFlagsNameTheFlag) {
  // If this failed, a long command line would be refused without saying which part of it is wrong.
  EXPECT_TRUE(says(mistake_of_flag("--max-loras", {"many"}), {"--max-loras: 'many'", "whole number"}));
  EXPECT_TRUE(says(mistake_of_flag("--max-loras", {"1", "2"}), {"--max-loras", "give one"}));
  EXPECT_TRUE(says(mistake_of_flag("--max-lora", {"1"}), {"unknown flag", "did you mean '--max-loras'"}));
  EXPECT_TRUE(says(mistake_of_flag("--lora-modules", {"sql"}), {"--lora-modules: 'sql'", "NAME=PATH"}));
  EXPECT_TRUE(
      says(mistake_of_flag("--lora-modules", {"a/b=/x"}), {"--lora-modules", "does not name an adapter"}));
  EXPECT_TRUE(says(mistake_of_flag("--lora-modules", {"a=/x", "a=/y"}), {"names 'a' twice"}));
  EXPECT_TRUE(says(mistake_of_flag("--lora-modules", {"a="}), {"no path"}));
  EXPECT_TRUE(says(mistake_of_flag("--lora-modules", {R"({"name": "a"})"}), {"no path"}));
  EXPECT_TRUE(says(mistake_of_flag("--lora-modules", {R"({"nmae": "a"})"}), {"did you mean 'name'"}));
  EXPECT_TRUE(says(mistake_of_flag("--lora-modules", {R"({"name": 1})"}), {"not a text"}));
  EXPECT_TRUE(says(mistake_of_flag("--lora-modules", {"{"}), {"not a JSON object"}));
  EXPECT_TRUE(says(mistake_of_flag("--lora-dtype", {"int8"}), {"bfloat16"}));
  EXPECT_TRUE(says(mistake_of_flag("--lora-catalog-type", {"disk"}), {"memory, storage"}));
}

TEST(Settings, AMistakeChangesNothing) {
  // If this failed, a server that goes on after a refused file would run with half of it.
  Settings settings;
  EXPECT_FALSE(settings.read_toml("[engine]\nmax_loras = 5\n[cache]\nsize = 'much'\n", "f"));
  EXPECT_EQ(value_of(settings, "engine.max_loras"), "1");
  EXPECT_EQ(origin_of(settings, "engine.max_loras"), "default");
  EXPECT_FALSE(read_environment(settings, {"LORACLE_MAX_LORAS=5", "LORACLE_CACHE_SIZE=much"}));
  EXPECT_EQ(value_of(settings, "engine.max_loras"), "1");
}

TEST(Settings, SettingsThatDoNotGoTogetherAreNamedWithTheirOrigins) {
  // If this failed, two settings in two places would contradict each other, and the message name one.
  EXPECT_TRUE(
      says(mistake_of_all("[engine]\nmax_loras = 4\nmax_cpu_loras = 2\n"),
           {"engine.max_cpu_loras (loracle.toml:3)", "engine.max_loras 4 (loracle.toml:2)", "at least 4"}));
  EXPECT_TRUE(says(mistake_of_all("[engine]\ncatalog_type = 'storage'\n"), {"--lora-catalog-path"}));
  EXPECT_TRUE(says(mistake_of_all("[engine]\ncatalog_type = 'memory'\ncatalog_path = '/a'\n"),
                   {"engine.catalog_path (loracle.toml:3)", "storage"}));
  EXPECT_TRUE(says(mistake_of_all("[engine]\nmax_lora_rank = 4096\n"), {"at most 512"}));
  EXPECT_TRUE(
      says(mistake_of_all("[discovery]\nprefixes = ['https://h/x']\n"), {"https://h/x", "cannot be listed"}));
  EXPECT_TRUE(says(mistake_of_all("[storage]\nproviders = ['http']\n[discovery]\nprefixes = ['s3://b/x']\n"),
                   {"s3://b/x", "storage.providers (loracle.toml:2)"}));
  EXPECT_TRUE(says(mistake_of_all("[resolver]\ns3_prefix = '/x'\n"), {"resolver.s3_prefix", "s3://bucket"}));
  EXPECT_TRUE(
      says(mistake_of_all("[resolver]\nhttp_prefix = '/x'\n"), {"resolver.http_prefix", "https://host"}));
  EXPECT_TRUE(says(mistake_of_all("[resolver]\nplugins = ['x.so']\n"), {"resolver.plugins", "./x.so"}));
  EXPECT_TRUE(says(mistake_of_all("[resolver]\nhttp_prefix = 'https://h/x'\n"),
                   {"resolver.http_prefix (loracle.toml:2)", "http_storage.allowed_hosts"}));
  for (const char* const remote :
       {"[discovery]\nprefixes = ['s3://b/x?key']\n", "[discovery]\nlora_modules = ['a=s3://b/x?key']\n",
        "[resolver]\ns3_prefix = 's3://b/x?key'\n"}) {
    EXPECT_TRUE(says(mistake_of_all(std::string("[cache]\ntype = 'none'\n") + remote),
                     {"cache.type (loracle.toml:2)", "'s3://b/x?***'", "disk or memory"}))
        << remote;
  }
}

TEST(Settings, TheBaseModelIsOneOfItsOwnNames) {
  // If this failed, adapters of the served model would be refused once an alias is given.
  Settings settings;
  ASSERT_TRUE(
      settings.read_toml("[engine]\nbase_model = 'meta/llama'\nbase_model_aliases = ['llama']\n", "f"));
  EXPECT_EQ(settings.finish()->engine.base_models, (std::vector<std::string>{"meta/llama", "llama"}));
  Settings aliases;
  ASSERT_TRUE(aliases.read_toml("[engine]\nbase_model_aliases = ['llama', 'l']\n", "f"));
  EXPECT_EQ(aliases.finish()->base_model, "llama");
  EXPECT_EQ(aliases.finish()->engine.base_models, (std::vector<std::string>{"llama", "l"}));
}

TEST(Settings, SecretsAreNeverShown) {
  // If this failed, API keys would be in terminals, tickets and log stores.
  const std::string secret = "sk-very-secret-1234";
  Settings settings;
  ASSERT_TRUE(settings.read_toml(
      "[http]\napi_keys = ['" + secret + "']\n[s3]\nendpoint = 'https://me:" + secret +
          "@minio:9000'\n[discovery]\nlora_modules = ['a=https://h/a?sig=" + secret + "']\n",
      "f"));
  for (const ShownSetting& shown : settings.show()) EXPECT_EQ(shown.value.find(secret), std::string::npos);
  EXPECT_EQ(value_of(settings, "http.api_keys"), "***");
  EXPECT_EQ(value_of(settings, "s3.endpoint"), "\"https://***@minio:9000\"");
  EXPECT_EQ(settings.finish()->http.api_keys, std::vector<std::string>{secret}) << "it is used all the same";
  const std::vector<std::string> mistakes = {
      mistake_of_file("[http]\napi_keys = [1, '" + secret + "']\n"),
      mistake_of_file("[http]\napi_keys = ['" + secret + "'\n"),
      mistake_of_file("[http]\napi_keys = '" + secret + "\n"),
      mistake_of_file("[http]\napi_keys = " + secret + "\n"),
      mistake_of_file("[http]\napi_keys = \"\\q" + secret + "\"\n"),
      mistake_of_environment({"LORACLE_HTTP_API_KEYS=[" + secret}),
      mistake_of_flag("--lora-modules", {"a/b=https://u:" + secret + "@h/x?k=" + secret}),
      mistake_of_all("[discovery]\nprefixes = ['https://u:" + secret + "@h/x?k=" + secret + "']\n")};
  for (const std::string& mistake : mistakes) {
    EXPECT_NE(mistake, "no mistake");
    EXPECT_EQ(mistake.find(secret), std::string::npos) << mistake;
  }
  for (const Setting& setting : all_settings()) {
    if (setting.is_secret) {
      EXPECT_TRUE(setting.flags.empty()) << "others can read command lines";
    }
  }
}

TEST(Settings, WarnsOfAFileWithSecretsThatOthersCanRead) {
  // If this failed, a key in a world-readable file would go unnoticed.
  namespace fs = std::filesystem;
  const testing::TempDir dir;
  const std::string path = dir.write("loracle.toml", "[http]\napi_keys = ['sk-1']\n");
  fs::permissions(path, fs::perms::owner_read | fs::perms::owner_write | fs::perms::others_read);
  Settings open;
  ASSERT_TRUE(open.read_file(path));
  ASSERT_EQ(open.warnings().size(), 1U);
  EXPECT_TRUE(says(open.warnings()[0], {path + ":2", "http.api_keys", "chmod 600"}));
  fs::permissions(path, fs::perms::owner_read | fs::perms::owner_write);
  Settings closed;
  ASSERT_TRUE(closed.read_file(path));
  EXPECT_TRUE(closed.warnings().empty());
}

TEST(Settings, AFileThatIsNotThereIsNamed) {
  // If this failed, a typing error in --config would start a server with defaults.
  Settings settings;
  const Result<Unit> read = settings.read_file("/nowhere/loracle.toml");
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().code, Errc::kNotFound);
  EXPECT_TRUE(says(read.error().message, {"/nowhere/loracle.toml"}));
}

TEST(Settings, PasswordsAndQueriesOfUrisAreTakenOut) {
  // If this failed, a pre-signed URL would give its signature away in a log.
  EXPECT_EQ(without_secrets("get https://u:p@h:1/a/b?X-Sig=s, now"), "get https://***@h:1/a/b?***, now");
  EXPECT_EQ(without_secrets("s3://bucket/a@1.2/x"), "s3://bucket/a@1.2/x");
  EXPECT_EQ(without_secrets("/plain/path?x"), "/plain/path?x");
  EXPECT_EQ(without_secrets("http://a@b http://c@d/"), "http://***@b http://***@d/");
}

}  // namespace
}  // namespace loracle
