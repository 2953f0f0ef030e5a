#pragma once
/// What one block of shrink and of expand does, for a device and for this machine (host_device.hpp).
///
/// A block takes up to kM tokens of one segment. The blocks of a launch are numbered without knowing where
/// the segments lie, which only the device knows: tile j of segment k has number start / kM + k + j. These
/// numbers do not collide (the next segment's first is at least floor((start + count) / kM) + k + 1, which is
/// above start / kM + k + ceil(count / kM) - 1) and end below tokens / kM + segments. A number that belongs
/// to no tile is a block that ends at once.
/// Tiles of x, A and B are staged in shared memory, zero where they end, so that the product of whole 16 x 16
/// fragments is right for every shape. Rows there are 8 elements longer than what they hold: 16 bytes, which
/// keeps every fragment aligned to 32 bytes and spreads rows over the banks.

#include <cstddef>
#include <cstdint>

#include "host_device.hpp"
#include "loracle/kernels/lora.hpp"

namespace loracle {

inline constexpr unsigned kLoraThreads = 128;
inline constexpr unsigned kLanes = 32;
inline constexpr unsigned kFragment = 16;  // rows, columns and depth of a fragment
inline constexpr unsigned kRowGap = 8;     // elements

/// Many tokens: tiles are large and `in` is not split.
[[nodiscard]] LORACLE_HOST_DEVICE bool is_prefill(std::uint32_t tokens) { return tokens > 256; }

/// Tokens x ranks, kK elements of `in` at a time. Warps divide the tokens among kWarpsM and the depth among
/// kWarpsK; their sums are added at the end, in order.
template <unsigned kTokens, unsigned kRanks, unsigned kDepth, unsigned kWarpsOverTokens>
struct ShrinkTile {
  static constexpr unsigned kM = kTokens;
  static constexpr unsigned kN = kRanks;
  static constexpr unsigned kK = kDepth;
  static constexpr unsigned kWarpsM = kWarpsOverTokens;
  static constexpr unsigned kWarpsK = kLoraThreads / kLanes / kWarpsM;
  static constexpr unsigned kRowsOfWarp = kM / kWarpsM;
  static constexpr unsigned kRow = kK + kRowGap;
  static_assert(kRowsOfWarp % kFragment == 0 && kN % kFragment == 0 && kK % (kFragment * kWarpsK) == 0);

  struct Staged {
    std::uint16_t x[kM * kRow];
    std::uint16_t a[kN * kRow];
  };
  struct alignas(128) Shared {
    union {
      Staged staged;
      float sums[kWarpsK * kM * kN];  // after the last stage
    };
    std::int32_t token[kM];  // -1 beyond the tile's end
    std::uint32_t first;
    std::uint32_t live;  // tokens of this tile
    std::int32_t slot;
  };
};
using DecodeShrinkTile = ShrinkTile<16, 32, 256, 1>;
using PrefillShrinkTile = ShrinkTile<64, 64, 64, 4>;

/// Tokens x outputs, kK ranks at a time. Warps divide the outputs.
template <unsigned kTokens, unsigned kOutputs>
struct ExpandTile {
  static constexpr unsigned kM = kTokens;
  static constexpr unsigned kN = kOutputs;
  static constexpr unsigned kK = 64;
  static constexpr unsigned kColumnsOfWarp = kN / (kLoraThreads / kLanes);
  static constexpr unsigned kRow = kK + kRowGap;
  static_assert(kM % kFragment == 0 && kColumnsOfWarp % kFragment == 0);

