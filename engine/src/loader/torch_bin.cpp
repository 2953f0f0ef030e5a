#include "torch_bin.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include "pickle.hpp"
#include "zip_archive.hpp"

namespace loracle {
namespace {

/// Where the bytes of a storage are.
struct StoragePlace {
  std::uint64_t offset = 0;
  std::uint32_t entry = kNoEntry;
  std::uint64_t bytes = 0;
  std::uint64_t used = 0;  // by the tensors so far
};
using Storages = std::unordered_map<std::string_view, StoragePlace>;

/// Rows for a dict of text -> tensor. Answers kInvalid for anything else; messages do not hold the path.
class TableMaker {
 public:
  TableMaker(const Unpickler& pickle, Storages& storages, TensorTable& table)
      : pickle_(pickle), storages_(storages), table_(table) {}

  Result<Unit> make(Unpickler::Ref root) {
    if (pickle_.kind_of(root) != Unpickler::Kind::kDict)
      return fail(Errc::kInvalid, "it does not hold a dict of tensors");
    const std::span<const Unpickler::Ref> items = pickle_.elements_of(root);
    if (items.size() / 2 > kTensorsMax)
      return fail(Errc::kInvalid, fmt::format("more than {} tensors", kTensorsMax));
    table_.rows.reserve(items.size() / 2);
    for (std::size_t i = 0; i + 1 < items.size(); i += 2)
      if (auto added = add(items[i], items[i + 1]); !added) return added;
    return check_names();
  }

 private:
  Result<Unit> add(Unpickler::Ref key, Unpickler::Ref value) {
    if (pickle_.kind_of(key) != Unpickler::Kind::kText)
      return fail(Errc::kInvalid, "it holds something under a key that is no name");
    const std::string_view name = pickle_.text_of(key);
    if (pickle_.kind_of(value) != Unpickler::Kind::kTensor)
      return fail(Errc::kInvalid, fmt::format("'{}' is not a tensor", name));
    const PickledTensor& tensor = pickle_.tensor_of(value);
    const PickledStorage& storage = pickle_.storages()[tensor.storage];
    const auto found = storages_.find(storage.key);
    if (found == storages_.end())
      return fail(Errc::kCorrupt, fmt::format("tensor '{}': its storage {} is missing", name, storage.key));
    StoragePlace& place = found->second;
    if (place.bytes != storage.bytes())
      return fail(Errc::kCorrupt, fmt::format("tensor '{}': its storage {} has {} bytes, not {}", name,
                                              storage.key, place.bytes, storage.bytes()));
    const std::uint64_t bytes = tensor.elements * bytes_of(tensor.dtype);
    // Tensors may lie side by side in one storage. Were they to overlap, a small file could become an image
    // of any size.
    if (bytes > place.bytes - place.used)
      return fail(Errc::kInvalid, fmt::format("tensor '{}' shares its memory with another", name));
    if (place.entry != kNoEntry && (place.used > 0 || tensor.offset > 0))
      return fail(Errc::kUnsupported, fmt::format("tensor '{}' lies within a compressed storage", name));
    place.used += bytes;
    TensorRow row;
    row.name = name;
    row.dimensions = tensor.dimensions;
    row.shape = tensor.shape;
    row.stored = {place.offset + tensor.offset * bytes_of(tensor.dtype), tensor.dtype, place.entry};
    table_.rows.push_back(row);
    return Unit{};
  }

  Result<Unit> check_names() {
    std::vector<std::string_view> names;
    names.reserve(table_.rows.size());
    for (const TensorRow& row : table_.rows) names.push_back(row.name);
    std::sort(names.begin(), names.end());
    const auto twice = std::adjacent_find(names.begin(), names.end());
    if (twice != names.end()) return fail(Errc::kInvalid, fmt::format("tensor '{}' is there twice", *twice));
    return Unit{};
  }

  const Unpickler& pickle_;
  Storages& storages_;
  TensorTable& table_;
};

/// torch.save since 1.6: FOLDER/data.pkl, FOLDER/byteorder and the storages as FOLDER/data/KEY.
class ZipReader {
 public:
  ZipReader(const std::string& path, ZipArchive archive) : path_(path), archive_(std::move(archive)) {}

