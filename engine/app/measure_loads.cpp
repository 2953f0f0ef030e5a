#include "measure_loads.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <span>
#include <thread>
#include <utility>

#include "loracle/core/parse_bytes.hpp"
#include "loracle/core/rng.hpp"
#include "loracle/engine/device.hpp"
#include "loracle/sim/model_geometry.hpp"

namespace loracle::app {
namespace {

constexpr std::uint64_t kPage = 4096;
constexpr std::uint64_t kChunk = 4ULL << 20U;    // of one read
constexpr std::uint64_t kSmallest = 64U << 10U;  // piece

double seconds_since(std::chrono::steady_clock::time_point begun) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count();
}

struct Free {
  void operator()(std::byte* memory) const noexcept { std::free(memory); }
};
using PageBuffer = std::unique_ptr<std::byte[], Free>;

PageBuffer page_buffer(std::uint64_t bytes) {
  return PageBuffer(static_cast<std::byte*>(std::aligned_alloc(kPage, bytes)));
}

class Descriptor {
 public:
  explicit Descriptor(int fd) noexcept : fd_(fd) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  [[nodiscard]] int get() const noexcept { return fd_; }

 private:
  int fd_;
};

tl::unexpected<Error> failed(const std::string& path, std::string_view what, int error) {
  return fail(
      error == ENOENT ? Errc::kNotFound : Errc::kIo,
      fmt::format("--measure {}: {}: {}; name a directory on the disk adapters are loaded from, with room "
                  "for the largest piece (--largest)",
                  path, what, std::strerror(error)),
      error);
}

/// Whole pages: direct reads allow no others.
std::vector<std::uint64_t> piece_sizes(Bytes largest) {
  constexpr std::size_t kSizesMax = 7;
  std::vector<std::uint64_t> sizes;
  for (std::uint64_t size = largest.value; size >= kSmallest && sizes.size() < kSizesMax; size /= 2)
    sizes.push_back((size + kPage - 1) / kPage * kPage);
  std::reverse(sizes.begin(), sizes.end());
  return sizes;
}

Result<Unit> fill(int fd, const std::string& directory, std::uint64_t bytes, std::byte* buffer) {
  Rng rng(1);
  for (std::uint64_t at = 0; at < bytes;) {
    const std::uint64_t size = std::min(kChunk, bytes - at);
    for (std::uint64_t i = 0; i < size; i += sizeof(std::uint64_t)) {
      const std::uint64_t word = rng.next();
      std::memcpy(buffer + i, &word, sizeof word);
    }
    for (std::uint64_t done = 0; done < size;) {
      const ssize_t wrote = ::pwrite(fd, buffer + done, size - done, static_cast<off_t>(at + done));
      if (wrote < 0 && errno == EINTR) continue;
      if (wrote <= 0)
        return failed(directory, "cannot write a file to read back", wrote < 0 ? errno : ENOSPC);
      done += static_cast<std::uint64_t>(wrote);
    }
    at += size;
  }
  if (::fsync(fd) != 0) return failed(directory, "cannot flush a file", errno);
  return Unit{};
}

bool read_piece(int fd, std::uint64_t bytes, std::byte* buffer) {
  for (std::uint64_t at = 0; at < bytes;) {
    const ssize_t got = ::pread(fd, buffer, std::min(kChunk, bytes - at), static_cast<off_t>(at));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    at += static_cast<std::uint64_t>(got);
  }
  return true;
}

Result<Unit> measure_disk(const MeasureOptions& options, MeasuredLoads& measured) {
  constexpr long kMemoryFileSystem = 0x01021994;  // tmpfs
  std::string path = options.directory + "/loracle-calibrate-XXXXXX";
  const Descriptor written(::mkostemp(path.data(), O_CLOEXEC));
  if (written.get() < 0) return failed(options.directory, "cannot make a file", errno);
  int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_DIRECT);
  const bool is_direct = fd >= 0;
  if (!is_direct) fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  const int open_error = errno;
  const Descriptor file(fd);
  ::unlink(path.c_str());
  if (file.get() < 0) return failed(options.directory, "cannot open a file to read it", open_error);
  const std::vector<std::uint64_t> sizes = piece_sizes(options.largest);
  const PageBuffer buffer = page_buffer(kChunk);
  if (Result<Unit> filled = fill(written.get(), options.directory, sizes.back(), buffer.get()); !filled)
    return filled;
  struct statfs system {};
  if (::fstatfs(file.get(), &system) == 0 && system.f_type == kMemoryFileSystem)
    measured.notes.push_back(fmt::format(
        "{} is memory (tmpfs), not a disk: what was read there is faster than any", options.directory));
  else if (!is_direct)
    measured.notes.push_back(
        fmt::format("{} knows no direct reads: the page cache was told to drop the file before each read, "
                    "and may not have",
                    options.directory));
  else
    measured.notes.emplace_back(
        "reads passed the page cache; what a disk, or the host of a virtual machine, caches itself they did "
        "not");
  // Sizes in turn, so that what changes over time is not taken for the size's doing.
  for (std::uint32_t round = 0; round < options.rounds; ++round) {
    for (const std::uint64_t size : sizes) {
      ::posix_fadvise(file.get(), 0, 0, POSIX_FADV_DONTNEED);
      const auto begun = std::chrono::steady_clock::now();
      if (!read_piece(file.get(), size, buffer.get()))
        return failed(options.directory, "cannot read back what was written", errno);
      measured.loads.push_back({LoadWay::kDisk, static_cast<double>(size), seconds_since(begun)});
    }
  }
  return Unit{};
}

