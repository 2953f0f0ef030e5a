#include "loracle/core/result.hpp"

namespace loracle {

std::string_view name_of(Errc code) noexcept {
  switch (code) {
    case Errc::kInvalid:
      return "invalid";
    case Errc::kNotFound:
      return "not_found";
    case Errc::kIo:
      return "io";
    case Errc::kCorrupt:
      return "corrupt";
    case Errc::kTooLarge:
      return "too_large";
    case Errc::kAllPinned:
      return "all_pinned";
    case Errc::kUnsupported:
      return "unsupported";
    case Errc::kBusy:
      return "busy";
    case Errc::kDeadline:
      return "deadline";
    case Errc::kCancelled:
      return "cancelled";
  }
  return "unknown";
}

}  // namespace loracle
