#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <optional>
#include <thread>

#include "loracle/storage/provider.hpp"
#include "storage/fetched.hpp"
#include "support/temp_dir.hpp"

namespace loracle {
namespace {

namespace fs = std::filesystem;
using testing::fetch;
using testing::Fetched;
using testing::TempDir;

std::unique_ptr<StorageProvider> make(const FileStorageOptions& options) {
  auto made = make_file_storage(options);
  EXPECT_TRUE(made) << (made ? "" : made.error().message);
  return made ? std::move(*made) : nullptr;
}

std::unique_ptr<StorageProvider> rooted(const fs::path& root) {
  FileStorageOptions options;
  options.allowed_paths = {root.string()};
  return make(options);
}

/// root/ with a few files, and outside/ with a secret beside it.
struct Scene {
  TempDir dir;
  fs::path root = dir / "root";
  fs::path outside = dir / "outside";

  Scene() {
    fs::create_directories(root / "a/deep");
    fs::create_directories(outside);
    dir.write("root/a/x.bin", "hello, world");
    dir.write("root/a/deep/y", "y");
    dir.write("root/z", "zz");
    dir.write("outside/secret", "secret");
  }
};

// If this failed, adapters on this machine's disks could not be served.
TEST(FileStorage, ListsStatsAndFetches) {
  const Scene scene;
  const auto provider = rooted(scene.root);
  const auto listing = provider->list(scene.root.string(), false);
  ASSERT_TRUE(listing) << listing.error().message;
  ASSERT_EQ(listing->objects.size(), 1U);
  EXPECT_EQ(listing->objects[0].name, "z");
  EXPECT_EQ(listing->objects[0].size, 2U);
  EXPECT_EQ(listing->folders, std::vector<std::string>{"a"});
  const auto all = provider->list("file://" + scene.root.string() + "/", true);
  ASSERT_TRUE(all) << all.error().message;
  ASSERT_EQ(all->objects.size(), 3U);
  EXPECT_EQ(all->objects[0].name, "a/deep/y");
  EXPECT_EQ(all->objects[1].name, "a/x.bin");
  EXPECT_TRUE(all->folders.empty());
  const std::string file = (scene.root / "a/x.bin").string();
  const auto object = provider->stat(file);
  ASSERT_TRUE(object) << object.error().message;
  EXPECT_EQ(object->name, "x.bin");
  EXPECT_EQ(object->etag, all->objects[1].etag);
  EXPECT_GT(object->modified_unix_s, 1'600'000'000);
  EXPECT_EQ(fetch(*provider, "file://" + file, {7, 5, object->etag}).bytes, "world");
  EXPECT_TRUE(exists(*provider, file).value());
  EXPECT_FALSE(exists(*provider, file + "x").value());
}

// If this failed, a request for a name like "../../etc/passwd" would be served.
TEST(FileStorage, NothingOutsideTheAllowedDirectoriesIsReached) {
  const Scene scene;
  fs::create_symlink(scene.outside / "secret", scene.root / "link");
  fs::create_symlink("../outside/secret", scene.root / "relative");
  fs::create_symlink(scene.outside, scene.root / "folder");
  fs::create_symlink("/proc/self/root/etc/passwd", scene.root / "magic");
  fs::create_directories(scene.dir / "root-twin");
  scene.dir.write("root-twin/secret", "secret");
  const auto provider = rooted(scene.root);
  const std::string root = scene.root.string();
  for (const std::string& path :
       {root + "/../outside/secret", root + "/a/../../outside/secret", (scene.outside / "secret").string(),
        root + "/link", root + "/relative", root + "/folder/secret", root + "/magic", root + "-twin/secret",
        std::string("/etc/passwd"), "file://" + root + "/%2e%2e/outside/secret",
        std::string("/nonexistent/x"), root + "/../outside/absent"}) {
    const auto object = provider->stat(path);
    ASSERT_FALSE(object) << path;
    EXPECT_EQ(object.error().code, Errc::kInvalid) << path << ": " << object.error().message;
    EXPECT_EQ(fetch(*provider, path, {0, 1, ""}).bytes, "") << path;
  }
  EXPECT_EQ(provider->list(root + "/folder", true).error().code, Errc::kInvalid);
  EXPECT_EQ(provider->list("/", false).error().code, Errc::kInvalid);
  const auto listing = provider->list(root, false);
  ASSERT_TRUE(listing);
  EXPECT_EQ(listing->objects.size(), 1U) << "what cannot be fetched is not listed either";
  EXPECT_EQ(listing->folders, std::vector<std::string>{"a"});
}

// If this failed, links that stay inside (model hubs' caches, "current -> v2") would not be served.
TEST(FileStorage, LinksThatStayInsideAreFollowed) {
  const Scene scene;
  fs::create_symlink("a/x.bin", scene.root / "relative");
  fs::create_symlink(scene.root / "a/x.bin", scene.root / "absolute");
  fs::create_symlink(scene.root / "a", scene.root / "current");
  fs::create_symlink(scene.root, scene.dir / "named");
  const auto provider = rooted(scene.root);
  for (const char* const name : {"relative", "absolute", "current/x.bin", "a/../a/x.bin"})
    EXPECT_EQ(fetch(*provider, (scene.root / name).string(), {0, 5, ""}).bytes, "hello") << name;
  EXPECT_EQ(fetch(*provider, (scene.dir / "named/a/x.bin").string(), {0, 5, ""}).bytes, "hello");
  const auto by_link = rooted(scene.dir / "named");
  EXPECT_EQ(fetch(*by_link, (scene.dir / "named/a/x.bin").string(), {0, 5, ""}).bytes, "hello");
  EXPECT_EQ(fetch(*by_link, (scene.root / "a/x.bin").string(), {0, 5, ""}).bytes, "hello");
  EXPECT_EQ(provider->list((scene.root / "current").string(), false)->objects.size(), 1U);
  EXPECT_EQ(provider->list(scene.root.string(), true)->objects.size(), 5U) << "linked folders are not walked";
}

// If this failed, whoever may write in an allowed directory could read every file of this process's user, by
// swapping a folder for a link at the right moment.
TEST(FileStorage, ASwapInTheMiddleLeadsNowhere) {
  const Scene scene;
  fs::create_directories(scene.root / "swap");
  scene.dir.write("root/swap/secret", "public");
  const auto provider = rooted(scene.root);
  const fs::path folder = scene.root / "swap", kept = scene.root / "kept", link = scene.root / "swap-link";
  std::atomic<bool> stop{false};
  std::thread swapper([&] {
    fs::create_symlink(scene.outside, link);
    while (!stop) {
      ::rename(folder.c_str(), kept.c_str());
      ::rename(link.c_str(), folder.c_str());
      ::rename(folder.c_str(), link.c_str());
      ::rename(kept.c_str(), folder.c_str());
    }
  });
  int good = 0;
  int refused = 0;
  constexpr int kReads = 4'000;
  constexpr int kReadsMost = 1'000'000;  // where the other thread gets no processor for a while
  const auto seen_both = [&] { return good > 0 && refused > 0; };
  for (int i = 0; i < kReads || (i < kReadsMost && !seen_both()); ++i) {
    const Fetched fetched = fetch(*provider, (folder / "secret").string(), {0, 6, ""});
    ASSERT_NE(fetched.bytes, "secret");
    (fetched.error ? refused : good) += 1;
  }
  stop = true;
  swapper.join();
  EXPECT_GT(good, 0);
  EXPECT_GT(refused, 0) << "nothing was swapped while it was read";
}

// If this failed, a pipe or a device among the adapters would hang a thread for ever.
TEST(FileStorage, OnlyRegularFilesAreRead) {
  const Scene scene;
  ASSERT_EQ(::mkfifo((scene.root / "pipe").c_str(), 0600), 0);
  const auto provider = rooted(scene.root);
  EXPECT_EQ(provider->stat((scene.root / "pipe").string()).error().code, Errc::kInvalid);
  EXPECT_EQ(fetch(*provider, (scene.root / "pipe").string(), {0, 1, ""}).error->code, Errc::kInvalid);
  EXPECT_EQ(provider->stat((scene.root / "a").string()).error().code, Errc::kNotFound);
  EXPECT_EQ(provider->list(scene.root.string(), false)->objects.size(), 1U);
  EXPECT_EQ(provider->list((scene.root / "z").string(), false).error().code, Errc::kNotFound);
}

// If this failed, a file that is written while it is read would be served as a mixture.
TEST(FileStorage, AChangedFileIsCorrupt) {
  const Scene scene;
  const auto provider = rooted(scene.root);
  const std::string file = (scene.root / "a/x.bin").string();
  const std::string etag = provider->stat(file)->etag;
  scene.dir.write("root/a/x.bin", "HELLO, WORLD");
  EXPECT_EQ(fetch(*provider, file, {0, 5, etag}).error->code, Errc::kCorrupt);
  bool written = false;
  const auto done = provider->fetch(file, {0, 12, ""}, [&](std::uint64_t, std::span<const std::byte>) {
    scene.dir.write("root/a/x.bin", "hello, again");
    written = true;
    return Result<Unit>(Unit{});
  });
  ASSERT_TRUE(written);
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code, Errc::kCorrupt);
  const auto cut = provider->fetch(file, {0, 12, ""}, [&](std::uint64_t, std::span<const std::byte>) {
    return Result<Unit>(fail(Errc::kCancelled, "no"));
  });
  EXPECT_EQ(cut.error().code, Errc::kCancelled);
  EXPECT_EQ(fetch(*provider, file, {8, 5, ""}).error->code, Errc::kInvalid) << "beyond the end";
}

// If this failed, the service would start without the directory it is to serve, and say nothing.
TEST(FileStorage, AllowedDirectoriesAreCheckedAtTheStart) {
  const Scene scene;
  FileStorageOptions options;
  options.allowed_paths = {(scene.dir / "new/deep").string()};
  const auto absent = make_file_storage(options);
  ASSERT_FALSE(absent);
  EXPECT_EQ(absent.error().code, Errc::kNotFound);
  EXPECT_NE(absent.error().message.find("create_dirs"), std::string::npos) << absent.error().message;
  options.create_dirs = true;
  EXPECT_TRUE(make_file_storage(options));
  EXPECT_TRUE(fs::is_directory(scene.dir / "new/deep"));
  options.allowed_paths = {(scene.root / "z").string()};
  EXPECT_FALSE(make_file_storage(options)) << "a file is no directory";
  options.allowed_paths = {""};
  EXPECT_EQ(make_file_storage(options).error().code, Errc::kInvalid);
  if (::geteuid() == 0) return;  // root may list everything
  fs::permissions(scene.outside, fs::perms::none);
  options.allowed_paths = {scene.outside.string()};
  EXPECT_EQ(make_file_storage(options).error().code, Errc::kIo);
  options.verify_permissions = false;
  EXPECT_TRUE(make_file_storage(options));
  fs::permissions(scene.outside, fs::perms::owner_all);
}

// If this failed, the default configuration, which names no directory, could read nothing, or a typing error
// in a URI would be taken for a path.
TEST(FileStorage, WithoutAllowedPathsEverythingReadableIs) {
  const Scene scene;
  const auto provider = make({});
  EXPECT_EQ(fetch(*provider, (scene.outside / "secret").string(), {0, 6, ""}).bytes, "secret");
  EXPECT_EQ(provider->stat((scene.root / "absent").string()).error().code, Errc::kNotFound);
  EXPECT_EQ(provider->stat("file://host/x").error().code, Errc::kInvalid);
  EXPECT_EQ(provider->stat("").error().code, Errc::kInvalid);
  EXPECT_EQ(provider->stat(scene.root.string() + std::string("\0/../z", 6)).error().code, Errc::kInvalid);
}

}  // namespace
}  // namespace loracle
