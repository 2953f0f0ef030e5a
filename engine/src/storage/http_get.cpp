#include "loracle/storage/http_get.hpp"

#include <fmt/format.h>

#include <memory>
#include <utility>

#include "storage/http_transport.hpp"

namespace loracle {

Result<std::string> http_get(const std::string& url, std::size_t bytes_max) {
  Result<std::unique_ptr<HttpTransport>> transport = HttpTransport::make({});
  if (!transport) return fail(std::move(transport.error()));
  std::string body;
  HttpCall call;
  call.url = url;
  call.on_head = [](const HttpAnswer& head) -> Result<bool> { return head.status == 200; };
  call.on_bytes = [&](std::span<const std::byte> bytes) -> Result<Unit> {
    if (bytes.size() > bytes_max - body.size())
      return fail(Errc::kTooLarge, fmt::format("{}: is larger than {} bytes", url, bytes_max));
    body.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    return Unit{};
  };
  HttpOutcome outcome = (*transport)->perform(call);
  if (outcome.error) return fail(std::move(*outcome.error));
  if (outcome.answer.status == 200) return body;
  return fail(outcome.answer.status == 404 ? Errc::kNotFound : Errc::kIo,
              fmt::format("{}: the server answers {}", url, outcome.answer.status), outcome.answer.status);
}

}  // namespace loracle
