#pragma once
/// `.ltr`: a trace as a memory-mapped columnar file. Opening maps it and reads no column, so a trace of any
/// size is ready in well under 10 ms and its pages are shared by every process that uses it.
///
/// File, version 1. All numbers little-endian.
///   offset  bytes
///        0      8  magic: 89 'L' 'T' 'R' 0D 0A 1A 0A (shows text-mode damage, as PNG's does)
///        8      4  u32  version: 1
///       12      4  u32  sections: n, 0 .. 16
///       16      8  u64  length of the file in bytes
///       24      8  u64  requests
///       32      8  u64  skipped_lines
///       40     16       zero
///       56      8  u64  XXH3-64 (seed 0) of bytes 0 .. 55 followed by the section table
///       64   32*n       section table, one entry a section, kinds strictly ascending:
///          +0   4  u32  kind
///          +4   4  u32  bytes of an element
///          +8   8  u64  offset of the section in the file
///         +16   8  u64  elements, at least 1 (an empty column has no section)
///         +24   8  u64  XXH3-64 (seed 0) of the section's bytes
///   Sections follow in the table's order, each at the next multiple of 64; the gaps are zero; the file ends
///   with the last section (or the table).
///   kind  column            element      kind  column               element
///      1  source            char            9  tenant               u32
///      2  format            char           10  duration_s           IEEE binary32
///      3  mapping           char           11  adapter name begin   u64
///      4  uses              u32            12  adapter name text    char
///      5  use_begin         u64            13  adapter bytes        u64
///      6  arrival_s         IEEE binary64  14  adapter rank         u16
///      7  input_tokens      u32            15  tenant name begin    u64
///      8  output_tokens     u32            16  tenant name text     char
///   Columns mean what trace.hpp says. Names are UTF-8 by custom; nothing here looks inside them.
///
/// A written file is never changed in place (write_ltr renames a finished one over the old), so a mapping
/// stays whole. Whoever truncates a mapped file by other means earns SIGBUS, as with any mapping.
/// Errors: kNotFound; kIo (detail = errno); kCorrupt (not an .ltr, truncated, damaged, or breaking a promise
/// of trace.hpp); kUnsupported (a later version, or a section kind of one). Messages begin with the path.
/// Threads: any.

#include <string>

#include "loracle/core/result.hpp"
#include "loracle/traces/trace.hpp"

namespace loracle {

/// Maps a file and checks header, section table and lengths: the first page, and the two ends of every offset
/// column. Contents are not checked: a file from elsewhere goes through `read_ltr`.
[[nodiscard]] Result<Trace> open_ltr(const std::string& path);

/// `open_ltr`, then reads everything: checksums, gaps, and every row, offset, tenant and time
/// (check_trace.hpp).
[[nodiscard]] Result<Trace> read_ltr(const std::string& path);

/// `read_ltr` for its verdict alone.
[[nodiscard]] Result<Unit> verify_ltr(const std::string& path);

/// Writes a temporary file beside `path`, flushes it to the disk and renames it: `path` is the old file or
/// the whole new one, never a part. The trace is checked first (kInvalid), so what is written can be read.
/// Equal traces give equal bytes.
[[nodiscard]] Result<Unit> write_ltr(const Trace& trace, const std::string& path);

}  // namespace loracle
