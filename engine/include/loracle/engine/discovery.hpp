#pragma once
/// Discovery: which adapters lie under a directory, without reading their weights.
///
/// Layout: one sub-directory an adapter, its name the adapter's name. Hidden directories are skipped; one
/// with neither a config nor weights is passed over; everything else that cannot be served is a rejection
/// with its reason, and never spoils the rest of the scan.
/// Invariants:
/// 1. A result is a function of the files alone: found, unchanged and rejected are each sorted by name, each
///    name is in one of them, and the number of threads does not show.
/// 2. An adapter is unchanged when size, mtime, ctime, inode and device of both files are those of its stamp
///    and the stamp is settled. A file that changed in the last moments before the stamp was taken could
///    change again within one tick of the file system's clock and not show it; such a stamp is not believed.
/// 3. What could not be examined (kIo) is told apart from what is bad: the former says nothing about the
///    adapter, and is tried again by every refresh.
/// Cost: a scan lists the directory once and inspects each adapter. A refresh makes two stats an unchanged
/// adapter (three where the weights are a torch file: safetensors, if they appear, go first) and opens none.
/// Threads: a call starts its own and joins them; Files and the inspector are called from all of them.
/// Errors: of the directory itself: kNotFound, kIo; messages begin with the path.

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "loracle/core/result.hpp"
#include "loracle/engine/adapter_config.hpp"
#include "loracle/engine/adapter_files.hpp"
#include "loracle/engine/files.hpp"

namespace loracle {

/// The two files of an adapter as stats showed them. A file that is not there has an empty FileStat.
struct AdapterStamp {
  FileStat config;
  FileStat weights;
  std::int64_t taken_unix_s = 0;

  /// The same files, whenever they were looked at.
  [[nodiscard]] bool same_files(const AdapterStamp& other) const noexcept {
    return config == other.config && weights == other.weights;
  }
  /// The same files but for the number of the device they are on, which network and overlay file systems
  /// give out anew at every mount.
  [[nodiscard]] bool same_files_remounted(const AdapterStamp& other) const noexcept;
  /// Old enough when it was taken that a later change must show.
  [[nodiscard]] bool settled() const noexcept;
};

/// A module and what LoRA adds to it, as it counts for planning slots.
struct ShapeModule {
  std::string name;
  std::uint32_t in = 0;
  std::uint32_t out = 0;
  std::uint32_t rank = 0;

  friend bool operator==(const ShapeModule&, const ShapeModule&) = default;
};

/// The modules of an adapter. Adapters of one recipe share it.
struct AdapterShape {
  std::string digest;  // SHA-256 of the modules, hex
  std::vector<ShapeModule> modules;
};

/// What is known of an adapter from its headers.
struct HeaderFacts {
  std::string directory;
  std::string weights_path;
  WeightFormat format = WeightFormat::kSafetensors;
  Dtype dtype = Dtype::kBf16;
  std::uint32_t rank = 0;  // over modules
  double alpha = 0;
  std::string base_model;  // empty: not given
  std::vector<std::string> target_modules;
  std::uint64_t element_count = 0;  // of the image
  AdapterStamp stamp;
};

struct ScannedAdapter {
  std::string name;
  HeaderFacts facts;
  std::uint32_t shape = 0;  // index into ScanResult::shapes
};

struct Rejection {
  std::string name;  // of the directory; bytes as the system has them
  std::string directory;
  Errc code = Errc::kInvalid;  // kIo: it could not be examined, and may be sound
  std::string reason;
  AdapterStamp stamp;  // empty where it must be looked at again in any case

  friend bool operator==(const Rejection& a, const Rejection& b) {
    return a.name == b.name && a.directory == b.directory && a.code == b.code && a.reason == b.reason &&
           a.stamp.same_files(b.stamp);
  }
};

struct ScanResult {
  std::string root;
  AdapterRules rules;
  std::int64_t now_unix_s = 0;
  std::vector<ScannedAdapter> found;   // inspected, sound
  std::vector<std::string> unchanged;  // known by their stamp
  std::vector<Rejection> rejected;
  std::vector<AdapterShape> shapes;  // in the order found first names them
  std::uint64_t passed_over = 0;     // directories with neither config nor weights
};

/// What an earlier scan of a root left behind; sorted by name.
struct KnownAdapter {
  std::string name;
  std::string weights_path;
  WeightFormat format = WeightFormat::kSafetensors;
  AdapterStamp stamp;
};
struct KnownAdapters {
  std::vector<KnownAdapter> adapters;
  std::vector<Rejection> rejected;
};

struct ScanOptions {
  std::string root;
  AdapterRules rules;
  unsigned threads = 1;         // 0: one a processor
  std::int64_t now_unix_s = 0;  // wall clock when the scan begins: decides which stamps are settled
  std::function<void(std::size_t done, std::size_t total)> progress;  // from any thread; may be empty
};

/// inspect_adapter, or what stands in for it in a test. Called from several threads.
using Inspect = std::function<Result<AdapterFiles>(Files& files, const std::string& directory,
                                                   const AdapterRules& rules)>;

/// Looks at everything.
[[nodiscard]] Result<ScanResult> scan(Files& files, const ScanOptions& options, const Inspect& inspect);
/// Looks only at what is not as `known` says. REQUIRES: `known` is of the same root and rules.
[[nodiscard]] Result<ScanResult> refresh(Files& files, const ScanOptions& options, const KnownAdapters& known,
                                         const Inspect& inspect);
[[nodiscard]] inline Result<ScanResult> scan(Files& files, const ScanOptions& options) {
  return scan(files, options, &inspect_adapter);
}
[[nodiscard]] inline Result<ScanResult> refresh(Files& files, const ScanOptions& options,
                                                const KnownAdapters& known) {
  return refresh(files, options, known, &inspect_adapter);
}

/// The facts of an adapter that was inspected; its stamp is taken now.
[[nodiscard]] HeaderFacts facts_of(const AdapterFiles& adapter, std::int64_t now_unix_s);
[[nodiscard]] AdapterShape shape_of(const AdapterFiles& adapter);

/// A name that cannot leave its directory or spoil a log: 1 to 255 bytes of UTF-8 without '/', control
/// characters or a leading dot. Errors: kInvalid; the message shows the name escaped.
[[nodiscard]] Result<Unit> check_adapter_name(std::string_view name);
inline constexpr std::size_t kAdapterNameBytesMax = 255;

}  // namespace loracle
