#include "loracle/engine/catalog.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <ctime>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <system_error>
#include <utility>

#include "commands.hpp"
#include "common.hpp"
#include "loracle/core/nearest.hpp"
#include "loracle/engine/discovery.hpp"
#include "loracle/engine/env.hpp"
#include "loracle/engine/files.hpp"
#include "trace_json.hpp"

namespace loracle::app {
namespace {

using nlohmann::ordered_json;

constexpr const char* kDatabaseName = ".loracle-catalog.sqlite";  // hidden: no scan takes it for an adapter

struct CatalogFlags {
  std::string directory = ".";
  std::string database;
  Format format = Format::kText;
  AdapterRules rules;
  unsigned threads = 0;
  std::vector<std::string> names;
  bool with_removed = false;
  bool only_rejected = false;

  [[nodiscard]] std::string path() const {
    return database.empty() ? (std::filesystem::path(directory) / kDatabaseName).string() : database;
  }
  [[nodiscard]] Result<Catalog> open(bool read_only) const {
    return Catalog::open({path(), std::nullopt, read_only, 5000});
  }
};

/// `directory_names`: what the option is called; "DIR,--dir" where a word without a flag means it too.
void add_database_flags(CLI::App& command, CatalogFlags& flags, const char* directory_names = "--dir") {
  CLI::Option* const directory = command.add_option(directory_names, flags.directory,
                                                    "Directory whose catalog is meant (default: this one)");
  command
      .add_option("--db", flags.database,
                  fmt::format("The catalog's file (default: {} in the directory)", kDatabaseName))
      ->excludes(directory);
}

/// Says so where a catalog lies in a directory and its adapters in others: it has come here with a copy of
/// theirs, or they were moved. `scan` takes over what was moved; what is still there keeps its names.
void tell_of_other_roots(Catalog& catalog, const CatalogFlags& flags) {
  if (!flags.database.empty()) return;
  std::error_code error;
  const std::filesystem::path here = std::filesystem::canonical(flags.directory, error);
  const Result<std::vector<CatalogSource>> sources = catalog.sources();
  if (error || !sources || sources->empty()) return;
  for (const CatalogSource& source : *sources)
    if (std::filesystem::equivalent(source.root, here, error)) return;
  const std::string& root = sources->front().root;
  if (std::filesystem::exists(root, error)) {
    say(
        fmt::format("loracle: {} is a copy: it speaks of the adapters in {}, not of those here. For these, "
                    "delete it and run `loracle catalog scan {}`\n",
                    flags.path(), root, flags.directory));
  } else {
    say(
        fmt::format("loracle: {} speaks of the adapters in {}, which is gone: if they were moved here, run "
                    "`loracle catalog scan {}`\n",
                    flags.path(), root, flags.directory));
  }
}

std::string utc(std::int64_t unix_s) {
  const auto time = static_cast<std::time_t>(unix_s);
  std::tm parts{};
  char text[32] = "?";
  if (gmtime_r(&time, &parts) != nullptr) std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text;
}

/// Each item by the json_of it is handed.
template <class Item>
ordered_json json_list(const std::vector<Item>& list, ordered_json (*json_of_item)(const Item&)) {
  ordered_json json = ordered_json::array();
  for (const Item& item : list) json.push_back(json_of_item(item));
  return json;
}

ordered_json json_of(const Rejection& rejection) {
  return {{"name", rejection.name},
          {"directory", rejection.directory},
          {"code", name_of(rejection.code)},
          {"reason", rejection.reason}};
}

ordered_json json_of(const CatalogChange& change) {
  return {{"name", change.name}, {"id", change.id.value}, {"version", change.version}};
}

/// An unknown name is a mistake on the command line, and perhaps a misspelt one.
int report_name(Catalog& catalog, const std::string& name, const Error& error) {
  if (error.code != Errc::kNotFound) return report_input(error);
  const Result<std::vector<CatalogEntry>> list = catalog.list(/*with_removed=*/true);
  if (!list) return report_input(list.error());
  const std::vector<std::string_view> names = [&] {
    std::vector<std::string_view> views;
    for (const CatalogEntry& entry : *list) views.push_back(entry.name);
    return views;
  }();
  constexpr std::size_t kNamesListed = 20;  // a message with ten thousand names helps nobody
  return report(
      {Errc::kNotFound,
       names.size() <= kNamesListed ? unknown_name_message("adapter", name, names) : error.message, 0},
      kExitUsage);
}

// scan and refresh

ordered_json json_of(const std::string& root, const ApplyOutcome& outcome) {
  return {{"root", root},
          {"added", json_list(outcome.added, &json_of)},
          {"changed", json_list(outcome.changed, &json_of)},
          {"returned", json_list(outcome.returned, &json_of)},
          {"vanished", json_list(outcome.vanished, &json_of)},
          {"rejected", json_list(outcome.rejected, &json_of)},
          {"unchanged", outcome.unchanged}};
}

std::string text_of(const std::string& root, const ApplyOutcome& outcome) {
  std::string text =
      fmt::format("{}: {} added, {} changed, {} returned, {} vanished, {} rejected, {} unchanged\n", root,
                  outcome.added.size(), outcome.changed.size(), outcome.returned.size(),
                  outcome.vanished.size(), outcome.rejected.size(), outcome.unchanged);
  const auto tell = [&text](const char* what, const std::vector<CatalogChange>& list) {
    for (const CatalogChange& change : list)
      text +=
          fmt::format("  {:<9} {} (id {}, version {})\n", what, change.name, change.id.value, change.version);
  };
  tell("added", outcome.added);
  tell("changed", outcome.changed);
  tell("returned", outcome.returned);
  tell("vanished", outcome.vanished);
  for (const Rejection& rejection : outcome.rejected)
    text += fmt::format("  rejected  {}\n", rejection.reason);
  return text;
}

/// Looks at one root, at all of it or at what may have changed, and tells the catalog.
Result<ApplyOutcome> look(Catalog& catalog, const ScanOptions& options, bool everything) {
  Progress progress("scanning " + options.root);
  ScanOptions told = options;
  told.progress = [&progress](std::size_t done, std::size_t total) { progress.step(done, total); };
  return rescan(catalog, posix_files(), told, everything);
}

int run_scan(const CatalogFlags& flags) {
  if (flags.directory.empty())
    return report_usage({Errc::kInvalid, "which directory? Write loracle catalog scan DIR", 0});
  std::error_code error;
  const std::filesystem::path root = std::filesystem::canonical(flags.directory, error);
  if (error) {
    return report({Errc::kNotFound,
                   fmt::format("{}: cannot be scanned: {}: give a directory with one folder an adapter",
                               flags.directory, error.message()),
                   error.value()},
                  kExitInput);
  }
  Result<Catalog> catalog = Catalog::open({flags.path(), CatalogKind::kStorage, false, 5000});
  if (!catalog) return report_input(catalog.error());
  const ScanOptions options{root.string(), flags.rules, flags.threads, posix_clock().unix_s(), {}};
  const Result<ApplyOutcome> outcome = look(*catalog, options, /*everything=*/true);
  if (!outcome) return report_input(outcome.error());
  print(flags.format == Format::kJson ? dump(json_of(options.root, *outcome))
                                      : text_of(options.root, *outcome));
  return kExitOk;
}

int run_refresh(const CatalogFlags& flags) {
  Result<Catalog> catalog = flags.open(/*read_only=*/false);
  if (!catalog) return report_input(catalog.error());
  tell_of_other_roots(*catalog, flags);
  const Result<std::vector<CatalogSource>> sources = catalog->sources();
  if (!sources) return report_input(sources.error());
  ordered_json json = ordered_json::array();
  std::string text;
  int exit_code = kExitOk;
  for (const CatalogSource& source : *sources) {
    const ScanOptions options{source.root, source.rules, flags.threads, posix_clock().unix_s(), {}};
    const Result<ApplyOutcome> outcome = look(*catalog, options, /*everything=*/false);
    if (!outcome) {
      exit_code = report_input(outcome.error());  // the other roots are there all the same
      if (!flags.database.empty() && outcome.error().code == Errc::kNotFound)
        say(fmt::format("loracle: if the adapters were moved, run `loracle catalog scan NEWDIR --db {}`\n",
                        flags.database));
      continue;
    }
    json.push_back(json_of(source.root, *outcome));
    text += text_of(source.root, *outcome);
  }
  if (sources->empty()) text = "no directory was scanned into this catalog yet\n";
  print(flags.format == Format::kJson ? dump(json) : text);
  return exit_code;
}

// ls and show

ordered_json json_of(const CatalogEntry& entry) {
  return {{"id", entry.id.value},
          {"name", entry.name},
          {"state", name_of(entry.state)},
          {"version", entry.version},
          {"rank", entry.rank},
          {"dtype", name_of(entry.dtype)},
          {"format", name_of(entry.format)},
          {"shape", entry.shape_id},
          {"elements", entry.element_count},
          {"weights_bytes", entry.weights_bytes}};
}

int run_ls(const CatalogFlags& flags) {
  Result<Catalog> catalog = flags.open(/*read_only=*/true);
  if (!catalog) return report_input(catalog.error());
  tell_of_other_roots(*catalog, flags);
  Result<std::vector<CatalogEntry>> list = catalog->list(flags.with_removed);
  if (!list) return report_input(list.error());
  std::sort(list->begin(), list->end(),
            [](const CatalogEntry& a, const CatalogEntry& b) { return a.name < b.name; });
  const Result<std::vector<Rejection>> rejected = catalog->rejections();
  if (!rejected) return report_input(rejected.error());
  if (flags.format == Format::kJson) {
    print(dump({{"db", catalog->path()},
                {"kind", name_of(catalog->kind())},
                {"adapters", flags.only_rejected ? ordered_json::array() : json_list(*list, &json_of)},
                {"rejected", json_list(*rejected, &json_of)}}));
    return kExitOk;
  }
  std::string text;
  if (!flags.only_rejected) {
    text += fmt::format("{:>8}  {:<40} {:<9} {:>7} {:>5} {:<9} {:<12} {:>10}\n", "id", "name", "state",
                        "version", "rank", "dtype", "format", "bytes");
    for (const CatalogEntry& entry : *list)
      text += fmt::format("{:>8}  {:<40} {:<9} {:>7} {:>5} {:<9} {:<12} {:>10}\n", entry.id.value, entry.name,
                          name_of(entry.state), entry.version, entry.rank, name_of(entry.dtype),
                          name_of(entry.format), human_bytes(Bytes{entry.weights_bytes}));
    text += fmt::format("{} adapters, {} rejected{}\n", list->size(), rejected->size(),
                        rejected->empty() ? "" : " (reasons: ls --rejected)");
  } else {
    for (const Rejection& rejection : *rejected) text += rejection.reason + "\n";
  }
  print(text);
  return kExitOk;
}

ordered_json json_of(const CatalogRecord& record, const UseHistory& history) {
  ordered_json json = {{"id", record.id.value},
                       {"name", record.name},
                       {"state", name_of(record.state)},
                       {"created", utc(record.created_unix_s)},
                       {"changed", utc(record.changed_unix_s)},
                       {"version", record.version},
                       {"source", record.source},
                       {"directory", record.facts.directory},
                       {"weights_path", record.facts.weights_path},
                       {"format", name_of(record.facts.format)},
                       {"dtype", name_of(record.facts.dtype)},
                       {"rank", record.facts.rank},
                       {"alpha", record.facts.alpha},
                       {"base_model", record.facts.base_model},
                       {"target_modules", record.facts.target_modules},
                       {"shape", record.shape_id},
                       {"elements", record.facts.element_count},
                       {"weights_bytes", record.facts.stamp.weights.size},
                       {"config_sha256", nullptr},
                       {"weights_sha256", nullptr},
                       {"uses", history.uses},
                       {"last_use", nullptr}};
  if (!record.digest.config.empty()) {
    json["config_sha256"] = record.digest.config;
    json["weights_sha256"] = record.digest.weights;
  }
  if (history.uses > 0) json["last_use"] = utc(history.last_unix_s);
  return json;
}

int run_show(const CatalogFlags& flags) {
  Result<Catalog> catalog = flags.open(/*read_only=*/true);
  if (!catalog) return report_input(catalog.error());
  tell_of_other_roots(*catalog, flags);
  const std::string& name = flags.names.front();
  const Result<CatalogRecord> record = catalog->find(name);
  if (!record) return report_name(*catalog, name, record.error());
  const Result<UseHistory> history = catalog->history(record->id);
  if (!history) return report_input(history.error());
  const ordered_json json = json_of(*record, *history);
  if (flags.format == Format::kJson) {
    print(dump(json));
    return kExitOk;
  }
  std::string text;
  for (const auto& [key, value] : json.items()) {
    std::string shown = value.is_null() ? "-" : value.is_string() ? value.get<std::string>() : value.dump();
    if (value.is_array()) {
      shown.clear();
      for (const auto& item : value) shown += (shown.empty() ? "" : " ") + item.get<std::string>();
    }
    text += fmt::format("{:<15} {}\n", key, shown);
  }
  print(text);
  return kExitOk;
}

// verify

struct VerifiedAdapter {
  std::string name;
  Verification verification;
};

ordered_json json_of(const VerifiedAdapter& adapter) {
  const ContentDigest& digest = adapter.verification.digest;
  ordered_json json = {{"name", adapter.name}, {"verdict", name_of(adapter.verification.verdict)}};
  if (!adapter.verification.reason.empty()) json["reason"] = adapter.verification.reason;
  if (!digest.config.empty()) json["config_sha256"] = digest.config;
  if (!digest.weights.empty()) json["weights_sha256"] = digest.weights;
  return json;
}

/// The worst there was decides: bytes that are not what they claim to be before files that are not there.
int exit_code_of(const std::vector<VerifiedAdapter>& verified) {
  int exit_code = kExitOk;
  for (const VerifiedAdapter& adapter : verified) {
    switch (adapter.verification.verdict) {
      case FilesVerdict::kIntact:
      case FilesVerdict::kRecorded:
        break;
      case FilesVerdict::kMissing:
      case FilesVerdict::kUnreadable:
        exit_code = std::max<int>(exit_code, kExitInput);
        break;
      case FilesVerdict::kChanged:
      case FilesVerdict::kDamaged:
        exit_code = std::max<int>(exit_code, kExitBadData);
        break;
    }
  }
  return exit_code;
}

Result<VerifiedAdapter> verify_one(Catalog& catalog, const std::string& name) {
  const Result<CatalogRecord> record = catalog.find(name);
  if (!record) return fail(record.error());
  VerifiedAdapter verified{name, verify_files(posix_files(), *record)};
  if (verified.verification.verdict == FilesVerdict::kRecorded) {
    if (Result<Unit> set = catalog.set_digest(record->id, record->version, verified.verification.digest);
        !set)
      return fail(std::move(set.error()));
  }
  return verified;
}

int run_verify(const CatalogFlags& flags) {
  Result<Catalog> catalog = flags.open(/*read_only=*/false);
  if (!catalog) return report_input(catalog.error());
  tell_of_other_roots(*catalog, flags);
  if (const Result<Unit> whole = catalog->check(); !whole) return report_input(whole.error());
  std::vector<std::string> names = flags.names;
  for (const std::string& name : names)
    if (const Result<LoraId> known = catalog->id_of(name); !known)
      return report_name(*catalog, name, known.error());
  if (names.empty()) {
    const Result<std::vector<CatalogEntry>> list = catalog->list();
    if (!list) return report_input(list.error());
    for (const CatalogEntry& entry : *list)
      if (entry.state == AdapterState::kAvailable) names.push_back(entry.name);
    std::sort(names.begin(), names.end());
  }
  std::vector<VerifiedAdapter> verified(names.size());
  std::optional<Error> failed;
  std::mutex mutex;
  ThreadExecutor(flags.threads, "verifying").run(names.size(), [&](std::size_t i) {
    Result<VerifiedAdapter> one = verify_one(*catalog, names[i]);
    if (one) {
      verified[i] = std::move(*one);
      return;
    }
    const std::lock_guard lock(mutex);
    if (!failed) failed = std::move(one.error());
  });
  if (failed) return report_input(*failed);
  if (flags.format == Format::kJson) {
    print(dump({{"db", catalog->path()}, {"adapters", json_list(verified, &json_of)}}));
    return exit_code_of(verified);
  }
  std::map<FilesVerdict, std::size_t> counts;
  std::string text;
  for (const auto& [name, verification] : verified) {
    ++counts[verification.verdict];
    if (!verification.reason.empty())
      text += fmt::format("{:<10} {}: {}\n", name_of(verification.verdict), name, verification.reason);
  }
  text += fmt::format("{} adapters verified", verified.size());
  for (const auto& [verdict, count] : counts) text += fmt::format(", {} {}", count, name_of(verdict));
  print(text + "\n");
  return exit_code_of(verified);
}

// rm and restore

/// Changes all that are named, or none.
int change_all(const CatalogFlags& flags, Result<Unit> (Catalog::*change)(std::string_view, std::int64_t)) {
  Result<Catalog> catalog = flags.open(/*read_only=*/false);
  if (!catalog) return report_input(catalog.error());
  for (const std::string& name : flags.names)
    if (const Result<LoraId> known = catalog->id_of(name); !known)
      return report_name(*catalog, name, known.error());
  for (const std::string& name : flags.names)
    if (const Result<Unit> changed = ((*catalog).*change)(name, posix_clock().unix_s()); !changed)
      return report_name(*catalog, name, changed.error());
  return kExitOk;
}

int run_rm(const CatalogFlags& flags) { return change_all(flags, &Catalog::remove); }

int run_restore(const CatalogFlags& flags) { return change_all(flags, &Catalog::restore); }

/// A subcommand of `catalog` with flags of its own.
CLI::App* add_command(CLI::App& catalog, const char* name, const char* what, int (*run)(const CatalogFlags&),
                      int& exit_code, std::shared_ptr<CatalogFlags>& flags) {
  flags = std::make_shared<CatalogFlags>();
  CLI::App* command = catalog.add_subcommand(name, what);
  command->callback([flags, run, &exit_code] { exit_code = run(*flags); });
  return command;
}

}  // namespace

void add_catalog_command(CLI::App& app, int& exit_code) {
  CLI::App* catalog = app.add_subcommand("catalog", "Which adapters there are: scan, list, verify, remove");
  catalog->require_subcommand(1);
  catalog->footer(
      "Example:\n  loracle catalog scan /srv/adapters --max-lora-rank 64\n"
      "  loracle catalog ls /srv/adapters");
  std::shared_ptr<CatalogFlags> flags;

  CLI::App* command = add_command(*catalog, "scan", "Look at every adapter of a directory and take note",
                                  &run_scan, exit_code, flags);
  flags->directory.clear();
  command->add_option("DIR,--dir", flags->directory, "Directory with one folder an adapter (needed)");
  command->add_option("--db", flags->database,
                      fmt::format("The catalog's file (default: {} in DIR)", kDatabaseName));
  command->add_option("--max-lora-rank", flags->rules.max_lora_rank,
                      "Reject adapters of a larger rank; 0 = any");
  command->add_option("--base-model", flags->rules.base_models,
                      "Reject adapters of other base models; may be given several times");
  add_threads_flag(*command, flags->threads);
  add_format_flag(*command, flags->format, kTextOrJson);
  command->footer(
      "Rejected adapters are listed with their reason; they are no failure of the scan.\n"
      "Example:\n  loracle catalog scan /srv/adapters --max-lora-rank 64 --format json");

  command = add_command(*catalog, "refresh", "Look again at what has changed since the last scan",
                        &run_refresh, exit_code, flags);
  add_database_flags(*command, *flags, "DIR,--dir");
  add_threads_flag(*command, flags->threads);
  add_format_flag(*command, flags->format, kTextOrJson);
  command->footer("Example:\n  loracle catalog refresh /srv/adapters");

  command = add_command(*catalog, "ls", "List adapters, by name", &run_ls, exit_code, flags);
  add_database_flags(*command, *flags, "DIR,--dir");
  command->add_flag("--all", flags->with_removed, "Removed ones too");
  command->add_flag("--rejected", flags->only_rejected, "Only what was rejected, and why");
  add_format_flag(*command, flags->format, kTextOrJson);
  command->footer("Example:\n  loracle catalog ls --db /var/lib/loracle/catalog.sqlite");

  command = add_command(*catalog, "show", "Everything known of one adapter", &run_show, exit_code, flags);
  command->add_option("NAME", flags->names, "The adapter")->required()->expected(1);
  add_database_flags(*command, *flags);
  add_format_flag(*command, flags->format, kTextOrJson);
  command->footer("Example:\n  loracle catalog show support-en --dir /srv/adapters");

  command = add_command(*catalog, "verify", "Read adapters' files in full and compare their SHA-256",
                        &run_verify, exit_code, flags);
  command->add_option("NAME", flags->names, "Which (default: all that are available)");
  add_database_flags(*command, *flags);
  add_threads_flag(*command, flags->threads);
  add_format_flag(*command, flags->format, kTextOrJson);
  command->footer(
      "The first time a file is read its digest is recorded. Exit codes: 0 all is well; 4 an adapter is\n"
      "damaged or changed since it was scanned; 3 one is missing or cannot be read.\n"
      "Example:\n  loracle catalog verify --dir /srv/adapters");

  command =
      add_command(*catalog, "rm", "Take adapters off the list; their files stay", &run_rm, exit_code, flags);
  command->add_option("NAME", flags->names, "Which")->required();
  add_database_flags(*command, *flags);
  command->footer(
      "An adapter that was removed keeps its id. It comes back when its files change, or by `restore`.\n"
      "Example:\n  loracle catalog rm support-en --dir /srv/adapters");

  command = add_command(*catalog, "restore", "Undo rm", &run_restore, exit_code, flags);
  command->add_option("NAME", flags->names, "Which")->required();
  add_database_flags(*command, *flags);
  command->footer("Example:\n  loracle catalog restore support-en --dir /srv/adapters");
}

}  // namespace loracle::app
