#include "service/locations.hpp"

#include <fmt/format.h>

#include "loracle/engine/origin.hpp"
#include "loracle/service/settings.hpp"

namespace loracle::service {

Result<Location> location_of(const std::string& text) {
  Location location{text, false};
  const std::string_view scheme = scheme_of(text);
  if (scheme == "file") {
    const std::unique_ptr<Origin> files = make_file_origin();
    Result<LocalCopy> copy = files->localize(text);
    if (!copy) return fail(std::move(copy.error()));
    location.place = std::move(copy->directory);
  } else {
    location.is_remote = !scheme.empty();
  }
  location.place.resize(without_trailing_slashes(location.place).size());
  return location;
}

Result<StorageProvider*> storage_of(std::span<StorageProvider* const> storage, const std::string& uri) {
  Result<StorageProvider*> provider = provider_of(storage, uri);
  if (provider) return provider;
  return fail(provider.error().code, fmt::format("{}; a path, file://, or what storage.providers is given",
                                                 provider.error().message));
}

Result<std::string> read_beside(Files& files, std::span<StorageProvider* const> storage,
                                const Location& location, std::string_view file, std::uint64_t bytes_max) {
  const std::string path = fmt::format("{}/{}", location.place, file);
  if (!location.is_remote) return read_text(files, path, bytes_max);
  const Result<StorageProvider*> provider = storage_of(storage, path);
  if (!provider) return fail(provider.error());
  const Result<StoredObject> object = (*provider)->stat(path);
  if (!object) return fail(object.error());
  if (object->size > bytes_max) {
    return fail(Errc::kTooLarge, fmt::format("{}: {} bytes, and at most {} are read", without_secrets(path),
                                             object->size, bytes_max));
  }
  std::string text(object->size, '\0');
  if (text.empty()) return text;
  const Result<Unit> fetched = (*provider)->fetch(
      path, {0, object->size, object->etag, true},
      [&text](std::uint64_t offset, std::span<const std::byte> bytes) -> Result<Unit> {
        if (offset > text.size() || bytes.size() > text.size() - offset)
          return fail(Errc::kCorrupt, "more bytes than were asked for");
        text.replace(offset, bytes.size(), reinterpret_cast<const char*>(bytes.data()), bytes.size());
        return Unit{};
      });
  if (!fetched) return fail(fetched.error());
  return text;
}

}  // namespace loracle::service
