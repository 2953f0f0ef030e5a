#pragma once
/// Zip archives in memory, made by libzip.

#include <gtest/gtest.h>
#include <zip.h>

#include <string>
#include <vector>

#include "pickle_maker.hpp"

namespace loracle::testing {

struct ZipPart {
  std::string name;
  std::string bytes;
  bool deflated = false;
};

inline std::string zip_file(const std::vector<ZipPart>& parts, const std::string& comment = "") {
  zip_error_t error;
  zip_error_init(&error);
  zip_source_t* const buffer = zip_source_buffer_create(nullptr, 0, 0, &error);
  zip_t* const archive = zip_open_from_source(buffer, ZIP_CREATE | ZIP_TRUNCATE, &error);
  EXPECT_NE(archive, nullptr);
  zip_source_keep(buffer);
  for (const ZipPart& part : parts) {
    zip_source_t* const source = zip_source_buffer(archive, part.bytes.data(), part.bytes.size(), 0);
    const zip_int64_t at = zip_file_add(archive, part.name.c_str(), source, ZIP_FL_ENC_UTF_8);
    EXPECT_GE(at, 0);
    zip_set_file_compression(archive, static_cast<zip_uint64_t>(at),
                             part.deflated ? ZIP_CM_DEFLATE : ZIP_CM_STORE, 0);
  }
  if (!comment.empty())
    zip_set_archive_comment(archive, comment.data(), static_cast<zip_uint16_t>(comment.size()));
  EXPECT_EQ(zip_close(archive), 0);
  zip_stat_t stat;
  EXPECT_EQ(zip_source_stat(buffer, &stat), 0);
  std::string bytes(stat.size, '\0');
  EXPECT_EQ(zip_source_open(buffer), 0);
  EXPECT_EQ(zip_source_read(buffer, bytes.data(), bytes.size()), static_cast<zip_int64_t>(bytes.size()));
  zip_source_close(buffer);
  zip_source_free(buffer);
  zip_error_fini(&error);
  return bytes;
}

/// A whole file as torch saves it since 1.6; `deflated`: packed anew by somebody.
inline std::string torch_zip_file(const std::vector<RawTensor>& tensors, bool deflated = false) {
  std::vector<ZipPart> parts = {{"archive/data.pkl", pickled_dict(tensors, /*legacy=*/false), deflated},
                                {"archive/byteorder", "little", deflated}};
  for (std::size_t i = 0; i < tensors.size(); ++i)
    parts.push_back({"archive/data/" + std::to_string(i), tensors[i].bytes, deflated});
  parts.push_back({"archive/version", "3\n", deflated});
  return zip_file(parts);
}

}  // namespace loracle::testing
