/// Reads adapters' files in full and compares them with what the catalog knows.

#include <fmt/format.h>

#include <utility>

#include "loracle/engine/catalog.hpp"
#include "loracle/engine/digest.hpp"

namespace loracle {
namespace {

Verification told(FilesVerdict verdict, std::string reason) { return {verdict, std::move(reason), {}}; }

Verification failed(Error error) {
  switch (error.code) {
    case Errc::kNotFound:
      return told(FilesVerdict::kMissing, std::move(error.message));
    case Errc::kCorrupt:  // cut while it was read
      return told(FilesVerdict::kChanged, std::move(error.message));
    default:
      return told(FilesVerdict::kUnreadable, std::move(error.message));
  }
}

}  // namespace

std::string_view name_of(FilesVerdict verdict) noexcept {
  switch (verdict) {
    case FilesVerdict::kIntact:
      return "intact";
    case FilesVerdict::kRecorded:
      return "recorded";
    case FilesVerdict::kChanged:
      return "changed";
    case FilesVerdict::kDamaged:
      return "damaged";
    case FilesVerdict::kMissing:
      return "missing";
    case FilesVerdict::kUnreadable:
      return "unreadable";
  }
  return "unknown";
}

Verification verify_files(Files& files, const CatalogRecord& record) {
  const AdapterFacts& facts = record.facts;
  const std::string config_path = facts.directory + "/adapter_config.json";
  Result<FileDigest> config = digest_file(files, config_path);
  if (!config) return failed(std::move(config.error()));
  Result<FileDigest> weights = digest_file(files, facts.weights_path);
  if (!weights) return failed(std::move(weights.error()));
  // Examined again: a file that was written while it was read has shown a mixture.
  Result<FileStat> config_after = files.stat(config_path);
  if (!config_after) return failed(std::move(config_after.error()));
  Result<FileStat> weights_after = files.stat(facts.weights_path);
  if (!weights_after) return failed(std::move(weights_after.error()));

  const AdapterStamp before{config->stat, weights->stat, facts.stamp.taken_unix_s};
  const AdapterStamp after{*config_after, *weights_after, facts.stamp.taken_unix_s};
  if (!before.same_files_remounted(facts.stamp) || !after.same_files(before)) {
    return told(FilesVerdict::kChanged,
                fmt::format("{}: other files than the catalog knows as version {}: refresh", facts.directory,
                            record.version));
  }
  ContentDigest digest{std::move(config->sha256), std::move(weights->sha256)};
  if (record.digest.config.empty() && record.digest.weights.empty())
    return {FilesVerdict::kRecorded, {}, std::move(digest)};
  if (digest == record.digest) return {FilesVerdict::kIntact, {}, std::move(digest)};
  const bool is_config = digest.config != record.digest.config;
  return {
      FilesVerdict::kDamaged,
      fmt::format("{}: SHA-256 {}, known as {}: the file's size and times are unchanged, its bytes are not: "
                  "restore it from its source",
                  is_config ? config_path : facts.weights_path, is_config ? digest.config : digest.weights,
                  is_config ? record.digest.config : record.digest.weights),
      std::move(digest)};
}

}  // namespace loracle
