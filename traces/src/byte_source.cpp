#include "byte_source.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <lzma.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string_view>
#include <utility>

namespace loracle {
namespace {

constexpr std::size_t kWindowBytes = std::size_t{256} * 1024;
// Enough to know the format; a mapped file is read no further.
constexpr std::size_t kFirstLookBytes = std::size_t{4} * 1024;
/// A decompressor may ask for its history only as the file says; a hostile header must not ask for more than
/// this. 2^30 admits `zstd --long=30` and every preset of xz.
constexpr int kHistoryBitsMax = 30;

/// How one step of a decompressor ended.
enum class Step : std::uint8_t { kMore, kStreamEnd, kDamaged, kTooLarge };

/// One compressed format. `decode` moves bytes from the front of `in` to the front of `out` and shortens
/// both; kStreamEnd: one whole stream (member, frame) is out and another may follow.
class Decoder {
 public:
  Decoder() = default;
  Decoder(const Decoder&) = delete;
  Decoder& operator=(const Decoder&) = delete;
  virtual ~Decoder() = default;
  [[nodiscard]] virtual bool ready() const noexcept = 0;
  [[nodiscard]] virtual Step decode(std::span<const char>& in, std::span<char>& out, bool last_input) = 0;
  /// True if `rest`, met between two streams, is padding that ends the file rather than another stream.
  [[nodiscard]] virtual bool is_padding(std::span<const char> rest) const { return rest.empty(); }
};

class GzipDecoder final : public Decoder {
 public:
  GzipDecoder() { ready_ = inflateInit2(&stream_, 15 + 16) == Z_OK; }  // largest window, gzip header only
  GzipDecoder(const GzipDecoder&) = delete;
  GzipDecoder& operator=(const GzipDecoder&) = delete;
  ~GzipDecoder() override {
    if (ready_) inflateEnd(&stream_);
  }
  [[nodiscard]] bool ready() const noexcept override { return ready_; }
  [[nodiscard]] Step decode(std::span<const char>& in, std::span<char>& out, bool /*last_input*/) override {
    const auto in_size = static_cast<uInt>(std::min<std::size_t>(in.size(), UINT_MAX));
    const auto out_size = static_cast<uInt>(std::min<std::size_t>(out.size(), UINT_MAX));
    // zlib reads through a non-const pointer but writes nothing there.
    stream_.next_in = const_cast<Bytef*>(reinterpret_cast<const Bytef*>(in.data()));
    stream_.avail_in = in_size;
    stream_.next_out = reinterpret_cast<Bytef*>(out.data());
    stream_.avail_out = out_size;
    const int code = inflate(&stream_, Z_NO_FLUSH);
    in = in.subspan(in_size - stream_.avail_in);
    out = out.subspan(out_size - stream_.avail_out);
    if (code == Z_STREAM_END) return inflateReset(&stream_) == Z_OK ? Step::kStreamEnd : Step::kDamaged;
    return code == Z_OK || code == Z_BUF_ERROR ? Step::kMore : Step::kDamaged;
  }
  /// Tape blocks are padded with zeros; gzip itself passes over them in silence.
  [[nodiscard]] bool is_padding(std::span<const char> rest) const override {
    return std::all_of(rest.begin(), rest.end(), [](char c) { return c == 0; });
  }

 private:
  z_stream stream_{};
  bool ready_ = false;
};

class ZstdDecoder final : public Decoder {
 public:
  ZstdDecoder() : context_(ZSTD_createDCtx()) {
    if (context_ != nullptr) ZSTD_DCtx_setParameter(context_, ZSTD_d_windowLogMax, kHistoryBitsMax);
  }
  ZstdDecoder(const ZstdDecoder&) = delete;
  ZstdDecoder& operator=(const ZstdDecoder&) = delete;
  ~ZstdDecoder() override { ZSTD_freeDCtx(context_); }
  [[nodiscard]] bool ready() const noexcept override { return context_ != nullptr; }
  [[nodiscard]] Step decode(std::span<const char>& in, std::span<char>& out, bool /*last_input*/) override {
    ZSTD_inBuffer source{in.data(), in.size(), 0};
    ZSTD_outBuffer target{out.data(), out.size(), 0};
    const std::size_t code = ZSTD_decompressStream(context_, &target, &source);
    in = in.subspan(source.pos);
    out = out.subspan(target.pos);
    if (ZSTD_isError(code) != 0) {
      const bool window = ZSTD_getErrorCode(code) == ZSTD_error_frameParameter_windowTooLarge;
      return window ? Step::kTooLarge : Step::kDamaged;
    }
    return code == 0 ? Step::kStreamEnd : Step::kMore;
  }

