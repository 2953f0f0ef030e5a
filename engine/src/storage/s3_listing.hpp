#pragma once
/// The XML that S3 speaks: pages of ListObjectsV2, and errors. Threads: any.

#include <string>

#include "loracle/core/result.hpp"
#include "loracle/storage/provider.hpp"

namespace loracle {

struct S3Page {
  bool marker = false;       // the prefix itself is an object: an empty folder, as consoles make them
  std::size_t keys = 0;      // on the page, also those that are left out
  std::string continuation;  // empty: the last page
};

/// Adds the page's objects and folders, named from `prefix` on. Keys whose parts are empty, "." or ".." are
/// left out: as a path they would not name what they are, and folder markers are no objects.
/// Errors: kCorrupt (not such a page), naming `uri`.
[[nodiscard]] Result<S3Page> add_s3_page(const std::string& body, const std::string& prefix,
                                         const std::string& uri, StoredListing& listing);

/// Of an error's body; empty where it is none. The message is one line of at most 200 printable characters;
/// nothing else of the body is taken: it echoes tokens and what was signed.
struct S3ErrorText {
  std::string code;
  std::string message;
};

[[nodiscard]] S3ErrorText parse_s3_error(const std::string& body);

}  // namespace loracle
