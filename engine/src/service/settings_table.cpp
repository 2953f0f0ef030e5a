#include "service/settings_table.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <type_traits>
#include <utility>

#include "loracle/core/nearest.hpp"
#include "loracle/core/parse_bytes.hpp"
#include "loracle/engine/discovery.hpp"

namespace loracle::service {
namespace {

/// A member of ServiceConfig as a function pointer, which is what a constant table can hold.
// NOLINTNEXTLINE(bugprone-macro-parentheses): `c.(member)` is no C++
#define LORACLE_FIELD(member) +[](ServiceConfig& c) -> decltype((c.member)) { return c.member; }

// clang-format off
const SettingRow kRows[] = {
    // name, flags, aliases, choices, min, secret, field, help
    {"engine.catalog_type", "--lora-catalog-type", "", "memory storage", 0, false,
     LORACLE_FIELD(catalog.type),
     "Where adapters come from at the start: memory (only those that are named) or storage (a directory); "
     "empty: storage where a catalog path is given"},
    {"engine.catalog_path", "--lora-catalog-path", "", "", 0, false, LORACLE_FIELD(catalog.path),
     "The directory of adapters of catalog type storage, one folder each; it is the first prefix"},
    {"engine.database", "--database", "", "", 0, false, LORACLE_FIELD(engine.database),
     "Keep the catalog in this file; empty: in memory, forgotten at the end"},
    {"engine.max_loras", "--max-loras", "", "", 1, false, LORACLE_FIELD(engine.max_loras),
     "Adapter slots on the device"},
    {"engine.max_cpu_loras", "--max-cpu-loras", "", "", 0, false, LORACLE_FIELD(engine.max_cpu_loras),
     "Adapters in host memory; 0: as many as there are slots"},
    {"engine.max_lora_rank", "--max-lora-rank", "", "", 0, false, LORACLE_FIELD(engine.max_lora_rank),
     "Rank of a slot; 0: the largest rank found"},
    {"engine.gpu_memory", "--gpu-memory-for-loras", "", "", 1, false, LORACLE_FIELD(engine.gpu_memory),
     "Byte limit of the device tier, beside the count"},
    {"engine.cpu_memory", "--max-cpu-memory", "", "", 1, false, LORACLE_FIELD(engine.cpu_memory),
     "Byte limit of the host tier, beside the count"},
    {"engine.policy", "--policy", "", "", 0, false, LORACLE_FIELD(engine.policy),
     "Who is evicted: one policy for both tiers, or device/host such as sieve/gdsf"},
    {"engine.dtype", "--lora-dtype", "", "", 0, false, LORACLE_FIELD(engine.dtype),
     "Type of the weights as served: bfloat16, float16 or float32"},
    {"engine.device", "--device", "", "auto cuda host", 0, false, LORACLE_FIELD(device),
     "Where the slots lie: auto (a GPU, if one can be used), cuda or host"},
    {"engine.model", "--model", "", "", 0, false, LORACLE_FIELD(engine.model),
     "Whose layers slots have room for: llama-3.1-8b, or a config.json; empty: those of the adapters found"},
    {"engine.lora_targets", "--lora-targets", "", "", 0, false, LORACLE_FIELD(engine.lora_targets),
     "With the model: which of its layers: auto, all-linear, attention, or a list with commas"},
    {"engine.base_model", "--base-model", "", "", 0, false, LORACLE_FIELD(base_model),
     "The base model as clients name it; empty: adapters of any base model are accepted"},
    {"engine.base_model_aliases", "--base-model-alias", "", "", 0, false, LORACLE_FIELD(engine.base_models),
     "Further names of the base model, as adapters and clients may have it"},
    {"engine.adapters_max", "", "", "", 0, false, LORACLE_FIELD(engine.adapters_max),
     "Adapters that policies can know at once; 0: four times those that are known at the start"},
    {"engine.loads_in_flight_max", "", "", "", 1, false, LORACLE_FIELD(engine.loads_in_flight_max),
     "Adapters read from storage at once"},
    {"engine.requests_waiting_max", "", "", "", 1, false, LORACLE_FIELD(engine.requests_waiting_max),
     "Requests that may wait; more are refused at once"},
    {"engine.passes_max", "", "", "", 0, false, LORACLE_FIELD(engine.passes_max),
     "Requests that may pass one that waits for room"},
    {"engine.restore_residency", "", "", "", 0, false, LORACLE_FIELD(engine.restore_residency),
     "At the start, load again what was resident at the last shutdown"},
    {"engine.runtime_updating", "--allow-runtime-lora-updating", "VLLM_ALLOW_RUNTIME_LORA_UPDATING", "", 0,
     false, LORACLE_FIELD(runtime_updating),
     "Clients may load, unload and refresh adapters"},

    {"http.host", "--http-host,--host", "", "", 0, false, LORACLE_FIELD(http.host),
     "The address to listen on; 0.0.0.0: all"},
    {"http.port", "--http-port,--port", "", "", 0, false, LORACLE_FIELD(http.port),
     "The port to listen on; 0: any free one"},
    {"http.api_keys", "", "LORACLE_API_KEYS,VLLM_API_KEY", "", 0, true, LORACLE_FIELD(http.api_keys),
     "Keys of which clients must send one as a bearer token; empty: everybody may"},
    {"http.threads", "", "", "", 1, false, LORACLE_FIELD(http.threads),
     "Threads for requests that load, unload, pin or look for adapters; an acquire that waits holds none"},
    {"http.queue_max", "", "", "", 1, false, LORACLE_FIELD(http.queue_max),
     "Requests that may wait for a thread; more get 503 at once"},
    {"http.body_bytes_max", "", "", "", 1, false, LORACLE_FIELD(http.body_bytes_max),
     "Largest body of a request, in bytes"},
    {"http.header_bytes_max", "", "", "", 1, false, LORACLE_FIELD(http.header_bytes_max),
     "Largest headers of a request, in bytes"},
    {"http.read_timeout_ms", "", "", "", 1, false, LORACLE_FIELD(http.read_timeout_ms),
     "How long a client may take to send its request, in milliseconds"},
    {"http.write_timeout_ms", "", "", "", 1, false, LORACLE_FIELD(http.write_timeout_ms),
     "How long a client may take to receive its answer, in milliseconds"},
    {"http.request_timeout_ms", "", "", "", 1, false, LORACLE_FIELD(http.request_timeout_ms),
     "How long a request may wait for its adapters, in milliseconds"},
    {"http.drain_timeout_ms", "", "", "", 0, false, LORACLE_FIELD(http.drain_timeout_ms),
     "How long requests and leases may go on after SIGTERM, in milliseconds"},

    {"discovery.prefixes", "--lora-dir-prefix", "", "", 0, false, LORACLE_FIELD(discovery.prefixes),
     "Directories and s3:// prefixes whose folders are adapters; of a name that several have, the first "
     "wins"},
    {"discovery.interval_s", "--lora-discovery-interval", "", "", 0, false,
     LORACLE_FIELD(discovery.interval_s),
     "Look for adapters every so many seconds; 0: only at the start, on request and when files change"},
    {"discovery.watch", "", "", "", 0, false, LORACLE_FIELD(discovery.watch),
     "Look at once when files change, where the system can tell"},
    {"discovery.include", "--lora-include", "", "", 0, false, LORACLE_FIELD(discovery.include),
     "Shell patterns of names that are taken, such as support-*; empty: all"},
    {"discovery.exclude", "--lora-exclude", "", "", 0, false, LORACLE_FIELD(discovery.exclude),
     "Shell patterns of names that are left out"},
    {"discovery.lora_modules", "--lora-modules", "", "", 0, false, LORACLE_FIELD(lora_modules),
     "Adapters by name, NAME=PATH or {\"name\": , \"path\": , \"base_model_name\": }; they win over "
     "discovered ones"},

    {"storage.providers", "--storage-providers", "VLLM_STORAGE_PROVIDER", "s3 http https local file", 0,
     false,
     LORACLE_FIELD(storage_providers),
     "Where adapters may come from beside this machine's files: s3, http (which is https too)"},
    {"file_storage.allowed_paths", "", "", "", 0, false, LORACLE_FIELD(file_storage.allowed_paths),
     "Directories that adapters may be read from, beside those of the prefixes, modules and the resolver"},
    {"file_storage.create_dirs", "", "", "", 0, false, LORACLE_FIELD(file_storage.create_dirs),
     "Make allowed paths that are not there"},
    {"file_storage.verify_permissions", "", "", "", 0, false, LORACLE_FIELD(file_storage.verify_permissions),
     "Check at the start that every allowed path can be listed"},

    {"s3.region", "", "VLLM_S3_REGION", "", 0, false, LORACLE_FIELD(s3_storage.region),
     "Region of the buckets; empty: AWS_REGION, AWS_DEFAULT_REGION, the profile's, us-east-1"},
    {"s3.endpoint", "", "", "", 0, false, LORACLE_FIELD(s3_storage.endpoint),
     "http(s)://host[:port] of another S3; empty: AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, Amazon's"},
    {"s3.profile", "", "", "", 0, false, LORACLE_FIELD(s3_storage.profile),
     "Section of the AWS files; empty: AWS_PROFILE, default"},
    {"s3.path_style", "", "", "", 0, false, LORACLE_FIELD(s3_storage.path_style),
     "The bucket stands in the path, not in the host's name"},
    {"s3.max_concurrent", "", "VLLM_S3_MAX_CONCURRENT", "", 1, false,
     LORACLE_FIELD(s3_storage.max_concurrent),
     "Requests to S3 at once, over all adapters"},
    {"s3.anonymous", "", "", "", 0, false, LORACLE_FIELD(s3_storage.anonymous),
     "Requests are not signed: for public buckets"},
    {"s3.allowed_buckets", "", "", "", 0, false, LORACLE_FIELD(s3_storage.allowed_buckets),
     "Buckets that adapters may come from; empty: any"},
    {"s3.attempts_max", "", "", "", 1, false, LORACLE_FIELD(s3_storage.retry.attempts_max),
     "How often a request is made before it has failed"},
    {"s3.first_delay_ms", "", "", "", 0, false, LORACLE_FIELD(s3_storage.retry.first_delay_ms),
     "Wait before the second attempt, doubled each time, in milliseconds"},
    {"s3.delay_ms_max", "", "", "", 0, false, LORACLE_FIELD(s3_storage.retry.delay_ms_max),
     "Longest wait between attempts, in milliseconds"},
    {"s3.connect_timeout_ms", "", "", "", 1, false, LORACLE_FIELD(s3_storage.retry.connect_timeout_ms),
     "How long a connection may take, in milliseconds"},
    {"s3.stall_timeout_ms", "", "", "", 1, false, LORACLE_FIELD(s3_storage.retry.stall_timeout_ms),
     "How long a transfer may go without a byte, in milliseconds"},

    {"http_storage.allow_http", "", "", "", 0, false, LORACLE_FIELD(http_storage.allow_http),
     "Fetch from http:// too, which anybody on the way can change"},
    {"http_storage.allowed_hosts", "", "", "", 0, false, LORACLE_FIELD(http_storage.allowed_hosts),
     "Hosts that adapters may come from: host, host:port or *.domain; empty: none at all"},
    {"http_storage.allow_private_addresses", "", "", "", 0, false,
     LORACLE_FIELD(http_storage.allow_private_addresses),
     "Hosts may have addresses of private networks and of this machine"},
    {"http_storage.redirects_max", "", "", "", 0, false, LORACLE_FIELD(http_storage.redirects_max),
     "Redirects that are followed"},
    {"http_storage.max_concurrent", "", "", "", 1, false, LORACLE_FIELD(http_storage.max_concurrent),
     "Requests at once, over all adapters"},
    {"http_storage.ca_file", "", "", "", 0, false, LORACLE_FIELD(http_storage.ca_file),
     "Certificates that are trusted (PEM); empty: the system's"},
    {"http_storage.attempts_max", "", "", "", 1, false, LORACLE_FIELD(http_storage.retry.attempts_max),
     "How often a request is made before it has failed"},
    {"http_storage.first_delay_ms", "", "", "", 0, false, LORACLE_FIELD(http_storage.retry.first_delay_ms),
     "Wait before the second attempt, doubled each time, in milliseconds"},
    {"http_storage.delay_ms_max", "", "", "", 0, false, LORACLE_FIELD(http_storage.retry.delay_ms_max),
     "Longest wait between attempts, in milliseconds"},
    {"http_storage.connect_timeout_ms", "", "", "", 1, false,
     LORACLE_FIELD(http_storage.retry.connect_timeout_ms), "How long a connection may take, in milliseconds"},
    {"http_storage.stall_timeout_ms", "", "", "", 1, false,
     LORACLE_FIELD(http_storage.retry.stall_timeout_ms),
     "How long a transfer may go without a byte, in milliseconds"},

    {"cache.type", "", "VLLM_CACHE_TYPE", "", 0, false, LORACLE_FIELD(cache.type),
     "Where copies of remote adapters are kept: disk, memory or none"},
    {"cache.dir", "", "VLLM_CACHE_DIR", "", 0, false, LORACLE_FIELD(cache.dir),
     "Directory of the cache on disk; empty: $XDG_CACHE_HOME/loracle or ~/.cache/loracle"},
    {"cache.size", "", "VLLM_CACHE_SIZE", "", 1, false, LORACLE_FIELD(cache.max_size),
     "Bytes the cache may take"},
    {"cache.max_items", "", "", "", 0, false, LORACLE_FIELD(cache.max_items),
     "Adapters the cache may hold; 0: no limit of their number"},
    {"cache.create_dirs", "", "", "", 0, false, LORACLE_FIELD(cache.create_dirs),
     "Make the directory if it is not there"},
    {"cache.preserve_permissions", "", "", "", 0, false, LORACLE_FIELD(cache.preserve_permissions),
     "Copies keep the permissions of their files"},
    {"cache.policy", "", "", "", 0, false, LORACLE_FIELD(cache.policy), "Who is evicted from the cache"},

    {"resolver.chain", "", "VLLM_PLUGINS", "", 0, false, LORACLE_FIELD(resolver.chain),
     "Who is asked for an unknown adapter, in this order: filesystem, s3, catalog, http, names of plugins; "
     "all: whoever is configured; empty: nobody"},
    {"resolver.cache_dir", "", "VLLM_LORA_RESOLVER_CACHE_DIR", "", 0, false,
     LORACLE_FIELD(resolver.cache_dir),
     "Directory of the filesystem resolver: one folder an adapter"},
    {"resolver.s3_prefix", "", "", "", 0, false, LORACLE_FIELD(resolver.s3_prefix),
     "s3://bucket/prefix of the s3 resolver: one folder an adapter"},
    {"resolver.http_prefix", "", "", "", 0, false, LORACLE_FIELD(resolver.http_prefix),
     "https://host/path of the http resolver: one folder an adapter"},
    {"resolver.plugins", "", "", "", 0, false, LORACLE_FIELD(resolver.plugins),
     "Shared objects of further resolvers (loracle/service/loracle_resolver.h), with their paths"},
    {"resolver.deadline_ms", "", "", "", 1, false, LORACLE_FIELD(resolver.deadline_ms),
     "How long a resolver may take before the next one is asked, in milliseconds"},
    {"resolver.negative_ttl_ms", "", "", "", 0, false, LORACLE_FIELD(resolver.negative_ttl_ms),
     "How long it is remembered that nobody has an adapter, in milliseconds"},

    {"capture.path", "", "", "", 0, false, LORACLE_FIELD(capture.path),
     "Record the requests as a trace (JSONL) in this file; empty: do not"},
    {"capture.max_size", "", "", "", 1, false, LORACLE_FIELD(capture.max_size),
     "Bytes of all trace files together"},
    {"capture.files_max", "", "", "", 1, false, LORACLE_FIELD(capture.files_max),
     "Trace files, the oldest of which is overwritten"},

    {"log.level", "", "", "trace debug info warning error off", 0, false, LORACLE_FIELD(log.level),
     "What is logged: trace, debug, info, warning, error or off"},
    {"log.format", "", "", "text json", 0, false, LORACLE_FIELD(log.format),
     "How it is logged on standard error: text or json"},
};
// clang-format on
#undef LORACLE_FIELD

std::string lower(std::string_view text) {
  std::string lowered(text);
  for (char& c : lowered) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return lowered;
}

std::vector<std::string_view> words(std::string_view text, char separator) {
  std::vector<std::string_view> found;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find(separator), text.size());
    if (end > 0) found.push_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return found;
}

/// The value as a message may show it.
std::string shown(const SettingRow& row, std::string_view value) {
  return row.is_secret ? "the value" : fmt::format("'{}'", without_secrets(value));
}

Result<bool> parse_switch(std::string_view text) {
  const std::string word = lower(text);
  for (const std::string_view yes : {"true", "yes", "on", "1"})
    if (word == yes) return true;
  for (const std::string_view no : {"false", "no", "off", "0"})
    if (word == no) return false;
  return fail(Errc::kInvalid, "is neither true nor false: write true or false");
}

Result<std::uint64_t> parse_count(std::string_view text, std::uint64_t min, std::uint64_t max) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool whole = end == text.data() + text.size() && !text.empty();
  if (!whole || error == std::errc::invalid_argument)
    return fail(Errc::kInvalid, fmt::format("is not a whole number: write one from {} to {}", min, max));
  if (error != std::errc{} || value < min || value > max)
    return fail(Errc::kInvalid, fmt::format("is out of range: write a number from {} to {}", min, max));
  return value;
}