 private:
  ZSTD_DCtx* context_;
};

class XzDecoder final : public Decoder {
 public:
  XzDecoder() {
    // LZMA_CONCATENATED: liblzma itself goes from stream to stream and checks the padding between them.
    const std::uint64_t memory_max = (std::uint64_t{1} << kHistoryBitsMax) + (std::uint64_t{1} << 20U);
    ready_ = lzma_stream_decoder(&stream_, memory_max, LZMA_CONCATENATED) == LZMA_OK;
  }
  XzDecoder(const XzDecoder&) = delete;
  XzDecoder& operator=(const XzDecoder&) = delete;
  ~XzDecoder() override { lzma_end(&stream_); }
  [[nodiscard]] bool ready() const noexcept override { return ready_; }
  [[nodiscard]] Step decode(std::span<const char>& in, std::span<char>& out, bool last_input) override {
    stream_.next_in = reinterpret_cast<const std::uint8_t*>(in.data());
    stream_.avail_in = in.size();
    stream_.next_out = reinterpret_cast<std::uint8_t*>(out.data());
    stream_.avail_out = out.size();
    const lzma_ret code = lzma_code(&stream_, last_input ? LZMA_FINISH : LZMA_RUN);
    in = in.subspan(in.size() - stream_.avail_in);
    out = out.subspan(out.size() - stream_.avail_out);
    switch (code) {
      case LZMA_OK:
      case LZMA_BUF_ERROR:
        return Step::kMore;
      case LZMA_STREAM_END:
        return Step::kStreamEnd;
      case LZMA_MEMLIMIT_ERROR:
        return Step::kTooLarge;
      default:
        return Step::kDamaged;
    }
  }

