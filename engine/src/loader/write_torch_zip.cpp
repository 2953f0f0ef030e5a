#include <fmt/format.h>
#include <zip.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <memory>
#include <system_error>
#include <utility>

#include "loracle/core/check.hpp"
#include "write_weights.hpp"

namespace loracle {
namespace {

constexpr std::string_view kFolder = "adapter_model";  // torch takes the file's name without its ending
constexpr std::time_t kStamp = 315'532'800;            // 1980-01-01, zip's first day: same seed, same bytes

/// The pickle of {name: tensor, ...}, protocol 2, without a memo: every object is written where it is used.
class PickleWriter {
 public:
  explicit PickleWriter(Dtype dtype) : dtype_(dtype) {}

  std::string write(std::span<const TensorToWrite> tensors) {
    out_ = "\x80\x02}(";  // protocol 2, an empty dict, a mark
    for (std::size_t i = 0; i < tensors.size(); ++i) tensor(tensors[i], i);
    out_ += "u.";  // everything since the mark into the dict; stop
    return std::move(out_);
  }

 private:
  void global(std::string_view module, std::string_view name) {
    out_.append("c").append(module).append("\n").append(name).append("\n");
  }
  void text(std::string_view value) {
    out_ += 'X';
    little_endian(value.size());
    out_ += value;
  }
  void number(std::uint64_t value) {  // REQUIRES: value < 2^31
    out_ += 'J';
    little_endian(value);
  }
  void little_endian(std::uint64_t value) {
    for (int i = 0; i < 4; ++i) out_ += static_cast<char>(value >> (8 * i) & 0xFFU);
  }
  [[nodiscard]] std::string_view storage_class() const noexcept {
    switch (dtype_) {
      case Dtype::kF32:
        return "FloatStorage";
      case Dtype::kF16:
        return "HalfStorage";
      default:
        return "BFloat16Storage";
    }
  }

  /// name, _rebuild_tensor_v2(persistent storage, 0, (rows, columns), (columns, 1), False, OrderedDict())
  void tensor(const TensorToWrite& tensor, std::size_t key) {
    text(tensor.name);
    global("torch._utils", "_rebuild_tensor_v2");
    out_ += "((";
    text("storage");
    global("torch", storage_class());
    text(std::to_string(key));
    text("cpu");
    number(tensor.rows * tensor.columns);
    out_ += "tQ";  // that tuple is a persistent id
    number(0);
    number(tensor.rows);
    number(tensor.columns);
    out_ += '\x86';  // a pair
    number(tensor.columns);
    number(1);
    out_ += "\x86\x89";  // a pair; False
    global("collections", "OrderedDict");
    out_ += ")RtR";  // called with nothing; the tuple of arguments; called with them
  }

  Dtype dtype_;
  std::string out_;
};

/// One entry's bytes, made when libzip asks for them.
struct EntrySource {
  std::uint64_t size = 0;
  std::function<void(std::span<std::byte>)> make;
  std::vector<std::byte> bytes;
  std::size_t at = 0;

  static zip_int64_t callback(void* self_pointer, void* data, zip_uint64_t length, zip_source_cmd_t command) {
    auto* const self = static_cast<EntrySource*>(self_pointer);
    switch (command) {
      case ZIP_SOURCE_OPEN:
        self->bytes.resize(self->size);
        self->make(self->bytes);
        self->at = 0;
        return 0;
      case ZIP_SOURCE_READ: {
        const std::size_t count = std::min<std::size_t>(length, self->bytes.size() - self->at);
        if (count > 0) std::memcpy(data, self->bytes.data() + self->at, count);
        self->at += count;
        return static_cast<zip_int64_t>(count);
      }
      case ZIP_SOURCE_CLOSE:
        self->bytes = {};
        return 0;
      case ZIP_SOURCE_STAT: {
        auto* const stat = static_cast<zip_stat_t*>(data);
        zip_stat_init(stat);
        stat->size = self->size;
        stat->valid |= ZIP_STAT_SIZE;
        return sizeof(zip_stat_t);
      }
      case ZIP_SOURCE_ERROR:
      case ZIP_SOURCE_FREE:
        return 0;
      case ZIP_SOURCE_SUPPORTS:
        return ZIP_SOURCE_SUPPORTS_READABLE;
      default:
        return -1;
    }
  }
};

struct Discard {
  void operator()(zip_t* archive) const noexcept { zip_discard(archive); }
};

class ArchiveWriter {
 public:
  explicit ArchiveWriter(zip_t* archive) : archive_(archive) {}

  bool add(std::string_view name, std::uint64_t size, std::function<void(std::span<std::byte>)> make) {
    auto& source = sources_.emplace_back(std::make_unique<EntrySource>());
    source->size = size;
    source->make = std::move(make);
    zip_source_t* const zip_source =
        zip_source_function(archive_.get(), &EntrySource::callback, source.get());
    if (zip_source == nullptr) return false;
    const std::string entry = fmt::format("{}/{}", kFolder, name);
    const zip_int64_t index = zip_file_add(archive_.get(), entry.c_str(), zip_source, ZIP_FL_ENC_UTF_8);
    if (index < 0) {
      zip_source_free(zip_source);
      return false;
    }
    const auto at = static_cast<zip_uint64_t>(index);
    return zip_set_file_compression(archive_.get(), at, ZIP_CM_STORE, 0) == 0 &&
           zip_file_set_mtime(archive_.get(), at, kStamp, 0) == 0;
  }
  bool add_text(std::string_view name, std::string text) {
    const std::uint64_t size = text.size();
    return add(name, size, [text = std::move(text)](std::span<std::byte> into) {
      std::memcpy(into.data(), text.data(), into.size());
    });
  }
  bool close() {
    if (zip_close(archive_.get()) != 0) return false;
    (void)archive_.release();
    return true;
  }
  [[nodiscard]] std::string error() { return zip_strerror(archive_.get()); }

 private:
  std::vector<std::unique_ptr<EntrySource>> sources_;  // outlive the archive
  std::unique_ptr<zip_t, Discard> archive_;
};

}  // namespace

Result<std::uint64_t> write_torch_zip(const std::string& path, Dtype dtype,
                                      std::span<const TensorToWrite> tensors, const FillTensor& fill) {
  LORACLE_CHECK(dtype == Dtype::kF32 || dtype == Dtype::kF16 || dtype == Dtype::kBf16);
  int code = 0;
  zip_t* const archive = zip_open(path.c_str(), ZIP_CREATE | ZIP_TRUNCATE, &code);
  if (archive == nullptr) {
    zip_error_t error;
    zip_error_init_with_code(&error, code);
    auto failed =
        fail(Errc::kIo, fmt::format("{}: cannot write: {}", path, zip_error_strerror(&error)), errno);
    zip_error_fini(&error);
    return failed;
  }
  ArchiveWriter writer(archive);
  bool good = writer.add_text("data.pkl", PickleWriter(dtype).write(tensors)) &&
              writer.add_text("byteorder", "little");
  for (std::size_t i = 0; good && i < tensors.size(); ++i)
    good =
        writer.add(fmt::format("data/{}", i), tensors[i].rows * tensors[i].columns * bytes_of(dtype), fill);
  good = good && writer.add_text("version", "3\n") && writer.close();
  if (!good) return fail(Errc::kIo, fmt::format("{}: cannot write: {}", path, writer.error()), errno);
  std::error_code error;
  const std::uintmax_t size = std::filesystem::file_size(path, error);
  if (error) return fail(Errc::kIo, fmt::format("{}: {}", path, error.message()), error.value());
  return size;
}

}  // namespace loracle
