#pragma once
/// The header of a .safetensors file, read and checked without building a tree.
///
/// File: 8 bytes, the header's length N, little-endian; N bytes of JSON; the tensors' bytes. The JSON is an
/// object of `"name": {"dtype": "BF16", "shape": [16, 4096], "data_offsets": [begin, end]}`, offsets from the
/// end of the header, and at most one `"__metadata__"`, an object of strings. Blanks may follow it.
/// Checked: N <= 100 MB and within the file; the JSON is strict (RFC 8259, UTF-8); names are unique; dtype,
/// shape and offsets are each there once; elements x size = end - begin without overflow; and the tensors lie
/// back to back from 0 to the end of the file, so that no byte belongs to two or to none.
/// Cost: one pass over the JSON, one allocation a table unless a name holds escapes; a sort only if the
/// tensors are not in order (the usual writers sort by dtype, then name, and lay them out so).
/// Errors: kCorrupt, kUnsupported (a dtype; named). Messages do not hold the path.
/// Source: github.com/huggingface/safetensors, README "Format" and safetensors/src/tensor.rs (v0.5).

#include <cstdint>

#include "loracle/core/result.hpp"
#include "loracle/engine/files.hpp"
#include "tensor_table.hpp"

namespace loracle {

inline constexpr std::uint64_t kSafetensorsHeaderMax = 100'000'000;

/// "BF16", "F8_E4M3", ...
[[nodiscard]] std::string_view safetensors_name(Dtype dtype) noexcept;

/// Moves the header's text in; `file_bytes` is the whole file's size. Offsets of the answer count from the
/// start of the file. REQUIRES: the file is at least 8 + header.size() bytes.
[[nodiscard]] Result<TensorTable> parse_safetensors_header(std::vector<char> header,
                                                           std::uint64_t file_bytes);

/// The same of an open file: two reads. Messages begin with the path.
[[nodiscard]] Result<TensorTable> read_safetensors_header(OpenFile& file, const std::string& path);

}  // namespace loracle
