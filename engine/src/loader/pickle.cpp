#include "pickle.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

#include "loracle/traces/utf8.hpp"

namespace loracle {
namespace {

/// The opcodes that are understood, by pickletools' names.
enum Opcode : std::uint8_t {
  kMark = '(',
  kStop = '.',
  kPop = '0',
  kPopMark = '1',
  kBinInt = 'J',
  kBinInt1 = 'K',
  kBinInt2 = 'M',
  kNone = 'N',
  kBinPersId = 'Q',
  kReduce = 'R',
  kShortBinString = 'U',
  kBinUnicode = 'X',
  kEmptyList = ']',
  kAppend = 'a',
  kBuild = 'b',
  kGlobal = 'c',
  kAppends = 'e',
  kBinGet = 'h',
  kLongBinGet = 'j',
  kBinPut = 'q',
  kLongBinPut = 'r',
  kSetItem = 's',
  kTuple = 't',
  kSetItems = 'u',
  kEmptyDict = '}',
  kEmptyTuple = ')',
  kBinFloat = 'G',
  kProto = 0x80,
  kTuple1 = 0x85,
  kTuple2 = 0x86,
  kTuple3 = 0x87,
  kNewTrue = 0x88,
  kNewFalse = 0x89,
  kLong1 = 0x8A,
  kShortBinUnicode = 0x8C,
  kBinUnicode8 = 0x8D,
  kStackGlobal = 0x93,
  kMemoize = 0x94,
  kFrame = 0x95,
};

enum class GlobalRole : std::uint8_t {
  kOrderedDict,
  kRebuildV2,
  kRebuildV3,
  kRebuildParameter,
  kStorage,
  kDtype
};

struct AllowedGlobal {
  std::string_view module;
  std::string_view name;
  GlobalRole role;
  std::optional<Dtype> dtype;  // of a kStorage: nothing is untyped
};
constexpr std::array kAllowed = {
    AllowedGlobal{"collections", "OrderedDict", GlobalRole::kOrderedDict, {}},
    AllowedGlobal{"torch._utils", "_rebuild_tensor_v2", GlobalRole::kRebuildV2, {}},
    AllowedGlobal{"torch._utils", "_rebuild_tensor_v3", GlobalRole::kRebuildV3, {}},
    AllowedGlobal{"torch._utils", "_rebuild_parameter", GlobalRole::kRebuildParameter, {}},
    AllowedGlobal{"torch", "FloatStorage", GlobalRole::kStorage, Dtype::kF32},
    AllowedGlobal{"torch", "HalfStorage", GlobalRole::kStorage, Dtype::kF16},
    AllowedGlobal{"torch", "BFloat16Storage", GlobalRole::kStorage, Dtype::kBf16},
    AllowedGlobal{"torch.storage", "UntypedStorage", GlobalRole::kStorage, {}},
    AllowedGlobal{"torch", "UntypedStorage", GlobalRole::kStorage, {}},
    AllowedGlobal{"torch", "float32", GlobalRole::kDtype, Dtype::kF32},
    AllowedGlobal{"torch", "float", GlobalRole::kDtype, Dtype::kF32},
    AllowedGlobal{"torch", "float16", GlobalRole::kDtype, Dtype::kF16},
    AllowedGlobal{"torch", "half", GlobalRole::kDtype, Dtype::kF16},
    AllowedGlobal{"torch", "bfloat16", GlobalRole::kDtype, Dtype::kBf16},
    AllowedGlobal{"torch", "float8_e4m3fn", GlobalRole::kDtype, Dtype::kF8E4M3},
    AllowedGlobal{"torch", "float8_e5m2", GlobalRole::kDtype, Dtype::kF8E5M2},
};

/// What torch has besides: harmless, but no dtype of weights.
constexpr std::array<std::string_view, 12> kOtherStorages = {
    "DoubleStorage",        "LongStorage",  "IntStorage",    "ShortStorage",
    "CharStorage",          "ByteStorage",  "BoolStorage",   "ComplexFloatStorage",
    "ComplexDoubleStorage", "QInt8Storage", "QUInt8Storage", "QInt32Storage"};

std::uint64_t little_endian(std::string_view bytes) noexcept {
  std::uint64_t value = 0;
  for (std::size_t i = bytes.size(); i-- > 0;) value = value << 8U | static_cast<unsigned char>(bytes[i]);
  return value;
}

/// Printable, for messages: a name in a hostile file may hold anything.
std::string printable(std::string_view text) {
  std::string out;
  for (const char c : text.substr(0, 200)) {
    const bool plain = c >= ' ' && c < 0x7F;
    out += plain ? std::string(1, c) : fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
  }
  return out;
}

}  // namespace

Unpickler::Unpickler(std::string_view text) : text_(text) {
  values_.push_back({Kind::kNone, 0, 0});
  values_.push_back({Kind::kBool, 0, 0});
  values_.push_back({Kind::kBool, 0, 1});
}

bool Unpickler::corrupt(std::string_view what) { return refuse(Errc::kCorrupt, std::string(what)); }

bool Unpickler::refuse(Errc code, std::string what) {
  if (!error_) error_ = Error{code, fmt::format("the pickle is refused at byte {}: {}", at_, what), 0};
  return false;
}

Result<Unpickler::Ref> Unpickler::load() {
  stack_.clear();
  marks_.clear();
  memo_.clear();
  memo_count_ = 0;
  bool stopped = false;
  while (!stopped)
    if (!step(stopped)) return fail(*error_);
  if (stack_.size() != 1 || !marks_.empty()) {
    corrupt("it does not end with one object");
    return fail(*error_);
  }
  return stack_.front();
}

bool Unpickler::step(bool& stopped) {
  std::string_view byte;
  if (!take(1, byte)) return false;
  const auto opcode = static_cast<std::uint8_t>(byte.front());
  switch (opcode) {
    case kStop:
      stopped = true;
      return true;
    case kProto:
      if (!take(1, byte)) return false;
      return (byte.front() >= 2 && byte.front() <= 5) || corrupt("not of protocol 2 to 5");
    case kFrame:
      return take(8, byte);
    case kNone:
      return push(kNoneRef);
    case kNewTrue:
      return push(kTrueRef);
    case kNewFalse:
      return push(kFalseRef);
    case kBinInt:
    case kBinInt1:
    case kBinInt2:
    case kLong1:
    case kBinFloat:
      return step_number(opcode);
    case kBinUnicode:
    case kShortBinUnicode:
    case kBinUnicode8:
    case kShortBinString:
      return step_text(opcode);
    case kBinGet:
    case kLongBinGet:
    case kBinPut:
    case kLongBinPut:
    case kMemoize:
      return step_memo(opcode);
    case kGlobal:
    case kStackGlobal:
    case kBinPersId:
    case kReduce:
    case kBuild:
      return step_object(opcode);
    default:
      return step_container(opcode);
  }
}

bool Unpickler::step_number(std::uint8_t opcode) {
  std::uint64_t value = 0;
  std::string_view bytes;
  switch (opcode) {
    case kBinInt:
      if (!take_size(4, value)) return false;
      return push_value(Kind::kInt, static_cast<std::uint64_t>(std::int64_t{
                                        static_cast<std::int32_t>(static_cast<std::uint32_t>(value))}));
    case kBinInt1:
      return take_size(1, value) && push_value(Kind::kInt, value);
    case kBinInt2:
      return take_size(2, value) && push_value(Kind::kInt, value);
    case kBinFloat:
      return take(8, bytes) && push_value(Kind::kFloat, 0);  // no number with a point means anything here
    default:
      break;
  }
  if (!take_size(1, value) || !take(value, bytes)) return false;
  if (bytes.size() > 8)
    return push_value(Kind::kBigInt, static_cast<std::uint64_t>(bytes.data() - text_.data()),
                      static_cast<std::uint32_t>(bytes.size()));
  std::uint64_t number = little_endian(bytes);
  const bool negative = !bytes.empty() && static_cast<unsigned char>(bytes.back()) >= 0x80;
  if (negative && bytes.size() < 8) number |= ~std::uint64_t{0} << (8 * bytes.size());
  return push_value(Kind::kInt, number);
}

bool Unpickler::step_text(std::uint8_t opcode) {
  switch (opcode) {
    case kBinUnicode:
      return push_text(4);
    case kBinUnicode8:
      return push_text(8);
    default:
      return push_text(1);
  }
}

bool Unpickler::step_container(std::uint8_t opcode) {
  std::size_t begin = 0;
  Ref ignored = 0;
  switch (opcode) {
    case kMark:
      if (marks_.size() >= kPickleValuesMax) return corrupt("too many marks");
      marks_.push_back(stack_.size());
      return true;
    case kPop:
      return pop(ignored);
    case kPopMark:
      if (!pop_mark(begin)) return false;
      stack_.resize(begin);
      return true;
    case kEmptyTuple:
      return push_tuple(0);
    case kTuple1:
      return push_tuple(1);
    case kTuple2:
      return push_tuple(2);
    case kTuple3:
      return push_tuple(3);
    case kTuple:
      return pop_mark(begin) && push_tuple(stack_.size() - begin);
    case kEmptyList:
      return push_container(Kind::kList);
    case kEmptyDict:
      return push_container(Kind::kDict);
    case kAppend:
      return stack_.empty() ? corrupt("the stack is empty") : extend(Kind::kList, stack_.size() - 1);
    case kAppends:
      return pop_mark(begin) && extend(Kind::kList, begin);
    case kSetItem:
      return stack_.size() < 2 ? corrupt("the stack is empty") : extend(Kind::kDict, stack_.size() - 2);
    case kSetItems:
      return pop_mark(begin) && extend(Kind::kDict, begin);
    default:
      break;
  }
  const char shown = opcode > ' ' && opcode < 0x7F ? static_cast<char>(opcode) : '?';
  return refuse(Errc::kInvalid,
                fmt::format("opcode 0x{:02x} ({}) has no place in a file of tensors", opcode, shown));
}

bool Unpickler::step_memo(std::uint8_t opcode) {
  std::uint64_t index = memo_count_;  // which is what Python numbers by
  if (opcode == kMemoize) return put_memo(index);
  const bool is_long = opcode == kLongBinGet || opcode == kLongBinPut;
  if (!take_size(is_long ? 4 : 1, index)) return false;
  return opcode == kBinPut || opcode == kLongBinPut ? put_memo(index) : get_memo(index);
}

bool Unpickler::step_object(std::uint8_t opcode) {
  switch (opcode) {
    case kGlobal: {
      std::string_view module;
      std::string_view name;
      return take_line(module) && take_line(name) && global(module, name);
    }
    case kStackGlobal: {
      Ref name = 0;
      Ref module = 0;
      if (!pop(name) || !pop(module)) return false;
      if (!is(name, Kind::kText) || !is(module, Kind::kText)) return corrupt("a global's name is no text");
      return global(text_of(module), text_of(name));
    }
    case kBinPersId:
      return persistent_id();
    case kReduce:
      return reduce();
    default:
      return build();
  }
}

bool Unpickler::take(std::size_t count, std::string_view& bytes) {
  if (count > text_.size() - at_) {
    ran_out_ = true;
    return corrupt("it ends early");
  }
  bytes = text_.substr(at_, count);
  at_ += count;
  return true;
}

bool Unpickler::take_size(std::size_t width, std::uint64_t& value) {
  std::string_view bytes;
  if (!take(width, bytes)) return false;
  value = little_endian(bytes);
  return true;
}

bool Unpickler::take_line(std::string_view& line) {
  constexpr std::size_t kNameMax = 1024;
  const std::size_t end = text_.substr(at_, kNameMax).find('\n');
  if (end == std::string_view::npos) {
    if (text_.size() - at_ < kNameMax) ran_out_ = true;
    return corrupt("a name without its end");
  }
  line = text_.substr(at_, end);
  at_ += end + 1;
  return true;
}

bool Unpickler::push(Ref ref) {
  if (stack_.size() >= kPickleValuesMax) return corrupt("the stack is too high");
  stack_.push_back(ref);
  return true;
}

bool Unpickler::push_value(Kind kind, std::uint64_t bits, std::uint32_t length) {
  if (values_.size() >= kPickleValuesMax)
    return corrupt(fmt::format("more than {} values", kPickleValuesMax));
  values_.push_back({kind, length, bits});
  return push(static_cast<Ref>(values_.size() - 1));
}

bool Unpickler::push_text(std::size_t width) {
  std::uint64_t length = 0;
  std::string_view bytes;
  if (!take_size(width, length) || !take(length, bytes)) return false;
  if (length > kPickleBytesMax) return corrupt("a text that is too long");
  if (!is_utf8(bytes)) return corrupt("a text that is not UTF-8");
  return push_value(Kind::kText, static_cast<std::uint64_t>(bytes.data() - text_.data()),
                    static_cast<std::uint32_t>(length));
}

bool Unpickler::push_tuple(std::size_t count) {
  if (stack_.size() < count || (!marks_.empty() && marks_.back() > stack_.size() - count))
    return corrupt("the stack is empty");
  std::vector<Ref> elements(stack_.end() - static_cast<std::ptrdiff_t>(count), stack_.end());
  stack_.resize(stack_.size() - count);
  if (!push_container(Kind::kTuple)) return false;
  containers_.back() = std::move(elements);
  return true;
}

bool Unpickler::push_container(Kind kind) {
  containers_.emplace_back();
  return push_value(kind, containers_.size() - 1);
}

bool Unpickler::pop(Ref& ref) {
  if (stack_.empty() || (!marks_.empty() && marks_.back() == stack_.size()))
    return corrupt("the stack is empty");
  ref = stack_.back();
  stack_.pop_back();
  return true;
}

bool Unpickler::pop_mark(std::size_t& begin) {
  if (marks_.empty()) return corrupt("no mark is set");
  begin = marks_.back();
  marks_.pop_back();
  return true;
}

/// Moves what lies on the stack from `begin` up into the container below it.
bool Unpickler::extend(Kind kind, std::size_t begin) {
  const std::size_t lowest = marks_.empty() ? 0 : marks_.back();
  if (begin == 0 || begin - 1 < lowest) return corrupt("the stack is empty");
  const Ref container = stack_[begin - 1];
  if (!is(container, kind)) return corrupt("an element is put into something that holds none");
  if (kind == Kind::kDict && (stack_.size() - begin) % 2 != 0) return corrupt("a key without a value");
  std::vector<Ref>& elements = containers_[values_[container].bits];
  elements.insert(elements.end(), stack_.begin() + static_cast<std::ptrdiff_t>(begin), stack_.end());
  stack_.resize(begin);
  return true;
}

bool Unpickler::put_memo(std::uint64_t index) {
  if (index >= kPickleValuesMax) return corrupt(fmt::format("memo entry {} is absurd", index));
  if (stack_.empty()) return corrupt("the stack is empty");
  if (index >= memo_.size()) memo_.resize(index + 1, kNoRef);
  if (memo_[index] == kNoRef) ++memo_count_;
  memo_[index] = stack_.back();
  return true;
}

bool Unpickler::get_memo(std::uint64_t index) {
  if (index >= memo_.size() || memo_[index] == kNoRef)
    return corrupt(fmt::format("memo entry {} was never put", index));
  return push(memo_[index]);
}

bool Unpickler::global(std::string_view module, std::string_view name) {
  for (std::size_t i = 0; i < kAllowed.size(); ++i)
    if (kAllowed[i].module == module && kAllowed[i].name == name) return push_value(Kind::kGlobal, i);
  const bool other_storage = module == "torch" && std::find(kOtherStorages.begin(), kOtherStorages.end(),
                                                            name) != kOtherStorages.end();
  if (other_storage)
    return refuse(
        Errc::kUnsupported,
        fmt::format("a tensor of torch.{}; only float, half, bfloat16 and float8 are supported", name));
  return refuse(Errc::kInvalid,
                fmt::format("it names {}.{}, which a file of tensors has no use for; nothing was "
                            "executed",
                            printable(module), printable(name)));
}

bool Unpickler::size_of(Ref ref, std::uint64_t& size) const noexcept {
  constexpr std::int64_t kSizeMax = std::int64_t{1} << 48U;
  if (!is(ref, Kind::kInt) || number_of(ref) < 0 || number_of(ref) > kSizeMax) return false;
  size = static_cast<std::uint64_t>(number_of(ref));
  return true;
}

/// ('storage', class, key, location, elements), and in the legacy format a sixth that says "no view".
bool Unpickler::persistent_id() {
  Ref id = 0;
  if (!pop(id)) return false;
  if (!is(id, Kind::kTuple)) return corrupt("a persistent id that is no tuple");
  const std::span<const Ref> parts = elements_of(id);
  if (parts.size() == 6 && !is(parts[5], Kind::kNone))
    return refuse(Errc::kUnsupported,
                  "a storage that is a view of another; save the adapter with a newer torch");
  PickledStorage storage;
  const bool good = (parts.size() == 5 || parts.size() == 6) && is(parts[0], Kind::kText) &&
                    text_of(parts[0]) == "storage" && is(parts[1], Kind::kGlobal) &&
                    kAllowed[values_[parts[1]].bits].role == GlobalRole::kStorage &&
                    is(parts[2], Kind::kText) && is(parts[3], Kind::kText) &&
                    size_of(parts[4], storage.elements);
  if (!good) return corrupt("a persistent id that is not ('storage', class, key, location, elements)");
  storage.dtype = kAllowed[values_[parts[1]].bits].dtype;
  storage.key = text_of(parts[2]);
  storages_.push_back(storage);
  return push_value(Kind::kStorage, storages_.size() - 1);
}

bool Unpickler::reduce() {
  Ref arguments = 0;
  Ref callee = 0;
  if (!pop(arguments) || !pop(callee)) return false;
  if (!is(callee, Kind::kGlobal) || !is(arguments, Kind::kTuple))
    return refuse(Errc::kInvalid, "something is called that is no known name");
  const std::span<const Ref> parts = elements_of(arguments);
  switch (kAllowed[values_[callee].bits].role) {
    case GlobalRole::kOrderedDict:
      return parts.empty() ? push_container(Kind::kDict) : corrupt("OrderedDict with arguments");
    case GlobalRole::kRebuildV2:
      return rebuild_tensor(parts, /*names_dtype=*/false);
    case GlobalRole::kRebuildV3:
      return rebuild_tensor(parts, /*names_dtype=*/true);
    case GlobalRole::kRebuildParameter:
      if (parts.size() != 3 || !is(parts[0], Kind::kTensor)) return corrupt("a parameter without its tensor");
      return push(parts[0]);
    case GlobalRole::kStorage:
    case GlobalRole::kDtype:
      break;
  }
  const AllowedGlobal& named = kAllowed[values_[callee].bits];
  return refuse(Errc::kInvalid, fmt::format("{}.{} is called", named.module, named.name));
}

/// Attributes are set on a dict only: a state_dict carries `_metadata` along, which says nothing of tensors.
bool Unpickler::build() {
  Ref state = 0;
  if (!pop(state)) return false;
  const bool on_dict = !stack_.empty() && is(stack_.back(), Kind::kDict) && is(state, Kind::kDict);
  return on_dict || refuse(Errc::kInvalid, "attributes are set on something that is no dict");
}

/// (storage, offset, shape, strides, requires_grad, hooks [, dtype] [, metadata])
bool Unpickler::rebuild_tensor(std::span<const Ref> parts, bool names_dtype) {
  const std::size_t least = names_dtype ? 7 : 6;
  std::uint64_t offset = 0;
  const bool good = (parts.size() == least || parts.size() == least + 1) && is(parts[0], Kind::kStorage) &&
                    size_of(parts[1], offset) && is(parts[2], Kind::kTuple) && is(parts[3], Kind::kTuple);
  if (!good) return corrupt("a tensor without storage, offset, shape and strides");
  const auto index = static_cast<std::uint32_t>(values_[parts[0]].bits);
  std::optional<Dtype> dtype = storages_[index].dtype;
  if (names_dtype) {
    if (!is(parts[6], Kind::kGlobal) || kAllowed[values_[parts[6]].bits].role != GlobalRole::kDtype)
      return corrupt("a tensor without its dtype");
    const std::optional<Dtype> named = kAllowed[values_[parts[6]].bits].dtype;
    if (dtype && *dtype != *named) return corrupt("a tensor of another dtype than its storage");
    dtype = named;
  }
  if (!dtype) return corrupt("a tensor without its dtype");
  return add_tensor(index, *dtype, offset, elements_of(parts[2]), elements_of(parts[3]));
}

bool Unpickler::add_tensor(std::uint32_t storage, Dtype dtype, std::uint64_t offset,
                           std::span<const Ref> shape, std::span<const Ref> strides) {
  if (shape.size() != strides.size() || shape.size() > kTensorDimensionsMax)
    return corrupt("a tensor's shape and strides do not fit together");
  PickledTensor tensor;
  tensor.storage = storage;
  tensor.dtype = dtype;
  tensor.offset = offset;
  tensor.elements = 1;
  tensor.dimensions = static_cast<std::uint32_t>(shape.size());
  for (std::size_t i = shape.size(); i-- > 0;) {
    std::uint64_t stride = 0;
    if (!size_of(shape[i], tensor.shape[i]) || !size_of(strides[i], stride))
      return corrupt("a tensor's shape or stride is no size");
    if (tensor.shape[i] > 1 && stride != tensor.elements)
      return refuse(Errc::kUnsupported,
                    "a tensor that is not contiguous; call .contiguous() before saving it");
    if (__builtin_mul_overflow(tensor.elements, tensor.shape[i], &tensor.elements))
      return corrupt("a tensor of an absurd size");
  }
  const std::uint64_t held = storages_[storage].bytes() / bytes_of(dtype);
  if (offset > held || tensor.elements > held - offset) return corrupt("a tensor reaches out of its storage");
  tensors_.push_back(tensor);
  return push_value(Kind::kTensor, tensors_.size() - 1);
}

}  // namespace loracle
