#include "service/model_list.hpp"

#include <fmt/format.h>

#include <iterator>
#include <string_view>
#include <utility>

#include "service/api.hpp"
#include "service/json_string.hpp"

namespace loracle::service {
namespace {

constexpr const char* kModelCard =
    R"({{"id":{},"object":"model","created":{},"owned_by":"vllm","root":{},"parent":{},)"
    R"("max_model_len":null,"permission":[{{"id":"modelperm-{}{:016x}","object":"model_permission",)"
    R"("created":{},"allow_create_engine":false,"allow_sampling":true,"allow_logprobs":true,)"
    R"("allow_search_indices":false,"allow_view":true,"allow_fine_tuning":false,"organization":"*",)"
    R"("group":null,"is_blocking":false}}]}})";

/// Written as text: a tree of it takes many times as long.
class ModelCards {
 public:
  explicit ModelCards(std::int64_t created) : created_(created) {}
  void add(std::string_view id, std::string_view root, std::string_view parent) {
    if (count_++ > 0) text_ += ',';
    fmt::format_to(std::back_inserter(text_), kModelCard, json_string(id), created_, json_string(root),
                   parent.empty() ? "null" : json_string(parent), answer_, count_, created_);
  }
  [[nodiscard]] std::string text() && { return std::move(text_) + "]}"; }

 private:
  std::int64_t created_;
  std::string answer_ = random_hex(8);  // with the number of the card: an id that nothing else has
  std::uint64_t count_ = 0;
  std::string text_ = R"({"object":"list","data":[)";
};

std::string cards_of(const Api& api) {
  ModelCards cards(api.clock.unix_s());
  const std::string& base_model = api.config.base_model;
  if (!base_model.empty()) cards.add(base_model, base_model, {});
  for (const AdapterStatus& adapter : api.engine.list()) {
    const std::string parent = api.base_models.of(adapter.name);
    cards.add(adapter.name, adapter.uri.empty() ? adapter.directory : adapter.uri,
              parent.empty() ? base_model : parent);
  }
  return std::move(cards).text();
}

}  // namespace

std::shared_ptr<const std::string> ModelList::text(const Api& api) {
  const std::lock_guard lock(mutex_);
  // Asked before the list is: what changes meanwhile is seen the next time. Both only grow.
  const std::uint64_t changes = api.engine.changes() + api.base_models.changes();
  if (text_ == nullptr || changes != changes_) {
    text_ = std::make_shared<const std::string>(cards_of(api));
    changes_ = changes;
  }
  return text_;
}

}  // namespace loracle::service
