#include "loracle/engine/discovery.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <map>
#include <mutex>
#include <optional>
#include <span>
#include <unordered_map>
#include <utility>

#include "loracle/engine/digest.hpp"
#include "loracle/engine/run_on_threads.hpp"

namespace loracle {
namespace {

// Coarser than the clock of any file system that is met (FAT and old NFS tick every 2 s).
constexpr std::int64_t kSettleSeconds = 3;

constexpr std::string_view kConfigName = "/adapter_config.json";
constexpr std::string_view kSafetensorsName = "/adapter_model.safetensors";
constexpr std::string_view kTorchName = "/adapter_model.bin";

std::string joined(const std::string& directory, std::string_view name) {
  std::string path;
  path.reserve(directory.size() + name.size());
  path += directory;
  path += name;
  return path;
}

/// Length of the UTF-8 sequence `text` begins with; 0 if it is none (overlong, surrogate, too large, cut).
std::size_t utf8_length(std::string_view text) noexcept {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned first = byte(0);
  if (first < 0x80) return 1;
  const std::size_t length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
  if (first < 0xC2 || first > 0xF4 || text.size() < length) return 0;
  for (std::size_t i = 1; i < length; ++i)
    if ((byte(i) & 0xC0U) != 0x80) return 0;
  const unsigned second = byte(1);
  const bool wrong = (first == 0xE0 && second < 0xA0) || (first == 0xED && second > 0x9F) ||
                     (first == 0xF0 && second < 0x90) || (first == 0xF4 && second > 0x8F);
  return wrong ? 0 : length;
}

/// Printable in a message: what is not plain ASCII as \xNN.
std::string escaped(std::string_view name) {
  std::string text;
  for (const char c : name.substr(0, kAdapterNameBytesMax)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte < 0x7F && c != '\\')
      text += c;
    else
      text += fmt::format("\\x{:02x}", byte);
  }
  return text;
}

/// A stat where "not there" is an answer: an empty FileStat.
Result<FileStat> stat_if_there(Files& files, const std::string& path) {
  Result<FileStat> stat = files.stat(path);
  if (!stat && stat.error().code == Errc::kNotFound) return FileStat{};
  return stat;
}

bool there(const FileStat& stat) noexcept { return stat != FileStat{}; }

/// The stamp of whatever lies in `directory`, sound or not.
Result<AdapterStamp> stamp_of(Files& files, const std::string& directory, std::int64_t now_unix_s) {
  AdapterStamp stamp;
  stamp.taken_unix_s = now_unix_s;
  Result<FileStat> config = stat_if_there(files, joined(directory, kConfigName));
  if (!config) return fail(std::move(config.error()));
  stamp.config = *config;
  for (const std::string_view name : {kSafetensorsName, kTorchName}) {
    Result<FileStat> weights = stat_if_there(files, joined(directory, name));
    if (!weights) return fail(std::move(weights.error()));
    stamp.weights = *weights;
    if (there(stamp.weights)) break;
  }
  return stamp;
}

/// What a directory turned out to be.
struct Look {
  enum class Kind : std::uint8_t { kPassedOver, kFound, kUnchanged, kRejected };
  Kind kind = Kind::kPassedOver;
  HeaderFacts facts;         // kFound
  std::string shape_digest;  // kFound
  Rejection rejection;       // kRejected
};

/// Shapes seen so far, kept once each.
class Shapes {
 public:
  std::string add(const AdapterFiles& adapter) {
    AdapterShape shape = shape_of(adapter);
    const std::lock_guard lock(mutex_);
    return modules_.try_emplace(shape.digest, std::move(shape.modules)).first->first;
  }
  [[nodiscard]] std::vector<ShapeModule> take(const std::string& digest) {
    return std::move(modules_.at(digest));
  }

 private:
  std::mutex mutex_;
  std::unordered_map<std::string, std::vector<ShapeModule>> modules_;
};

/// One scan or refresh; `look` is called from its threads.
class Scan {
 public:
  Scan(Files& files, const ScanOptions& options, const KnownAdapters* known, const Inspect& inspect)
      : files_(files), options_(options), known_(known), inspect_(inspect), root_(options.root) {
    while (root_.size() > 1 && root_.back() == '/') root_.pop_back();
  }

  Result<ScanResult> run() {
    if (Result<Unit> listed = list(); !listed) return fail(std::move(listed.error()));
    std::atomic<std::size_t> done{0};
    run_on_threads(names_.size(), options_.threads, [&](std::size_t i) {
      looks_[i] = look(names_[i]);
      if (options_.progress) options_.progress(done.fetch_add(1) + 1, names_.size());
    });
    return collect();
  }

