#pragma once
/// The contract of an eviction policy, checked by the compiler.
///
/// A policy tracks the rows that are resident in one tier and says who goes first. It knows rows, ticks and
/// the table of facts; never ids, paths, clocks, locks, devices or the network. The same instantiation
/// decides in a replay and in the engine. The driver (make_room.hpp, tier.hpp) calls, for each use of a row:
///
///   hit   contains(row)  ->  on_access(row)
///   miss  !contains(row) ->  admit(row) once; if it says no, the row bypasses the cache. Otherwise,
///                            while the row does not fit, evict(row); then on_insert(row).
///
/// `admit` runs before any eviction and may look at (and use up) what the policy remembers of rows that left.
/// `evict` chooses and forgets in one step; the victim is no longer tracked. It returns
///   - a tracked row that the guard does not block, or
///   - `incoming`: the newcomer itself is the least worth keeping; it is not inserted (a bypass). Never
///     returned when the guard blocks `incoming`, which is how a serving tier says "this one must come in";
///   - kNoRow: every tracked row is blocked.
/// A policy may also have `shed(now, table, guard)`: the next row that its own segments have no place for
/// though the tier has, no longer tracked, or kNoRow (make_room.hpp, shed_surplus). No driver has to call it.
/// `on_remove` forgets a tracked row that leaves for a reason other than eviction; it is no evidence about
/// the row.
///
/// Invariants: 1. Equal calls, equal answers: no clock, I/O or hidden randomness. 2. No allocation after
/// construction. 3. Works from a capacity of one entry up. 4. Ticks passed in never decrease.
/// Threads: none; one owner.

#include <concepts>
#include <cstdint>
#include <span>
#include <string_view>

#include "loracle/core/adapter_table.hpp"
#include "loracle/core/units.hpp"
#include "loracle/policy/capacity.hpp"

namespace loracle {

/// Nothing is protected: a replay without pins. Compiles to nothing.
struct NoGuard {
  [[nodiscard]] static constexpr bool blocks(Row) noexcept { return false; }
};

/// Rows that may not be evicted now: pinned, leased, or needed by the request that is being served.
struct HoldGuard {
  std::span<const std::uint32_t> holds;  // [rows]  0: free to go

  [[nodiscard]] bool blocks(Row row) const noexcept {
    return !holds.empty() && holds[index_of(row)] != 0;
  }
};

// clang-format off
template <class P>
concept EvictionPolicy = requires(P p, const P& c, Row row, Row incoming, Tick now, const AdapterTable& table,
                                  const NoGuard& none, const HoldGuard& held) {
  typename P::Config;  // aggregate of parameters
  requires std::constructible_from<P, std::uint32_t, Capacity, const typename P::Config&>;
  { P::kName } -> std::convertible_to<std::string_view>;
  { P::kClairvoyant } -> std::convertible_to<bool>;                                    // reads table.next_use
  { c.contains(row) } noexcept -> std::same_as<bool>;
  { p.admit(row, now, table) } noexcept -> std::same_as<bool>;
  { p.on_insert(row, now, table) } noexcept -> std::same_as<void>;
  { p.on_access(row, now, table) } noexcept -> std::same_as<void>;
  { p.on_remove(row) } noexcept -> std::same_as<void>;
  { p.evict(incoming, now, table, none) } noexcept -> std::same_as<Row>;
  { p.evict(incoming, now, table, held) } noexcept -> std::same_as<Row>;
};
// clang-format on

/// A Config without parameters. A Config with parameters lists them by name, so that `chameleon:size=-0.45`
/// works:
///   struct Config { double size = 0.45; template <class V> void visit(V&& v) { v("size", size); } };
/// Parameters are double, std::uint64_t or bool.
struct NoConfig {
  template <class V>
  void visit(V&&) {}
};

}  // namespace loracle
