/// Resolvers that come as shared objects.

#include <dlfcn.h>
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "loracle/service/loracle_resolver.h"
#include "loracle/service/resolver.hpp"
#include "service/guarded_call.hpp"

namespace loracle {
namespace {

constexpr const char* kEntry = "loracle_resolver_plugin";
constexpr std::size_t kAnswerBytesMax = 64U << 10U;

std::string last_dl_error() {
  const char* const text = ::dlerror();  // NOLINT(concurrency-mt-unsafe): glibc keeps it by thread
  return text == nullptr ? "no reason is known" : text;
}

bool is_resolver_name(std::string_view name) {
  return !name.empty() && name.size() <= 64 && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
  });
}

class PluginResolver final : public AdapterResolver {
 public:
  PluginResolver(std::string path, void* object, const loracle_resolver* plugin, std::uint32_t deadline_ms)
      : path_(std::move(path)),
        object_(object),
        plugin_(plugin),
        name_(plugin->name),
        deadline_ms_(deadline_ms) {}
  PluginResolver(const PluginResolver&) = delete;
  PluginResolver& operator=(const PluginResolver&) = delete;
  ~PluginResolver() override {
    if (opened_ && plugin_->close != nullptr) plugin_->close(state_);
    ::dlclose(object_);
  }

  [[nodiscard]] Result<Unit> open() {
    if (plugin_->open != nullptr) {
      const int refused = plugin_->open(&state_);
      if (refused != 0) {
        return fail(
            Errc::kInvalid,
            fmt::format("{}: resolver '{}' does not start (its code {}): see what it needs, or take it out "
                        "of resolver.plugins",
                        path_, name_, refused),
            refused);
      }
    }
    opened_ = true;
    return Unit{};
  }

  [[nodiscard]] std::string_view name() const noexcept override { return name_; }

  [[nodiscard]] Result<std::string> locate(const std::string& base_model, const std::string& name) override {
    loracle_resolver_request request{};
    request.size = sizeof request;
    request.base_model = base_model.c_str();
    request.name = name.c_str();
    request.deadline_ms = deadline_ms_;
    std::string text;
    loracle_resolver_reply reply{};
    reply.size = sizeof reply;
    reply.to = &text;
    reply.answer = [](void* to, const char* said) {
      if (said != nullptr)
        static_cast<std::string*>(to)->assign(said, std::min(std::string_view(said).size(), kAnswerBytesMax));
    };
    int status = 0;
    {
      const service::FaultsAreMine faults;
      status = plugin_->resolve(state_, &request, &reply);
    }
    switch (status) {
      case LORACLE_RESOLVER_FOUND:
        if (text.empty()) return fail(Errc::kCorrupt, "says that it has the adapter, and not where");
        return text;
      case LORACLE_RESOLVER_NOT_FOUND:
        return fail(Errc::kNotFound, "has none");
      case LORACLE_RESOLVER_REFUSED:
        return fail(Errc::kInvalid, text.empty() ? "refuses it, and does not say why" : text);
      case LORACLE_RESOLVER_FAILED:
        return fail(Errc::kIo, text.empty() ? "failed, and does not say why" : text);
      default:
        return fail(Errc::kCorrupt, fmt::format("answers {}, which means nothing", status));
    }
  }

 private:
  std::string path_;
  void* object_;
  const loracle_resolver* plugin_;
  std::string name_;
  std::uint32_t deadline_ms_;
  void* state_ = nullptr;
  bool opened_ = false;
};

}  // namespace

Result<std::shared_ptr<AdapterResolver>> load_resolver_plugin(const std::string& path,
                                                              std::uint32_t deadline_ms) {
  if (path.find('/') == std::string::npos)
    return fail(Errc::kInvalid, fmt::format("{}: is no path: write /path/to/{}, or ./{}", path, path, path));
  if (const Result<FileStat> found = posix_files().stat(path); !found) return fail(found.error());
  void* const object = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (object == nullptr) {
    return fail(Errc::kInvalid,
                fmt::format("{}: cannot be loaded as a resolver plugin: {}; build a shared object "
                            "for this machine",
                            path, last_dl_error()));
  }
  const auto refuse = [&](const std::string& why) {
    ::dlclose(object);
    return fail(Errc::kInvalid, fmt::format("{}: {}", path, why));
  };
  const auto entry = reinterpret_cast<const loracle_resolver* (*)()>(::dlsym(object, kEntry));
  if (entry == nullptr)
    return refuse(
        fmt::format("is no resolver plugin: it does not export {}() of loracle_resolver.h", kEntry));
  const loracle_resolver* const plugin = entry();
  if (plugin == nullptr) return refuse(fmt::format("{}() answers nothing", kEntry));
  if (plugin->abi_version != LORACLE_RESOLVER_ABI_VERSION) {
    return refuse(
        fmt::format("was built for version {} of the resolver interface, and this loracle has {}: build it "
                    "again with this loracle's loracle_resolver.h",
                    plugin->abi_version, LORACLE_RESOLVER_ABI_VERSION));
  }
  if (plugin->size < sizeof(loracle_resolver) || plugin->resolve == nullptr || plugin->name == nullptr ||
      !is_resolver_name(plugin->name))
    return refuse("its description is wrong: size, name (letters, digits, '_', '-') and resolve must be set");
  service::catch_faults();
  auto resolver = std::make_shared<PluginResolver>(path, object, plugin, deadline_ms);
  if (Result<Unit> opened = resolver->open(); !opened) return fail(std::move(opened.error()));
  return resolver;
}

}  // namespace loracle