/// The choice that is meant; case does not matter.
Result<std::string> choose(std::string_view text, std::string_view choices) {
  const std::vector<std::string_view> names = words(choices, ' ');
  const std::string word = lower(text);
  if (std::find(names.begin(), names.end(), word) != names.end()) return word;
  return fail(Errc::kInvalid,
              fmt::format("is none of {}{}", fmt::join(names, ", "), did_you_mean(text, names)));
}

Result<LoraModuleSetting> module_of_json(const std::string& text) {
  const auto json = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  const char* const form = R"(write {"name": "sql", "path": "/adapters/sql"})";
  if (!json.is_object()) return fail(Errc::kInvalid, fmt::format("is not a JSON object: {}", form));
  LoraModuleSetting module;
  for (const auto& [key, value] : json.items()) {
    std::string* const target = key == "name"                                     ? &module.name
                                : key == "path"                                   ? &module.path
                                : key == "base_model_name" || key == "base_model" ? &module.base_model
                                                                                  : nullptr;
    if (target == nullptr) {
      static constexpr std::string_view kKeys[] = {"name", "path", "base_model_name"};
      return fail(Errc::kInvalid,
                  fmt::format("has an unknown key '{}'{} ({})", key, did_you_mean(key, kKeys), form));
    }
    if (value.is_null()) continue;
    if (!value.is_string()) return fail(Errc::kInvalid, fmt::format("'{}' is not a text: {}", key, form));
    *target = value.get<std::string>();
  }
  return module;
}

