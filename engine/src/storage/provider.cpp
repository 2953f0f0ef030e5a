#include "loracle/storage/provider.hpp"

#include <fmt/format.h>

#include "loracle/engine/origin.hpp"
#include "storage/storage_uri.hpp"

namespace loracle {

Result<StorageProvider*> provider_of(std::span<StorageProvider* const> providers, const std::string& uri) {
  const std::string_view scheme = scheme_of(uri).empty() ? std::string_view("file") : scheme_of(uri);
  std::string known;
  for (StorageProvider* const provider : providers) {
    if (provider->scheme() == scheme) return provider;
    known += fmt::format("{}{}://", known.empty() ? "" : " ", provider->scheme());
  }
  return fail(Errc::kUnsupported,
              fmt::format("{}: nothing here reads {}://: {}", shown_uri(uri), scheme,
                          known.empty() ? "no storage is configured" : "use one of " + known));
}

Result<bool> exists(StorageProvider& provider, const std::string& uri) {
  const Result<StoredObject> found = provider.stat(uri);
  if (found) return true;
  if (found.error().code == Errc::kNotFound) return false;
  return fail(found.error());
}

}  // namespace loracle
