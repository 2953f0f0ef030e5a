#pragma once
/// What tests of resolvers stand on: adapters in folders, storage in memory, resolvers that do as they are
/// told.

#include <algorithm>
#include <atomic>
#include <cstring>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "loracle/service/resolver.hpp"
#include "support/temp_dir.hpp"

namespace loracle::testing {

inline std::string config_json(const std::string& base_model) {
  return R"({"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["q_proj"], )"
         R"("base_model_name_or_path": ")" +
         base_model + "\"}";
}

/// Makes a folder with an adapter config; answers its path.
inline std::string make_folder(const TempDir& dir, const std::string& name,
                               const std::string& base_model = "llama") {
  std::filesystem::create_directories(dir / name);
  dir.write(name + "/adapter_config.json", config_json(base_model));
  return (dir / name).string();
}

/// Objects in memory, by URI. Threads: one writes, while nobody reads.
class MemoryStorage final : public StorageProvider {
 public:
  explicit MemoryStorage(std::string scheme) : scheme_(std::move(scheme)) {}
  [[nodiscard]] std::string_view scheme() const noexcept override { return scheme_; }
  [[nodiscard]] Result<StoredListing> list(const std::string& uri, bool) override {
    if (list_error) return fail(*list_error);
    StoredListing listing;
    for (const auto& [name, bytes] : objects)
      if (name.starts_with(uri + "/"))
        listing.objects.push_back({name.substr(uri.size() + 1), bytes.size(), etag(bytes), 0});
    if (listing.objects.empty()) return fail(Errc::kNotFound, uri + ": nothing there");
    return listing;
  }
  [[nodiscard]] Result<StoredObject> stat(const std::string& uri) override {
    const auto found = objects.find(uri);
    if (found == objects.end()) return fail(Errc::kNotFound, uri + ": no such object");
    return StoredObject{uri.substr(uri.rfind('/') + 1), found->second.size(), etag(found->second), 0};
  }
  [[nodiscard]] Result<Unit> fetch(const std::string& uri, const FetchRange& range,
                                   const ByteSink& sink) override {
    const auto found = objects.find(uri);
    if (found == objects.end()) return fail(Errc::kNotFound, uri + ": no such object");
    const std::string part = found->second.substr(range.offset, range.length);
    return sink(range.offset, std::as_bytes(std::span(part)));
  }

  std::map<std::string, std::string> objects;
  std::optional<Error> list_error;

 private:
  static std::string etag(const std::string& bytes) {
    return std::to_string(std::hash<std::string>{}(bytes));
  }
  std::string scheme_;
};

/// Moves only when it is told to.
class ManualTime final : public TimeSource {
 public:
  [[nodiscard]] std::uint64_t now_ns() noexcept override { return now; }
  [[nodiscard]] std::int64_t unix_s() noexcept override { return 0; }
  std::atomic<std::uint64_t> now = 1;
};

/// Answers what a function says.
class FakeResolver final : public AdapterResolver {
 public:
  using Locate = std::function<Result<std::string>(const std::string& base_model, const std::string& name)>;
  FakeResolver(std::string name, Locate locate) : name_(std::move(name)), locate_(std::move(locate)) {}
  [[nodiscard]] std::string_view name() const noexcept override { return name_; }
  [[nodiscard]] Result<std::string> locate(const std::string& base_model, const std::string& name) override {
    return locate_(base_model, name);
  }

 private:
  std::string name_;
  Locate locate_;
};

}  // namespace loracle::testing
