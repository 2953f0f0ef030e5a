#include "change_flags.hpp"

#include <fmt/format.h>

#include "parse_flags.hpp"

namespace loracle::app {

void ChangeFlags::add_to(CLI::App& command) {
  command
      .add_option("--replicas", replicas,
                  "Servers like this one that share the service's traffic: a what-if loses one of them")
      ->check(in_range(2, 100'000))
      ->capture_default_str();
  command.add_option("--store-load-time", store_load_time,
                     fmt::format("How long a load from object storage takes, for the what-if without a disk: "
                                 "500ms (default: a guess, {:g}s)",
                                 ChangeOptions().store_load_s));
}

Result<ChangeOptions> ChangeFlags::options() const {
  ChangeOptions options;
  options.replicas = replicas;
  if (store_load_time.empty()) return options;
  const Result<double> seconds = parse_load_time(store_load_time);
  if (!seconds) return fail(seconds.error());
  options.store_load_s = *seconds;
  return options;
}

}  // namespace loracle::app
