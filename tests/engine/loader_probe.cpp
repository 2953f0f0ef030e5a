// What the engine makes of adapters, for programs in other languages to compare with.
//
//   loader_probe image DIRECTORY DTYPE OUT    OUT: the image; stdout: `module rank in out a_offset b_offset`
//                                             a line, offsets in elements
//   loader_probe headers < PATHS              `ok` or the error, a line a .safetensors file
//   loader_probe patterns < LINES             `1`, `0` or `refused` for each line `KEY<tab>MODULE`

#include <array>
#include <fstream>
#include <iostream>
#include <string>
#include <string_view>

#include "../../engine/src/loader/peft_pattern.hpp"
#include "../../engine/src/loader/safetensors.hpp"
#include "loracle/engine/image.hpp"

namespace loracle {
namespace {

int refuse(const Error& error) {
  std::cerr << error.message << '\n';
  return 1;
}

int dump_image(const std::string& directory, const std::string& dtype_name, const std::string& out_path) {
  const auto dtype = parse_dtype(dtype_name);
  if (!dtype) return refuse(dtype.error());
  const auto adapter = inspect_adapter(posix_files(), directory, {});
  if (!adapter) return refuse(adapter.error());
  const std::array<const AdapterFiles*, 1> all = {&*adapter};
  const auto layout = layout_for(all, adapter->rank_max, *dtype);
  if (!layout) return refuse(layout.error());
  const auto manifest = plan_image(*adapter, *layout);
  if (!manifest) return refuse(manifest.error());
  std::vector<std::byte> image(manifest->elements * bytes_of(*dtype));
  if (const auto loaded = load_image(posix_files(), *adapter, *layout, *manifest, image); !loaded)
    return refuse(loaded.error());
  std::ofstream out(out_path, std::ios::binary);
  out.write(reinterpret_cast<const char*>(image.data()), static_cast<std::streamsize>(image.size()));
  for (const ImageTensor& tensor : manifest->tensors) {
    const SlotSlice& slice = layout->slices[tensor.slice];
    std::cout << slice.module << ' ' << tensor.rank << ' ' << slice.in << ' ' << slice.out << ' '
              << tensor.a_offset << ' ' << tensor.b_offset << '\n';
  }
  return out.flush() ? 0 : 1;
}

int check_headers() {
  std::string path;
  while (std::getline(std::cin, path)) {
    const auto file = posix_files().open(path);
    if (!file) return refuse(file.error());
    const auto table = read_safetensors_header(**file, path);
    std::cout << (table ? "ok" : table.error().message) << '\n';
  }
  return 0;
}

int match_patterns() {
  std::string line;
  while (std::getline(std::cin, line)) {
    const std::size_t tab = line.find('\t');
    if (tab == std::string::npos) return 2;
    const auto pattern = PeftPattern::compile(std::string_view(line).substr(0, tab));
    std::cout << (!pattern                                                   ? "refused"
                  : pattern->matches(std::string_view(line).substr(tab + 1)) ? "1"
                                                                             : "0")
              << '\n';
  }
  return 0;
}

}  // namespace
}  // namespace loracle

int main(int argc, char** argv) {
  const std::string_view what = argc > 1 ? argv[1] : "";
  if (what == "image" && argc == 5) return loracle::dump_image(argv[2], argv[3], argv[4]);
  if (what == "headers" && argc == 2) return loracle::check_headers();
  if (what == "patterns" && argc == 2) return loracle::match_patterns();
  std::cerr << "usage: see the first lines of loader_probe.cpp\n";
  return 2;
}
