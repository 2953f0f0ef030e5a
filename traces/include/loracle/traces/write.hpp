#pragma once
/// Writes a trace as our own JSONL (documented in traces/README.md): one line an adapter, in row order, then
/// one line a request, in order.
///   {"type":"adapter","adapter":"sql","bytes":1234,"rank":16}
///   {"arrival_s":0.25,"adapter":"sql","input_tokens":10,"output_tokens":3,"tenant":"a","duration_s":1.5}
///   {"arrival_s":0.5,"adapter":["sql","style"]}      several together; with neither key: the base model
/// A field is left out where the trace has no such column (bytes and rank: where unknown). Numbers are the
/// shortest that read back equal. `read_trace` gives the same requests, uses, times, tokens and adapters
/// back; source, mapping, skipped_lines and tenants without a request are not kept.
/// Cost: one pass; memory: one 256 KiB buffer. Threads: any.

#include <cstdio>
#include <functional>
#include <span>
#include <string>

#include "loracle/core/result.hpp"
#include "loracle/traces/trace.hpp"

namespace loracle {

/// Takes the bytes of a trace in order; its error ends the writing.
using ByteSink = std::function<Result<Unit>(std::span<const char>)>;

/// Errors: kInvalid (the trace fails check_trace, or a name is not UTF-8, as JSON must be), and whatever the
/// sink answers.
[[nodiscard]] Result<Unit> write_jsonl(const Trace& trace, const ByteSink& sink);

/// Streams to an open file (stdout, a pipe) and flushes it. Errors: kInvalid, kIo (detail = errno).
[[nodiscard]] Result<Unit> write_jsonl(const Trace& trace, std::FILE* file);

/// Writes a temporary file beside `path`, flushes it to the disk and renames it. Errors: kInvalid, kIo.
[[nodiscard]] Result<Unit> write_jsonl(const Trace& trace, const std::string& path);

}  // namespace loracle
