// If this fails, a GPU adds something else than the adapters' products. Exits with 77, "skipped", without a
// device.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <vector>

#include "device_check.hpp"
#include "lora_cases.hpp"

namespace {

using namespace loracle;           // NOLINT: a test
using namespace loracle::testing;  // NOLINT

/// A case with all its arrays on the device; x, A, B and y `shift` elements after an aligned address.
struct Scene {
  explicit Scene(const LoraCase& made, std::size_t shift = 0)
      : scene(made),
        x(made.x, shift),
        y(made.y, shift),
        ranks(made.ranks),
        workspace(std::vector<float>(lora_partial_floats(made.layer, made.shape.tokens), NAN)),
        segments(made),
        order(segments.order),
        slot(segments.slot),
        count(segments.count),
        start(segments.start) {
    layer = made.layer;
    partial = {workspace.data(), lora_partial_floats(made.layer, made.shape.tokens)};
    for (std::uint32_t i = 0; i < layer.slice_count; ++i) {
      matrices.push_back(new OnDevice<std::uint16_t>(made.a[i], shift));
      layer.slices[i].a = matrices.back()->data();
      matrices.push_back(new OnDevice<std::uint16_t>(made.b[i], shift));
      layer.slices[i].b = matrices.back()->data();
    }
    layer.ranks = ranks.data();
    tokens = {made.shape.tokens, segments.tokens.segments, order.data(), slot.data(), count.data(),
              start.data()};
  }
  Scene(const Scene&) = delete;
  Scene& operator=(const Scene&) = delete;
  ~Scene() {
    for (const OnDevice<std::uint16_t>* matrix : matrices) delete matrix;
  }
  void run(LoraOutput output, LoraMath math, cudaStream_t stream) const {
    require(lora_shrink(layer, tokens, x.data(), partial, math, stream), scene.name());
    require(lora_expand(layer, tokens, partial, y.data(), output, math, stream), scene.name());
  }

