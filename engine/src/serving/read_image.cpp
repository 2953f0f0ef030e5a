#include "serving/read_image.hpp"

#include <fmt/format.h>

#include <utility>

#include "loracle/engine/adapter_files.hpp"

namespace loracle {

Result<std::shared_ptr<const ImageManifest>> read_image(const Env& env, const std::string& name,
                                                        const AdapterSource& source, const SlotLayout& layout,
                                                        std::span<std::byte> image) {
  Files& files = *env.files;
  LocalCopy copy{source.directory, {}, {}};
  if (!source.uri.empty()) {
    Result<LocalCopy> fetched = localize_content(env.origins, source.uri, source.content);
    if (!fetched) return fail(std::move(fetched.error()));
    copy = std::move(*fetched);
  }
  // The rules were applied when the adapter was catalogued; unchanged files keep them.
  Result<AdapterFiles> found = inspect_adapter(files, copy.directory, AdapterRules{});
  if (!found) return fail(std::move(found.error()));
  const bool is_same = source.uri.empty() ? found->config_stat == source.config_stat &&
                                                found->weights_stat == source.weights_stat
                                          : copy.content == source.content;
  if (!is_same) {
    return fail(Errc::kCorrupt, fmt::format("{}: adapter '{}' has changed since it was catalogued: {}",
                                            source.uri.empty() ? source.directory : source.uri, name,
                                            source.is_scanned ? "refresh" : "add it again"));
  }
  Result<ImageManifest> manifest = plan_image(*found, layout);
  if (!manifest) return fail(std::move(manifest.error()));
  if (manifest->elements * bytes_of(layout.dtype) != image.size()) {
    return fail(Errc::kCorrupt,
                fmt::format("{}: adapter '{}' needs {} bytes, the catalog says {}: refresh", copy.directory,
                            name, manifest->elements * bytes_of(layout.dtype), image.size()));
  }
  if (Result<Unit> read = load_image(files, *found, layout, *manifest, image); !read)
    return fail(std::move(read.error()));
  return std::make_shared<const ImageManifest>(std::move(*manifest));
}

}  // namespace loracle
