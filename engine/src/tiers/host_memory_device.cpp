/// Slots in ordinary memory: what the engine runs on where there is no GPU. One mapping for all buffers,
/// committed as it is written.

#include <fmt/format.h>
#include <sys/mman.h>

#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>
#include <vector>

#include "loracle/engine/device.hpp"
#include "tiers/slot_parts.hpp"

namespace loracle {
namespace {

constexpr std::uint64_t kAlignment = 64;

/// Anonymous zeroed memory of its own.
class Mapping {
 public:
  Mapping() = default;
  Mapping(Mapping&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}
  Mapping& operator=(Mapping&& other) noexcept {
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~Mapping() {
    if (!bytes_.empty()) ::munmap(bytes_.data(), bytes_.size());
  }
  [[nodiscard]] static Result<Mapping> make(std::uint64_t bytes, const char* what) {
    Mapping mapping;
    if (bytes == 0) return mapping;
    void* const found =
        ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (found == MAP_FAILED) {
      const int error = errno;
      return fail(
          Errc::kTooLarge,
          fmt::format("{}: {} bytes of memory: {}: lower the number of slots, the largest rank or the "
                      "memory given",
                      what, bytes, std::generic_category().message(error)),
          error);
    }
    static_cast<void>(::madvise(found, bytes, MADV_HUGEPAGE));  // a hint: not every kernel has it
    mapping.bytes_ = {static_cast<std::byte*>(found), bytes};
    return mapping;
  }
  [[nodiscard]] std::span<std::byte> bytes() const noexcept { return bytes_; }

 private:
  std::span<std::byte> bytes_;
};

class HostMemoryDevice final : public DeviceMemory {
 public:
  [[nodiscard]] Result<Unit> allocate(const SlotLayout& layout, std::uint32_t slots) override {
    std::vector<std::uint64_t> offsets;
    std::uint64_t bytes = 0;
    const auto place = [&](std::uint64_t slot_bytes) {
      offsets.push_back(bytes);
      bytes += (slot_bytes * slots + kAlignment - 1) / kAlignment * kAlignment;
    };
    for (std::uint32_t slice = 0; slice < layout.slices.size(); ++slice) {
      place(slot_a_bytes(layout, slice));
      place(slot_b_bytes(layout, slice));
    }
    Result<Mapping> slab = Mapping::make(bytes, "device slots");
    if (!slab) return fail(std::move(slab.error()));
    slab_ = std::move(*slab);
    layout_ = layout;
    for (std::size_t i = 0; i < offsets.size(); i += 2) {
      a_.push_back(slab_.bytes().data() + offsets[i]);
      b_.push_back(slab_.bytes().data() + offsets[i + 1]);
    }
    return Unit{};
  }

  [[nodiscard]] Result<std::span<std::byte>> allocate_host(std::uint64_t bytes) override {
    Result<Mapping> mapping = Mapping::make(bytes, "host memory for adapters");
    if (!mapping) return fail(std::move(mapping.error()));
    host_.push_back(std::move(*mapping));
    return host_.back().bytes();
  }

  [[nodiscard]] Result<Unit> write_slot(std::uint32_t slot, const ImageManifest& manifest,
                                        std::span<const std::byte> image) override {
    slot_scatter_reference(slot_parts(layout_, manifest, slot, a_, b_), image, bytes_of(layout_.dtype));
    return Unit{};
  }

  [[nodiscard]] Result<Unit> read_slot(std::uint32_t slot, std::uint32_t slice, SlotSide side,
                                       std::span<std::byte> into) override {
    const std::uint64_t bytes =
        side == SlotSide::kA ? slot_a_bytes(layout_, slice) : slot_b_bytes(layout_, slice);
    if (into.size() != bytes)
      return fail(Errc::kInvalid, fmt::format("a slot's matrix has {} bytes, not {}", bytes, into.size()));
    std::memcpy(into.data(), buffer(slice, side) + slot * bytes, bytes);
    return Unit{};
  }

  [[nodiscard]] std::byte* buffer(std::uint32_t slice, SlotSide side) noexcept override {
    return side == SlotSide::kA ? a_[slice] : b_[slice];
  }

 private:
  SlotLayout layout_;
  Mapping slab_;
  std::vector<std::byte*> a_;  // [slices]
  std::vector<std::byte*> b_;  // [slices]
  std::vector<Mapping> host_;
};

}  // namespace

std::unique_ptr<DeviceMemory> make_host_memory_device() { return std::make_unique<HostMemoryDevice>(); }

}  // namespace loracle
