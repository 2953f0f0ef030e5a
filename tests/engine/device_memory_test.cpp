#include "device_contract.hpp"

namespace loracle::testing {

INSTANTIATE_TEST_SUITE_P(Host, DeviceContract,
                         ::testing::Values(DeviceKind{"host", &make_host_memory_device}));

// If this failed, a machine without a GPU would crash, or be left without a reason.
TEST(MakeCudaDevice, SaysWhyThereIsNone) {
  for (const int ordinal : {0, -1, 1000}) {
    const Result<std::unique_ptr<DeviceMemory>> made = make_cuda_device(ordinal);
    if (made) {
      EXPECT_EQ(ordinal, 0);
      EXPECT_EQ((*made)->kind(), "cuda");
      continue;
    }
    EXPECT_TRUE(made.error().code == Errc::kUnsupported || made.error().code == Errc::kNotFound)
        << made.error().message;
    EXPECT_NE(made.error().message.find("CUDA"), std::string::npos);
  }
}

// If this failed, a server would not start where there is no GPU.
TEST(MakeBestDevice, IsAlwaysOneThatWorks) {
  const std::unique_ptr<DeviceMemory> device = make_best_device();
  ASSERT_NE(device, nullptr);
  EXPECT_EQ(device->kind(), make_cuda_device(0) ? "cuda" : "host");
  const SlotLayout layout = mixed_layout(8, Dtype::kBf16);
  ASSERT_TRUE(device->allocate(layout, 1));
  const MadeImage image = make_image(layout, 8, 1);
  ASSERT_TRUE(device->write_slot(0, image.manifest, image.bytes));
  EXPECT_TRUE(holds(*device, layout, 0, image));
}

}  // namespace loracle::testing
