#pragma once
/// The JSON object of a request's body, read strictly: UTF-8, depth bounded, no key twice, none unknown, each
/// value of the type that is asked for. Every refusal names the key.
/// Errors: kInvalid.

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "loracle/core/result.hpp"

namespace loracle::service {

inline constexpr int kBodyDepthMax = 8;

class JsonBody {
 public:
  /// An empty text is the empty object. `keys`: all there may be; `strict` false lets others and repeats
  /// through, of which the last counts, as vLLM does.
  [[nodiscard]] static Result<JsonBody> parse(std::string_view text, std::span<const std::string_view> keys,
                                              bool strict = true);
  JsonBody(JsonBody&&) noexcept;
  JsonBody& operator=(JsonBody&&) noexcept;
  ~JsonBody();

  /// Absent, or null where that is allowed: nothing.
  [[nodiscard]] Result<std::optional<std::string>> text(std::string_view key) const;
  [[nodiscard]] Result<std::string> required_text(std::string_view key) const;
  /// A finite number from `low` to `high`.
  [[nodiscard]] Result<std::optional<double>> number(std::string_view key, double low, double high) const;
  [[nodiscard]] Result<bool> boolean(std::string_view key, bool otherwise) const;
  /// A list of 1 to `count_max` texts, none empty, none twice.
  [[nodiscard]] Result<std::vector<std::string>> texts(std::string_view key, std::size_t count_max) const;
  /// A list of 1 to `count_max` objects with these keys, each again a body.
  [[nodiscard]] Result<std::vector<JsonBody>> objects(std::string_view key,
                                                      std::span<const std::string_view> keys,
                                                      std::size_t count_max) const;

 private:
  struct State;
  explicit JsonBody(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace loracle::service
