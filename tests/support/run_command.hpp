#pragma once
/// Runs a command of the shell to its end.

#include <sys/wait.h>

#include <array>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <string>

namespace loracle::testing {

struct Outcome {
  int exit_code = -1;  // -1: it could not be started; 128: a signal ended it
  std::string out;
  std::string err;
};

/// `errors` is a file that stderr may be written to.
inline Outcome run_command(const std::string& command, const std::string& errors) {
  Outcome outcome;
  std::FILE* pipe = ::popen(("{ " + command + "; } 2>" + errors).c_str(), "r");
  if (pipe == nullptr) return outcome;
  std::array<char, 4096> buffer{};
  for (std::size_t got = 0; (got = std::fread(buffer.data(), 1, buffer.size(), pipe)) > 0;)
    outcome.out.append(buffer.data(), got);
  const int status = ::pclose(pipe);
  outcome.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128;
  std::ifstream in(errors, std::ios::binary);
  outcome.err.assign(std::istreambuf_iterator<char>(in), {});
  return outcome;
}

}  // namespace loracle::testing