  Result<TensorTable> read() {
    for (std::uint32_t i = 0; i < archive_.entries().size(); ++i) {
      const std::string& name = archive_.entries()[i].name;
      if (!index_.emplace(name, i).second)  // readers differ in which of the two they take
        return fail(Errc::kInvalid, fmt::format("{}: holds two entries '{}'", path_, name));
    }
    const Result<std::uint32_t> pickle_entry = find_pickle();
    if (!pickle_entry) return fail(pickle_entry.error());
    if (auto checked = check_byteorder(); !checked) return fail(std::move(checked.error()));
    Result<std::vector<char>> text = archive_.read_whole(*pickle_entry, kPickleBytesMax);
    if (!text) return fail(std::move(text.error()));
    TensorTable table;
    table.text = std::move(*text);
    Unpickler pickle(std::string_view(table.text.data(), table.text.size()));
    const Result<Unpickler::Ref> root = pickle.load();
    if (!root) return with_path(root.error());
    if (auto placed = place_storages(pickle); !placed) return fail(std::move(placed.error()));
    if (auto made = TableMaker(pickle, storages_, table).make(*root); !made) return with_path(made.error());
    return table;
  }

 private:
  [[nodiscard]] tl::unexpected<Error> with_path(const Error& error) const {
    return fail(error.code, fmt::format("{}: {}", path_, error.message), error.detail);
  }

  /// The one entry called X/data.pkl; X is what torch calls the archive.
  Result<std::uint32_t> find_pickle() {
    constexpr std::string_view kEnd = "/data.pkl";
    std::uint32_t found = kNoEntry;
    for (std::uint32_t i = 0; i < archive_.entries().size(); ++i) {
      const std::string_view name = archive_.entries()[i].name;
      if (!name.ends_with(kEnd) || name.find('/') != name.size() - kEnd.size()) continue;
      if (found != kNoEntry) return fail(Errc::kInvalid, fmt::format("{}: holds two data.pkl", path_));
      found = i;
      folder_ = name.substr(0, name.size() - kEnd.size());
    }
    if (found == kNoEntry)
      return fail(Errc::kInvalid,
                  fmt::format("{}: a zip archive without data.pkl: not saved by torch", path_));
    return found;
  }

  Result<Unit> check_byteorder() {
    const auto found = index_.find(folder_ + "/byteorder");
    if (found == index_.end()) return Unit{};  // before torch 2.1
    const Result<std::vector<char>> text = archive_.read_whole(found->second, 64);
    if (!text) return fail(text.error());
    if (std::string_view(text->data(), text->size()) == "little") return Unit{};
    return fail(Errc::kUnsupported, fmt::format("{}: its numbers are not little-endian", path_));
  }

  Result<Unit> place_storages(const Unpickler& pickle) {
    for (const PickledStorage& storage : pickle.storages()) {
      if (storages_.contains(storage.key)) continue;
      const auto found = index_.find(fmt::format("{}/data/{}", folder_, storage.key));
      if (found == index_.end()) continue;  // named with the tensor that wants it
      const ZipEntry& entry = archive_.entries()[found->second];
      StoragePlace place;
      place.bytes = entry.bytes;
      if (entry.deflated) {
        place.entry = found->second;
      } else {
        const Result<std::uint64_t> offset = archive_.data_offset(found->second);
        if (!offset) return fail(offset.error());
        place.offset = *offset;
      }
      storages_.emplace(storage.key, place);
    }
    return Unit{};
  }

  const std::string& path_;
  ZipArchive archive_;
  std::unordered_map<std::string_view, std::uint32_t> index_;
  std::string folder_;
  Storages storages_;
};

/// torch.save before 1.6: pickles of a magic number, a version, facts about the machine, the object and the
/// list of keys; then for each key the number of its elements and their bytes.
class LegacyReader {
 public:
  LegacyReader(OpenFile& file, const std::string& path) : file_(file), path_(path) {}

  /// The pickles' length is nowhere written: more and more is read until they are whole.
  Result<TensorTable> read() {
    const std::uint64_t limit = std::min<std::uint64_t>(file_.stat().size, kPickleBytesMax);
    for (std::uint64_t bytes = std::min<std::uint64_t>(limit, 128U << 10U);;
         bytes = std::min(limit, 4 * bytes)) {
      TensorTable table;
      table.text.resize(bytes);
      if (auto read = read_exactly(file_, path_, 0, std::as_writable_bytes(std::span(table.text))); !read)
        return fail(std::move(read.error()));
      bool ran_out = false;
      Result<Unit> made = make(table, ran_out);
      if (made) return table;
      if (!ran_out || bytes == limit) return fail(std::move(made.error()));
    }
  }

 private:
  [[nodiscard]] tl::unexpected<Error> with_path(const Error& error) const {
    return fail(error.code, fmt::format("{}: {}", path_, error.message), error.detail);
  }
  [[nodiscard]] tl::unexpected<Error> wrong(std::string_view what) const {
    return fail(Errc::kCorrupt, fmt::format("{}: {}", path_, what));
  }

