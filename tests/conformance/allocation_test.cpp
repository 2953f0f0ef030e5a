// The request path does not touch the heap.

#include "conformance/scene.hpp"
#include "support/allocation_count.hpp"

namespace loracle::testing {
namespace {

class Allocation : public Conformance {};

// A policy that allocates while it decides stalls the one thread that decides, at the worst of times.
LORACLE_POLICY_TEST(Allocation, NeverHappensAfterConstruction) {
  for (std::uint64_t seed = 0; seed < scenes(spec, 12); ++seed) {
    SceneOptions options;
    options.uses = 2000;
    options.sheds = seed % 2 == 0;
    const Scene scene = make_scene(seed + 7000, static_cast<Limit>(seed % 3), options);
    SCOPED_TRACE(scene.describe());
    const auto subject = make_subject(spec, scene.rows, scene.capacity, scene.future());
    ASSERT_NE(subject, nullptr);
    Player player(scene, *subject, {});
    const std::uint64_t before = allocation_count();
    player.play();
    ASSERT_EQ(allocation_count() - before, 0U);
  }
}

LORACLE_FOR_EVERY_POLICY(Allocation);

}  // namespace
}  // namespace loracle::testing
