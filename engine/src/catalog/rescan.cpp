#include <utility>

#include "catalog/catalog_state.hpp"
#include "loracle/engine/catalog.hpp"

namespace loracle {
namespace {

/// A root that may not be looked at (kInvalid) serves nobody either. One that cannot be at the moment may
/// come back.
bool is_gone(Files& files, const std::string& root) {
  const Result<FileStat> stat = files.stat(root);
  return !stat && (stat.error().code == Errc::kNotFound || stat.error().code == Errc::kInvalid);
}

Result<ScanResult> look(Catalog& catalog, Files& files, const ScanOptions& options, bool everything) {
  if (everything) return scan(files, options);
  const Result<KnownAdapters> known = catalog.known(options.root, options.rules);
  if (!known) return fail(known.error());
  return refresh(files, options, *known);
}

}  // namespace

Result<ApplyOutcome> rescan(Catalog& catalog, Files& files, const ScanOptions& options, bool everything) {
  Result<ScanResult> found = look(catalog, files, options, everything);
  if (!found) return fail(std::move(found.error()));
  const Result<std::vector<CatalogSource>> sources = catalog.sources();
  if (!sources) return fail(sources.error());
  for (const CatalogSource& source : *sources)
    if (source.root != catalog::root_of(options.root) && is_gone(files, source.root))
      found->gone_roots.push_back(source.root);
  return catalog.apply(*found);
}

}  // namespace loracle
