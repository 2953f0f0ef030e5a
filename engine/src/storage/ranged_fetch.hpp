#pragma once
/// A range of one object over HTTP, whatever happens on the way: what S3 and plain HTTP share.
///
/// A broken attempt goes on at the byte that was reached. The first answer's version (the caller's, if it
/// names one) is the only one from which bytes are taken: another ETag, or a 412, is kCorrupt. Each answer
/// must be the range that was asked for. Where the range is the whole object, and the answer carries a
/// checksum of it, the checksum is compared at the end. Such a one is asked for without a Range header: some
/// stores (SeaweedFS) name no checksum in answers to one that has it.
/// Threads: one owner.

#include <atomic>
#include <functional>
#include <string>

#include "loracle/core/result.hpp"
#include "loracle/storage/provider.hpp"
#include "storage/http_transport.hpp"
#include "storage/retry.hpp"

namespace loracle {

/// Tells versions of an object apart: the ETag, or else Last-Modified and the length; empty: nothing does.
[[nodiscard]] std::string version_of(const HttpAnswer& head);
/// The object's size, from the header of a GET with a range or of a HEAD. Errors: kCorrupt (it is missing).
[[nodiscard]] Result<std::uint64_t> size_of_object(const HttpAnswer& head, const std::string& uri);

/// Sends the call; fills in URL, method and whatever else it needs besides the headers given.
using SendCall = std::function<HttpOutcome(HttpCall call)>;
/// The error of an answer that is neither 200 nor 206.
using ErrorOfAnswer = std::function<Error(const HttpAnswer& answer)>;

struct RangedFetch {
  const std::string& uri;  // as it may be shown
  const FetchRange& range;
  const ByteSink& sink;
  const SendCall& send;
  const ErrorOfAnswer& error_of;
  const std::atomic<bool>& stopped;  // then nothing is tried again
  bool allow_coding = false;         // a Content-Encoding is the object's own (S3), not the server's doing
};

[[nodiscard]] Result<Unit> fetch_range(const RangedFetch& fetch, const RetryOptions& retry);

}  // namespace loracle
