/// `loracle verify-device`: adapters from disk into slots and through the LoRA product, on whatever device
/// there is, each step against what it should be.

#include <fmt/format.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "commands.hpp"
#include "common.hpp"
#include "loracle/core/rng.hpp"
#include "loracle/engine/adapter_files.hpp"
#include "loracle/engine/device.hpp"
#include "loracle/engine/image.hpp"
#include "loracle/engine/make_adapters.hpp"
#include "loracle/kernels/lora.hpp"

namespace loracle::app {
namespace {

constexpr std::uint32_t kMaxRank = 24;             // above every adapter's: slots are padded
constexpr std::uint32_t kRanks[] = {16, 8, 3, 1};  // one adapter each
constexpr std::uint32_t kTokens[] = {1, 48, 300};  // the last takes the kernels of prefill
constexpr std::uint32_t kSlicesTogether = 3;       // as q, k and v are
constexpr std::uint32_t kSlots = std::size(kRanks);

struct VerifyFlags {
  std::string device = "auto";
  std::string model = "tiny";
  std::uint64_t seed = 1;
  Format format = Format::kText;
};

/// What was found, one line a step.
struct Report {
  std::string device;          // "cuda" or "host"
  std::string why_no_cuda;     // empty where CUDA was used or not asked for
  std::uint64_t loaded = 0;    // matrices of images, compared with what the files hold
  std::uint64_t matrices = 0;  // matrices of slots
  std::uint64_t products = 0;
  double worst = 0;  // of the errors, as a share of what rounding allows
  std::vector<std::string> wrong;
};

/// A directory that ends with its owner.
class Scratch {
 public:
  Scratch() {
    std::error_code error;
    std::string name = (std::filesystem::temp_directory_path(error) / "loracle-verify-XXXXXX").string();
    if (!error && ::mkdtemp(name.data()) != nullptr) path_ = name;
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch() {
    std::error_code error;
    if (!path_.empty()) std::filesystem::remove_all(path_, error);
  }
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
};

struct Loaded {
  AdapterFiles files;
  ImageManifest manifest;
  std::vector<std::byte> image;
};

struct Adapters {
  SlotLayout layout;
  std::vector<Loaded> loaded;  // [kSlots]
};

Result<Adapters> load_adapters(const std::string& directory, Dtype dtype, const VerifyFlags& flags) {
  Result<ModelGeometry> model = load_model_geometry(flags.model);
  if (!model) return fail(std::move(model.error()));
  MakeAdaptersOptions options;
  options.directory = directory;
  options.names = numbered_adapter_names(kSlots);
  options.ranks.assign(std::begin(kRanks), std::end(kRanks));
  options.model = std::move(*model);
  options.dtype = Dtype::kF32;  // so that loading converts
  options.seed = flags.seed;
  if (auto made = make_adapters(options); !made) return fail(std::move(made.error()));
  std::vector<AdapterFiles> files;
  for (const std::string& name : options.names) {
    Result<AdapterFiles> found = inspect_adapter(posix_files(), fmt::format("{}/{}", directory, name), {});
    if (!found) return fail(std::move(found.error()));
    files.push_back(std::move(*found));
  }
  std::vector<const AdapterFiles*> all;
  all.reserve(files.size());
  for (const AdapterFiles& file : files) all.push_back(&file);
  Result<SlotLayout> layout = layout_for(all, kMaxRank, dtype);
  if (!layout) return fail(std::move(layout.error()));
  Adapters adapters{std::move(*layout), {}};
  for (const AdapterFiles& file : files) {
    Result<ImageManifest> manifest = plan_image(file, adapters.layout);
    if (!manifest) return fail(std::move(manifest.error()));
    Loaded loaded{file, std::move(*manifest), {}};
    loaded.image.resize(loaded.manifest.elements * bytes_of(dtype));
    if (auto read = load_image(posix_files(), file, adapters.layout, loaded.manifest, loaded.image); !read)
      return fail(std::move(read.error()));
    adapters.loaded.push_back(std::move(loaded));
  }
  return adapters;
}

/// The stacked buffers as they should be, by plain loops over the files: what the device is compared with.
struct Expected {
  std::vector<std::vector<std::uint16_t>> a;  // [slices]  (slots, max_rank, in)
  std::vector<std::vector<std::uint16_t>> b;  // [slices]  (slots, out, max_rank)
  std::vector<std::int32_t> ranks;            // (slices, slots)
};

/// One matrix of a file, cast element by element as the formats' definitions have it.
Result<std::vector<std::uint16_t>> cast_from_file(OpenFile& file, const std::string& path,
                                                  const StoredTensor& stored, std::size_t count,
                                                  ElementType to, double scale) {
  std::vector<std::byte> raw(count * bytes_of(stored.dtype));
  if (auto read = read_exactly(file, path, stored.offset, raw); !read) return fail(std::move(read.error()));
  std::vector<std::uint16_t> cast(count);
  convert_elements(raw, static_cast<ElementType>(stored.dtype), std::as_writable_bytes(std::span(cast)), to,
                   static_cast<float>(scale), CpuPath::kScalar);
  return cast;
}

/// Places a slot's adapter in `expected`, from its file, and compares the image that was loaded with it.
Result<Unit> expect_adapter(const Adapters& adapters, std::size_t slot, Expected& expected, Report& report) {
  const Loaded& loaded = adapters.loaded[slot];
  const std::string& path = loaded.files.weights_path;
  const auto type = static_cast<ElementType>(adapters.layout.dtype);
  Result<std::unique_ptr<OpenFile>> file = posix_files().open(path);
  if (!file) return fail(std::move(file.error()));
  const std::span image(reinterpret_cast<const std::uint16_t*>(loaded.image.data()),
                        loaded.manifest.elements);
  const auto compare = [&](const std::vector<std::uint16_t>& right, std::uint64_t offset, SlotSide side,
                           const std::string& module) {
    ++report.loaded;
    if (!std::equal(right.begin(), right.end(), image.begin() + static_cast<std::ptrdiff_t>(offset)))
      report.wrong.push_back(fmt::format("the image of '{}', {} of '{}' as {}: not what its file holds", path,
                                         side == SlotSide::kA ? "A" : "B", module,
                                         name_of(adapters.layout.dtype)));
  };
  std::size_t found = 0;
  for (const ImageTensor& tensor : loaded.manifest.tensors) {
    const SlotSlice& slice = adapters.layout.slices[tensor.slice];
    expected.ranks[std::size_t{tensor.slice} * kSlots + slot] = static_cast<std::int32_t>(tensor.rank);
    for (const LoraModule& module : loaded.files.modules) {
      if (module.name != slice.module) continue;
      ++found;
      const std::size_t rank = tensor.rank;
      const auto a = cast_from_file(**file, path, module.a, rank * slice.in, type, 1);
      if (!a) return fail(a.error());
      const auto b = cast_from_file(**file, path, module.b, slice.out * rank, type, module.scaling);
      if (!b) return fail(b.error());
      compare(*a, tensor.a_offset, SlotSide::kA, slice.module);
      compare(*b, tensor.b_offset, SlotSide::kB, slice.module);
      for (std::size_t r = 0; r < rank; ++r) {
        for (std::size_t k = 0; k < slice.in; ++k)
          expected.a[tensor.slice][(slot * kMaxRank + r) * slice.in + k] = (*a)[r * slice.in + k];
        for (std::size_t o = 0; o < slice.out; ++o)
          expected.b[tensor.slice][(slot * slice.out + o) * kMaxRank + r] = (*b)[o * rank + r];
      }
    }
  }
  if (found != loaded.files.modules.size() || found != loaded.manifest.tensors.size())
    report.wrong.push_back(fmt::format("the image of '{}': {} of its {} modules have a place in it, of {}",
                                       path, found, loaded.files.modules.size(),
                                       loaded.manifest.tensors.size()));
  return Unit{};
}

Result<Expected> expected_buffers(const Adapters& adapters, Report& report) {
  Expected expected;
  expected.ranks.assign(adapters.layout.slices.size() * kSlots, 0);
  for (const SlotSlice& slice : adapters.layout.slices) {
    expected.a.emplace_back(std::size_t{kSlots} * kMaxRank * slice.in);
    expected.b.emplace_back(std::size_t{kSlots} * kMaxRank * slice.out);
  }
  for (std::size_t slot = 0; slot < kSlots; ++slot)
    if (auto done = expect_adapter(adapters, slot, expected, report); !done)
      return fail(std::move(done.error()));
  return expected;
}

/// Writes every slot twice, first with another's adapter, and reads all of it back.
Result<Unit> verify_slots(DeviceMemory& device, const Adapters& adapters, const Expected& expected,
                          Report& report) {
  for (const std::uint32_t turn : {1U, 0U}) {
    for (std::uint32_t slot = 0; slot < kSlots; ++slot) {
      const Loaded& loaded = adapters.loaded[(slot + turn) % kSlots];
      if (auto done = device.write_slot(slot, loaded.manifest, loaded.image); !done) return done;
    }
  }
  for (std::uint32_t slot = 0; slot < kSlots; ++slot) {
    for (std::uint32_t slice = 0; slice < adapters.layout.slices.size(); ++slice) {
      for (const SlotSide side : {SlotSide::kA, SlotSide::kB}) {
        const std::vector<std::uint16_t>& all = side == SlotSide::kA ? expected.a[slice] : expected.b[slice];
        const auto right = std::span(all).subspan(slot * (all.size() / kSlots), all.size() / kSlots);
        std::vector<std::uint16_t> found(right.size());
        if (auto read = device.read_slot(slot, slice, side, std::as_writable_bytes(std::span(found))); !read)
          return read;
        ++report.matrices;
        if (!std::equal(found.begin(), found.end(), right.begin()))
          report.wrong.push_back(fmt::format("slot {}, {} of '{}': not what the adapter's file holds", slot,
                                             side == SlotSide::kA ? "A" : "B",
                                             adapters.layout.slices[slice].module));
      }
    }
  }
  return Unit{};
}

std::vector<std::uint16_t> random_values(Rng& rng, std::size_t count, ElementType type) {
  std::vector<float> values(count);
  for (float& value : values) value = static_cast<float>(rng.uniform() * 2 - 1);
  std::vector<std::uint16_t> stored(count);
  convert_elements(std::as_bytes(std::span(values)), ElementType::kF32,
                   std::as_writable_bytes(std::span(stored)), type, 1.0F);
  return stored;
}

/// One way to multiply.
struct Way {
  LoraMath math;
  LoraOutput output;
  [[nodiscard]] std::string_view name() const {
    if (output == LoraOutput::kOverwrite)
      return math == LoraMath::kPlain ? "written by plain arithmetic" : "written by tensor cores";
    return math == LoraMath::kPlain ? "added by plain arithmetic" : "added by tensor cores";
  }
};

/// Multiplies where the slots are. `layer` has the device's addresses, everything else is here.
Result<Unit> multiply(const DeviceMemory& device, const LoraLayer& layer, const LoraTokens& tokens,
                      const Way& way, const std::vector<std::uint16_t>& x, std::vector<std::uint16_t>& y) {
  if (device.kind() == "cuda") {
#ifdef LORACLE_HAVE_CUDA
    if (const int error = lora_on_device(layer, tokens, x.data(), y.data(), way.output, way.math); error != 0)
      return fail(Errc::kIo, fmt::format("the LoRA product on the device: CUDA error {}", error), error);
    return Unit{};
#else
    return fail(Errc::kUnsupported, "this build has no CUDA");
#endif
  }
  std::vector<float> partial(lora_partial_floats(layer, tokens.tokens), NAN);
  lora_shrink_on_host(layer, tokens, x.data(), partial);
  lora_expand_on_host(layer, tokens, partial, y.data(), way.output);
  return Unit{};
}

/// Slices first .. first + count - 1 as one layer, over buffers that `address(slice, side)` names.
template <class Address>
LoraLayer layer_of(const Adapters& adapters, std::uint32_t first, std::uint32_t count,
                   const Address& address) {
  LoraLayer layer;
  layer.slice_count = count;
  layer.slots = kSlots;
  layer.max_rank = kMaxRank;
  layer.in = adapters.layout.slices[first].in;
  layer.type = static_cast<ElementType>(adapters.layout.dtype);
  for (std::uint32_t i = 0; i < count; ++i) {
    const std::uint32_t out = adapters.layout.slices[first + i].out;
    layer.slices[i] = {address(first + i, SlotSide::kA), address(first + i, SlotSide::kB), out,
                       layer.y_columns};
    layer.y_columns += out;
  }
  return layer;
}

std::vector<float> widened(const std::vector<std::uint16_t>& stored, ElementType type) {
  std::vector<float> values(stored.size());
  convert_elements(std::as_bytes(std::span(stored)), type, std::as_writable_bytes(std::span(values)),
                   ElementType::kF32, 1.0F, CpuPath::kScalar);
  return values;
}

/// The error of y as a share of what rounding allows: sums of binary32, 16 bits of the intermediate, and half
/// a unit in the last place of y. Infinite where y is no number. `before` is what was added to.
double error_share(const LoraLayer& layer, const std::vector<float>& before, const std::vector<float>& found,
                   std::span<const double> delta, std::span<const double> magnitude) {
  const double last_place = layer.type == ElementType::kF16 ? 0x1p-11 : 0x1p-8;
  double worst = 0;
  for (std::size_t at = 0; at < found.size(); ++at) {
    const double sums = magnitude[at] * (0x1p-16 + (layer.in + layer.max_rank + 64) * 0x1p-24);
    const double expected = static_cast<double>(before[at]) + delta[at];
    const double allowed =
        std::fabs(expected) * last_place + (sums + std::fabs(before[at]) * 0x1p-23) * 1.01 + 1e-7;
    const double share = std::fabs(static_cast<double>(found[at]) - expected) / allowed;
    worst = std::max(worst, std::isnan(share) ? HUGE_VAL : share);
  }
  return worst;
}

constexpr std::uint16_t kNan = 0x7FFF;  // of float16 and of bfloat16

/// This machine has one arithmetic, a GPU two.
std::vector<Way> ways_of(const DeviceMemory& device) {
  std::vector<Way> ways = {{LoraMath::kPlain, LoraOutput::kOverwrite}, {LoraMath::kPlain, LoraOutput::kAdd}};
  if (device.kind() == "cuda") {
    ways.push_back({LoraMath::kTensorCores, LoraOutput::kOverwrite});
    ways.push_back({LoraMath::kTensorCores, LoraOutput::kAdd});
  }
  return ways;
}

Result<Unit> verify_products(DeviceMemory& device, const Adapters& adapters, Expected& expected,
                             std::uint64_t seed, Report& report) {
  Rng rng(seed);
  const auto slices = static_cast<std::uint32_t>(adapters.layout.slices.size());
  for (std::uint32_t first = 0; first < slices;) {
    std::uint32_t count = 1;
    while (count < kSlicesTogether && first + count < slices &&
           adapters.layout.slices[first + count].in == adapters.layout.slices[first].in)
      ++count;
    LoraLayer there = layer_of(adapters, first, count, [&](std::uint32_t slice, SlotSide side) {
      return static_cast<const void*>(device.buffer(slice, side));
    });
    LoraLayer here = layer_of(adapters, first, count, [&](std::uint32_t slice, SlotSide side) {
      return static_cast<const void*>((side == SlotSide::kA ? expected.a : expected.b)[slice].data());
    });
    there.ranks = here.ranks = expected.ranks.data() + std::size_t{first} * kSlots;
    for (const std::uint32_t tokens : kTokens) {
      std::vector<std::int32_t> slot_of_token(tokens);
      for (std::int32_t& slot : slot_of_token) slot = static_cast<std::int32_t>(rng.below(kSlots + 1)) - 1;
      std::vector<std::int32_t> order(tokens), slot(kSlots + 1), counts(kSlots + 1), start(kSlots + 1);
      const LoraTokens batch = sort_tokens_by_slot(slot_of_token, kSlots, {order, slot, counts, start});
      const std::vector<std::uint16_t> x = random_values(rng, std::size_t{tokens} * here.in, here.type);
      const std::size_t outputs = std::size_t{tokens} * here.y_columns;
      std::vector<double> delta(outputs);
      std::vector<double> magnitude(outputs);
      lora_reference(here, slot_of_token, x.data(), delta, magnitude);
      const std::vector<std::uint16_t> before = random_values(rng, outputs, here.type);
      for (const Way& way : ways_of(device)) {
        const bool adds = way.output == LoraOutput::kAdd;
        std::vector<std::uint16_t> y = adds ? before : std::vector<std::uint16_t>(outputs, kNan);
        if (auto done = multiply(device, there, batch, way, x, y); !done) return done;
        const double share =
            error_share(here, adds ? widened(before, here.type) : std::vector<float>(outputs),
                        widened(y, here.type), delta, magnitude);
        report.worst = std::max(report.worst, share);
        ++report.products;
        if (share > 1)
          report.wrong.push_back(fmt::format(
              "{} tokens through '{}' as {}, {}: off by {:.3g} times what rounding allows", tokens,
              adapters.layout.slices[first].module, name_of(adapters.layout.dtype), way.name(), share));
      }
    }
    first += count;
  }
  return Unit{};
}

Result<Unit> verify(const VerifyFlags& flags, Report& report) {
  const Scratch scratch;
  if (scratch.path().empty())
    return fail(Errc::kIo, "no temporary directory can be made: set TMPDIR to one that may be written");
  for (const Dtype dtype : {Dtype::kBf16, Dtype::kF16}) {
    Result<std::unique_ptr<DeviceMemory>> device = make_device(flags.device);
    if (!device) return fail(std::move(device.error()));
    report.device = (*device)->kind();
    Result<Adapters> adapters = load_adapters(scratch.path(), dtype, flags);
    if (!adapters) return fail(std::move(adapters.error()));
    Result<Expected> expected = expected_buffers(*adapters, report);
    if (!expected) return fail(std::move(expected.error()));
    if (auto done = (*device)->allocate(adapters->layout, kSlots); !done) return done;
    if (auto done = verify_slots(**device, *adapters, *expected, report); !done) return done;
    if (auto done = verify_products(**device, *adapters, *expected, flags.seed, report); !done) return done;
  }
  return Unit{};
}

std::string as_text(const Report& report) {
  std::string text;
  if (report.device == "host" && !report.why_no_cuda.empty())
    text +=
        fmt::format("no GPU was verified, only the path on this machine's memory: {}\n", report.why_no_cuda);
  text += fmt::format(
      "device: {}\nimages: {} matrices compared with the float32 files they were loaded from\n"
      "slots: {} matrices read back and compared\n",
      report.device, report.loaded, report.matrices);
  text += fmt::format("LoRA products: {} against binary64, the worst at {:.1f} % of what rounding allows\n",
                      report.products, report.worst * 100);
  for (const std::string& wrong : report.wrong) text += "WRONG: " + wrong + "\n";
  return text + (report.wrong.empty() ? "all right\n" : "this device must not serve\n");
}

std::string as_json(const Report& report) {
  const nlohmann::ordered_json json = {{"device", report.device},
                                       {"why_no_cuda", report.why_no_cuda},
                                       {"matrices_loaded", report.loaded},
                                       {"matrices_compared", report.matrices},
                                       {"products_compared", report.products},
                                       {"worst_error_share", report.worst},
                                       {"wrong", report.wrong}};
  return json.dump(2) + "\n";
}

int run_verify_device(const VerifyFlags& flags) {
  Report report;
  if (const Result<Unit> done = verify(flags, report); !done) return report_start(done.error(), flags.device);
  if (flags.device == "auto" && report.device == "host")
    if (const auto cuda = make_cuda_device(0); !cuda) report.why_no_cuda = cuda.error().message;
  print(flags.format == Format::kJson ? as_json(report) : as_text(report));
  return report.wrong.empty() ? kExitOk : kExitWrongResult;
}

}  // namespace

void add_verify_device_command(CLI::App& app, int& exit_code) {
  auto flags = std::make_shared<VerifyFlags>();
  CLI::App* command = app.add_subcommand(
      "verify-device",
      "Load adapters into slots and multiply, and compare every step with what it should be");
  command->add_option("--device", flags->device, "auto (a GPU if there is one), cuda, or host")
      ->capture_default_str();
  command
      ->add_option("--model", flags->model, "Base model whose shapes to use: a known name or a config.json")
      ->capture_default_str();
  command->add_option("--seed", flags->seed, "Of adapters and batches")->capture_default_str();
  add_format_flag(*command, flags->format, kTextOrJson);
  command->footer(
      "Examples:\n"
      "  loracle verify-device\n"
      "  loracle verify-device --device cuda --model llama-3.1-8b\n\n"
      "Exit codes: 0 everything compared is right, on a GPU or, with --device auto or host, on host memory "
      "(the\n"
      "first line says when no GPU was there to be verified); 5 --device cuda and there is none; 12 "
      "something is\n"
      "wrong. Needs a temporary directory (TMPDIR) for four synthetic adapters.");
  command->callback([flags, &exit_code] { exit_code = run_verify_device(*flags); });
}

}  // namespace loracle::app
