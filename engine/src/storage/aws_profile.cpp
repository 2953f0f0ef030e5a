#include "storage/aws_profile.hpp"

#include <fmt/format.h>

#include <string_view>

#include "loracle/engine/files.hpp"
#include "storage/storage_uri.hpp"

namespace loracle {
namespace {

constexpr std::uint64_t kFileBytesMax = 1U << 20U;

std::string_view trimmed(std::string_view text) noexcept {
  const auto blank = [](char c) { return c == ' ' || c == '\t' || c == '\r'; };
  while (!text.empty() && blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && blank(text.back())) text.remove_suffix(1);
  return text;
}

std::string place(const EnvironmentLookup& env, const std::string& variable, std::string_view below_home) {
  if (auto path = env(variable)) return *path;
  const std::optional<std::string> home = env("HOME");
  return home ? fmt::format("{}/.aws/{}", *home, below_home) : std::string();
}

using Sections = std::map<std::string, std::map<std::string, std::string>>;

Result<Sections> load(const std::string& path) {
  if (path.empty()) return Sections{};
  Result<std::string> text = read_text(posix_files(), path, kFileBytesMax);
  if (!text && text.error().code == Errc::kNotFound) return Sections{};
  if (!text) return fail(std::move(text.error()));
  return parse_aws_file(*text);
}

}  // namespace

std::string AwsProfile::value(const std::string& key) const {
  const auto at = values.find(key);
  return at == values.end() ? std::string() : at->second;
}

std::map<std::string, std::map<std::string, std::string>> parse_aws_file(const std::string& text) {
  Sections sections;
  std::map<std::string, std::string>* section = nullptr;
  std::string_view rest = text;
  while (!rest.empty()) {
    const std::size_t end = rest.find('\n');
    const std::string_view raw = rest.substr(0, end);
    rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
    std::string_view line = trimmed(raw);
    if (line.empty() || line.front() == '#' || line.front() == ';') continue;
    if (line.front() == '[') {
      const std::size_t close = line.find(']');
      if (close == std::string_view::npos) {
        section = nullptr;  // whose values follow is not known: nobody's
        continue;
      }
      const std::string_view name = trimmed(line.substr(1, close - 1));
      const std::size_t blank = name.find_first_of(" \t");
      section = &sections[blank == std::string_view::npos
                              ? std::string(name)
                              : fmt::format("{} {}", name.substr(0, blank), trimmed(name.substr(blank)))];
      continue;
    }
    const bool nested = raw.front() == ' ' || raw.front() == '\t';
    const std::size_t equals = line.find('=');
    if (section == nullptr || nested || equals == std::string_view::npos) continue;
    std::string_view value = trimmed(line.substr(equals + 1));
    // A comment begins with a blank and its sign: keys may hold a '#'.
    for (const std::string_view sign : {" #", " ;", "\t#", "\t;"})
      if (const std::size_t comment = value.find(sign); comment != std::string_view::npos)
        value = trimmed(value.substr(0, comment));
    (*section)[lower_case(trimmed(line.substr(0, equals)))] = std::string(value);
  }
  return sections;
}

Result<AwsProfile> load_aws_profile(const std::string& name, const EnvironmentLookup& env) {
  AwsProfile profile{name.empty() ? env("AWS_PROFILE").value_or("default") : name, false, {}};
  Result<Sections> config = load(place(env, "AWS_CONFIG_FILE", "config"));
  if (!config) return fail(std::move(config.error()));
  Result<Sections> credentials = load(place(env, "AWS_SHARED_CREDENTIALS_FILE", "credentials"));
  if (!credentials) return fail(std::move(credentials.error()));
  const auto take = [&](const Sections& sections, const std::string& section) {
    const auto at = sections.find(section);
    if (at == sections.end()) return;
    profile.found = true;
    for (const auto& [key, value] : at->second) profile.values[key] = value;
  };
  if (profile.name == "default") take(*config, "default");
  take(*config, "profile " + profile.name);
  // A half of a pair must not meet another file's other half.
  if (const auto at = credentials->find(profile.name);
      at != credentials->end() && at->second.contains("aws_access_key_id")) {
    for (const char* const key : {"aws_access_key_id", "aws_secret_access_key", "aws_session_token"})
      profile.values.erase(key);
  }
  take(*credentials, profile.name);
  return profile;
}

}  // namespace loracle