Result<LoraModuleSetting> parse_module(const std::string& text) {
  LoraModuleSetting module;
  if (text.starts_with('{')) {
    Result<LoraModuleSetting> parsed = module_of_json(text);
    if (!parsed) return parsed;
    module = std::move(*parsed);
  } else {
    const std::size_t equals = text.find('=');
    if (equals == std::string::npos) return fail(Errc::kInvalid, "has no '=': write NAME=PATH");
    module.name = text.substr(0, equals);
    module.path = text.substr(equals + 1);
  }
  if (const Result<Unit> ok = check_adapter_name(module.name); !ok)
    return fail(Errc::kInvalid, fmt::format("does not name an adapter: {}", ok.error().message));
  if (module.path.empty()) return fail(Errc::kInvalid, "has no path: write NAME=PATH");
  return module;
}

/// Writes values into the field they belong to.
struct Assign {
  const SettingRow& row;
  ServiceConfig& config;
  std::span<const std::string> values;

  template <class T>
  Result<Unit> operator()(Field<T> field) const {
    if (values.size() != 1)
      return fail(Errc::kInvalid, fmt::format("is given {} values: give one", values.size()));
    Result<T> value = parse(values[0], static_cast<T*>(nullptr));
    if (!value)
      return fail(Errc::kInvalid, fmt::format("{} {}", shown(row, values[0]), value.error().message));
    field(config) = std::move(*value);
    return Unit{};
  }

