#pragma once
/// Everything that `loracle serve` runs, put together from its configuration: device, storage providers and
/// their cache, the engine, the discovery loop, the resolvers, the HTTP service.
///
/// Adapters may be read from: the directories of file_storage.allowed_paths, of the local prefixes, of
/// --lora-modules, of the filesystem resolver, and from the cache; from nowhere else. What is remote comes
/// through the cache.
/// It listens when `start` returns, and looks for adapters from then on: until that was done once, and while
/// no prefix could be listed yet, /readyz answers 503.
/// Invariant: parts stop in the order of who calls whom. Discovery is told to end after the adapter it is at;
/// HTTP answers what is under way and ends leases; the engine shuts down; discovery's thread is waited for;
/// then all goes, storage last. What a resolver's call that hangs may still use stays until the process ends.
/// Threads: one owner. Errors: kInvalid (names the setting), kNotFound and kIo (a directory), those of
/// storage, cache, engine and service; nothing is left half started.

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "loracle/core/result.hpp"
#include "loracle/service/config.hpp"

namespace loracle {

class ServiceStack {
 public:
  [[nodiscard]] static Result<std::unique_ptr<ServiceStack>> start(const ServiceConfig& config);
  ServiceStack(const ServiceStack&) = delete;
  ServiceStack& operator=(const ServiceStack&) = delete;
  ~ServiceStack();

  [[nodiscard]] std::uint16_t port() const noexcept;
  /// What is served now, in one line for people.
  [[nodiscard]] std::string summary() const;
  /// See Service::note.
  void note(std::string_view text);
  void warn(std::string_view text);
  /// See Service::apply.
  [[nodiscard]] Result<Unit> apply(const ServiceConfig& config);
  /// See Service::drain. Idempotent.
  [[nodiscard]] Result<Unit> drain();
  /// See Service::hurry.
  void hurry() noexcept;
  /// A call of a resolver was given up and has not come back. Destructors of statics, a plugin's among them,
  /// may wait for it without end: who ends the process then does so without them.
  [[nodiscard]] bool has_hung_calls() const;

 private:
  struct Parts;
  explicit ServiceStack(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts_;
};

}  // namespace loracle
