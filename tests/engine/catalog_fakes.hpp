#pragma once
/// Files in memory that count calls and fail on demand, and adapters on them that are cheap to make.
///
/// A fake adapter's config is `r=8`; one that begins with `bad` is refused. Its weights are any bytes.
/// Threads: calls of Files from any number; everything else from one, while no call is under way.

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "loracle/core/result.hpp"
#include "loracle/engine/catalog.hpp"
#include "loracle/engine/discovery.hpp"
#include "loracle/engine/files.hpp"

namespace loracle::testing {

inline constexpr std::int64_t kNow = 1'700'000'000;  // seconds since 1970

class ChangingFiles final : public Files {
 public:
  /// Creates or overwrites, as open(O_TRUNC) and write do: an existing file keeps its inode.
  void write(const std::string& path, std::string bytes) {
    Node& node = nodes_[path];
    if (node.stat.inode == 0) node.stat.inode = ++inode_;
    node.stat.kind = FileKind::kRegular;
    node.stat.size = bytes.size();
    node.stat.mtime_ns = node.stat.ctime_ns = clock_ns;
    node.stat.device = device;
    node.bytes = std::move(bytes);
  }
  void make_directory(const std::string& path) { nodes_[path + "/"].stat.kind = FileKind::kDirectory; }
  void make_other(const std::string& path) { nodes_[path].stat.kind = FileKind::kOther; }
  /// A file, or a directory with all that is in it.
  void remove(const std::string& path) {
    std::erase_if(nodes_,
                  [&](const auto& node) { return node.first == path || node.first.starts_with(path + "/"); });
  }
  void rename(const std::string& from, const std::string& to) {
    std::map<std::string, Node> moved;
    for (auto& [path, node] : nodes_) {
      const bool is_inside = path == from || path.starts_with(from + "/");
      moved[is_inside ? to + path.substr(from.size()) : path] = std::move(node);
    }
    nodes_ = std::move(moved);
  }
  [[nodiscard]] FileStat& stat_at(const std::string& path) { return nodes_.at(path).stat; }
  void remount(std::uint64_t new_device) {
    for (auto& [path, node] : nodes_) node.stat.device = new_device;
  }

  Result<std::unique_ptr<OpenFile>> open(const std::string& path) override {
    ++opens;
    if (auto failure = fault(path)) return fail(std::move(*failure));
    const auto node = nodes_.find(path);
    if (node == nodes_.end()) return fail(Errc::kNotFound, path + ": cannot open: not there");
    return std::make_unique<Handle>(*this, path, node->second);
  }
  Result<FileStat> stat(const std::string& path) override {
    ++stats;
    if (auto failure = fault(path)) return fail(std::move(*failure));
    const auto node = nodes_.find(path);
    if (node == nodes_.end()) return fail(Errc::kNotFound, path + ": cannot examine: not there");
    return node->second.stat;
  }
  Result<std::vector<DirectoryEntry>> list(const std::string& directory) override {
    ++lists;
    if (auto failure = fault(directory)) return fail(std::move(*failure));
    std::map<std::string, FileKind> entries;
    bool is_there = nodes_.count(directory + "/") != 0;
    for (const auto& [path, node] : nodes_) {
      if (!path.starts_with(directory + "/")) continue;
      is_there = true;
      const std::string rest = path.substr(directory.size() + 1);
      const std::size_t slash = rest.find('/');
      if (rest.empty()) continue;
      entries[rest.substr(0, slash)] = slash == std::string::npos ? node.stat.kind : FileKind::kDirectory;
    }
    if (!is_there) return fail(Errc::kNotFound, directory + ": cannot list: not there");
    std::vector<DirectoryEntry> listed;
    for (auto& [name, kind] : entries) listed.push_back({name, kind});
    return listed;
  }

  void reset_counts() { calls = opens = stats = lists = reads = 0; }

  std::int64_t clock_ns = (kNow - 1000) * 1'000'000'000;  // when writes happen
  std::uint64_t device = 1;
  std::atomic<std::uint64_t> calls{0};  // the four below together
  std::atomic<std::uint64_t> opens{0};
  std::atomic<std::uint64_t> stats{0};
  std::atomic<std::uint64_t> lists{0};
  std::atomic<std::uint64_t> reads{0};
  std::uint64_t fail_call = 0;  // this call fails with kIo, counted from 1; 0: none
  std::string fail_under;       // calls on paths that begin so fail with kIo
  bool failed = false;          // fail_call was reached

 private:
  struct Node {
    std::string bytes;
    FileStat stat;
  };
  class Handle final : public OpenFile {
   public:
    Handle(ChangingFiles& files, std::string path, Node node)
        : files_(files), path_(std::move(path)), node_(std::move(node)) {}
    const FileStat& stat() const noexcept override { return node_.stat; }
    Result<std::size_t> read_at(std::uint64_t offset, std::span<std::byte> into) override {
      ++files_.reads;
      if (auto failure = files_.fault(path_)) return fail(std::move(*failure));
      const std::size_t from = std::min<std::size_t>(offset, node_.bytes.size());
      const std::size_t count = std::min(into.size(), node_.bytes.size() - from);
      if (count > 0) std::memcpy(into.data(), node_.bytes.data() + from, count);
      return count;
    }

