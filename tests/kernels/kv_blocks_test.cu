// If this fails, KV blocks that are fetched or stored hold other tokens' keys. Exits with 77, "skipped",
// without a device.

#include <vector>

#include "device_check.hpp"
#include "kv_cases.hpp"

namespace {

using namespace loracle;           // NOLINT: a test
using namespace loracle::testing;  // NOLINT

constexpr std::byte kUntouched{0xEE};

std::vector<std::byte> numbered(std::uint64_t bytes, unsigned first) {
  std::vector<std::byte> made(bytes);
  for (std::size_t i = 0; i < made.size(); ++i) made[i] = static_cast<std::byte>((first + i * 7) % 251);
  return made;
}

/// A case on the device; cache and staging lie `shift` bytes after an aligned address.
struct Scene {
  Scene(const KvCase& made, std::size_t shift)
      : before(numbered(made.layers * made.layer_bytes(), 3)),
        fresh(numbered(made.staging_bytes(), 100)),
        cache(before, shift),
        gathered(std::vector<std::byte>(made.staging_bytes(), kUntouched), shift),
        to_scatter(fresh, shift),
        planes(planes_at(made, cache.data())),
        blocks(made.blocks),
        work(work_of(made)) {
    work.planes = planes.data();
    work.blocks = blocks.data();
  }
  void gather(cudaStream_t stream) const { require(kv_gather(work, gathered.data(), stream), "a gather"); }
  void scatter(cudaStream_t stream) const {
    require(kv_scatter(work, to_scatter.data(), stream), "a scatter");
  }
  /// The staging buffer after a gather of what `made` lists, from the cache as it was at first.
  [[nodiscard]] std::vector<std::byte> staged(const KvCase& made) const {
    std::vector<std::byte> bytes(made.staging_bytes(), kUntouched);
    for_each_kv_byte(made, [&](std::uint64_t cached, std::uint64_t at) { bytes[at] = before[cached]; });
    return bytes;
  }
  /// The cache after a scatter of what `made` lists.
  [[nodiscard]] std::vector<std::byte> scattered(const KvCase& made) const {
    std::vector<std::byte> bytes = before;
    for_each_kv_byte(made, [&](std::uint64_t cached, std::uint64_t at) { bytes[cached] = fresh[at]; });
    return bytes;
  }

  std::vector<std::byte> before;
  std::vector<std::byte> fresh;
  OnDevice<std::byte> cache;
  OnDevice<std::byte> gathered;
  OnDevice<std::byte> to_scatter;
  OnDevice<KvPlane> planes;
  OnDevice<std::int32_t> blocks;
  KvBlocks work;
};

int check_case(const KvCase& made, std::size_t shift, const Stream& stream) {
  const Scene scene(made, shift);
  scene.gather(stream.get());
  stream.finish(made.name());
  expect(scene.gathered.read() == scene.staged(made), "gather: " + made.name());
  scene.scatter(stream.get());
  stream.finish(made.name());
  expect(scene.cache.read() == scene.scattered(made), "scatter: " + made.name());
  return 2;
}

/// Graphs are captured with some blocks and replayed with others.
int check_graphs(const Stream& stream) {
  const KvCase captured = {{KvLayout::kSplitHnd, 9, 16, 3, 64, 2}, 3, {4, 0, 8}};
  KvCase replayed = captured;
  replayed.blocks = {7, -1, 2};
  const Scene gathers(captured, 0);
  replay_after(
      stream, [&](cudaStream_t capturing) { gathers.gather(capturing); },
      [&] { gathers.blocks.write(replayed.blocks); });
  expect(gathers.gathered.read() == gathers.staged(replayed), "a replayed gather");
  const Scene scatters(captured, 0);
  replay_after(
      stream, [&](cudaStream_t capturing) { scatters.scatter(capturing); },
      [&] { scatters.blocks.write(replayed.blocks); });
  expect(scatters.cache.read() == scatters.scattered(replayed), "a replayed scatter");
  return 2;
}

}  // namespace

int main() {
  std::vector<KvCase> cases = kv_cases();
  cases.push_back(kv_case_of_many_planes());
  require_device(4 * cases.size() + 2);
  const Stream stream;
  int checked = 0;
  for (const KvCase& made : cases)
    for (const std::size_t shift : {std::size_t{0}, std::size_t{made.shape.element_bytes}})
      checked += check_case(made, shift, stream);
  checked += check_graphs(stream);
  return verdict(checked);
}
