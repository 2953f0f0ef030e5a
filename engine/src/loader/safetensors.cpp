#include "safetensors.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstddef>
#include <optional>
#include <span>
#include <utility>

#include "loracle/core/check.hpp"
#include "loracle/traces/json_cursor.hpp"

namespace loracle {
namespace {

constexpr std::uint64_t kLengthBytes = 8;

struct SafetensorsDtype {
  std::string_view name;
  Dtype dtype;
};
constexpr std::array kDtypes = {
    SafetensorsDtype{"F32", Dtype::kF32},        SafetensorsDtype{"F16", Dtype::kF16},
    SafetensorsDtype{"BF16", Dtype::kBf16},      SafetensorsDtype{"F8_E4M3", Dtype::kF8E4M3},
    SafetensorsDtype{"F8_E5M2", Dtype::kF8E5M2},
};

struct ByteRange {
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
};

class HeaderParser {
 public:
  HeaderParser(std::string_view text, std::uint64_t data_begin, std::uint64_t data_bytes, TensorTable& table)
      : text_(text), json_(text, scratch_), data_begin_(data_begin), data_bytes_(data_bytes), table_(table) {}

  Result<Unit> parse() {
    if (text_.empty() || text_.front() != '{') return wrong("the header does not begin with {");
    // An entry of a LoRA matrix is about that long, so the tables are rarely allocated twice.
    const std::size_t rows = std::min(text_.size() / 120 + 1, kTensorsMax);
    table_.rows.reserve(rows);
    ranges_.reserve(rows);
    bool have_metadata = false;
    std::string_view name;
    (void)json_.enter_object();
    while (json_.next_key(name)) {
      if (name == "__metadata__") {
        if (std::exchange(have_metadata, true)) return wrong("__metadata__ is there twice");
        if (auto read = metadata(); !read) return read;
        continue;
      }
      if (table_.rows.size() == kTensorsMax) return wrong(fmt::format("more than {} tensors", kTensorsMax));
      if (auto read = tensor(name); !read) return read;
    }
    if (!json_.finish()) return not_json();
    if (auto unique = check_names(); !unique) return unique;
    return check_ranges();
  }

 private:
  [[nodiscard]] static tl::unexpected<Error> wrong(std::string what) {
    return fail(Errc::kCorrupt, std::move(what));
  }
  [[nodiscard]] tl::unexpected<Error> not_json() const {
    return wrong(fmt::format("the header is not valid JSON: {} (byte {})", json_.error(), json_.error_at()));
  }
  [[nodiscard]] static tl::unexpected<Error> wrong(std::string_view tensor, std::string_view what) {
    return wrong(fmt::format("tensor '{}': {}", tensor, what));
  }

  Result<Unit> metadata() {
    std::string_view text;
    if (json_.peek() != JsonKind::kObject) return wrong("__metadata__ is not an object");
    (void)json_.enter_object();
    while (json_.next_key(text)) {
      if (json_.peek() != JsonKind::kString && !json_.failed())
        return wrong("__metadata__ holds a value that is no string");
      if (!json_.read_string(text)) break;
    }
    if (json_.failed()) return not_json();
    return Unit{};
  }

  /// The name as it will stay: of the header's own text, or decoded and kept.
  std::string_view keep(std::string_view name) {
    const char* const begin = text_.data();
    if (name.data() >= begin && name.data() < begin + text_.size()) return name;
    return table_.names.emplace_back(name);
  }

  Result<Unit> tensor(std::string_view name) {
    if (json_.peek() != JsonKind::kObject)
      return json_.failed() ? not_json() : wrong(name, "is not an object");
    TensorRow& row = table_.rows.emplace_back();
    row.name = keep(name);
    std::optional<Dtype> dtype;
    std::optional<ByteRange> range;
    bool have_shape = false;
    std::string_view key;
    (void)json_.enter_object();
    while (json_.next_key(key)) {
      if (key == "dtype" && !dtype) {
        std::string_view value;
        if (!json_.read_string(value)) return not_json();
        const auto* found =
            std::find_if(kDtypes.begin(), kDtypes.end(),
                         [value](const SafetensorsDtype& entry) { return entry.name == value; });
        if (found == kDtypes.end())
          return fail(Errc::kUnsupported,
                      fmt::format("tensor '{}': dtype {} is not supported, only F32, F16, "
                                  "BF16, F8_E4M3 and F8_E5M2",
                                  name, value));
        dtype = found->dtype;
      } else if (key == "shape" && !have_shape) {
        have_shape = true;
        if (!read_shape(row))
          return json_.failed() ? not_json() : wrong(name, "the shape is not a list of sizes");
      } else if (key == "data_offsets" && !range) {
        range.emplace();
        if (!read_range(*range))
          return json_.failed() ? not_json() : wrong(name, "data_offsets are not two sizes");
      } else if (key == "dtype" || key == "shape" || key == "data_offsets") {
        return wrong(name, fmt::format("{} is there twice", key));
      } else if (!json_.skip()) {  // the format's own reader passes over what it does not know
        return not_json();
      }
    }
    if (json_.failed()) return not_json();
    if (!dtype || !have_shape || !range) return wrong(name, "dtype, shape or data_offsets is missing");
    row.stored.dtype = *dtype;
    return check_size(row, *range);
  }

