// If this fails, slots are found to hold what they do not hold, or several slots written at once are not what
// each of them is alone. Exits with 77, "skipped", without a device.

#include <algorithm>
#include <cstdint>
#include <vector>

#include "device_check.hpp"
#include "loracle/kernels/slot_scatter.hpp"
#include "scatter_cases.hpp"

namespace {

using namespace loracle;           // NOLINT: a test
using namespace loracle::testing;  // NOLINT

constexpr std::byte kUntouched{0xA5};

void check_gather(const ScatterCase& scene, const Stream& stream) {
  const std::uint32_t element = scene.shape.element_bytes;
  const OnDevice<std::byte> slot(std::vector<std::byte>(scene.slot_bytes, kUntouched));
  const OnDevice<ScatterPart> parts(scene.placed_at(slot.data()));
  const auto count = static_cast<std::uint32_t>(scene.parts.size());
  const OnDevice<std::byte> image(scene.image);
  const std::size_t shift = scene.image.size() - scene.source().size();
  const OnDevice<std::byte> found(std::vector<std::byte>(scene.image.size(), kUntouched));
  const OnDevice<std::uint64_t> dirty(std::vector<std::uint64_t>{0});
  require(slot_scatter(parts.data(), count, image.data() + shift, element, stream.get()), scene.name());
  require(slot_gather(parts.data(), count, found.data() + shift, element, dirty.data(), stream.get()),
          scene.name());
  stream.finish(scene.name());
  std::vector<std::byte> expected(scene.image.size(), kUntouched);
  std::copy(scene.image.begin() + static_cast<std::ptrdiff_t>(shift), scene.image.end(),
            expected.begin() + static_cast<std::ptrdiff_t>(shift));
  expect(found.read() == expected, "gather: " + scene.name());
  expect(dirty.read()[0] == 0, "padding: " + scene.name());
}

/// Four slots of one layout, each with an image of its own.
void check_batch(const Stream& stream) {
  constexpr ScatterModule kModules[] = {{64, 32}, {33, 47}, {40, 24}};
  std::vector<ScatterCase> scenes;
  for (const std::uint32_t rank : {1U, 8U, 16U, 3U})
    scenes.push_back(make_scatter_case({rank, 16, 2, 0}, kModules));
  const std::uint64_t slot_bytes = scenes[0].slot_bytes;
  const OnDevice<std::byte> slots(std::vector<std::byte>(slot_bytes * scenes.size(), kUntouched));
  std::vector<std::byte> expected(slot_bytes * scenes.size(), kUntouched);
  std::vector<ScatterPart> all;
  std::vector<OnDevice<std::byte>*> images;
  std::vector<const std::byte*> addresses;
  for (std::size_t i = 0; i < scenes.size(); ++i) {
    slot_scatter_reference(scenes[i].placed_at(expected.data() + i * slot_bytes), scenes[i].source(), 2);
    const std::vector<ScatterPart> parts = scenes[i].placed_at(slots.data() + i * slot_bytes);
    all.insert(all.end(), parts.begin(), parts.end());
    images.push_back(new OnDevice<std::byte>(scenes[i].image));
    addresses.push_back(images.back()->data());
  }
  const OnDevice<ScatterPart> parts(all);
  const OnDevice<const std::byte*> there(addresses);
  require(slot_scatter_batch(parts.data(), static_cast<std::uint32_t>(scenes[0].parts.size()), there.data(),
                             static_cast<std::uint32_t>(scenes.size()), 2, stream.get()),
          "a batch of slots");
  stream.finish("a batch of slots");
  expect(slots.read() == expected, "a batch of slots is what each of them is alone");
  for (const OnDevice<std::byte>* image : images) delete image;
}

}  // namespace

int main() {
  const std::vector<ScatterCase> cases = scatter_cases();
  require_device(cases.size() + 1);
  const Stream stream;
  for (const ScatterCase& scene : cases) check_gather(scene, stream);
  check_batch(stream);
  expect(slot_scatter_batch(nullptr, 70'000, nullptr, 1, 2, stream.get()) == cudaErrorInvalidValue,
         "more parts than a grid has blocks are refused");
  expect(slot_gather(nullptr, 0, nullptr, 3, nullptr, stream.get()) == cudaErrorInvalidValue,
         "an element has 1, 2 or 4 bytes");
  return verdict(static_cast<int>(cases.size()) + 1);
}