SlotLayout layout_of(const ModelGeometry& model, const std::vector<LinearModule>& modules,
                     std::uint32_t rank) {
  SlotLayout layout;
  layout.max_rank = rank;
  for (std::uint32_t layer = 0; layer < model.layers; ++layer)
    for (const LinearModule& module : modules)
      layout.slices.push_back({fmt::format("model.layers.{}.{}", layer, module.name),
                               static_cast<std::uint32_t>(module.d_in),
                               static_cast<std::uint32_t>(module.d_out)});
  return layout;
}

/// Every slice at the layout's own rank.
ImageManifest whole_image(const SlotLayout& layout) {
  ImageManifest manifest;
  for (std::uint32_t slice = 0; slice < layout.slices.size(); ++slice) {
    const SlotSlice& shape = layout.slices[slice];
    ImageTensor tensor;
    tensor.slice = slice;
    tensor.rank = layout.max_rank;
    tensor.a_offset = manifest.elements;
    tensor.b_offset = tensor.a_offset + std::uint64_t{tensor.rank} * shape.in;
    manifest.elements = tensor.b_offset + std::uint64_t{tensor.rank} * shape.out;
    manifest.tensors.push_back(tensor);
  }
  return manifest;
}

/// One rank: its images into two slots in turn, on a device of their own. False: the device failed.
bool measure_rank(const SlotLayout& layout, std::uint32_t rounds, MeasuredLoads& measured) {
  const Result<std::unique_ptr<DeviceMemory>> device = make_device("cuda");
  if (!device || !(*device)->allocate(layout, 2)) return false;
  const ImageManifest manifest = whole_image(layout);
  const std::uint64_t bytes = manifest.elements * bytes_of(layout.dtype);
  const Result<std::span<std::byte>> image = (*device)->allocate_host(bytes);
  if (!image) return false;
  std::memset(image->data(), 0x3C, image->size());
  for (std::uint32_t slot = 0; slot < 2; ++slot)  // memory is touched for the first time, off the clock
    if (!(*device)->write_slot(slot, manifest, *image)) return false;
  for (std::uint32_t round = 0; round < rounds; ++round) {
    const auto begun = std::chrono::steady_clock::now();
    if (!(*device)->write_slot(round % 2, manifest, *image)) return false;
    measured.loads.push_back({LoadWay::kSlot, static_cast<double>(bytes), seconds_since(begun)});
  }
  return true;
}

Result<Unit> measure_slots(const MeasureOptions& options, MeasuredLoads& measured) {
  constexpr std::uint32_t kRankMax = 32;
  const Result<ModelGeometry> model = load_model_geometry(options.model);
  if (!model) return fail(model.error());
  const Result<std::vector<LinearModule>> modules = target_modules(*model, "all-linear");
  if (!modules) return fail(modules.error());
  if (make_device("cuda")) {
    for (std::uint32_t rank = 1; rank <= kRankMax; rank *= 2)
      if (!measure_rank(layout_of(*model, *modules, rank), options.rounds, measured)) {
        measured.notes.push_back(
            fmt::format("the GPU has no room for two slots of rank {}, or failed", rank));
        break;
      }
    return Unit{};
  }
  constexpr std::uint64_t kCopied = 32ULL << 20U;
  const PageBuffer from = page_buffer(kCopied);
  const PageBuffer to = page_buffer(kCopied);
  std::memset(from.get(), 1, kCopied);
  std::memset(to.get(), 2, kCopied);
  double fastest = 0;
  for (std::uint32_t round = 0; round < options.rounds; ++round) {
    const auto begun = std::chrono::steady_clock::now();
    std::memcpy(to.get(), from.get(), kCopied);
    fastest = std::max(fastest, static_cast<double>(kCopied) / seconds_since(begun));
    from[round % kCopied] = to[(round + 1) % kCopied];  // so that no copy can be left out
  }
  measured.notes.push_back(
      fmt::format("there is no GPU here: slots are not measured. Copies within host memory run at {:.3g} "
                  "GB/s, which says "
                  "nothing about the way to a GPU",
                  fastest * 1e-9));
  return Unit{};
}

/// The value of the first line of /proc that begins with this word.
std::string proc_line(const std::string& path, std::string_view word) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with(word)) continue;
    const std::size_t colon = line.find(':');
    const std::size_t begin = colon == std::string::npos ? colon : line.find_first_not_of(" \t", colon + 1);
    if (begin != std::string::npos) return line.substr(begin);
  }
  return {};
}

}  // namespace

Result<MeasuredLoads> measure_loads(const MeasureOptions& options) {
  if (options.largest.value < kSmallest)
    return fail(Errc::kInvalid, fmt::format("--largest {}: give {} or more", human_bytes(options.largest),
                                            human_bytes(Bytes{kSmallest})));
  MeasuredLoads measured;
  if (const Result<Unit> done = measure_disk(options, measured); !done) return fail(done.error());
  if (const Result<Unit> done = measure_slots(options, measured); !done) return fail(done.error());
  return measured;
}

std::string this_machine() {
  std::string machine = proc_line("/proc/cpuinfo", "model name");
  if (machine.empty()) machine = "unknown processor";
  machine += fmt::format(", {} threads", std::max(1U, std::thread::hardware_concurrency()));
  std::map<std::string, int> gpus;
  std::error_code error;
  for (std::filesystem::directory_iterator at("/proc/driver/nvidia/gpus", error), end; !error && at != end;
       at.increment(error))
    if (const std::string gpu = proc_line((at->path() / "information").string(), "Model:"); !gpu.empty())
      ++gpus[gpu];
  for (const auto& [gpu, count] : gpus)
    machine += fmt::format(", {}{}", count > 1 ? fmt::format("{} x ", count) : "", gpu);
  return machine;
}

}  // namespace loracle::app