 private:
  Result<Unit> list() {
    Result<std::vector<DirectoryEntry>> entries = files_.list(root_);
    if (!entries) return fail(std::move(entries.error()));
    for (DirectoryEntry& entry : *entries) {
      if (entry.name.starts_with('.') || entry.kind == FileKind::kRegular) continue;
      // kOther may be a directory that could not be examined just now. If it was an adapter, find out.
      if (entry.kind == FileKind::kOther && known_adapter(entry.name) == nullptr) continue;
      names_.push_back(std::move(entry.name));
    }
    looks_.resize(names_.size());
    return Unit{};
  }

  [[nodiscard]] const KnownAdapter* known_adapter(std::string_view name) const {
    if (known_ == nullptr) return nullptr;
    const auto& all = known_->adapters;
    const auto found = std::lower_bound(all.begin(), all.end(), name,
                                        [](const KnownAdapter& a, std::string_view b) { return a.name < b; });
    return found != all.end() && found->name == name ? &*found : nullptr;
  }

  [[nodiscard]] const Rejection* known_rejection(std::string_view name) const {
    if (known_ == nullptr) return nullptr;
    const auto& all = known_->rejected;
    const auto found = std::lower_bound(all.begin(), all.end(), name,
                                        [](const Rejection& a, std::string_view b) { return a.name < b; });
    return found != all.end() && found->name == name ? &*found : nullptr;
  }

  [[nodiscard]] static Look rejected(const std::string& name, const std::string& directory, Error error,
                                     const AdapterStamp& stamp) {
    Look look;
    look.kind = Look::Kind::kRejected;
    look.rejection = {name, directory, error.code, std::move(error.message), stamp};
    return look;
  }

  /// Whether the adapter is as it was, from stats alone.
  Result<bool> is_unchanged(const KnownAdapter& adapter, const std::string& directory) {
    if (!adapter.stamp.settled()) return false;
    Result<FileStat> config = stat_if_there(files_, joined(directory, kConfigName));
    if (!config) return fail(std::move(config.error()));
    if (*config != adapter.stamp.config) return false;
    Result<FileStat> weights = stat_if_there(files_, adapter.weights_path);
    if (!weights) return fail(std::move(weights.error()));
    if (*weights != adapter.stamp.weights) return false;
    if (adapter.format == WeightFormat::kSafetensors) return true;
    Result<FileStat> preferred = stat_if_there(files_, joined(directory, kSafetensorsName));
    if (!preferred) return fail(std::move(preferred.error()));
    return !there(*preferred);
  }

  Look look(const std::string& name) {
    const std::string directory = root_ == "/" ? root_ + name : root_ + "/" + name;
    if (Result<Unit> good = check_adapter_name(name); !good) {
      return rejected(name, directory, std::move(good.error()), {});
    }
    if (const Rejection* const bad = known_rejection(name); bad != nullptr && bad->stamp.settled()) {
      Result<AdapterStamp> stamp = stamp_of(files_, directory, options_.now_unix_s);
      if (!stamp) return rejected(name, directory, std::move(stamp.error()), {});
      if (stamp->same_files(bad->stamp)) {
        Look look;
        look.kind = Look::Kind::kRejected;
        look.rejection = *bad;
        return look;
      }
    }
    if (const KnownAdapter* const known = known_adapter(name); known != nullptr) {
      Result<bool> unchanged = is_unchanged(*known, directory);
      if (!unchanged) return rejected(name, directory, std::move(unchanged.error()), {});
      if (*unchanged) {
        Look look;
        look.kind = Look::Kind::kUnchanged;
        return look;
      }
    }
    Result<AdapterFiles> adapter = inspect_(files_, directory, options_.rules);
    if (adapter) {
      Look look;
      look.kind = Look::Kind::kFound;
      look.facts = facts_of(*adapter, options_.now_unix_s);
      look.shape_digest = shapes_.add(*adapter);
      return look;
    }
    return look_at_refused(name, directory, std::move(adapter.error()));
  }

  /// Tells a bad adapter from a directory that is none, and from one that could not be read.
  Look look_at_refused(const std::string& name, const std::string& directory, Error error) {
    if (error.code == Errc::kIo) return rejected(name, directory, std::move(error), {});
    Result<AdapterStamp> stamp = stamp_of(files_, directory, options_.now_unix_s);
    if (!stamp) return rejected(name, directory, std::move(stamp.error()), {});
    if (!there(stamp->config)) {
      if (!there(stamp->weights)) return {};
      error = {Errc::kInvalid,
               fmt::format("{}: has weights but no adapter_config.json: save the adapter with PEFT's "
                           "save_pretrained",
                           directory),
               0};
    }
    return rejected(name, directory, std::move(error), *stamp);
  }

