#include "device_contract.hpp"

#include <algorithm>
#include <cstring>
#include <thread>

#include "loracle/core/rng.hpp"

namespace loracle::testing {

SlotLayout mixed_layout(std::uint32_t max_rank, Dtype dtype) {
  SlotLayout layout;
  layout.slices = {{"layers.0.q_proj", 64, 64},   {"layers.0.k_proj", 64, 16}, {"layers.0.v_proj", 64, 16},
                   {"layers.0.up_proj", 33, 7},   {"layers.1.q_proj", 1, 5},   {"layers.1.k_proj", 128, 1},
                   {"layers.1.down_proj", 96, 40}};
  layout.max_rank = max_rank;
  layout.dtype = dtype;
  return layout;
}

MadeImage make_image(const SlotLayout& layout, std::uint32_t rank, std::uint32_t seed,
                     std::uint64_t present) {
  MadeImage made;
  for (std::uint32_t slice = 0; slice < layout.slices.size(); ++slice) {
    if (((present >> slice) & 1U) == 0) continue;
    const SlotSlice& shape = layout.slices[slice];
    ImageTensor tensor;
    tensor.slice = slice;
    tensor.rank = rank;
    tensor.a_offset = made.manifest.elements;
    tensor.b_offset = tensor.a_offset + std::uint64_t{rank} * shape.in;
    made.manifest.elements = tensor.b_offset + std::uint64_t{rank} * shape.out;
    made.manifest.tensors.push_back(tensor);
  }
  Rng rng(seed);
  made.bytes.resize(made.manifest.elements * bytes_of(layout.dtype));
  for (std::byte& byte : made.bytes) byte = static_cast<std::byte>(1 + rng.below(255));
  return made;
}

::testing::AssertionResult holds(DeviceMemory& device, const SlotLayout& layout, std::uint32_t slot,
                                 const MadeImage& image) {
  const std::uint64_t element = bytes_of(layout.dtype);
  for (std::uint32_t slice = 0; slice < layout.slices.size(); ++slice) {
    const SlotSlice& shape = layout.slices[slice];
    const auto tensor = std::find_if(image.manifest.tensors.begin(), image.manifest.tensors.end(),
                                     [slice](const ImageTensor& t) { return t.slice == slice; });
    const bool present = tensor != image.manifest.tensors.end();
    for (const SlotSide side : {SlotSide::kA, SlotSide::kB}) {
      const bool is_a = side == SlotSide::kA;
      const std::uint64_t slot_rows = is_a ? layout.max_rank : shape.out;
      const std::uint64_t slot_columns = is_a ? shape.in : layout.max_rank;
      std::vector<std::byte> found(slot_rows * slot_columns * element, std::byte{0xA5});
      if (const Result<Unit> read = device.read_slot(slot, slice, side, found); !read)
        return ::testing::AssertionFailure() << read.error().message;
      std::vector<std::byte> expected(found.size());
      if (present) {
        const std::uint64_t rows = is_a ? tensor->rank : shape.out;
        const std::uint64_t columns = is_a ? shape.in : tensor->rank;
        const std::byte* from = image.bytes.data() + (is_a ? tensor->a_offset : tensor->b_offset) * element;
        for (std::uint64_t row = 0; row < rows; ++row, from += columns * element)
          std::memcpy(expected.data() + row * slot_columns * element, from, columns * element);
      }
      if (found != expected)
        return ::testing::AssertionFailure()
               << (is_a ? "A" : "B") << " of slice " << slice << " in slot " << slot << " differs at byte "
               << std::mismatch(found.begin(), found.end(), expected.begin()).first - found.begin();
    }
  }
  return ::testing::AssertionSuccess();
}

// If this failed, a slot that nobody has written would add garbage to the base model's answers.
TEST_P(DeviceContract, SlotsBeginZeroed) {
  const SlotLayout layout = mixed_layout(8, Dtype::kBf16);
  ASSERT_TRUE(device->allocate(layout, 3));
  for (std::uint32_t slot = 0; slot < 3; ++slot) EXPECT_TRUE(holds(*device, layout, slot, {}));
}

// If this failed, an adapter would be served with wrong weights, or with what a former one left behind.
TEST_P(DeviceContract, AWriteReplacesTheWholeSlot) {
  for (const Dtype dtype : {Dtype::kF32, Dtype::kBf16, Dtype::kF8E4M3}) {
    const std::unique_ptr<DeviceMemory> fresh = GetParam().make();
    const SlotLayout layout = mixed_layout(16, dtype);
    ASSERT_TRUE(fresh->allocate(layout, 2));
    std::uint32_t seed = 0;
    for (const std::uint32_t rank : {16U, 1U, 7U, 8U, 16U, 3U}) {
      for (const std::uint64_t present : {0x7FU, 0x01U, 0x55U, 0x2AU, 0x00U}) {
        const MadeImage image = make_image(layout, rank, ++seed, present);
        const Result<Unit> written = fresh->write_slot(1, image.manifest, image.bytes);
        ASSERT_TRUE(written) << written.error().message;
        ASSERT_TRUE(holds(*fresh, layout, 1, image))
            << name_of(dtype) << ", rank " << rank << ", slices " << present;
      }
    }
  }
}

// If this failed, tenants would get each other's weights.
TEST_P(DeviceContract, SlotsAreIndependent) {
  constexpr std::uint32_t kSlots = 5;
  const SlotLayout layout = mixed_layout(8, Dtype::kBf16);
  ASSERT_TRUE(device->allocate(layout, kSlots));
  std::vector<MadeImage> images(kSlots);
  Rng rng(7);
  for (std::uint32_t step = 0; step < 40; ++step) {
    const std::uint32_t slot = rng.below(kSlots);
    images[slot] = make_image(layout, 1 + rng.below(8), step, rng.below(128));
    ASSERT_TRUE(device->write_slot(slot, images[slot].manifest, images[slot].bytes));
    for (std::uint32_t other = 0; other < kSlots; ++other)
      ASSERT_TRUE(holds(*device, layout, other, images[other])) << "after step " << step;
  }
}

// If this failed, loads that end at the same time would mix their adapters.
TEST_P(DeviceContract, FourThreadsWriteTheirOwnSlots) {
  constexpr std::uint32_t kThreads = 4;
  constexpr std::uint32_t kRounds = 50;
  const SlotLayout layout = mixed_layout(16, Dtype::kBf16);
  ASSERT_TRUE(device->allocate(layout, 2 * kThreads));
  const Result<std::span<std::byte>> arena = device->allocate_host(kThreads * layout.slot_bytes());
  ASSERT_TRUE(arena) << arena.error().message;
  std::vector<MadeImage> images(std::size_t{2} * kThreads);
  std::vector<std::string> failures(kThreads);
  std::vector<std::thread> threads;
  for (std::uint32_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      Rng rng(t);
      const std::span<std::byte> memory = arena->subspan(t * layout.slot_bytes(), layout.slot_bytes());
      for (std::uint32_t round = 0; round < kRounds; ++round) {
        const std::uint32_t slot = t + kThreads * (round % 2);
        images[slot] = make_image(layout, 1 + rng.below(16), t * kRounds + round, rng.below(128));
        const std::span<std::byte> image = memory.first(images[slot].bytes.size());
        std::copy(images[slot].bytes.begin(), images[slot].bytes.end(), image.begin());
        const Result<Unit> written = device->write_slot(slot, images[slot].manifest, image);
        if (!written) failures[t] = written.error().message;
        // The write has returned: its image is nobody's any more.
        std::fill(image.begin(), image.end(), std::byte{0xEE});
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::string& failure : failures) EXPECT_EQ(failure, "");
  for (std::uint32_t slot = 0; slot < images.size(); ++slot)
    EXPECT_TRUE(holds(*device, layout, slot, images[slot]));
}

// If this failed, kernels that were given an address at the start would read what has moved away.
TEST_P(DeviceContract, BuffersStayWhereTheyAreAndDoNotOverlap) {
  const SlotLayout layout = mixed_layout(8, Dtype::kF32);
  ASSERT_TRUE(device->allocate(layout, 4));
  std::vector<std::pair<std::uintptr_t, std::uint64_t>> buffers;
  const auto all = [&] {
    buffers.clear();
    for (std::uint32_t slice = 0; slice < layout.slices.size(); ++slice) {
      for (const SlotSide side : {SlotSide::kA, SlotSide::kB}) {
        const std::uint64_t width = side == SlotSide::kA ? layout.slices[slice].in : layout.slices[slice].out;
        buffers.emplace_back(reinterpret_cast<std::uintptr_t>(device->buffer(slice, side)),
                             4 * width * layout.max_rank * sizeof(float));
      }
    }
    return buffers;
  };
  const auto before = all();
  const MadeImage image = make_image(layout, 8, 1);
  ASSERT_TRUE(device->write_slot(3, image.manifest, image.bytes));
  EXPECT_EQ(all(), before);
  std::sort(buffers.begin(), buffers.end());
  for (std::size_t i = 0; i < buffers.size(); ++i) {
    EXPECT_EQ(buffers[i].first % 64, 0U);
    if (i > 0) {
      EXPECT_GE(buffers[i].first, buffers[i - 1].first + buffers[i - 1].second);
    }
  }
}

// If this failed, adapters in host memory would overwrite each other.
TEST_P(DeviceContract, HostMemoryIsWritableAndApart) {
  const Result<std::span<std::byte>> first = device->allocate_host(100'000);
  const Result<std::span<std::byte>> second = device->allocate_host(4096);
  const Result<std::span<std::byte>> none = device->allocate_host(0);
  ASSERT_TRUE(first && second && none);
  EXPECT_EQ(first->size(), 100'000U);
  EXPECT_EQ(second->size(), 4096U);
  EXPECT_TRUE(none->empty());
  std::fill(first->begin(), first->end(), std::byte{1});
  std::fill(second->begin(), second->end(), std::byte{2});
  EXPECT_TRUE(std::all_of(first->begin(), first->end(), [](std::byte b) { return b == std::byte{1}; }));
}

// If this failed, a wrong number would read or write memory of others.
TEST_P(DeviceContract, RefusesSlotsSlicesAndSizesItDoesNotHave) {
  const SlotLayout layout = mixed_layout(8, Dtype::kBf16);
  const MadeImage image = make_image(layout, 4, 1);
  const auto refused = [](const Result<Unit>& result) {
    return !result && result.error().code == Errc::kInvalid && !result.error().message.empty();
  };
  EXPECT_TRUE(refused(device->write_slot(0, image.manifest, image.bytes))) << "nothing is allocated yet";
  EXPECT_TRUE(refused(device->wait_for_slot(0, nullptr)));
  ASSERT_TRUE(device->allocate(layout, 2));
  std::vector<std::byte> matrix(8U * 64U * 2U);
  EXPECT_TRUE(refused(device->write_slot(2, image.manifest, image.bytes)));
  EXPECT_TRUE(refused(device->write_slot(0, image.manifest, std::span(image.bytes).first(10))));
  EXPECT_TRUE(refused(device->read_slot(2, 0, SlotSide::kA, matrix)));
  EXPECT_TRUE(refused(device->read_slot(0, 7, SlotSide::kA, matrix)));
  EXPECT_TRUE(refused(device->read_slot(0, 0, SlotSide::kA, std::span(matrix).first(1))));
  EXPECT_TRUE(refused(device->wait_for_slot(2, nullptr)));
  ASSERT_TRUE(device->write_slot(0, image.manifest, image.bytes)) << "a refusal breaks nothing";
  EXPECT_TRUE(device->wait_for_slot(0, nullptr));
  EXPECT_TRUE(device->wait_for_slot(1, nullptr)) << "never written: nothing to wait for";
  EXPECT_TRUE(holds(*device, layout, 0, image));
  EXPECT_TRUE(holds(*device, layout, 1, {}));
}

// If this failed, a configuration that cannot fit would end the process instead of being named.
TEST_P(DeviceContract, SaysThatMemoryDoesNotSuffice) {
  SlotLayout layout;
  layout.slices = {{"layers.0.q_proj", 1U << 30U, 1U << 30U}};
  layout.max_rank = 512;
  for (const std::uint32_t slots : {4096U, ~0U}) {
    const Result<Unit> allocated = device->allocate(layout, slots);
    ASSERT_FALSE(allocated);
    EXPECT_EQ(allocated.error().code, Errc::kTooLarge) << allocated.error().message;
    EXPECT_NE(allocated.error().message, "");
  }
  const Result<std::span<std::byte>> host = device->allocate_host(std::uint64_t{1} << 52U);
  ASSERT_FALSE(host);
  EXPECT_EQ(host.error().code, Errc::kTooLarge) << host.error().message;
  const SlotLayout modest = mixed_layout(8, Dtype::kBf16);
  EXPECT_TRUE(device->allocate(modest, 2)) << "what failed has left nothing behind";
}

// If this failed, a server without adapters yet, or without slots, would not start.
TEST_P(DeviceContract, EmptyLayoutsAndNoSlotsAreFine) {
  const std::unique_ptr<DeviceMemory> empty = GetParam().make();
  ASSERT_TRUE(empty->allocate({}, 2));
  EXPECT_TRUE(empty->write_slot(1, {}, {}));
  const std::unique_ptr<DeviceMemory> none = GetParam().make();
  EXPECT_TRUE(none->allocate(mixed_layout(8, Dtype::kBf16), 0));
}

// If this failed, logs would tell of another device than the one in use.
TEST_P(DeviceContract, SaysItsKind) { EXPECT_EQ(device->kind(), GetParam().name); }

}  // namespace loracle::testing
