#pragma once
/// Writes pickles for tests, opcode by opcode, good ones and hostile ones.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "adapter_maker.hpp"

namespace loracle::testing {

inline std::string unicode(std::string_view text) {
  return "X" + little_endian(text.size(), 4) + std::string(text);
}
inline std::string whole(std::int64_t value) {
  return "J" + little_endian(static_cast<std::uint64_t>(value), 4);
}
inline std::string global(std::string_view module, std::string_view name) {
  return "c" + std::string(module) + "\n" + std::string(name) + "\n";
}
inline std::string proto2(std::string_view body) { return "\x80\x02" + std::string(body) + "."; }

inline std::string storage_class(Dtype dtype) {
  switch (dtype) {
    case Dtype::kF32:
      return global("torch", "FloatStorage");
    case Dtype::kF16:
      return global("torch", "HalfStorage");
    case Dtype::kBf16:
      return global("torch", "BFloat16Storage");
    default:
      return global("torch.storage", "UntypedStorage");
  }
}

/// The opcodes of one tensor over a storage of its own. `legacy` ids have a sixth part.
inline std::string pickled_tensor(const RawTensor& tensor, const std::string& key, bool legacy) {
  const bool float8 = bytes_of(tensor.dtype) == 1;
  const auto elements = static_cast<std::int64_t>(tensor.rows * tensor.columns);
  std::string out = global("torch._utils", float8 ? "_rebuild_tensor_v3" : "_rebuild_tensor_v2");
  out += "((" + unicode("storage") + storage_class(tensor.dtype) + unicode(key) + unicode("cpu") +
         whole(elements);
  out += std::string(legacy ? "N" : "") + "tQ" + whole(0);
  out += whole(static_cast<std::int64_t>(tensor.rows)) + whole(static_cast<std::int64_t>(tensor.columns)) +
         "\x86";
  out += whole(static_cast<std::int64_t>(tensor.columns)) + whole(1) + "\x86\x89";
  out += global("collections", "OrderedDict") + ")R";
  if (float8) out += global("torch", tensor.dtype == Dtype::kF8E4M3 ? "float8_e4m3fn" : "float8_e5m2");
  return out + "tR";
}

/// {name: tensor, ...} with storages called 0, 1, ...
inline std::string pickled_dict(const std::vector<RawTensor>& tensors, bool legacy) {
  std::string body = "}(";
  for (std::size_t i = 0; i < tensors.size(); ++i)
    body += unicode(tensors[i].name) + pickled_tensor(tensors[i], std::to_string(i), legacy);
  return proto2(body + "u");
}

/// A whole file as torch saved it before 1.6.
inline std::string legacy_file(const std::vector<RawTensor>& tensors, bool little_endian_machine = true) {
  const std::string magic("\x8A\x0A\x6C\xFC\x9C\x46\xF9\x20\x6A\xA8\x50\x19", 12);
  std::string file = proto2(magic) + proto2(whole(1001));
  file += proto2("}(" + unicode("protocol_version") + whole(1001) + unicode("little_endian") +
                 (little_endian_machine ? "\x88" : "\x89") + "u");
  file += pickled_dict(tensors, /*legacy=*/true);
  std::string keys = "](";
  for (std::size_t i = 0; i < tensors.size(); ++i) keys += unicode(std::to_string(i));
  file += proto2(keys + "e");
  for (const RawTensor& tensor : tensors) file += little_endian(tensor.rows * tensor.columns) + tensor.bytes;
  return file;
}

}  // namespace loracle::testing
