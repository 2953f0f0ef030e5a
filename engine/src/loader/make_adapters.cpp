#include "loracle/engine/make_adapters.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <system_error>
#include <unordered_set>
#include <utility>

#include "loracle/core/parse_bytes.hpp"
#include "loracle/core/rng.hpp"
#include "model_modules.hpp"
#include "write_weights.hpp"

namespace loracle {
namespace {

namespace fs = std::filesystem;

tl::unexpected<Error> io_error(const fs::path& path, std::string_view what, const std::error_code& error) {
  return fail(Errc::kIo, fmt::format("{}: cannot {}: {}", path.string(), what, error.message()),
              error.value());
}

/// FNV-1a. Which hash matters to nobody; that it never changes does.
std::uint64_t hash_of(std::string_view text) noexcept {
  std::uint64_t hash = 0xCBF2'9CE4'8422'2325ULL;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100'0000'01B3ULL;
  return hash;
}

/// What 32 random bits make: sign, one of four neighbouring powers of two, and the mantissa; finite, small,
/// never 0. The powers are 2^-8 .. 2^-5, and for E4M3, which ends at 2^-9, 2^-6 .. 2^-3.
std::uint32_t small_value(Dtype dtype, std::uint32_t random) noexcept {
  const std::uint32_t sign = random >> 31U;
  const std::uint32_t power = random >> 29U & 3U;
  switch (dtype) {
    case Dtype::kF32:
      return sign << 31U | (119U + power) << 23U | (random & 0x7F'FFFFU);
    case Dtype::kBf16:
      return sign << 15U | (119U + power) << 7U | (random & 0x7FU);
    case Dtype::kF16:
      return sign << 15U | (7U + power) << 10U | (random & 0x3FFU);
    case Dtype::kF8E4M3:
      return sign << 7U | (1U + power) << 3U | (random & 0x7U);
    case Dtype::kF8E5M2:
      return sign << 7U | (7U + power) << 2U | (random & 0x3U);
  }
  return 0;
}

void fill_small(Rng& rng, Dtype dtype, std::span<std::byte> into) noexcept {
  const std::size_t width = bytes_of(dtype);
  std::uint64_t random = 0;
  for (std::size_t i = 0; i * width < into.size(); ++i) {
    random = i % 2 == 0 ? rng.next() : random >> 32U;
    const std::uint32_t value = small_value(dtype, static_cast<std::uint32_t>(random));
    std::memcpy(into.data() + i * width, &value, width);  // the low bytes: every target is little-endian
  }
}

/// A of rank 1 and B of rank 1 for every linear layer, ascending by name, as the usual writers have them.
std::vector<TensorToWrite> tensors_of_rank_one(const ModelGeometry& model,
                                               const std::vector<LinearModule>& targets) {
  std::vector<TensorToWrite> tensors;
  for (const LoraModule& module : modules_of(model, targets)) {
    tensors.push_back({fmt::format("base_model.model.{}.lora_A.weight", module.name), 1, module.in});
    tensors.push_back({fmt::format("base_model.model.{}.lora_B.weight", module.name), module.out, 1});
  }
  return tensors;
}

std::string config_text(const MakeAdaptersOptions& options, const std::vector<LinearModule>& targets,
                        std::uint32_t rank) {
  nlohmann::ordered_json modules = nlohmann::ordered_json::array();
  for (const LinearModule& module : targets) modules.push_back(module.name);
  const nlohmann::ordered_json config = {{"base_model_name_or_path", options.model.name},
                                         {"bias", "none"},
                                         {"fan_in_fan_out", false},
                                         {"inference_mode", true},
                                         {"init_lora_weights", true},
                                         {"lora_alpha", 2 * rank},
                                         {"lora_dropout", 0.0},
                                         {"modules_to_save", nullptr},
                                         {"peft_type", "LORA"},
                                         {"r", rank},
                                         {"target_modules", std::move(modules)},
                                         {"task_type", "CAUSAL_LM"},
                                         {"use_rslora", false}};
  return config.dump(2) + '\n';
}

Result<Unit> check_options(const MakeAdaptersOptions& options, const std::vector<LinearModule>& targets) {
  if (options.ranks.empty()) return fail(Errc::kInvalid, "no rank is given");
  for (const std::uint32_t rank : options.ranks)
    if (rank < 1 || rank > kLoraRankMax)
      return fail(Errc::kInvalid, fmt::format("rank {} is not 1 .. {}", rank, kLoraRankMax));
  std::unordered_set<std::string_view> seen;
  for (const std::string& name : options.names) {
    const bool is_directory_name = !name.empty() && name.front() != '.' && name.size() <= 255 &&
                                   name.find_first_of(std::string_view("/\0", 2)) == std::string::npos;
    if (!is_directory_name)
      return fail(Errc::kInvalid, fmt::format("'{}' cannot be an adapter here: a directory's name is needed, "
                                              "up to 255 bytes, without '/' and not beginning with '.'",
                                              name));
    if (!seen.insert(name).second) return fail(Errc::kInvalid, fmt::format("'{}' is named twice", name));
  }
  for (const LinearModule& module : targets)
    if (module.part == LinearModule::Part::kEmbedding)
      return fail(Errc::kUnsupported,
                  fmt::format("'{}' is an embedding: adapters of it cannot be served", module.name));
  const bool float8 = bytes_of(options.dtype) == 1;
  if (options.format != WeightFormat::kSafetensors && float8)
    return fail(Errc::kUnsupported, fmt::format("{} is written to safetensors only", name_of(options.dtype)));
  return Unit{};
}

/// A thousand adapters of a large model are tens of gigabytes: better to know before the first is written.
Result<Unit> check_space(const MakeAdaptersOptions& options, const std::vector<LinearModule>& targets) {
  std::error_code error;
  std::uint64_t needed = 0;
  std::size_t count = 0;
  for (std::size_t i = 0; i < options.names.size(); ++i) {
    if (!options.force && fs::exists(fs::path(options.directory) / options.names[i], error)) continue;
    const std::uint32_t rank = options.ranks[i % options.ranks.size()];
    ++count;
    needed += lora_bytes(targets, rank, bytes_of(options.dtype)).value;
  }
  if (needed > options.bytes_max.value) {
    return fail(Errc::kTooLarge, fmt::format("{}: {} adapters of {} take {}", options.directory, count,
                                             options.model.name, human_bytes(Bytes{needed})));
  }
  const fs::space_info space = fs::space(options.directory, error);
  if (error || needed <= space.available) return Unit{};
  return fail(Errc::kIo,
              fmt::format("{}: the adapters need {:.1f} GB, {:.1f} GB are free", options.directory,
                          static_cast<double>(needed) / 1e9, static_cast<double>(space.available) / 1e9),
              ENOSPC);
}

class AdapterMaker {
 public:
  AdapterMaker(const MakeAdaptersOptions& options, std::vector<LinearModule> targets, fs::path workshop)
      : options_(options),
        targets_(std::move(targets)),
        tensors_(tensors_of_rank_one(options.model, targets_)),
        workshop_(std::move(workshop)) {}

  Result<Unit> make(const std::string& name, std::uint32_t rank, MadeAdapters& made) {
    const fs::path place = fs::path(options_.directory) / name;
    std::error_code error;
    const bool there = fs::exists(fs::symlink_status(place, error));
    if (there && !options_.force) {
      if (auto whole = inspect_adapter(posix_files(), place.string(), {}); !whole)
        return fail(Errc::kInvalid,
                    fmt::format("{}: is in the way and no whole adapter ({}); --force replaces it",
                                place.string(), whole.error().message));
      ++made.kept;
      return Unit{};
    }
    const fs::path draft = workshop_ / name;
    const Result<std::uint64_t> bytes = write(draft, name, rank);
    if (!bytes) return fail(bytes.error());
    if (there) {
      fs::rename(place, workshop_ / "replaced", error);
      if (error) return io_error(place, "move away", error);
    }
    fs::rename(draft, place, error);
    if (error) {
      std::error_code ignored;  // what is told is why it came to this
      if (there) fs::rename(workshop_ / "replaced", place, ignored);
      return io_error(place, "put in place", error);
    }
    if (there) fs::remove_all(workshop_ / "replaced", error);
    ++made.made;
    made.bytes += *bytes;
    return Unit{};
  }

 private:
  Result<std::uint64_t> write(const fs::path& draft, const std::string& name, std::uint32_t rank) {
    std::error_code error;
    fs::create_directories(draft, error);
    if (error) return io_error(draft, "make the directory", error);
    std::vector<TensorToWrite> tensors = tensors_;
    for (TensorToWrite& tensor : tensors)
      (tensor.name.ends_with(".lora_A.weight") ? tensor.rows : tensor.columns) = rank;
    Rng rng(options_.seed ^ hash_of(name));
    const FillTensor fill = [this, &rng](std::span<std::byte> into) {
      fill_small(rng, options_.dtype, into);
    };
    const bool safetensors = options_.format == WeightFormat::kSafetensors;
    const std::string weights =
        (draft / (safetensors ? "adapter_model.safetensors" : "adapter_model.bin")).string();
    Result<std::uint64_t> bytes = safetensors ? write_safetensors(weights, options_.dtype, tensors, fill)
                                              : write_torch_zip(weights, options_.dtype, tensors, fill);
    if (!bytes) return bytes;
    const std::string config = (draft / "adapter_config.json").string();
    if (auto written = write_text(config, config_text(options_, targets_, rank)); !written)
      return fail(std::move(written.error()));
    return bytes;
  }

  static Result<Unit> write_text(const std::string& path, std::string_view text) {
    std::ofstream out(path, std::ios::binary);
    out << text;
    out.close();
    if (!out) return io_error(path, "write", std::error_code(errno, std::generic_category()));
    return Unit{};
  }

  const MakeAdaptersOptions& options_;
  std::vector<LinearModule> targets_;
  std::vector<TensorToWrite> tensors_;  // at rank 1
  fs::path workshop_;                   // on the same file system, so that a rename is enough
};

}  // namespace

std::vector<std::string> numbered_adapter_names(std::uint64_t count) {
  std::vector<std::string> names;
  names.reserve(count);
  const std::size_t digits = std::max<std::size_t>(4, std::to_string(count > 0 ? count - 1 : 0).size());
  for (std::uint64_t i = 0; i < count; ++i) names.push_back(fmt::format("adapter-{:0{}}", i, digits));
  return names;
}

Result<MadeAdapters> make_adapters(const MakeAdaptersOptions& options,
                                   const std::function<void(std::size_t, std::size_t)>& progress) {
  Result<std::vector<LinearModule>> targets = target_modules(options.model, options.targets);
  if (!targets) return fail(std::move(targets.error()));
  if (auto checked = check_options(options, *targets); !checked) return fail(std::move(checked.error()));
  std::error_code error;
  const fs::path workshop = fs::path(options.directory) / fmt::format(".making-{}", ::getpid());
  fs::create_directories(workshop, error);
  if (error) return io_error(workshop, "make the directory", error);
  Result<Unit> step = check_space(options, *targets);
  AdapterMaker maker(options, std::move(*targets), workshop);
  MadeAdapters made;
  for (std::size_t i = 0; i < options.names.size() && step; ++i) {
    step = maker.make(options.names[i], options.ranks[i % options.ranks.size()], made);
    if (progress && step) progress(i + 1, options.names.size());
  }
  fs::remove_all(workshop, error);
  if (!step) return fail(std::move(step.error()));
  return made;
}

}  // namespace loracle
