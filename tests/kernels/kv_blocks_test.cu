// If this fails, KV blocks that are fetched or stored hold other tokens' keys. Exits with 77, "skipped",
// without a device.

#include <vector>

#include "device_check.hpp"
#include "kv_cases.hpp"

namespace {

using namespace loracle;           // NOLINT: a test
using namespace loracle::testing;  // NOLINT

std::vector<std::byte> numbered(std::uint64_t bytes, unsigned first) {
  std::vector<std::byte> made(bytes);
  for (std::size_t i = 0; i < made.size(); ++i) made[i] = static_cast<std::byte>((first + i * 7) % 251);
  return made;
}

void check_case(const KvCase& scene, const Stream& stream) {
  const std::vector<std::byte> before = numbered(scene.layers * scene.layer_bytes(), 3);
  const OnDevice<std::byte> cache(before);
  const OnDevice<KvPlane> planes(planes_at(scene, cache.data()));
  const OnDevice<std::int32_t> blocks(scene.blocks);
  KvBlocks work = work_of(scene);
  work.planes = planes.data();
  work.blocks = blocks.data();

  std::vector<std::byte> staged(scene.staging_bytes(), std::byte{0xEE});
  const OnDevice<std::byte> gathered(staged);
  require(kv_gather(work, gathered.data(), stream.get()), scene.name());
  stream.finish(scene.name());
  for_each_kv_byte(scene, [&](std::uint64_t cached, std::uint64_t at) { staged[at] = before[cached]; });
  expect(gathered.read() == staged, "gather: " + scene.name());

  const std::vector<std::byte> fresh = numbered(scene.staging_bytes(), 100);
  const OnDevice<std::byte> to_scatter(fresh);
  require(kv_scatter(work, to_scatter.data(), stream.get()), scene.name());
  stream.finish(scene.name());
  std::vector<std::byte> after = before;
  for_each_kv_byte(scene, [&](std::uint64_t cached, std::uint64_t at) { after[cached] = fresh[at]; });
  expect(cache.read() == after, "scatter: " + scene.name());
}

}  // namespace

int main() {
  const std::vector<KvCase> cases = kv_cases();
  require_device(2 * cases.size());
  const Stream stream;
  for (const KvCase& scene : cases) check_case(scene, stream);
  return verdict(static_cast<int>(2 * cases.size()));
}
