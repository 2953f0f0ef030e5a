#include "loracle/policy/decision_log.hpp"

namespace loracle {

std::string_view name_of(Place place) noexcept {
  switch (place) {
    case Place::kNowhere:
      return "-";
    case Place::kOrigin:
      return "origin";
    case Place::kDisk:
      return "disk";
    case Place::kHost:
      return "host";
    case Place::kDevice:
      return "device";
  }
  return "?";
}

std::string_view name_of(Action action) noexcept {
  switch (action) {
    case Action::kHit:
      return "hit";
    case Action::kLoad:
      return "load";
    case Action::kEvict:
      return "evict";
    case Action::kRefuse:
      return "refuse";
    case Action::kRemove:
      return "remove";
  }
  return "?";
}

}  // namespace loracle