  Result<Unit> operator()(Field<std::vector<std::string>> field) const {
    std::vector<std::string> items;
    for (const std::string& value : values) {
      if (value.empty()) continue;
      if (row.choices.empty()) {
        items.push_back(value);
        continue;
      }
      Result<std::string> item = choose(value, row.choices);
      if (!item) return fail(Errc::kInvalid, fmt::format("{} {}", shown(row, value), item.error().message));
      items.push_back(std::move(*item));
    }
    field(config) = std::move(items);
    return Unit{};
  }

  Result<Unit> operator()(Field<std::vector<LoraModuleSetting>> field) const {
    std::vector<LoraModuleSetting> modules;
    for (const std::string& value : values) {
      if (value.empty()) continue;
      Result<LoraModuleSetting> module = parse_module(value);
      if (!module)
        return fail(Errc::kInvalid, fmt::format("{} {}", shown(row, value), module.error().message));
      for (const LoraModuleSetting& other : modules) {
        if (other.name == module->name)
          return fail(Errc::kInvalid, fmt::format("names '{}' twice: leave one of them out", module->name));
      }
      modules.push_back(std::move(*module));
    }
    field(config) = std::move(modules);
    return Unit{};
  }

 private:
  [[nodiscard]] static Result<bool> parse(const std::string& text, bool*) { return parse_switch(text); }
  template <class Count>
  requires std::is_same_v<Count, std::uint16_t> || std::is_same_v<Count, std::uint32_t>
  [[nodiscard]] Result<Count> parse(const std::string& text, Count*) const {
    const Result<std::uint64_t> count = parse_count(text, row.min, std::numeric_limits<Count>::max());
    if (!count) return fail(count.error());
    return static_cast<Count>(*count);
  }
  [[nodiscard]] Result<Bytes> parse(const std::string& text, Bytes*) const {
    if (lower(text) == "unlimited") return Bytes::max();
    const Result<Bytes> bytes = parse_bytes(text);
    if (!bytes) return fail(Errc::kInvalid, "is not a size: write for example 10GB, 8GiB or 1048576");
    if (bytes->value < row.min) return fail(Errc::kInvalid, "holds nothing: write for example 10GB");
    return *bytes;
  }
  [[nodiscard]] Result<std::string> parse(const std::string& text, std::string*) const {
    if (text.find('\0') != std::string::npos)
      return fail(Errc::kInvalid, "has a NUL byte in it: take it out");
    if (row.choices.empty() || text.empty()) return text;
    return choose(text, row.choices);
  }
  [[nodiscard]] static Result<Dtype> parse(const std::string& text, Dtype*) {
    const Result<Dtype> dtype = parse_dtype(text);
    if (!dtype || bytes_of(*dtype) < 2)
      return fail(Errc::kInvalid, "is no type adapters are served in: write bfloat16, float16 or float32");
    return *dtype;
  }
  [[nodiscard]] static Result<CacheType> parse(const std::string& text, CacheType*) {
    const Result<std::string> word = choose(text, "disk memory none");
    if (!word) return fail(word.error());
    return *word == "disk" ? CacheType::kDisk : *word == "memory" ? CacheType::kMemory : CacheType::kNone;
  }
};

