#include "convert_vectors.hpp"

namespace loracle {
namespace {

struct Portable {
  using V = Vectors<8>;  // which the compiler cuts where no processor has such vectors
  using Half = HalfByIntegers<V>;
};

}  // namespace

Convert portable_conversion(ElementType from, ElementType to) noexcept {
  return conversion<Portable>(from, to);
}

}  // namespace loracle
