#pragma once
/// What a catalog says, made ready for serving: the layout that holds all its adapters, and where each comes
/// from. Shared by the engine and by whoever must know what adapters weigh in it.

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "loracle/core/result.hpp"
#include "loracle/engine/adapter_files.hpp"
#include "loracle/engine/catalog.hpp"
#include "loracle/engine/image.hpp"
#include "serving/adapter_source.hpp"

namespace loracle {

struct AdapterBook {
  SlotLayout layout;
  std::map<std::string, AdapterSource, std::less<>> adapters;
  std::vector<std::string> rejected;  // "name: reason": sound files that no slot of this layout can hold
};

/// The layout of `model`, if it is given, and of the shapes in use: `max_rank` as given, or the largest rank
/// found, rounded up to one that vLLM accepts (its default where none is found). Where shapes disagree about
/// a module, the model wins, then the shape that more adapters have; the others fit no slot.
/// Errors: those of the catalog; kUnsupported (a dtype nothing is served as).
/// `others` are adapters that the catalog does not have, or not yet; they come last.
[[nodiscard]] Result<SlotLayout> layout_of(Catalog& catalog, std::span<const LoraModule> model,
                                           std::span<const AdapterFiles> others, std::uint32_t max_rank,
                                           Dtype dtype);

/// Bytes of images by shape. A shape the layout cannot hold is left out and named in `refusals`.
struct ShapeWeights {
  std::map<std::uint32_t, std::uint64_t> bytes;   // by shape id
  std::map<std::uint32_t, std::string> refusals;  // likewise
};
[[nodiscard]] Result<ShapeWeights> weigh_shapes(Catalog& catalog, const SlotLayout& layout);

/// Every available adapter that was found under `root`, or added from a directory of this machine. (What was
/// added from elsewhere has no local copy to go by, and must be added again.)
[[nodiscard]] Result<AdapterBook> open_book(Catalog& catalog, const std::string& root,
                                            const AdapterRules& rules, SlotLayout layout);

}  // namespace loracle