  /// A whole number without sign, fraction or exponent that fits 64 bits.
  bool read_size(std::uint64_t& value) {
    std::string_view digits;
    if (json_.peek() != JsonKind::kNumber || !json_.read_number(digits)) return false;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    return error == std::errc{} && end == digits.data() + digits.size();
  }
  bool read_shape(TensorRow& row) {
    if (json_.peek() != JsonKind::kArray || !json_.enter_array()) return false;
    while (json_.next_element()) {
      if (row.dimensions == kTensorDimensionsMax || !read_size(row.shape[row.dimensions])) return false;
      ++row.dimensions;
    }
    return !json_.failed();
  }
  bool read_range(ByteRange& range) {
    if (json_.peek() != JsonKind::kArray || !json_.enter_array()) return false;
    return json_.next_element() && read_size(range.begin) && json_.next_element() && read_size(range.end) &&
           !json_.next_element() && !json_.failed();
  }

  Result<Unit> check_size(TensorRow& row, ByteRange range) {
    if (range.begin > range.end || range.end > data_bytes_)
      return wrong(row.name, fmt::format("data_offsets [{}, {}] reach out of the file's {} bytes of data",
                                         range.begin, range.end, data_bytes_));
    std::uint64_t bytes = bytes_of(row.stored.dtype);
    bool overflow = false;
    for (std::uint32_t i = 0; i < row.dimensions; ++i)
      overflow |= __builtin_mul_overflow(bytes, row.shape[i], &bytes);
    if (overflow || bytes != range.end - range.begin)
      return wrong(row.name, fmt::format("its shape does not take the {} bytes data_offsets give it",
                                         range.end - range.begin));
    ranges_.push_back(range);
    row.stored.offset = data_begin_ + range.begin;
    return Unit{};
  }

  Result<Unit> check_names() {
    const auto not_ascending = [](const TensorRow& a, const TensorRow& b) { return a.name >= b.name; };
    if (std::adjacent_find(table_.rows.begin(), table_.rows.end(), not_ascending) == table_.rows.end())
      return Unit{};  // ascending, so unique
    std::vector<std::string_view> names;
    names.reserve(table_.rows.size());
    for (const TensorRow& row : table_.rows) names.push_back(row.name);
    std::sort(names.begin(), names.end());
    const auto twice = std::adjacent_find(names.begin(), names.end());
    if (twice != names.end()) return wrong(*twice, "is there twice");
    return Unit{};
  }

  Result<Unit> check_ranges() {
    const auto before = [](const ByteRange& a, const ByteRange& b) {
      return a.begin != b.begin ? a.begin < b.begin : a.end < b.end;
    };
    if (!std::is_sorted(ranges_.begin(), ranges_.end(), before))
      std::sort(ranges_.begin(), ranges_.end(), before);
    std::uint64_t at = 0;
    for (const ByteRange& range : ranges_) {
      if (range.begin != at)
        return wrong(fmt::format("the tensors' bytes {} at byte {} of the data",
                                 range.begin < at ? "overlap" : "leave a hole", std::min(range.begin, at)));
      at = range.end;
    }
    if (at != data_bytes_)
      return wrong(fmt::format("the tensors end at byte {} of the data, the file has {}", at, data_bytes_));
    return Unit{};
  }

  std::string_view text_;
  std::string scratch_;
  JsonCursor json_;
  std::uint64_t data_begin_;
  std::uint64_t data_bytes_;
  TensorTable& table_;
  std::vector<ByteRange> ranges_;  // [rows]
};

}  // namespace

std::string_view safetensors_name(Dtype dtype) noexcept {
  const auto* found = std::find_if(kDtypes.begin(), kDtypes.end(),
                                   [dtype](const SafetensorsDtype& entry) { return entry.dtype == dtype; });
  return found == kDtypes.end() ? "unknown" : found->name;
}

Result<TensorTable> parse_safetensors_header(std::vector<char> header, std::uint64_t file_bytes) {
  LORACLE_CHECK(header.size() <= file_bytes && file_bytes - header.size() >= kLengthBytes);
  TensorTable table;
  table.text = std::move(header);
  const std::uint64_t data_begin = kLengthBytes + table.text.size();
  HeaderParser parser(std::string_view(table.text.data(), table.text.size()), data_begin,
                      file_bytes - data_begin, table);
  if (Result<Unit> parsed = parser.parse(); !parsed) return fail(std::move(parsed.error()));
  return table;
}

Result<TensorTable> read_safetensors_header(OpenFile& file, const std::string& path) {
  const auto wrong = [&path](std::string_view what) {
    return fail(Errc::kCorrupt, fmt::format("{}: {}", path, what));
  };
  const std::uint64_t file_bytes = file.stat().size;
  if (file_bytes < kLengthBytes) return wrong(fmt::format("{} bytes are no safetensors file", file_bytes));
  std::array<std::byte, kLengthBytes> raw{};
  if (auto read = read_exactly(file, path, 0, raw); !read) return fail(std::move(read.error()));
  std::uint64_t length = 0;
  for (std::size_t i = kLengthBytes; i-- > 0;) length = length << 8U | std::to_integer<std::uint64_t>(raw[i]);
  if (length > kSafetensorsHeaderMax || length > file_bytes - kLengthBytes)
    return wrong(
        fmt::format("the header should be {} bytes long: not a safetensors file, or cut short", length));
  std::vector<char> header(length);
  if (auto read = read_exactly(file, path, kLengthBytes, std::as_writable_bytes(std::span(header))); !read)
    return fail(std::move(read.error()));
  Result<TensorTable> table = parse_safetensors_header(std::move(header), file_bytes);
  if (!table) return fail(table.error().code, fmt::format("{}: {}", path, table.error().message));
  return table;
}

}  // namespace loracle
