// URIs, and the walls around the directories that may be read.

#include "loracle/engine/origin.hpp"

#include <gtest/gtest.h>

#include <cerrno>
#include <filesystem>
#include <string>

#include "loracle/engine/files.hpp"
#include "support/temp_dir.hpp"

namespace loracle {
namespace {

namespace fs = std::filesystem;

// If this failed, a URI would name another directory than its author meant.
TEST(Origin, FileUrisBecomePaths) {
  const std::unique_ptr<Origin> files = make_file_origin();
  Origin* const origins[] = {files.get()};
  EXPECT_EQ(localize(origins, "/srv/adapters")->directory, "/srv/adapters");
  EXPECT_EQ(localize(origins, "relative/path")->directory, "relative/path");
  EXPECT_EQ(localize(origins, "file:///srv/my%20adapters")->directory, "/srv/my adapters");
  EXPECT_EQ(localize(origins, "file://localhost/srv")->directory, "/srv");
  for (const char* bad :
       {"file://elsewhere/srv", "file://", "file:///a%2", "file:///a%zz", "file:///a%00b", "file:///a?b"}) {
    const Result<LocalCopy> refused = localize(origins, bad);
    ASSERT_FALSE(refused) << bad;
    EXPECT_EQ(refused.error().code, Errc::kInvalid) << bad;
    EXPECT_EQ(refused.error().message.find(bad), 0U) << refused.error().message;
  }
  const Result<LocalCopy> other = localize(origins, "s3://bucket/key");
  ASSERT_FALSE(other);
  EXPECT_EQ(other.error().code, Errc::kUnsupported);
  EXPECT_NE(other.error().message.find("file://"), std::string::npos);
}

// If this failed, an adapter could be a link to any secret of the machine.
TEST(RootedFiles, ReadNothingOutsideTheirRootsWhateverLinksSay) {
  const testing::TempDir folder;
  fs::create_directories(folder / "root/inner");
  fs::create_directories(folder / "root-not/inner");
  folder.write("root/inner/a", "inside");
  folder.write("root-not/inner/b", "outside");
  fs::create_symlink(folder / "root-not/inner/b", folder / "root/link");
  fs::create_symlink(folder / "root/inner/a", folder / "root/good");
  fs::create_symlink(folder / "root-not/inner", folder / "root/folder");
  const std::string roots[] = {(folder / "root").string()};
  const Result<std::unique_ptr<Files>> files = make_rooted_files(roots);
  ASSERT_TRUE(files) << files.error().message;
  const std::string root = roots[0];
  EXPECT_TRUE((*files)->open(root + "/inner/a"));
  EXPECT_TRUE((*files)->open(root + "/good")) << "a link that stays inside";
  EXPECT_TRUE((*files)->list(root));
  for (const std::string& path : {root + "/link", root + "/../root-not/inner/b", root + "/folder/b"}) {
    const auto refused = (*files)->open(path);
    ASSERT_FALSE(refused) << path;
    EXPECT_EQ(refused.error().code, Errc::kInvalid) << path;
    EXPECT_EQ(refused.error().detail, EACCES) << path;
  }
  // What is there and what is not is not told of anything outside, nor where a link leads.
  for (const std::string name : {"/root-not/inner/b", "/root-not/inner/absent", "/absent/at/all"}) {
    const std::string path = folder.path().string() + name;
    const Error answers[] = {(*files)->open(path).error(), (*files)->stat(path).error(),
                             (*files)->list(path).error()};
    for (const Error& answer : answers) {
      EXPECT_EQ(answer.code, Errc::kInvalid) << answer.message;
      EXPECT_EQ(answer.detail, EACCES) << answer.message;
      EXPECT_EQ(answer.message.substr(path.size()), answers[0].message.substr(path.size()));
    }
  }
  EXPECT_EQ((*files)->open(root + "/link").error().message.find("root-not"), std::string::npos);
  EXPECT_EQ((*files)->open(root + "/inner/absent").error().code, Errc::kNotFound);
  EXPECT_EQ((*files)->open(root + "/inner").error().code, Errc::kIo) << "no regular file";
  EXPECT_EQ((*files)->list(root + "/folder").error().code, Errc::kInvalid);
  // A cache's directory, say, that was cleaned up.
  fs::remove_all(root);
  fs::create_directories(folder / "root/inner");
  folder.write("root/inner/a", "anew");
  EXPECT_EQ(read_text(**files, root + "/inner/a", 100).value(), "anew");
  EXPECT_EQ((*files)->open(root + "/inner/absent").error().code, Errc::kNotFound);
  const std::string absent[] = {(folder / "absent").string()};
  EXPECT_EQ(make_rooted_files(absent).error().code, Errc::kNotFound);
}

}  // namespace
}  // namespace loracle
