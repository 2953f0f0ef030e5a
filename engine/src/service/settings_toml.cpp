/// Settings of a TOML file. The one file that knows toml++.

#include <fmt/format.h>
#include <toml++/toml.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "service/settings_table.hpp"

namespace loracle::service {
namespace {

/// What a file has for a setting, as the other sources would have it.
struct FileValues {
  std::vector<std::string> values;
  std::string mistake;  // of its type; empty: none
};

FileValues mistaken(std::string_view what) { return {{}, std::string(what)}; }

std::string json_of(const toml::table& table) {
  nlohmann::json json = nlohmann::json::object();
  for (const auto& [key, value] : table) {
    const auto text = value.value<std::string>();
    json[std::string(key.str())] = text && value.is_string() ? nlohmann::json(*text) : nlohmann::json(0);
  }
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

/// Turns a node into texts, if it has the type of the field.
struct ValuesOf {
  const toml::node& node;

  FileValues operator()(Field<bool>) const {
    if (!node.is_boolean()) return mistaken("takes true or false, without quotes");
    return {{*node.value<bool>() ? "true" : "false"}, {}};
  }
  FileValues operator()(Field<std::uint16_t>) const { return number(); }
  FileValues operator()(Field<std::uint32_t>) const { return number(); }
  FileValues operator()(Field<Bytes>) const {
    if (node.is_integer()) return number();
    if (node.is_string()) return text();
    return mistaken("takes a size, such as \"10GB\" or 1048576");
  }
  FileValues operator()(Field<std::string>) const { return text(); }
  FileValues operator()(Field<Dtype>) const { return text(); }
  FileValues operator()(Field<CacheType>) const { return text(); }
  FileValues operator()(Field<std::vector<std::string>>) const {
    if (node.is_string()) return text();
    const toml::array* const items = node.as_array();
    if (items == nullptr) return mistaken("takes a list of texts, such as [\"a\", \"b\"]");
    FileValues found;
    for (const toml::node& item : *items) {
      if (!item.is_string()) return mistaken("takes a list of texts, each in quotes");
      found.values.push_back(*item.value<std::string>());
    }
    return found;
  }
  FileValues operator()(Field<std::vector<LoraModuleSetting>>) const {
    if (node.is_string()) return text();
    const toml::array* const items = node.as_array();
    if (items == nullptr) return mistaken("takes a list of modules, such as [\"sql=/adapters/sql\"]");
    FileValues found;
    for (const toml::node& item : *items) {
      if (item.is_string())
        found.values.push_back(*item.value<std::string>());
      else if (const toml::table* const module = item.as_table())
        found.values.push_back(json_of(*module));
      else
        return mistaken(R"(takes a list of "NAME=PATH" or {name = "sql", path = "/adapters/sql"})");
    }
    return found;
  }

 private:
  [[nodiscard]] FileValues number() const {
    if (!node.is_integer()) return mistaken("takes a whole number, without quotes");
    return {{fmt::format("{}", *node.value<std::int64_t>())}, {}};
  }
  [[nodiscard]] FileValues text() const {
    if (!node.is_string()) return mistaken("takes a text, in quotes");
    return {{*node.value<std::string>()}, {}};
  }
};

/// Walks the tables of a file.
class FileReader {
 public:
  FileReader(ServiceConfig& config, std::vector<std::string>& origins, const std::string& path)
      : config_(config), origins_(origins), path_(path) {}

  void read(const toml::table& table, const std::string& section) {
    for (const auto& [key, node] : table) {
      const std::string name =
          section.empty() ? std::string(key.str()) : section + "." + std::string(key.str());
      const unsigned where = key.source().begin.line;
      const auto row = std::find_if(setting_rows().begin(), setting_rows().end(),
                                    [&](const SettingRow& r) { return r.name == name; });
      if (row != setting_rows().end())
        set(*row, node, where);
      else if (!is_section(name))
        unknown(name, section, node.is_table(), where);
      else if (const toml::table* const inner = node.as_table())
        read(*inner, name);
      else
        mistakes_.emplace_back(
            where, fmt::format("'{}' is a section: write [{}], and its settings below", name, name));
    }
  }

  /// Mistakes in the order of the file: tables are walked by name.
  [[nodiscard]] Result<Unit> outcome() {
    if (mistakes_.empty()) return Unit{};
    std::stable_sort(mistakes_.begin(), mistakes_.end(),
                     [](const auto& a, const auto& b) { return a.first < b.first; });
    std::string message;
    for (const auto& [line, mistake] : mistakes_)
      message += fmt::format("{}{}:{}: {}", message.empty() ? "" : "\n", path_, line, mistake);
    return fail(Errc::kCorrupt, std::move(message));
  }

 private:
  void set(const SettingRow& row, const toml::node& node, unsigned where) {
    const FileValues found = std::visit(ValuesOf{node}, row.target);
    if (!found.mistake.empty()) {
      mistakes_.emplace_back(where, fmt::format("{} {}", row.name, found.mistake));
      return;
    }
    if (const Result<Unit> assigned = assign(config_, row, found.values); !assigned)
      mistakes_.emplace_back(where, fmt::format("{}: {}", row.name, assigned.error().message));
    origins_[static_cast<std::size_t>(&row - setting_rows().data())] = fmt::format("{}:{}", path_, where);
  }

  [[nodiscard]] static bool is_section(std::string_view name) {
    return std::any_of(setting_rows().begin(), setting_rows().end(), [name](const SettingRow& row) {
      return row.name.size() > name.size() && row.name.starts_with(name) && row.name[name.size()] == '.';
    });
  }

  /// Names the nearest setting of the section; or the section that was meant; or where the key belongs.
  void unknown(const std::string& name, const std::string& section, bool is_table, unsigned where) {
    std::vector<std::string_view> names;
    for (const SettingRow& row : setting_rows()) {
      const std::string_view own = row.name.substr(0, row.name.find('.'));
      if (is_table)
        names.push_back(own);
      else if (section.empty() || own == section)
        names.push_back(row.name);
    }
    std::string hint = did_you_mean(name, names);
    const std::string suffix = "." + name.substr(name.rfind('.') + 1);
    for (const SettingRow& row : setting_rows())
      if (hint.empty() && row.name.ends_with(suffix)) hint = fmt::format("; did you mean '{}'?", row.name);
    mistakes_.emplace_back(where,
                           fmt::format("unknown {} '{}'{}", is_table ? "section" : "setting", name,
                                       hint.empty() ? "; `loracle config show --example` lists all" : hint));
  }

  ServiceConfig& config_;
  std::vector<std::string>& origins_;
  const std::string& path_;
  std::vector<std::pair<unsigned, std::string>> mistakes_;  // by line
};

/// The parser's words without what it quotes of the file: that may be part of a secret.
std::string without_quotations(std::string_view description) {
  std::string text;
  while (!description.empty()) {
    const std::size_t open = description.find('\'');
    const std::size_t close = open == std::string_view::npos ? open : description.find('\'', open + 1);
    if (close == std::string_view::npos) {
      text += description.substr(0, open);
      break;
    }
    text += close - open > 2 ? std::string(description.substr(0, open)) + "'...'"
                             : std::string(description.substr(0, close + 1));
    description.remove_prefix(close + 1);
  }
  return text;
}

}  // namespace

std::string json_of_toml(const std::string& value) {
  try {
    std::ostringstream text;
    text << toml::json_formatter(toml::parse("value = " + value));
    const auto json = nlohmann::ordered_json::parse(text.str(), nullptr, /*allow_exceptions=*/false);
    if (json.is_object() && json.contains("value")) return json["value"].dump();
  } catch (const toml::parse_error&) {  // "***"
  }
  return nlohmann::json(value).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

Result<Unit> read_toml_into(ServiceConfig& config, std::vector<std::string>& origins, std::string_view text,
                            const std::string& path) {
  try {
    const toml::table table = toml::parse(text);
    FileReader reader(config, origins, path);
    reader.read(table, "");
    return reader.outcome();
  } catch (const toml::parse_error& error) {
    return fail(Errc::kCorrupt,
                fmt::format("{}:{}: is not TOML at column {}: {}", path, error.source().begin.line,
                            error.source().begin.column, without_quotations(error.description())));
  }
}

}  // namespace loracle::service
