// A downstream program: includes as installed, C++20, nothing but loracle::sim on its link line.
// If it fails, users of the package cannot build, link or run.

#include <cstdio>
#include <string>
#include <vector>

#include "loracle/sim/curves.hpp"
#include "loracle/sim/replay.hpp"
#include "loracle/traces/read.hpp"

int main() {
  using loracle::Row;
  loracle::UseStream stream;
  stream.uses = std::vector<Row>{Row{0}, Row{1}, Row{0}, Row{2}, Row{1}};
  stream.rows = 3;
  stream.size.assign(3, loracle::Bytes{1});
  // By hand: at two entries only the third use hits.
  const auto misses = loracle::lru_curve(stream).misses(2);
  loracle::ReplayJob job;
  job.policy = "lru";
  job.capacity.entries = 2;
  const auto counts = loracle::replay(stream, loracle::SizeUnit::kObjects, job);
  const auto absent = loracle::read_trace("no-such-trace.jsonl", loracle::ReadOptions{});
  const bool good = misses == 4 && counts && counts->misses == 4 && !absent &&
                    absent.error().code == loracle::Errc::kNotFound;
  std::printf("%s: %llu misses\n", good ? "ok" : "FAILED", static_cast<unsigned long long>(misses));
  return good ? 0 : 1;
}
