#pragma once
/// A request trace: columns over requests, and a side table of adapters.
///
/// A request names no adapter (the base model), one, or several that are needed together. One request-adapter
/// pair is a *use*; uses lie in request order, within a request in its own order.
///   uses        [uses]          row of each use
///   use_begin   [requests + 1]  uses of request i: uses[use_begin[i]] .. uses[use_begin[i + 1]]; empty when
///                               every request has exactly one use (then uses == requests)
///   arrival_s, input_tokens, output_tokens, tenant, duration_s   [requests], or empty when the source has
///                                                                none
/// Times are seconds from the source's own zero, non-decreasing. Rows are dense, numbered by first appearance
/// in `uses` (adapters that are only described, never used, come after).
/// Columns either own their memory or view a mapped file; copying a Trace copies references, not data.
/// Threads: immutable once built; any number may read.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "loracle/core/units.hpp"

namespace loracle {

/// An immutable array that owns its elements or keeps alive whoever does.
template <class T>
class Column {
 public:
  Column() = default;
  explicit(false) Column(std::vector<T> values) {
    auto owner = std::make_shared<const std::vector<T>>(std::move(values));
    view_ = *owner;
    owner_ = std::move(owner);
  }
  Column(std::shared_ptr<const void> owner, std::span<const T> view)
      : owner_(std::move(owner)), view_(view) {}

  [[nodiscard]] std::span<const T> view() const noexcept { return view_; }
  [[nodiscard]] std::size_t size() const noexcept { return view_.size(); }
  [[nodiscard]] bool empty() const noexcept { return view_.empty(); }
  [[nodiscard]] const T& operator[](std::size_t i) const noexcept { return view_[i]; }
  /// The first `count` elements; shares the owner. REQUIRES: count <= size().
  [[nodiscard]] Column first(std::size_t count) const { return Column(owner_, view_.first(count)); }

 private:
  std::shared_ptr<const void> owner_;
  std::span<const T> view_;
};

/// Names stored end to end: name i is text[begin[i]] .. text[begin[i + 1]].
struct NameColumn {
  Column<std::uint64_t> begin;  // [names + 1], or empty when there are no names
  Column<char> text;

  [[nodiscard]] std::size_t size() const noexcept { return begin.empty() ? 0 : begin.size() - 1; }
  [[nodiscard]] std::string_view operator[](std::size_t i) const noexcept {
    return {text.view().data() + begin[i], static_cast<std::size_t>(begin[i + 1] - begin[i])};
  }
};

/// What is known about adapters. Zero in `bytes` or `rank` means unknown.
struct AdapterFacts {
  NameColumn name;              // [rows]
  Column<std::uint64_t> bytes;  // [rows], or empty: unknown for all
  Column<std::uint16_t> rank;   // [rows], or empty: unknown for all
};

inline constexpr std::uint32_t kNoTenant = 0xFFFF'FFFFU;

struct Trace {
  std::string source;  // path or generator line, as the user gave it
  std::string format;  // "jsonl", "oracleGeneral", "gentd26", ...
  std::string mapping;  // of requests to adapters: "lora", "tenant", ...; repeated in every output
  std::uint64_t requests = 0;
  std::uint64_t skipped_lines = 0;  // by --skip-bad-lines
  std::uint64_t reordered = 0;      // requests the source has behind a later one; sorted by arrival, stably

  Column<Row> uses;
  Column<std::uint64_t> use_begin;
  Column<double> arrival_s;
  Column<std::uint32_t> input_tokens;
  Column<std::uint32_t> output_tokens;
  Column<std::uint32_t> tenant;  // index into tenant_name, or kNoTenant
  Column<float> duration_s;      // how long the request holds its adapters
  AdapterFacts adapters;
  NameColumn tenant_name;

  [[nodiscard]] std::uint32_t rows() const noexcept {
    return static_cast<std::uint32_t>(adapters.name.size());
  }
  /// The rows request i needs together, in its order.
  [[nodiscard]] std::span<const Row> batch(std::uint64_t i) const noexcept {
    if (use_begin.empty()) return uses.view().subspan(i, 1);
    return uses.view().subspan(use_begin[i], use_begin[i + 1] - use_begin[i]);
  }
};

}  // namespace loracle
