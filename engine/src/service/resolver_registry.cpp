/// The resolvers loracle has itself, and how a chain is put together.

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <system_error>
#include <utility>

#include "loracle/core/nearest.hpp"
#include "loracle/engine/origin.hpp"
#include "loracle/service/resolver.hpp"
#include "loracle/service/settings.hpp"
#include "service/locations.hpp"

namespace loracle {
namespace {

using Made = Result<std::shared_ptr<AdapterResolver>>;

/// A folder of the cache directory. A link that leads out of it is refused.
class FilesystemResolver final : public AdapterResolver {
 public:
  FilesystemResolver(std::string directory, std::unique_ptr<Files> files)
      : directory_(std::move(directory)), files_(std::move(files)) {}
  [[nodiscard]] std::string_view name() const noexcept override { return "filesystem"; }
  [[nodiscard]] Result<std::string> locate(const std::string&, const std::string& name) override {
    std::string folder = fmt::format("{}/{}", directory_, name);
    // Opened, not looked at: only then is it certain where it lies.
    const Result<std::unique_ptr<OpenFile>> config = files_->open(folder + "/adapter_config.json");
    if (!config) return fail(config.error());
    return folder;
  }

 private:
  std::string directory_;
  std::unique_ptr<Files> files_;
};

/// A name below a prefix; whether it is there, the chain finds out.
class PrefixResolver final : public AdapterResolver {
 public:
  PrefixResolver(std::string_view name, std::string prefix, bool encode)
      : name_(name), prefix_(std::move(prefix)), encode_(encode) {
    while (prefix_.ends_with('/')) prefix_.pop_back();
  }
  [[nodiscard]] std::string_view name() const noexcept override { return name_; }
  [[nodiscard]] Result<std::string> locate(const std::string&, const std::string& name) override {
    return fmt::format("{}/{}", prefix_, encode_ ? percent_encoded(name) : name);
  }

 private:
  [[nodiscard]] static std::string percent_encoded(std::string_view name) {
    static constexpr std::string_view kPlain =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~@";
    std::string text;
    for (const char c : name) {
      if (kPlain.find(c) != std::string_view::npos)
        text += c;
      else
        text += fmt::format("%{:02X}", static_cast<unsigned char>(c));
    }
    return text;
  }

  std::string_view name_;
  std::string prefix_;
  bool encode_;
};

class CatalogResolver final : public AdapterResolver {
 public:
  explicit CatalogResolver(std::function<Result<std::string>(const std::string&)> catalog)
      : catalog_(std::move(catalog)) {}
  [[nodiscard]] std::string_view name() const noexcept override { return "catalog"; }
  [[nodiscard]] Result<std::string> locate(const std::string&, const std::string& name) override {
    return catalog_(name);
  }

