#include "catalog/catalog_state.hpp"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <utility>

namespace loracle {

Result<sqlite::Transaction> Catalog::State::begin_change() {
  if (read_only) {
    return fail(
        Errc::kInvalid,
        fmt::format("{}: the catalog was opened for reading only: open it for writing", database.path()));
  }
  return sqlite::Transaction::begin(database);
}

namespace catalog {
namespace {

using nlohmann::json;

// Raise it when inspection accepts or refuses other adapters than before: what earlier versions learnt is
// then looked at again.
constexpr int kInspectionVersion = 1;

/// Names from directories and configs need not be UTF-8; what is not is replaced, never a failure.
std::string dump(const json& value) { return value.dump(-1, ' ', false, json::error_handler_t::replace); }

tl::unexpected<Error> damaged(const std::string& where, std::string_view what) {
  return fail(Errc::kCorrupt, fmt::format("{}: the stored {} cannot be read: scan anew", where, what));
}

bool is_u32(const json& value) {
  return value.is_number_unsigned() && value.get<std::uint64_t>() <= UINT32_MAX;
}

void bind_stat(sqlite::Query& query, const FileStat& stat) {
  query.bind(stored(stat.size)).bind(stat.mtime_ns).bind(stat.ctime_ns);
  query.bind(stored(stat.inode)).bind(stored(stat.device));
}

FileStat read_stat(const sqlite::Query& query, int column) noexcept {
  FileStat stat;
  stat.size = loaded(query.integer(column));
  stat.mtime_ns = query.integer(column + 1);
  stat.ctime_ns = query.integer(column + 2);
  stat.inode = loaded(query.integer(column + 3));
  stat.device = loaded(query.integer(column + 4));
  if (stat != FileStat{}) stat.kind = FileKind::kRegular;  // what is not one is never believed unchanged
  return stat;
}

}  // namespace

std::string root_of(std::string_view root) {
  while (root.size() > 1 && root.back() == '/') root.remove_suffix(1);
  return std::string(root);
}

std::string rules_json(const AdapterRules& rules) {
  return dump({{"inspection", kInspectionVersion},
               {"max_lora_rank", rules.max_lora_rank},
               {"base_models", rules.base_models}});
}

Result<AdapterRules> parse_rules(std::string_view text, const std::string& where) {
  const json value = json::parse(text, nullptr, /*allow_exceptions=*/false);
  const auto rank = value.is_object() ? value.find("max_lora_rank") : value.end();
  const auto models = value.is_object() ? value.find("base_models") : value.end();
  if (rank == value.end() || models == value.end() || !is_u32(*rank)) return damaged(where, "rules");
  Result<std::vector<std::string>> names = parse_texts(dump(*models), where);
  if (!names) return fail(std::move(names.error()));
  return AdapterRules{rank->get<std::uint32_t>(), std::move(*names)};
}

std::string texts_json(const std::vector<std::string>& texts) { return dump(texts); }

Result<std::vector<std::string>> parse_texts(std::string_view text, const std::string& where) {
  const json value = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!value.is_array()) return damaged(where, "list of names");
  std::vector<std::string> texts;
  for (const json& item : value) {
    if (!item.is_string()) return damaged(where, "list of names");
    texts.push_back(item.get<std::string>());
  }
  return texts;
}

std::string modules_json(const std::vector<ShapeModule>& modules) {
  json value = json::array();
  for (const ShapeModule& module : modules)
    value.push_back(json::array({module.name, module.in, module.out, module.rank}));
  return dump(value);
}

Result<std::vector<ShapeModule>> parse_modules(std::string_view text, const std::string& where) {
  const json value = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!value.is_array()) return damaged(where, "shape");
  std::vector<ShapeModule> modules;
  for (const json& item : value) {
    if (!item.is_array() || item.size() != 4 || !item[0].is_string() || !is_u32(item[1]) ||
        !is_u32(item[2]) || !is_u32(item[3]))
      return damaged(where, "shape");
    modules.push_back({item[0].get<std::string>(), item[1].get<std::uint32_t>(), item[2].get<std::uint32_t>(),
                       item[3].get<std::uint32_t>()});
  }
  return modules;
}

void bind_stamp(sqlite::Query& query, const AdapterStamp& stamp) {
  bind_stat(query, stamp.weights);
  bind_stat(query, stamp.config);
  query.bind(stamp.taken_unix_s);
}

AdapterStamp read_stamp(const sqlite::Query& query, int first_column) noexcept {
  AdapterStamp stamp;
  stamp.weights = read_stat(query, first_column);
  stamp.config = read_stat(query, first_column + 5);
  stamp.taken_unix_s = query.integer(first_column + 10);
  return stamp;
}

Error unknown_id(const sqlite::Database& database, LoraId id) {
  return {Errc::kNotFound, fmt::format("{}: no adapter has the id {}", database.path(), id.value), 0};
}

Error unknown_name(const sqlite::Database& database, std::string_view name) {
  return {
      Errc::kNotFound,
      fmt::format("{}: no adapter is called '{}': refresh the catalog if it is new", database.path(), name),
      0};
}

}  // namespace catalog
}  // namespace loracle
