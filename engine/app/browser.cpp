#include "browser.hpp"

#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>

#include "output.hpp"

namespace loracle::app {
namespace {

namespace fs = std::filesystem;

constexpr int kTimeoutS = 60;

/// Removed with all that is in it.
struct TemporaryFolder {
  fs::path path;

  TemporaryFolder() = default;
  TemporaryFolder(TemporaryFolder&& other) noexcept : path(std::exchange(other.path, {})) {}
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(TemporaryFolder&&) = delete;
  ~TemporaryFolder() {
    std::error_code ignored;
    if (!path.empty()) fs::remove_all(path, ignored);
  }
};

Result<TemporaryFolder> temporary_folder() {
  std::error_code failed;
  std::string pattern = (fs::temp_directory_path(failed) / "loracle-charts-XXXXXX").string();
  if (failed || ::mkdtemp(pattern.data()) == nullptr)
    return fail(Errc::kIo,
                fmt::format("{}: cannot make a temporary folder: {}", pattern, std::strerror(errno)), errno);
  TemporaryFolder folder;
  folder.path = pattern;
  return folder;
}

/// A path that can be executed; empty if there is none.
std::string browser_path() {
  if (const char* given = std::getenv("CHROMIUM"); given != nullptr && *given != '\0')
    return ::access(given, X_OK) == 0 ? given : "";
  const char* path = std::getenv("PATH");
  if (path == nullptr) return {};
  for (const char* name : {"chromium", "chromium-browser", "google-chrome", "google-chrome-stable"}) {
    std::string_view rest = path;
    while (!rest.empty()) {
      const std::size_t end = std::min(rest.find(':'), rest.size());
      std::string file = (fs::path(rest.substr(0, end)) / name).string();
      if (::access(file.c_str(), X_OK) == 0) return file;
      rest.remove_prefix(std::min(end + 1, rest.size()));
    }
  }
  return {};
}

std::string in_quotes(const std::string& word) {
  std::string quoted = "'";
  for (const char c : word) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quoted + "'";
}

}  // namespace

Result<std::string> document_after_scripts(std::string_view page, std::string_view what_for) {
  const std::string browser = browser_path();
  if (browser.empty())
    return fail(
        Errc::kNotFound,
        fmt::format("{} needs Chromium, which is not here: install Debian's package chromium, or name "
                    "an executable in $CHROMIUM",
                    what_for));
  const Result<TemporaryFolder> folder = temporary_folder();
  if (!folder) return fail(folder.error());
  const fs::path file = folder->path / "page.html";
  if (const Result<Unit> ok = write_file(file.string(), page); !ok) return fail(ok.error());
  // The page is our own, and its names are escaped; Chromium refuses to have a sandbox as root.
  const std::string command = fmt::format(
      "timeout {} {} --headless {} --disable-gpu --user-data-dir={} --virtual-time-budget=20000 --dump-dom "
      "{} 2>/dev/null",
      kTimeoutS, in_quotes(browser), ::geteuid() == 0 ? "--no-sandbox" : "",
      in_quotes((folder->path / "profile").string()), in_quotes("file://" + file.string()));
  std::FILE* pipe = ::popen(command.c_str(), "r");
  if (pipe == nullptr)
    return fail(Errc::kIo, fmt::format("{}: cannot be run: {}", browser, std::strerror(errno)), errno);
  std::string document;
  std::array<char, 65536> chunk{};
  for (std::size_t got = 1; (got = std::fread(chunk.data(), 1, chunk.size(), pipe)) > 0;)
    document.append(chunk.data(), got);
  const int status = ::pclose(pipe);
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0 || document.empty())
    return fail(Errc::kCorrupt, fmt::format("{}: gave no page back within {} s", browser, kTimeoutS));
  return document;
}

}  // namespace loracle::app
