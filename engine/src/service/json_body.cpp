#include "service/json_body.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "loracle/core/nearest.hpp"

namespace loracle::service {
namespace {

using nlohmann::json;

constexpr std::size_t kKeyShownMax = 64;  // bytes of a foreign key that a message repeats

/// Walks the text without building anything: stops at what may not be built.
class Guard final : public nlohmann::json_sax<json> {
 public:
  explicit Guard(bool refuse_repeats) : refuse_repeats_(refuse_repeats) {}
  [[nodiscard]] const std::string& fault() const noexcept { return fault_; }

  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool start_object(std::size_t) override {
    keys_.emplace_back();
    return enter();
  }
  bool key(string_t& name) override {
    if (keys_.back().insert(name).second || !refuse_repeats_) return true;
    fault_ = fmt::format("the key '{}' is given twice", name.substr(0, kKeyShownMax));
    return false;
  }
  bool end_object() override {
    keys_.pop_back();
    --depth_;
    return true;
  }
  bool start_array(std::size_t) override { return enter(); }
  bool end_array() override {
    --depth_;
    return true;
  }
  bool parse_error(std::size_t at, const std::string&, const nlohmann::detail::exception&) override {
    fault_ = fmt::format("the body is not JSON in UTF-8: it goes wrong at byte {}", at);
    return false;
  }

 private:
  bool enter() {
    if (++depth_ <= kBodyDepthMax) return true;
    fault_ = fmt::format("the body is nested more than {} deep", kBodyDepthMax);
    return false;
  }

  bool refuse_repeats_;
  int depth_ = 0;
  std::vector<std::set<std::string>> keys_;
  std::string fault_;
};

Result<Unit> check_keys(const json& object, std::span<const std::string_view> keys) {
  for (const auto& [name, value] : object.items()) {
    const bool is_known = std::find(keys.begin(), keys.end(), name) != keys.end();
    if (is_known && value.is_null())
      return fail(Errc::kInvalid, fmt::format("{} is null: give a value, or leave the key out", name));
    if (is_known) continue;
    return fail(Errc::kInvalid, unknown_name_message("key", name.substr(0, kKeyShownMax), keys));
  }
  return Unit{};
}

}  // namespace

struct JsonBody::State {
  State() : object(json::object()) {}

  json object;
};

JsonBody::JsonBody(std::unique_ptr<State> state) : state_(std::move(state)) {}
JsonBody::JsonBody(JsonBody&&) noexcept = default;
JsonBody& JsonBody::operator=(JsonBody&&) noexcept = default;
JsonBody::~JsonBody() = default;

Result<JsonBody> JsonBody::parse(std::string_view text, std::span<const std::string_view> keys, bool strict) {
  auto state = std::make_unique<State>();
  state->object = json::object();
  if (!text.empty()) {
    Guard guard(strict);
    if (!json::sax_parse(text, &guard)) return fail(Errc::kInvalid, guard.fault());
    state->object = json::parse(text, nullptr, false);
    if (!state->object.is_object()) return fail(Errc::kInvalid, "the body is not a JSON object: send {...}");
  }
  if (strict)
    if (Result<Unit> known = check_keys(state->object, keys); !known) return fail(std::move(known.error()));
  return JsonBody(std::move(state));
}

Result<std::optional<std::string>> JsonBody::text(std::string_view key) const {
  const auto found = state_->object.find(key);
  if (found == state_->object.end() || found->is_null()) return std::nullopt;
  if (!found->is_string()) return fail(Errc::kInvalid, fmt::format("{} must be a string", key));
  return found->get<std::string>();
}

Result<std::string> JsonBody::required_text(std::string_view key) const {
  Result<std::optional<std::string>> value = text(key);
  if (!value) return fail(std::move(value.error()));
  if (!*value || (*value)->empty())
    return fail(Errc::kInvalid, fmt::format("{} is missing: give it as a string", key));
  return std::move(**value);
}

Result<std::optional<double>> JsonBody::number(std::string_view key, double low, double high) const {
  const auto found = state_->object.find(key);
  if (found == state_->object.end() || found->is_null()) return std::nullopt;
  const double value = found->is_number() ? found->get<double>() : std::nan("");
  if (!(value >= low && value <= high))
    return fail(Errc::kInvalid, fmt::format("{} must be a number from {:g} to {:g}", key, low, high));
  return value;
}

Result<bool> JsonBody::boolean(std::string_view key, bool otherwise) const {
  const auto found = state_->object.find(key);
  if (found == state_->object.end() || found->is_null()) return otherwise;
  if (!found->is_boolean()) return fail(Errc::kInvalid, fmt::format("{} must be true or false", key));
  return found->get<bool>();
}

Result<std::vector<std::string>> JsonBody::texts(std::string_view key, std::size_t count_max) const {
  const auto found = state_->object.find(key);
  const auto refused = [&] {
    return fail(Errc::kInvalid,
                fmt::format("{} must be a list of 1 to {} strings, none empty, none twice", key, count_max));
  };
  if (found == state_->object.end() || !found->is_array() || found->empty() || found->size() > count_max)
    return refused();
  std::vector<std::string> values;
  std::set<std::string> seen;
  for (const json& value : *found) {
    if (!value.is_string() || value.get_ref<const std::string&>().empty()) return refused();
    if (!seen.insert(value.get<std::string>()).second) return refused();
    values.push_back(value.get<std::string>());
  }
  return values;
}

Result<std::vector<JsonBody>> JsonBody::objects(std::string_view key, std::span<const std::string_view> keys,
                                                std::size_t count_max) const {
  const auto found = state_->object.find(key);
  const auto refused = [&] {
    return fail(Errc::kInvalid, fmt::format("{} must be a list of 1 to {} objects", key, count_max));
  };
  if (found == state_->object.end() || !found->is_array() || found->empty() || found->size() > count_max)
    return refused();
  std::vector<JsonBody> values;
  for (const json& value : *found) {
    if (!value.is_object()) return refused();
    if (Result<Unit> known = check_keys(value, keys); !known) return fail(std::move(known.error()));
    auto state = std::make_unique<State>();
    state->object = value;
    values.push_back(JsonBody(std::move(state)));
  }
  return values;
}

}  // namespace loracle::service
