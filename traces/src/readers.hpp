#pragma once
/// One function a format; `read_trace` chooses, and applies the mapping and fold afterwards.
/// Each fills requests, columns, adapters and skipped_lines; source, format and mapping are filled by
/// `read_trace`. Text readers answer the mappings lora, client and session themselves, as far as their source
/// has them; under any other mapping they may leave the uses empty, for `apply_mapping` to fill.
/// Errors: see read.hpp.

#include <string>
#include <string_view>

#include "byte_source.hpp"
#include "loracle/core/result.hpp"
#include "loracle/traces/read.hpp"
#include "loracle/traces/trace.hpp"
#include "mapping.hpp"

namespace loracle {

using TextFormatReader = Result<Trace>(ByteSource& source, const std::string& path,
                                       const ReadOptions& options, const Mapping& mapping);

TextFormatReader read_jsonl;
TextFormatReader read_csv;
TextFormatReader read_azure;
TextFormatReader read_burstgpt;
TextFormatReader read_mooncake;
TextFormatReader read_openai;
TextFormatReader read_gentd26;
TextFormatReader read_servegen;
TextFormatReader read_cache2k;  // binary: int32 keys

[[nodiscard]] Result<Trace> read_oracle_general(ByteSource& source, const std::string& path,
                                                const ReadOptions& options);

/// The format's name, by the file's first decompressed bytes and by its name; "" when neither tells.
///   ltr            its magic, or the name ends in .ltr
///   oracleGeneral  "oraclegeneral" is in the name
///   jsonl, mooncake, openai       the first line is an object; its keys tell which
///   azure, burstgpt, gentd26, servegen, csv   the first line has the columns of one, or columns named like
///                                             our fields;
///                                 csv also when the name ends in .csv or .tsv
///   cache2k        the name ends in .trace and the bytes are no text
/// A compression's ending (.gz .zst .xz) is taken off the name first; case does not matter.
[[nodiscard]] std::string_view detect_format(std::string_view path, std::string_view head);

}  // namespace loracle