 private:
  lzma_stream stream_ = LZMA_STREAM_INIT;
  bool ready_ = false;
};

enum class Kind : std::uint8_t { kPlain, kGzip, kZstd, kXz };

[[nodiscard]] bool starts_with(std::span<const char> bytes, std::string_view magic) {
  return bytes.size() >= magic.size() && std::memcmp(bytes.data(), magic.data(), magic.size()) == 0;
}

/// A zstd frame, or the skippable frame pzstd puts before one. A skippable magic alone is not enough: its
/// sixteen values are also plausible first words of a binary trace.
[[nodiscard]] bool starts_zstd(std::span<const char> bytes) {
  const std::string_view frame("\x28\xB5\x2F\xFD", 4);
  if (starts_with(bytes, frame)) return true;
  if (bytes.size() < 8 || (static_cast<unsigned char>(bytes[0]) & 0xF0U) != 0x50U) return false;
  if (!starts_with(bytes.subspan(1), std::string_view("\x2A\x4D\x18", 3))) return false;
  std::uint32_t size = 0;
  for (std::size_t i = 4; i-- > 0;) size = (size << 8U) | static_cast<unsigned char>(bytes[4 + i]);
  return bytes.size() - 8 > size && starts_with(bytes.subspan(8 + std::size_t{size}), frame);
}

[[nodiscard]] Kind kind_of(std::span<const char> bytes) {
  if (bytes.size() >= 4 && starts_with(bytes, "\x1F\x8B\x08") && (bytes[3] & 0xE0) == 0) return Kind::kGzip;
  if (starts_with(bytes, std::string_view("\xFD\x37\x7A\x58\x5A\x00", 6))) return Kind::kXz;
  return starts_zstd(bytes) ? Kind::kZstd : Kind::kPlain;
}

[[nodiscard]] std::unique_ptr<Decoder> decoder_of(Kind kind) {
  switch (kind) {
    case Kind::kGzip:
      return std::make_unique<GzipDecoder>();
    case Kind::kZstd:
      return std::make_unique<ZstdDecoder>();
    case Kind::kXz:
      return std::make_unique<XzDecoder>();
    case Kind::kPlain:
      break;
  }
  return nullptr;
}

[[nodiscard]] const char* name_of(Kind kind) {
  switch (kind) {
    case Kind::kGzip:
      return "gzip";
    case Kind::kZstd:
      return "zstd";
    case Kind::kXz:
      return "xz";
    case Kind::kPlain:
      break;
  }
  return "plain";
}

/// Up to `out.size()` bytes from the descriptor, fewer only at the end of the file; the errno of a failure.
struct RawRead {
  std::size_t bytes = 0;
  int error = 0;
};
[[nodiscard]] RawRead read_fully(int fd, std::span<char> out) {
  RawRead result;
  while (result.bytes < out.size()) {
    const ssize_t got = ::read(fd, out.data() + result.bytes, out.size() - result.bytes);
    if (got > 0) {
      result.bytes += static_cast<std::size_t>(got);
    } else if (got == 0) {
      break;
    } else if (errno != EINTR) {
      result.error = errno;
      break;
    }
  }
  return result;
}

}  // namespace

struct ByteSource::State {
  std::string path;
  int fd = -1;
  Kind kind = Kind::kPlain;
  std::unique_ptr<Decoder> decoder;  // null for a plain file
  std::unique_ptr<char[]> window;    // [kWindowBytes], not cleared: opening a file to map it touches one page
  std::span<const char> input;       // the part of the window not yet consumed
  std::uint64_t fetched = 0;         // bytes ever read from the file
  bool input_ended = false;
  bool between_streams = false;  // a compressed stream is complete and no byte of another was consumed
  bool output_ended = false;
  std::optional<Error> failure;  // once failed, a source stays failed

  State() = default;
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State() {
    if (fd >= 0) ::close(fd);
  }

  [[nodiscard]] std::uint64_t consumed() const { return fetched - input.size(); }

  [[nodiscard]] tl::unexpected<Error> broken(Errc code, std::string_view what, std::int64_t detail = 0) {
    failure = Error{code, fmt::format("{}: {}", path, what), detail};
    return fail(*failure);
  }

  [[nodiscard]] Result<Unit> refill(std::size_t wanted = kWindowBytes) {
    const RawRead raw = read_fully(fd, std::span<char>(window.get(), wanted));
    if (raw.error != 0) {
      return broken(Errc::kIo,
                    fmt::format("cannot read after {} bytes: {}", fetched, std::strerror(raw.error)),
                    raw.error);
    }
    fetched += raw.bytes;
    input = std::span<const char>(window.get(), raw.bytes);
    input_ended = raw.bytes < wanted;
    return Unit{};
  }

  [[nodiscard]] Result<std::size_t> read_plain(std::span<char> out) {
    const std::size_t buffered = std::min(out.size(), input.size());
    if (buffered > 0) std::memcpy(out.data(), input.data(), buffered);
    input = input.subspan(buffered);
    if (buffered == out.size() || input_ended) return buffered;
    const RawRead raw = read_fully(fd, out.subspan(buffered));
    if (raw.error != 0) {
      return broken(Errc::kIo,
                    fmt::format("cannot read after {} bytes: {}", fetched, std::strerror(raw.error)),
                    raw.error);
    }
    fetched += raw.bytes;
    input_ended = raw.bytes < out.size() - buffered;
    return buffered + raw.bytes;
  }

