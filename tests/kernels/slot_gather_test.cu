// If this fails, slots are found to hold what they do not hold, or several slots written at once are not what
// each of them is alone. Exits with 77, "skipped", without a device.

#include <cstdint>
#include <vector>

#include "../../kernels/src/slot_words.hpp"
#include "device_check.hpp"
#include "loracle/kernels/slot_scatter.hpp"
#include "scatter_cases.hpp"

namespace {

using namespace loracle;           // NOLINT: a test
using namespace loracle::testing;  // NOLINT

constexpr std::byte kUntouched{0xA5};

/// Words of padding, all of which are not zero in a slot that holds kUntouched everywhere.
std::uint64_t padding_words(const ScatterCase& scene, const std::vector<ScatterPart>& parts,
                            const std::byte* image) {
  std::uint64_t padding = 0;
  for (const ScatterPart& part : parts) {
    const std::uint32_t word = word_bytes(part, image, scene.shape.element_bytes);
    const PartWords words = part_words(part, scene.shape.element_bytes, word);
    padding += words.slot - words.filled;
  }
  return padding;
}

/// A case on the device, its slot not written yet, and an image to gather into.
struct Scene {
  explicit Scene(const ScatterCase& made)
      : scene(made),
        slot(std::vector<std::byte>(made.slot_bytes, kUntouched)),
        placed(made.placed_at(slot.data())),
        parts(placed),
        image(made.image),
        found(std::vector<std::byte>(made.image.size(), kUntouched)),
        dirty(std::vector<std::uint64_t>{0}),
        shift(made.image.size() - made.source().size()) {}
  void scatter(cudaStream_t stream) const {
    require(slot_scatter(parts.data(), count(), image.data() + shift, scene.shape.element_bytes, stream),
            scene.name());
  }
  void gather(std::uint64_t* dirty_words, cudaStream_t stream) const {
    require(slot_gather(parts.data(), count(), found.data() + shift, scene.shape.element_bytes, dirty_words,
                        stream),
            scene.name());
  }
  [[nodiscard]] std::uint32_t count() const { return static_cast<std::uint32_t>(scene.parts.size()); }
  /// Of the gathered image: nothing before its start, then what `source` has.
  [[nodiscard]] std::vector<std::byte> expected(std::span<const std::byte> source) const {
    std::vector<std::byte> bytes(shift, kUntouched);
    bytes.insert(bytes.end(), source.begin(), source.end());
    return bytes;
  }

  const ScatterCase& scene;
  OnDevice<std::byte> slot;
  std::vector<ScatterPart> placed;
  OnDevice<ScatterPart> parts;
  OnDevice<std::byte> image;
  OnDevice<std::byte> found;
  OnDevice<std::uint64_t> dirty;
  std::size_t shift;
};

void check_gather(const ScatterCase& made, const Stream& stream) {
  const Scene scene(made);
  const std::vector<std::byte> untouched(made.source().size(), kUntouched);
  scene.gather(scene.dirty.data(), stream.get());
  stream.finish(made.name());
  const std::uint64_t padding = padding_words(made, scene.placed, scene.found.data() + scene.shift);
  expect(scene.dirty.read()[0] == padding, made.name() + ": " + std::to_string(scene.dirty.read()[0]) +
                                               " words of padding are not zero, not " +
                                               std::to_string(padding));
  expect(scene.found.read() == scene.expected(untouched), "gather of what is no adapter: " + made.name());

  scene.scatter(stream.get());
  scene.gather(scene.dirty.data(), stream.get());
  stream.finish(made.name());
  expect(scene.found.read() == scene.expected(made.source()), "gather: " + made.name());
  expect(scene.dirty.read()[0] == padding, "zeros are counted as something else: " + made.name());

  scene.found.write(std::vector<std::byte>(made.image.size(), kUntouched));
  scene.gather(nullptr, stream.get());
  stream.finish(made.name());
  expect(scene.found.read() == scene.expected(made.source()), "gather alone: " + made.name());
}

/// A graph is replayed after the slot has become another's.
void check_graph(const Stream& stream) {
  constexpr ScatterModule kModules[] = {{64, 32}, {33, 47}, {40, 24, false}};
  const ScatterCase captured = make_scatter_case({16, 24, 2, 0}, kModules);
  const Scene scene(captured);
  const std::vector<std::byte> untouched(captured.source().size(), kUntouched);
  scene.scatter(stream.get());
  stream.finish("a scatter");
  replay_after(
      stream, [&](cudaStream_t capturing) { scene.gather(scene.dirty.data(), capturing); },
      [&] { scene.slot.write(std::vector<std::byte>(captured.slot_bytes, kUntouched)); });
  expect(scene.found.read() == scene.expected(untouched), "a replayed gather");
  expect(scene.dirty.read()[0] == padding_words(captured, scene.placed, scene.found.data()),
         "a replayed gather counts");
}

/// Four slots of one layout, each with an image of its own; adapters lack modules, one of them all.
void check_batch(const Stream& stream) {
  constexpr ScatterModule kAll[] = {{64, 32}, {33, 47}, {40, 24}};
  constexpr ScatterModule kSome[] = {{64, 32}, {33, 47, false}, {40, 24}};
  constexpr ScatterModule kNone[] = {{64, 32, false}, {33, 47, false}, {40, 24, false}};
  std::vector<ScatterCase> scenes;
  for (const std::uint32_t rank : {1U, 8U, 16U, 3U})
    scenes.push_back(make_scatter_case({rank, 16, 2, 0}, rank == 8 ? kSome : rank == 16 ? kNone : kAll));
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
  const auto scatter = [&](cudaStream_t on) {
    require(slot_scatter_batch(parts.data(), static_cast<std::uint32_t>(scenes[0].parts.size()), there.data(),
                               static_cast<std::uint32_t>(scenes.size()), 2, on),
            "a batch of slots");
  };
  scatter(stream.get());
  stream.finish("a batch of slots");
  expect(slots.read() == expected, "a batch of slots is what each of them is alone");
  replay_after(stream, scatter,
               [&] { slots.write(std::vector<std::byte>(slot_bytes * scenes.size(), kUntouched)); });
  expect(slots.read() == expected, "a replayed batch of slots");
  for (const OnDevice<std::byte>* image : images) delete image;
}

}  // namespace

int main() {
  expect(slot_scatter_batch(nullptr, 70'000, nullptr, 1, 2, nullptr) == cudaErrorInvalidValue,
         "more parts than a grid has blocks are refused");
  expect(slot_scatter_batch(nullptr, 1, nullptr, 70'000, 2, nullptr) == cudaErrorInvalidValue,
         "more slots than a grid has blocks are refused");
  expect(slot_scatter_batch(nullptr, 0, nullptr, 4, 2, nullptr) == cudaSuccess, "no parts: nothing to do");
  expect(slot_scatter_batch(nullptr, 4, nullptr, 0, 2, nullptr) == cudaSuccess, "no slots: nothing to do");
  expect(slot_gather(nullptr, 0, nullptr, 2, nullptr, nullptr) == cudaSuccess, "no parts: nothing to do");
  expect(slot_gather(nullptr, 0, nullptr, 3, nullptr, nullptr) == cudaErrorInvalidValue,
         "an element has 1, 2 or 4 bytes");
  if (failures != 0) return 1;
  const std::vector<ScatterCase> cases = scatter_cases();
  require_device(cases.size() + 3);
  const Stream stream;
  for (const ScatterCase& scene : cases) check_gather(scene, stream);
  check_gather(many_small_parts(), stream);
  check_batch(stream);
  check_graph(stream);
  return verdict(static_cast<int>(cases.size()) + 3);
}
