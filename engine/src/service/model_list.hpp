#pragma once
/// The answer of /v1/models, kept for as long as it is true: with ten thousand adapters it has megabytes, and
/// clients ask for it every few seconds.
///
/// `created` of its cards is when they were written, as in vLLM; here that is when the list last changed.
/// Threads: any; who comes while it is being written waits for it.

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>

namespace loracle::service {

struct Api;

class ModelList {
 public:
  [[nodiscard]] std::shared_ptr<const std::string> text(const Api& api);

 private:
  std::mutex mutex_;  // guards all
  std::shared_ptr<const std::string> text_;
  std::uint64_t changes_ = 0;  // when it was written
};

}  // namespace loracle::service
