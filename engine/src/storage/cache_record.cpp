#include "storage/cache_record.hpp"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <unordered_set>
#include <utility>

#include "loracle/engine/digest.hpp"
#include "storage/storage_uri.hpp"

namespace loracle {
namespace {

using Json = nlohmann::json;

constexpr std::size_t kDigestLength = 64;
constexpr std::uint64_t kFileBytesMax = std::uint64_t{1} << 50U;
constexpr int kVersion = 1;

bool is_utf8(const std::string& text) {
  // The parser is the one check of UTF-8 in that library that does not throw.
  const std::string quoted = Json(text).dump(-1, ' ', true, Json::error_handler_t::ignore);
  const Json back = Json::parse(quoted, nullptr, /*allow_exceptions=*/false);
  return back.is_string() && back.get_ref<const std::string&>() == text;
}

/// A path that stays below where it starts, and is not the record.
bool is_inner_name(std::string_view name) {
  if (name.empty() || name.size() > kCacheKeyBytesMax || name == kRecordName) return false;
  if (name.find('\0') != std::string_view::npos) return false;
  return is_plain_path(name);
}

std::string body_of(const CacheRecord& record) {
  Json files = Json::array();
  for (std::size_t i = 0; i < record.contents.files.size(); ++i) {
    const CacheFile& file = record.contents.files[i];
    files.push_back(
        {{"name", file.name}, {"size", file.size}, {"mode", file.mode}, {"sha256", record.sha256[i]}});
  }
  return Json{{"version", kVersion},
              {"key", record.contents.key},
              {"metadata", record.contents.metadata},
              {"files", std::move(files)}}
      .dump();
}

std::optional<std::string> text_at(const Json& object, const char* name) {
  const auto found = object.find(name);
  if (found == object.end() || !found->is_string()) return std::nullopt;
  return found->get<std::string>();
}

std::optional<std::uint64_t> number_at(const Json& object, const char* name) {
  const auto found = object.find(name);
  if (found == object.end() || !found->is_number_unsigned()) return std::nullopt;
  return found->get<std::uint64_t>();
}

std::optional<CacheRecord> record_of(const Json& json) {
  if (!json.is_object() || number_at(json, "version") != std::uint64_t{kVersion}) return std::nullopt;
  CacheRecord record;
  std::optional<std::string> key = text_at(json, "key");
  const auto metadata = json.find("metadata");
  const auto files = json.find("files");
  if (!key || metadata == json.end() || !metadata->is_object() || files == json.end() || !files->is_array())
    return std::nullopt;
  record.contents.key = std::move(*key);
  for (const auto& [name, value] : metadata->items()) {
    if (!value.is_string()) return std::nullopt;
    record.contents.metadata.emplace(name, value.get<std::string>());
  }
  for (const Json& file : *files) {
    if (!file.is_object()) return std::nullopt;
    std::optional<std::string> name = text_at(file, "name");
    std::optional<std::string> sha256 = text_at(file, "sha256");
    const std::optional<std::uint64_t> size = number_at(file, "size");
    const std::optional<std::uint64_t> mode = number_at(file, "mode");
    if (!name || !sha256 || !size || !mode || *mode > 0777) return std::nullopt;
    record.contents.files.push_back({std::move(*name), *size, static_cast<std::uint32_t>(*mode)});
    record.sha256.push_back(std::move(*sha256));
  }
  return record;
}

}  // namespace

Result<Unit> check_contents(const CacheContents& contents) {
  if (contents.key.empty() || contents.key.size() > kCacheKeyBytesMax || !is_utf8(contents.key)) {
    return fail(Errc::kInvalid, fmt::format("cache key: give 1 to {} bytes of UTF-8", kCacheKeyBytesMax));
  }
  std::size_t metadata_bytes = 0;
  for (const auto& [name, value] : contents.metadata) {
    metadata_bytes += name.size() + value.size();
    if (!is_utf8(name) || !is_utf8(value))
      return fail(Errc::kInvalid, fmt::format("metadata of '{}': not UTF-8", contents.key));
  }
  if (metadata_bytes > kCacheMetadataBytesMax) {
    return fail(Errc::kTooLarge, fmt::format("metadata of '{}': {} bytes, at most {} are kept", contents.key,
                                             metadata_bytes, kCacheMetadataBytesMax));
  }
  if (contents.files.empty() || contents.files.size() > kCacheFilesMax) {
    return fail(contents.files.empty() ? Errc::kInvalid : Errc::kTooLarge,
                fmt::format("'{}': {} files, an entry has 1 to {}", contents.key, contents.files.size(),
                            kCacheFilesMax));
  }
  std::unordered_set<std::string_view> names;
  for (const CacheFile& file : contents.files) {
    if (!is_inner_name(file.name) || !is_utf8(file.name) || !names.insert(file.name).second) {
      return fail(Errc::kInvalid, fmt::format("'{}': a file cannot be called '{}' there", contents.key,
                                              is_utf8(file.name) ? file.name : "(not UTF-8)"));
    }
    if (file.size > kFileBytesMax || file.mode > 0777) {
      return fail(Errc::kInvalid,
                  fmt::format("'{}': {} has no size or mode of a file", contents.key, file.name));
    }
  }
  return Unit{};
}

std::string write_record(const CacheRecord& record) {
  const std::string body = body_of(record);
  return sha256_hex(body) + '\n' + body;
}

std::uint64_t record_bytes(const CacheContents& contents) {
  const std::vector<std::string> digests(contents.files.size(), std::string(kDigestLength, '0'));
  return kDigestLength + 1 + body_of({contents, digests}).size();
}

Result<CacheRecord> read_record(const std::string& path, std::string_view text) {
  if (text.size() > kDigestLength && text[kDigestLength] == '\n') {
    const std::string_view body = text.substr(kDigestLength + 1);
    if (text.substr(0, kDigestLength) == sha256_hex(body)) {
      std::optional<CacheRecord> record = record_of(Json::parse(body, nullptr, /*allow_exceptions=*/false));
      if (record && check_contents(record->contents)) return std::move(*record);
    }
  }
  return fail(Errc::kCorrupt, fmt::format("{}: damaged, or not written by this version", path));
}

bool has_record(const std::string& directory) {
  struct stat found {};
  return ::stat(fmt::format("{}/{}", directory, kRecordName).c_str(), &found) == 0;
}

std::uint64_t bytes_of(std::span<const CacheFile> files) noexcept {
  std::uint64_t sum = 0;
  for (const CacheFile& file : files) sum += file.size;
  return sum;
}

}  // namespace loracle