  [[nodiscard]] Result<std::size_t> read_compressed(std::span<char> out) {
    std::span<char> free = out;
    while (!free.empty() && !output_ended) {
      if (input.empty() && !input_ended) {
        if (auto filled = refill(); !filled) return fail(filled.error());
      }
      if (between_streams) {
        if (auto ended = end_at_padding(); !ended) return fail(ended.error());
        if (output_ended) break;
        between_streams = input.empty();
        continue;
      }
      const std::size_t input_before = input.size();
      const std::size_t free_before = free.size();
      const Step step = decoder->decode(input, free, input_ended);
      switch (step) {
        case Step::kStreamEnd:
          between_streams = true;
          break;
        case Step::kDamaged:
          return broken(Errc::kCorrupt, fmt::format("damaged {} data at byte {}: fetch the file again",
                                                    name_of(kind), consumed()));
        case Step::kTooLarge:
          return broken(
              Errc::kTooLarge,
              fmt::format("its {} compression needs more than 1 GiB of history: recompress it with a "
                          "smaller window",
                          name_of(kind)));
        case Step::kMore:
          if (input_ended && input.size() == input_before && free.size() == free_before) {
            return broken(Errc::kCorrupt,
                          fmt::format("truncated {} data: the file ends after {} bytes, in the "
                                      "middle of a stream: fetch it again",
                                      name_of(kind), fetched));
          }
      }
    }
    return out.size() - free.size();
  }

  /// REQUIRES: between_streams. Ends the output if the file ends here; padding may run over several windows.
  [[nodiscard]] Result<Unit> end_at_padding() {
    if (input.empty()) {
      output_ended = input_ended;
      return Unit{};
    }
    if (!decoder->is_padding(input)) return Unit{};
    while (!input_ended) {
      if (auto filled = refill(); !filled) return filled;
      if (!decoder->is_padding(input)) {
        return broken(Errc::kCorrupt, fmt::format("unexpected data after the {} stream, before byte {}",
                                                  name_of(kind), fetched));
      }
    }
    output_ended = true;
    return Unit{};
  }
};

ByteSource::ByteSource(std::unique_ptr<State> state) : state_(std::move(state)) {}
ByteSource::ByteSource(ByteSource&&) noexcept = default;
ByteSource& ByteSource::operator=(ByteSource&&) noexcept = default;
ByteSource::~ByteSource() = default;

Result<ByteSource> ByteSource::open(const std::string& path) {
  auto state = std::make_unique<State>();
  state->path = path;
  state->fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  struct stat facts {};
  if (state->fd < 0 || ::fstat(state->fd, &facts) != 0) {
    const int error = errno;
    const Errc code = error == ENOENT || error == ENOTDIR ? Errc::kNotFound : Errc::kIo;
    return fail(code, fmt::format("{}: cannot open: {}", path, std::strerror(error)), error);
  }
  if (S_ISDIR(facts.st_mode)) {
    return fail(Errc::kIo, fmt::format("{}: is a directory: name a trace file in it", path), EISDIR);
  }
  state->window = std::make_unique_for_overwrite<char[]>(kWindowBytes);
  if (auto filled = state->refill(kFirstLookBytes); !filled) return fail(filled.error());
  state->kind = kind_of(state->input);
  state->decoder = decoder_of(state->kind);
  if (state->decoder != nullptr && !state->decoder->ready()) {
    return fail(Errc::kIo,
                fmt::format("{}: cannot start {} decompression: out of memory", path, name_of(state->kind)),
                ENOMEM);
  }
  return ByteSource(std::move(state));
}

Result<std::size_t> ByteSource::read(std::span<char> out) {
  if (state_->failure) return fail(*state_->failure);
  return state_->decoder == nullptr ? state_->read_plain(out) : state_->read_compressed(out);
}

ByteSource::Mapping ByteSource::mapping() const {
  struct stat facts {};
  if (state_->kind != Kind::kPlain || ::fstat(state_->fd, &facts) != 0) return {};
  if (!S_ISREG(facts.st_mode) || facts.st_size <= 0) return {};
  const auto size = static_cast<std::size_t>(facts.st_size);
  void* base = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, state_->fd, 0);
  if (base == MAP_FAILED) return {};
  std::shared_ptr<const void> owner(base, [size](const void* at) { ::munmap(const_cast<void*>(at), size); });
  return {std::move(owner), {static_cast<const char*>(base), size}};
}

const char* ByteSource::compression() const noexcept { return name_of(state_->kind); }

}  // namespace loracle
