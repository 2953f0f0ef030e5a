#pragma once
/// Which route takes a request: by method and path, whose parts may stand for names. Threads: any.

#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace loracle::service {

struct HttpRoute;

/// What a request asks for, taken apart.
struct HttpTarget {
  std::vector<std::string> parts;                 // of the path, between the slashes, decoded
  std::string path;                               // decoded
  std::multimap<std::string, std::string> query;  // decoded
};

/// "/v1/resolve?name=a%20b". A % that begins no %XX stands for itself.
[[nodiscard]] HttpTarget parse_target(std::string_view target);

struct FoundRoute {
  const HttpRoute* route = nullptr;     // null: none
  std::vector<std::string> path_parts;  // what stood for {..}
  std::string allowed;                  // where the path is known and the method is not: "GET, PUT"
};

class HttpRoutes {
 public:
  /// `routes` outlive this.
  explicit HttpRoutes(const std::vector<HttpRoute>& routes);
  /// HEAD is answered as GET is. Of several routes the first one wins.
  [[nodiscard]] FoundRoute find(std::string_view method, const HttpTarget& target) const;

 private:
  struct Known {
    const HttpRoute* route;
    std::vector<std::string_view> parts;  // "{..}" as it is written
  };
  std::vector<Known> known_;
};

}  // namespace loracle::service
