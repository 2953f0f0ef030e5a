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
  [[nodiscard]] std::string_view kind() const noexcept override { return "host"; }

  [[nodiscard]] Result<Unit> allocate(const SlotLayout& layout, std::uint32_t slots) override {
    Result<SlotBuffers> buffers = place_slot_buffers(layout, slots, kAlignment);
    if (!buffers) return fail(std::move(buffers.error()));
    Result<Mapping> slab = Mapping::make(buffers->bytes, "device slots");
    if (!slab) return fail(std::move(slab.error()));
    slab_ = std::move(*slab);
    buffers_ = std::move(*buffers);
    buffers_.slab = slab_.bytes().data();
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
    const Result<std::vector<ScatterPart>> parts = slot_parts(buffers_, slot, manifest, image);
    if (!parts) return fail(parts.error());
    slot_scatter_reference(*parts, image, bytes_of(buffers_.layout.dtype));
    return Unit{};
  }

  [[nodiscard]] Result<Unit> wait_for_slot(std::uint32_t slot, void*) override {
    return check_slot(buffers_, slot);
  }

  [[nodiscard]] Result<Unit> read_slot(std::uint32_t slot, std::uint32_t slice, SlotSide side,
                                       std::span<std::byte> into) override {
    const Result<std::byte*> from = slot_matrix(buffers_, slot, slice, side, into.size());
    if (!from) return fail(from.error());
    std::memcpy(into.data(), *from, into.size());
    return Unit{};
  }

  [[nodiscard]] std::byte* buffer(std::uint32_t slice, SlotSide side) noexcept override {
    return buffers_.buffer(slice, side);
  }

 private:
  Mapping slab_;
  SlotBuffers buffers_;
  std::vector<Mapping> host_;
};

}  // namespace

std::unique_ptr<DeviceMemory> make_host_memory_device() { return std::make_unique<HostMemoryDevice>(); }

}  // namespace loracle
