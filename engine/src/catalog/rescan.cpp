#include <utility>

#include "loracle/engine/catalog.hpp"

namespace loracle {
namespace {

/// What may not be read (kInvalid, of restricted files) may be there all the same: another server's.
bool is_gone(Files& files, const std::string& directory) {
  Result<FileStat> stat = files.stat(directory);
  if (!stat && stat.error().code == Errc::kInvalid) stat = posix_files().stat(directory);
  return !stat && stat.error().code == Errc::kNotFound;
}

Result<ScanResult> look(Catalog& catalog, Files& files, const ScanOptions& options, bool everything) {
  if (everything) return scan(files, options);
  const Result<KnownAdapters> known = catalog.known(options.root, options.rules);
  if (!known) return fail(known.error());
  return refresh(files, options, *known);
}

}  // namespace

Result<ApplyOutcome> rescan(Catalog& catalog, Files& files, const ScanOptions& options, bool everything) {
  const Result<ScanResult> found = look(catalog, files, options, everything);
  if (!found) return fail(found.error());
  return catalog.apply(*found, [&files](const std::string& directory) { return is_gone(files, directory); });
}

}  // namespace loracle
