#include "storage/s3_listing.hpp"

#include <fmt/format.h>

#include <charconv>
#include <pugixml.hpp>
#include <string_view>

#include "storage/storage_uri.hpp"
#include "storage/utc_time.hpp"

namespace loracle {
namespace {

std::string quoted(std::string etag) {
  if (etag.empty() || etag.starts_with('"') || etag.starts_with("W/")) return etag;
  return fmt::format("\"{}\"", etag);
}

std::string one_line(std::string_view text) {
  std::string line;
  for (const char c : text) {
    if (line.size() == 200) break;
    line += c >= ' ' && c <= '~' ? c : ' ';
  }
  return line;
}

}  // namespace

Result<S3Page> add_s3_page(const std::string& body, const std::string& prefix, const std::string& uri,
                           StoredListing& listing) {
  pugi::xml_document document;
  const pugi::xml_parse_result parsed =
      document.load_buffer(body.data(), body.size(), pugi::parse_default | pugi::parse_ws_pcdata_single);
  const pugi::xml_node root = document.child("ListBucketResult");
  if (!parsed || !root) {
    return fail(Errc::kCorrupt,
                fmt::format("{}: the answer is not a listing of S3 ({}): is the endpoint one of "
                            "S3?",
                            uri, parsed ? "another document" : parsed.description()));
  }
  S3Page page;
  for (const pugi::xml_node node : root.children("Contents")) {
    ++page.keys;
    const std::string_view key = node.child_value("Key");
    if (!key.starts_with(prefix))
      return fail(Errc::kCorrupt, fmt::format("{}: the listing holds a key that lies elsewhere", uri));
    const std::string_view name = key.substr(prefix.size());
    if (name.empty()) page.marker = true;
    if (!is_plain_path(name)) continue;
    StoredObject object;
    object.name = name;
    const std::string_view size = node.child_value("Size");
    const auto [end, error] = std::from_chars(size.data(), size.data() + size.size(), object.size);
    if (size.empty() || error != std::errc{} || end != size.data() + size.size())
      return fail(Errc::kCorrupt, fmt::format("{}: the listing has no size for '{}'", uri, name));
    object.etag = quoted(node.child_value("ETag"));
    object.modified_unix_s = parse_iso8601(node.child_value("LastModified")).value_or(0);
    listing.objects.push_back(std::move(object));
  }
  for (const pugi::xml_node node : root.children("CommonPrefixes")) {
    ++page.keys;
    const std::string_view key = node.child_value("Prefix");
    if (!key.starts_with(prefix))
      return fail(Errc::kCorrupt, fmt::format("{}: the listing holds a folder that lies elsewhere", uri));
    std::string_view name = key.substr(prefix.size());
    if (name.ends_with('/')) name.remove_suffix(1);
    if (is_plain_path(name)) listing.folders.emplace_back(name);
  }
  if (std::string_view(root.child_value("IsTruncated")) == "true") {
    page.continuation = root.child_value("NextContinuationToken");
    if (page.continuation.empty())
      return fail(Errc::kCorrupt, fmt::format("{}: the listing goes on, but does not say how", uri));
  }
  return page;
}

S3ErrorText parse_s3_error(const std::string& body) {
  pugi::xml_document document;
  if (!document.load_buffer(body.data(), body.size())) return {};
  const pugi::xml_node node = document.child("Error");
  return {one_line(node.child_value("Code")), one_line(node.child_value("Message"))};
}

}  // namespace loracle