  ScanResult collect() {
    ScanResult result;
    result.root = root_;
    result.rules = options_.rules;
    result.now_unix_s = options_.now_unix_s;
    std::map<std::string, std::uint32_t> shape_index;
    for (std::size_t i = 0; i < names_.size(); ++i) {  // names_ are sorted, as Files::list answers them
      Look& look = looks_[i];
      switch (look.kind) {
        case Look::Kind::kPassedOver:
          ++result.passed_over;
          break;
        case Look::Kind::kUnchanged:
          result.unchanged.push_back(std::move(names_[i]));
          break;
        case Look::Kind::kRejected:
          result.rejected.push_back(std::move(look.rejection));
          break;
        case Look::Kind::kFound: {
          const auto [shape, is_first] =
              shape_index.try_emplace(look.shape_digest, static_cast<std::uint32_t>(result.shapes.size()));
          if (is_first) result.shapes.push_back({look.shape_digest, shapes_.take(look.shape_digest)});
          result.found.push_back({std::move(names_[i]), std::move(look.facts), shape->second});
          break;
        }
      }
    }
    return result;
  }

  Files& files_;
  const ScanOptions& options_;
  const KnownAdapters* known_;  // null: nothing is known
  const Inspect& inspect_;
  std::string root_;  // without trailing slashes
  std::vector<std::string> names_;
  std::vector<Look> looks_;  // [names_]
  Shapes shapes_;
};

void append_u32(std::string& bytes, std::uint32_t value) {
  for (unsigned shift = 0; shift < 32; shift += 8) bytes += static_cast<char>(value >> shift);
}

}  // namespace

bool AdapterStamp::same_files_remounted(const AdapterStamp& other) const noexcept {
  AdapterStamp moved = other;
  moved.config.device = config.device;
  moved.weights.device = weights.device;
  return same_files(moved);
}

bool AdapterStamp::settled() const noexcept {
  const std::int64_t latest_ns = std::max(config.ctime_ns, weights.ctime_ns);
  return latest_ns / 1'000'000'000 < taken_unix_s - kSettleSeconds;
}

Result<ScanResult> scan(Files& files, const ScanOptions& options, const Inspect& inspect) {
  return Scan(files, options, nullptr, inspect).run();
}

Result<ScanResult> refresh(Files& files, const ScanOptions& options, const KnownAdapters& known,
                           const Inspect& inspect) {
  return Scan(files, options, &known, inspect).run();
}

HeaderFacts facts_of(const AdapterFiles& adapter, std::int64_t now_unix_s) {
  HeaderFacts facts;
  facts.directory = adapter.directory;
  facts.weights_path = adapter.weights_path;
  facts.format = adapter.format;
  facts.dtype = adapter.dtype;
  facts.rank = adapter.rank_max;
  facts.alpha = adapter.config.alpha;
  facts.base_model = adapter.config.base_model;
  facts.target_modules = adapter.config.target_modules;
  facts.element_count = adapter.element_count;
  facts.stamp = {adapter.config_stat, adapter.weights_stat, now_unix_s};
  return facts;
}

AdapterShape shape_of(const AdapterFiles& adapter) {
  AdapterShape shape;
  shape.modules.reserve(adapter.modules.size());
  std::string bytes;
  for (const LoraModule& module : adapter.modules) {
    shape.modules.push_back({module.name, module.in, module.out, module.rank});
    bytes += module.name;
    bytes += '\0';
    append_u32(bytes, module.in);
    append_u32(bytes, module.out);
    append_u32(bytes, module.rank);
  }
  shape.digest = sha256_hex(std::as_bytes(std::span(bytes)));
  return shape;
}

Result<Unit> check_adapter_name(std::string_view name) {
  const auto refused = [&](std::string_view why) {
    return fail(Errc::kInvalid, fmt::format("adapter name '{}': {}", escaped(name), why));
  };
  if (name.empty()) return refused("is empty");
  if (name.size() > kAdapterNameBytesMax)
    return refused(fmt::format("{} bytes, {} are allowed", name.size(), kAdapterNameBytesMax));
  if (name.front() == '.') return refused("begins with a dot: such directories are hidden");
  for (std::string_view rest = name; !rest.empty();) {
    const std::size_t length = utf8_length(rest);
    if (length == 0) return refused("is not UTF-8: rename it");
    const auto first = static_cast<unsigned char>(rest[0]);
    const bool is_c1 = first == 0xC2 && static_cast<unsigned char>(rest[1]) < 0xA0;
    if (first < 0x20 || first == 0x7F || is_c1) return refused("has a control character: rename it");
    if (first == '/') return refused("has a '/': a name is that of one directory");
    rest.remove_prefix(length);
  }
  return Unit{};
}

}  // namespace loracle