   private:
    ChangingFiles& files_;
    std::string path_;
    Node node_;
  };

  std::optional<Error> fault(const std::string& path) {
    const bool is_nth = ++calls == fail_call;
    if (is_nth) failed = true;
    if (!is_nth && (fail_under.empty() || !path.starts_with(fail_under))) return std::nullopt;
    return Error{Errc::kIo, path + ": cannot read: injected", 5};
  }

  std::map<std::string, Node> nodes_;  // a directory's path ends in '/'; files imply theirs
  std::uint64_t inode_ = 100;
};

/// Reads both files as the real inspector does; one module, of the rank in the config.
inline Result<AdapterFiles> inspect_fake(Files& files, const std::string& directory,
                                         const AdapterRules& rules) {
  AdapterFiles adapter;
  adapter.directory = directory;
  const std::string config_path = directory + "/adapter_config.json";
  Result<std::unique_ptr<OpenFile>> config = files.open(config_path);
  if (!config) return fail(config.error());
  adapter.config_stat = (*config)->stat();
  std::string text(adapter.config_stat.size, '\0');
  if (auto read = read_exactly(**config, config_path, 0, std::as_writable_bytes(std::span(text))); !read)
    return fail(read.error());
  adapter.weights_path = directory + "/adapter_model.safetensors";
  Result<std::unique_ptr<OpenFile>> weights = files.open(adapter.weights_path);
  if (!weights && weights.error().code == Errc::kNotFound) {
    adapter.weights_path = directory + "/adapter_model.bin";
    adapter.format = WeightFormat::kTorchZip;
    weights = files.open(adapter.weights_path);
  }
  if (!weights) return fail(weights.error());
  adapter.weights_stat = (*weights)->stat();
  if (!text.starts_with("r=")) return fail(Errc::kInvalid, config_path + ": refused");
  const auto rank = static_cast<std::uint32_t>(std::atoi(text.c_str() + 2));
  if (rules.max_lora_rank != 0 && rank > rules.max_lora_rank)
    return fail(Errc::kInvalid, config_path + ": rank too large");
  adapter.config.r = adapter.rank_max = rank;
  adapter.config.alpha = 2.0 * rank;
  adapter.config.base_model = "llama";
  adapter.config.target_modules = {"q_proj", "v_proj"};
  adapter.modules = {{"model.layers.0.self_attn.q_proj", rank, 64, 32, 2, {}, {}}};
  adapter.element_count = std::uint64_t{rank} * 96;
  return adapter;
}

/// An adapter as a scan finds it, without any files.
inline ScannedAdapter scanned(std::string name, std::uint64_t content = 1,
                              const std::string& root = "/lora") {
  ScannedAdapter adapter;
  adapter.facts.directory = root + "/" + name;
  adapter.facts.weights_path = adapter.facts.directory + "/adapter_model.safetensors";
  adapter.facts.rank = 8;
  adapter.facts.alpha = 16;
  adapter.facts.base_model = "llama";
  adapter.facts.target_modules = {"q_proj", "v_proj"};
  adapter.facts.element_count = 768;
  const auto mtime = static_cast<std::int64_t>(content);
  adapter.facts.stamp = {
      {FileKind::kRegular, 100, mtime, mtime, 7, 1}, {FileKind::kRegular, 5000, mtime, mtime, 8, 1}, kNow};
  adapter.name = std::move(name);
  return adapter;
}

inline AdapterShape small_shape(std::uint32_t rank = 8) {
  return {std::string(62, 'a') + std::to_string(10 + rank),
          {{"model.layers.0.self_attn.q_proj", 64, 32, rank}}};
}

/// A scan of `root` that found adapters of these names, all with the same content.
inline ScanResult scan_of(std::vector<std::string> names, std::uint64_t content = 1,
                          const std::string& root = "/lora") {
  ScanResult result;
  result.root = root;
  result.now_unix_s = kNow;
  std::sort(names.begin(), names.end());
  for (std::string& name : names) result.found.push_back(scanned(std::move(name), content, root));
  result.shapes = {small_shape()};
  return result;
}

/// An adapter's two files.
inline void put_adapter(ChangingFiles& files, const std::string& directory, const std::string& config = "r=8",
                        const std::string& weights = "weights") {
  files.write(directory + "/adapter_config.json", config);
  files.write(directory + "/adapter_model.safetensors", weights);
}

inline Result<Catalog> open_storage(const std::string& path, std::uint32_t busy_timeout_ms = 5000) {
  return Catalog::open({path, CatalogKind::kStorage, false, busy_timeout_ms});
}

/// "a b c", for one-line expectations.
template <class List>
std::string names_in(const List& list) {
  std::string text;
  for (const auto& item : list) {
    if (!text.empty()) text += ' ';
    if constexpr (requires { item.name; })
      text += item.name;
    else
      text += item;
  }
  return text;
}

}  // namespace loracle::testing
