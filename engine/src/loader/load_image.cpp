#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "element_type.hpp"
#include "fused_modules.hpp"
#include "loracle/core/check.hpp"
#include "loracle/engine/image.hpp"
#include "zip_archive.hpp"

namespace loracle {
namespace {

/// Small enough to stay in L2 between the read that fills it and the conversion that empties it; large
/// enough that a read's fixed cost does not show.
constexpr std::size_t kScratchBytes = 128U << 10U;

/// One run of elements, from the weights file to the image.
struct Piece {
  StoredTensor from;
  std::uint64_t count = 0;  // elements
  std::uint64_t into = 0;   // elements from the image's start
  float scale = 1;
};

const LoraModule* find_module(const AdapterFiles& adapter, std::string_view name) noexcept {
  const auto found = std::lower_bound(
      adapter.modules.begin(), adapter.modules.end(), name,
      [](const LoraModule& module, std::string_view wanted) { return module.name < wanted; });
  return found == adapter.modules.end() || found->name != name ? nullptr : &*found;
}

using Slices = std::unordered_map<std::string_view, const SlotSlice*>;

/// Which rows of the fused module's B its part is. REQUIRES: `slice` is a part of `fused`.
std::uint64_t first_row(std::string_view fused, const SlotSlice& slice, const Slices& slices) {
  std::uint64_t row = 0;
  for (const std::string& part : parts_of_fused(fused)) {
    if (part == slice.module) return row;
    const auto found = slices.find(part);
    LORACLE_CHECK(found != slices.end());
    row += found->second->out;
  }
  return row;
}

std::vector<Piece> pieces_of(const AdapterFiles& adapter, const SlotLayout& layout,
                             const ImageManifest& manifest) {
  Slices slices;
  for (const SlotSlice& slice : layout.slices) slices.emplace(slice.module, &slice);
  std::vector<Piece> pieces;
  pieces.reserve(manifest.tensors.size() * 2);
  for (const ImageTensor& tensor : manifest.tensors) {
    const SlotSlice& slice = layout.slices[tensor.slice];
    const LoraModule* module = find_module(adapter, slice.module);
    std::uint64_t row = 0;
    if (module == nullptr) {
      const std::string fused = fused_of_part(slice.module);
      module = find_module(adapter, fused);
      LORACLE_CHECK(module != nullptr);
      row = first_row(fused, slice, slices);
    }
    LORACLE_CHECK(module->rank == tensor.rank && module->in == slice.in && row + slice.out <= module->out);
    const std::uint64_t rank = tensor.rank;
    pieces.push_back({module->a, rank * slice.in, tensor.a_offset, 1.0F});
    StoredTensor b = module->b;
    b.offset += row * rank * bytes_of(b.dtype);
    pieces.push_back({b, rank * slice.out, tensor.b_offset, static_cast<float>(module->scaling)});
  }
  // In the file's order, so that a disk reads ahead and a compressed entry is inflated once.
  std::sort(pieces.begin(), pieces.end(), [](const Piece& a, const Piece& b) {
    return std::pair(a.from.entry, a.from.offset) < std::pair(b.from.entry, b.from.offset);
  });
  return pieces;
}

class ImageLoader {
 public:
  ImageLoader(OpenFile& file, const std::string& path, Dtype dtype, std::span<std::byte> image)
      : file_(file), path_(path), dtype_(dtype), image_(image) {}

  Result<Unit> load(const Piece& piece) {
    const std::size_t width = bytes_of(dtype_);
    const std::span<std::byte> into = image_.subspan(piece.into * width, piece.count * width);
    if (piece.from.dtype == dtype_ && piece.scale == 1.0F) return read(piece.from, piece.from.offset, into);
    return load_converted(piece, into);
  }

 private:
  Result<Unit> read(const StoredTensor& from, std::uint64_t offset, std::span<std::byte> into) {
    if (from.entry == kNoEntry) return read_exactly(file_, path_, offset, into);
    if (!archive_) {
      Result<ZipArchive> opened = ZipArchive::open(file_, path_);
      if (!opened) return fail(std::move(opened.error()));
      archive_.emplace(std::move(*opened));
    }
    return archive_->read_at(from.entry, offset, into);
  }

  Result<Unit> load_converted(const Piece& piece, std::span<std::byte> into) {
    if (!scratch_) scratch_ = std::make_unique_for_overwrite<std::byte[]>(kScratchBytes);
    const std::size_t from_width = bytes_of(piece.from.dtype);
    const std::size_t into_width = bytes_of(dtype_);
    std::uint64_t offset = piece.from.offset;
    while (!into.empty()) {
      const std::size_t count = std::min(kScratchBytes / from_width, into.size() / into_width);
      const std::span<std::byte> raw(scratch_.get(), count * from_width);
      if (auto done = read(piece.from, offset, raw); !done) return done;
      convert_elements(raw, element_type_of(piece.from.dtype), into.first(count * into_width),
                       element_type_of(dtype_), piece.scale);
      offset += raw.size();
      into = into.subspan(count * into_width);
    }
    return Unit{};
  }

  OpenFile& file_;
  const std::string& path_;
  Dtype dtype_;
  std::span<std::byte> image_;
  std::unique_ptr<std::byte[]> scratch_;
  std::optional<ZipArchive> archive_;  // opened for the first compressed tensor
};

}  // namespace

Result<Unit> load_image(Files& files, const AdapterFiles& adapter, const SlotLayout& layout,
                        const ImageManifest& manifest, std::span<std::byte> image) {
  LORACLE_CHECK(image.size() == manifest.elements * bytes_of(layout.dtype));
  LORACLE_CHECK(is_serving_dtype(layout.dtype));
  const std::string& path = adapter.weights_path;
  const auto changed = [&path] {
    return fail(Errc::kCorrupt,
                fmt::format("{}: was changed after its headers were read; inspect the adapter again", path));
  };
  Result<std::unique_ptr<OpenFile>> file = files.open(path);
  if (!file) return fail(std::move(file.error()));
  if ((*file)->stat() != adapter.weights_stat) return changed();
  ImageLoader loader(**file, path, layout.dtype, image);
  for (const Piece& piece : pieces_of(adapter, layout, manifest))
    if (auto loaded = loader.load(piece); !loaded) return loaded;
  // A file that was overwritten in place meanwhile: what was read is of no one moment.
  const Result<FileStat> now = files.stat(path);
  if (!now) return fail(now.error());
  if (*now != adapter.weights_stat) return changed();
  return Unit{};
}

}  // namespace loracle
