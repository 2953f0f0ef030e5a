#pragma once
/// The files ~/.aws/credentials and ~/.aws/config: one profile of them.
///
/// Where they lie: AWS_SHARED_CREDENTIALS_FILE and AWS_CONFIG_FILE, else below HOME. A file that is not there
/// is empty. What the credentials file says wins.
/// Errors: kIo (a file cannot be read), kInvalid (a file of more than 1 MiB).

#include <map>
#include <string>

#include "loracle/core/result.hpp"
#include "storage/environment.hpp"

namespace loracle {

struct AwsProfile {
  std::string name;
  bool found = false;
  std::map<std::string, std::string> values;  // "aws_access_key_id", "region", ...

  /// Empty where it is not said.
  [[nodiscard]] std::string value(const std::string& key) const;
};

/// The sections of such a file by name ("default", "profile x"); nested values and what is no line of
/// "name = value" are left out.
[[nodiscard]] std::map<std::string, std::map<std::string, std::string>> parse_aws_file(
    const std::string& text);

/// `name` empty: AWS_PROFILE, else "default".
[[nodiscard]] Result<AwsProfile> load_aws_profile(const std::string& name, const EnvironmentLookup& env);

}  // namespace loracle
