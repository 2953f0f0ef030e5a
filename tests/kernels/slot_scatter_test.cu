// If this fails, a GPU serves weights that are not the adapter's. Exits with 77, "skipped", without a device.

#include <cstdint>
#include <vector>

#include "device_check.hpp"
#include "loracle/kernels/slot_scatter.hpp"
#include "scatter_cases.hpp"

namespace {

using namespace loracle;           // NOLINT: a test
using namespace loracle::testing;  // NOLINT

constexpr std::byte kUntouched{0xA5};

/// What a slot that held something else holds after the scatter.
std::vector<std::byte> by_reference(const ScatterCase& scene) {
  std::vector<std::byte> slot(scene.slot_bytes, kUntouched);
  slot_scatter_reference(scene.placed_at(slot.data()), scene.source(), scene.shape.element_bytes);
  return slot;
}

/// A case on the device.
struct Scene {
  explicit Scene(const ScatterCase& made)
      : scene(made),
        slot(std::vector<std::byte>(made.slot_bytes, kUntouched)),
        image(made.image),
        parts(made.placed_at(slot.data())) {}
  void scatter(cudaStream_t stream) const {
    require(slot_scatter(parts.data(), static_cast<std::uint32_t>(scene.parts.size()),
                         image.data() + (scene.image.size() - scene.source().size()),
                         scene.shape.element_bytes, stream),
            scene.name());
  }

  const ScatterCase& scene;
  OnDevice<std::byte> slot;
  OnDevice<std::byte> image;
  OnDevice<ScatterPart> parts;
};

void expect_equal(const std::vector<std::byte>& found, const std::vector<std::byte>& expected,
                  const std::string& what) {
  for (std::size_t i = 0; i < found.size(); ++i) {
    if (found[i] == expected[i]) continue;
    expect(false, what + ": byte " + std::to_string(i) + " is " + std::to_string(static_cast<int>(found[i])) +
                      ", not " + std::to_string(static_cast<int>(expected[i])));
    return;
  }
}

void check_scatter(const ScatterCase& made, const Stream& stream) {
  const Scene scene(made);
  scene.scatter(stream.get());
  stream.finish(made.name());
  expect_equal(scene.slot.read(), by_reference(made), made.name());
}

/// A graph is captured with one adapter and replayed with another, of another rank, for which the parts have
/// been replaced.
void check_graph(const Stream& stream) {
  constexpr ScatterModule kModules[] = {{64, 32}, {33, 47}, {40, 24}};
  constexpr ScatterModule kOthers[] = {{64, 32}, {33, 47, false}, {40, 24}};
  const ScatterCase captured = make_scatter_case({16, 16, 2, 0}, kModules);
  ScatterCase replayed = make_scatter_case({3, 16, 2, 0}, kOthers);
  const Scene scene(captured);
  replay_after(
      stream, [&](cudaStream_t capturing) { scene.scatter(capturing); },
      [&] {
        std::vector<std::byte> image = replayed.image;
        image.resize(captured.image.size());
        scene.image.write(image);
        scene.parts.write(replayed.placed_at(scene.slot.data()));
      });
  expect_equal(scene.slot.read(), by_reference(replayed), "a replayed scatter");
}

}  // namespace

int main() {
  for (const std::uint32_t element_bytes : {0U, 3U, 8U})
    expect(slot_scatter(nullptr, 0, nullptr, element_bytes, nullptr) == cudaErrorInvalidValue,
           "an element has 1, 2 or 4 bytes");
  expect(slot_scatter(nullptr, 0, nullptr, 2, nullptr) == cudaSuccess, "no parts: nothing to do");
  if (failures != 0) return 1;
  const std::vector<ScatterCase> cases = scatter_cases();
  require_device(cases.size() + 2);
  require(load_slot_scatter(), "the kernel loads");
  const Stream stream;
  for (const ScatterCase& scene : cases) check_scatter(scene, stream);
  check_scatter(many_small_parts(), stream);
  check_graph(stream);
  return verdict(static_cast<int>(cases.size()) + 2);
}