  Result<Unit> make(TensorTable& table, bool& ran_out) {
    Unpickler pickle(std::string_view(table.text.data(), table.text.size()));
    std::array<Unpickler::Ref, 5> parts{};  // magic, version, machine, object, keys
    for (Unpickler::Ref& part : parts) {
      const Result<Unpickler::Ref> loaded = pickle.load();
      ran_out = pickle.ran_out();
      if (!loaded) return with_path(loaded.error());
      part = *loaded;
    }
    if (auto checked = check_start(pickle, parts); !checked) return checked;
    if (auto placed = place_storages(pickle, parts[4]); !placed) return placed;
    Storages storages = storages_;
    if (auto made = TableMaker(pickle, storages, table).make(parts[3]); !made) return with_path(made.error());
    return Unit{};
  }

  Result<Unit> check_start(const Unpickler& pickle, std::span<const Unpickler::Ref> parts) const {
    constexpr std::string_view kMagic("\x6C\xFC\x9C\x46\xF9\x20\x6A\xA8\x50\x19", 10);
    if (pickle.kind_of(parts[0]) != Unpickler::Kind::kBigInt || pickle.big_int_of(parts[0]) != kMagic)
      return wrong("not a file of torch.save");
    if (pickle.kind_of(parts[1]) != Unpickler::Kind::kInt || pickle.number_of(parts[1]) != 1001)
      return wrong("a torch.save of an unknown version");
    if (pickle.kind_of(parts[2]) != Unpickler::Kind::kDict) return wrong("not a file of torch.save");
    const std::span<const Unpickler::Ref> facts = pickle.elements_of(parts[2]);
    for (std::size_t i = 0; i + 1 < facts.size(); i += 2) {
      const bool order =
          pickle.kind_of(facts[i]) == Unpickler::Kind::kText && pickle.text_of(facts[i]) == "little_endian";
      if (order &&
          (pickle.kind_of(facts[i + 1]) != Unpickler::Kind::kBool || pickle.number_of(facts[i + 1]) == 0))
        return fail(Errc::kUnsupported, fmt::format("{}: its numbers are not little-endian", path_));
    }
    return Unit{};
  }

  Result<Unit> place_storages(const Unpickler& pickle, Unpickler::Ref keys) {
    if (pickle.kind_of(keys) != Unpickler::Kind::kList) return wrong("its list of storages is missing");
    storages_.clear();
    std::unordered_map<std::string_view, const PickledStorage*> known;
    for (const PickledStorage& storage : pickle.storages()) known.emplace(storage.key, &storage);
    const std::uint64_t file_bytes = file_.stat().size;
    std::uint64_t at = pickle.at();
    for (const Unpickler::Ref key : pickle.elements_of(keys)) {
      if (pickle.kind_of(key) != Unpickler::Kind::kText) return wrong("a storage's key is no text");
      const auto found = known.find(pickle.text_of(key));
      if (found == known.end()) return wrong("it holds a storage that no tensor uses");
      std::array<std::byte, 8> raw{};
      if (auto read = read_exactly(file_, path_, at, raw); !read) return read;
      std::uint64_t elements = 0;
      for (std::size_t i = raw.size(); i-- > 0;)
        elements = elements << 8U | std::to_integer<std::uint64_t>(raw[i]);
      const std::uint64_t bytes = found->second->bytes();
      if (elements != found->second->elements || bytes > file_bytes - at - raw.size())
        return wrong(
            fmt::format("storage {} is not as long as it should be; was the file cut short?", found->first));
      StoragePlace place;
      place.offset = at + raw.size();
      place.bytes = bytes;
      if (!storages_.emplace(found->first, place).second) return wrong("a storage is there twice");
      at = place.offset + bytes;
    }
    if (at != file_bytes) return wrong(fmt::format("{} bytes follow its last storage", file_bytes - at));
    return Unit{};
  }

  OpenFile& file_;
  const std::string& path_;
  Storages storages_;
};

}  // namespace

Result<TensorTable> read_torch_tensors(OpenFile& file, const std::string& path, WeightFormat& format) {
  std::array<std::byte, 4> start{};
  if (file.stat().size < start.size())
    return fail(Errc::kCorrupt,
                fmt::format("{}: {} bytes are no file of torch.save", path, file.stat().size));
  if (auto read = read_exactly(file, path, 0, start); !read) return fail(std::move(read.error()));
  constexpr std::array kZip = {std::byte{'P'}, std::byte{'K'}, std::byte{3}, std::byte{4}};
  if (start != kZip) {
    constexpr std::byte kPickle{0x80};
    if (start.front() != kPickle)
      return fail(Errc::kCorrupt,
                  fmt::format("{}: neither a zip archive nor a pickle, so not of torch.save", path));
    format = WeightFormat::kTorchLegacy;
    return LegacyReader(file, path).read();
  }
  format = WeightFormat::kTorchZip;
  Result<ZipArchive> archive = ZipArchive::open(file, path);
  if (!archive) return fail(std::move(archive.error()));
  return ZipReader(path, std::move(*archive)).read();
}

}  // namespace loracle
