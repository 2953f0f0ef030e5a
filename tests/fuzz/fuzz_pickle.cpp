// Any bytes as a row of pickles: refused, or values that refer to each other and to the text soundly.

#include <cstdint>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "../../engine/src/loader/pickle.hpp"

namespace {

using loracle::Unpickler;

/// Walks everything the value reaches, once, without recursion: a list may hold itself.
void walk(const Unpickler& pickle, Unpickler::Ref root) {
  std::vector<bool> seen;
  std::vector<Unpickler::Ref> open{root};
  while (!open.empty()) {
    const Unpickler::Ref ref = open.back();
    open.pop_back();
    if (ref >= seen.size()) seen.resize(ref + 1, false);
    if (seen[ref]) continue;
    seen[ref] = true;
    switch (pickle.kind_of(ref)) {
      case Unpickler::Kind::kText:
        if (pickle.text_of(ref).find('\0') == 0) return;  // reads its bytes
        break;
      case Unpickler::Kind::kDict:
        if (pickle.elements_of(ref).size() % 2 != 0) std::abort();
        [[fallthrough]];
      case Unpickler::Kind::kList:
      case Unpickler::Kind::kTuple:
        for (const Unpickler::Ref element : pickle.elements_of(ref)) open.push_back(element);
        break;
      case Unpickler::Kind::kTensor: {
        const loracle::PickledTensor& tensor = pickle.tensor_of(ref);
        const loracle::PickledStorage& storage = pickle.storages()[tensor.storage];
        if ((tensor.offset + tensor.elements) * loracle::bytes_of(tensor.dtype) > storage.bytes())
          std::abort();
        break;
      }
      default:
        break;
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  Unpickler pickle(text);
  while (pickle.at() < text.size()) {
    const auto root = pickle.load();
    if (!root) {
      if (root.error().message.empty()) std::abort();
      return 0;
    }
    walk(pickle, *root);
  }
  return 0;
}