  struct Staged {
    std::uint16_t high[kM * kRow];  // the intermediate, rounded,
    std::uint16_t low[kM * kRow];   // and what rounding left, times Element::kRestScale
    std::uint16_t b[kN * kRow];
  };
  struct alignas(128) Shared {
    union {
      Staged staged;
      float sums[kM * kN];
    };
    std::int32_t token[kM];
    std::uint32_t first;
    std::uint32_t live;
    std::int32_t slot;
  };
};
using DecodeExpandTile = ExpandTile<16, 128>;
using PrefillExpandTile = ExpandTile<64, 64>;

struct ShrinkArguments {
  LoraLayer layer;
  LoraTokens tokens;
  const std::uint16_t* x;
  float* partial;
  std::uint32_t splits;
};

struct ExpandArguments {
  LoraLayer layer;
  LoraTokens tokens;
  const float* partial;
  std::uint16_t* y;
  std::uint32_t splits;
  bool overwrite;
};

/// Which piece of the work a block takes.
struct LoraBlock {
  std::uint32_t tile;    // of tokens: tile_count of them
  std::uint32_t column;  // of ranks, or of outputs: in units of kN
  std::uint32_t slice;
  std::uint32_t split;  // shrink only
};

[[nodiscard]] LORACLE_HOST_DEVICE std::uint32_t tile_count(const LoraTokens& tokens, unsigned tile_tokens) {
  return tokens.tokens / tile_tokens + tokens.segments;
}

/// Elements of `in` in one split: whole stages.
[[nodiscard]] LORACLE_HOST_DEVICE std::uint32_t split_depth(std::uint32_t in, std::uint32_t splits,
                                                            unsigned stage) {
  const std::uint32_t stages = (in + stage - 1) / stage;
  return (stages + splits - 1) / splits * stage;
}

/// 0 for no adapter, for a slot that does not exist, and for what the adapter lacks.
[[nodiscard]] LORACLE_HOST_DEVICE std::uint32_t rank_of(const LoraLayer& layer, std::uint32_t slice,
                                                        std::int32_t slot) {
  if (slot < 0 || static_cast<std::uint32_t>(slot) >= layer.slots) return 0;
  if (layer.ranks == nullptr) return layer.max_rank;
  const std::int32_t rank = layer.ranks[std::size_t{slice} * layer.slots + static_cast<std::uint32_t>(slot)];
  if (rank <= 0) return 0;
  return static_cast<std::uint32_t>(rank) < layer.max_rank ? static_cast<std::uint32_t>(rank)
                                                           : layer.max_rank;
}

/// At most one thread of the block finds its segment to be the tile's, and says so in `shared`.
template <unsigned kM, class Shared>
LORACLE_HOST_DEVICE void find_tile(const LoraTokens& tokens, std::uint32_t tile, unsigned thread,
                                   Shared& shared) {
  for (std::uint32_t k = thread; k < tokens.segments; k += kLoraThreads) {
    const auto count = static_cast<std::uint32_t>(tokens.count[k]);
    const auto start = static_cast<std::uint32_t>(tokens.start[k]);
    const std::uint32_t number = start / kM + k;
    if (count == 0 || tile < number || (tile - number) >= (count + kM - 1) / kM) continue;
    const std::uint32_t before = (tile - number) * kM;
    shared.first = start + before;
    shared.live = count - before < kM ? count - before : kM;
    shared.slot = tokens.slot[k];
  }
}

[[nodiscard]] LORACLE_HOST_DEVICE bool is_aligned16(const void* pointer) {
  return reinterpret_cast<std::uintptr_t>(pointer) % 16 == 0;
}

/// Copies `width` elements of a row, of which the source has `live`, and zeros for the rest, 8 by 8: word
/// `word` of the row. `whole_words`: the source's words are aligned. REQUIRES: width % 8 == 0.
LORACLE_HOST_DEVICE void stage_word(std::uint16_t* row, const std::uint16_t* source, std::uint32_t word,
                                    std::uint32_t live, bool whole_words) {
  const std::uint32_t at = word * 8;
  if (whole_words && at + 8 <= live) {
    *reinterpret_cast<Word16*>(row + at) = *reinterpret_cast<const Word16*>(source + at);
    return;
  }
  for (std::uint32_t i = at; i < at + 8; ++i) row[i] = i < live ? source[i] : std::uint16_t{0};
}

/// Sums of one thread where there are no tensor cores: outputs lane, lane + 32, ... of its warp's rows x
/// columns, by rows.
template <unsigned kOutputs>
struct PlainSums {
  float of[kOutputs / kLanes];
};

struct PlainMath {
  template <class Element, unsigned kRows, unsigned kColumns>
  struct Sums : PlainSums<kRows * kColumns> {
    LORACLE_HOST_DEVICE void clear() {
      for (float& sum : this->of) sum = 0;
    }
    /// Adds (kRows, kFragment) x (kColumns, kFragment)^T; columns from `live_columns` on may be left out.
    LORACLE_HOST_DEVICE void add(const std::uint16_t* rows, const std::uint16_t* columns, unsigned row_length,
                                 unsigned live_columns, unsigned lane) {
      for (unsigned i = 0; i < kRows * kColumns / kLanes; ++i) {
        const unsigned output = i * kLanes + lane;
        const unsigned row = output / kColumns;
        const unsigned column = output % kColumns;
        if (column >= live_columns) continue;
        float sum = this->of[i];
        for (unsigned k = 0; k < kFragment; ++k)
          sum +=
              Element::widen(rows[row * row_length + k]) * Element::widen(columns[column * row_length + k]);
        this->of[i] = sum;
      }
    }
    LORACLE_HOST_DEVICE void add_times(const Sums& others, float factor) {
      for (unsigned i = 0; i < kRows * kColumns / kLanes; ++i) this->of[i] += others.of[i] * factor;
    }
    LORACLE_HOST_DEVICE void store(float* into, unsigned row_length, unsigned lane) const {
      for (unsigned i = 0; i < kRows * kColumns / kLanes; ++i) {
        const unsigned output = i * kLanes + lane;
        into[output / kColumns * row_length + output % kColumns] = this->of[i];
      }
    }
  };
};

template <class Tile, class Element, class Math, class Team>
LORACLE_HOST_DEVICE void shrink_block(const ShrinkArguments& work, const LoraBlock& at,
                                      typename Tile::Shared& shared, const Team& team) {
  const LoraLayer& layer = work.layer;
  const std::uint32_t n0 = at.column * Tile::kN;
  team.each([&](unsigned thread) {
    if (thread == 0) shared.live = 0;
  });
  team.each([&](unsigned thread) { find_tile<Tile::kM>(work.tokens, at.tile, thread, shared); });
  if (shared.live == 0) return;
  const std::uint32_t rank = rank_of(layer, at.slice, shared.slot);
  if (n0 >= rank) return;
  const std::uint32_t live_ranks = rank - n0 < Tile::kN ? rank - n0 : Tile::kN;
  const std::uint32_t staged_ranks = (live_ranks + kFragment - 1) / kFragment * kFragment;

  using Sums = typename Math::template Sums<Element, Tile::kRowsOfWarp, Tile::kN>;
  typename Team::template Own<Sums> sums;
  team.each([&](unsigned thread) {
    if (thread < Tile::kM)
      shared.token[thread] = thread < shared.live ? work.tokens.order[shared.first + thread] : -1;
    sums[thread].clear();
  });

  const auto* const a = static_cast<const std::uint16_t*>(layer.slices[at.slice].a) +
                        (static_cast<std::size_t>(shared.slot) * layer.max_rank + n0) * layer.in;
  const bool whole_words =
      layer.in % 8 == 0 && is_aligned16(work.x) && is_aligned16(layer.slices[at.slice].a);
  const std::uint32_t depth = split_depth(layer.in, work.splits, Tile::kK);
  const std::uint32_t begin = at.split * depth;
  const std::uint32_t end = begin + depth < layer.in ? begin + depth : layer.in;
  for (std::uint32_t k0 = begin; k0 < end; k0 += Tile::kK) {
    const std::uint32_t live_depth = end - k0 < Tile::kK ? end - k0 : Tile::kK;
    team.each([&](unsigned thread) {
      constexpr unsigned kWords = Tile::kK / 8;
      for (unsigned i = thread; i < Tile::kM * kWords; i += kLoraThreads) {
        const unsigned row = i / kWords;
        const std::int32_t token = shared.token[row];
        const std::uint16_t* const source =
            work.x + static_cast<std::size_t>(token < 0 ? 0 : token) * layer.in + k0;
        stage_word(shared.staged.x + row * Tile::kRow, source, i % kWords, token < 0 ? 0 : live_depth,
                   whole_words);
      }
      for (unsigned i = thread; i < staged_ranks * kWords; i += kLoraThreads) {
        const unsigned row = i / kWords;
        const bool live = row < live_ranks;
        stage_word(shared.staged.a + row * Tile::kRow, a + std::size_t{live ? row : 0} * layer.in + k0,
                   i % kWords, live ? live_depth : 0, whole_words);
      }
    });
    team.each([&](unsigned thread) {
      const unsigned warp = thread / kLanes;
      const unsigned row = warp % Tile::kWarpsM * Tile::kRowsOfWarp;
      for (unsigned k = warp / Tile::kWarpsM * kFragment; k < live_depth; k += kFragment * Tile::kWarpsK)
        sums[thread].add(shared.staged.x + row * Tile::kRow + k, shared.staged.a + k, Tile::kRow, live_ranks,
                         thread % kLanes);
    });
  }
  team.each([&](unsigned thread) {
    const unsigned warp = thread / kLanes;
    const unsigned row = warp / Tile::kWarpsM * Tile::kM + warp % Tile::kWarpsM * Tile::kRowsOfWarp;
    sums[thread].store(shared.sums + row * Tile::kN, Tile::kN, thread % kLanes);
  });
  team.each([&](unsigned thread) {
    for (unsigned i = thread; i < Tile::kM * Tile::kN; i += kLoraThreads) {
      const unsigned row = i / Tile::kN;
      const unsigned column = i % Tile::kN;
      if (row >= shared.live || column >= live_ranks) continue;
      float sum = 0;
      for (unsigned warp = 0; warp < Tile::kWarpsK; ++warp)
        sum += shared.sums[warp * Tile::kM * Tile::kN + i];
      const std::size_t line = (std::size_t{at.slice} * work.splits + at.split) * work.tokens.tokens +
                               static_cast<std::uint32_t>(shared.token[row]);
      work.partial[line * layer.max_rank + n0 + column] = sum;
    }
  });
}

/// Element `index` of the token's intermediate: the splits' sums added in order.
[[nodiscard]] LORACLE_HOST_DEVICE float intermediate(const ExpandArguments& work, std::uint32_t slice,
                                                     std::uint32_t token, std::uint32_t index) {
  float sum = 0;
  for (std::uint32_t split = 0; split < work.splits; ++split) {
    const std::size_t line = (std::size_t{slice} * work.splits + split) * work.tokens.tokens + token;
    sum += work.partial[line * work.layer.max_rank + index];
  }
  return sum;
}

/// Adds to, or sets, up to 8 outputs of a row of y. `sums` is nullptr for zeros.
template <class Element>
LORACLE_HOST_DEVICE void write_outputs(std::uint16_t* y, const float* sums, std::uint32_t live,
                                       bool overwrite, bool whole_words) {
  struct alignas(16) Eight {
    std::uint16_t of[8];
  };
  if (whole_words && live >= 8) {
    Eight outputs{};
    if (!overwrite) outputs = *reinterpret_cast<const Eight*>(y);
    for (unsigned i = 0; i < 8; ++i) {
      const float sum = sums == nullptr ? 0.0F : sums[i];
      outputs.of[i] = Element::narrow(overwrite ? sum : Element::widen(outputs.of[i]) + sum);
    }
    *reinterpret_cast<Eight*>(y) = outputs;
    return;
  }
  for (unsigned i = 0; i < live && i < 8; ++i) {
    const float sum = sums == nullptr ? 0.0F : sums[i];
    y[i] = Element::narrow(overwrite ? sum : Element::widen(y[i]) + sum);
  }
}

template <class Tile, class Element, class Math, class Team>
LORACLE_HOST_DEVICE void expand_block(const ExpandArguments& work, const LoraBlock& at,
                                      typename Tile::Shared& shared, const Team& team) {
  const LoraLayer& layer = work.layer;
  const LoraSlice& slice = layer.slices[at.slice];
  const std::uint32_t n0 = at.column * Tile::kN;
  if (n0 >= slice.out) return;
  const std::uint32_t live_outputs = slice.out - n0 < Tile::kN ? slice.out - n0 : Tile::kN;
  team.each([&](unsigned thread) {
    if (thread == 0) shared.live = 0;
  });
  team.each([&](unsigned thread) { find_tile<Tile::kM>(work.tokens, at.tile, thread, shared); });
  if (shared.live == 0) return;
  const std::uint32_t rank = rank_of(layer, at.slice, shared.slot);
  if (rank == 0 && !work.overwrite) return;

  using Sums = typename Math::template Sums<Element, Tile::kM, Tile::kColumnsOfWarp>;
  constexpr bool kRestsApart = Element::kRestScale != 1;
  typename Team::template Own<Sums> sums;
  [[maybe_unused]] typename Team::template Own<Sums> rests;
  team.each([&](unsigned thread) {
    if (thread < Tile::kM)
      shared.token[thread] = thread < shared.live ? work.tokens.order[shared.first + thread] : -1;
    sums[thread].clear();
    if constexpr (kRestsApart) rests[thread].clear();
  });

  const std::size_t slot = shared.slot < 0 ? 0 : static_cast<std::size_t>(shared.slot);
  const auto* const b = static_cast<const std::uint16_t*>(slice.b) + (slot * slice.out + n0) * layer.max_rank;
  const bool b_words = layer.max_rank % 8 == 0 && is_aligned16(slice.b);
  for (std::uint32_t r0 = 0; r0 < rank; r0 += Tile::kK) {
    const std::uint32_t live_ranks = rank - r0 < Tile::kK ? rank - r0 : Tile::kK;
    const std::uint32_t depth = (live_ranks + kFragment - 1) / kFragment * kFragment;
    team.each([&](unsigned thread) {
      for (unsigned i = thread; i < Tile::kM * depth; i += kLoraThreads) {
        const unsigned row = i / depth;
        const unsigned r = i % depth;
        const std::int32_t token = shared.token[row];
        float value = 0;
        if (token >= 0 && r < live_ranks)
          value = intermediate(work, at.slice, static_cast<std::uint32_t>(token), r0 + r);
        const std::uint16_t high = Element::narrow(value);
        const float rest = (value - Element::widen(high)) * Element::kRestScale;
        shared.staged.high[row * Tile::kRow + r] = high;
        // Nothing is left of what is no number: infinity less infinity would be none either.
        shared.staged.low[row * Tile::kRow + r] = rest - rest == 0 ? Element::narrow(rest) : std::uint16_t{0};
      }
      const unsigned words = depth / 8;
      for (unsigned i = thread; i < Tile::kN * words; i += kLoraThreads) {
        const unsigned row = i / words;
        const bool live = row < live_outputs;
        stage_word(shared.staged.b + row * Tile::kRow, b + std::size_t{live ? row : 0} * layer.max_rank + r0,
                   i % words, live ? live_ranks : 0, b_words);
      }
    });
    team.each([&](unsigned thread) {
      const unsigned column = thread / kLanes * Tile::kColumnsOfWarp;
      for (unsigned k = 0; k < depth; k += kFragment) {
        const std::uint16_t* const columns = shared.staged.b + column * Tile::kRow + k;
        sums[thread].add(shared.staged.high + k, columns, Tile::kRow, Tile::kColumnsOfWarp, thread % kLanes);
        Sums& low = kRestsApart ? rests[thread] : sums[thread];
        low.add(shared.staged.low + k, columns, Tile::kRow, Tile::kColumnsOfWarp, thread % kLanes);
      }
    });
  }
  team.each([&](unsigned thread) {
    if constexpr (kRestsApart) sums[thread].add_times(rests[thread], 1 / Element::kRestScale);
    sums[thread].store(shared.sums + thread / kLanes * Tile::kColumnsOfWarp, Tile::kN, thread % kLanes);
  });
  const bool y_words = layer.y_columns % 8 == 0 && slice.y_column % 8 == 0 && is_aligned16(work.y);
  team.each([&](unsigned thread) {
    constexpr unsigned kWords = Tile::kN / 8;
    for (unsigned i = thread; i < Tile::kM * kWords; i += kLoraThreads) {
      const unsigned row = i / kWords;
      const unsigned column = i % kWords * 8;
      if (row >= shared.live || column >= live_outputs) continue;
      std::uint16_t* const y = work.y + static_cast<std::size_t>(shared.token[row]) * layer.y_columns +
                               slice.y_column + n0 + column;
      write_outputs<Element>(y, shared.sums + row * Tile::kN + column, live_outputs - column, work.overwrite,
                             y_words);
    }
  });
}

/// Blocks of a launch: tiles x columns side by side, so that the tokens of a tile are read again while they
/// are still in a cache; then slices, then splits.
template <class Tile>
[[nodiscard]] LORACLE_HOST_DEVICE std::uint32_t column_count(std::uint32_t columns) {
  return (columns + Tile::kN - 1) / Tile::kN;
}

[[nodiscard]] LORACLE_HOST_DEVICE std::uint32_t widest_slice(const LoraLayer& layer) {
  std::uint32_t widest = 0;
  for (std::uint32_t i = 0; i < layer.slice_count; ++i)
    if (layer.slices[i].out > widest) widest = layer.slices[i].out;
  return widest;
}

}  // namespace loracle
