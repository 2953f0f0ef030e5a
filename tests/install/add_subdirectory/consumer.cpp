// If it fails, loracle cannot be used with add_subdirectory, or its -Werror reaches its users.

#include <cstdio>

#include "loracle/core/result.hpp"
#include "loracle/policy/lru.hpp"

int main() {
  int unused_on_purpose = 1 + sizeof(int);  // a warning under our flags, an error if they leaked
  const loracle::Lru lru(4, loracle::Capacity{}, loracle::NoConfig{});
  const bool good = !lru.contains(loracle::Row{0}) && loracle::name_of(loracle::Errc::kIo) == "io";
  std::printf("%s\n", good ? "ok" : "FAILED");
  return good ? 0 : 1;
}
