#include "near_name.hpp"

#include "loracle/core/nearest.hpp"

namespace loracle {

std::string_view nearest_of(std::string_view typed, const std::vector<std::string>& names) {
  const std::vector<std::string_view> views(names.begin(), names.end());
  return nearest_name(typed, views);
}

std::string did_you_mean(std::string_view typed, const std::vector<std::string>& names) {
  const std::string_view nearest = nearest_of(typed, names);
  return nearest.empty() ? std::string() : " (did you mean '" + std::string(nearest) + "'?)";
}

std::string join_names(const std::vector<std::string>& names) {
  std::string joined;
  for (const std::string& name : names) joined += (joined.empty() ? "" : ", ") + name;
  return joined;
}

}  // namespace loracle