  const LoraCase& scene;
  OnDevice<std::uint16_t> x;
  OnDevice<std::uint16_t> y;
  OnDevice<std::int32_t> ranks;
  OnDevice<float> workspace;
  std::span<float> partial;  // of the workspace: device memory
  CaseSegments segments;
  OnDevice<std::int32_t> order;
  OnDevice<std::int32_t> slot;
  OnDevice<std::int32_t> count;
  OnDevice<std::int32_t> start;
  std::vector<OnDevice<std::uint16_t>*> matrices;
  LoraLayer layer;
  LoraTokens tokens;
};

int check_case(const LoraCase& made, const Stream& stream) {
  const LoraProduct product = product_by_definition(made);
  int checked = 0;
  for (const LoraMath math : {LoraMath::kTensorCores, LoraMath::kPlain}) {
    for (const LoraOutput output : {LoraOutput::kAdd, LoraOutput::kOverwrite}) {
      std::vector<std::uint16_t> first;
      for (int run = 0; run < 2; ++run) {
        const Scene scene(made);
        scene.run(output, math, stream.get());
        stream.finish(made.name());
        const std::vector<std::uint16_t> y = scene.y.read();
        const std::string error = first_error(made, product, output, y);
        expect(error.empty(), error);
        expect(run == 0 || y == first, made.name() + ": two equal runs differ");
        first = y;
        ++checked;
      }
    }
  }
  return checked;
}

/// A graph is captured with one batch and replayed with another that has been copied over it, with the
/// segments that are not there as vLLM pads them: their starts are 0.
int check_graph(const Stream& stream, const LoraCaseShape& shape, LoraOutput output) {
  const LoraCase captured = make_lora_case(shape);
  LoraCaseShape other = shape;
  other.order = TokenOrder::kRandom;
  other.seed = shape.seed + 1;
  const LoraCase replayed = make_lora_case(other);
  Scene scene(captured);
  scene.tokens.segments = shape.slots + 1;
  replay_after(
      stream, [&](cudaStream_t capturing) { scene.run(output, LoraMath::kTensorCores, capturing); },
      [&] {
        CaseSegments segments(replayed);
        std::fill(segments.start.begin() + segments.tokens.segments, segments.start.end(), 0);
        scene.x.write(replayed.x);
        scene.y.write(replayed.y);
        scene.ranks.write(replayed.ranks);
        scene.order.write(segments.order);
        scene.slot.write(segments.slot);
        scene.count.write(segments.count);
        scene.start.write(segments.start);
        for (std::uint32_t i = 0; i < scene.layer.slice_count; ++i) {
          scene.matrices[2 * i]->write(replayed.a[i]);
          scene.matrices[2 * i + 1]->write(replayed.b[i]);
        }
      });
  const std::string error = first_error(replayed, product_by_definition(replayed), output, scene.y.read());
  expect(error.empty(), "replayed: " + error);
  return 1;
}

int check_graphs(const Stream& stream) {
  int checked = 0;
  for (const std::uint32_t tokens : {64U, 300U})
    for (const LoraOutput output : {LoraOutput::kAdd, LoraOutput::kOverwrite})
      checked += check_graph(
          stream, {tokens, 520, 16, 6, {128, 72}, 0, ElementType::kBf16, TokenOrder::kSorted, 77}, output);
  return checked;
}

/// Widths that words of 16 bytes would fit, at addresses where none begins.
int check_odd_addresses(const Stream& stream) {
  int checked = 0;
  for (const std::uint32_t tokens : {9U, 300U}) {
    const LoraCase made = make_lora_case({tokens, 264, 24, 3, {72, 40}, 8, ElementType::kBf16});
    const LoraProduct product = product_by_definition(made);
    for (const LoraOutput output : {LoraOutput::kAdd, LoraOutput::kOverwrite}) {
      const Scene scene(made, 1);
      scene.run(output, LoraMath::kTensorCores, stream.get());
      stream.finish(made.name());
      const std::string error = first_error(made, product, output, scene.y.read());
      expect(error.empty(), "at odd addresses: " + error);
      ++checked;
    }
  }
  return checked;
}

/// One workspace, not cleared in between, for batches of other sizes.
int check_workspace(const Stream& stream) {
  int checked = 0;
  LoraLayer layer = make_lora_case({1, 2080, 8, 3, {40}}).layer;
  const std::uint64_t floats = lora_partial_floats_up_to(layer, 300);
  const OnDevice<float> workspace(std::vector<float>(floats, NAN));
  for (const std::uint32_t tokens : {300U, 256U, 5U, 300U}) {
    const LoraCase made = make_lora_case({tokens, 2080, 8, 3, {40}});
    Scene scene(made);
    scene.partial = {workspace.data(), floats};
    scene.run(LoraOutput::kAdd, LoraMath::kTensorCores, stream.get());
    stream.finish(made.name());
    const std::string error =
        first_error(made, product_by_definition(made), LoraOutput::kAdd, scene.y.read());
    expect(error.empty(), "in a workspace of 300 tokens: " + error);
    ++checked;
  }
  return checked;
}

int check_from_host_memory() {
  const LoraCase made = make_lora_case({33, 200, 24, 3, {64, 40}, 4, ElementType::kF16});
  const CaseSegments segments(made);
  const Scene there(made);
  LoraLayer layer = there.layer;
  layer.ranks = made.ranks.data();
  std::vector<std::uint16_t> y = made.y;
  require(lora_on_device(layer, segments.tokens, made.x.data(), y.data(), LoraOutput::kAdd,
                         LoraMath::kTensorCores),
          "from host memory");
  const std::string error = first_error(made, product_by_definition(made), LoraOutput::kAdd, y);
  expect(error.empty(), "from host memory: " + error);
  return 1;
}

/// These need no device.
void check_refusals() {
  LoraLayer wrong;
  wrong.type = ElementType::kF32;
  expect(lora_shrink(wrong, {}, nullptr, {}, LoraMath::kPlain, nullptr) == cudaErrorInvalidValue,
         "float32 is refused");
  wrong.type = ElementType::kF16;
  wrong.slice_count = kLoraSlicesMax + 1;
  expect(lora_expand(wrong, {}, {}, nullptr, LoraOutput::kAdd, LoraMath::kPlain, nullptr) ==
             cudaErrorInvalidValue,
         "too many slices are refused");
  // 256 tokens in eight splits need more than 1,024 in one.
  LoraLayer layer;
  layer.slice_count = 1;
  layer.slots = 1;
  layer.max_rank = 64;
  layer.in = 4096;
  layer.slices[0].out = layer.y_columns = 64;
  LoraTokens tokens;
  tokens.tokens = 256;
  tokens.segments = 1;
  float* const not_touched = nullptr;
  const std::span<float> small(not_touched, lora_partial_floats(layer, 1024));
  expect(lora_shrink(layer, tokens, nullptr, small, LoraMath::kTensorCores, nullptr) == cudaErrorInvalidValue,
         "a shrink into a workspace that is too small is refused");
  expect(lora_expand(layer, tokens, small, nullptr, LoraOutput::kAdd, LoraMath::kTensorCores, nullptr) ==
             cudaErrorInvalidValue,
         "an expand from a workspace that is too small is refused");
  if (failures != 0) std::exit(1);
}

}  // namespace

/// lora_gpu_test [SHAPES]: so many of the shapes; all if not given.
int main(int argc, char** argv) {
  check_refusals();
  std::vector<LoraCaseShape> shapes = lora_case_shapes();
  if (argc > 1) shapes.resize(std::min(shapes.size(), static_cast<std::size_t>(std::atoi(argv[1]))));
  require_device(shapes.size() + 13);
  const Stream stream;
  int checked = 0;
  for (const LoraCaseShape& shape : shapes) checked += check_case(make_lora_case(shape), stream);
  checked += check_graphs(stream);
  checked += check_odd_addresses(stream);
  checked += check_workspace(stream);
  checked += check_from_host_memory();
  return verdict(checked);
}
