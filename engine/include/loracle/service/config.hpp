#pragma once
/// Everything `loracle serve` can be told, with its defaults. Plain data: settings.hpp fills it from a file,
/// the environment and flags, and says where each value came from.

#include <cstdint>
#include <string>
#include <vector>

#include "loracle/core/units.hpp"
#include "loracle/engine/engine.hpp"
#include "loracle/storage/provider.hpp"

namespace loracle {

/// --lora-modules NAME=PATH, or its JSON form: wins over a discovered adapter of that name.
struct LoraModuleSetting {
  std::string name;
  std::string path;        // or a URI
  std::string base_model;  // empty: the first served name
};

/// --lora-catalog-type and --lora-catalog-path: "storage" makes the directory the first of
/// discovery.prefixes.
struct CatalogConfig {
  std::string type;  // memory storage; empty: storage where a path is given
  std::string path;
};

struct HttpServerConfig {
  std::string host = "127.0.0.1";
  std::uint16_t port = 8470;          // 0: any free one
  std::vector<std::string> api_keys;  // secret; empty: everybody may
  std::uint32_t threads = 16;         // of requests that may take long
  std::uint32_t queue_max = 256;      // requests that wait for a thread; more get 503 and Retry-After
  std::uint32_t body_bytes_max = 1U << 20U;
  std::uint32_t header_bytes_max = 16U << 10U;
  std::uint32_t read_timeout_ms = 10'000;
  std::uint32_t write_timeout_ms = 30'000;
  std::uint32_t request_timeout_ms = 300'000;  // of an acquire or a load
  std::uint32_t drain_timeout_ms = 30'000;     // after SIGTERM
};

struct DiscoveryConfig {
  std::vector<std::string> prefixes;  // --lora-dir-prefix: directories, s3:// prefixes
  std::uint32_t interval_s = 0;       // --lora-discovery-interval; 0: only at the start and on request
  bool watch = true;                  // inotify, where it works
  std::vector<std::string> include;   // shell patterns of names; empty: all
  std::vector<std::string> exclude;
};

enum class CacheType : std::uint8_t { kNone, kMemory, kDisk };

struct CacheConfig {
  CacheType type = CacheType::kDisk;
  std::string dir;  // empty: $XDG_CACHE_HOME/loracle, ~/.cache/loracle
  Bytes max_size = Bytes{10'000'000'000};
  std::uint32_t max_items = 0;  // 0: no limit of their number
  bool create_dirs = true;
  bool preserve_permissions = false;
  std::string policy = "lru";
};

struct ResolverConfig {
  /// filesystem s3 catalog http, or a plugin's name; asked in this order. "all": those four in this order, as
  /// far as they are configured, then every plugin. Empty: none.
  std::vector<std::string> chain = {"all"};
  std::string cache_dir;             // VLLM_LORA_RESOLVER_CACHE_DIR: of the filesystem resolver
  std::string s3_prefix;             // s3://bucket/prefix: of the s3 resolver
  std::string http_prefix;           // https://host/path: of the http resolver
  std::vector<std::string> plugins;  // paths of shared objects
  std::uint32_t deadline_ms = 30'000;
  std::uint32_t negative_ttl_ms = 5'000;  // how long "there is none" is remembered
};

struct CaptureConfig {
  std::string path;                       // of the trace (JSONL); empty: none is recorded
  Bytes max_size = Bytes{1'000'000'000};  // of all files together
  std::uint32_t files_max = 4;            // rotated
};

struct LogConfig {
  std::string level = "info";   // trace debug info warning error off
  std::string format = "text";  // text or json, on standard error
};

struct ServiceConfig {
  EngineConfig engine;           // its directory is not used: discovery.prefixes are
  std::string device = "auto";   // auto cuda host
  std::string base_model;        // as clients name it, and its aliases in engine.base_models
  bool runtime_updating = true;  // VLLM_ALLOW_RUNTIME_LORA_UPDATING: load, unload and refresh routes
  HttpServerConfig http;
  DiscoveryConfig discovery;
  std::vector<LoraModuleSetting> lora_modules;
  CatalogConfig catalog;
  /// Where adapters may come from beside this machine's files.
  std::vector<std::string> storage_providers = {"s3", "http"};
  FileStorageOptions file_storage;
  S3StorageOptions s3_storage;
  HttpStorageOptions http_storage;
  CacheConfig cache;
  ResolverConfig resolver;
  CaptureConfig capture;
  LogConfig log;
};

}  // namespace loracle
