#include "storage/ranged_fetch.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <optional>

#include "loracle/core/check.hpp"
#include "storage/object_checksum.hpp"

namespace loracle {
namespace {

/// Of a whole object, to reach the bytes that are wanted. More of them for each part of a long object would
/// be many times the object.
constexpr std::uint64_t kSkipBytesMax = 1U << 20U;
constexpr std::string_view kByDate = "date:";  // versions we made up begin with it; an ETag is quoted

std::optional<std::uint64_t> number_in(std::string_view text) noexcept {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

struct ContentRange {
  std::uint64_t first = 0;
  std::uint64_t last = 0;
  std::optional<std::uint64_t> total;  // nullopt: "*"
};

/// "bytes 0-9/100".
std::optional<ContentRange> content_range_of(const HttpAnswer& head) {
  const std::optional<std::string> header = header_of(head.headers, "content-range");
  if (!header || !header->starts_with("bytes ")) return std::nullopt;
  const std::string_view text = std::string_view(*header).substr(6);
  const std::size_t dash = text.find('-');
  const std::size_t slash = text.find('/');
  if (dash == std::string_view::npos || slash == std::string_view::npos || slash < dash) return std::nullopt;
  const auto first = number_in(text.substr(0, dash));
  const auto last = number_in(text.substr(dash + 1, slash - dash - 1));
  const std::string_view total = text.substr(slash + 1);
  if (!first || !last || *last < *first || (total != "*" && !number_in(total))) return std::nullopt;
  return ContentRange{*first, *last, number_in(total)};
}

class Receiver {
 public:
  explicit Receiver(const RangedFetch& fetch) : fetch_(fetch), version_(fetch.range.etag) {}

  [[nodiscard]] bool complete() const noexcept { return reached_ == fetch_.range.length; }
  [[nodiscard]] std::uint64_t reached() const noexcept { return reached_; }

  [[nodiscard]] HttpHeaders headers() const {
    HttpHeaders headers;
    if (!fetch_.range.is_whole || reached_ > 0) {
      headers.emplace_back("Range", fmt::format("bytes={}-{}", fetch_.range.offset + reached_,
                                                fetch_.range.offset + fetch_.range.length - 1));
    }
    // A weak ETag never matches If-Match, and a date is no ETag; both are compared in the answer.
    if (version_.starts_with('"')) headers.emplace_back("If-Match", version_);
    return headers;
  }

  [[nodiscard]] Result<bool> begin(const HttpAnswer& head) {
    if (head.status != 200 && head.status != 206) return false;
    if (const auto coding = header_of(head.headers, "content-encoding");
        coding && !fetch_.allow_coding && *coding != "identity")
      return fail(Errc::kUnsupported,
                  fmt::format("{}: is sent as '{}', though it was not asked for: its own bytes are wanted",
                              fetch_.uri, *coding));
    const std::string version = version_of(head);
    if (version_.empty()) version_ = version;
    if (version != version_) return changed();
    const FetchRange& range = fetch_.range;
    const std::uint64_t end = range.offset + range.length;
    std::optional<std::uint64_t> total;
    if (head.status == 206) {
      const std::optional<ContentRange> content = content_range_of(head);
      if (!content || content->first != range.offset + reached_ || content->last != end - 1)
        return fail(Errc::kCorrupt,
                    fmt::format("{}: bytes {}-{} were asked for, and '{}' is what came", fetch_.uri,
                                range.offset + reached_, end - 1,
                                header_of(head.headers, "content-range").value_or("no Content-Range")),
                    206);
      skip_ = 0;
      total = content->total;
    } else {  // a server that knows no ranges: what lies before ours goes by unused
      if (reached_ == 0 && range.offset > kSkipBytesMax) {
        return fail(Errc::kUnsupported,
                    fmt::format("{}: the server knows no ranges, and sends {} bytes before "
                                "those that were asked for",
                                fetch_.uri, range.offset));
      }
      skip_ = range.offset + reached_;
      if (const auto length = header_of(head.headers, "content-length")) total = number_in(*length);
    }
    if (total && *total < end) {
      return fail(Errc::kCorrupt, fmt::format("{}: has {} bytes, bytes {}-{} were asked for: did it change?",
                                              fetch_.uri, *total, range.offset, end - 1));
    }
    const bool whole = range.offset == 0 && total == range.length;
    if (reached_ == 0 && whole) {
      expected_ = checksum_of_object(head.headers);
      // In a partial answer it is of that part, to some; and here the part is the whole.
      if (expected_) checksum_ = make_checksum(expected_->kind);
    }
    return true;
  }

  [[nodiscard]] Result<Unit> take(std::span<const std::byte> bytes) {
    if (skip_ > 0) {
      const std::uint64_t skipped = std::min<std::uint64_t>(skip_, bytes.size());
      skip_ -= skipped;
      bytes = bytes.subspan(skipped);
    }
    const std::uint64_t left = fetch_.range.length - reached_;
    const bool more = bytes.size() > left;
    if (more) bytes = bytes.first(left);
    if (!bytes.empty()) {
      if (checksum_ != nullptr) checksum_->add(bytes);
      if (auto taken = fetch_.sink(fetch_.range.offset + reached_, bytes); !taken)
        return fail(std::move(taken.error()));
      reached_ += bytes.size();
    }
    // After the last byte of ours, the rest of a whole object is not worth waiting for.
    if (more) return fail(Errc::kCancelled, "");
    return Unit{};
  }

  [[nodiscard]] Result<Unit> finish() {
    if (checksum_ == nullptr) return Unit{};
    const std::string found = checksum_->finish();
    if (found.empty() || found == expected_->base64) return Unit{};
    return fail(
        Errc::kCorrupt,
        fmt::format("{}: its {} is {}, the store says {}: the bytes were damaged on the way, or in the "
                    "store",
                    fetch_.uri, name_of(expected_->kind), found, expected_->base64));
  }

  [[nodiscard]] tl::unexpected<Error> changed() const {
    return fail(
        Errc::kCorrupt,
        fmt::format("{}: changed while it was read: nothing of it is used; read it again", fetch_.uri), 412);
  }

 private:
  const RangedFetch& fetch_;
  std::string version_;
  std::uint64_t reached_ = 0;  // bytes of the range that the sink has
  std::uint64_t skip_ = 0;     // of this attempt's body
  std::optional<ExpectedChecksum> expected_;
  std::unique_ptr<RunningChecksum> checksum_;
};

}  // namespace

std::string version_of(const HttpAnswer& head) {
  if (const auto etag = header_of(head.headers, "etag"); etag && !etag->empty())
    return etag->starts_with('"') || etag->starts_with("W/") ? *etag : fmt::format("\"{}\"", *etag);
  const auto date = header_of(head.headers, "last-modified");
  if (!date) return {};
  std::string length = header_of(head.headers, "content-length").value_or("");
  if (const auto range = content_range_of(head); head.status == 206)
    length = range && range->total ? fmt::format("{}", *range->total) : "";
  return fmt::format("{}{};{}", kByDate, *date, length);
}

Result<std::uint64_t> size_of_object(const HttpAnswer& head, const std::string& uri) {
  std::optional<std::uint64_t> size;
  if (head.status == 206) {
    if (const auto range = content_range_of(head)) size = range->total;
  } else if (const auto length = header_of(head.headers, "content-length")) {
    size = number_in(*length);
  }
  if (!size) return fail(Errc::kCorrupt, fmt::format("{}: the server does not say how long it is", uri));
  return *size;
}

Result<Unit> fetch_range(const RangedFetch& fetch, const RetryOptions& retry) {
  const FetchRange& range = fetch.range;
  LORACLE_CHECK(range.length > 0);
  LORACLE_CHECK(!range.is_whole || range.offset == 0);
  if (range.offset + range.length < range.offset)
    return fail(Errc::kInvalid, fmt::format("{}: a range beyond any size", fetch.uri));
  Receiver receiver(fetch);
  Backoff backoff(retry, backoff_seed());
  const HttpOutcome outcome = with_retries(backoff, fetch.stopped, [&] {
    const std::uint64_t before = receiver.reached();
    HttpCall call;
    call.headers = receiver.headers();
    call.on_head = [&](const HttpAnswer& head) { return receiver.begin(head); };
    call.on_bytes = [&](std::span<const std::byte> bytes) { return receiver.take(bytes); };
    HttpOutcome sent = fetch.send(std::move(call));
    backoff.progress(receiver.reached() - before);
    const bool good = sent.answer.status == 200 || sent.answer.status == 206;
    if (good && !sent.error && !receiver.complete()) {
      // Neither a length nor the end of a chunked body told libcurl that something is missing.
      sent.error = Error{
          Errc::kIo, fmt::format("{}: ended at byte {} of {}", fetch.uri, receiver.reached(), range.length)};
      sent.may_retry = true;
    }
    if (receiver.complete()) sent.error.reset(), sent.may_retry = false;
    return sent;
  });
  if (receiver.complete()) return receiver.finish();
  if (!outcome.error) {
    if (outcome.answer.status == 412) return receiver.changed();
    if (outcome.answer.status == 416) {
      if (!range.etag.empty() || receiver.reached() > 0) return receiver.changed();
      return fail(
          Errc::kInvalid,
          fmt::format("{}: has no bytes {}-{}", fetch.uri, range.offset, range.offset + range.length - 1),
          416);
    }
    return fail(given_up(fetch.error_of(outcome.answer), outcome, backoff));
  }
  return fail(given_up(*outcome.error, outcome, backoff));
}

}  // namespace loracle
