#include "torch_bin.hpp"

#include <fmt/format.h>

namespace loracle {

Result<TensorTable> read_torch_tensors(OpenFile& /*file*/, const std::string& path,
                                       WeightFormat& /*format*/) {
  return fail(Errc::kUnsupported, fmt::format("{}: torch's .bin files cannot be read yet", path));
}

}  // namespace loracle