 private:
  std::function<Result<std::string>(const std::string&)> catalog_;
};

Made make_filesystem(const ResolverConfig& config, const ResolverWorld&) {
  if (config.cache_dir.empty()) return Made(nullptr);
  const Result<service::Location> directory = service::location_of(config.cache_dir);
  if (!directory) return fail(directory.error());
  // From the root on: what it finds is told to clients, whose own working directory is another.
  std::error_code error;
  std::filesystem::path given = directory->place;
  if (given.is_relative()) given = std::filesystem::absolute(given, error).lexically_normal();
  const std::string absolute = given.string();
  if (error) return fail(Errc::kIo, fmt::format("{}: {}", config.cache_dir, error.message()), error.value());
  const std::string roots[] = {absolute};
  Result<std::unique_ptr<Files>> files = make_rooted_files(roots);
  if (!files) {
    return fail(Errc::kInvalid,
                fmt::format("resolver.cache_dir (VLLM_LORA_RESOLVER_CACHE_DIR): {}: give a directory "
                            "that is there",
                            files.error().message),
                files.error().detail);
  }
  return std::make_shared<FilesystemResolver>(absolute, std::move(*files));
}

/// A prefix needs somebody who reads its scheme.
Made make_prefix(std::string_view name, std::string_view setting, const std::string& prefix,
                 const ResolverWorld& world) {
  if (prefix.empty()) return Made(nullptr);
  if (const Result<StorageProvider*> provider = service::storage_of(world.storage, prefix); !provider)
    return fail(Errc::kInvalid, fmt::format("{}: {}", setting, provider.error().message));
  return std::make_shared<PrefixResolver>(name, prefix, name == "http");
}

Made make_catalog(const ResolverConfig&, const ResolverWorld& world) {
  if (!world.catalog) return Made(nullptr);
  return std::make_shared<CatalogResolver>(world.catalog);
}

std::string what_it_needs(const std::string& name) {
  if (name == "filesystem") return "set resolver.cache_dir (VLLM_LORA_RESOLVER_CACHE_DIR)";
  if (name == "s3" || name == "http") return fmt::format("set resolver.{}_prefix", name);
  if (name == "catalog") return "set engine.database";
  return "configure it";
}

}  // namespace

std::string plain_resolver_name(const std::string& name) {
  constexpr std::string_view kBefore = "lora_";
  constexpr std::string_view kAfter = "_resolver";
  if (!name.starts_with(kBefore) || !name.ends_with(kAfter) || name.size() <= kBefore.size() + kAfter.size())
    return name;
  return name.substr(kBefore.size(), name.size() - kBefore.size() - kAfter.size());
}

ResolverRegistry::ResolverRegistry() {
  entries_.push_back({"filesystem", make_filesystem});
  entries_.push_back({"s3", [](const ResolverConfig& config, const ResolverWorld& world) {
                        return make_prefix("s3", "resolver.s3_prefix", config.s3_prefix, world);
                      }});
  entries_.push_back({"catalog", make_catalog});
  entries_.push_back({"http", [](const ResolverConfig& config, const ResolverWorld& world) {
                        return make_prefix("http", "resolver.http_prefix", config.http_prefix, world);
                      }});
}

Result<Unit> ResolverRegistry::add(std::string name, MakeResolver make) {
  if (name.empty() || name == "all" || !make)
    return fail(Errc::kInvalid, fmt::format("'{}' cannot be a resolver's name", name));
  for (const Entry& entry : entries_)
    if (entry.name == name)
      return fail(Errc::kInvalid,
                  fmt::format("there is a resolver '{}' already: give it another name", name));
  entries_.push_back({std::move(name), std::move(make)});
  return Unit{};
}

std::vector<std::string> ResolverRegistry::names() const {
  std::vector<std::string> names;
  for (const Entry& entry : entries_) names.push_back(entry.name);
  return names;
}

Result<std::vector<std::shared_ptr<AdapterResolver>>> ResolverRegistry::make_chain(
    const ResolverConfig& config, const ResolverWorld& world) const {
  std::vector<std::shared_ptr<AdapterResolver>> plugins;
  std::vector<std::shared_ptr<AdapterResolver>> chain;
  std::vector<std::string> known = names();
  if (config.chain.empty()) return chain;  // nobody is asked, so nothing foreign is loaded
  for (const std::string& path : config.plugins) {
    Made plugin = load_resolver_plugin(path, config.deadline_ms);
    if (!plugin) return fail(std::move(plugin.error()));
    std::string name((*plugin)->name());
    if (name == "all" || std::find(known.begin(), known.end(), name) != known.end())
      return fail(Errc::kInvalid,
                  fmt::format("{}: there is a resolver '{}' already: leave one of them out", path, name));
    known.push_back(std::move(name));
    plugins.push_back(std::move(*plugin));
  }
  const auto add = [&chain](const std::shared_ptr<AdapterResolver>& resolver) {
    if (std::find_if(chain.begin(), chain.end(),
                     [&](const auto& other) { return other->name() == resolver->name(); }) == chain.end())
      chain.push_back(resolver);
  };
  for (const std::string& asked : config.chain) {
    const bool all = asked == "all";
    const bool is_known = std::find(known.begin(), known.end(), asked) != known.end();
    const std::string name = is_known ? asked : plain_resolver_name(asked);
    bool found = all;
    for (const Entry& entry : entries_) {
      if (!all && entry.name != name) continue;
      found = true;
      Made made = entry.make(config, world);
      if (!made) return fail(std::move(made.error()));
      if (*made != nullptr) {
        add(*made);
      } else if (!all) {
        return fail(Errc::kInvalid,
                    fmt::format("resolver.chain names '{}', which is not configured: {}, or leave it out",
                                asked, what_it_needs(name)));
      }
    }
    for (const std::shared_ptr<AdapterResolver>& plugin : plugins) {
      if (!all && plugin->name() != name) continue;
      found = true;
      add(plugin);
    }
    if (!found) {
      const std::vector<std::string_view> views(known.begin(), known.end());
      return fail(Errc::kInvalid,
                  "resolver.chain: " + unknown_name_message("resolver", asked, views) + " all");
    }
  }
  return chain;
}

}  // namespace loracle
