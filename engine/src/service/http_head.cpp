#include "service/http_head.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>

namespace loracle::service {
namespace {

auto refuse(int status, std::string message) {
  return fail(status == 413 || status == 414 || status == 431 ? Errc::kTooLarge : Errc::kInvalid,
              std::move(message), status);
}

bool is_token(std::string_view text) noexcept {
  constexpr std::string_view kOthers = "!#$%&'*+-.^_`|~";
  return !text.empty() && std::all_of(text.begin(), text.end(), [&](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           kOthers.find(c) != std::string_view::npos;
  });
}

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return out;
}

std::string_view trimmed(std::string_view text) noexcept {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

Result<Unit> take_request_line(std::string_view line, const HeadLimits& limits, RequestHead& head) {
  const std::size_t first = line.find(' ');
  const std::size_t last = line.rfind(' ');
  if (first == std::string_view::npos || last == first)
    return refuse(400, "the request line is not METHOD TARGET HTTP/1.1");
  const std::string_view method = line.substr(0, first);
  const std::string_view target = line.substr(first + 1, last - first - 1);
  const std::string_view version = line.substr(last + 1);
  if (!is_token(method)) return refuse(400, "the request's method is no token");
  if (version != "HTTP/1.1" && version != "HTTP/1.0")
    return refuse(505, "only HTTP/1.0 and HTTP/1.1 are spoken here");
  if (target.size() > limits.target_bytes_max)
    return refuse(414, fmt::format("the request's target has {} bytes, {} are allowed", target.size(),
                                   limits.target_bytes_max));
  const bool is_plain =
      std::all_of(target.begin(), target.end(), [](char c) { return c > 0x20 && c < 0x7F; });
  if (target.empty() || target.front() != '/' || !is_plain)
    return refuse(400, "the request's target is not a path of printable ASCII: percent-encode the rest");
  head.method = method;
  head.target = target;
  head.is_http_1_1 = version == "HTTP/1.1";
  head.keep_alive = head.is_http_1_1;
  return Unit{};
}

/// What the headers say together.
struct Framing {
  std::optional<std::uint64_t> length;
  bool has_host = false;
};

Result<Unit> take_header(std::string_view line, const HeadLimits& limits, RequestHead& head,
                         Framing& framing) {
  if (line.front() == ' ' || line.front() == '\t') return refuse(400, "folded headers are not accepted");
  const std::size_t colon = line.find(':');
  if (colon == std::string_view::npos || !is_token(line.substr(0, colon)))
    return refuse(400, "a header line is not NAME: VALUE");
  const std::string name = lower(line.substr(0, colon));
  const std::string_view value = trimmed(line.substr(colon + 1));
  const auto is_control = [](char c) { return (c >= 0 && c < 0x20 && c != '\t') || c == 0x7F; };
  if (std::any_of(value.begin(), value.end(), is_control))
    return refuse(400, fmt::format("the header {} has a control character", name));
  if (name == "content-length") {
    std::uint64_t length = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), length);
    const bool is_number = error == std::errc{} && end == value.data() + value.size();
    if (!is_number && error != std::errc::result_out_of_range)
      return refuse(400, "Content-Length is not a number");
    if (framing.length) return refuse(400, "Content-Length is given twice");
    if (!is_number || length > limits.body_bytes_max)
      return refuse(413, fmt::format("the body has more than {} bytes, which is the limit here",
                                     limits.body_bytes_max));
    framing.length = length;
    return Unit{};
  }
  if (name == "transfer-encoding")
    return refuse(411, "a body's length must be known before it comes: send Content-Length, not chunks");
  if (name == "content-encoding" && lower(value) != "identity")
    return refuse(415, "bodies are accepted as they are, not compressed");
  if (name == "expect") {
    if (lower(value) != "100-continue") return refuse(417, "only Expect: 100-continue is understood");
    head.expects_continue = true;
    return Unit{};
  }
  if (name == "connection") {
    const std::string options = lower(value);
    if (options.find("close") != std::string::npos)
      head.keep_alive = false;
    else if (options.find("keep-alive") != std::string::npos)
      head.keep_alive = true;
    return Unit{};
  }
  if (name == "host") framing.has_host = true;
  head.headers.emplace_back(name, value);
  return Unit{};
}

}  // namespace

Result<RequestHead> parse_head(std::string_view text, const HeadLimits& limits) {
  if (text.size() > limits.head_bytes_max)
    return refuse(431, fmt::format("the request's head has more than {} bytes", limits.head_bytes_max));
  RequestHead head;
  Framing framing;
  std::size_t lines = 0;
  while (!text.empty()) {
    const std::size_t end = text.find('\n');
    if (end == std::string_view::npos || end == 0 || text[end - 1] != '\r')
      return refuse(400, "lines of a head end in CR LF");
    const std::string_view line = text.substr(0, end - 1);
    text.remove_prefix(end + 1);
    if (line.empty()) break;
    if (lines == 0) {
      if (Result<Unit> ok = take_request_line(line, limits, head); !ok) return fail(std::move(ok.error()));
    } else {
      if (lines > limits.headers_max)
        return refuse(431, fmt::format("the request has more than {} headers", limits.headers_max));
      if (Result<Unit> ok = take_header(line, limits, head, framing); !ok) return fail(std::move(ok.error()));
    }
    ++lines;
  }
  if (lines == 0) return refuse(400, "the request has no request line");
  if (head.is_http_1_1 && !framing.has_host)
    return refuse(400, "HTTP/1.1 requests name their host in a Host header");
  head.body_bytes = framing.length.value_or(0);
  return head;
}

std::string_view reason_of(int status) noexcept {
  switch (status) {
    case 200:
      return "OK";
    case 204:
      return "No Content";
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 408:
      return "Request Timeout";
    case 409:
      return "Conflict";
    case 411:
      return "Length Required";
    case 413:
      return "Content Too Large";
    case 414:
      return "URI Too Long";
    case 415:
      return "Unsupported Media Type";
    case 417:
      return "Expectation Failed";
    case 422:
      return "Unprocessable Content";
    case 431:
      return "Request Header Fields Too Large";
    case 499:
      return "Client Closed Request";
    case 500:
      return "Internal Server Error";
    case 502:
      return "Bad Gateway";
    case 503:
      return "Service Unavailable";
    case 504:
      return "Gateway Timeout";
    case 505:
      return "HTTP Version Not Supported";
    default:
      return "Unknown";
  }
}

}  // namespace loracle::service
