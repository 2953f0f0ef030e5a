#pragma once
/// How an operation that the world can make fail answers: `Result<T>`, a value or an `Error`. Nothing throws.
/// This is the one header that names tl::expected, so that std::expected can take its place.

#include <cstdint>
#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <utility>

namespace loracle {

/// The kinds of failure a caller can act on. Bytes of these values may reach files: never renumber.
enum class Errc : std::uint8_t {
  kInvalid = 1,    // the caller's argument, flag or configuration is wrong
  kNotFound = 2,   // no such file, adapter, policy or model
  kIo = 3,         // the system refused or failed (`detail` = errno)
  kCorrupt = 4,    // the bytes are there but are not what they claim to be
  kTooLarge = 5,   // cannot fit even when everything else is gone
  kAllPinned = 6,  // nothing may be evicted: everything left is pinned, leased or part of the request
  kUnsupported = 7,
  kBusy = 8,        // locked by another process, or too many wait already: try again
  kDeadline = 9,    // not done in the time given
  kCancelled = 10,  // withdrawn, or shut down, while it was waited for
};

/// The kind's name as printed in logs and JSON: "invalid", "not_found", ...
[[nodiscard]] std::string_view name_of(Errc code) noexcept;

/// What went wrong. `message` is for a person and says what was wrong, where, and what to do.
struct Error {
  Errc code = Errc::kInvalid;
  std::string message;
  std::int64_t detail = 0;  // errno, HTTP status, sqlite or CUDA code; 0 where there is none
};

template <class T>
using Result = tl::expected<T, Error>;

/// The value of a Result that has none.
struct Unit {};

/// `return fail(Errc::kIo, "trace.csv: cannot read: ...")` from a function that returns any Result.
[[nodiscard]] inline tl::unexpected<Error> fail(Errc code, std::string message, std::int64_t detail = 0) {
  return tl::unexpected<Error>(Error{code, std::move(message), detail});
}
[[nodiscard]] inline tl::unexpected<Error> fail(Error error) {
  return tl::unexpected<Error>(std::move(error));
}

}  // namespace loracle
