#include "exit_codes.hpp"

#include <fmt/format.h>

#include "loracle/engine/device.hpp"
#include "output.hpp"

namespace loracle::app {

int report(const Error& error, ExitCode code) {
  say(fmt::format("loracle: {}\n", error.message));
  return code;
}

int report_input(const Error& error) {
  switch (error.code) {
    case Errc::kNotFound:
    case Errc::kIo:
    case Errc::kBusy:
      return report(error, kExitInput);
    case Errc::kInvalid:
      return report(error, kExitUsage);  // a mapping, column map or fold that does not apply
    default:
      return report(error, kExitBadData);
  }
}

int report_usage(const Error& error) {
  switch (error.code) {
    case Errc::kAllPinned:
    case Errc::kTooLarge:
      return report(error, kExitImpossible);
    case Errc::kIo:
      return report(error, kExitInput);
    case Errc::kCorrupt:
      return report(error, kExitBadData);
    default:
      return report(error, kExitUsage);
  }
}

int report_start(const Error& error, const std::string& device) {
  switch (error.code) {
    case Errc::kInvalid:
    case Errc::kTooLarge:
    case Errc::kAllPinned:
      return report_usage(error);
    case Errc::kUnsupported:
      // A database may be of a later loracle too: asking for the device again tells which it was.
      return make_device(device) ? report_input(error) : report(error, kExitImpossible);
    default:
      return report_input(error);
  }
}

}  // namespace loracle::app
