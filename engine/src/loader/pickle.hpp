#pragma once
/// Reads the pickles of torch.save without being able to do anything but build dicts, lists, tuples, numbers,
/// texts and descriptions of tensors. Nothing is imported and nothing is called: a name is an entry of the
/// table below or the reading ends there, and "calling" one of these fills in a struct.
///
///   collections.OrderedDict                              with no arguments: an empty dict
///   torch._utils._rebuild_tensor_v2, _v3, _rebuild_parameter
///   torch.FloatStorage, HalfStorage, BFloat16Storage     classes of persistent ids
///   torch.storage.UntypedStorage (torch.UntypedStorage)  with _v3, which names the dtype
///   torch.float32, float, float16, half, bfloat16, float8_e4m3fn, float8_e5m2
///
/// Understood are protocols 2 to 5, as far as pickle's own writer uses them for the above; every other opcode
/// is refused by its number. Values lie in flat arrays and refer to each other by index, so that nothing here
/// recurses, and a value that is used a thousand times is there once.
/// Limits: kPickleBytesMax of text, kPickleValuesMax values, memo and stack no longer; a size that is read is
/// compared with what is left before anything is allocated. Cost: one pass. Threads: one owner.
/// Errors: kCorrupt (no pickle, or cut short), kInvalid (a name or form that is not allowed), kUnsupported (a
/// tensor's dtype). Messages name the byte.
/// Source: CPython Lib/pickletools.py; PyTorch v2.5 torch/_weights_only_unpickler.py, torch/_utils.py.

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "loracle/core/result.hpp"
#include "loracle/engine/adapter_files.hpp"
#include "tensor_table.hpp"

namespace loracle {

inline constexpr std::size_t kPickleBytesMax = 64U << 20U;
inline constexpr std::size_t kPickleValuesMax = 4U << 20U;

/// A torch storage as its persistent id describes it.
struct PickledStorage {
  std::string_view key;
  std::optional<Dtype> dtype;  // nothing: untyped, counted in bytes
  std::uint64_t elements = 0;

  [[nodiscard]] std::uint64_t bytes() const noexcept { return elements * (dtype ? bytes_of(*dtype) : 1U); }
};

/// A tensor over a storage. Checked: it is contiguous, row-major, and within its storage.
struct PickledTensor {
  std::uint32_t storage = 0;  // index
  Dtype dtype = Dtype::kF32;
  std::uint64_t offset = 0;  // elements
  std::uint64_t elements = 0;
  std::uint32_t dimensions = 0;
  std::array<std::uint64_t, kTensorDimensionsMax> shape{};  // [dimensions]
};

class Unpickler {
 public:
  enum class Kind : std::uint8_t {
    kNone,
    kBool,
    kInt,
    kBigInt,  // beyond 64 bits: only torch's magic number
    kFloat,
    kText,
    kTuple,
    kList,
    kDict,
    kGlobal,
    kStorage,
    kTensor,
  };
  using Ref = std::uint32_t;  // index of a value

  /// `text` is not copied and must outlive the Unpickler and what it answers.
  explicit Unpickler(std::string_view text);

  /// Reads the next pickle of the text.
  [[nodiscard]] Result<Ref> load();
  /// Where the pickle read last ended, or the byte at which reading stopped.
  [[nodiscard]] std::size_t at() const noexcept { return at_; }
  /// After an error: the text ended too early, so that more of it might help.
  [[nodiscard]] bool ran_out() const noexcept { return ran_out_; }

  [[nodiscard]] Kind kind_of(Ref ref) const noexcept { return values_[ref].kind; }
  /// The number of a kInt or kBool. REQUIRES: it is one; the same for the others.
  [[nodiscard]] std::int64_t number_of(Ref ref) const noexcept {
    return static_cast<std::int64_t>(values_[ref].bits);
  }
  [[nodiscard]] std::string_view text_of(Ref ref) const noexcept {
    return text_.substr(values_[ref].bits, values_[ref].length);
  }
  /// Elements of a tuple or list; keys and values in turn of a dict.
  [[nodiscard]] std::span<const Ref> elements_of(Ref ref) const noexcept {
    return containers_[values_[ref].bits];
  }
  [[nodiscard]] const PickledTensor& tensor_of(Ref ref) const noexcept { return tensors_[values_[ref].bits]; }
  [[nodiscard]] std::span<const PickledStorage> storages() const noexcept { return storages_; }
  /// The bytes of a kBigInt, little-endian.
  [[nodiscard]] std::string_view big_int_of(Ref ref) const noexcept { return text_of(ref); }

 private:
  struct Value {
    Kind kind = Kind::kNone;
    std::uint32_t length = 0;  // of a text
    std::uint64_t bits = 0;    // the number; or where the text is; or an index
  };
  static constexpr Ref kNoRef = 0xFFFF'FFFFU;
  // Made once: the opcodes that push them are one byte long.
  static constexpr Ref kNoneRef = 0;
  static constexpr Ref kFalseRef = 1;
  static constexpr Ref kTrueRef = 2;

  bool step(bool& stopped);
  bool step_number(std::uint8_t opcode);
  bool step_text(std::uint8_t opcode);
  bool step_container(std::uint8_t opcode);
  bool step_memo(std::uint8_t opcode);
  bool step_object(std::uint8_t opcode);

  bool take(std::size_t count, std::string_view& bytes);
  bool take_size(std::size_t width, std::uint64_t& value);
  bool take_line(std::string_view& line);
  bool push(Ref ref);
  bool push_value(Kind kind, std::uint64_t bits, std::uint32_t length = 0);
  bool push_text(std::size_t width);
  bool push_tuple(std::size_t count);
  bool push_container(Kind kind);
  bool pop(Ref& ref);
  bool pop_mark(std::size_t& begin);
  bool extend(Kind kind, std::size_t begin);
  bool put_memo(std::uint64_t index);
  bool get_memo(std::uint64_t index);
  bool global(std::string_view module, std::string_view name);
  bool persistent_id();
  bool reduce();
  bool build();
  bool rebuild_tensor(std::span<const Ref> parts, bool names_dtype);
  bool add_tensor(std::uint32_t storage, Dtype dtype, std::uint64_t offset, std::span<const Ref> shape,
                  std::span<const Ref> strides);
  [[nodiscard]] bool is(Ref ref, Kind kind) const noexcept { return values_[ref].kind == kind; }
  [[nodiscard]] bool size_of(Ref ref, std::uint64_t& size) const noexcept;

  bool corrupt(std::string_view what);
  bool refuse(Errc code, std::string what);

  std::string_view text_;
  std::size_t at_ = 0;
  bool ran_out_ = false;
  std::optional<Error> error_;
  std::vector<Value> values_;
  std::vector<Ref> stack_;
  std::vector<std::size_t> marks_;  // heights of the stack
  std::vector<Ref> memo_;           // kNoRef: never put
  std::size_t memo_count_ = 0;
  std::vector<std::vector<Ref>> containers_;
  std::vector<PickledStorage> storages_;
  std::vector<PickledTensor> tensors_;
};

}  // namespace loracle