std::string as_toml(bool value) { return value ? "true" : "false"; }
std::string as_toml(std::uint16_t value) { return fmt::format("{}", value); }
std::string as_toml(std::uint32_t value) { return fmt::format("{}", value); }
std::string as_toml(const std::string& value) { return toml_text(value); }
std::string as_toml(Dtype value) { return toml_text(name_of(value)); }
std::string as_toml(CacheType value) {
  return value == CacheType::kDisk     ? toml_text("disk")
         : value == CacheType::kMemory ? toml_text("memory")
                                       : toml_text("none");
}
/// In the largest unit that shows it whole.
std::string as_toml(Bytes value) {
  if (value == Bytes::max()) return toml_text("unlimited");
  static constexpr std::pair<std::string_view, std::uint64_t> kUnits[] = {
      {"TiB", 1ULL << 40U}, {"TB", 1'000'000'000'000}, {"GiB", 1ULL << 30U}, {"GB", 1'000'000'000},
      {"MiB", 1ULL << 20U}, {"MB", 1'000'000},         {"KiB", 1ULL << 10U}, {"KB", 1'000}};
  for (const auto& [name, factor] : kUnits)
    if (value.value >= factor && value.value % factor == 0)
      return toml_text(fmt::format("{}{}", value.value / factor, name));
  return fmt::format("{}", value.value);
}
std::string as_toml(const std::vector<std::string>& values) {
  std::vector<std::string> items;
  items.reserve(values.size());
  for (const std::string& value : values) items.push_back(toml_text(value));
  return fmt::format("[{}]", fmt::join(items, ", "));
}
std::string as_toml(const std::vector<LoraModuleSetting>& modules) {
  std::vector<std::string> items;
  items.reserve(modules.size());
  for (const LoraModuleSetting& module : modules) {
    items.push_back(fmt::format("{{name = {}, path = {}{}}}", toml_text(module.name), toml_text(module.path),
                                module.base_model.empty()
                                    ? ""
                                    : fmt::format(", base_model_name = {}", toml_text(module.base_model))));
  }
  return fmt::format("[{}]", fmt::join(items, ", "));
}

std::string type_of(const SettingRow& row) {
  if (!row.choices.empty() && !std::holds_alternative<Field<std::vector<std::string>>>(row.target)) {
    std::string type(row.choices);
    std::replace(type.begin(), type.end(), ' ', '|');
    return type;
  }
  struct Name {
    std::string operator()(Field<bool>) const { return "true|false"; }
    std::string operator()(Field<std::uint16_t>) const { return "number"; }
    std::string operator()(Field<std::uint32_t>) const { return "number"; }
    std::string operator()(Field<Bytes>) const { return "size"; }
    std::string operator()(Field<std::string>) const { return "text"; }
    std::string operator()(Field<std::vector<std::string>>) const { return "list"; }
    std::string operator()(Field<Dtype>) const { return "bfloat16|float16|float32"; }
    std::string operator()(Field<CacheType>) const { return "disk|memory|none"; }
    std::string operator()(Field<std::vector<LoraModuleSetting>>) const { return "list of modules"; }
  };
  return std::visit(Name{}, row.target);
}

std::string in_capitals(std::string_view name) {
  std::string text = "LORACLE_";
  for (const char c : name)
    text += c == '.' || c == '-' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return text;
}

Setting setting_of(const SettingRow& row) {
  Setting setting;
  setting.name = row.name;
  setting.type = type_of(row);
  setting.help = row.help;
  setting.is_secret = row.is_secret;
  setting.is_list = std::holds_alternative<Field<std::vector<std::string>>>(row.target) ||
                    std::holds_alternative<Field<std::vector<LoraModuleSetting>>>(row.target);
  setting.is_switch = std::holds_alternative<Field<bool>>(row.target);
  setting.variables.push_back(in_capitals(row.name));
  for (const std::string_view flag : words(row.flags, ',')) setting.flags.emplace_back(flag);
  if (setting.flags.empty() && !row.is_secret) {
    std::string flag = fmt::format("--{}", row.name);
    for (char& c : flag)
      if (c == '.' || c == '_') c = '-';
    setting.flags.push_back(std::move(flag));
  }
  if (!setting.flags.empty()) {
    std::string variable = in_capitals(std::string_view(setting.flags[0]).substr(2));
    if (variable != setting.variables[0]) setting.variables.push_back(std::move(variable));
  }
  for (const std::string_view alias : words(row.aliases, ',')) setting.variables.emplace_back(alias);
  return setting;
}

}  // namespace

std::span<const SettingRow> setting_rows() { return kRows; }

Result<Unit> assign(ServiceConfig& config, const SettingRow& row, std::span<const std::string> values) {
  return std::visit(Assign{row, config, values}, row.target);
}

std::string toml_value(const ServiceConfig& config, const SettingRow& row) {
  // The fields are read and written through one pointer; reading changes nothing.
  auto& readable = const_cast<ServiceConfig&>(config);  // NOLINT(cppcoreguidelines-pro-type-const-cast)
  return std::visit([&readable](auto field) { return as_toml(field(readable)); }, row.target);
}

std::string toml_text(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\')
      out += {'\\', c};
    else if (byte < 0x20 || byte == 0x7F)
      out += fmt::format("\\u{:04x}", byte);
    else
      out += c;
  }
  return out + '"';
}

std::string did_you_mean(std::string_view given, std::span<const std::string_view> names) {
  const std::string_view nearest = nearest_name(given, names);
  return nearest.empty() ? std::string() : fmt::format("; did you mean '{}'?", nearest);
}

}  // namespace loracle::service

namespace loracle {

std::span<const Setting> all_settings() {
  static const std::vector<Setting> settings = [] {
    std::vector<Setting> made;
    for (const service::SettingRow& row : service::setting_rows()) made.push_back(service::setting_of(row));
    return made;
  }();
  return settings;
}

}  // namespace loracle
